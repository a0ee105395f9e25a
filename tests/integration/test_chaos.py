"""A short run of the chaos rounds, the judge put to the test, and what the rounds have found, as tests with names."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import requests
from msgspec.structs import replace

from cleaner.core.manifest import Listing, Manifest, decode_links, parse_upload_time
from cleaner.core.notification import Named
from cleaner.core.plan import plan
from cleaner.core.policy_document import policies_from_document
from cleaner.core.reference import Digest, Repository, Tag
from cleaner.core.relations import may_have_subject, must_be_read
from cleaner.function import Function
from cleaner.settings import Settings
from tests.chaos.cases import HOST, Case, History, make_case
from tests.chaos.processes import Event, Process
from tests.chaos.records import Message, now_ms
from tests.chaos.reports import failure
from tests.chaos.rounds import Round
from tests.emulator import Emulator
from tests.emulator.faults import Action, After, Before, DropAfter, DropBefore, Status
from tests.emulator.images import cosign_signature, cosign_tag, image, index, load, referrer
from tests.emulator.store import DANGLING_PARENT, OCI_MANIFEST, REFERRING_MANIFEST, Store
from tests.support import oracle
from tests.support.builders import one_rule
from tests.support.oracle import OCI_INDEX, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.emulator.images import Content

SECONDS = 10
HISTORIES = 250
# Of a history in which a cut would cost an untagged image that is kept.
CUT_SEED = 5


@pytest.mark.timeout(300)
def test_chaos_loses_nothing() -> None:
    """Ten seconds of rounds, always the same ones; `make chaos` goes on from there."""
    end = time.monotonic() + SECONDS
    deleted = 0
    for seed in range(1_000_000):
        outcome = Round(make_case(seed, "local")).run()
        assert outcome.is_well, failure(outcome)
        deleted += outcome.counts["manifests deleted"]
        if time.monotonic() > end:
            break
    assert deleted, "nothing was deleted, so nothing was tried"


# The oracle and the product, which share no line, say the same.


@pytest.mark.parametrize("seed", range(0, HISTORIES, 50))
def test_oracle_and_plan_agree(seed: int) -> None:
    """The same reason for every manifest of random histories, with everything named that a message may name."""
    for number in range(seed, seed + 50):
        rng = random.Random(number)
        store = Store()
        History(rng, store, "registry/acme/app", now_ms()).fill(rng.randint(5, 40))
        state = [Held.of(one) for one in store.manifests("registry/acme/app").values()]
        case = make_case(number)
        policy = {**case.policies[0], "max_deletions": None}
        now = now_ms()
        named = frozenset(rng.sample(sorted(store.digests("registry/acme/app")), rng.choice((0, 0, 2))))
        if oracle.Reading(state).is_malformed:
            continue

        expected = oracle.decide(state, policy, now, just_pushed=named)
        actual = plan(
            _listing(state),
            policies_from_document([policy], insecure=frozenset({"127.0.0.1:1"}))[0],
            datetime.fromtimestamp(now / 1000, UTC),
            named=Named(frozenset(map(Digest, named))),
        )

        reasons = {one.manifest.digest: one.reason.value for one in actual.keep}
        reasons |= {one.manifest.digest: one.reason.value for one in actual.delete}
        different = {
            digest[:15]: f"oracle {expected[digest]}, plan {reasons[Digest(digest)]}"
            for digest in expected
            if expected[digest] != reasons[Digest(digest)]
        }
        assert not different, f"history {number}, {policy}: {different}"


def _listing(state: list[Held]) -> Listing:
    bodies = {one.digest: one.body for one in state}
    listing = Listing.of(
        Repository("registry", "acme/app"),
        (
            Manifest(
                Digest(one.digest),
                one.media_type,
                tuple(sorted(map(Tag, one.tags))),
                parse_upload_time(one.uploaded),
            )
            for one in state
        ),
    )
    for documents in (must_be_read, may_have_subject):
        manifests = dict(listing.manifests)
        for digest in documents(listing):
            links = decode_links(bodies[digest], digest, manifests[digest].media_type).within(manifests)
            manifests[digest] = replace(manifests[digest], links=links)
        listing = Listing(listing.repository, manifests)
    return listing


# The judge: processes that do what they must not are found out, whatever the product does.


class _Stranger(Process):
    """Handles messages by itself, not as the product does."""

    def __init__(self, case: Case, who: str, dead: set[str]) -> None:
        self.who = who
        self._case = case
        self._dead = dead

    def kill(self) -> None:
        self._dead.add(self.who)

    def handle(self, message: Message, shape: int) -> str:
        del shape
        if message.repository and message.action == "INSERT" and self._case.repositories[message.repository]:
            try:
                self.act(f"http://{self.who}/v2/{message.repository}")
            except requests.RequestException:
                return "gone"
        return "acked"

    def act(self, base: str) -> None:
        raise NotImplementedError

    @staticmethod
    def listed(base: str) -> dict[str, dict[str, list[str]]]:
        manifests: dict[str, dict[str, list[str]]] = requests.get(f"{base}/tags/list", timeout=9).json()["manifest"]
        return manifests


class _Idler(_Stranger):
    def act(self, base: str) -> None:
        pass


class _Vandal(_Stranger):
    def act(self, base: str) -> None:
        for digest, entry in self.listed(base).items():
            if not entry["tag"]:
                requests.delete(f"{base}/manifests/{digest}", timeout=9)


class _Blind(_Stranger):
    def act(self, base: str) -> None:
        for entry in self.listed(base).values():
            for tag in entry["tag"]:
                requests.delete(f"{base}/manifests/{tag}", timeout=9)


class _Onlooker(_Stranger):
    def act(self, base: str) -> None:
        self.listed(base)


def _quiet_case() -> Case:
    """Everything goes, and nothing goes wrong."""
    case = make_case(5, "local")
    policy = {"repositories": ["127.0.0.1:*/acme/app-0"], **one_rule(1, 0)}
    case.repositories, case.policies, case.dry_run = {"acme/app-0": policy}, [policy], False
    case.faults, case.auth, case.page_size, case.kills, case.size = [], False, None, 0, 40
    case.time_limit_s, case.seconds, case.plan_age_s, case.latency_s = 30.0, 0.5, 60.0, 0.0
    case.cuts = case.commands = 0
    return case


@pytest.mark.parametrize(
    ("stranger", "what"),
    [
        (_Idler, "has listed nothing since it was published"),
        (_Vandal, "which its listing keeps"),
        (_Blind, "to be deleted without a look"),
        (_Onlooker, "left alone"),
    ],
)
def test_judge_finds_out(stranger: Callable[[Case, str, set[str]], Process], what: str) -> None:
    """A process that acknowledges without work, deletes what stays, or does not look first, is a loss."""
    case = _quiet_case()

    outcome = Round(case, make_local=stranger).run()

    assert any(what in loss.what for loss in outcome.losses), failure(outcome)
    assert not outcome.broken


@pytest.mark.parametrize("forgets", [True, False])
def test_run_that_forgets_what_it_has_deleted_is_found_out(monkeypatch: pytest.MonkeyPatch, *, forgets: bool) -> None:
    """Cut between an index and its children, it takes these for untagged images, and deletes others for them."""
    case = _quiet_case()
    policy = {"repositories": ["127.0.0.1:*/acme/app-0"], **one_rule(1, 2)}
    case.repositories, case.policies, case.seed = {"acme/app-0": policy}, [policy], CUT_SEED
    case.processes, case.workers, case.seconds, case.relist_delay_s = 1, 2, 1.0, 0.1
    case.cuts, case.commands, case.strikes, case.actions = 8, 0, 0.0, 0
    if forgets:
        monkeypatch.setattr("cleaner.core.history.History.restore", lambda _, listing: listing)

    outcome = Round(case).run()

    assert bool(outcome.losses) is forgets, failure(outcome)
    assert outcome.counts["cuts"]


def test_gap_is_no_loss() -> None:
    """A tag that always moves just after it was looked at is counted, and counted apart."""
    case = _quiet_case()
    case.strikes, case.seconds = 12.0, 3.0

    outcome = Round(case).run()

    assert outcome.is_well, failure(outcome)
    assert outcome.gaps["tag moved"]


def test_seed_decides_a_round() -> None:
    """The same seed makes the same case and the same history, so that a loss can be looked at again."""
    first, second = make_case(11), make_case(11)
    assert first == second
    stores = [Store(), Store()]
    for store in stores:
        History(random.Random(11), store, f"{HOST}/acme/app", 1_700_000_000_000).fill(30)
    assert stores[0].dump() == stores[1].dump()


# What the rounds have found.


class World:
    """One repository, and one function process that prunes it when it is told to."""

    def __init__(self, emulator: Emulator, **policy: object) -> None:
        self.emulator = emulator
        self.store = emulator.store
        self.name = emulator.name("acme/app")
        # The newest of the tags that a test is about is kept, and is no part of it.
        document = {"repositories": ["**"], **one_rule(1, 0, match="old.*"), **policy}
        environment = {
            "POLICIES": json.dumps([document]),
            "DRY_RUN": "false",
            "INSECURE_REGISTRIES": emulator.host,
        }
        self._function = Function(Settings.from_environment(environment))
        self.load(image("the newest"), "latest", "old-0", days=1)

    def load(self, content: Content, *tags: str, days: float = 30) -> str:
        return load(self.store, self.name, content, tags=tags, uploaded=datetime.now(UTC) - timedelta(days=days))

    def prune(self) -> None:
        message = Message(1, "acme/app", None, "pushed", "INSERT", time.time())
        self._function.handle(Event(message.envelope(self.emulator.host), ""))

    def after(self, act: Callable[[], object], **where: object) -> None:
        """Let ``act`` happen right after a request's work, before its answer."""
        self.emulator.faults.add(After(act), **where)

    def has(self, reference: str) -> bool:
        return self.store.has(self.name, reference)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as made:
        yield made


@pytest.mark.parametrize(("lost", "moves"), [(DropAfter(), After), (Status(503), Before), (DropBefore(), Before)])
def test_tag_that_moves_while_its_deletion_is_asked_again_stays(
    emulator: Emulator, lost: Action, moves: type[After | Before]
) -> None:
    """Every try of a tag's deletion has a look of its own: between two of them CI may have moved the tag."""
    world = World(emulator)
    world.load(image("judged"), "old-1", days=40)
    world.load(image("newer"), "old-2", days=30)
    pushed = world.load(image("pushed"), days=0)
    move = moves(lambda: world.store.tag(world.name, "old-1", pushed))
    for action in (lost, move):
        emulator.faults.add(action, kind="tag_delete", path="old-1", nth=1)

    world.prune()

    assert world.store.tags(world.name)["old-1"] == pushed


def test_subject_that_got_a_parent_since_the_listing_stays(emulator: Emulator) -> None:
    """The registry refuses it; its referrers, which go first, are the gap of the seconds after a listing."""
    world = World(emulator)
    subject = image("subject", media_type=OCI_MANIFEST)
    world.load(subject)
    world.load(referrer(subject))
    parent = index([subject], seed="pushed in the second of the run", media_type=OCI_INDEX)
    world.after(lambda: world.load(parent, "new", days=0), kind="tags_list", nth=1)

    world.prune()

    assert world.has(subject.digest)
    assert world.has(parent.digest)


def test_referrers_of_referrers_stay_when_the_tag_of_the_top_has_moved(emulator: Emulator) -> None:
    """A subject's tags go first, each checked, so that what came meanwhile is seen before a referrer is touched."""
    world = World(emulator)
    world.load(image("newer"), "old-2", days=3)
    subject = image("subject", media_type=OCI_MANIFEST)
    world.load(subject, "old-1")
    about = referrer(subject)
    world.load(about)
    about_that = world.load(referrer(about))
    pushed = world.load(image("pushed"), days=0)

    def move() -> None:
        world.store.tag(world.name, "v1", subject.digest)
        world.store.tag(world.name, "old-1", pushed)

    emulator.faults.add(Before(move), kind="manifest_head", path="old-1", nth=1)

    world.prune()

    assert all(world.has(digest) for digest in (subject.digest, about.digest, about_that))


def test_tag_that_moves_between_two_pages_ends_no_run(emulator: Emulator) -> None:
    """A tag that two pages show is one that moved; it protects both, and the rest goes."""
    world = World(emulator)
    emulator.behaviour.page_size = 1
    first, second = sorted((image(1), image(2)), key=lambda one: one.digest)
    world.load(first, "kept")
    world.load(second)
    gone = world.load(image("gone"), days=90)
    page = world.store.order(world.name).index(first.digest) + 1
    world.after(lambda: world.store.tag(world.name, "kept", second.digest), kind="tags_list", nth=page)

    world.prune()

    assert world.store.tags(world.name)["kept"] == second.digest
    assert not world.has(gone)


def test_index_with_a_referrer_and_a_kept_child_goes(emulator: Emulator) -> None:
    """A child that is kept for its own sake needs no parent, so it does not hold an index that is refused."""
    world = World(emulator)
    kept, gone = image("kept", media_type=OCI_MANIFEST), image("gone", media_type=OCI_MANIFEST)
    world.load(kept, "v1")
    expired = index([kept, gone], media_type=OCI_INDEX)
    world.load(expired, "old-1")
    about = world.load(referrer(expired))
    world.load(image("newer"), "old-2", days=3)

    world.prune()

    assert world.has(kept.digest)
    assert not any(world.has(digest) for digest in (expired.digest, gone.digest, about))


def test_refused_image_takes_no_place_of_max_deletions(emulator: Emulator) -> None:
    """What the registry refuses each time has not gone, so the next oldest goes."""
    world = World(emulator, max_deletions=1)
    held = image("held", media_type=OCI_MANIFEST)
    world.load(held, days=90)
    world.load(referrer(held), "v1", days=90)
    others = [world.load(image(number), days=number) for number in (60, 50)]

    for _ in range(3):
        world.prune()

    assert world.has(held.digest)
    assert not any(world.has(digest) for digest in others)


@pytest.mark.parametrize("code", [REFERRING_MANIFEST, DANGLING_PARENT])
def test_what_holds_a_referrers_signature_does_not_hold_the_subject(emulator: Emulator, code: str) -> None:
    """The registry refuses the signature alone; the subject and its referrer go, as the policy says."""
    emulator.store.referrer_code = code
    policy = one_rule(1, 0, match="old.*")
    world = World(emulator)
    subject = image("subject", media_type=OCI_MANIFEST)
    about = referrer(subject)
    signature = cosign_signature(about)
    # It has a tag, so it is not read for a subject.
    holder = referrer(signature)
    for one, tags in ((subject, ()), (about, ()), (signature, (cosign_tag(about),)), (holder, ("v1",))):
        world.load(one, *tags)

    world.prune()

    assert not any(world.has(one.digest) for one in (subject, about))
    assert all(world.has(one.digest) for one in (signature, holder))
    state = [Held.of(one) for one in world.store.manifests(world.name).values()]
    assert oracle.left_to_go(state, policy, int(time.time() * 1000)) == set()


def test_image_that_was_left_untagged_takes_no_place_in_the_next_run(emulator: Emulator) -> None:
    """The process that left it knows what it was, and so what belongs to it."""
    policy = one_rule(1, 1, match="old.*")
    world = World(emulator, **policy)
    stuck = index([image("child", media_type=OCI_MANIFEST)], media_type=OCI_INDEX)
    world.load(stuck, "old-1", days=20)
    world.load(image("newer"), "old-2", days=10)
    other = world.load(image("other"), days=30)
    parent = index([stuck], media_type=OCI_INDEX)
    world.after(lambda: world.load(parent, "v1", days=0), kind="tag_delete", path="old-1", nth=1)
    world.prune()
    world.store.delete_tag(world.name, "v1")
    world.store.force_delete(world.name, parent.digest)
    emulator.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", path=stuck.digest)

    world.prune()

    assert world.has(stuck.digest)
    assert world.has(other)
    state = [Held.of(one) for one in world.store.manifests(world.name).values()]
    now = int(time.time() * 1000)
    # A process that knows nothing of it would take the image for an untagged one.
    assert oracle.left_to_go(state, policy, now) == {other}
