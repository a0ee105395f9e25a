# Warns, at plan time, of a repository that the function cannot prune.  A module, because the data source of a check takes
# no for_each.

variable "name" {
  description = "The repository as `repositories` has it, for the warnings."
  type        = string
  nullable    = false
}

variable "repository" {
  description = "Where it is."
  type        = object({ project = string, location = string, repository = string })
  nullable    = false
}

check "repository" {
  # An error of a check's data source, for a repository that does not exist or may not be read, is a warning.
  data "google_artifact_registry_repository" "this" {
    project       = var.repository.project
    location      = var.repository.location
    repository_id = var.repository.repository
  }

  assert {
    condition     = data.google_artifact_registry_repository.this.format == "DOCKER"
    error_message = "${var.name}: holds no container images; its format is ${data.google_artifact_registry_repository.this.format}."
  }

  assert {
    condition     = data.google_artifact_registry_repository.this.mode == "STANDARD_REPOSITORY"
    error_message = "${var.name}: only standard repositories are pruned; its mode is ${data.google_artifact_registry_repository.this.mode}."
  }

  assert {
    condition     = !anytrue([for config in lookup(data.google_artifact_registry_repository.this, "docker_config", []) : config.immutable_tags == true])
    error_message = "${var.name}: has immutable tags, which cannot be deleted; images with tags are all kept."
  }

  assert {
    condition     = length(lookup(data.google_artifact_registry_repository.this, "cleanup_policies", [])) == 0 || coalesce(data.google_artifact_registry_repository.this.cleanup_policy_dry_run, false)
    error_message = "${var.name}: has cleanup policies of its own, which delete beside the function and know none of its policies."
  }
}
