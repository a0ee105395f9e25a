locals {
  root = "${path.module}/.."

  # Only what is deployed: no tests, no documentation, no Terraform, no bytecode, and no module that the function never
  # imports.
  source_files = setunion(
    ["main.py", "requirements.txt"],
    setsubtract(
      fileset(local.root, "cleaner/**/*.py"),
      setunion(["cleaner/__main__.py", "cleaner/schema.py"], fileset(local.root, "cleaner/{cli,inputs,views}/**")),
    ),
  )

  # Of the contents, not of the zip file: the same on every machine, and known when the plan is made.
  source_hash = sha256(jsonencode({ for file in local.source_files : file => filesha256("${local.root}/${file}") }))

  # Relative to the root module, where every machine has this folder: a path that depended on where this module or its
  # caller lies would be a change of the object wherever it differs.
  archive = "${path.root}/.terraform/${var.name}-source/${local.source_hash}.zip"

  version = regex("VERSION = \"([0-9.]+)\"", file("${local.root}/cleaner/release.py"))[0]
}

# Changes with the code, and so puts the archive off to the apply.
resource "terraform_data" "source" {
  triggers_replace = local.source_hash
}

data "archive_file" "source" {
  type        = "zip"
  output_path = local.archive

  dynamic "source" {
    for_each = local.source_files

    content {
      filename = source.value
      # No secret, but a plan would print all of it.
      content = sensitive(file("${local.root}/${source.value}"))
    }
  }

  # A data source that depends on a pending change is read by the apply, on the machine that uploads the archive.  Read by
  # the plan, it would be missing wherever a saved plan is applied elsewhere.
  depends_on = [terraform_data.source, google_storage_bucket.source]
}

resource "google_storage_bucket" "source" {
  #checkov:skip=CKV_GCP_62:It holds the source of one function; who reads it is in the audit log where that is turned on.
  #checkov:skip=CKV_GCP_78:An object's name carries its contents' hash and is never written twice.
  project  = var.project_id
  name     = "${var.name}-source-${substr(sha256("${var.project_id}/${var.region}"), 0, 12)}"
  location = var.region
  labels   = var.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # It holds nothing but what the next apply would upload again.
  force_destroy = true

  dynamic "encryption" {
    for_each = var.kms_key_name[*]

    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  # A new name for new code: the function is built again exactly when something of it has changed.
  name = "${local.source_hash}.zip"
  # Not the data source's output_path, which is unknown to a plan that leaves the archive to the apply: an unknown source
  # is a changed one.
  source = local.archive

  depends_on = [data.archive_file.source]

  lifecycle {
    # The function names the old code until it has the new.
    create_before_destroy = true
    # The zip file's hash: it may differ between versions of the archive provider.  The name has the hash of the contents.
    ignore_changes = [detect_md5hash]
  }
}

# The function's image has a repository of its own, so that the build may write there and nowhere else.  Nothing
# grants the function anything on it.
resource "google_artifact_registry_repository" "image" {
  #checkov:skip=CKV_GCP_84:It holds an image of public source.
  project       = var.project_id
  location      = var.region
  repository_id = "${var.name}-image"
  description   = "Images of the function ${var.name}"
  format        = "DOCKER"
  labels        = var.labels
  kms_key_name  = var.kms_key_name

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "30d"
    }
  }

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }

  depends_on = [google_project_service.this]
}

locals {
  environment = merge({
    POLICIES       = jsonencode(module.policies.policies)
    DRY_RUN        = tostring(var.dry_run)
    WORKERS        = tostring(var.workers)
    TIME_LIMIT     = tostring(var.time_limit_seconds)
    REQUESTS_TOPIC = local.requests_topic
    LOG_LEVEL      = var.log_level
    # The platform does not set it; the log's trace field needs it.
    GOOGLE_CLOUD_PROJECT = var.project_id
    # functions-framework's, 4 per CPU by default: the other messages of a push would then wait outside of the
    # instance's threads, where they cannot be told that they are covered.
    THREADS = tostring(var.concurrency)
  }, length(var.running_scopes) > 0 ? { RUNNING_SCOPES = join(",", var.running_scopes) } : {})
  # In Base64, which has four characters for three bytes: length() counts characters.
  environment_base64 = base64encode(join("", flatten([for name, value in local.environment : [name, value]])))

  direct_vpc = try(var.vpc.connector, null) == null ? var.vpc : null
}

resource "google_cloudfunctions2_function" "this" {
  project     = var.project_id
  location    = var.region
  name        = var.name
  description = "Prunes a container repository's old manifests on every push"
  # A label takes no dots.
  labels       = merge(var.labels, { version = replace(local.version, ".", "-") })
  kms_key_name = var.kms_key_name

  build_config {
    runtime           = "python313"
    entry_point       = "prune"
    service_account   = local.accounts.build
    docker_repository = google_artifact_registry_repository.image.id
    worker_pool       = var.worker_pool

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email = local.addresses.run

    # Pub/Sub of the same project counts as internal; nothing else has a reason to call it.
    ingress_settings               = "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision = true

    # Above one message at a time an instance must have a whole CPU.
    available_cpu                    = "1"
    available_memory                 = "${var.memory_mib}Mi"
    timeout_seconds                  = var.timeout_seconds
    min_instance_count               = 0
    max_instance_count               = var.max_instances
    max_instance_request_concurrency = var.concurrency
    binary_authorization_policy      = var.binary_authorization_policy

    vpc_connector                 = try(var.vpc.connector, null)
    vpc_connector_egress_settings = try(var.vpc.connector, null) == null ? null : var.vpc.egress
    direct_vpc_egress             = local.direct_vpc == null ? null : "VPC_EGRESS_${local.direct_vpc.egress}"

    dynamic "direct_vpc_network_interface" {
      for_each = local.direct_vpc[*]

      content {
        network    = direct_vpc_network_interface.value.network
        subnetwork = direct_vpc_network_interface.value.subnetwork
        tags       = direct_vpc_network_interface.value.tags
      }
    }

    environment_variables = local.environment
  }

  # No event_trigger: that is Eventarc, whose subscription has no name to alert on, no dead letters and no retention of
  # ours, and whose first use in a project fails while its service agent is made.  delivery.tf has the subscriptions.

  depends_on = [
    time_sleep.build_rights,
    # The rights first, so that the first message finds them.
    google_artifact_registry_repository_iam_member.run,
    google_pubsub_topic_iam_member.run,
    google_project_iam_member.running,
    google_folder_iam_member.running,
    google_organization_iam_member.running,
  ]

  lifecycle {
    precondition {
      # Cloud Run functions: names and values of the environment have 32 KiB together.
      condition = length(local.environment_base64) <= 4 * ceil(32768 / 3)
      error_message = join(" ", [
        "policies: too long.  The platform gives a function's environment 32 KiB, and these take",
        "${floor(length(base64encode(local.environment.POLICIES)) * 3 / 4)} bytes as JSON.  Use wider globs, or groups of tags by one regex.",
      ])
    }
  }
}
