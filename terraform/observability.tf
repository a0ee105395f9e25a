# Metrics from the function's log, a dashboard of them, and alerts on the log itself.  All by `observability`.

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

# -- Dashboard --

locals {
  metric_type = { for key, metric in local.metrics : key => "metric.type=\"logging.googleapis.com/user/${var.name}/${key}\" resource.type=\"cloud_run_revision\"" }
  # The same metric as PromQL spells it; `_sum` is a distribution's sum.
  metric_sum = {
    for key, metric in local.metrics :
    key => "increase(logging_googleapis_com:user_${replace(var.name, "-", "_")}_${key}_sum{monitored_resource=\"cloud_run_revision\"}[$${__interval}])"
  }

  # A counter's increase, split by one label.
  counted = {
    for key, label in { deleted = "repository", errors = "message" } : key => {
      timeSeriesFilter = {
        filter = local.metric_type[key]
        aggregation = {
          alignmentPeriod    = "3600s"
          perSeriesAligner   = "ALIGN_DELTA"
          crossSeriesReducer = "REDUCE_SUM"
          groupByFields      = ["metric.label.\"${label}\""]
        }
      }
    }
  }

  dashboard_charts = [
    {
      title = "Manifests deleted, by repository"
      sets  = [{ timeSeriesQuery = local.counted.deleted, plotType = "STACKED_BAR", legendTemplate = "$${metric.labels.repository}" }]
    },
    {
      title = "Bytes freed at most, by repository"
      sets  = [{ timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.freed_bytes})", unitOverride = "By" }, plotType = "STACKED_BAR", legendTemplate = "$${repository}" }]
    },
    {
      title = "Deletions refused and failed, by repository"
      sets = [
        { timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.refused})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "refused $${repository}" },
        { timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.failed})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "failed $${repository}" },
      ]
    },
    {
      title = "Manifests that a dry run would delete, by repository (each run counts them again)"
      sets  = [{ timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.would_delete})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "$${repository}" }]
    },
    {
      title = "Seconds of a run: median and 95 of 100"
      sets = [
        for aligner, legend in { ALIGN_PERCENTILE_50 = "median", ALIGN_PERCENTILE_95 = "95 of 100" } : {
          timeSeriesQuery = {
            timeSeriesFilter = {
              filter = local.metric_type.run_seconds
              aggregation = {
                alignmentPeriod    = "3600s"
                perSeriesAligner   = "ALIGN_DELTA"
                crossSeriesReducer = replace(aligner, "ALIGN", "REDUCE")
              }
            }
          }
          plotType       = "LINE"
          legendTemplate = legend
        }
      ]
    },
    {
      title = "Errors, by message"
      sets  = [{ timeSeriesQuery = local.counted.errors, plotType = "STACKED_BAR", legendTemplate = "$${metric.labels.message}" }]
    },
  ]

  dashboard = {
    displayName = "${var.name}: what was pruned"
    mosaicLayout = {
      columns = 48
      tiles = concat(
        [
          for index, chart in local.dashboard_charts : {
            xPos   = index % 2 * 24
            yPos   = floor(index / 2) * 16
            width  = 24
            height = 16
            widget = {
              title = chart.title
              xyChart = {
                dataSets = [for set in chart.sets : merge(set, { minAlignmentPeriod = "3600s", targetAxis = "Y1" })]
                yAxis    = { label = "", scale = "LINEAR" }
              }
            }
          }
        ],
        [
          {
            xPos   = 0
            yPos   = 48
            width  = 48
            height = 20
            widget = {
              title = "What was deleted and why, what was refused, what went wrong"
              logsPanel = {
                # Among the warnings is a delivery that was refused (403), which Cloud Run's line of the request tells alone.
                filter        = "(${local.log_filter} AND (jsonPayload.message=~\"^manifest (would be )?deleted$\" OR severity=WARNING)) OR (${local.error_filter})"
                resourceNames = ["projects/${var.project_id}"]
              }
            }
          },
        ],
      )
    }
  }
}

resource "google_monitoring_dashboard" "this" {
  count = var.observability ? 1 : 0

  project        = var.project_id
  dashboard_json = jsonencode(local.dashboard)

  depends_on = [google_logging_metric.this]
}

# -- Alerts --

locals {
  # On the log, not on metrics: an alert on a metric that has never had a value cannot be created, and a line tells
  # which repository.
  alerts = {
    failed = {
      title   = "a run failed"
      filter  = "${local.error_filter} AND NOT jsonPayload.message=(\"message rejected\" OR \"permission denied\")"
      labels  = { repository = "EXTRACT(jsonPayload.repository)", message = "EXTRACT(jsonPayload.message)", error = "EXTRACT(jsonPayload.error)" }
      content = "A run ended with an error, a deletion failed for good, or the function did not start.  What may pass is delivered again by itself; the line's `error` tells the rest."
    }
    rejected = {
      title   = "messages rejected"
      filter  = "${local.error_filter} AND jsonPayload.message=\"message rejected\""
      labels  = { reason = "EXTRACT(jsonPayload.reason)" }
      content = "A message was not understood or not allowed, and will not be delivered again.  The line's `reason` tells why.  Somebody publishes to a topic who should not, or a format has changed."
    }
    denied = {
      title   = "permission denied"
      filter  = "${local.error_filter} AND jsonPayload.message=\"permission denied\""
      labels  = { repository = "EXTRACT(jsonPayload.repository)", permission = "EXTRACT(jsonPayload.permission)" }
      content = "The function was denied.  The line's `permission` names what is likely missing.  Usually a policy matches a repository that is not under `repositories`; just after a grant, wait some minutes."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = var.observability ? local.alerts : {}

  project               = var.project_id
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    condition_matched_log {
      filter           = each.value.filter
      label_extractors = each.value.labels
    }
  }

  alert_strategy {
    auto_close = "86400s"

    # Required of alerts on a log; at most one an hour, however many lines match.
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.title}"
    content   = each.value.content
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.this]
}
