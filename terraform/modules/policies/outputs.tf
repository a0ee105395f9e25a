# A precondition and not a validation of the variable: a validation cannot use local values that depend on its variable,
# and would have to compute the mistakes twice, as its condition and as its message.
output "policies" {
  description = "The policies, without the keys whose value is null: what the function reads."
  value       = local.deployed

  precondition {
    condition = length(local.mistakes) == 0
    # Terraform does not wrap lines that are indented.
    error_message = "Mistakes in policies:\n  ${join("\n  ", local.shown_mistakes)}"
  }
}
