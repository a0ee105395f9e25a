# Who is told, and of what.

locals {
  # On the log where a line tells what went wrong.  Each combination of the labels' values notifies on its own: so a label
  # is what takes few values, and neither a repository nor an error's text.
  log_alerts = {
    failed = {
      title   = "a run failed"
      filter  = "${local.error_filter} AND NOT jsonPayload.message=(\"message rejected\" OR \"permission denied\")"
      labels  = { message = "EXTRACT(jsonPayload.message)" }
      content = "A run ended with an error, a message was interrupted in its fifth delivery or a later one, a deletion failed permanently, or the function did not start.  An interrupted message is delivered again by itself.  `repository` and `error` in the log lines say what went wrong."
    }
    rejected = {
      title   = "messages rejected"
      filter  = "${local.error_filter} AND jsonPayload.message=\"message rejected\""
      labels  = {}
      content = "A message was not understood or not allowed, and will not be delivered again.  `reason` in the log lines says why.  Somebody publishes to a topic who should not, or a format has changed."
    }
    denied = {
      title   = "permission denied"
      filter  = "${local.error_filter} AND jsonPayload.message=\"permission denied\""
      labels  = { permission = "EXTRACT(jsonPayload.permission)" }
      content = "The function lacks a permission.  `permission` in the log lines is what is likely missing, `repository` is where.  Usually a policy matches a repository that is not under `repositories`; a new grant takes some minutes."
    }
    # From here on the lines are not the function's, which is not called.
    removed = {
      title = "delivery removed"
      # The log names the project by its ID or its number.  Denied requests are errors.
      filter = join(" AND ", [
        "log_id(\"cloudaudit.googleapis.com/activity\")",
        "severity<ERROR",
        "protoPayload.methodName=~\"^google[.]pubsub[.]v1[.].*[.](DeleteTopic|DeleteSubscription|DetachSubscription)$\"",
        "protoPayload.resourceName=~\"/(topics/gcr|topics/${google_pubsub_topic.requests.name}|subscriptions/${var.name}-(requests|gcr|gcr-.+))$\"",
      ])
      labels  = {}
      content = "A topic or a subscription that pushes and requests come by was deleted or detached: nothing is delivered there any more.  The lines' `protoPayload.resourceName` names it, `terraform apply` creates it again."
    }
    schedule = {
      title   = "sweeps not requested"
      filter  = "resource.type=\"cloud_scheduler_job\" AND resource.labels.location=\"${var.region}\" AND resource.labels.job_id=~\"^${var.name}-sweep-\" AND severity>=ERROR"
      labels  = {}
      content = "Cloud Scheduler could not publish a request to sweep.  Its service agent may have lost `roles/cloudscheduler.serviceAgent` on the project, or the topic for requests is gone."
    }
  }

  # On Pub/Sub's metrics where the function is not even called, and so writes no line.
  delivery_alerts = {
    waiting = {
      title     = "messages wait"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local.delivery_filter}"
      period    = "300s"
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 2 * 60 * 60
      content   = "A message has not been handled for two hours.  Nothing is lost: it is delivered again, and the next push or sweep does the same."
    }
    dead_letters = {
      title     = "messages given up"
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/dead_letter_message_count\" AND ${local.delivery_filter}"
      period    = "300s"
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      content   = "A message was not handled in a hundred deliveries, and is now in the subscription `${google_pubsub_subscription.dead_letters.name}`.  The repository that it names is pruned with its next push or sweep."
    }
    refused = {
      title = "deliveries refused"
      # The function responds with no 4xx of its own to a message.  429 is Cloud Run's while every instance is busy.
      filter    = "metric.type=\"pubsub.googleapis.com/subscription/push_request_count\" AND ${local.delivery_filter} AND metric.labels.response_class=\"remote_server_4xx\" AND metric.labels.response_code!=monitoring.regex.full_match(\".*(429|exhausted).*\")"
      period    = "600s"
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      content   = "Cloud Run refused a delivery before it reached the function, usually with 401, 403 or 404.  The trigger's account may have lost `roles/run.invoker`, Pub/Sub's service agent may have lost the right to create its tokens, or the service's ingress setting was changed.  `terraform plan` shows what is missing."
    }
  }

  # PromQL does not ask for a log-based metric to be known, which takes minutes after its creation.
  deletions_query = "sum(increase(${local.promql_name.deleted}{${local.promql_labels}}[1h])) > ${coalesce(var.alert_deletions_per_hour, 0)}"

  alerts = merge(
    {
      for key, alert in local.log_alerts : key => merge(alert, {
        # As the console reads it: there + is no space.
        content = "${alert.content}\n\n[The lines](https://console.cloud.google.com/logs/query;query=${replace(urlencode(alert.filter), "+", "%20")}?project=${var.project_id})"
        log     = [alert], metric = [], query = []
      }) if key != "schedule" || length(var.sweep_roots) > 0
    },
    {
      for key, alert in local.delivery_alerts : key => merge(alert, {
        content = "${alert.content}  docs/operations.md of the registry cleaner, \"A push, and nothing happens\", follows a push to the function's log, step by step."
        log     = [], metric = [alert], query = []
      })
    },
    {
      for key, alert in {
        deletions = {
          title   = "many deletions"
          content = "More manifests were deleted in an hour than `alert_deletions_per_hour` allows.  To stop deleting, set `dry_run = true` and apply; the log names every manifest with the reason why it was deleted."
        }
        } : key => merge(alert, {
          log = [], metric = [], query = [local.deletions_query]
      }) if var.alert_deletions_per_hour != null
    },
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.observability ? var.notification_emails : []

  project      = var.project_id
  display_name = "${var.name}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
  user_labels  = var.labels

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = { for key, alert in local.alerts : key => alert if var.observability }

  project               = var.project_id
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = concat(var.notification_channels, [for channel in google_monitoring_notification_channel.email : channel.id])
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    dynamic "condition_matched_log" {
      for_each = each.value.log

      content {
        filter           = condition_matched_log.value.filter
        label_extractors = condition_matched_log.value.labels
      }
    }

    dynamic "condition_threshold" {
      for_each = each.value.metric

      content {
        filter          = condition_threshold.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = condition_threshold.value.threshold
        duration        = "0s"

        aggregations {
          alignment_period     = condition_threshold.value.period
          per_series_aligner   = condition_threshold.value.aligner
          cross_series_reducer = condition_threshold.value.reducer
          group_by_fields      = ["resource.label.subscription_id"]
        }
      }
    }

    dynamic "condition_prometheus_query_language" {
      for_each = each.value.query

      content {
        query                     = condition_prometheus_query_language.value
        duration                  = "0s"
        evaluation_interval       = "300s"
        disable_metric_validation = true
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"

    # Required of alerts on a log, and of no others: one an hour for each combination of labels.
    dynamic "notification_rate_limit" {
      for_each = each.value.log

      content {
        period = "3600s"
      }
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.title}"
    content   = each.value.content
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.this, google_logging_metric.this]
}

# Warns at plan time: incidents that only the console shows are seen by nobody until images are missing.
check "somebody_is_told" {
  assert {
    condition     = var.dry_run || !var.observability || length(var.notification_channels) + length(var.notification_emails) > 0
    error_message = "The function deletes, and nobody is told when it fails: set notification_emails or notification_channels."
  }
}
