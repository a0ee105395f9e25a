# Artifact Registry announces pushes to the topic `gcr` of the project that the repository is in, if it exists.

locals {
  gcr_topic = "projects/${var.project_id}/topics/gcr"
}

resource "google_pubsub_topic" "gcr" {
  #checkov:skip=CKV_GCP_83:The messages name images and hold no secret.
  count = var.create_topic ? 1 : 0

  project = var.project_id
  name    = "gcr"
  labels  = var.labels

  kms_key_name = var.kms_key_name

  # Others may have subscribed meanwhile.  A destroy forgets the topic and leaves it; prevent_destroy would instead
  # refuse to destroy the whole module.
  deletion_policy = "ABANDON"

  depends_on = [google_project_service.this]

  lifecycle {
    # Whoever made a topic that is imported has set these; a plan would otherwise remove them.
    ignore_changes = [
      kms_key_name,
      message_retention_duration,
      message_storage_policy,
      message_transforms,
      schema_settings,
      ingestion_data_source_settings,
      tags,
    ]
  }
}

# Tells at plan time that the topic is missing, not in the middle of an apply.
data "google_pubsub_topic" "gcr" {
  count = var.create_topic ? 0 : 1

  project = var.project_id
  name    = "gcr"
}
