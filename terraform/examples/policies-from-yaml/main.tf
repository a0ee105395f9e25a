module "cleaner" {
  source = "../.."

  project_id   = "acme-prod"
  region       = "us-central1"
  repositories = ["us-docker.pkg.dev/acme-prod/apps"]
  policies     = yamldecode(file("${path.module}/policies.yaml"))
}

output "policies" {
  value = module.cleaner.policies
}

output "sweep_commands" {
  value = module.cleaner.sweep_commands
}

output "prune_command" {
  value = module.cleaner.prune_command
}

output "logs_command" {
  value = module.cleaner.logs_command
}
