locals {
  # Each API, and what here fails without it.
  apis = merge(
    {
      "artifactregistry.googleapis.com"     = "the repository of the function's image, and every request of the function"
      "cloudbuild.googleapis.com"           = "the build of the function"
      "cloudfunctions.googleapis.com"       = "the function"
      "cloudresourcemanager.googleapis.com" = "grants on the project"
      "iam.googleapis.com"                  = "service accounts and the custom role"
      "logging.googleapis.com"              = "the function's log"
      "pubsub.googleapis.com"               = "the topics and their delivery"
      "run.googleapis.com"                  = "the service that carries the function"
      "storage.googleapis.com"              = "the bucket of the function's source"
    },
    length(var.running_scopes) > 0 ? { "cloudasset.googleapis.com" = "asking what is running" } : {},
    length(var.sweep_roots) > 0 ? { "cloudscheduler.googleapis.com" = "the sweeps' schedule" } : {},
    var.observability ? { "monitoring.googleapis.com" = "the dashboard and the alerts" } : {},
  )
}

resource "google_project_service" "this" {
  for_each = var.enable_apis ? local.apis : {}

  project = var.project_id
  service = each.key

  # Others in the project use them too.
  disable_on_destroy = false
}
