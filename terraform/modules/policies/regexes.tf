# What is known of each regex: whether it is valid, whether it looks like a glob, and whether it matches every tag.
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

  # What a tag may begin with, and each character that it may have.
  tag_first_chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
  tag_chars       = "${local.tag_first_chars}.-"

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

  regex_mistakes = concat(
    [
      for item in local.regexes : {
        policy = item.policy
        path   = item.path
        text = join("", concat(
          ["${local.shown[item.path]} looks like a glob"],
          [
            for text in [local.regexes_of_globs[item.value].as_glob] : "; as a regex write '${text}'"
            if contains(local.valid_regexes, text)
          ],
          [
            for text in [local.regexes_of_globs[item.value].as_regex] : ", or '${text}' for what ${local.shown[item.path]} means"
            if contains(local.valid_regexes, local.regexes_of_globs[item.value].as_glob) && contains(local.valid_regexes, text)
          ],
        ))
      }
      if can(local.regexes_of_globs[item.value])
    ],
    [
      for item in local.regexes : {
        policy = item.policy
        path   = item.path
        text   = "${local.shown[item.path]} is not a regex in RE2's syntax"
      }
      if !can(local.regexes_of_globs[item.value]) && !contains(local.valid_regexes, item.value)
    ],
  )

  # -- Whether a regex matches every tag --
  # `.` stands for what matches any character of a tag, `w` for any first one, and `x` for anything else.
  plain_regexes = {
    for text, pieces in local.regex_pieces : text => join("", [
      for piece in pieces :
      startswith(piece, "(") ? (endswith(piece, ")") ? "" : "(") :
      can(regex("^([|)+?^$]|\\*+)$", piece)) ? piece :
      piece == "\\A" ? "^" :
      piece == "\\z" ? "$" :
      # What follows a quotation repeats its last character only.
      startswith(piece, "\\Q") ? (can(regex(local.regex_literal, piece)) ? "x" : "xx") :
      !can(regex("^(?s:\\\\[A-Za-z].*|\\[.+|\\.)$", piece)) ? "x" :
      can(regex("^(?:${piece})*$", local.tag_chars)) ? "." :
      can(regex("^(?:${piece})*$", local.tag_first_chars)) ? "w" : "x"
    ])
  }
  # One of several alternatives matches every tag.
  every_alternative = "(?:[^<>()|]*\\|)*\\^?(?:[.wx][*?]\\??)*(?:\\.[*+]|[.w]\\.\\*)[*+?]*(?:[.wx][*?]\\??)*\\$?(?:\\|[^<>()|]*)*"
  # Groups become what stands for them, the innermost first, which < and > mark.  A line for each level.
  groups = {
    innermost = "/\\(([^()]*)\\)/"
    every     = "/<${local.every_alternative}>/"
    other     = "/<[^<>]*>/"
  }
  flat_regexes_1 = { for text, plain in local.plain_regexes : text => replace(replace(replace(plain, local.groups.innermost, "<$1>"), local.groups.every, ".+"), local.groups.other, "x") }
  flat_regexes_2 = { for text, plain in local.flat_regexes_1 : text => replace(replace(replace(plain, local.groups.innermost, "<$1>"), local.groups.every, ".+"), local.groups.other, "x") }
  flat_regexes_3 = { for text, plain in local.flat_regexes_2 : text => replace(replace(replace(plain, local.groups.innermost, "<$1>"), local.groups.every, ".+"), local.groups.other, "x") }
  flat_regexes_4 = { for text, plain in local.flat_regexes_3 : text => replace(replace(replace(plain, local.groups.innermost, "<$1>"), local.groups.every, ".+"), local.groups.other, "x") }
  flat_regexes   = { for text, plain in local.flat_regexes_4 : text => replace(replace(replace(plain, local.groups.innermost, "<$1>"), local.groups.every, ".+"), local.groups.other, "x") }

  catch_all_regexes = [
    for text, plain in local.flat_regexes : text
    if contains(local.valid_regexes, text) && !can(local.regexes_of_globs[text]) && can(regex("^${local.every_alternative}$", plain))
  ]
}
