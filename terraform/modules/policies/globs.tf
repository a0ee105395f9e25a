# What is known of each glob: whether it can match an image's name, and if not, which other glob can.
# As in cleaner/core/glob.py, which has the reasons.

locals {
  # The Artifact Registry location of the repositories of each gcr.io host.
  gcr_locations = { "gcr.io" = "us", "us.gcr.io" = "us", "eu.gcr.io" = "europe", "asia.gcr.io" = "asia" }
  # LOCATION-docker.pkg.dev/PROJECT/HOST[/IMAGE], where a domain-scoped project has two segments.
  alias = "^([a-z]+)-docker\\.pkg\\.dev/([^/.]*|[^/]*\\.[^/]*/[^/]*)/([^/]+)(?:/(.*))?$"

  written_globs = toset(local.globs[*].value)

  # Corrections, one after the other; each leaves a glob as it is that does not need it.
  globs_without_scheme = { for glob in local.written_globs : glob => replace(glob, "/^(?s:.*):///", "") }
  globs_without_tag = {
    for glob, text in local.globs_without_scheme : glob => replace(text, "/^([^/]*/.*?)(?:@.*|:[^/]*)$/", "$1")
  }
  globs_lowered = { for glob, text in local.globs_without_tag : glob => lower(join("/", compact(split("/", text)))) }
  globs_without_alias = {
    for glob, text in local.globs_lowered : glob => contains(local.aliases, text) ? try(
      join("/", compact([regex(local.alias, text)[2], regex(local.alias, text)[1], regex(local.alias, text)[3]])), text
    ) : text
  }
  aliases = [
    for text in concat(tolist(local.written_globs), values(local.globs_lowered)) : text
    # As several segments, ** may be a project with a repository in which images have such names.
    if try(local.gcr_locations[regex(local.alias, text)[2]] == regex(local.alias, text)[0] && !strcontains(regex(local.alias, text)[1], "**"), false)
  ]

  # The segments of what was written, and of what may be a correction.
  glob_segments = {
    for text in setunion(local.written_globs, values(local.globs_without_alias), [for text in values(local.globs_without_alias) : "${text}/**"]) :
    text => split("/", text)
  }

  glob_hosts = {
    for text, segments in local.glob_segments : text => {
      may_be_gcr = anytrue([
        for host in keys(local.gcr_locations) :
        can(regex("^${replace(replace(segments[0], ".", "\\."), "*", "[^/]*")}$", host))
      ])
      may_be_artifact_registry = strcontains(segments[0], "*") ? (
        # What stands before the first wildcard and behind the last has to be the beginning and the end of such a host.
        can(regex("^[a-z0-9-]*(\\.(p(k(g(\\.(d(ev?)?)?)?)?)?)?)?$", split("*", segments[0])[0]))
        && (
          endswith("-docker.pkg.dev", reverse(split("*", segments[0]))[0])
          || can(regex("^[a-z0-9-]*-docker\\.pkg\\.dev$", reverse(split("*", segments[0]))[0]))
        )
      ) : can(regex("^[a-z]+(-[a-z]+[0-9]+)?-docker\\.pkg\\.dev$", segments[0]))
    }
  }

  # Of several problems the first is shown; empty if there is none.
  glob_problems = {
    for text, segments in local.glob_segments : text => concat(
      [for problem in ["is a URL; a glob is for HOST/PATH"] : problem if strcontains(text, "://")],
      [
        for problem in ["has a tag or digest, and names of repositories have none"] : problem
        if strcontains(text, "@") || anytrue([for at, segment in segments : at > 0 && strcontains(segment, ":")])
      ],
      [
        for segment in segments :
        segment == "" ? "has an empty segment" : "has ** in the segment '${segment}', which must be ** alone"
        if segment == "" || (strcontains(segment, "**") && segment != "**")
      ],
      [
        for at, segment in segments : "has characters that no name has in the segment '${replace(segment, "\n", "\\n")}'"
        if !can(regex(at == 0 ? "^[a-z0-9._:*-]+$" : "^[a-z0-9._*-]+$", segment))
      ],
      [
        for host in [segments[0]] :
        can(regex("[.:*]|^localhost$", host)) ? "is on the host ${host}, which is not allowed" : "has no host; a glob is for HOST/PATH, like us-docker.pkg.dev/acme/apps/**"
        if !local.glob_hosts[text].may_be_gcr && !local.glob_hosts[text].may_be_artifact_registry
      ],
      [for problem in ["is an alias, which is read as another name"] : problem if contains(local.aliases, text)],
      [
        # gcr.io/PROJECT/IMAGE, LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE, and one more with a domain.
        for problem in ["has too few segments for an image's name"] : problem
        if !contains(segments, "**") && length(segments) < (local.glob_hosts[text].may_be_gcr ? 3 : 4) + try(strcontains(trim(segments[1], "."), ".") ? 1 : 0, 0)
      ],
      [""],
    )[0]
  }

  glob_corrections = {
    for glob, text in local.globs_without_alias :
    glob => try([for one in [text, "${text}/**"] : one if one != glob && local.glob_problems[one] == ""][0], "")
  }

  glob_mistakes = [
    for item in local.globs : {
      policy = item.policy
      path   = item.path
      text = join("", [
        "${local.shown[item.path]} ${local.glob_problems[item.value]}",
        local.glob_corrections[item.value] == "" ? "" : "; write ${local.glob_corrections[item.value]}",
      ])
    }
    if local.glob_problems[item.value] != ""
  ]
}
