# Each validation refuses: what would fail in an apply, or in the function, fails in the plan.
# Several variables are wrong in one run, each in one way, to save time.

mock_provider "google" {
  mock_data "google_artifact_registry_repository" {
    defaults = {
      format = "DOCKER"
      mode   = "STANDARD_REPOSITORY"
    }
  }
}
mock_provider "archive" {}
mock_provider "time" {}

variables {
  project_id   = "acme-prod"
  region       = "us-central1"
  repositories = ["us-docker.pkg.dev/acme-prod/apps"]
  policies     = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"] }]
}

run "refuses_a_wrong_value_of_each" {
  command = plan

  variables {
    # a number
    project_id = "123456"
    # a multi-region
    region = "us"
    # a name too long
    name = "registry-cleaner-of-the-platform"
    # a label with a capital letter
    labels = { Team = "platform" }
    # a scope by name
    running_scopes = ["folders/prod"]
    # a schedule in words
    sweep_schedule = "weekly"
    # a time zone as an offset
    sweep_time_zone = "+02:00"
    # everybody as publisher
    request_publishers = ["allAuthenticatedUsers"]
    # too many workers
    workers = 101
    # no concurrency
    concurrency = 0
    # half an instance
    max_instances = 1.5
    # too little memory
    memory_mib = 256
    # a timeout that the platform does not have
    timeout_seconds = 600
    # an unknown log level
    observability = false
    log_level     = "TRACE"
    # a channel by its address
    notification_channels = ["ops@example.com"]
    # an address by its channel
    notification_emails = ["projects/acme-prod/notificationChannels/1"]
    # half a deletion
    alert_deletions_per_hour = 0.5
    # a key's version
    kms_key_name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
    # a connector and a network
    vpc = { connector = "shared", network = "default" }
    # one account for two purposes
    service_accounts = { run = "cleaner@acme-prod.iam.gserviceaccount.com", build = "cleaner@acme-prod.iam.gserviceaccount.com" }
    # a pool by its name
    worker_pool = "private"
    # a policy by its name
    binary_authorization_policy = "signed"
  }

  expect_failures = [
    var.project_id,
    var.region,
    var.name,
    var.labels,
    var.running_scopes,
    var.sweep_schedule,
    var.sweep_time_zone,
    var.request_publishers,
    var.workers,
    var.concurrency,
    var.max_instances,
    var.memory_mib,
    var.timeout_seconds,
    var.log_level,
    var.notification_channels,
    var.notification_emails,
    var.alert_deletions_per_hour,
    var.kms_key_name,
    var.vpc,
    var.service_accounts,
    var.worker_pool,
    var.binary_authorization_policy,
  ]
}

# These look at other variables too, and are only asked when those are right.
run "refuses_a_wrong_value_of_the_rest" {
  command = plan

  variables {
    # another project with a prefix
    other_gcr_projects = ["projects/acme-data"]
    # a root outside of repositories
    sweep_roots = ["us-docker.pkg.dev/acme-prod/other"]
    # no time at all
    time_limit_seconds = 5
    # a label of Google's
    labels = { goog-team = "platform" }
    # an hour that no day has
    sweep_schedule = "0 25 * * *"
    # tags of a network that is not there
    vpc = { connector = "shared", tags = ["cleaner"] }
    # another organization's role
    running_scopes = ["folders/123", "organizations/456"]
    running_role   = "organizations/45/roles/runningImages"
  }

  expect_failures = [
    var.vpc,
    var.running_role,
    var.labels,
    var.sweep_schedule,
    var.other_gcr_projects,
    var.sweep_roots,
    var.time_limit_seconds,
  ]
}

run "refuses_another_wrong_value" {
  command = plan

  variables {
    # its own project as another
    other_gcr_projects = ["acme-prod"]
    # a root with a slash at its end
    sweep_roots = ["us-docker.pkg.dev/acme-prod/apps/"]
    # a time limit behind the timeout
    timeout_seconds = 300
    # metrics without their lines
    log_level = "ERROR"
    # a label's value with a space
    labels = { team = "the platform" }
    # six fields
    sweep_schedule = "0 4 * * 0 2030"
    # traffic to nowhere
    vpc = { network = "default", egress = "NONE" }
    # a member instead of an address
    service_accounts = { run = "serviceAccount:cleaner@acme-prod.iam.gserviceaccount.com" }
    # a role of a project
    running_role = "projects/acme-prod/roles/images"
  }

  expect_failures = [
    var.running_role,
    var.labels,
    var.sweep_schedule,
    var.other_gcr_projects,
    var.sweep_roots,
    var.time_limit_seconds,
    var.log_level,
    var.vpc,
    var.service_accounts,
  ]
}

run "refuses_a_name_that_is_kept_for_google" {
  command = plan

  variables {
    name = "google-cleaner"
  }

  expect_failures = [var.name]
}

run "refuses_no_repository" {
  command = plan

  variables {
    repositories = []
  }

  expect_failures = [var.repositories]
}

run "refuses_a_repository_without_its_name" {
  command = plan

  variables {
    repositories = ["us-docker.pkg.dev/acme-prod"]
  }

  expect_failures = [var.repositories]
}

run "refuses_a_gcr_io_repository_by_its_other_name" {
  command = plan

  variables {
    repositories = ["us-docker.pkg.dev/acme-prod/gcr.io"]
  }

  expect_failures = [var.repositories]
}

run "refuses_the_repository_of_its_own_image" {
  command = plan

  variables {
    repositories = ["us-central1-docker.pkg.dev/acme-prod/registry-cleaner-image"]
    policies     = [{ repositories = ["**"] }]
  }

  expect_failures = [var.repositories]
}

run "refuses_the_repository_of_its_own_image_in_a_domain_scoped_project" {
  command = plan

  variables {
    project_id   = "example.com:legacy-app"
    region       = "europe-west3"
    name         = "pruner"
    repositories = ["gcr.io/example.com/legacy-app", "europe-west3-docker.pkg.dev/example.com/legacy-app/pruner-image"]
    policies     = [{ repositories = ["**"] }]
  }

  expect_failures = [var.repositories]
}

run "takes_the_image_repository_of_another_name_project_and_region" {
  command = plan

  variables {
    repositories = [
      "us-central1-docker.pkg.dev/acme-prod/other-image",
      "us-central1-docker.pkg.dev/acme-data/registry-cleaner-image",
      "us-docker.pkg.dev/acme-prod/registry-cleaner-image",
    ]
    policies = [{ repositories = ["**"] }]
  }
}

run "refuses_a_repository_with_a_wildcard" {
  command = plan

  variables {
    repositories = ["gcr.io/acme-prod/*"]
  }

  expect_failures = [var.repositories]
}

run "refuses_a_foreign_registry" {
  command = plan

  variables {
    repositories = ["docker.io/acme-prod/apps"]
  }

  expect_failures = [var.repositories]
}

run "refuses_policies_that_the_platform_would_refuse" {
  command = plan

  variables {
    policies = [{ repositories = [for number in range(160) : "us-docker.pkg.dev/acme-prod/apps/${join("", [for part in range(34) : format("team%02d", part)])}${number}"] }]
  }

  expect_failures = [google_cloudfunctions2_function.this]
}

run "takes_policies_that_just_fit" {
  command = plan

  variables {
    policies = [{ repositories = [for number in range(130) : "us-docker.pkg.dev/acme-prod/apps/${join("", [for part in range(34) : format("team%02d", part)])}${number}"] }]
  }
}
