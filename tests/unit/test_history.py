"""What a process remembers of its runs on a repository, and what it makes of a later listing."""

from __future__ import annotations

import pytest

from cleaner.core.history import NO_HISTORY, Deleted, History
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.plan import plan
from cleaner.core.reference import Digest, Tag
from tests.support.builders import (
    NOW,
    RETIRING,
    cosign,
    deleted,
    digest,
    kept,
    listing,
    manifest,
    name_of,
    one_rule,
    planned,
    policy,
    reasons,
    retiring,
)


def tags(*names: str) -> frozenset[Tag]:
    return frozenset(map(Tag, names))


def digests(*names: str) -> set[Digest]:
    return set(map(digest, names))


def remembered(
    *gone: Manifest, lost_tags: dict[str, str] | None = None, before: tuple[Manifest, ...] | None = None
) -> History:
    """Return a history in which ``gone`` were deleted, and tags of others; ``before`` is the run's latest listing."""
    history = History()
    for one in gone:
        history.add_deleted(one, counts=True)
    for name, names in (lost_tags or {}).items():
        history.add_lost_tags(digest(name), tags(*names.split()))
    history.before = None if before is None else listing(*before)
    return history


def seen(history: History, *there: Manifest) -> dict[str, Manifest]:
    """Return a listing of ``there`` as it is judged after ``history`` has observed it, by name."""
    given = listing(*there)
    history.observe(given)
    return {name_of(one.digest): one for one in history.restore(given).manifests.values()}


# --- what is put back


def test_deleted_manifest_is_put_back_as_it_was_judged() -> None:
    """With its tags, its age, its children and its subject."""
    index = manifest("index", 30, tags="v1", children="child", subject="subject", attests="a:child")
    history = remembered(index)

    assert seen(history, manifest("child"), manifest("other")) == {
        "index": index,
        "child": manifest("child"),
        "other": manifest("other"),
    }
    assert history.deleted == {index.digest: Deleted(index, counts=True)}


def test_deleted_manifest_that_is_there_again_is_new() -> None:
    """It was pushed again: it is judged as it is listed, and is forgotten."""
    history = remembered(manifest("image", 30, tags="v1", children="child"))
    pushed = manifest("image", 0, tags="v2")

    assert seen(history, pushed) == {"image": pushed}
    assert not history
    assert seen(history) == {}


def test_deleted_manifest_stays_put_back_in_every_later_listing() -> None:
    """Until it is there again."""
    history = remembered(manifest("image"))

    assert seen(history).keys() == seen(history, manifest("other")).keys() - {"other"} == {"image"}


def test_lost_tags_are_put_back_beside_those_that_are_there() -> None:
    """Sorted, as those of every manifest are."""
    history = remembered(lost_tags={"image": "v3 v1"})

    assert seen(history, manifest("image", tags="v2"))["image"] == manifest("image", tags="v1 v2 v3")
    assert seen(history, manifest("image"))["image"].tags == ("v1", "v3")


def test_tag_that_is_there_again_is_not_lost() -> None:
    """It is forgotten, and so it is deleted once more if the manifest is judged so."""
    history = remembered(lost_tags={"image": "v1 v2", "other": "v3"})

    assert seen(history, manifest("image", tags="v1"), manifest("other", tags="v3"))["image"].tags == ("v1", "v2")
    assert history.lost_tags == {digest("image"): tags("v2")}
    assert seen(history, manifest("image"), manifest("other"))["other"].tags == ()


def test_tag_that_has_moved_is_put_back_where_it_was_deleted() -> None:
    """The manifest that it names by then has it too: both are judged with it."""
    history = remembered(lost_tags={"image": "latest"})

    found = seen(history, manifest("image"), manifest("new", tags="latest"))

    assert found["image"].tags == found["new"].tags == ("latest",)


def test_lost_tags_of_what_has_vanished_are_forgotten() -> None:
    """Somebody else has deleted the manifest; those of one that was deleted are in it."""
    history = remembered(manifest("gone", tags="v1 v2"), lost_tags={"gone": "v1", "vanished": "v3"})

    assert {name: one.tags for name, one in seen(history).items()} == {"gone": ("v1", "v2")}
    assert history.lost_tags == {}


def test_listing_without_a_history_is_judged_as_it_is() -> None:
    """Nothing is copied for it."""
    given = listing(manifest("image"))

    assert History().restore(given) is given
    assert not NO_HISTORY


def test_what_is_put_back_leaves_the_listing_as_it_was() -> None:
    """The registry's own listing is compared with the next one."""
    given = listing(manifest("image", tags="v2"))
    history = remembered(manifest("gone"), lost_tags={"image": "v1"})

    restored = history.restore(given)

    assert given == listing(manifest("image", tags="v2"))
    assert restored == listing(manifest("gone"), manifest("image", tags="v1 v2"))
    assert restored.repository == given.repository


# --- what is noted


def test_lost_tags_of_several_plans_add_up() -> None:
    """To lose none is nothing to remember."""
    history = History()
    history.add_lost_tags(digest("image"), tags("v1"))
    history.add_lost_tags(digest("image"), tags("v2", "v1"))
    history.add_lost_tags(digest("other"), tags())

    assert history.lost_tags == {digest("image"): tags("v1", "v2")}


@pytest.mark.parametrize(
    ("history", "length"),
    [
        (History(), 0),
        (remembered(manifest("a"), manifest("b")), 2),
        (remembered(manifest("a"), lost_tags={"b": "v1 v2"}), 2),
        (History(referrers=digests("a"), refused=digests("b"), has_immutable_tags=True), 0),
    ],
)
def test_length_is_how_many_manifests_are_put_back_or_changed(history: History, length: int) -> None:
    """The process bounds its memory by it; nothing to put back is false."""
    assert len(history) == length
    assert bool(history) is (length > 0)


# --- what was pushed while the run was on


BEFORE = (manifest("a", tags="v1 v2"), manifest("b", tags="v3"), manifest("c"))


@pytest.mark.parametrize(
    ("now", "pushed"),
    [
        pytest.param(BEFORE, "", id="nothing"),
        pytest.param((manifest("a", tags="v1"), manifest("b"), manifest("c")), "", id="tags that were deleted"),
        pytest.param((*BEFORE[:2], manifest("c", tags="v4")), "c", id="a tag on what had none"),
        pytest.param(
            (manifest("a", tags="v1"), manifest("b", tags="v2 v3"), BEFORE[2]), "b", id="a tag that has moved"
        ),
        pytest.param((*BEFORE, manifest("d", tags="v4")), "d", id="a new manifest with a tag"),
        pytest.param((*BEFORE, manifest("d")), "", id="a new manifest without one: its age keeps it"),
        pytest.param(
            (manifest("b", tags="v1 v2"), manifest("a", tags="v3")), "a b", id="tags that have changed places"
        ),
    ],
)
def test_what_got_a_tag_since_the_last_listing_was_pushed(now: tuple[Manifest, ...], pushed: str) -> None:
    """Whoever moves a tag to a manifest wants it, however old that is."""
    history = remembered(before=BEFORE)
    history.observe(listing(*now))

    assert history.pushed == digests(*pushed.split())


def test_first_listing_of_a_run_shows_nothing_that_was_pushed() -> None:
    """An earlier run may have been long ago: what its history has lost is judged as it is."""
    history = remembered(lost_tags={"a": "v1"})
    history.observe(listing(*BEFORE))

    assert history.pushed == set()


def test_tag_that_this_run_has_deleted_and_is_there_again_was_pushed() -> None:
    """The listing before has it too."""
    history = remembered(lost_tags={"a": "v1"}, before=BEFORE)
    history.observe(listing(*BEFORE))

    assert history.pushed == digests("a")


def test_what_was_pushed_is_known_for_the_rest_of_the_run() -> None:
    """A later listing in which nothing moves changes nothing."""
    history = remembered(before=BEFORE)
    now = listing(*BEFORE[:2], manifest("c", tags="v4"))
    history.observe(now)
    history.before = now
    history.observe(now)

    assert history.pushed == digests("c")


# --- what has to be read


def test_what_arrived_was_not_in_the_listing_before_or_was_deleted_since() -> None:
    """Its document may name a subject; before the first listing nothing arrives."""
    history = remembered(manifest("b"), before=(manifest("a"), manifest("b")))
    now = listing(manifest("a"), manifest("b"), manifest("c"))

    assert history.arrived(now) == digests("b", "c")
    assert remembered(manifest("b")).arrived(now) == set()


def test_manifest_that_names_a_subject_is_remembered_while_it_is_there() -> None:
    """Its document is read again when it gets a tag, or an index lists it: what it blocks stays known."""
    history = History(referrers=digests("by tag", "gone"))
    history.observe(
        listing(manifest("sbom", subject="image"), manifest("image"), manifest("by tag", tags=cosign("image")))
    )

    assert history.referrers == digests("sbom", "by tag")
    history.observe(listing(manifest("sbom"), manifest("image")))
    assert history.referrers == digests("sbom")
    history.observe(listing(manifest("image")))
    assert history.referrers == set()


# --- what the next run knows


def test_next_run_knows_what_was_deleted_and_nothing_that_was_of_this_run_alone() -> None:
    """What was refused is requested again by a new run; what was pushed has its message."""
    history = History(
        deleted={digest("a"): Deleted(manifest("a"), counts=False)},
        lost_tags={digest("b"): tags("v1")},
        referrers=digests("c"),
        refused=digests("d"),
        undeletable=digests("e"),
        pushed=digests("f"),
        before=listing(manifest("b")),
        has_immutable_tags=True,
    )

    assert history.for_next_run() == History(
        deleted={digest("a"): Deleted(manifest("a"), counts=False)},
        lost_tags={digest("b"): tags("v1")},
        referrers=digests("c"),
    )


def test_next_run_changes_nothing_of_what_this_one_knows() -> None:
    """Both may be remembered at once."""
    history = remembered(manifest("a"), lost_tags={"b": "v1"})
    history.referrers = digests("c")
    following = history.for_next_run()

    following.add_deleted(manifest("d"), counts=True)
    following.add_lost_tags(digest("b"), tags("v2"))
    following.observe(listing(manifest("a")))

    assert history == History(
        deleted={digest("a"): Deleted(manifest("a"), counts=True)},
        lost_tags={digest("b"): tags("v1")},
        referrers=digests("c"),
    )


def test_run_that_leaves_little_undone_leaves_only_what_concerns_that() -> None:
    """The rest of the history would only take memory; another run has a limit of its own."""
    history = remembered(manifest("a"), manifest("b"), lost_tags={"c": "v1", "d": "v2"})
    history.referrers = digests("a")

    left = remembered(lost_tags={"d": "v2"})
    left.add_deleted(manifest("a"), counts=False)
    assert history.about(digests("a", "d", "e")) == left
    assert not history.about(digests("e"))


# --- what a plan makes of it


def test_children_of_a_deleted_index_follow_it() -> None:
    """They are no untagged images, and take the place of none."""
    index = manifest("index", 3, tags="ci-1", children="amd64 arm64")
    there = [manifest("amd64", 3), manifest("arm64", 3), manifest("u1", 8), manifest("u2", 9), manifest("u3", 10)]
    by = policy(**one_rule(1, 2, match="ci-.*"))

    assert reasons(planned(there, by, deleted=[index])) == {
        "amd64": "follows",
        "arm64": "follows",
        "u1": "newest",
        "u2": "newest",
        "u3": "expired",
    }


def test_image_that_has_lost_its_tags_is_a_tagged_image() -> None:
    """It takes no untagged image's place, and is judged by the tags that it had."""
    held = [manifest("image", 4), manifest("untagged", 9), manifest("old", 10)]
    by = policy(**one_rule(5, 1))

    assert reasons(planned(held, by)) == {"image": "newest", "untagged": "expired", "old": "expired"}
    assert reasons(planned(held, by, lost_tags={"image": "v1"})) == {
        "image": "newest",
        "untagged": "newest",
        "old": "expired",
    }
    expiring = policy(**one_rule(1, 1))
    newer = manifest("newer", 1, tags="v2")
    assert reasons(planned([*held, newer], expiring, lost_tags={"image": "v1"}))["image"] == "expired"
    protecting = policy(tagged=[{"match": "release", "keep": "all"}], untagged={"keep": 0})
    assert kept(planned(held, protecting, lost_tags={"image": "release"})) == {"image": "protected"}


def test_deleted_image_takes_no_place_among_the_newest() -> None:
    """An older one stays if somebody has deleted what was kept."""
    held = [manifest("new", 1, tags="v3"), manifest("old", 3, tags="v1")]
    middle = manifest("middle", 2, tags="v2")
    by = policy(**one_rule(1))

    assert reasons(planned(held, by, deleted=[middle])) == {"new": "newest", "old": "expired"}
    assert reasons(planned(held[1:], by, deleted=[middle])) == {"old": "newest"}


def test_deleted_manifest_gets_no_verdict() -> None:
    """Neither where it would be kept by now, nor where it would be deleted again."""
    gone = manifest("gone", tags="v1", children="child")
    child = manifest("child")

    assert reasons(planned([child], RETIRING, deleted=[gone])) == {"child": "follows"}
    assert reasons(planned([child], RETIRING, deleted=[gone], just_pushed="gone")) == {"child": "needed"}
    assert reasons(planned([child], RETIRING, deleted=[gone], running_tags="v1")) == {"child": "needed"}


def test_what_has_come_since_to_a_deleted_manifest_is_judged_by_itself() -> None:
    """A new referrer of it and a new index over its child are young."""
    gone = manifest("gone", tags="v1", children="child")
    held = [manifest("child"), manifest("sbom", 0, subject="gone"), manifest("new", 0, tags="v2", children="child")]

    assert reasons(planned(held, RETIRING, deleted=[gone])) == {
        "child": "needed",
        "sbom": "too-young",
        "new": "too-young",
    }


def test_referrer_of_a_deleted_image_is_no_orphan() -> None:
    """It follows its image, whatever the policy says of orphans."""
    gone = manifest("gone", tags="ci-1")
    signature = manifest("signature", tags=cosign("gone"))
    by = retiring(orphans={"keep": "all"})

    assert reasons(planned([signature], by, deleted=[gone])) == {"signature": "follows"}
    assert reasons(planned([signature], by)) == {"signature": "protected"}


def test_what_got_a_tag_while_the_run_was_on_is_just_pushed() -> None:
    """However old it is, and with what it needs."""
    history = remembered(before=(manifest("image"), manifest("child")))
    given = listing(manifest("image", tags="v1", children="child"), manifest("child"))
    history.observe(given)

    assert reasons(plan(history.restore(given), RETIRING, NOW, history=history)) == {
        "image": "just-pushed",
        "child": "needed",
    }


def test_only_images_that_were_deleted_count_in_the_limit() -> None:
    """What followed them does not."""
    history = History()
    history.add_deleted(manifest("image", tags="v1", children="child"), counts=True)
    history.add_deleted(manifest("child"), counts=False)
    given: Listing = listing(manifest("a", 9), manifest("b", 8), manifest("c", 7))
    history.observe(given)

    result = plan(history.restore(given), retiring(max_deletions=2), NOW, history=history)

    assert deleted(result) == {"a": "expired"}


def test_tags_that_a_manifest_had_lost_are_forgotten_with_it() -> None:
    """If it is pushed again, it has the tags of that push and no others."""
    history = remembered(lost_tags={"image": "v1"})
    history.add_deleted(manifest("image", tags="v1"), counts=True)

    there = listing(manifest("image"))
    history.observe(there)

    assert history.restore(there) == there


def test_image_that_is_pushed_again_still_counts_in_the_limit() -> None:
    """A doubtful deletion that turns out not to have happened does not."""
    history = remembered(manifest("again"))
    history.add_deleted(manifest("doubtful"), counts=True, is_doubtful=True)

    history.observe(listing(manifest("again"), manifest("doubtful")))

    assert (history.pushed_again, history.deleted) == (1, {})
