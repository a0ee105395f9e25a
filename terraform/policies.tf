# The one variable that decides what is deleted.  It stands alone and refers to nothing else, so that a test can
# put the same documents to it and to the function's own parser, and compare the verdicts.
#
# Why `any`: a typed object silently drops the keys that it does not know, so that `protect_tag = ["v.*"]` would
# plan, apply and protect nothing; and it turns "5" and 5 into one another.  With `any` the document arrives as it
# was written, and the validations below are its type: one for each key, which refuses a wrong type and a wrong
# value, and one for the keys themselves.  Positions are counted from 0, as the function counts them.
#
# How: jsonencode() shows a value's type by its spelling (5, "5", true, null, ["a"]), which is exactly what the
# function will read.  can(policy.KEY) is false where the key is absent, and then the function's default holds.
# && and || evaluate both sides, so what could raise an error stands in can() or try().  policies[*] makes a list of
# what is none, which the first validation refuses.
variable "policies" {
  description = <<-EOT
    What to keep and what to delete: a list of objects, the document of the function's POLICIES.  The first policy
    with a matching pattern in `repositories` decides; a repository that none matches is never touched.
    Keys: repositories (list of globs, required), keep (number, 5), keep_untagged (number, as keep), min_age
    (duration, "1h", at least "10m"), max_age (duration or null, null), delete_tags (list of regexes, []),
    protect_tags (list of regexes, []), group_by (regex with a group or null, null), max_deletions (number or null,
    null), dry_run (bool, false).  An unknown key is refused.
  EOT
  type        = any
  nullable    = false

  validation {
    condition     = can(regex("^\\[", jsonencode(var.policies))) && try(length(var.policies), 0) > 0
    error_message = "policies: must be a list of at least one policy."
  }

  validation {
    condition     = alltrue([for policy in var.policies[*] : can(keys(policy))])
    error_message = "policies: each must be an object like { repositories = [\"us-docker.pkg.dev/acme/apps/**\"], keep = 5 }."
  }

  validation {
    condition = length(setsubtract(
      flatten([for policy in var.policies[*] : try(keys(policy), [])]),
      ["repositories", "keep", "keep_untagged", "min_age", "max_age", "delete_tags", "protect_tags", "group_by", "max_deletions", "dry_run"],
    )) == 0
    error_message = format(
      "policies: unknown key %s; known are repositories, keep, keep_untagged, min_age, max_age, delete_tags, protect_tags, group_by, max_deletions, dry_run.",
      join(", ", flatten([
        for position, policy in var.policies[*] : [
          for key in try(keys(policy), []) : "policies[${position}].${key}"
          if !contains(["repositories", "keep", "keep_untagged", "min_age", "max_age", "delete_tags", "protect_tags", "group_by", "max_deletions", "dry_run"], key)
        ]
      ])),
    )
  }

  validation {
    # A segment is ** alone, or what a name can hold and *.
    condition = alltrue([
      for policy in var.policies[*] : try(
        can(regex("^\\[\"", jsonencode(policy.repositories))) && alltrue([
          for glob in policy.repositories : can(regex("^\"", jsonencode(glob))) && alltrue([
            for segment in split("/", glob) :
            segment == "**" || (can(regex("^[a-z0-9._:*-]+$", segment)) && !strcontains(segment, "**"))
          ])
        ]),
        false
      )
    ])
    error_message = format(
      "repositories: required, a list of at least one glob like \"us-docker.pkg.dev/acme/apps/**\", whose segments are ** or made of a-z 0-9 . _ : - *; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].repositories = ${try(jsonencode(policy.repositories), "nothing")}"]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.keep) || can(regex("^[1-9][0-9]*$", jsonencode(policy.keep)))
    ])
    error_message = format(
      "keep: must be a whole number of at least 1; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].keep = ${jsonencode(policy.keep)}" if can(policy.keep)]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.keep_untagged) || can(regex("^(0|[1-9][0-9]*)$", jsonencode(policy.keep_untagged)))
    ])
    error_message = format(
      "keep_untagged: must be a whole number of at least 0; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].keep_untagged = ${jsonencode(policy.keep_untagged)}" if can(policy.keep_untagged)]),
    )
  }

  validation {
    # The parts of an index arrive before the index: with less than 10m they could go in between.  The upper end is
    # what the function can hold.
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.min_age) || try(
        can(regex("^\"([0-9]{1,20}[smhdw])+\"$", jsonencode(policy.min_age)))
        && sum([
          for part in regexall("([0-9]+)([smhdw])", policy.min_age) :
          tonumber(part[0]) * { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }[part[1]]
        ]) >= 600
        && sum([
          for part in regexall("([0-9]+)([smhdw])", policy.min_age) :
          tonumber(part[0]) * { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }[part[1]]
        ]) < 86400 * pow(10, 9),
        false
      )
    ])
    error_message = format(
      "min_age: must be a duration like \"90m\", \"1h30m\" or \"30d\" of at least 10m; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].min_age = ${jsonencode(policy.min_age)}" if can(policy.min_age)]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.max_age) || try(jsonencode(policy.max_age) == "null", false) || try(
        can(regex("^\"([0-9]{1,20}[smhdw])+\"$", jsonencode(policy.max_age)))
        && sum([
          for part in regexall("([0-9]+)([smhdw])", policy.max_age) :
          tonumber(part[0]) * { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }[part[1]]
        ]) > 0
        && sum([
          for part in regexall("([0-9]+)([smhdw])", policy.max_age) :
          tonumber(part[0]) * { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }[part[1]]
        ]) < 86400 * pow(10, 9),
        false
      )
    ])
    error_message = format(
      "max_age: must be a duration like \"90m\", \"1h30m\" or \"30d\" longer than nothing, or null; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].max_age = ${jsonencode(policy.max_age)}" if can(policy.max_age)]),
    )
  }

  validation {
    # replace() with /…/ compiles the pattern by the engine of regex(), which is RE2 as the function's is; regex() itself
    # would also refuse a pattern for not matching, and one that mixes named and unnamed groups.  The function's engine,
    # which is in C++, takes two oddities that this one in Go refuses: \C, and group names that are not ASCII.
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.delete_tags) || try(
        can(regex("^\\[", jsonencode(policy.delete_tags))) && alltrue([
          for pattern in policy.delete_tags : can(regex("^\"", jsonencode(pattern))) && can(replace("", "/${pattern}/", ""))
        ]),
        false
      )
    ])
    error_message = format(
      "delete_tags: must be a list of regular expressions in RE2's syntax; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].delete_tags = ${jsonencode(policy.delete_tags)}" if can(policy.delete_tags)]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.protect_tags) || try(
        can(regex("^\\[", jsonencode(policy.protect_tags))) && alltrue([
          for pattern in policy.protect_tags : can(regex("^\"", jsonencode(pattern))) && can(replace("", "/${pattern}/", ""))
        ]),
        false
      )
    ])
    error_message = format(
      "protect_tags: must be a list of regular expressions in RE2's syntax; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].protect_tags = ${jsonencode(policy.protect_tags)}" if can(policy.protect_tags)]),
    )
  }

  validation {
    # With an empty first branch a pattern matches the empty text, and regex() gives a string where it has no group, a
    # list or an object where it has.  What compiles and still makes regex() fail mixes named and unnamed groups.
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.group_by) || try(jsonencode(policy.group_by) == "null", false) || try(
        can(regex("^\"", jsonencode(policy.group_by)))
        && can(replace("", "/${policy.group_by}/", ""))
        && (!can(regex("|${policy.group_by}", "")) || can(regex("^[\\[{]", jsonencode(regex("|${policy.group_by}", ""))))),
        false
      )
    ])
    error_message = format(
      "group_by: must be a regular expression in RE2's syntax with at least one group in parentheses, or null; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].group_by = ${jsonencode(policy.group_by)}" if can(policy.group_by)]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.max_deletions) || can(regex("^(null|[1-9][0-9]*)$", jsonencode(policy.max_deletions)))
    ])
    error_message = format(
      "max_deletions: must be a whole number of at least 1, or null; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].max_deletions = ${jsonencode(policy.max_deletions)}" if can(policy.max_deletions)]),
    )
  }

  validation {
    condition = alltrue([
      for policy in var.policies[*] : !can(policy.dry_run) || can(regex("^(true|false)$", jsonencode(policy.dry_run)))
    ])
    error_message = format(
      "dry_run: must be true or false; given: %s.",
      join(", ", [for position, policy in var.policies[*] : "policies[${position}].dry_run = ${jsonencode(policy.dry_run)}" if can(policy.dry_run)]),
    )
  }
}
