"""Carrying a plan out: in which order, by how many, and what stops what."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from cleaner.core.errors import PermissionDenied, Unavailable
from cleaner.core.manifest import Listing, Manifest
from cleaner.core.plan import Deletion, Plan, Reason, Verdict, plan
from cleaner.core.policy import policy_from_mapping
from cleaner.core.reference import Digest, Tag
from cleaner.core.timing import TIMING
from cleaner.engine.executor import End, Result, execute
from cleaner.google.registry.deletions import DELETED, NOT_SENT
from tests.emulator.faults import Before, Delay, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, multi_arch, referrer
from tests.emulator.store import OCI_INDEX, OCI_MANIFEST
from tests.support.processes import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set as AbstractSet

    from cleaner.google.registry.client import RepositoryClient
    from cleaner.google.registry.deletions import DeletionResponse
    from tests.support.world import World

# A worker that hangs can only be ended with the process.
pytestmark = pytest.mark.timeout(30, method="thread")

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALL_GO = policy_from_mapping(
    {"repositories": ["**"], "keep_untagged": 0, "delete_tags": [".*"], "max_age": "1d"}, "policy"
)


@dataclass
class Conditions:
    """Conditions of a test: by default everything may go."""

    begins: int = 1_000_000
    names: set[Digest] = field(default_factory=set)
    planned: bool = True
    listing: Listing | None = None
    ends: list[tuple[Digest, End]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def may_begin(self) -> bool:
        with self.lock:
            self.begins -= 1
            return self.begins >= 0

    def may_repeat(self) -> bool:
        return True

    def wanted(self) -> AbstractSet[Digest]:
        return self.names

    def ended(self, deletion: Deletion, end: End) -> None:
        self.ends.append((deletion.manifest.digest, end))

    def standing_against(
        self, subjects: AbstractSet[Digest], going: AbstractSet[Digest], stripped: AbstractSet[Digest]
    ) -> Mapping[Digest, AbstractSet[Digest]]:
        manifests = self.listing.manifests if self.listing else {}
        for subject in subjects:
            assert subject in going
            assert (subject in stripped) == (subject in manifests and bool(manifests[subject].tags))
        if not self.planned:
            return {}
        return {
            subject: {one.digest for one in manifests.values() if one.links.subject == subject}
            for subject in subjects
        }


@dataclass
class Gated:
    """Deletes by ``client``, each tag and digest that is in ``gates`` once its gate is open."""

    client: RepositoryClient
    gates: dict[str, Callable[[], object]]

    def digest_of(self, reference: Tag | Digest) -> str | None:
        return self.client.digest_of(reference)

    def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        self._pass(tag)
        return self.client.delete_tag(tag, expected_digest, precondition)

    def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
        self._pass(digest)
        return self.client.delete_manifest(digest, precondition)

    def _pass(self, what: str) -> None:
        if what in self.gates:
            wait_for(self.gates[what], f"{what} may go")


def carry_out(
    world: World,
    conditions: Conditions | None = None,
    *,
    gates: dict[str, Callable[[], object]] | None = None,
    workers: int = 4,
    spared: AbstractSet[Digest] = frozenset(),
    todo: Plan | None = None,
) -> Result:
    todo = todo or plan(world.listing(), ALL_GO, NOW)
    conditions = conditions or Conditions()
    conditions.listing = world.listing()
    with ThreadPoolExecutor(workers) as pool:
        deleter = Gated(world.client(), gates or {})
        result = execute(todo, deleter, conditions, pool, workers, spared=spared)
    assert len(dict(conditions.ends)) == len(conditions.ends)
    assert digests(result.deleted) == {digest for digest, end in conditions.ends if end is End.DELETED}
    ended = [*result.deleted, *result.refused, *result.failed, *result.stayed, *result.left]
    assert sorted(one.manifest.digest for one in ended) == sorted(one.manifest.digest for one in todo.delete)
    return result


def digests(deletions: list[Deletion]) -> set[Digest]:
    return {deletion.manifest.digest for deletion in deletions}


def before(world: World, *what: str) -> bool:
    """Whether these were deleted, in this order."""
    gone = world.gone()
    places = [gone.index(one) for one in what]
    return places == sorted(places)


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_index_goes_before_its_children(world: World, workers: int) -> None:
    """At any depth, and no deletion is asked for that has to be refused."""
    platform = image("shared")
    inner = index([platform, image(2)])
    outer = world.load(index([inner, image(3)]), tags="v1")
    other = world.load(index([platform, image(4)]), tags="v2")

    result = carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert len(result.deleted) == 7
    assert world.log.statuses == {200: 2, 202: 9}
    assert before(world, "v1", outer, inner.digest, platform.digest)
    assert before(world, "v2", other, platform.digest)


@pytest.mark.parametrize("workers", [1, 20])
def test_subject_goes_before_its_cosign_referrers(world: World, workers: int) -> None:
    """The registry knows nothing of signatures, and their order is ours."""
    subject = world.load(image(1, media_type=OCI_MANIFEST), tags="v1")
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))
    second = world.load(cosign_signature(signature), tags=cosign_tag(signature))

    carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert before(world, "v1", subject, signature, second)


def test_tags_are_looked_at_immediately_before(world: World) -> None:
    """Tag by tag: a look, then its deletion; then the image."""
    digest = world.load(image(1), tags=["a", "b", "c"])

    carry_out(world)

    assert world.asked("manifest_head", "tag_delete", "manifest_delete") == [
        *(step for tag in "abc" for step in (("HEAD", tag, 200), ("DELETE", tag, 202))),
        ("DELETE", digest, 202),
    ]


def test_oldest_goes_first(world: World) -> None:
    """One worker alone goes by age."""
    by_age = [world.load(image(age), age_days=age) for age in (50, 40, 30, 20)]

    carry_out(world, workers=1)

    assert world.gone() == by_age


def test_workers_work_side_by_side(world: World) -> None:
    """None of twenty goes before all have come."""
    together = threading.Barrier(20, timeout=DEADLINE_S)
    begun = {world.load(image(seed)) for seed in range(20)}

    carry_out(world, workers=20, gates=dict.fromkeys(begun, lambda: together.wait() >= 0))

    assert world.left == frozenset()


def test_no_barrier_between_images(world: World) -> None:
    """One image that takes its time holds up its own parts, not another's."""
    slow, fast = multi_arch("slow"), multi_arch("fast")
    for content in (slow, fast):
        world.load(content)
    others = {fast.digest, *(child.digest for child in fast.children)}

    carry_out(world, workers=2, gates={slow.digest: lambda: others.isdisjoint(world.left)})

    assert world.left == frozenset()
    assert all(before(world, child.digest, slow.digest) for child in fast.children)
    assert all(before(world, slow.digest, child.digest) for child in slow.children)


def test_child_waits_for_every_index(world: World) -> None:
    """A shared child goes when the last of them has gone."""
    platform = image("shared")
    first, second = world.load(index([platform], seed=1)), world.load(index([platform], seed=2))
    world.faults.add(Delay(0.2), kind="manifest_delete", path=first)

    carry_out(world)

    assert before(world, second, first, platform.digest)
    assert set(world.log.statuses) == {202}


@pytest.mark.parametrize(
    ("status", "code", "where"),
    [
        (400, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE", "refused"),
        (400, "GOOGLE_MANIFEST_DANGLING_TAG", "refused"),
        (400, "FAILED_PRECONDITION", "failed"),
        (403, "DENIED", "failed"),
    ],
)
def test_what_belongs_to_a_refused_image_stays(world: World, status: int, code: str, where: str) -> None:
    """Its children and referrers, and what belongs to them; everybody else goes."""
    refused = multi_arch("refused", attestations=True)
    world.load(refused)
    signature = world.load(cosign_signature(refused), tags=cosign_tag(refused))
    second = world.load(cosign_signature(signature), tags=cosign_tag(signature))
    shared = index([refused.children[0], image("other")])
    world.load(shared)
    lone = world.load(image("lone"))
    world.faults.add(Status(status, code), kind="manifest_delete", path=refused.digest)

    result = carry_out(world)

    assert digests(getattr(result, where)) == {refused.digest}
    assert world.left == {refused.digest, signature, second, *(one.digest for one in refused.children)}
    assert digests(result.deleted) == {lone, shared.digest, shared.children[1].digest}
    assert world.tags.keys() == {cosign_tag(refused), cosign_tag(signature)}


def test_follow_chain_is_carried_out_to_its_end(world: World) -> None:
    """A referrer of a child of a child of a referrer."""
    platform = image("platform")
    inner = index([platform])
    subject = world.load(image("subject"))
    top = index([inner], media_type=OCI_INDEX, subject=subject)
    world.load(top)
    last = world.load(cosign_signature(platform), tags=cosign_tag(platform))

    carry_out(world)

    assert world.left == frozenset()
    assert before(world, top.digest, inner.digest, platform.digest, last)
    assert before(world, top.digest, subject)


def test_long_chain_does_not_recurse(world: World) -> None:
    """Anyone can push a chain that is longer than a stack."""
    chain = [Manifest(Digest(f"sha256:{number:064x}"), "") for number in range(20_000)]
    deletions = [Deletion(Verdict(chain[0], Reason.EXPIRED))]
    for above, below in pairwise(chain):
        deletions.append(Deletion(Verdict(below, Reason.FOLLOWS), after=(above.digest,)))
    todo = Plan(world.repository, (), tuple(deletions))

    class Willing:
        """Twenty thousand requests would say nothing more."""

        def digest_of(self, reference: Tag | Digest) -> str | None:
            raise AssertionError(reference)

        def delete_tag(self, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
            raise AssertionError(tag, expected_digest, precondition)

        def delete_manifest(self, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
            return DELETED if digest and precondition() else NOT_SENT

    with ThreadPoolExecutor(4) as pool:
        assert len(execute(todo, Willing(), Conditions(), pool, 4).deleted) == 20_000
        spared = execute(todo, Willing(), Conditions(), pool, 4, spared={chain[0].digest})

    assert len(spared.stayed) == 20_000


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_loop_in_a_plan_ends(world: World, workers: int, members: int) -> None:
    """What waits for itself stays, and so does what waits for that; the rest goes."""
    loop = [world.load(image(number)) for number in range(members)]
    lone, behind = world.load(image("lone")), world.load(image("behind"))
    manifests = world.listing().manifests

    def deletion(digest: Digest, *after: Digest) -> Deletion:
        return Deletion(Verdict(manifests[digest], Reason.EXPIRED), after=after)

    todo = Plan(
        world.repository,
        (),
        (
            *(deletion(digest, loop[number - 1]) for number, digest in enumerate(loop)),
            deletion(behind, loop[0], lone),
            deletion(lone),
        ),
    )

    result = carry_out(world, todo=todo, workers=workers)

    assert digests(result.stayed) == {*loop, behind}
    assert world.left == {*loop, behind}


def test_subjects_that_wait_for_one_another_end(world: World) -> None:
    """Two refused subjects, each with a referrer that waits for the other: nobody hangs, nobody goes."""
    first, second = world.load(image(1)), world.load(image(2))
    about_first, about_second = world.load(referrer(first)), world.load(referrer(second))
    manifests = world.listing().manifests

    def deletion(digest: Digest, after: tuple[Digest, ...] = ()) -> Deletion:
        return Deletion(Verdict(manifests[digest], Reason.EXPIRED), after=after, may_be_subject=not after)

    todo = Plan(
        world.repository,
        (),
        (
            deletion(first),
            deletion(second),
            deletion(about_first, after=(first, second)),
            deletion(about_second, after=(first, second)),
        ),
    )

    result = carry_out(world, todo=todo)

    assert digests(result.deleted) | digests(result.stayed) | digests(result.refused) == set(manifests)
    assert world.left.isdisjoint(digests(result.deleted))


@pytest.mark.parametrize("workers", [1, 4, 20])
@pytest.mark.parametrize("code", ["GOOGLE_MANIFEST_REFERRING_MANIFEST", "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE"])
def test_refused_subject_is_asked_again_behind_its_referrers(world: World, code: str, workers: int) -> None:
    """Its referrers go first, theirs before them, and each subject is asked twice."""
    world.store.referrer_code = code
    subject = world.load(image("subject"), tags="v1")
    about = [world.load(referrer(subject, seed=seed)) for seed in range(3)]
    nested = world.load(referrer(about[0], seed="nested"))

    result = carry_out(world, workers=workers)

    assert world.left == frozenset()
    assert len(result.deleted) == 5
    assert before(world, "v1", nested, about[0], subject)
    assert before(world, about[1], subject)
    asked = [what for _, what, _ in world.asked("manifest_delete")]
    assert sorted(asked) == sorted([subject, subject, about[0], about[0], about[1], about[2], nested])
    assert world.asked("tag_delete", "manifest_head") == [("HEAD", "v1", 200), ("DELETE", "v1", 202)]


def test_subject_that_is_refused_for_another_reason_keeps_its_referrers(world: World) -> None:
    """If more than the planned referrers may stand against it, they stay with it."""
    subject = world.load(image("subject"))
    about = world.load(referrer(subject))

    result = carry_out(world, Conditions(planned=False))

    assert digests(result.refused) == {subject}
    assert world.left == {subject, about}


def test_subject_that_is_refused_twice_stays(world: World) -> None:
    """It is asked once more, and not for ever."""
    subject = world.load(image("subject"))
    world.load(referrer(subject))
    world.faults.add(Status(400, "GOOGLE_MANIFEST_REFERRING_MANIFEST"), kind="manifest_delete", path=subject)

    result = carry_out(world)

    assert digests(result.refused) == {subject}
    assert world.left == {subject}
    assert world.log.counts["manifest_delete"] == 3


def test_index_with_a_referrer_keeps_its_children_until_it_is_gone(world: World) -> None:
    """What belongs to a refused subject in other ways still waits for it."""
    top = multi_arch("top")
    world.load(top, tags="v1")
    about = world.load(referrer(top))
    world.faults.add(Delay(0.1), kind="manifest_delete", path=about)

    carry_out(world)

    assert world.left == frozenset()
    assert all(before(world, about, top.digest, child.digest) for child in top.children)
    assert [status for _, _, status in world.asked("manifest_delete")].count(400) == 1


def test_referrer_that_fails_keeps_its_subject(world: World) -> None:
    """Then the subject stays refused, with all that belongs to it."""
    top = multi_arch("top")
    world.load(top)
    about = world.load(referrer(top))
    world.faults.add(Status(403, "DENIED"), kind="manifest_delete", path=about)

    result = carry_out(world)

    assert digests(result.failed) == {about}
    assert digests(result.refused) == {top.digest}
    assert world.left == {about, top.digest, *(one.digest for one in top.children)}


def test_wanted_manifest_stays_with_what_belongs_to_it(world: World) -> None:
    """Somebody asked for it after it was judged."""
    wanted, other = multi_arch("wanted"), multi_arch("other")
    world.load(wanted, tags="v1")
    world.load(other, tags="v2")

    result = carry_out(world, Conditions(names={Digest(wanted.digest)}))

    assert world.left == {wanted.digest, *(one.digest for one in wanted.children)}
    assert world.tags == {"v1": wanted.digest}
    assert len(result.deleted) == 3
    assert len(result.stayed) == 3


def test_subject_of_a_wanted_referrer_stays(world: World) -> None:
    """What is kept needs its subject, with its tags; and its subject needs its other referrers."""
    subject = world.load(image("subject"), tags="v1")
    signature = world.load(cosign_signature(subject), tags=cosign_tag(subject))

    carry_out(world, Conditions(names={signature}))

    assert world.left == {subject, signature}
    assert world.tags == {"v1": subject, cosign_tag(subject): signature}


@pytest.mark.parametrize("workers", [1, 4])
def test_subject_of_a_wanted_oci_referrer_stays_whole(world: World, workers: int) -> None:
    """The same where the registry knows of it: the subject's other referrers must not go first."""
    subject = world.load(image("subject"), tags="v1")
    about = [world.load(referrer(subject, seed=seed), age_days=30 + seed) for seed in range(4)]

    carry_out(world, Conditions(names={about[0]}), workers=workers)

    assert world.left == {subject, *about}
    assert world.tags == {"v1": subject}


def test_child_that_is_wanted_lets_its_index_go(world: World) -> None:
    """An index needs its children, not the other way round."""
    platform = image("platform")
    top = world.load(index([platform, image(2)]), tags="v1")

    carry_out(world, Conditions(names={Digest(platform.digest)}))

    assert top not in world.left
    assert world.left == {platform.digest}


def test_what_is_wanted_in_the_last_moment_stays(world: World) -> None:
    """A message that arrives while the tags go spares the manifest."""
    conditions = Conditions()
    digest = world.load(image(1), tags="v1")
    world.faults.add(Before(lambda: conditions.names.add(digest)), kind="tag_delete")

    result = carry_out(world, conditions)

    assert digests(result.stayed) == {digest}
    assert world.left == {digest}


def test_spared_manifests_stay(world: World) -> None:
    """What an earlier plan failed to delete is not asked for again, nor is what belongs to it."""
    spared, other = multi_arch("spared"), multi_arch("other")
    world.load(spared, tags="v1")
    world.load(other)

    result = carry_out(world, spared={Digest(spared.digest)})

    assert world.left == {spared.digest, *(one.digest for one in spared.children)}
    assert len(result.stayed) == 3
    assert not any(spared.digest in one.path or "v1" in one.path for one in world.log.entries)


@pytest.mark.parametrize("begins", [0, 1, 3])
def test_nothing_begins_when_it_may_not(world: World, begins: int) -> None:
    """What is left is told from what stayed."""
    for seed in range(6):
        world.load(image(seed), age_days=60 - seed)

    result = carry_out(world, Conditions(begins=begins), workers=2)

    assert len(result.deleted) == begins
    assert len(result.left) == 6 - begins
    assert result.error is None


def test_error_lets_others_finish_and_begins_nothing(world: World) -> None:
    """A registry that is out of order is not asked for the rest."""
    failing = world.load(image("failing"), age_days=90)
    slow = world.load(image("slow"), tags=["a", "b"], age_days=99)
    rest = {world.load(image(seed), age_days=30) for seed in range(5)}
    world.faults.add(Status(503), kind="manifest_delete", path=failing)
    asked = functools.partial(world.log.of, "manifest_delete")

    result = carry_out(world, workers=2, gates={"b": lambda: len(asked()) == TIMING.attempts})

    assert isinstance(result.error, Unavailable)
    assert digests(result.deleted) == {slow}
    assert digests(result.left) == {failing, *rest}
    assert world.left == {failing, *rest}


@pytest.mark.parametrize("status", [401, 403])
def test_tag_that_may_not_be_looked_at_ends_the_run(world: World, status: int) -> None:
    """Permission for a reading is missing for all of them."""
    digest = world.load(image(1), tags="v1")
    world.faults.add(Status(status, "DENIED"), kind="manifest_head")

    result = carry_out(world)

    assert isinstance(result.error, PermissionDenied)
    assert world.tags == {"v1": digest}


@pytest.mark.parametrize("where", ["wanted", "ended", "standing_against"])
def test_defect_of_a_worker_is_not_swallowed(world: World, where: str) -> None:
    """An exception that nobody thought of comes out, and nobody waits for its worker for ever."""
    top = multi_arch("top")
    world.load(top)
    world.load(referrer(top))
    world.faults.add(Delay(0.1), kind="manifest_delete")

    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    conditions = Conditions()
    setattr(conditions, where, fail)

    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        execute(plan(world.listing(), ALL_GO, NOW), world.client(), conditions, pool, 2)


def test_workers_see_the_callers_context(world: World) -> None:
    """The trace of a request stands in its workers' log lines."""
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")
    seen = []

    class Looking(Conditions):
        def wanted(self) -> AbstractSet[Digest]:
            seen.append(variable.get("nothing"))
            return frozenset()

    for seed in range(8):
        world.load(image(seed))
    carry_out(world, Looking())

    assert set(seen) == {"mine"}


def test_empty_plan_asks_nothing(world: World) -> None:
    """Nothing to do needs nobody to do it."""
    result = carry_out(world, todo=plan(Listing(world.repository), ALL_GO, NOW))

    assert result == Result()
    assert world.log.total == 0
