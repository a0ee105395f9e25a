# What the dashboard shows.  Google's API drops 0 and "" from what it is given, and every plan would want them back: none
# is written here.

locals {
  # A project may show the metrics of others, where the module has the same names.
  metric_type = { for key, metric in local.metrics : key => "metric.type=\"logging.googleapis.com/user/${var.name}/${key}\" resource.type=\"cloud_run_revision\" resource.labels.project_id=\"${var.project_id}\"" }
  # The same metric as PromQL spells it; `_sum` is a distribution's sum.
  promql_name   = { for key, metric in local.metrics : key => "logging_googleapis_com:user_${replace(var.name, "-", "_")}_${key}" }
  promql_labels = "monitored_resource=\"cloud_run_revision\",project_id=\"${var.project_id}\""
  metric_sum = {
    for key, name in local.promql_name : key => "increase(${name}_sum{${local.promql_labels}}[$${__interval}])"
  }

  # A pattern for many: an alert's filter has 2,048 characters at most.
  delivered = (
    length(var.other_gcr_projects) > 0
    ? "monitoring.regex.full_match(\"${var.name}-(requests|gcr|gcr-.+)\")"
    : "one_of(\"${var.name}-gcr\",\"${google_pubsub_topic.requests.name}\")"
  )
  delivery_filter = "resource.type=\"pubsub_subscription\" AND resource.labels.project_id=\"${var.project_id}\" AND resource.labels.subscription_id=${local.delivered}"

  # What was counted in each minute; the console takes longer periods for longer times.
  period = "60s"

  # A counter's increase, split by labels.
  counted = {
    for key, counter in {
      deleted     = { filter = local.metric_type.deleted, labels = ["metric.label.\"repository\""] }
      interrupted = { filter = local.metric_type.interrupted, labels = ["metric.label.\"repository\"", "metric.label.\"root\""] }
      errors      = { filter = local.metric_type.errors, labels = ["metric.label.\"message\""] }
      deliveries = {
        filter = "metric.type=\"pubsub.googleapis.com/subscription/push_request_count\" AND ${local.delivery_filter}"
        labels = ["metric.label.\"response_class\"", "metric.label.\"response_code\""]
      }
      } : key => {
      timeSeriesFilter = {
        filter = counter.filter
        aggregation = {
          alignmentPeriod    = local.period
          perSeriesAligner   = "ALIGN_DELTA"
          crossSeriesReducer = "REDUCE_SUM"
          groupByFields      = counter.labels
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
      sets  = [{ timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.freed_bytes})", unitOverride = "By" }, plotType = "STACKED_BAR", legendTemplate = "$${labels.repository}" }]
    },
    {
      title = "Deletions refused and failed, by repository"
      sets = [
        { timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.refused})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "refused $${labels.repository}" },
        { timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.failed})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "failed $${labels.repository}" },
      ]
    },
    {
      title = "Manifests that a dry run would delete, by repository (each run counts them again)"
      sets  = [{ timeSeriesQuery = { prometheusQuery = "sum by (repository) (${local.metric_sum.would_delete})", unitOverride = "1" }, plotType = "STACKED_BAR", legendTemplate = "$${labels.repository}" }]
    },
    {
      title = "Seconds of a run: median and 95 of 100"
      sets = [
        for aligner, legend in { ALIGN_PERCENTILE_50 = "median", ALIGN_PERCENTILE_95 = "95 of 100" } : {
          timeSeriesQuery = {
            timeSeriesFilter = {
              filter = local.metric_type.run_seconds
              aggregation = {
                alignmentPeriod    = local.period
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
      title = "Interrupted runs and sweeps, by repository or root"
      sets  = [{ timeSeriesQuery = local.counted.interrupted, plotType = "STACKED_BAR", legendTemplate = "$${metric.labels.repository}$${metric.labels.root}" }]
    },
    {
      title = "Deliveries, by what became of them"
      sets  = [{ timeSeriesQuery = local.counted.deliveries, plotType = "STACKED_BAR", legendTemplate = "$${metric.labels.response_class} $${metric.labels.response_code}" }]
    },
    {
      title = "Age of the oldest message that is not acknowledged, by subscription"
      sets = [{
        timeSeriesQuery = {
          timeSeriesFilter = {
            filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local.delivery_filter}"
            aggregation = {
              alignmentPeriod    = local.period
              perSeriesAligner   = "ALIGN_MAX"
              crossSeriesReducer = "REDUCE_MAX"
              groupByFields      = ["resource.label.\"subscription_id\""]
            }
          }
        }
        plotType       = "LINE"
        legendTemplate = "$${resource.labels.subscription_id}"
      }]
    },
    {
      title = "Memory of an instance, of ${var.memory_mib} MiB"
      sets = [{
        timeSeriesQuery = {
          timeSeriesFilter = {
            filter = "metric.type=\"run.googleapis.com/container/memory/utilizations\" resource.type=\"cloud_run_revision\" resource.labels.project_id=\"${var.project_id}\" resource.labels.service_name=\"${var.name}\" resource.labels.location=\"${var.region}\""
            aggregation = {
              alignmentPeriod    = local.period
              perSeriesAligner   = "ALIGN_PERCENTILE_99"
              crossSeriesReducer = "REDUCE_MAX"
            }
          }
        }
        plotType       = "LINE"
        legendTemplate = "99 of 100"
      }]
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
          for index, chart in local.dashboard_charts : merge(
            { for key, value in { xPos = index % 2 * 24, yPos = floor(index / 2) * 16 } : key => value if value > 0 },
            {
              width  = 24
              height = 16
              widget = {
                title = chart.title
                xyChart = {
                  dataSets = [for set in chart.sets : merge(set, { minAlignmentPeriod = local.period, targetAxis = "Y1" })]
                  yAxis    = { scale = "LINEAR" }
                }
              }
            },
          )
        ],
        [
          {
            yPos   = ceil(length(local.dashboard_charts) / 2) * 16
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
