# PRUNE and SWEEP: the function takes them from this topic alone.  Who may push images may not publish here.

locals {
  requests_topic = "projects/${var.project_id}/topics/${google_pubsub_topic.requests.name}"
}

resource "google_pubsub_topic" "requests" {
  #checkov:skip=CKV_GCP_83:The messages name repositories and hold no secret.
  project = var.project_id
  name    = "${var.name}-requests"
  labels  = var.labels

  depends_on = [google_project_service.this]
}

# The function publishes one PRUNE for each repository that a SWEEP finds.  It may publish to no other topic.
resource "google_pubsub_topic_iam_member" "run" {
  project = var.project_id
  topic   = google_pubsub_topic.requests.name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.run.member
}

# Cloud Scheduler needs no grant: it publishes as its own agent, whose role in the project comes with the API.
resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = var.request_publishers

  project = var.project_id
  topic   = google_pubsub_topic.requests.name
  role    = "roles/pubsub.publisher"
  member  = each.key
}

# -- Delivery --

locals {
  # Topics beside the function's own trigger, by the name that their subscription gets.
  delivered_topics = merge(
    { (google_pubsub_topic.requests.name) = local.requests_topic },
    { for project in var.other_gcr_projects : "${var.name}-gcr-${replace(project, "/[.:]/", "-")}" => "projects/${project}/topics/gcr" },
  )
}

# A subscription that pushes, not google_eventarc_trigger: the subscription that Eventarc makes for a service waits 10 s
# for an answer and cannot be told otherwise by Terraform, so a longer run would be delivered again while it is still
# under way.  (The subscription of a function's own trigger waits 600 s.)
resource "google_pubsub_subscription" "delivery" {
  for_each = local.delivered_topics

  project = var.project_id
  name    = each.key
  topic   = each.value
  labels  = var.labels

  # The longest there is, and longer than timeout_seconds.
  ack_deadline_seconds = 600
  # As long as the function's own trigger keeps a message.  The next push or sweep asks again.
  message_retention_duration = "86400s"

  push_config {
    # functions-framework reads the event's source from the path, which is how the function tells requests from pushes.
    push_endpoint = "${google_cloudfunctions2_function.this.service_config[0].uri}/${each.value}"

    oidc_token {
      service_account_email = google_service_account.trigger.email
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # By default a subscription without traffic is deleted after 31 days; a monthly sweep is that quiet.
  expiration_policy {
    ttl = ""
  }

  depends_on = [google_cloud_run_v2_service_iam_member.trigger, google_service_account_iam_member.trigger]
}

# -- Sweeps --

resource "google_cloud_scheduler_job" "sweep" {
  for_each = var.sweep_roots

  project     = var.project_id
  region      = var.region
  name        = "${var.name}-sweep-${replace(each.key, "/[^a-z0-9]+/", "-")}-${substr(sha256(each.key), 0, 6)}"
  description = "Asks for every repository under ${each.key} to be pruned"
  schedule    = var.sweep_schedule
  time_zone   = var.sweep_time_zone

  pubsub_target {
    topic_name = local.requests_topic
    data       = base64encode(jsonencode({ action = "SWEEP", repository = each.key }))
  }

  retry_config {
    retry_count = 3
  }

  depends_on = [google_project_service.this]
}
