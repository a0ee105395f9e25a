# How messages reach the function: push subscriptions that sign in as the trigger's account, and a topic for what could
# not be delivered.

locals {
  # Pushes of this project and of others, and requests, by the name of their subscription.
  delivered_topics = merge(
    { "${var.name}-gcr" = local.gcr_topic, (google_pubsub_topic.requests.name) = local.requests_topic },
    { for project in var.other_gcr_projects : "${var.name}-gcr-${replace(project, "/[.:]/", "-")}" => "projects/${project}/topics/gcr" },
  )

  dead_letters_topic = "projects/${var.project_id}/topics/${google_pubsub_topic.dead_letters.name}"

  # The bucket tells the project's number, so that nothing has to be looked up when the plan is made.
  project_number = google_storage_bucket.source.project_number
  # Google's own accounts for these services in this project.
  pubsub_agent            = "serviceAccount:service-${local.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  artifact_registry_agent = "serviceAccount:service-${local.project_number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
}

# -- Pushes are announced --

# Artifact Registry publishes as its service agent.  Its own role in the project allows that, unless somebody has taken
# it away, as an authoritative google_project_iam_policy does; pushes are then announced only if whoever pushes may
# publish, and nothing tells.
resource "google_pubsub_topic_iam_member" "artifact_registry" {
  project = var.project_id
  topic   = "gcr"
  role    = "roles/pubsub.publisher"
  member  = local.artifact_registry_agent

  # The agent comes with the API; a repository shows that it is in use.
  depends_on = [google_pubsub_topic.gcr, data.google_pubsub_topic.gcr, google_artifact_registry_repository.image]
}

# -- Messages are delivered --

resource "google_pubsub_subscription" "delivery" {
  for_each = local.delivered_topics

  project = var.project_id
  name    = each.key
  topic   = each.value
  labels  = var.labels

  # The longest there is, and longer than timeout_seconds.
  ack_deadline_seconds = 600
  # Longer than all attempts take, so that no message ends without becoming a dead letter.
  message_retention_duration = "604800s"

  push_config {
    # functions-framework reads the event's source from the path, which is how the function tells requests from pushes.
    push_endpoint = "${google_cloudfunctions2_function.this.service_config[0].uri}/${each.value}"

    oidc_token {
      service_account_email = local.addresses.trigger
      audience              = google_cloudfunctions2_function.this.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # The most attempts there are: with the backoff a registry may be down for half a day, and a run that needs many
  # deliveries to end gets them.
  dead_letter_policy {
    dead_letter_topic     = local.dead_letters_topic
    max_delivery_attempts = 100
  }

  # By default a subscription without traffic is deleted after 31 days; a monthly sweep is that quiet.
  expiration_policy {
    ttl = ""
  }

  depends_on = [
    google_pubsub_topic.gcr,
    data.google_pubsub_topic.gcr,
    # The rights first, so that the first message finds them.
    google_cloud_run_v2_service_iam_member.trigger,
    google_service_account_iam_member.trigger,
    google_pubsub_topic_iam_member.dead_letters,
  ]
}

# -- What could not be delivered --

resource "google_pubsub_topic" "dead_letters" {
  #checkov:skip=CKV_GCP_83:The messages name repositories and images and hold no secret.
  project = var.project_id
  name    = "${var.name}-dead-letters"
  labels  = var.labels

  kms_key_name = var.kms_key_name

  depends_on = [google_project_service.this]
}

# Without a subscription the topic would keep nothing.
resource "google_pubsub_subscription" "dead_letters" {
  project = var.project_id
  name    = google_pubsub_topic.dead_letters.name
  topic   = local.dead_letters_topic
  labels  = var.labels

  # 31 days, the longest there is.
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub moves a dead letter as its service agent: it publishes to the one topic …
resource "google_pubsub_topic_iam_member" "dead_letters" {
  project = var.project_id
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

# … and acknowledges in the subscription that the message comes from.
resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each = google_pubsub_subscription.delivery

  project      = var.project_id
  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent

  lifecycle {
    # A subscription whose topic was deleted is replaced, and on the new one nothing is granted.
    replace_triggered_by = [google_pubsub_subscription.delivery[each.key].id]
  }
}
