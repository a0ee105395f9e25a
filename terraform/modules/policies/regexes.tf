# What is known of each regex: whether it is valid, looks like a glob, evidently matches every tag or none.
# As in cleaner/core/pattern.py, which has the reasons.

locals {
  # One step through a regex.
  regex_piece = join("|", [
    "\\\\Q.*?(?:\\\\E|\\z)",                                             # a quotation
    "\\\\(?:x\\{[^}]*\\}|x..|[0-7]{2,3}|[pP]\\{[^}]*\\}|[pP].|.)",       # an escape
    "\\[\\^?\\]?(?:\\\\.|\\[:\\^?\\w+:\\]|[^\\]\\\\])*(?:\\]|\\\\?\\z)", # a class
    "\\((?:\\?P?<\\w+>|\\?[A-Za-z-]*[:)])?",                             # the beginning of a group, or flags
    "\\*+",                                                              # repetitions
    ".",
  ])
  # A character that stands for itself, also written by its code.
  regex_literal = "^(?s:[A-Za-z0-9_-]|\\\\(?:[^A-Za-z0-9]|x.+|[0-7]{2,3})|\\\\Q.\\\\E)$"
  # What else a star is not written behind in a regex: a quotation of several characters, and a beginning.
  regex_no_repeatable = "^(?s:|\\^|\\||\\(.*|\\\\Q.{2,}\\\\E)$"

  regex_pieces = {
    for text in toset(local.regexes[*].value) : text => regexall("(?s:${local.regex_piece})", text)
  }
  # Which of the pieces are stars that look like those of a glob.
  regex_glob_stars = {
    for text, pieces in local.regex_pieces : text => [
      for at, piece in pieces : at
      if startswith(piece, "*") && can(regex("${local.regex_literal}|${local.regex_no_repeatable}", concat([""], pieces)[at]))
    ]
  }
  # What a regex that looks like a glob should be: as a glob's meaning, and as a regex's where that is evident.
  regexes_of_globs = {
    for text, stars in local.regex_glob_stars : text => {
      as_glob = join("", [for at, piece in local.regex_pieces[text] : contains(stars, at) ? ".*" : piece])
      as_regex = !alltrue([for at in stars : can(regex(local.regex_literal, local.regex_pieces[text][at - 1]))]) ? "" : join("", [
        for at, piece in local.regex_pieces[text] :
        contains(stars, at + 1) ? "(?:${piece})" : contains(stars, at) ? "*" : piece
      ])
    }
    if length(stars) > 0
  }
  # Those that compile, also of the corrections.  replace() with /…/ compiles a regex; regex() would also refuse one for
  # not matching.
  valid_regexes = toset([
    for text in concat(local.regexes[*].value, values(local.regexes_of_globs)[*].as_glob, values(local.regexes_of_globs)[*].as_regex) :
    text if text != "" && can(replace("", "/${text}/", ""))
  ])

  # Those that were written by mistake: no tag has white space, a control character or a colon.
  regexes_of_no_tag = merge(
    {
      for text in toset(local.regexes[*].value) :
      text => "has white space or a control character, which no tag has; write a long regex as a list of several, each in single quotation marks"
      if can(regex("[\\p{Z}\\p{Cc}]", text))
    },
    {
      for text in toset(local.regexes[*].value) : text => "is what yamldecode() makes of a date; put the tag in quotation marks"
      if can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(Z|[+-][0-9]{2}:[0-9]{2})$", text))
    },
  )

  regex_mistakes = [
    for item in local.regexes : {
      policy = item.policy
      path   = item.path
      text = join("", concat(["${local.shown[item.path]} "], (
        can(local.regexes_of_no_tag[item.value]) ? [local.regexes_of_no_tag[item.value]] :
        can(local.regexes_of_globs[item.value]) ? concat(
          ["looks like a glob"],
          [
            for text in [local.regexes_of_globs[item.value].as_glob] : "; as a regex write '${text}'"
            if contains(local.valid_regexes, text)
          ],
          [
            for text in [local.regexes_of_globs[item.value].as_regex] : ", or '${text}' for what ${local.shown[item.path]} means"
            if contains(local.valid_regexes, local.regexes_of_globs[item.value].as_glob) && contains(local.valid_regexes, text)
          ],
        ) :
        ["is not a regex in RE2's syntax"]
      )))
    }
    if can(local.regexes_of_no_tag[item.value]) || can(local.regexes_of_globs[item.value]) || !contains(local.valid_regexes, item.value)
  ]

  # Those of `.*` or `.+` and nothing else but more of `.*`, also in groups that begin and end with the regex.
  catch_all_regexes = [
    for text in local.valid_regexes : text
    if can(regex("^(?:\\^|\\((?:\\?P?<\\w+>|\\?[A-Za-z-]*[:)])?)*\\.[*+]\\??(?:\\.\\*\\??)*[$)]*$", text))
  ]
}
