# What modules/policies refuses, one run for each list of mistakes, and what it gives back.  It needs no provider.  (Many
# more documents are put to it and to the function's own parser in tests/e2e/terraform/test_terraform_policies.py.)

variables {
  policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"] }]
}

run "accepts_only_repositories" {
  command = plan

  module {
    source = "./modules/policies"
  }

  assert {
    condition     = jsonencode(output.policies) == jsonencode(var.policies)
    error_message = "policies that have no null are given back as they were written"
  }
}

run "reads_null_as_an_absent_key" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{
      repositories  = ["us-docker.pkg.dev/acme-prod/apps/**"]
      min_age       = null
      tagged        = [{ match = "v.*", keep = "all", keep_within = null, delete_after = null, order = null }]
      untagged      = { keep = null, delete_after = "30d" }
      orphans       = null
      max_deletions = null
      dry_run       = null
    }]
  }

  assert {
    condition = jsonencode(output.policies) == jsonencode([{
      repositories = ["us-docker.pkg.dev/acme-prod/apps/**"]
      tagged       = [{ match = "v.*", keep = "all" }]
      untagged     = { delete_after = "30d" }
    }])
    error_message = "keys whose value is null are left out, at every level"
  }
}

run "refuses_no_policy" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = []
  }

  expect_failures = [output.policies]
}

run "refuses_a_policy_that_is_no_object" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = ["us-docker.pkg.dev/acme-prod/apps/**"]
  }

  expect_failures = [output.policies]
}

run "refuses_a_misspelled_key" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], untaged = { keep = 5 } }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_policy_without_repositories" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ untagged = { keep = 5 } }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_value_of_a_wrong_type" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], dry_run = "false" }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_null_in_an_array" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**", null] }]
  }

  expect_failures = [output.policies]
}

run "refuses_rules_in_a_set" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], tagged = toset([{ match = "v.*", keep = "all" }]) }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_glob_that_matches_no_image" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps"] }]
  }

  expect_failures = [output.policies]
}

run "refuses_an_invalid_regex" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], tagged = [{ match = "pr-(\\d+", keep = 1 }] }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_regex_that_looks_like_a_glob" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], tagged = [{ match = "v*", keep = "all" }] }]
  }

  expect_failures = [output.policies]
}

run "refuses_min_age_below_ten_minutes" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], min_age = "9m59s" }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_rule_that_decides_nothing" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], tagged = [{ match = "v.*" }] }]
  }

  expect_failures = [output.policies]
}

run "refuses_delete_after_that_has_no_effect" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], untagged = { keep = 0, delete_after = "30d" } }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_rule_that_is_never_reached" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{
      repositories = ["us-docker.pkg.dev/acme-prod/apps/**"]
      tagged       = [{ match = ".*", keep = 10 }, { match = "v.*", keep = "all" }]
    }]
  }

  expect_failures = [output.policies]
}

run "refuses_a_policy_that_is_never_reached" {
  command = plan

  module {
    source = "./modules/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"] }, { repositories = ["us-docker.pkg.dev/acme-prod/apps/**"] }]
  }

  expect_failures = [output.policies]
}
