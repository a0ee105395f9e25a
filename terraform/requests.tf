# PRUNE and SWEEP: the function takes them from this topic alone.  Who may push images may not publish here.

locals {
  requests_topic = "projects/${var.project_id}/topics/${google_pubsub_topic.requests.name}"
}

resource "google_pubsub_topic" "requests" {
  #checkov:skip=CKV_GCP_83:The messages name repositories and hold no secret.
  project = var.project_id
  name    = "${var.name}-requests"
  labels  = var.labels

  kms_key_name = var.kms_key_name

  depends_on = [google_project_service.this]
}

# The function publishes one PRUNE for each repository that a SWEEP finds.  It may publish to no other topic.
resource "google_pubsub_topic_iam_member" "run" {
  project = var.project_id
  topic   = google_pubsub_topic.requests.name
  role    = "roles/pubsub.publisher"
  member  = local.members.run
}

# Cloud Scheduler needs no grant: it publishes as its own agent, whose role in the project comes with the API.
resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = var.request_publishers

  project = var.project_id
  topic   = google_pubsub_topic.requests.name
  role    = "roles/pubsub.publisher"
  member  = each.key
}

# -- Sweeps --

resource "google_cloud_scheduler_job" "sweep" {
  for_each = contains(var.sweep_roots, "all") ? var.repositories : var.sweep_roots

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
