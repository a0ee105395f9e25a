# With running_scopes the function asks Cloud Asset Inventory which images are deployed, on exactly those scopes.

locals {
  running_roles = [
    "roles/cloudasset.viewer",
    # To be allowed to spend the scope's quota on the question.
    "roles/serviceusage.serviceUsageConsumer",
  ]

  running_grants = {
    for pair in setproduct(var.running_scopes, local.running_roles) :
    "${pair[0]} ${pair[1]}" => {
      kind = split("/", pair[0])[0]
      id   = split("/", pair[0])[1]
      role = pair[1]
    }
  }
}

resource "google_project_iam_member" "running" {
  for_each = { for key, grant in local.running_grants : key => grant if grant.kind == "projects" }

  project = each.value.id
  role    = each.value.role
  member  = google_service_account.run.member
}

resource "google_folder_iam_member" "running" {
  for_each = { for key, grant in local.running_grants : key => grant if grant.kind == "folders" }

  folder = "folders/${each.value.id}"
  role   = each.value.role
  member = google_service_account.run.member
}

resource "google_organization_iam_member" "running" {
  for_each = { for key, grant in local.running_grants : key => grant if grant.kind == "organizations" }

  org_id = each.value.id
  role   = each.value.role
  member = google_service_account.run.member
}
