# With running_scopes the function asks Cloud Asset Inventory which images are deployed, on exactly those scopes.

locals {
  # What a scope is, and its ID.
  running = {
    for scope in var.running_scopes : scope => { kind = split("/", scope)[0], id = split("/", scope)[1] }
  }
  # The role that is granted on each project: listing there, and in the function's own project the right to spend its
  # quota on the question.  (Without a quota project of its own, a request counts on the project of its account.)
  running_projects = {
    for project in setunion(
      [for scope in local.running : scope.id if scope.kind == "projects"],
      length(var.running_scopes) > 0 ? [var.project_id] : [],
    ) :
    project => {
      permissions = concat(
        contains(var.running_scopes, "projects/${project}") ? ["cloudasset.assets.listResource"] : [],
        project == var.project_id ? ["serviceusage.services.use"] : [],
      )
      predefined = concat(
        contains(var.running_scopes, "projects/${project}") ? ["roles/cloudasset.viewer"] : [],
        project == var.project_id ? ["roles/serviceusage.serviceUsageConsumer"] : [],
      )
    }
  }

  running_grants = merge([
    for project, rights in local.running_projects : (
      var.use_custom_role
      ? { "${project} custom" = { project = project, role = null } }
      : { for role in rights.predefined : "${project} ${role}" => { project = project, role = role } }
    )
  ]...)
}

resource "google_project_iam_custom_role" "running" {
  for_each = var.use_custom_role ? local.running_projects : {}

  project     = each.key
  role_id     = "${replace(var.name, "-", "_")}_running${each.key == var.project_id ? "" : "_${substr(sha256(var.project_id), 0, 8)}"}"
  title       = "${var.name}: lists what is running"
  description = "What the function ${var.name} of ${var.project_id} calls to find deployed images"
  permissions = each.value.permissions

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "running" {
  for_each = local.running_grants

  project = each.value.project
  role    = coalesce(each.value.role, try("projects/${each.value.project}/roles/${google_project_iam_custom_role.running[each.value.project].role_id}", null))
  member  = local.members.run
}

# A folder has no custom roles of its own, and creating one in an organization is for its administrators: running_role.
resource "google_folder_iam_member" "running" {
  for_each = { for scope, parts in local.running : scope => parts if parts.kind == "folders" }

  folder = each.key
  role   = var.running_role
  member = local.members.run
}

resource "google_organization_iam_member" "running" {
  for_each = { for scope, parts in local.running : scope => parts if parts.kind == "organizations" }

  org_id = each.value.id
  role   = var.running_role
  member = local.members.run
}
