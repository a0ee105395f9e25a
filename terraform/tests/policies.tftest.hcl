# Each validation of `policies` refuses.  tests/policies holds nothing but a link to policies.tf, so that these runs need
# no provider.  (Many more are put to the plan and to the function's own parser in
# tests/e2e/terraform/test_terraform_policies.py.)

run "refuses_no_policy" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = []
  }

  expect_failures = [var.policies]
}

run "refuses_a_policy_that_is_no_object" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = ["us-docker.pkg.dev/acme-prod/apps/**"]
  }

  expect_failures = [var.policies]
}

run "refuses_a_misspelled_key" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], protect_tag = ["v.*"] }]
  }

  expect_failures = [var.policies]
}

run "refuses_a_policy_without_repositories" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ keep = 5 }]
  }

  expect_failures = [var.policies]
}

run "refuses_keep_nothing" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], keep = 0 }]
  }

  expect_failures = [var.policies]
}

run "refuses_keep_untagged_as_text" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], keep_untagged = "3" }]
  }

  expect_failures = [var.policies]
}

run "refuses_min_age_below_ten_minutes" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], min_age = "9m59s" }]
  }

  expect_failures = [var.policies]
}

run "refuses_max_age_of_nothing" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], max_age = "0d" }]
  }

  expect_failures = [var.policies]
}

run "refuses_a_bad_regex_in_delete_tags" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], delete_tags = ["pr-(\\d+"] }]
  }

  expect_failures = [var.policies]
}

run "refuses_a_lookahead_in_protect_tags" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], protect_tags = ["(?!v).*"] }]
  }

  expect_failures = [var.policies]
}

run "refuses_group_by_without_a_group" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], group_by = ".+-[0-9a-f]{7}" }]
  }

  expect_failures = [var.policies]
}

run "refuses_max_deletions_of_nothing" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], max_deletions = 0 }]
  }

  expect_failures = [var.policies]
}

run "refuses_dry_run_as_text" {
  command = plan

  module {
    source = "./tests/policies"
  }

  variables {
    policies = [{ repositories = ["us-docker.pkg.dev/acme-prod/apps/**"], dry_run = "false" }]
  }

  expect_failures = [var.policies]
}
