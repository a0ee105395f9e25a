# The document's objects, and their keys, in the form of lists and maps that the other files read.
#
# HCL has no functions and no recursion.  So each step is a map or a list over the whole document, and its entries carry
# the `path` by which messages name them.  jsonencode() shows a value's type: 5, "5", true, null, ["a"].
#
# Both sides of && and || and both results of ?: are evaluated, so what could raise an error stands in can() or try().

locals {
  # The keys of each kind of object, in the order in which messages list them.
  keys = {
    policy   = ["repositories", "min_age", "tagged", "untagged", "orphans", "max_deletions", "dry_run"]
    tagged   = ["keep", "keep_within", "delete_after", "order", "match"]
    untagged = ["keep", "keep_within", "delete_after", "order"]
    orphans  = ["keep", "keep_within", "delete_after", "order"]
  }
  required_keys = { policy = "repositories", tagged = "match" }

  # A value is valid if its JSON matches.
  types = {
    globs = {
      json     = "^\\[[^\\]]"
      expected = "an array of at least one glob like us-docker.pkg.dev/acme/apps/**"
    }
    regexes = {
      json     = "^(\\[[^\\]]|\"[^\"])"
      expected = "a regex of 1 to 1000 characters, or an array of at least one"
    }
    rules = {
      json     = "^\\["
      expected = "an array of rules"
    }
    # More digits of weeks are longer than any duration that the function can hold.
    duration = {
      json     = "^\"([0-9]{1,10}[smhdw])+\"$"
      expected = "a duration like 90m, 1h30m or 30d, or null"
    }
    min_age = {
      json     = "^\"([0-9]{1,10}[smhdw])+\"$"
      expected = "a duration like 90m, 1h30m or 30d, of 10m or more"
    }
    count = {
      json     = "^([0-9]+|\"all\")$"
      expected = "an integer of at least 0 or \"all\""
    }
    all_or_none = {
      json     = "^(0|\"all\")$"
      expected = "\"all\" or 0"
    }
    order = {
      json     = "^\"(uploaded|version)\"$"
      expected = "\"uploaded\" or \"version\""
    }
    limit = {
      json     = "^[1-9][0-9]*$"
      expected = "an integer of at least 1, or null"
    }
    bool = {
      json     = "^(true|false)$"
      expected = "true or false"
    }
  }
  item_types = {
    match        = { max = 1000, expected = "a regex of 1 to 1000 characters" }
    repositories = { max = 255, expected = "a glob of 1 to 255 characters" }
  }
  # `untagged` and `orphans` are objects, which have keys of their own.
  key_types = {
    policy   = { repositories = "globs", min_age = "min_age", tagged = "rules", max_deletions = "limit", dry_run = "bool" }
    tagged   = { keep = "count", keep_within = "duration", delete_after = "duration", order = "order", match = "regexes" }
    untagged = { keep = "count", keep_within = "duration", delete_after = "duration", order = "order" }
    orphans  = { keep = "all_or_none", keep_within = "duration", delete_after = "duration", order = "order" }
  }

  # A set has no positions, and the order of policies and rules decides.
  is_list = can(regex("^\\[", jsonencode(var.policies))) && can(var.policies[0])
  entries = [for entry in var.policies[*] : entry if local.is_list]

  # Where an object has to be.
  places = concat(
    [
      for position, entry in local.entries :
      { policy = position, path = "policies[${position}]", kind = "policy", value = entry }
    ],
    flatten([
      for position, entry in local.entries : [
        for at, rule in try(entry.tagged[*], []) :
        { policy = position, path = "policies[${position}].tagged[${at}]", kind = "tagged", at = at, value = rule }
        if try(startswith(jsonencode(entry.tagged), "["), false)
      ]
    ]),
    flatten([
      for position, entry in local.entries : [
        for kind in ["untagged", "orphans"] :
        { policy = position, path = "policies[${position}].${kind}", kind = kind, value = entry[kind] }
        if try(entry[kind] != null, false)
      ]
    ]),
  )

  # Those where one is, with the keys that it has: a null is what a caller's typed object has for an absent key.
  objects = [
    for place in local.places : merge(place, { given = { for key, value in place.value : key => value if value != null } })
    if startswith(jsonencode(place.value), "{")
  ]

  # The value of each known key, also where it is invalid.
  values = flatten([
    for object in local.objects : [
      for key, type in local.key_types[object.kind] : {
        policy   = object.policy
        path     = "${object.path}.${key}"
        object   = object.path
        key      = key
        type     = type
        value    = object.given[key]
        is_valid = can(regex(local.types[type].json, jsonencode(object.given[key])))
      }
      if contains(keys(object.given), key)
    ]
  ])

  # The globs and regexes: the elements of the arrays, and a regex that stands alone.
  items = flatten([
    for value in local.values : [
      # The inner loop gives the elements of a set a position.
      for at, text in [for one in value.value[*] : one] : {
        policy   = value.policy
        path     = startswith(jsonencode(value.value), "[") ? "${value.path}[${at}]" : value.path
        object   = value.object
        value    = text
        expected = startswith(jsonencode(value.value), "[") ? local.item_types[value.key].expected : local.types[value.type].expected
        # length() would count what a reader sees as one character; the function counts code points.
        is_valid = can(regex("^\"[^\"]", jsonencode(text))) && try(length(regexall("(?s:.)", text)), 0) <= local.item_types[value.key].max
        key      = value.key
      }
    ]
    if contains(keys(local.item_types), value.key) && value.is_valid
  ])
  globs   = [for item in local.items : item if item.key == "repositories" && item.is_valid]
  regexes = [for item in local.items : item if item.key == "match" && item.is_valid]

  # -- How messages show values --

  # A text in quotation marks, cut where it is long.
  quoted = {
    for text in toset(concat(
      [for one in concat(local.places, local.values, local.items) : one.value if startswith(jsonencode(one.value), "\"")],
      flatten([for object in local.objects : keys(object.given)]),
    )) :
    text => format("'%s'", replace(
      replace(length(text) > 60 ? "${substr(text, 0, 60)}..." : text, "\n", "\\n"), "/[\\p{C}\\p{Zl}\\p{Zp}]/", "?"
    ))
  }
  # Anything else by its kind.
  shown = {
    for one in concat(local.places, local.values, [for item in local.items : item if endswith(item.path, "]")]) :
    one.path => (
      startswith(jsonencode(one.value), "\"") ? try(local.quoted[one.value], "") :
      can(regex("^(null|true|false)$", jsonencode(one.value))) ? jsonencode(one.value) :
      can(regex("^-?[0-9.]{1,20}$", jsonencode(one.value))) ? "the number ${jsonencode(one.value)}" :
      can(regex("^-?[0-9]", jsonencode(one.value))) ? "a number of many digits" :
      jsonencode(one.value) == "[]" ? "an empty array" :
      startswith(jsonencode(one.value), "[") ? "an array" : "an object"
    )
  }

  # -- What is deployed --

  # What the function reads.  It is of no use where there are mistakes, and must not be one more.
  deployed = try([
    for policy in local.entries : merge(
      { for key, value in policy : key => value if value != null },
      { for key, value in policy : key => [for rule in value : { for name, one in rule : name => one if one != null }] if key == "tagged" && value != null },
      { for key, value in policy : key => { for name, one in value : name => one if one != null } if contains(["untagged", "orphans"], key) && value != null },
    )
  ], [])
}
