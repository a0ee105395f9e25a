# Metrics from the function's log.  dashboard.tf shows them, alerts.tf tells of what went wrong.  All by `observability`.

locals {
  # A function's log is that of the service which carries it.
  log_filter = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=\"${var.name}\"",
    "resource.labels.location=\"${var.region}\"",
  ])
  # Not the line that Cloud Run itself writes of each request: it is an ERROR wherever the function ends a message with
  # 500 to have it delivered again, and has no message.  What the function wrote, and why it ended or did not start
  # (`run.googleapis.com/stderr`, `run.googleapis.com/varlog/system`), is in other logs.
  error_filter = "${local.log_filter} AND severity>=ERROR AND NOT log_id(\"run.googleapis.com/requests\")"
  # In a dry run `deleted` and `bytes` are what would go.
  pruned_filter = "${local.log_filter} AND jsonPayload.message=\"prune finished\" AND jsonPayload.dry_run=false"

  # A label costs a time series for each of its values, and a metric may have 30,000.  So `repository` labels only
  # what is counted when something happened; how long runs take is not split by it.
  metrics = {
    deleted = {
      description = "Manifests that were deleted"
      filter      = "${local.log_filter} AND jsonPayload.message=\"manifest deleted\""
      field       = null
      unit        = "1"
      labels      = { repository = "EXTRACT(jsonPayload.repository)", reason = "EXTRACT(jsonPayload.reason)" }
    }
    would_delete = {
      description = "Manifests that a dry run would delete, for each run"
      filter      = "${local.log_filter} AND jsonPayload.message=\"prune finished\" AND jsonPayload.dry_run=true AND jsonPayload.deleted>0"
      field       = "EXTRACT(jsonPayload.deleted)"
      unit        = "1"
      labels      = { repository = "EXTRACT(jsonPayload.repository)" }
    }
    freed_bytes = {
      description = "Sizes of the manifests that were deleted, for each run: an upper bound, layers are shared"
      filter      = "${local.pruned_filter} AND jsonPayload.bytes>0"
      field       = "EXTRACT(jsonPayload.bytes)"
      unit        = "By"
      labels      = { repository = "EXTRACT(jsonPayload.repository)" }
    }
    refused = {
      description = "Deletions that the registry refused because of a new tag, index or referrer, for each run"
      filter      = "${local.pruned_filter} AND jsonPayload.refused>0"
      field       = "EXTRACT(jsonPayload.refused)"
      unit        = "1"
      labels      = { repository = "EXTRACT(jsonPayload.repository)" }
    }
    failed = {
      description = "Deletions that failed for good, for each run"
      filter      = "${local.pruned_filter} AND jsonPayload.failed>0"
      field       = "EXTRACT(jsonPayload.failed)"
      unit        = "1"
      labels      = { repository = "EXTRACT(jsonPayload.repository)" }
    }
    interrupted = {
      description = "Runs and sweeps that were interrupted, and whose message is delivered again"
      filter      = "${local.log_filter} AND jsonPayload.message=(\"prune interrupted\" OR \"sweep interrupted\")"
      field       = null
      unit        = "1"
      # A run has the one, a sweep the other.
      labels = { repository = "EXTRACT(jsonPayload.repository)", root = "EXTRACT(jsonPayload.root)" }
    }
    run_seconds = {
      description = "How long a run took"
      filter      = "${local.log_filter} AND jsonPayload.message=\"prune finished\""
      field       = "EXTRACT(jsonPayload.seconds)"
      unit        = "s"
      labels      = { dry_run = "EXTRACT(jsonPayload.dry_run)" }
    }
    errors = {
      description = "Lines of severity ERROR and above, but for Cloud Run's own of each request, by their message"
      filter      = local.error_filter
      field       = null
      unit        = "1"
      labels      = { message = "EXTRACT(jsonPayload.message)" }
    }
  }
}

resource "google_logging_metric" "this" {
  for_each = var.observability ? local.metrics : {}

  project          = var.project_id
  name             = "${var.name}/${each.key}"
  description      = each.value.description
  filter           = each.value.filter
  value_extractor  = each.value.field
  label_extractors = each.value.labels

  metric_descriptor {
    metric_kind = "DELTA"
    # A metric that takes a number from a line can only be a distribution; its sum is the number.
    value_type = each.value.field == null ? "INT64" : "DISTRIBUTION"
    unit       = each.value.unit

    dynamic "labels" {
      for_each = each.value.labels

      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = each.value.field == null ? [] : [1]

    content {
      # 1 to 2^44: a second to days, a manifest to thousands, a byte to terabytes.
      exponential_buckets {
        scale              = 1
        growth_factor      = 2
        num_finite_buckets = 44
      }
    }
  }

  depends_on = [google_project_service.this]
}
