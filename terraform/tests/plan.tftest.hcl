# What is planned for each way to use the module.  Nothing is created and nobody is asked: the providers are mocks.

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

run "minimal" {
  command = plan

  assert {
    condition     = google_pubsub_topic.gcr[0].name == "gcr" && google_pubsub_topic.gcr[0].project == "acme-prod"
    error_message = "the topic gcr is created in the function's project"
  }

  assert {
    condition     = google_pubsub_topic.gcr[0].deletion_policy == "ABANDON"
    error_message = "a destroy leaves the topic to those who use it"
  }

  assert {
    condition = (
      google_cloudfunctions2_function.this.build_config[0].runtime == "python313"
      && google_cloudfunctions2_function.this.build_config[0].entry_point == "prune"
    )
    error_message = "Python 3.13, main.prune"
  }

  assert {
    condition     = length(google_cloudfunctions2_function.this.event_trigger) == 0 && !contains(keys(google_project_service.this), "eventarc.googleapis.com")
    error_message = "no Eventarc: the module's own subscriptions deliver"
  }

  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "not reachable from outside"
  }

  assert {
    condition = google_cloudfunctions2_function.this.service_config[0].environment_variables == tomap({
      POLICIES             = "[{\"repositories\":[\"us-docker.pkg.dev/acme-prod/apps/**\"]}]"
      DRY_RUN              = "true"
      WORKERS              = "20"
      TIME_LIMIT           = "500"
      REQUESTS_TOPIC       = "projects/acme-prod/topics/registry-cleaner-requests"
      LOG_LEVEL            = "INFO"
      GOOGLE_CLOUD_PROJECT = "acme-prod"
      THREADS              = "40"
    })
    error_message = "the environment is the function's defaults, a dry run and the policies as they were written"
  }

  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].max_instance_request_concurrency == 40
    error_message = "as many threads as messages at once"
  }

  assert {
    condition = google_project_iam_custom_role.run["acme-prod"].permissions == toset([
      "artifactregistry.packages.list",
      "artifactregistry.repositories.downloadArtifacts",
      "artifactregistry.repositories.get",
      "artifactregistry.versions.list",
    ])
    error_message = "in a dry run the function can only read"
  }

  assert {
    condition = (
      length(google_artifact_registry_repository_iam_member.run) == 1
      && google_artifact_registry_repository_iam_member.run["us-docker.pkg.dev/acme-prod/apps"].project == "acme-prod"
      && google_artifact_registry_repository_iam_member.run["us-docker.pkg.dev/acme-prod/apps"].location == "us"
      && google_artifact_registry_repository_iam_member.run["us-docker.pkg.dev/acme-prod/apps"].repository == "apps"
      && google_artifact_registry_repository_iam_member.run["us-docker.pkg.dev/acme-prod/apps"].role == "projects/acme-prod/roles/registry_cleaner_run"
    )
    error_message = "the role is granted on the one repository"
  }

  assert {
    condition     = length(google_cloud_scheduler_job.sweep) == 0
    error_message = "nothing is scheduled unless asked for"
  }

  assert {
    condition = (
      length(google_project_iam_member.running) == 0
      && length(google_folder_iam_member.running) == 0
      && length(google_organization_iam_member.running) == 0
      && !contains(keys(google_project_service.this), "cloudasset.googleapis.com")
    )
    error_message = "without running_scopes the inventory is not asked"
  }

  assert {
    condition = { for name, subscription in google_pubsub_subscription.delivery : name => subscription.topic } == {
      "registry-cleaner-gcr"      = "projects/acme-prod/topics/gcr"
      "registry-cleaner-requests" = "projects/acme-prod/topics/registry-cleaner-requests"
    }
    error_message = "pushes and requests are delivered, by subscriptions with names to alert on"
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.delivery :
      subscription.ack_deadline_seconds == 600 && subscription.retry_policy[0].minimum_backoff == "10s" && subscription.retry_policy[0].maximum_backoff == "600s"
    ])
    error_message = "a delivery waits for a run to end, and what failed comes again, at longer and longer intervals"
  }

  assert {
    condition     = alltrue([for subscription in values(google_pubsub_subscription.delivery) : subscription.expiration_policy[0].ttl == ""]) && google_pubsub_subscription.dead_letters.expiration_policy[0].ttl == ""
    error_message = "no subscription expires for want of traffic"
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.delivery :
      subscription.dead_letter_policy[0].dead_letter_topic == "projects/acme-prod/topics/registry-cleaner-dead-letters" && subscription.dead_letter_policy[0].max_delivery_attempts == 100
    ])
    error_message = "what cannot be delivered becomes a dead letter"
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.delivery :
      # Each attempt takes at most as long as the platform lets it, and the longest pause.
      tonumber(trimsuffix(subscription.message_retention_duration, "s")) > subscription.dead_letter_policy[0].max_delivery_attempts * (600 + var.timeout_seconds)
    ])
    error_message = "no message is discarded before its last attempt"
  }

  assert {
    condition = (
      google_pubsub_subscription.dead_letters.topic == "projects/acme-prod/topics/registry-cleaner-dead-letters"
      && google_pubsub_subscription.dead_letters.message_retention_duration == "2678400s"
    )
    error_message = "dead letters are retained"
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.trigger.role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.trigger.name == "registry-cleaner"
    error_message = "the trigger may invoke the function's service"
  }

  assert {
    condition     = google_storage_bucket.source.public_access_prevention == "enforced" && google_storage_bucket.source.uniform_bucket_level_access
    error_message = "the source is never public"
  }

  assert {
    condition     = can(regex("^[0-9a-f]{64}\\.zip$", google_storage_bucket_object.source.name))
    error_message = "the object's name carries the hash of what is deployed"
  }

  assert {
    condition     = length(google_logging_metric.this) == 8 && length(google_monitoring_dashboard.this) == 1 && length(google_monitoring_alert_policy.this) == 7
    error_message = "metrics, dashboard and alerts are there by default"
  }

  assert {
    condition     = alltrue([for service in google_project_service.this : !service.disable_on_destroy])
    error_message = "a destroy leaves the APIs on"
  }
}

run "organization_policies" {
  command = plan

  variables {
    running_scopes   = ["folders/123", "organizations/456"]
    running_role     = "organizations/456/roles/runningImages"
    use_custom_role  = false
    kms_key_name     = "projects/acme-keys/locations/us-central1/keyRings/cleaner/cryptoKeys/cleaner"
    vpc              = { network = "default", tags = ["cleaner"], egress = "ALL_TRAFFIC" }
    service_accounts = { run = "run@acme-prod.iam.gserviceaccount.com", trigger = "deliver@acme-prod.iam.gserviceaccount.com", build = "build@acme-prod.iam.gserviceaccount.com" }
    worker_pool      = "projects/acme-prod/locations/us-central1/workerPools/private"

    binary_authorization_policy = "projects/acme-prod/platforms/cloudRun/policies/signed"
  }

  override_resource {
    target          = google_storage_bucket.source
    override_during = plan
    values          = { project_number = 123456789012 }
  }

  assert {
    condition = toset([
      google_cloudfunctions2_function.this.kms_key_name,
      google_pubsub_topic.gcr[0].kms_key_name,
      google_pubsub_topic.requests.kms_key_name,
      google_pubsub_topic.dead_letters.kms_key_name,
      google_storage_bucket.source.encryption[0].default_kms_key_name,
      google_artifact_registry_repository.image.kms_key_name,
    ]) == toset([var.kms_key_name])
    error_message = "one key for all that holds data"
  }

  assert {
    condition     = endswith(google_project_iam_member.build_source.condition[0].expression, " || resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-123456789012-us-central1-\")")
    error_message = "the platform's bucket for a key has a longer name"
  }

  assert {
    condition = (
      google_cloudfunctions2_function.this.service_config[0].direct_vpc_egress == "VPC_EGRESS_ALL_TRAFFIC"
      && google_cloudfunctions2_function.this.service_config[0].direct_vpc_network_interface[0].network == "default"
      && google_cloudfunctions2_function.this.service_config[0].direct_vpc_network_interface[0].tags == tolist(["cleaner"])
      && google_cloudfunctions2_function.this.service_config[0].vpc_connector == null
    )
    error_message = "requests leave by the network"
  }

  assert {
    condition = (
      length(google_service_account.run) + length(google_service_account.trigger) + length(google_service_account.build) == 0
      && google_cloudfunctions2_function.this.service_config[0].service_account_email == "run@acme-prod.iam.gserviceaccount.com"
      && google_cloudfunctions2_function.this.build_config[0].service_account == "projects/acme-prod/serviceAccounts/build@acme-prod.iam.gserviceaccount.com"
      && google_cloud_run_v2_service_iam_member.trigger.member == "serviceAccount:deliver@acme-prod.iam.gserviceaccount.com"
      && google_service_account_iam_member.trigger.service_account_id == "projects/acme-prod/serviceAccounts/deliver@acme-prod.iam.gserviceaccount.com"
      && alltrue([for subscription in google_pubsub_subscription.delivery : subscription.push_config[0].oidc_token[0].service_account_email == "deliver@acme-prod.iam.gserviceaccount.com"])
      && google_project_iam_member.build_log.member == "serviceAccount:build@acme-prod.iam.gserviceaccount.com"
    )
    error_message = "existing accounts are granted what created ones would be"
  }

  assert {
    condition = (
      google_cloudfunctions2_function.this.service_config[0].binary_authorization_policy == var.binary_authorization_policy
      && google_cloudfunctions2_function.this.build_config[0].worker_pool == var.worker_pool
    )
    error_message = "passed on as they are"
  }

  assert {
    condition = toset(concat(
      [for grant in google_project_iam_member.running : "${grant.project} ${grant.role}"],
      [for grant in google_folder_iam_member.running : "${grant.folder} ${grant.role}"],
      [for grant in google_organization_iam_member.running : "${grant.org_id} ${grant.role}"],
      )) == toset([
      "acme-prod roles/serviceusage.serviceUsageConsumer",
      "folders/123 organizations/456/roles/runningImages",
      "456 organizations/456/roles/runningImages",
    ])
    error_message = "the organization's own role on it and on its folders, and the quota in the function's project alone"
  }
}

# Nothing is created that is there already.
run "existing_topic_apis_and_role" {
  command = plan

  variables {
    use_custom_role = false
    dry_run         = false
    enable_apis     = false
    create_topic    = false

    notification_emails = ["ops@example.com"]
  }

  assert {
    condition     = length(google_pubsub_topic.gcr) == 0 && length(data.google_pubsub_topic.gcr) == 1
    error_message = "an existing topic is looked up, not created"
  }

  assert {
    condition     = google_pubsub_subscription.delivery["registry-cleaner-gcr"].topic == "projects/acme-prod/topics/gcr" && google_pubsub_topic_iam_member.artifact_registry.topic == "gcr"
    error_message = "an existing topic is delivered, and published to, as a created one is"
  }

  assert {
    condition     = length(google_project_service.this) == 0
    error_message = "no API is turned on"
  }

  assert {
    condition     = alltrue([for grant in google_artifact_registry_repository_iam_member.run : grant.role == "roles/artifactregistry.repoAdmin"])
    error_message = "the predefined role that may delete, on the repository"
  }
}

run "repositories_in_several_places" {
  command = plan

  variables {
    repositories = [
      "us-docker.pkg.dev/acme-prod/apps",
      "europe-west3-docker.pkg.dev/acme-prod/apps",
      "europe-docker.pkg.dev/acme-data/jobs",
      "us-docker.pkg.dev/example.com/legacy-app/apps",
    ]
    policies           = [{ repositories = ["**"] }]
    other_gcr_projects = ["acme-data", "example.com:legacy-app"]
  }

  assert {
    condition = {
      for name, grant in google_artifact_registry_repository_iam_member.run : name => [grant.project, grant.location, grant.repository]
      } == {
      "us-docker.pkg.dev/acme-prod/apps"              = ["acme-prod", "us", "apps"]
      "europe-west3-docker.pkg.dev/acme-prod/apps"    = ["acme-prod", "europe-west3", "apps"]
      "europe-docker.pkg.dev/acme-data/jobs"          = ["acme-data", "europe", "jobs"]
      "us-docker.pkg.dev/example.com/legacy-app/apps" = ["example.com:legacy-app", "us", "apps"]
    }
    error_message = "each repository by its project, location and name"
  }

  assert {
    condition = { for project, role in google_project_iam_custom_role.run : project => role.role_id } == {
      "acme-prod"              = "registry_cleaner_run"
      "acme-data"              = "registry_cleaner_run_${substr(sha256("acme-prod"), 0, 8)}"
      "example.com:legacy-app" = "registry_cleaner_run_${substr(sha256("acme-prod"), 0, 8)}"
    }
    error_message = "one custom role in each project, which elsewhere tells whose it is"
  }

  assert {
    condition     = google_artifact_registry_repository_iam_member.run["europe-docker.pkg.dev/acme-data/jobs"].role == "projects/acme-data/roles/registry_cleaner_run_${substr(sha256("acme-prod"), 0, 8)}"
    error_message = "a repository is granted on with the role of its own project"
  }

  assert {
    condition = { for name, subscription in google_pubsub_subscription.delivery : name => subscription.topic } == {
      "registry-cleaner-gcr"                        = "projects/acme-prod/topics/gcr"
      "registry-cleaner-requests"                   = "projects/acme-prod/topics/registry-cleaner-requests"
      "registry-cleaner-gcr-acme-data"              = "projects/acme-data/topics/gcr"
      "registry-cleaner-gcr-example-com-legacy-app" = "projects/example.com:legacy-app/topics/gcr"
    }
    error_message = "pushes in the other projects start the function too"
  }

  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.delivery : subscription.project == "acme-prod"])
    error_message = "nothing but roles and grants is created in the other projects"
  }
}

run "pushes_of_very_many_projects" {
  command = plan

  variables {
    other_gcr_projects = [for number in range(300) : format("acme-team-%03d-production", number)]
  }

  # The API's limits.
  assert {
    condition = alltrue(flatten([
      for alert in google_monitoring_alert_policy.this : concat(
        [for condition in alert.conditions[0].condition_threshold : length(condition.filter) <= 2048],
        [for condition in alert.conditions[0].condition_matched_log : length(condition.filter) <= 20000],
        [length(alert.documentation[0].content) <= 8192],
      )
    ]))
    error_message = "filters do not grow with the number of projects"
  }
}

run "gcr_io_repositories_for_a_domain_scoped_project" {
  command = plan

  variables {
    project_id   = "example.com:legacy-app"
    repositories = ["gcr.io/acme-prod", "us.gcr.io/acme-prod", "eu.gcr.io/acme-prod", "asia.gcr.io/acme-prod", "gcr.io/example.com/legacy-app"]
    policies     = [{ repositories = ["*gcr.io/**"] }]
  }

  assert {
    condition = {
      for name, grant in google_artifact_registry_repository_iam_member.run : name => [grant.project, grant.location, grant.repository]
      } == {
      "gcr.io/acme-prod"              = ["acme-prod", "us", "gcr.io"]
      "us.gcr.io/acme-prod"           = ["acme-prod", "us", "us.gcr.io"]
      "eu.gcr.io/acme-prod"           = ["acme-prod", "europe", "eu.gcr.io"]
      "asia.gcr.io/acme-prod"         = ["acme-prod", "asia", "asia.gcr.io"]
      "gcr.io/example.com/legacy-app" = ["example.com:legacy-app", "us", "gcr.io"]
    }
    error_message = "the gcr.io names are Artifact Registry repositories, each in its location"
  }

  assert {
    condition     = google_pubsub_subscription.delivery["registry-cleaner-gcr"].topic == "projects/example.com:legacy-app/topics/gcr"
    error_message = "the topic of the domain-scoped project"
  }

  assert {
    condition     = can(regex("^[a-z0-9-]{3,63}$", google_storage_bucket.source.name))
    error_message = "a bucket's name has no colon"
  }
}

run "sweeps_and_who_may_ask" {
  command = plan

  variables {
    request_publishers = ["group:platform@example.com"]
    repositories       = ["us-docker.pkg.dev/acme-prod/apps", "gcr.io/acme-prod"]
    policies           = [{ repositories = ["**"] }]
    sweep_roots        = ["us-docker.pkg.dev/acme-prod/apps", "gcr.io/acme-prod/team"]
    sweep_schedule     = "30 3 1 * *"
  }

  assert {
    condition = { for root, job in google_cloud_scheduler_job.sweep : root => jsondecode(base64decode(job.pubsub_target[0].data)) } == {
      for root in ["us-docker.pkg.dev/acme-prod/apps", "gcr.io/acme-prod/team"] : root => { action = "SWEEP", repository = root }
    }
    error_message = "each root is asked for"
  }

  assert {
    condition = alltrue([
      for job in google_cloud_scheduler_job.sweep :
      job.pubsub_target[0].topic_name == "projects/acme-prod/topics/registry-cleaner-requests" && job.schedule == "30 3 1 * *" && job.time_zone == "Etc/UTC"
    ])
    error_message = "on the topic for requests, at the given time"
  }

  assert {
    condition     = contains(keys(google_project_service.this), "cloudscheduler.googleapis.com")
    error_message = "the scheduler's API is turned on"
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.publisher["group:platform@example.com"].role == "roles/pubsub.publisher"
      && google_pubsub_topic_iam_member.publisher["group:platform@example.com"].topic == "registry-cleaner-requests"
    )
    error_message = "those named may publish requests"
  }
}

run "running_scopes" {
  command = plan

  variables {
    running_scopes = ["projects/acme-prod", "projects/example.com:legacy-app", "folders/123", "organizations/456"]
    sweep_roots    = ["all"]
  }

  assert {
    condition = { for project, role in google_project_iam_custom_role.running : project => [role.role_id, role.permissions] } == {
      "acme-prod"              = ["registry_cleaner_running", toset(["cloudasset.assets.listResource", "serviceusage.services.use"])]
      "example.com:legacy-app" = ["registry_cleaner_running_${substr(sha256("acme-prod"), 0, 8)}", toset(["cloudasset.assets.listResource"])]
    }
    error_message = "listing on each project, the quota in the function's own"
  }

  assert {
    condition = toset([for grant in google_project_iam_member.running : "${grant.project} ${grant.role}"]) == toset([
      "acme-prod projects/acme-prod/roles/registry_cleaner_running",
      "example.com:legacy-app projects/example.com:legacy-app/roles/registry_cleaner_running_${substr(sha256("acme-prod"), 0, 8)}",
    ])
    error_message = "a project's own role on each project"
  }

  assert {
    condition     = toset([for grant in google_folder_iam_member.running : "${grant.folder} ${grant.role}"]) == toset(["folders/123 roles/cloudasset.viewer"])
    error_message = "the predefined role on the folder, which has no custom roles"
  }

  assert {
    condition     = toset([for grant in google_organization_iam_member.running : "${grant.org_id} ${grant.role}"]) == toset(["456 roles/cloudasset.viewer"])
    error_message = "the predefined role on the organization, unless there is a narrower one"
  }

  assert {
    condition     = toset(keys(google_cloud_scheduler_job.sweep)) == var.repositories
    error_message = "all of repositories are swept"
  }

  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].environment_variables.RUNNING_SCOPES == "folders/123,organizations/456,projects/acme-prod,projects/example.com:legacy-app"
    error_message = "the function is told the same scopes"
  }

  assert {
    condition     = contains(keys(google_project_service.this), "cloudasset.googleapis.com")
    error_message = "the inventory's API is turned on"
  }
}

run "vpc_connector" {
  command = plan

  variables {
    vpc = { connector = "projects/acme-prod/locations/us-central1/connectors/shared" }
  }

  assert {
    condition = (
      google_cloudfunctions2_function.this.service_config[0].vpc_connector == "projects/acme-prod/locations/us-central1/connectors/shared"
      && google_cloudfunctions2_function.this.service_config[0].vpc_connector_egress_settings == "PRIVATE_RANGES_ONLY"
      && length(google_cloudfunctions2_function.this.service_config[0].direct_vpc_network_interface) == 0
    )
    error_message = "requests to private addresses leave by the connector"
  }
}

run "dry_run_with_a_predefined_role_and_unobserved" {
  command = plan

  variables {
    use_custom_role = false
    observability   = false
    log_level       = "WARNING"
  }

  assert {
    condition     = length(google_logging_metric.this) + length(google_monitoring_dashboard.this) + length(google_monitoring_alert_policy.this) == 0
    error_message = "no metric, no dashboard, no alert"
  }

  assert {
    condition     = output.dashboard_url == null
    error_message = "no address of a dashboard that is not there"
  }

  assert {
    condition     = !contains(keys(google_project_service.this), "monitoring.googleapis.com")
    error_message = "what is not used is not turned on"
  }

  assert {
    condition     = length(google_project_iam_custom_role.run) == 0
    error_message = "no custom role where the organization forbids them"
  }

  assert {
    condition     = alltrue([for grant in google_artifact_registry_repository_iam_member.run : grant.role == "roles/artifactregistry.reader"])
    error_message = "a dry run reads"
  }
}

run "deleting_and_observed" {
  command = plan

  variables {
    dry_run               = false
    notification_channels = ["projects/acme-prod/notificationChannels/1"]
  }

  assert {
    condition     = alltrue([for metric in google_logging_metric.this : strcontains(metric.filter, "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"registry-cleaner\"")])
    error_message = "metrics are made from the function's own log"
  }

  # Cloud Run writes an ERROR of its own for each message that ends with 500, as one that reached its time limit does.
  assert {
    condition = alltrue([
      for filter in concat(
        [google_logging_metric.this["errors"].filter],
        [for key in ["failed", "rejected", "denied"] : google_monitoring_alert_policy.this[key].conditions[0].condition_matched_log[0].filter],
        [for tile in jsondecode(google_monitoring_dashboard.this[0].dashboard_json).mosaicLayout.tiles : tile.widget.logsPanel.filter if can(tile.widget.logsPanel)],
      ) :
      length(split("severity>=", filter)) == 2 && strcontains(filter, "severity>=ERROR AND NOT log_id(\"run.googleapis.com/requests\")")
    ])
    error_message = "an error is what the function or the platform says, not the request's line that repeats it"
  }

  assert {
    condition     = alltrue([for key in ["freed_bytes", "refused", "failed"] : strcontains(google_logging_metric.this[key].filter, "jsonPayload.dry_run=false")])
    error_message = "what a dry run would do does not count as done"
  }

  assert {
    condition     = alltrue([for metric in google_logging_metric.this : toset(keys(metric.label_extractors)) == toset([for label in metric.metric_descriptor[0].labels : label.key])])
    error_message = "each label has an extractor, and each extractor a label"
  }

  assert {
    condition     = !contains(keys(google_logging_metric.this["run_seconds"].label_extractors), "repository")
    error_message = "the metric that every run writes to is not split by repository"
  }

  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.this : alert.notification_channels == tolist(["projects/acme-prod/notificationChannels/1"])])
    error_message = "alerts go to the given channels"
  }

  assert {
    condition     = google_cloudfunctions2_function.this.service_config[0].environment_variables.DRY_RUN == "false"
    error_message = "the function is told to delete"
  }

  assert {
    condition = google_project_iam_custom_role.run["acme-prod"].permissions == toset([
      "artifactregistry.packages.list",
      "artifactregistry.repositories.deleteArtifacts",
      "artifactregistry.repositories.downloadArtifacts",
      "artifactregistry.repositories.get",
      "artifactregistry.versions.list",
    ])
    error_message = "what reading needs, and what deleting needs"
  }
}

run "policies_as_written" {
  command = plan

  variables {
    repositories = ["us-docker.pkg.dev/acme-prod/apps", "gcr.io/acme-prod"]
    policies = [
      {
        repositories = ["us-docker.pkg.dev/acme-prod/apps/*/**", "gcr.io/acme-prod/**"]
        min_age      = "1h30m"
        tagged = [
          { match = ["v\\d+\\.\\d+\\.\\d+", "prod"], keep = "all" },
          { match = "(.+)-[0-9a-f]{7}", keep = 10, keep_within = "7d", delete_after = "90d", order = "version" },
        ]
        untagged      = { keep = 0 }
        orphans       = { keep = 0 }
        max_deletions = 1000
        dry_run       = true
      },
      # Globs that can reach a repository do not warn.
      {
        repositories = ["us-docker.pkg.dev/acme-prod/app*/**", "*-docker.pkg.dev/**", "gcr.io/acme-prod/api"]
        untagged     = { delete_after = "90d" }
      },
    ]
  }

  assert {
    condition     = jsondecode(google_cloudfunctions2_function.this.service_config[0].environment_variables.POLICIES) == var.policies
    error_message = "the function reads what the operator wrote, without keys added or dropped"
  }

  assert {
    condition     = output.policies == google_cloudfunctions2_function.this.service_config[0].environment_variables.POLICIES
    error_message = "the output is what is deployed"
  }
}

run "policies_without_nulls" {
  command = plan

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], dry_run = null, untagged = { keep = 3, order = null } }]
  }

  assert {
    condition     = output.policies == "[{\"repositories\":[\"us-docker.pkg.dev/acme-prod/apps/**\"],\"untagged\":{\"keep\":3}}]"
    error_message = "a key whose value is null is not deployed"
  }

  assert {
    condition     = output.policies == google_cloudfunctions2_function.this.service_config[0].environment_variables.POLICIES
    error_message = "the output is what is deployed"
  }
}

run "warns_of_deletions_that_nobody_watches" {
  command = plan

  variables {
    dry_run = false
  }

  expect_failures = [check.somebody_is_told]
}

run "warns_of_a_policy_outside_of_all_repositories" {
  command = plan

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**", "us-docker.pkg.dev/acme-prod/other/**"] }]
  }

  expect_failures = [check.policies_and_repositories_meet]
}

run "warns_of_a_repository_that_no_policy_reaches" {
  command = plan

  variables {
    repositories = ["us-docker.pkg.dev/acme-prod/apps", "gcr.io/acme-prod"]
  }

  expect_failures = [check.policies_and_repositories_meet]
}

run "repository_that_is_pruned" {
  command = plan

  module {
    source = "./modules/repository"
  }

  variables {
    name       = "us-docker.pkg.dev/acme-prod/apps"
    repository = { project = "acme-prod", location = "us", repository = "apps" }
  }
}

run "warns_of_a_repository_that_cannot_be_pruned" {
  command = plan

  module {
    source = "./modules/repository"
  }

  variables {
    name       = "us-docker.pkg.dev/acme-prod/apps"
    repository = { project = "acme-prod", location = "us", repository = "apps" }
  }

  override_data {
    target = data.google_artifact_registry_repository.this
    values = { format = "DOCKER", mode = "REMOTE_REPOSITORY" }
  }

  expect_failures = [check.repository]
}
