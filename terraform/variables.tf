# -- Where --

variable "project_id" {
  description = "Project of the function and of its topic `gcr`.  A domain-scoped project is spelled `example.com:project`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9-]+(\\.[a-z0-9-]+)+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id: must be a project's ID, not its name or number."
  }
}

variable "region" {
  description = "Region of the function, for example `us-central1`.  Nearest to the repositories is fastest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: must be a region like us-central1; a function cannot run in a multi-region or a zone."
  }
}

variable "name" {
  description = "Name of the function, and the beginning of the name of everything else that is created."
  type        = string
  default     = "registry-cleaner"
  nullable    = false

  validation {
    # A service account's ID has at most 30 characters, and the longest that is made from this adds `-trigger`.
    condition     = can(regex("^[a-z][a-z0-9-]{2,20}[a-z0-9]$", var.name))
    error_message = "name: must be 4 to 22 of a-z 0-9 -, begin with a letter and not end with a hyphen."
  }

  validation {
    # Pub/Sub keeps the one at the beginning for Google's own, Cloud Storage the other anywhere.
    condition     = !startswith(var.name, "goog") && !strcontains(var.name, "google")
    error_message = "name: must not begin with goog or contain google: topics and the bucket could not be named after it."
  }
}

variable "labels" {
  description = "Labels of what can carry labels."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    # The narrowest of what the labelled services take; `goog` is Google's own.
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && !startswith(key, "goog") && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels: keys must be at most 63 of a-z 0-9 _ -, begin with a letter and not with goog; values at most 63 of the same characters."
  }
}

variable "enable_apis" {
  description = "Whether to turn on the APIs that are needed.  They stay on when the module is destroyed."
  type        = bool
  default     = true
  nullable    = false
}

# -- What may be deleted (what is deleted: policies.tf) --

variable "dry_run" {
  description = "Whether the function only logs what would go.  While it is true the function's account holds no permission to delete."
  type        = bool
  default     = true
  nullable    = false
}

variable "repositories" {
  description = <<-EOT
    The Artifact Registry repositories in which the function may read and, without `dry_run`, delete, by the beginning
    of their images' names: `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY`, or `gcr.io/PROJECT` (also `us.`, `eu.`,
    `asia.`).  They can be in other projects.  They must exist.  In a domain-scoped project: `gcr.io/example.com/project`.
  EOT
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.repositories) > 0
    error_message = "repositories: must name at least one, or there is nothing to prune."
  }

  validation {
    condition = alltrue([
      for repository in var.repositories : can(regex(
        "^(((us|eu|asia)\\.)?gcr\\.io/([a-z0-9-]+(\\.[a-z0-9-]+)+/)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[a-z]+(-[a-z]+[0-9]+)?-docker\\.pkg\\.dev/([a-z0-9-]+(\\.[a-z0-9-]+)+/)?[a-z][a-z0-9-]{4,28}[a-z0-9]/[a-z]([a-z0-9-]{0,61}[a-z0-9])?)$",
        repository
      ))
    ])
    error_message = join(" ", [
      "repositories: must be LOCATION-docker.pkg.dev/PROJECT/REPOSITORY or gcr.io/PROJECT, without an image, a wildcard or a",
      "slash at the end.  LOCATION-docker.pkg.dev/PROJECT/gcr.io is written gcr.io/PROJECT, as the function does.",
    ])
  }

  validation {
    # A pattern may well match it; without a right there the function cannot delete what it runs from.
    condition     = !contains(var.repositories, "${var.region}-docker.pkg.dev/${replace(var.project_id, ":", "/")}/${var.name}-image")
    error_message = "repositories: must not hold the repository of the function's own image, which removes old images by itself."
  }
}

variable "use_custom_role" {
  description = "Whether the function's rights on the repositories and on the projects of `running_scopes` are custom roles with exactly what it calls (in each of these projects).  False: the predefined `roles/artifactregistry.reader` in a dry run and `roles/artifactregistry.repoAdmin` without, which also allows uploading; `roles/cloudasset.viewer` and `roles/serviceusage.serviceUsageConsumer` for what is running."
  type        = bool
  default     = true
  nullable    = false
}

variable "running_scopes" {
  description = "Where to look for what is running, so that it is never deleted: `projects/P`, `folders/N`, `organizations/N`.  Empty: the function does not ask."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for scope in var.running_scopes :
      can(regex("^(projects/([a-z0-9-]+(\\.[a-z0-9-]+)+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|folders/[0-9]+|organizations/[0-9]+)$", scope))
    ])
    error_message = "running_scopes: must be projects/ID, folders/NUMBER or organizations/NUMBER."
  }
}

# -- What starts it --

variable "create_topic" {
  description = "Whether to create the topic `gcr`.  False: it exists already and is used as it is.  Either way, destroying the module leaves it."
  type        = bool
  default     = true
  nullable    = false
}

variable "other_gcr_projects" {
  description = "Other projects whose topic `gcr` starts the function too.  The topics must exist.  Without this, repositories in other projects are pruned by request only."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for project in var.other_gcr_projects :
      can(regex("^([a-z0-9-]+(\\.[a-z0-9-]+)+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", project))
    ])
    error_message = "other_gcr_projects: must be projects' IDs, not their names or numbers."
  }

  validation {
    condition     = !contains(var.other_gcr_projects, var.project_id)
    error_message = "other_gcr_projects: must not hold project_id, whose topic is delivered already: each push would arrive twice."
  }
}

variable "sweep_roots" {
  description = "What Cloud Scheduler asks to be swept: each is one of `repositories`, or a path under one; `[\"all\"]` is every one of `repositories`.  Empty: no schedule."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = var.sweep_roots == toset(["all"]) || alltrue([
      for root in var.sweep_roots :
      can(regex("^[a-z0-9.-]+(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)+$", root)) && anytrue([
        for repository in var.repositories : startswith("${root}/", "${repository}/")
      ])
    ])
    error_message = "sweep_roots: must be [\"all\"], or each one of repositories, or a path under one, without a slash at the end: nowhere else may the function read."
  }
}

variable "sweep_schedule" {
  description = "When `sweep_roots` are swept: minute, hour, day of month, month, day of week, as cron has them."
  type        = string
  default     = "0 4 * * 0" # Sundays at 4: pushes prune what is busy, the sweep only what they do not reach.
  nullable    = false

  validation {
    # What a number may be in each field; a part of a field is *, a number or a range, each with or without a step.
    condition = length(split(" ", var.sweep_schedule)) == 5 && try(
      alltrue(flatten([
        for position, number in ["[0-5]?[0-9]", "([01]?[0-9]|2[0-3])", "(0?[1-9]|[12][0-9]|3[01])", "(0?[1-9]|1[0-2]|[A-Za-z]{3})", "([0-7]|[A-Za-z]{3})"] : [
          for part in split(",", split(" ", var.sweep_schedule)[position]) :
          can(regex("^(\\*|${number}(-${number})?)(/[1-9][0-9]*)?$", part))
        ]
      ])),
      false
    )
    error_message = "sweep_schedule: must be five fields with one space between, each within its range, like \"0 4 * * 0\"."
  }
}

variable "sweep_time_zone" {
  description = "Time zone of `sweep_schedule`, by its name in the tz database."
  type        = string
  default     = "Etc/UTC"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$", var.sweep_time_zone))
    error_message = "sweep_time_zone: must be a name of the tz database like Etc/UTC or Europe/Berlin."
  }
}

variable "request_publishers" {
  description = "Who, beside the function and Cloud Scheduler, may publish requests to prune and to sweep: `user:…`, `group:…`, `serviceAccount:…`, `principal://…`, `principalSet://…`."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for member in var.request_publishers :
      can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|principal(Set)?://\\S+)$", member))
    ])
    error_message = "request_publishers: must be user:, group: or serviceAccount: with an address, or principal:// or principalSet://; whole domains and allUsers are refused."
  }
}

# -- How it runs --

variable "workers" {
  description = "Requests that one run has under way at once, 1 to 100."
  type        = number
  default     = 20 # The function's.
  nullable    = false

  validation {
    condition     = var.workers >= 1 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "workers: must be a whole number from 1 to 100."
  }
}

variable "concurrency" {
  description = "Messages that one instance handles at once, 1 to 1000; also the number of its threads."
  type        = number
  # A push of an image for ten platforms with attestations and tags sends about 30 messages.  Within one instance
  # they wait for one another and cost one or two listings; in two instances they would cost twice that.
  default  = 40
  nullable = false

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "concurrency: must be a whole number from 1 to 1000."
  }
}

variable "max_instances" {
  description = "Instances at most.  What does not fit waits in Pub/Sub."
  type        = number
  # One makes more deletions than the registry's quota allows (18,000 a minute, project and region), the messages of
  # one push meet in it, and it knows what it has begun to delete; two of them have to find that out from each other.
  default  = 1
  nullable = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances: must be a whole number from 1 to 100."
  }
}

variable "memory_mib" {
  description = "Memory of one instance in MiB, 512 to 4096 (more would need more than the one CPU that it has)."
  type        = number
  # A listing of 10,000 manifests takes some 20 MB; `concurrency` different repositories can be under way at once.
  default  = 1024
  nullable = false

  validation {
    condition     = var.memory_mib >= 512 && var.memory_mib <= 4096 && floor(var.memory_mib) == var.memory_mib
    error_message = "memory_mib: must be a whole number from 512 to 4096."
  }
}

variable "timeout_seconds" {
  description = "When the platform ends a delivery, in seconds, 60 to 540."
  type        = number
  default     = 540 # Less than the 600 that Pub/Sub waits for the answer, so that no message arrives twice.
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 540 && floor(var.timeout_seconds) == var.timeout_seconds
    error_message = "timeout_seconds: must be a whole number from 60 to 540: Pub/Sub waits 600 s for the answer, and then delivers again."
  }
}

variable "time_limit_seconds" {
  description = "After how many seconds the function begins to delete no further image; at least 30 less than `timeout_seconds`."
  type        = number
  default     = 500 # The function's.
  nullable    = false

  validation {
    condition     = var.time_limit_seconds >= 10 && floor(var.time_limit_seconds) == var.time_limit_seconds
    error_message = "time_limit_seconds: must be a whole number of at least 10."
  }

  validation {
    # What runs is finished and the summary written after the limit; the platform would cut that off.
    condition     = var.time_limit_seconds <= var.timeout_seconds - 30
    error_message = "time_limit_seconds: must be at least 30 less than timeout_seconds, so that what runs is finished before the platform ends it."
  }
}

variable "log_level" {
  description = "The least severity that is logged: `DEBUG` (also what is kept, and why), `INFO`, `WARNING`, `ERROR`.  Metrics and dashboard need `DEBUG` or `INFO`."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level: must be DEBUG, INFO, WARNING or ERROR."
  }

  validation {
    condition     = !var.observability || contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level: with observability must be DEBUG or INFO: the metrics are made from lines of severity INFO."
  }
}

# -- Who watches it --

variable "observability" {
  description = "Whether to create the log-based metrics, the dashboard and the alert policies."
  type        = bool
  default     = true
  nullable    = false
}

variable "notification_channels" {
  description = "Where alerts go: names of Cloud Monitoring notification channels, `projects/P/notificationChannels/N`.  Without these and `notification_emails`, alerts show in the console only."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "notification_channels: must be projects/P/notificationChannels/N, as `gcloud alpha monitoring channels list` names them."
  }
}

variable "notification_emails" {
  description = "Addresses that alerts are sent to, beside `notification_channels`."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.notification_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "notification_emails: must be e-mail addresses."
  }
}

variable "alert_deletions_per_hour" {
  description = "An alert is raised when more manifests than this are deleted in an hour, in all repositories together.  Null: no such alert."
  type        = number
  default     = null

  validation {
    condition     = var.alert_deletions_per_hour == null || try(var.alert_deletions_per_hour >= 0 && floor(var.alert_deletions_per_hour) == var.alert_deletions_per_hour, false)
    error_message = "alert_deletions_per_hour: must be a whole number of at least 0, or null."
  }
}
