# Who delivers what where, and whom alerts reach.  Applied, so that the function has an address and the project a number.

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
  policies     = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], untagged = { keep = 1 } }]
  dry_run      = false

  notification_channels = ["projects/acme-prod/notificationChannels/1"]
  notification_emails   = ["ops@example.com", "oncall@example.com"]
}

run "delivery" {
  command = apply

  override_resource {
    target = google_cloudfunctions2_function.this
    values = { service_config = { uri = "https://registry-cleaner-abc-uc.a.run.app" } }
  }

  override_resource {
    target = google_storage_bucket.source
    values = { project_number = 123456789012 }
  }

  assert {
    condition = { for name, subscription in google_pubsub_subscription.delivery : name => subscription.push_config[0].push_endpoint } == {
      "registry-cleaner-gcr"      = "https://registry-cleaner-abc-uc.a.run.app/projects/acme-prod/topics/gcr"
      "registry-cleaner-requests" = "https://registry-cleaner-abc-uc.a.run.app/projects/acme-prod/topics/registry-cleaner-requests"
    }
    error_message = "the path names the topic: from it the function tells requests from pushes"
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.delivery :
      subscription.push_config[0].oidc_token[0].audience == "https://registry-cleaner-abc-uc.a.run.app"
      && subscription.push_config[0].oidc_token[0].service_account_email == google_service_account.trigger[0].email
    ])
    error_message = "delivered as the trigger's account, for the service's address"
  }

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.trigger.member == "serviceAccount:${google_service_account.trigger[0].email}"
      && endswith(google_service_account_iam_member.trigger.service_account_id, "/${google_service_account.trigger[0].email}")
      && google_service_account_iam_member.trigger.role == "roles/iam.serviceAccountOpenIdTokenCreator"
      && google_service_account_iam_member.trigger.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub may make the tokens of the one account that every delivery carries, and this account may invoke the function"
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
      && alltrue([for name, grant in google_pubsub_subscription_iam_member.dead_letters : grant.subscription == name && grant.member == google_pubsub_topic_iam_member.dead_letters.member])
      && toset(keys(google_pubsub_subscription_iam_member.dead_letters)) == toset(keys(google_pubsub_subscription.delivery))
    )
    error_message = "Pub/Sub may take a dead letter out of each subscription and put it into the one topic"
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.artifact_registry.member == "serviceAccount:service-123456789012@gcp-sa-artifactregistry.iam.gserviceaccount.com"
      && google_pubsub_topic_iam_member.artifact_registry.role == "roles/pubsub.publisher"
      && google_pubsub_topic_iam_member.artifact_registry.topic == "gcr"
    )
    error_message = "Artifact Registry may announce pushes"
  }

  assert {
    condition     = google_pubsub_topic_iam_member.run.member == "serviceAccount:${google_service_account.run[0].email}" && google_pubsub_topic_iam_member.run.topic == "registry-cleaner-requests"
    error_message = "the function may publish requests"
  }

  assert {
    condition = google_project_iam_member.build_source.condition[0].expression == join(" || ", [
      "resource.name == \"projects/_/buckets/gcf-v2-sources-123456789012-us-central1\"",
      "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-123456789012-us-central1/\")",
    ])
    error_message = "the build reads the one bucket in which the platform keeps the source"
  }

  assert {
    condition = (
      { for address, channel in google_monitoring_notification_channel.email : address => channel.labels } == {
        "ops@example.com"    = tomap({ email_address = "ops@example.com" })
        "oncall@example.com" = tomap({ email_address = "oncall@example.com" })
      }
      && alltrue([
        for alert in google_monitoring_alert_policy.this : toset(alert.notification_channels) == setunion(
          ["projects/acme-prod/notificationChannels/1"],
          [for channel in google_monitoring_notification_channel.email : channel.id],
        )
      ])
    )
    error_message = "each alert reaches the given channels and addresses"
  }
}
