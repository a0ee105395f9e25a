# The one variable that decides what is deleted.  modules/policies is its type: it refuses what the function would refuse,
# and gives back what the function is to read.

variable "policies" {
  description = <<-EOT
    What is kept and what is deleted: the array of the function's POLICIES, for example
    `yamldecode(file("policies.yaml"))`.  The first policy with a matching glob in `repositories` decides; a repository
    that none matches is never touched.  Keys of a policy: repositories, min_age, tagged, untagged, orphans,
    max_deletions, dry_run.  Keys of a rule: match (in `tagged`), keep, keep_within, delete_after, order.  An unknown key
    is refused; a null is read as an absent key.
  EOT
  type        = any
  nullable    = false
}

module "policies" {
  source = "./modules/policies"

  policies = var.policies
}
