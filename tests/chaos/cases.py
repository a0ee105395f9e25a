"""What a round consists of: a case drawn from a seed, and the histories of its repositories."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.emulator.images import (
    Content,
    attestation,
    cosign_signature,
    cosign_tag,
    image,
    index,
    load,
    raw,
    referrer,
    referrers_index,
)
from tests.emulator.store import DANGLING_PARENT, REFERRING_MANIFEST, Store
from tests.support.oracle import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, SCHEMA_1

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# The store's name for whatever address a process is told to ask.
HOST: Final = "registry"


@dataclass(slots=True)
class Case:
    """Everything that a seed decides."""

    seed: int
    mode: str
    policies: list[dict[str, object]]
    # Path -> its policy, or None where none matches.
    repositories: dict[str, dict[str, object] | None]
    processes: int
    workers: int
    time_limit_s: float
    plan_age_s: float
    referrers_age_s: float
    relist_delay_s: float
    grace_s: float
    dry_run: bool
    auth: bool
    expires_in: int
    style: str
    page_size: int | None
    latency_s: float
    referrer_code: str
    size: int
    actions: int
    strikes: float
    kills: int
    cuts: int
    commands: int
    seconds: float
    faults: list[str]

    def is_dry(self, repository: str) -> bool:
        policy = self.repositories[repository]
        return self.dry_run or (policy is not None and policy.get("dry_run") is True)


FAULTS: Final = (
    "429",
    "quota",
    "500",
    "502",
    "503",
    "504",
    "408",
    "reset before",
    "reset after",
    "stall",
    "cut body",
    "broken JSON",
    "delay",
    "outage",
    "unreadable",
)


def make_case(seed: int, mode: str | None = None) -> Case:
    rng = random.Random(seed)
    # Always drawn, so that a seed means the same whether the mode is given or not.
    drawn = "framework" if rng.random() < 0.2 else "local"
    mode = mode or drawn
    repositories: dict[str, dict[str, object] | None] = {}
    policies = []
    for number in range(rng.choice((1, 1, 1, 2))):
        path = f"acme/app-{number}"
        repositories[path] = _policy(rng, path)
        policies.append(repositories[path])
    if rng.random() < 0.3:
        repositories["other/app"] = None
    # A plan that is not carried out before it is too old, or the time is over.
    slow = rng.random() < 0.1
    long = slow and rng.random() < 0.5
    if slow:
        for policy in policies:
            if policy is not None:
                policy |= {
                    "tagged": [{"match": ".*", "keep": 1}],
                    "untagged": {"keep": 0},
                    "orphans": {"keep": 0},
                    "max_deletions": None,
                    "dry_run": False,
                }
    is_short = rng.random() < 0.1 or long
    # A listing of many pages takes longer than a short time limit where the machine is busy with something else.
    page_sizes = (None, 20) if is_short else (None, None, 1, 3, 7, 20)
    return Case(
        seed=seed,
        mode=mode,
        policies=[one for one in policies if one is not None],
        repositories=repositories,
        processes=1 if slow else rng.choice((1, 2, 2, 3) if mode == "local" else (1, 2, 2)),
        workers=1 if slow else rng.choice((1, 2, 4, 8)),
        time_limit_s=rng.choice((1.0, 2.0)) if is_short else 30.0,
        plan_age_s=0.5 if slow and not long else rng.choice((0.05, 0.3, 1.5, 3.0, 60.0)),
        referrers_age_s=rng.choice((0.5, 2.0, 10.0)),
        # Within the time limit there must be time for two listings.
        relist_delay_s=0.2 if is_short else rng.choice((0.1, 0.3, 1.0)),
        grace_s=20.0,
        dry_run=rng.random() < 0.02 and not slow,
        auth=rng.random() < 0.5,
        expires_in=rng.choice((3600, 3600, 2)),
        style=rng.choice(("gcr", "ar")),
        page_size=rng.choice(page_sizes) if not slow else None,
        latency_s=0.08 if slow else rng.choice((0, 0.002, 0.01, 0.03)),
        referrer_code=rng.choice((REFERRING_MANIFEST, DANGLING_PARENT)),
        size=rng.randint(35, 50) if slow else rng.randint(5, 40),
        actions=rng.randint(4, 30),
        strikes=rng.choice((0.1, 0.4, 0.8)),
        kills=0 if slow else rng.choice((0, 0, 1, 2, 3)),
        cuts=rng.choice((0, 1, 2, 4, 8)),
        commands=rng.choice((0, 0, 1, 2)) if mode == "local" and not slow else 0,
        seconds=rng.uniform(0.5, 1.5) + (5.0 if slow else 0.0),
        faults=rng.sample(
            [one for one in FAULTS if not slow or one not in ("429", "quota")], rng.choice((0, 1, 2, 3, 5, 8))
        ),
    )


def _policy(rng: random.Random, path: str) -> dict[str, object]:
    policy: dict[str, object] = {"repositories": [f"127.0.0.1:*/{path}"]}
    optional: dict[str, Callable[[], object]] = {
        "min_age": lambda: rng.choice(("10m", "45m", "1h", "1h30m")),
        "tagged": lambda: _tagged(rng),
        "untagged": lambda: rng.choice(_UNTAGGED),
        "orphans": lambda: rng.choice(_ORPHANS),
        "max_deletions": lambda: rng.choice((None, None, None, None, 1, 3, 8)),
        "dry_run": lambda: rng.random() < 1 / 16,
    }
    for key, draw in optional.items():
        value = draw()
        # Without rules for tags little is deleted.
        if rng.random() < (0.92 if key == "tagged" else 0.75):
            policy[key] = value
    return policy


def _tagged(rng: random.Random) -> list[dict[str, object]]:
    """A few of the rules, in any order; mostly one for whatever is left comes last."""
    rules = rng.sample(_RULES, rng.choice((0, 0, 1, 2, 3, 4)))
    if not rules or rng.random() < 0.7:
        rules.append({"match": rng.choice((".*", ["latest|dev", ".*"], "(main|pr|dev|next)?.*"))})
    return [{**rule, **({} if rule.get("keep") == "all" else _kept(rng))} for rule in rules]


def _kept(rng: random.Random) -> dict[str, object]:
    """What a rule keeps.  No age is that of anything (see ``History``)."""
    keep = rng.choice((0, 1, 1, 2, 3))
    rules: tuple[dict[str, object], ...] = (
        {"keep": keep},
        {"keep": keep},
        {"keep": keep or 1, "delete_after": rng.choice(("2d", "1w", "30d"))},
        {"keep": keep, "keep_within": rng.choice(("6h", "3d"))},
        {"keep": keep or 2, "keep_within": "1d", "delete_after": "20d"},
        {"keep_within": rng.choice(("1d", "1w"))},
        {"delete_after": rng.choice(("1d", "10d"))},
    )
    return rng.choice(rules)


_RULES: Final[Sequence[dict[str, object]]] = (
    {"match": r"v[0-9]+\.[0-9]+\.[0-9]+", "keep": "all"},
    {"match": ["latest", "dev"], "keep": "all"},
    {"match": r"sha256-.*\.sbom", "keep": "all"},
    {"match": r"v([0-9]+\.[0-9]+)\..*", "order": "version"},
    {"match": ["v.*", r"dev-[0-9]+"], "order": "version"},
    {"match": "(main|next)-[0-9a-f]{7}"},
    {"match": "pr-([0-9]+)-[0-9a-f]{7}"},
    {"match": ["(main)-.*", "pr-(?:([0-9]+)-)?[0-9a-f]{7}"]},
    {"match": ["dev.*", "latest"]},
    {"match": "sha256-.*"},
)
_UNTAGGED: Final[Sequence[dict[str, object]]] = (
    {"keep": 0},
    {"keep": 0},
    {"keep": 1},
    {"keep": 2},
    {"keep": 3},
    {"keep": 1, "delete_after": "2d"},
    {"keep": 2, "delete_after": "30d"},
    {"keep": 1, "keep_within": "1d"},
    {"keep_within": "3d"},
    {"delete_after": "1w"},
    {"keep": "all"},
)
_ORPHANS: Final[Sequence[dict[str, object]]] = (
    {"keep": 0},
    {"keep": 0},
    {"keep": 0},
    {"keep": "all"},
    {"keep_within": "3d"},
    {"delete_after": "10d"},
)


class History:
    """What a repository holds before the round: what CI leaves, and what somebody who wants to confuse us pushes."""

    def __init__(self, rng: random.Random, store: Store, repository: str, now_ms: int) -> None:
        self._rng = rng
        self._store = store
        self._repository = repository
        self._now_ms = now_ms
        self._made: list[Content] = []
        self._age_ms = 0
        # Subjects that are not there, and might come.
        self.absent: list[Content] = []

    def fill(self, size: int) -> None:
        makers: dict[Callable[[], None], int] = {
            self._image: 6,
            self._index: 7,
            self._sign: 4,
            self._refer: 5,
            self._referrers_index: 3,
            self._merge: 3,
            self._artifact: 2,
            self._plain: 3,
            self._tag_again: 2,
            self._lone: 3,
            self._strange: 2,
            self._loop: 1,
        }
        self._image()
        for _ in range(size):
            self._rng.choices(list(makers), list(makers.values()))[0]()

    def _add(self, content: Content, tags: Sequence[str] = ()) -> Content:
        load(self._store, self._repository, content, tags=tags, uploaded=self._uploaded())
        self._made.append(content)
        return content

    def _uploaded(self) -> int | str | None:
        """Never near a boundary of a policy: what is young stays so for the whole round, and what is old is old."""
        rng = self._rng
        if rng.random() < 0.03:
            return rng.choice((None, 0, "-5", "soon"))
        if not self._age_ms or rng.random() > 0.15:
            minutes = rng.choice((3, 25)) if rng.random() < 0.12 else 20 + 60 * rng.randint(2, 24 * 60)
            self._age_ms = minutes * 60_000
        return self._now_ms - self._age_ms

    def _seed(self) -> str:
        return f"{self._repository} {self._rng.random()}"

    def _type(self) -> str:
        return self._rng.choice((DOCKER_MANIFEST, OCI_MANIFEST))

    def _tags(self, most: int = 2) -> list[str]:
        return [some_tag(self._rng) for _ in range(self._rng.randint(0, most))]

    def _any(self) -> Content:
        return self._rng.choice(self._made)

    def _image(self) -> None:
        self._add(image(self._seed(), media_type=self._type()), self._tags())

    def _index(self) -> None:
        rng = self._rng
        children: list[Content] = []
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.25:
                child = self._any()
            else:
                child = image(self._seed(), media_type=self._type(), platform=rng.choice(("amd64", "arm64")))
                if rng.random() < 0.15:
                    self._add(child, self._tags(1))
            children.append(child)
        if rng.random() < 0.3:
            as_referrer, is_annotated = rng.random() < 0.2, rng.random() < 0.8
            children += [attestation(child, as_referrer=as_referrer, is_annotated=is_annotated) for child in children]
        absent = [image(self._seed()).digest] if rng.random() < 0.1 else []
        subject = None
        media_type = None
        if rng.random() < 0.08:
            # It may even be one of its own children.
            subject, media_type = rng.choice([*children, self._any()]), OCI_INDEX
        self._add(
            index(children, absent=absent, subject=subject, media_type=media_type, seed=self._seed()), self._tags()
        )

    def _sign(self) -> None:
        of = self._any()
        suffix = self._rng.choice(("sig", "sig", "att", "sbom", ""))
        if self._rng.random() < 0.2:
            # An old client's, which is a referrer only while its subject is there.
            signature = image(self._seed(), media_type=DOCKER_MANIFEST)
        else:
            signature = cosign_signature(of, seed=self._seed())
        self._add(signature, [cosign_tag(of, suffix), *(self._tags(1) if self._rng.random() < 0.1 else ())])

    def _refer(self) -> None:
        made = referrer(self._any(), seed=self._seed())
        self._add(made, self._tags(1) if self._rng.random() < 0.1 else ())

    def _referrers_index(self) -> None:
        """What a client leaves whose registry has no referrers API: an index of them, by the subject's tag.

        For each further referrer it pushes a new index, and the old one loses the tag.
        """
        rng = self._rng
        of = self._any() if rng.random() < 0.9 else image(self._seed())
        listed = [referrer(of, seed=self._seed()) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.1:
            listed.append(referrer(self._any(), seed=self._seed()))
        for one in listed:
            self._add(one, self._tags(1) if rng.random() < 0.1 else ())
        for count in range(1, len(listed)):
            if rng.random() < 0.7:
                self._add(referrers_index(listed[:count], seed=self._seed()))
        is_typed = rng.random() < 0.8
        made = referrers_index(listed, seed=self._seed()) if is_typed else index(listed, media_type=OCI_INDEX)
        tag = cosign_tag(of, "")
        self._add(made, [tag] if tag not in self._store.tags(self._repository) else ())

    def _merge(self) -> None:
        """Indexes of one platform each, as CI jobs push them, and the index that is put together of them."""
        rng = self._rng
        platforms = [
            image(self._seed(), media_type=OCI_MANIFEST, platform=name)
            for name in rng.sample(("amd64", "arm64", "arm"), rng.randint(1, 3))
        ]
        parts = [index([one], media_type=OCI_INDEX, seed=self._seed()) for one in platforms]
        merged = index(platforms, media_type=OCI_INDEX, seed=self._seed())
        for part in parts:
            self._add(part, self._tags(1) if rng.random() < 0.2 else ())
        for _ in range(rng.choice((1, 1, 2))):
            self._add(merged, self._tags())
            # The same once more, as a retried job pushes it.
            merged = index(platforms, media_type=OCI_INDEX, seed=self._seed())

    def _artifact(self) -> None:
        """What is no image: a chart, a signature that lost its tag, what an artifact type names."""
        rng = self._rng
        made = rng.choice(
            (
                lambda: _artifact(self._seed(), config="application/vnd.cncf.helm.config.v1+json"),
                lambda: _artifact(self._seed(), artifact_type="application/vnd.acme.report"),
                lambda: _artifact(self._seed(), artifact_type=""),
                lambda: cosign_signature(image(self._seed()), seed=self._seed()),
                lambda: attestation(image(self._seed()), seed=self._seed()),
            )
        )()
        self._add(made, self._tags(1) if rng.random() < 0.3 else ())

    def _plain(self) -> None:
        """An untagged image, as a moved tag leaves it."""
        self._add(image(self._seed(), media_type=self._type()))

    def _tag_again(self) -> None:
        digest = self._any().digest
        if self._store.has(self._repository, digest):
            self._store.tag(self._repository, some_tag(self._rng), digest)

    def _lone(self) -> None:
        absent = image(self._seed())
        self.absent.append(absent)
        if self._rng.random() < 0.5:
            self._add(referrer(absent, seed=self._seed()))
        else:
            self._add(cosign_signature(absent, seed=self._seed()), [cosign_tag(absent)])

    def _strange(self) -> None:
        rng = self._rng
        kind = rng.random()
        if kind < 0.04:
            # A malformed index: nothing of the whole repository may be deleted.
            self._add(raw(b'{"schemaVersion":2}' + b" " * rng.randint(0, 99), OCI_INDEX))
        elif kind < 0.3:
            # One that lists nothing is no malformed one; nobody can pull one whose manifests are all absent.
            absent = [image(self._seed()).digest for _ in range(rng.randint(0, 2))]
            made = index([], absent=absent, media_type=rng.choice((OCI_INDEX, DOCKER_LIST)), seed=self._seed())
            self._add(made, self._tags(1))
        else:
            media_type = rng.choice((*SCHEMA_1, "application/vnd.acme.unknown.v1+json"))
            self._add(raw(self._seed().encode(), media_type), self._tags(1))

    def _loop(self) -> None:
        first = self._add(image(self._seed(), media_type=OCI_MANIFEST))
        if self._rng.random() < 0.4:
            self._store.tag(self._repository, cosign_tag(first), first.digest)
            return
        second = self._add(image(self._seed(), media_type=OCI_MANIFEST))
        self._store.tag(self._repository, cosign_tag(first), second.digest)
        self._store.tag(self._repository, cosign_tag(second), first.digest)


def _artifact(seed: str, *, artifact_type: str | None = None, config: str | None = None) -> Content:
    """An OCI manifest whose document says that it holds something else than an image."""
    document = json.loads(image(seed, media_type=OCI_MANIFEST).body)
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if config is not None:
        document["config"]["mediaType"] = config
    return raw(json.dumps(document).encode(), OCI_MANIFEST)


def some_tag(rng: random.Random) -> str:
    commit = f"{rng.randrange(16**7):07x}"
    spelled = (
        f"main-{commit}",
        f"main-{commit}",
        f"pr-{rng.randint(1, 3)}-{commit}",
        f"pr-{rng.randint(1, 3)}-{commit}",
        f"v1.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
        f"v1.{rng.randint(0, 1)}.{rng.randint(8, 11)}-rc.{rng.randint(1, 2)}",
        "latest",
        "dev",
        f"dev-{rng.randint(1, 5)}",
        f"next-{commit}",
    )
    return rng.choice(spelled)
