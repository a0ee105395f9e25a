"""The texts of the command line's help, beside those of its flags."""

from __future__ import annotations

from typing import Final

ABOUT: Final = """\
Deletes old manifests of container repositories, by the policies of the Cloud
Function.

An image is deleted only if no rule keeps it: it is neither young, nor running,
nor does it have a tag that a rule keeps or that no rule matches.  What a kept
image needs is kept as well.
"""

EXAMPLES: Final = """\
examples:
  {prog} plan gcr.io/acme/api
      Show what the default policy keeps and deletes.  Nothing is deleted.

  {prog} plan gcr.io/acme/api --policies policies.yaml
      The same with the function's policies.

  {prog} plan gcr.io/acme/api --policies policies.yaml --explain v1.4.2
      Explain rule by rule why one image is kept or deleted.

  {prog} prune gcr.io/acme/api --policies policies.yaml
      Show the plan, ask, and carry it out.

  {prog} sweep us-docker.pkg.dev/acme/apps --policies policies.yaml --dry-run
      List every repository under a root that a policy matches.

policies.yaml:
  - repositories: ["gcr.io/acme/*"]    # * within a segment, ** for several
    tagged:                            # for each tag the first rule that matches
      - match: 'v[0-9.]+'              # a regex for the whole tag
        keep: all
      - match: '(main|pr-[0-9]+)-.*'   # the newest 10 of each branch,
        keep: 10                       # for 90 days
        delete_after: 90d
    untagged:
      keep: 5

exit codes:
  0    done, or nothing to do: no policy matches, no such repository
  1    something failed: permission denied, an incomplete listing, a failed
       deletion, no response, the time limit, an --explain that matches nothing,
       an error while writing to stdout
  2    a flag, a name, a setting or the policies file is invalid, or there is no
       terminal to ask on and no --yes: nothing was done
  130  interrupted by Ctrl-C or SIGTERM; the first one lets a prune finish what
       it has begun
  141  stdout was closed, and nothing was deleted

environment:
  RUNNING_SCOPES, INSECURE_REGISTRIES, REQUESTS_TOPIC
      As for the function; --running-scopes, --insecure and --topic override
      them.
  GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT, GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT
      Base URLs of the REST APIs, if they are not Google's.
  NO_COLOR, COLUMNS
      No colours; the width of tables.

Credentials are the application default credentials:
  gcloud auth application-default login

completion:
  eval "$({prog} --print-completion bash)"
      For the command {command}; without it installed:
      alias {command}='{module}'
"""

PLAN: Final = """\
Shows what would be kept and deleted, and why.  Never deletes.

One image a row, newest first.  What belongs to an image is folded under it: the
platforms of an index, signatures, attestations and other referrers; --all
unfolds them.  The reasons are those of the function's log.
"""

PLAN_EXAMPLES: Final = """\
examples:
  {prog} gcr.io/acme/api --keep 10
      What is deleted if only the ten newest tagged images are kept.

  {prog} gcr.io/acme/api --match '(.+)-[0-9a-f]{{7}}' --keep 5 --delete-after 90d
      The five newest images of each branch, for 90 days, where tags are
      BRANCH-COMMIT; all other tags are kept.

  {prog} gcr.io/acme/api --delete-after 30d
      Tagged images are deleted when they are 30 days old.

  {prog} gcr.io/acme/api --explain 3f2a1bc0d4e5
      Why this image is kept or deleted, by its tag or the first four digits or
      more of its digest.

  {prog} gcr.io/acme/api --format json | jq -r '.delete[].digest'
      The digests that would be deleted.
"""

PRUNE: Final = """\
Shows the plan, asks, and carries out what was shown and nothing else.

What is pushed after the question is not deleted, and what gets a tag, is
deployed or is needed in the meantime is kept.  Without a terminal to ask on,
--yes is required.  Ctrl-C lets deletions in progress finish and reports what
was done; a second Ctrl-C ends at once; SIGTERM is handled like Ctrl-C.  An
interrupted run does no harm: every kept image is complete.  An image's tags are
deleted before the image; if the image is then not deleted, the lost tags are
reported, and the next run judges it as an untagged image.
"""

PRUNE_EXAMPLES: Final = """\
examples:
  {prog} gcr.io/acme/api --policies policies.yaml
      Show, ask, delete.

  {prog} gcr.io/acme/api --policies policies.yaml --yes --format json > done.json
      Without a question.  "delete" is what was deleted.  What was planned and
      not deleted is in "keep", with an "outcome": refused (something needs it by
      now), failed (the registry did not delete it), kept (it, or what it belongs
      to, is kept after all), left (not begun, or not ended: no response, no
      time).  Its tags that were deleted are its "lost_tags".
"""

SWEEP: Final = """\
Finds every repository under a root that a policy matches, and requests that each is pruned.

ROOT is gcr.io/PROJECT, LOCATION-docker.pkg.dev/PROJECT/REPOSITORY, or a path
under one.  The requests are published to the topic that the function listens
to; it decides by its own policies and its own DRY_RUN.  Remote and virtual
repositories are skipped.  With --local they are pruned from here, one after the
other.
"""

SWEEP_EXAMPLES: Final = """\
examples:
  {prog} gcr.io/acme --policies policies.yaml --dry-run
      List the repositories that would be requested.

  {prog} gcr.io/acme --policies policies.yaml --topic projects/P/topics/T
      Request that the function prunes them.

  {prog} gcr.io/acme --policies policies.yaml --local --dry-run
      Show for each how much would be deleted.

  {prog} gcr.io/acme --policies policies.yaml --local
      Ask once, and prune them all from here.
"""

POLICIES: Final = (
    "the function's policies, an array in YAML or JSON (- is stdin); the first that matches a repository decides, and"
    " a repository that none matches is never touched"
)
