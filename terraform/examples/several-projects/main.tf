# Repositories of three projects; one of them is created here.  Pushes in each are pruned, all are swept once a week, and
# nothing is deleted that is deployed in any of the projects.

resource "google_artifact_registry_repository" "jobs" {
  # With its project: only what is written here is known to a plan.
  project       = "acme-data"
  location      = "europe"
  repository_id = "jobs"
  format        = "DOCKER"
}

locals {
  repositories = [
    "europe-docker.pkg.dev/acme-prod/apps",
    # Not registry_uri, which is known only once the repository is there.
    join("/", [
      "${google_artifact_registry_repository.jobs.location}-docker.pkg.dev",
      google_artifact_registry_repository.jobs.project,
      google_artifact_registry_repository.jobs.repository_id,
    ]),
    "gcr.io/acme-legacy",
  ]
}

module "cleaner" {
  source = "../.."

  project_id         = "acme-prod"
  region             = "europe-west3"
  repositories       = local.repositories
  other_gcr_projects = ["acme-data", "acme-legacy"]
  sweep_roots        = ["all"]
  running_scopes     = ["projects/acme-prod", "projects/acme-data", "projects/acme-legacy"]

  policies = [{
    repositories = [for repository in local.repositories : "${repository}/**"]
    tagged = [
      { match = "v[0-9]+\\.[0-9]+\\.[0-9]+|latest", keep = "all" },
      { match = "(.+)-[0-9a-f]{7}", keep = 10 },
    ]
  }]
}
