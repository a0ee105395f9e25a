# Every mistake, each as { policy, path, text }: where, and what is wrong there.  The texts are those of
# cleaner/core/policy_document.py.

locals {
  mistakes = concat(
    local.document_mistakes,
    local.object_mistakes,
    local.key_mistakes,
    local.value_mistakes,
    local.glob_mistakes,
    local.regex_mistakes,
    local.duration_mistakes,
    local.rule_mistakes,
    local.unreached_mistakes,
  )
  # Those of the first policy first.
  mistakes_by_policy = { for mistake in local.mistakes : mistake.policy => "${mistake.path}: ${mistake.text}"... }
  sorted_mistakes    = flatten([for position in range(max(1, length(local.entries))) : try(local.mistakes_by_policy[position], [])])
  shown_mistakes_max = 100
  shown_mistakes = concat(
    slice(local.sorted_mistakes, 0, min(local.shown_mistakes_max, length(local.sorted_mistakes))),
    [
      for more in [length(local.sorted_mistakes) - local.shown_mistakes_max] : "policies: ${more} more mistakes"
      if more > 0
    ],
  )

  document_mistakes = concat(
    [
      for text in ["must be an array of at least one policy"] : { policy = 0, path = "policies", text = text }
      if length(local.entries) == 0
    ],
    [
      # The function reads no more.
      for text in ["has more than 262,144 characters"] : { policy = 0, path = "policies", text = text }
      if length(jsonencode(local.deployed)) > 262144
    ],
  )

  object_mistakes = [
    for place in local.places : { policy = place.policy, path = place.path, text = "must be an object, not ${local.shown[place.path]}" }
    if !startswith(jsonencode(place.value), "{")
  ]

  # -- Keys --

  unknown_keys = flatten([
    for object in local.objects : [
      for key in keys(object.given) : { policy = object.policy, path = object.path, kind = object.kind, key = key }
      if !contains(local.keys[object.kind], key)
    ]
  ])
  # The letters of each key, and its pairs of adjacent letters.
  key_parts = {
    for key in toset(concat(flatten(values(local.keys)), [for unknown in local.unknown_keys : unknown.key])) : key => {
      letters = toset(split("", lower(substr(key, 0, 40))))
      pairs   = toset([for at in range(max(0, min(40, length(key)) - 1)) : lower(substr(key, at, 2))])
    }
  }
  # How much of both is the same: 2 for the same key, 0 for one that has nothing in common.
  key_likeness = [
    for unknown in local.unknown_keys : {
      for known in local.keys[unknown.kind] : known => sum([
        for part in ["letters", "pairs"] :
        2 * length(setintersection(local.key_parts[unknown.key][part], local.key_parts[known][part]))
        / (length(local.key_parts[unknown.key][part]) + length(local.key_parts[known][part]))
      ])
    }
  ]
  key_mistakes = concat(
    [
      for at, unknown in local.unknown_keys : {
        policy = unknown.policy
        path   = unknown.path
        text = format(
          "unknown key %s; %s", local.quoted[unknown.key],
          max(values(local.key_likeness[at])...) < 1.1 ? "known are ${join(", ", local.keys[unknown.kind])}" :
          "did you mean ${[for known, likeness in local.key_likeness[at] : known if likeness == max(values(local.key_likeness[at])...)][0]}?",
        )
      }
    ],
    [
      for object in local.objects : {
        policy = object.policy
        path   = "${object.path}.${local.required_keys[object.kind]}"
        text   = "is required: ${local.types[local.key_types[object.kind][local.required_keys[object.kind]]].expected}"
      }
      if contains(keys(local.required_keys), object.kind) && !can(object.given[local.required_keys[object.kind]])
    ],
  )

  # -- Values --

  value_mistakes = concat(
    [
      for value in local.values : {
        policy = value.policy
        path   = value.path
        text   = "must be ${local.types[value.type].expected}, not ${local.shown[value.path]}"
      }
      if !value.is_valid
    ],
    [
      for value in local.values :
      { policy = value.policy, path = value.path, text = "must be a list, not a set: the order counts" }
      if contains(["tagged", "match"], value.key) && can(regex("^\\[[^\\]]", jsonencode(value.value))) && !can(value.value[0])
    ],
    [
      for item in local.items :
      { policy = item.policy, path = item.path, text = "must be ${item.expected}, not ${local.shown[item.path]}" }
      if !item.is_valid
    ],
  )
}
