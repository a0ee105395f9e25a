# What common organization policies demand.  Each is passed on as it is; README.md has them in one table.

variable "kms_key_name" {
  description = "Key of Cloud KMS for the function, its source, its images and the topics, in `region`: `projects/P/locations/L/keyRings/R/cryptoKeys/K`.  Null: Google's keys."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "kms_key_name: must be projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version."
  }
}

variable "vpc" {
  description = <<-EOT
    The network that the function's requests leave by: `connector` (a Serverless VPC Access connector), or `network` and
    `subnetwork`, at least one, with network `tags` (direct VPC egress).  `egress` is `PRIVATE_RANGES_ONLY` or
    `ALL_TRAFFIC`.  Null: the Internet.
  EOT
  type = object({
    connector  = optional(string)
    network    = optional(string)
    subnetwork = optional(string)
    tags       = optional(list(string), [])
    egress     = optional(string, "PRIVATE_RANGES_ONLY")
  })
  default = null

  validation {
    condition     = var.vpc == null || try((var.vpc.connector != null) != (var.vpc.network != null || var.vpc.subnetwork != null), false)
    error_message = "vpc: must have either connector, or network or subnetwork."
  }

  validation {
    condition     = try(var.vpc.connector, null) == null || try(length(var.vpc.tags) == 0, false)
    error_message = "vpc: tags are of direct egress; those of a connector are its own."
  }

  validation {
    condition     = var.vpc == null || try(contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], var.vpc.egress), false)
    error_message = "vpc: egress must be PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}

variable "service_accounts" {
  description = "Addresses of accounts of the function's project that exist already, instead of those that the module creates: `run`, `trigger`, `build`.  The module grants them what they need."
  type = object({
    run     = optional(string)
    trigger = optional(string)
    build   = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for address in values(var.service_accounts) : address == null || can(regex("^[^@:]+@[^@]+\\.gserviceaccount\\.com$", address))])
    error_message = "service_accounts: must be addresses like NAME@PROJECT.iam.gserviceaccount.com, without serviceAccount: before them."
  }

  validation {
    condition     = length(distinct([for address in values(var.service_accounts) : address if address != null])) == length([for address in values(var.service_accounts) : address if address != null])
    error_message = "service_accounts: must be different accounts: one of them deletes images, one invokes, one builds."
  }
}

variable "binary_authorization_policy" {
  description = "Binary Authorization policy of the function: `default`, which is the project's, or `projects/P/platforms/cloudRun/policies/POLICY`.  Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.binary_authorization_policy == null || can(regex("^(default|projects/[^/]+/platforms/cloudRun/policies/[^/]+)$", var.binary_authorization_policy))
    error_message = "binary_authorization_policy: must be default or projects/P/platforms/cloudRun/policies/POLICY."
  }
}

variable "worker_pool" {
  description = "Cloud Build's private pool that builds the function: `projects/P/locations/L/workerPools/W`.  Null: the default pool."
  type        = string
  default     = null

  validation {
    condition     = var.worker_pool == null || can(regex("^projects/[^/]+/locations/[^/]+/workerPools/[^/]+$", var.worker_pool))
    error_message = "worker_pool: must be projects/P/locations/L/workerPools/W."
  }
}

variable "running_role" {
  description = <<-EOT
    Role on the folders and organizations of `running_scopes`.  The default is the least predefined role that lists
    assets; it reads IAM policies, too.  Narrower is a custom role of the organization, `organizations/N/roles/R`, which its administrators create:
    `gcloud iam roles create R --organization=N --permissions=cloudasset.assets.listResource`.
  EOT
  type        = string
  default     = "roles/cloudasset.viewer"
  nullable    = false

  validation {
    condition     = can(regex("^(roles|organizations/[0-9]+/roles)/[A-Za-z0-9_.]+$", var.running_role))
    error_message = "running_role: must be roles/R or organizations/N/roles/R."
  }

  validation {
    condition = startswith(var.running_role, "roles/") || alltrue([
      for scope in var.running_scopes : startswith(var.running_role, "${scope}/") if startswith(scope, "organizations/")
    ])
    error_message = "running_role: must be a role of the organization in running_scopes; no other organization can grant it."
  }
}

variable "check_repositories" {
  description = "Whether a plan reads each of `repositories` and warns if the function cannot prune it.  It needs `artifactregistry.repositories.get` there; without it, it warns of that."
  type        = bool
  default     = true
  nullable    = false
}
