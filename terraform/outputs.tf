output "function_name" {
  description = "Name of the function, and of the Cloud Run service that carries it."
  value       = google_cloudfunctions2_function.this.name
}

output "function_service_account" {
  description = "Address of the account that the function runs as: it reads and deletes."
  value       = local.addresses.run
}

output "trigger_service_account" {
  description = "Address of the account that delivers messages: it may invoke the function."
  value       = local.addresses.trigger
}

output "build_service_account" {
  description = "Address of the account that builds the function."
  value       = local.addresses.build
}

output "gcr_topic" {
  description = "Topic that announces pushes, as `projects/P/topics/gcr`."
  value       = local.gcr_topic
}

output "requests_topic" {
  description = "Topic that takes requests to prune and to sweep, as `projects/P/topics/T`."
  value       = local.requests_topic
}

output "policies" {
  description = "The function's POLICIES, as JSON."
  value       = jsonencode(module.policies.policies)
}

output "dashboard_url" {
  description = "Address of the dashboard; null without `observability`."
  value       = one([for dashboard in google_monitoring_dashboard.this : "https://console.cloud.google.com/monitoring/dashboards/builder/${basename(dashboard.id)}?project=${var.project_id}"])
}

output "logs_command" {
  description = "Command that shows what was deleted, or in a dry run would be, within the last day."
  value = join(" ", [
    "gcloud logging read",
    "'${local.log_filter} AND jsonPayload.message=~\"^manifest (would be )?deleted$\"'",
    "--project=${var.project_id} --freshness=1d",
    "--format='table(timestamp, jsonPayload.message, jsonPayload.repository, jsonPayload.digest, jsonPayload.tags.list(), jsonPayload.reason, jsonPayload.uploaded)'",
  ])
}

output "prune_command" {
  description = "Command that asks for one repository to be pruned; put the repository's name in place of REPOSITORY."
  value       = "gcloud pubsub topics publish ${local.requests_topic} --message='{\"action\":\"PRUNE\",\"repository\":\"REPOSITORY\"}'"
}

# Text, not a map: `terraform output -raw` prints it as a shell takes it, and only text.
output "sweep_commands" {
  description = "For each of `repositories`, on a line of its own, the command that asks for everything in it to be pruned."
  value = join("", [
    for repository in var.repositories :
    "gcloud pubsub topics publish ${local.requests_topic} --message='{\"action\":\"SWEEP\",\"repository\":\"${repository}\"}'\n"
  ])
}
