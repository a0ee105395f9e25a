# One repository, of which the newest 10 untagged images are kept and every image with a tag.  A dry run.

module "cleaner" {
  source = "../.."

  project_id   = "acme-prod"
  region       = "us-central1"
  repositories = ["us-docker.pkg.dev/acme-prod/apps"]
  policies     = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], untagged = { keep = 10 } }]
}

output "logs_command" {
  value = module.cleaner.logs_command
}
