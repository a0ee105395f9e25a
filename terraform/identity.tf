# Three accounts, so that none holds what it does not need: `run` reads and deletes, `trigger` invokes, `build` builds.
# What `run` may do stands in repositories.tf, requests.tf and running.tf.  Logging to stdout needs no right.

resource "google_service_account" "run" {
  count = var.service_accounts.run == null ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-run"
  display_name = "${var.name}: runs the function"

  depends_on = [google_project_service.this]
}

resource "google_service_account" "trigger" {
  count = var.service_accounts.trigger == null ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-trigger"
  display_name = "${var.name}: delivers messages to the function"

  depends_on = [google_project_service.this]
}

resource "google_service_account" "build" {
  count = var.service_accounts.build == null ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-build"
  display_name = "${var.name}: builds the function"

  depends_on = [google_project_service.this]
}

locals {
  # The accounts that are used, created here or not.
  addresses = {
    run     = coalesce(one(google_service_account.run[*].email), var.service_accounts.run)
    trigger = coalesce(one(google_service_account.trigger[*].email), var.service_accounts.trigger)
    build   = coalesce(one(google_service_account.build[*].email), var.service_accounts.build)
  }
  accounts = { for kind, address in local.addresses : kind => "projects/${var.project_id}/serviceAccounts/${address}" }
  members  = { for kind, address in local.addresses : kind => "serviceAccount:${address}" }
}

# -- trigger --

# On the one service, not on the project.
resource "google_cloud_run_v2_service_iam_member" "trigger" {
  project  = var.project_id
  location = var.region
  # The service that carries a function has the function's name.
  name   = google_cloudfunctions2_function.this.name
  role   = "roles/run.invoker"
  member = local.members.trigger

  lifecycle {
    # A function that is replaced has a new service, on which nothing is granted.
    replace_triggered_by = [google_cloudfunctions2_function.this.id]
  }
}

# Pub/Sub signs in as the trigger's account with an OpenID Connect token that its service agent makes.  An agent of 8
# April 2021 or before may not do that by its own role, as it is in many a project with `gcr.io`, and every delivery would
# be refused with 403.  On the one account, which may invoke the one service, and for tokens of that kind alone: access
# tokens and signatures are not needed.
resource "google_service_account_iam_member" "trigger" {
  service_account_id = local.accounts.trigger
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent

  # The agent comes with the API; a topic shows that it is in use.
  depends_on = [google_pubsub_topic.requests]
}

# -- build --

# The build's log.  Logging has no narrower resource for it than the project.
resource "google_project_iam_member" "build_log" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = local.members.build
}

# The image, and the build's cache beside it.
resource "google_artifact_registry_repository_iam_member" "build" {
  project    = google_artifact_registry_repository.image.project
  location   = google_artifact_registry_repository.image.location
  repository = google_artifact_registry_repository.image.repository_id
  role       = "roles/artifactregistry.writer"
  member     = local.members.build

  lifecycle {
    # Another key is another repository of the same name, on which nothing is granted.
    replace_triggered_by = [google_artifact_registry_repository.image.id]
  }
}

# The source where it is uploaded …
resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = local.members.build
}

# … and where the platform copies it to: a bucket for the region, or with a key of one's own for the region and the key,
# that the platform makes at the first deployment, so that it cannot be granted on directly.  The condition keeps every
# other bucket of the project out.
locals {
  platform_bucket = "projects/_/buckets/gcf-v2-sources-${local.project_number}-${var.region}"
}

resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = local.members.build

  condition {
    title       = "function-source-only"
    description = "Buckets in which Cloud Functions keeps functions' source"
    # Up to the slash: a region's name may begin with another's, as europe-west12 does.
    expression = join(" || ", concat(
      ["resource.name == \"${local.platform_bucket}\"", "resource.name.startsWith(\"${local.platform_bucket}/\")"],
      var.kms_key_name == null ? [] : ["resource.name.startsWith(\"${local.platform_bucket}-\")"],
    ))
  }
}

# A grant takes a while to be known everywhere, and a build that begins before fails for good.
resource "time_sleep" "build_rights" {
  create_duration = "60s"

  # What the grants are made to and on: where one of them is new, so is its grant.
  triggers = {
    account = coalesce(one(google_service_account.build[*].unique_id), var.service_accounts.build)
    bucket  = google_storage_bucket.source.id
    image   = google_artifact_registry_repository.image.id
  }

  depends_on = [
    google_project_iam_member.build_log,
    google_project_iam_member.build_source,
    google_artifact_registry_repository_iam_member.build,
    google_storage_bucket_iam_member.build,
  ]
}
