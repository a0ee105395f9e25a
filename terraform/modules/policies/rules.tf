# What is wrong only beside something else: durations beside durations, rules beside rules, policies beside policies.

locals {
  # -- Durations --

  durations = merge(
    # The function's default.
    {
      for object in local.objects : "${object.path}.min_age" => { seconds = 3600, text = "1h" }
      if object.kind == "policy" && !can(object.given.min_age)
    },
    {
      for value in local.values : value.path => {
        seconds = sum([
          for part in regexall("([0-9]+)([smhdw])", value.value) :
          tonumber(part[0]) * { s = 1, m = 60, h = 3600, d = 86400, w = 604800 }[part[1]]
        ])
        text = trim(local.shown[value.path], "'")
      }
      if contains(["duration", "min_age"], value.type) && value.is_valid
    },
  )
  # The longest that the function can hold is shorter than this.
  durations_end   = 86400 * 1000 * 1000 * 1000
  valid_durations = { for path, duration in local.durations : path => duration if duration.seconds < local.durations_end }

  duration_mistakes = concat(
    [
      for value in local.values :
      { policy = value.policy, path = value.path, text = "${local.shown[value.path]} is too long a duration" }
      if try(local.durations[value.path].seconds >= local.durations_end, false)
    ],
    [
      for value in local.values :
      { policy = value.policy, path = value.path, text = "must be 10m or more, not ${local.durations[value.path].text}" }
      if value.type == "min_age" && try(local.valid_durations[value.path].seconds < 600, false)
    ],
  )

  # -- Rules --

  rules = [for object in local.objects : object if object.kind != "policy"]

  rule_mistakes = concat(
    [
      for rule in local.rules :
      { policy = rule.policy, path = rule.path, text = "has no effect: it needs keep, keep_within or delete_after" }
      if length(setintersection(keys(rule.given), ["keep", "keep_within", "delete_after"])) == 0
    ],
    [
      for rule in local.rules : {
        policy = rule.policy
        path   = "${rule.path}.delete_after"
        text   = "has no effect where keep is 0${can(rule.given.keep) ? "" : ", its default with keep_within"}; remove it, or set keep"
      }
      if can(local.valid_durations["${rule.path}.delete_after"])
      && (can(rule.given.keep) ? try(jsonencode(rule.given.keep) == "0", false) : can(local.valid_durations["${rule.path}.keep_within"]))
    ],
    flatten([
      for rule in local.rules : [
        for key, path in {
          keep_within = "${rule.path}.keep_within"
          min_age     = "policies[${rule.policy}].min_age"
          } : {
          policy = rule.policy
          path   = "${rule.path}.delete_after"
          text = format(
            "%s must be longer than %s, which is %s",
            local.durations["${rule.path}.delete_after"].text, key, local.durations[path].text,
          )
        }
        if try(local.valid_durations["${rule.path}.delete_after"].seconds <= local.valid_durations[path].seconds, false)
      ]
    ]),
  )

  # The rules that match every tag, and their positions in `tagged` by policy.
  catch_all_paths = toset([for item in local.regexes : item.object if contains(local.catch_all_regexes, item.value)])
  catch_alls = {
    for place in local.places : place.policy => place.at...
    if place.kind == "tagged" && contains(local.catch_all_paths, place.path)
  }

  # -- Policies --

  # Of each policy, the globs that are valid; and of each glob, the policies that have it.
  policy_globs  = { for item in local.globs : item.policy => item.value... if local.glob_problems[item.value] == "" }
  glob_policies = { for item in local.globs : item.value => item.policy... }

  unreached_mistakes = concat(
    [
      for place in local.places : {
        policy = place.policy
        path   = place.path
        text   = "is never reached, since tagged[${local.catch_alls[place.policy][0]}] matches every tag"
      }
      if place.kind == "tagged" && try(place.at > local.catch_alls[place.policy][0], false)
    ],
    [
      for position, globs in local.policy_globs : {
        policy = tonumber(position)
        path   = "policies[${position}].repositories"
        text   = "never applies: earlier policies have all of its globs"
      }
      if alltrue([for glob in globs : local.glob_policies[glob][0] < tonumber(position)])
    ],
  )
}
