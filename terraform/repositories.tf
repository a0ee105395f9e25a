# What the function may do in the repositories that it prunes: granted on each of them, never on a project.

locals {
  # The gcr.io hosts are Artifact Registry repositories of the same name, each in its place.
  gcr_locations = { "gcr.io" = "us", "us.gcr.io" = "us", "eu.gcr.io" = "europe", "asia.gcr.io" = "asia" }

  # HOST/[DOMAIN/]PROJECT[/REPOSITORY]; a first segment with a dot is the domain of a domain-scoped project.
  repository_parts = {
    for name in var.repositories : name =>
    regex("^(?P<host>[^/]+)/(?:(?P<domain>[^/]*\\.[^/]*)/)?(?P<project>[^/]+)(?:/(?P<repository>[^/]+))?$", name)
  }

  repositories = {
    for name, parts in local.repository_parts : name => {
      project    = parts.domain == null ? parts.project : "${parts.domain}:${parts.project}"
      location   = lookup(local.gcr_locations, parts.host, trimsuffix(parts.host, "-docker.pkg.dev"))
      repository = coalesce(parts.repository, parts.host)
    }
  }

  # Which call needs which permission, after Artifact Registry's page on audit logging, which has every method of the
  # registry's own protocol with the permission that it checks.
  reading_permissions = [
    # GET tags/list, GET and HEAD of a manifest.
    "artifactregistry.repositories.downloadArtifacts",
    # REST repositories.get: a sweep leaves out repositories that are remote or virtual.
    "artifactregistry.repositories.get",
    # REST packages.list: a sweep finds the images.
    "artifactregistry.packages.list",
    # REST versions.list: what is asked when tags/list is cut short.
    "artifactregistry.versions.list",
  ]
  deleting_permissions = [
    # DELETE of a tag and of a manifest.  (tags.delete and versions.delete are what the REST API checks; the function
    # does not delete by it.)
    "artifactregistry.repositories.deleteArtifacts",
  ]

  # Another project may hold the roles of several cleaners of the same name.
  custom_role_ids = {
    for project in toset([for repository in local.repositories : repository.project]) :
    project => join("_", concat([replace(var.name, "-", "_"), "run"], project == var.project_id ? [] : [substr(sha256(var.project_id), 0, 8)]))
  }
}

# One in each project: a project's custom role can only be granted on what is in the same project.
resource "google_project_iam_custom_role" "run" {
  for_each = var.use_custom_role ? local.custom_role_ids : {}

  project     = each.key
  role_id     = each.value
  title       = "${var.name}: prunes repositories"
  description = "What the function ${var.name} of ${var.project_id} calls"
  # In a dry run the function asks for no more than reading, and cannot do more either.
  permissions = concat(local.reading_permissions, var.dry_run ? [] : local.deleting_permissions)

  depends_on = [google_project_service.this]
}

resource "google_artifact_registry_repository_iam_member" "run" {
  for_each = local.repositories

  project    = each.value.project
  location   = each.value.location
  repository = each.value.repository
  member     = local.members.run

  # The role's ID in full, which is known when the plan is made (`.id` is not), and still follows the role's creation.
  role = (
    var.use_custom_role
    ? "projects/${each.value.project}/roles/${google_project_iam_custom_role.run[each.value.project].role_id}"
    : var.dry_run ? "roles/artifactregistry.reader" : "roles/artifactregistry.repoAdmin"
  )
}

module "repository" {
  source   = "./modules/repository"
  for_each = var.check_repositories ? local.repositories : {}

  name       = each.key
  repository = each.value
}

# -- Whether policies and repositories meet --

locals {
  # Each glob, by where it stands, as its segments before the first `**`; `**` takes as many more as it needs.
  globs = merge([
    for position, policy in module.policies.policies : {
      for at, glob in [for glob in policy.repositories : glob] : "policies[${position}].repositories[${at}]" => {
        text  = glob
        fixed = try(slice(split("/", glob), 0, index(split("/", glob), "**")), split("/", glob))
        open  = contains(split("/", glob), "**")
      }
    }
  ]...)

  # For each glob, those of `repositories` under which it can match an image.  An image's name has at least one segment
  # more than its repository's: LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE, gcr.io/PROJECT/IMAGE.  So the segments
  # that both have must match, and the glob must go on.
  reached = {
    for path, glob in local.globs : path => [
      for repository in var.repositories : repository
      if(glob.open || length(glob.fixed) > length(split("/", repository))) && can(regex(
        format("^%s(/|$)", join("/", [
          for segment in slice(glob.fixed, 0, min(length(glob.fixed), length(split("/", repository)))) :
          replace(replace(segment, ".", "\\."), "*", "[^/]*")
        ])),
        # A glob that begins with `**` has no segment to compare.
        length(glob.fixed) == 0 ? "/" : repository
      ))
      # What the function never matches by a wildcard.
      && (!contains(split("/", repository), "gcf-artifacts") || contains(split("/", glob.text), "gcf-artifacts"))
    ]
  }

  idle_globs        = [for path, repositories in local.reached : "${path} (${local.globs[path].text})" if length(repositories) == 0]
  idle_repositories = setsubtract(var.repositories, flatten(values(local.reached)))
}

# Warnings at plan time, not errors: rights may also have been granted elsewhere.
check "policies_and_repositories_meet" {
  assert {
    condition = length(local.idle_globs) == 0
    error_message = format(
      "Policies have globs that can match no image in any of `repositories`: %s.  Outside of them the function is denied.",
      join(", ", local.idle_globs),
    )
  }

  assert {
    condition = length(local.idle_repositories) == 0
    error_message = format(
      "No policy has a glob that can match an image in %s: the function gets rights there that it does not use.",
      join(", ", local.idle_repositories),
    )
  }
}
