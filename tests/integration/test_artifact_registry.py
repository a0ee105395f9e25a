"""Artifact Registry's REST API: long listings, and what is under a root."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from cleaner.core.errors import (
    CutShort,
    IncompleteListing,
    PermanentError,
    PermissionDenied,
    RepositoryNotFound,
    TimeLimitReached,
    Unavailable,
)
from cleaner.core.manifest import OCI_INDEX, OCI_MANIFEST
from cleaner.core.plan import plan
from cleaner.core.reference import Digest, Repository, Tag, parse_repository
from cleaner.core.rules import Reason
from cleaner.core.timing import Timing
from cleaner.google.artifact_registry import ArtifactRegistry
from cleaner.google.registry.client import Registry
from cleaner.google.rest import GoogleApi
from cleaner.google.transport import RequestBudget, Transport
from tests.emulator import Emulator, scenarios
from tests.emulator.credentials import ACCESS_TOKEN
from tests.emulator.faults import After, Before, BrokenJson, CutBody, Status
from tests.emulator.images import image, load, multi_arch, referrer
from tests.emulator.store import DANGLING_PARENT
from tests.support.builders import one_rule, policy
from tests.support.processes import DEADLINE_S
from tests.support.world import NOW, Clock, World

API = parse_repository("gcr.io/acme/api")
# The REST API tells an upload's time to the microsecond.
FINER = timedelta(microseconds=321)


class Account:
    """A service account: has one token, and another once that is refused."""

    more: Mapping[str, str] = MappingProxyType({})

    def access_token(self, refused: str | None = None) -> str:
        return ACCESS_TOKEN if refused is None else "ya29.fresh"

    def headers(self, token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}", **self.more}


class Rest:
    """The API of an emulator, spoken to over plain HTTP."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.store = emulator.store
        clock = Clock()
        self.clock = clock
        self.transport = Transport(clock=clock, sleep=clock.sleep, timing=Timing(read_timeout=5))
        self.api = ArtifactRegistry(GoogleApi(self.transport, Account(), f"{emulator.url}/"))

    def under(self, root: str) -> list[str]:
        return list(self.api.list_repositories(parse_repository(root), RequestBudget(1e9)))

    def fill(self, *names: str) -> None:
        for name in names:
            load(self.store, name, image(name), uploaded=NOW)


@pytest.fixture
def rest() -> Iterator[Rest]:
    with Emulator() as emulator:
        yield Rest(emulator)


@pytest.fixture
def long(google: World) -> World:
    """A Google host whose tags list is cut before its first entry, and whose REST API has them all."""
    google.emulator.behaviour.cut_at = 0
    google.emulator.behaviour.access_token = ACCESS_TOKEN
    api = ArtifactRegistry(GoogleApi(google.transport, Account(), "https://artifactregistry.googleapis.com/"))
    google.registry = Registry(google.transport, lambda _refused: ACCESS_TOKEN, frozenset(), lambda: api)
    return google


def test_listing_that_is_cut_short_comes_from_the_rest_api(rest: Rest) -> None:
    """Digest, type, tags, upload time and size are those of the registry."""
    first = load(rest.store, "gcr.io/acme/api", image(1), tags=["v1", "latest"], uploaded=NOW)
    top = load(rest.store, "gcr.io/acme/api", multi_arch(2), uploaded=datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC))

    listing = rest.api.list_manifests(API, RequestBudget(1e9))

    assert set(listing.manifests) == rest.store.digests("gcr.io/acme/api")
    found = listing.manifests[Digest(first)]
    assert (found.tags, found.uploaded, found.has_unnamed_tags) == (("latest", "v1"), NOW + FINER, False)
    assert found.size > 0
    found = listing.manifests[Digest(top)]
    assert found.media_type == OCI_INDEX or found.is_index
    assert found.uploaded == datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC) + FINER


def test_run_on_a_listing_that_is_cut_short_prunes_it(long: World) -> None:
    """The rest of the list is not lost, and neither is what a kept index needs."""
    kept = long.load(multi_arch("kept", attestations=True), tags="v1", age_days=40)
    for seed in range(5):
        long.load(multi_arch(seed, attestations=True), age_days=30)

    report = long.prune()

    assert kept in long.left
    assert len(long.left) == 5
    assert report.deleted == 25
    assert long.log.counts["rest_versions"] == 1


def test_later_listing_of_the_other_api_shows_nothing_as_new(long: World) -> None:
    """Deletions bring a large repository below what one listing holds; the two give times of different precision."""
    for seed in range(10):
        long.load(image(f"kept {seed}", media_type=OCI_MANIFEST), tags=f"keep{seed}")
    for seed in range(5):
        long.load(referrer(long.load(image(seed), tags=f"v{seed}", age_days=10)), age_days=10)
    behaviour = long.emulator.behaviour
    long.faults.add(Before(lambda: setattr(behaviour, "cut_at", None)), kind="manifest_delete", nth=1)
    long.faults.add(Status(400, DANGLING_PARENT), kind="manifest_delete", nth=2)

    report = long.prune(workers=8, **one_rule(5, 0, match="v.*", delete_after="1d"))

    assert (report.deleted, report.refused) == (10, 0)
    assert (long.log.counts["rest_versions"], long.log.counts["tags_list"]) == (1, 2)
    assert long.log.counts["manifest_get"] == 5


def test_listing_of_many_pages_is_read_to_its_end(rest: Rest) -> None:
    """A page has a thousand versions."""
    for seed in range(2_300):
        load(rest.store, "us-docker.pkg.dev/acme/apps/team/api", image(seed), uploaded=NOW)

    listing = rest.api.list_manifests(parse_repository("us-docker.pkg.dev/acme/apps/team/api"), RequestBudget(1e9))

    assert set(listing.manifests) == rest.store.digests("us-docker.pkg.dev/acme/apps/team/api")
    assert rest.emulator.log.counts["rest_versions"] == 3


def test_repository_beyond_the_limit_is_not_listed_in_vain_for_an_hour(long: World) -> None:
    """The first body says that there are more entries, and no more than that."""
    long.emulator.behaviour.cut_at = 10_000
    scenarios.run(long.store, "gcr.io", "tagged=10000", "acme/api")

    for seconds, in_vain in ((0, 1), (3599, 1), (1, 2), (1, 2)):
        long.clock.turn(seconds)
        assert len(long.client().list_manifests().manifests) == 10_000
        assert long.log.counts["tags_list"] == in_vain


def test_repository_that_was_beyond_the_limit_and_is_gone(long: World) -> None:
    """The registry has the last word on that."""
    long.emulator.behaviour.cut_at = 10_000
    scenarios.run(long.store, "gcr.io", "tagged=10000", "acme/api")
    long.client().list_manifests()
    long.store.remove_repository(long.name)

    with pytest.raises(RepositoryNotFound):
        long.client().list_manifests()


def test_rest_api_that_fails_within_the_hour_is_not_replaced(long: World) -> None:
    """What the registry would list is known to be cut short."""
    long.emulator.behaviour.cut_at = 10_000
    scenarios.run(long.store, "gcr.io", "tagged=10000", "acme/api")
    long.client().list_manifests()
    long.faults.add(Status(403), kind="rest_versions")

    with pytest.raises(PermissionDenied):
        long.client().list_manifests()

    assert long.log.counts["tags_list"] == 1


def test_time_limit_between_two_pages(rest: Rest) -> None:
    """No page is requested after it."""
    for seed in range(3):
        load(rest.store, "gcr.io/acme/api", image(seed), uploaded=NOW)
    rest.emulator.faults.add(After(lambda: rest.clock.turn(1000)), kind="rest_versions", nth=1)
    api = GoogleApi(rest.transport, Account(), f"{rest.emulator.url}/")
    path = "v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions"
    budget = RequestBudget(rest.clock() + 500)

    with pytest.raises(TimeLimitReached):
        list(api.pages(budget, path, [("pageSize", "1")], "a permission", bytes))

    assert rest.emulator.log.counts["rest_versions"] == 1


def test_listing_whose_tags_differ_is_asked_for_again(long: World) -> None:
    """That says nothing of how many entries the repository has."""
    long.load(image(1), tags="v1")

    for count in (1, 2):
        long.client().list_manifests()
        assert long.log.counts["tags_list"] == count


def test_next_page_is_requested_while_one_is_decoded(rest: Rest) -> None:
    """So the time that decoding takes does not add up with the registry's."""
    for seed in range(3):
        load(rest.store, "gcr.io/acme/api", image(seed), uploaded=NOW)
    requested = threading.Event()
    rest.emulator.faults.add(Before(requested.set), kind="rest_versions", nth=2)
    api = GoogleApi(rest.transport, Account(), f"{rest.emulator.url}/")
    path = "v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions"
    bodies: list[bytes] = []

    def decode(body: bytes | bytearray) -> None:
        assert bodies or requested.wait(DEADLINE_S), "the second page is not requested before the first is decoded"
        bodies.append(bytes(body))

    for _ in api.pages(RequestBudget(1e9), path, [("pageSize", "1")], "a permission", decode):
        pass

    assert len(set(bodies)) == 3
    assert rest.emulator.log.counts["rest_versions"] == 3


def test_page_that_nobody_wants_any_more_is_not_awaited(rest: Rest) -> None:
    """After an interrupt: the page that is under way may be requested again and again for a minute."""
    for seed in range(3):
        load(rest.store, "gcr.io/acme/api", image(seed), uploaded=NOW)
    requested, ended = threading.Event(), threading.Event()
    rest.emulator.faults.add(Before(requested.set), kind="rest_versions", nth=2)
    rest.emulator.faults.add(After(lambda: ended.wait(DEADLINE_S)), kind="rest_versions", nth=2)
    api = GoogleApi(rest.transport, Account(), f"{rest.emulator.url}/")
    path = "v1/projects/acme/locations/us/repositories/gcr.io/packages/api/versions"
    pages = api.pages(RequestBudget(1e9), path, [("pageSize", "1")], "a permission", bytes)

    next(pages)
    assert requested.wait(DEADLINE_S)
    pages.close()  # type: ignore[attr-defined]  # it is a generator

    assert rest.emulator.log.counts["rest_versions"] == 1, "the second page has been answered"
    ended.set()


def test_repository_of_too_many_entries_is_remembered_once_the_other_api_has_listed_it(long: World) -> None:
    """Where that is denied, the registry is asked again: the repository may have become smaller."""
    long.emulator.behaviour.cut_at = 10_000
    scenarios.run(long.store, "gcr.io", "tagged=10000", "acme/api")
    long.faults.add(Status(403), kind="rest_versions", nth=1)

    for count in (1, 2, 2):
        with contextlib.suppress(PermissionDenied):
            long.client().list_manifests()
        assert long.log.counts["tags_list"] == count


@pytest.mark.parametrize(
    ("count", "reason"), [(99, Reason.EXPIRED), (100, Reason.UNMATCHED), (130, Reason.UNMATCHED)]
)
def test_manifest_of_a_hundred_tags_stays(rest: Rest, count: int, reason: Reason) -> None:
    """The API names no more than a hundred, and one that it does not name may be one that has to stay."""
    tags = [f"b{at}" for at in range(count)]
    digest = load(rest.store, "gcr.io/acme/api", image(1), tags=tags, uploaded=NOW - timedelta(days=30))
    everything = policy(**one_rule(delete_after="1d"))

    todo = plan(rest.api.list_manifests(API, RequestBudget(1e9)), everything, NOW)

    verdicts = {one.manifest.digest: one.reason for one in (*todo.keep, *todo.delete)}
    assert verdicts == {digest: reason}


@pytest.mark.parametrize("time", [0, -1, 1, "nonsense", None], ids=str)
def test_time_that_is_none_is_an_unknown_age(rest: Rest, time: int | str | None) -> None:
    """1970 is how a time that was never set is spelled."""
    load(rest.store, "gcr.io/acme/api", image(1), uploaded=time)

    (manifest,) = rest.api.list_manifests(API, RequestBudget(1e9)).manifests.values()

    assert (manifest.uploaded is None) == (time != 1)


def test_rest_api_that_fails_deletes_nothing(long: World) -> None:
    """A page that cannot be read shortens no list."""
    for seed in range(5):
        long.load(image(seed), tags=f"v{seed}")
    long.faults.add(Status(503), kind="rest_versions")

    with pytest.raises(Unavailable):
        long.run().prune()

    assert len(long.left) == 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(403, "DENIED"), PermissionDenied),
        (Status(401), PermissionDenied),
        (Status(404), RepositoryNotFound),
        (BrokenJson(), Unavailable),
        (CutBody(), Unavailable),
        (Status(200, body=b'{"versions": 5}'), IncompleteListing),
        (Status(200, body=b'{"versions": [{"name": "x/versions/latest"}]}'), IncompleteListing),
        (Status(200, body=b"[" * 100_000), (IncompleteListing, Unavailable)),
        (Status(200, body=b'{"nextPageToken": "again"}'), IncompleteListing),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else repr(value)[:40],
)
def test_rest_listing_that_cannot_be_read(rest: Rest, fault: object, error: type[Exception]) -> None:
    """Every way of not getting a whole answer is an error of its kind."""
    rest.fill("gcr.io/acme/api")
    rest.emulator.faults.add(fault, kind="rest_versions")  # type: ignore[arg-type]  # any of the actions

    with pytest.raises(error):
        rest.api.list_manifests(API, RequestBudget(1e9))


def test_name_that_is_no_package_has_no_rest_listing(rest: Rest) -> None:
    """A project alone holds no images in Artifact Registry."""
    with pytest.raises(IncompleteListing):
        rest.api.list_manifests(Repository("us-docker.pkg.dev", "acme/apps"), RequestBudget(1e9))

    assert rest.emulator.log.total == 0


def test_registry_that_is_not_googles_has_no_rest_api(world: World) -> None:
    """A list that was cut short there cannot be asked for elsewhere."""
    world.load(image(1), tags="a")
    world.load(image(2), tags="b")
    world.emulator.behaviour.cut_at = 1
    api = ArtifactRegistry(GoogleApi(world.transport, Account(), f"{world.emulator.url}/"))
    world.registry.rest = lambda: api

    with pytest.raises(CutShort):
        world.client().list_manifests()

    assert world.log.counts["rest_versions"] == 0


def test_credential_goes_to_https_alone(long: World, rest: Rest) -> None:
    """Whoever stands in for Google over plain HTTP gets none; Google gets its own."""
    long.load(image(1), tags="a")
    long.load(image(2), tags="b")
    rest.fill("gcr.io/acme/api")

    long.client().list_manifests()
    rest.api.list_manifests(API, RequestBudget(1e9))

    assert [entry.authorization for entry in long.log.of("rest_versions")] == ["credential"]
    assert [entry.authorization for entry in rest.emulator.log.entries] == [""]


def test_project_of_a_persons_credentials_is_charged(long: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google refuses to charge gcloud's own."""
    monkeypatch.setattr(Account, "more", {"x-goog-user-project": "acme-billing"})
    sent: list[str | None] = []
    send = long.transport.send

    def watched(budget: RequestBudget, method: str, url: str, headers: dict[str, str], *, max_bytes: int) -> object:
        sent.append(headers.get("x-goog-user-project"))
        return send(budget, method, url, headers, max_bytes=max_bytes)

    monkeypatch.setattr(long.transport, "send", watched)
    long.load(image(1), tags="a")

    assert long.registry.rest is not None
    long.registry.rest().list_manifests(long.repository, long.client().budget)

    assert sent == ["acme-billing"]


@pytest.mark.parametrize(
    ("root", "found"),
    [
        ("gcr.io/acme", ["gcr.io/acme/api", "gcr.io/acme/web/front", "gcr.io/acme/web/shop/cart"]),
        ("us-docker.pkg.dev/acme/gcr.io", ["gcr.io/acme/api", "gcr.io/acme/web/front", "gcr.io/acme/web/shop/cart"]),
        ("gcr.io/acme/web", ["gcr.io/acme/web/front", "gcr.io/acme/web/shop/cart"]),
        ("gcr.io/acme/api", ["gcr.io/acme/api"]),
        ("gcr.io/acme/we", []),
        ("us-docker.pkg.dev/acme/apps", ["us-docker.pkg.dev/acme/apps/api"]),
        ("eu.gcr.io/example.com/acme", ["eu.gcr.io/example.com/acme/api"]),
    ],
)
def test_repositories_under_a_root(rest: Rest, root: str, found: list[str]) -> None:
    """At the root and below it, by whole path segments, each by its canonical name."""
    rest.fill(
        "gcr.io/acme/api",
        "gcr.io/acme/web/front",
        "gcr.io/acme/web/shop/cart",
        "gcr.io/other/api",
        "us-docker.pkg.dev/acme/apps/api",
        "us-docker.pkg.dev/acme/more/api",
        "eu.gcr.io/example.com/acme/api",
    )

    assert sorted(rest.under(root)) == found


def test_name_of_a_package_is_given_as_it_is(rest: Rest) -> None:
    """Whoever asks for it judges whether it can be read."""
    rest.fill("us-docker.pkg.dev/acme/apps/my___func", "us-docker.pkg.dev/acme/apps/Upper/a b%2F\u00e9")

    assert sorted(rest.under("us-docker.pkg.dev/acme/apps")) == [
        "us-docker.pkg.dev/acme/apps/Upper/a b%2F\u00e9",
        "us-docker.pkg.dev/acme/apps/my___func",
    ]


@pytest.mark.parametrize("mode", ["VIRTUAL_REPOSITORY", "REMOTE_REPOSITORY"])
def test_remote_and_virtual_repositories_are_left_out(rest: Rest, mode: str) -> None:
    """They are not for deleting."""
    rest.fill("us-docker.pkg.dev/acme/mirror/api")
    rest.store.set_mode("us-docker.pkg.dev/acme/mirror", mode)

    assert rest.under("us-docker.pkg.dev/acme/mirror") == []


def test_root_that_names_no_project_is_refused(rest: Rest) -> None:
    """A domain is none."""
    with pytest.raises(PermanentError, match=r"LOCATION-docker\.pkg\.dev/PROJECT"):
        rest.under("us-docker.pkg.dev/example.com")


def test_root_that_does_not_exist(rest: Rest) -> None:
    """Nothing to sweep."""
    with pytest.raises(RepositoryNotFound):
        rest.under("us-docker.pkg.dev/acme/nowhere")


def test_referrers_of_a_long_listing_are_read(long: World) -> None:
    """What the REST API lists is read for subjects like any other."""
    subject = long.load(image("kept"), tags="v1")
    about = long.load(referrer(subject), age_days=50)
    long.load(image("old"))

    long.prune()

    assert long.left == {subject, about}
    assert long.tags == {Tag("v1"): subject}
