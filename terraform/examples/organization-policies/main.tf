# A project in which much is forbidden: Google's keys, the Internet, creating accounts, unsigned images, and Cloud Build's
# default pool.  What is named here exists already.

module "cleaner" {
  source = "../.."

  project_id   = "acme-prod"
  region       = "us-central1"
  repositories = ["us-docker.pkg.dev/acme-prod/apps"]
  policies     = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], untagged = { keep = 10 } }]

  kms_key_name = "projects/acme-keys/locations/us-central1/keyRings/cleaner/cryptoKeys/cleaner"

  vpc = {
    network    = "projects/acme-network/global/networks/shared"
    subnetwork = "projects/acme-network/regions/us-central1/subnetworks/functions"
    tags       = ["registry-cleaner"]
    egress     = "ALL_TRAFFIC"
  }

  service_accounts = {
    run     = "cleaner-run@acme-prod.iam.gserviceaccount.com"
    trigger = "cleaner-trigger@acme-prod.iam.gserviceaccount.com"
    build   = "cleaner-build@acme-prod.iam.gserviceaccount.com"
  }

  binary_authorization_policy = "projects/acme-prod/platforms/cloudRun/policies/signed"
  worker_pool                 = "projects/acme-prod/locations/us-central1/workerPools/private"

  running_scopes = ["organizations/456"]
  running_role   = "organizations/456/roles/runningImages"
}
