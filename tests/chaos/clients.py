"""Who pushes, moves tags and attaches things while runs are on, mostly in the worst moment."""

from __future__ import annotations

import contextlib
import random
import time
import traceback
from typing import TYPE_CHECKING

import requests

from tests.chaos.cases import HOST, Case, some_tag
from tests.chaos.records import Asked, Pushed, Records, Watched, now_ms
from tests.emulator.images import (
    Content,
    cosign_signature,
    cosign_tag,
    image,
    index,
    referrer,
    referrers_index,
)
from tests.emulator.store import NOW, Refusal
from tests.support import oracle
from tests.support.oracle import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Clients:
    """Everybody who pushes, tags, signs and deletes during a round.  Runs in the registry's thread only.

    A script does one step at a time; the steps of several scripts mix, and what the processes ask comes in between.
    """

    def __init__(
        self, rng: random.Random, case: Case, records: Records, registry: Watched, publish: Callable[..., None]
    ) -> None:
        self._rng = rng
        self._case = case
        self._records = records
        self._registry = registry
        self._store = records.store
        self._publish = publish
        self._scripts: list[Iterator[None]] = []
        self._contents: dict[str, Content] = {}
        # After how many requests something happens, what, and where.
        self._planned: list[tuple[int, Callable[[str], None], str]] = []
        self._passed = 0
        self._actions = case.actions
        self._expired = 0.0
        # What each process was refused last.
        self._refused: dict[str, str] = {}
        self.is_over = False

    # When.

    def after(self, entry: Asked) -> None:
        """React to a request whose work is done and whose answer is not out yet."""
        if self.is_over or self._case.repositories.get(entry.repository) is None:
            return
        self._passed += 1
        self._do_planned()
        if entry.kind == "tags_list" and entry.status == requests.codes.ok and not entry.has_more:
            self._after_listing(entry)
        else:
            self._after_change(entry)
        if self._rng.random() < 0.1:
            self.step()
        if self._case.auth and self._rng.random() < 0.02 and time.time() - self._expired > 1.5:
            self._expired = time.time()
            self._records.expired += 1
            self._records.note("every token expires")
            self._registry.expire_tokens()

    def _after_listing(self, entry: Asked) -> None:
        rng, strikes = self._rng, self._case.strikes
        if entry.who in self._refused and rng.random() < strikes:
            # It was just looked whether anything new belongs to what was refused.
            self._attach(entry.repository, self._refused.pop(entry.who))
        elif rng.random() < strikes:
            for _ in range(rng.randint(1, 3)):
                after = self._passed + rng.choice((0, 0, 1, 2, 3, 5, 8, 13))
                self._planned.append((after, self._strike, entry.repository))
            self._do_planned()

    def _after_change(self, entry: Asked) -> None:
        rng, strikes = self._rng, self._case.strikes
        match entry.kind, entry.status:
            case "manifest_head", 200 if entry.named and rng.random() < strikes / 12:
                self._move(entry.repository, entry.reference, "just looked at")
            case "tag_delete", 202 if rng.random() < strikes / 6:
                self._set_tag(entry.repository, entry.reference, entry.named, "put back")
            case "manifest_delete", 400 if rng.random() < 0.5:
                self._refused[entry.who] = entry.reference
            case "manifest_delete", 400 if rng.random() < strikes:
                self._attach(entry.repository, entry.reference)
            case "manifest_delete", 202 if rng.random() < strikes / 6:
                self._start(self._push_again(entry.repository, entry.reference))

    def answer_lost(self, entry: Asked) -> None:
        """React to the deletion of a tag whose answer does not reach who asked: it will be asked for again."""
        if not self.is_over and self._rng.random() < self._case.strikes / 2:
            self._move(entry.repository, entry.reference, "while its deletion is asked again")

    def _do_planned(self) -> None:
        due = [one for one in self._planned if one[0] <= self._passed]
        self._planned = [one for one in self._planned if one[0] > self._passed]
        for _, act, repository in due:
            act(repository)

    def tick(self) -> None:
        try:
            if self._rng.random() < 0.5:
                self.step()
        except BaseException:
            self._records.broken.append(traceback.format_exc())
            raise

    def step(self) -> None:
        """Let one script do its next step, or a new one its first."""
        if self.is_over:
            return
        if self._actions > 0 and (not self._scripts or self._rng.random() < 0.3):
            self._actions -= 1
            self._start(self._some_script())
        elif self._scripts:
            script = self._rng.choice(self._scripts)
            if next(script, self) is self:
                self._scripts.remove(script)

    def finish(self) -> None:
        """Do no more from here on, but what pushes under way have to do to be complete."""
        for script in self._scripts:
            for _ in script:
                pass
        self._scripts = []
        self.is_over = True

    def _start(self, script: Iterator[None]) -> None:
        if next(script, self) is not self:
            self._scripts.append(script)

    # What.

    def _some_script(self) -> Iterator[None]:
        rng = self._rng
        repository = rng.choice([name for name, policy in self._case.repositories.items() if policy is not None])
        scripts = {
            self._push_image: 4,
            self._push_index: 6,
            self._push_old_index: 3,
            self._merge_some: 3,
            self._refer_to_some: 2,
            self._move_some: 3,
            self._promote: 2,
            self._attach_some: 4,
            self._delete_some: 2,
            self._repeat_some: 2,
            self._push_absent: 1,
        }
        return rng.choices(list(scripts), list(scripts.values()))[0](repository)

    def _seed(self) -> str:
        return f"pushed {self._rng.random()}"

    def _digests(self, repository: str) -> list[str]:
        return sorted(self._store.digests(f"{HOST}/{repository}"))

    def _content(self, repository: str, digest: str) -> Content:
        """A manifest of the store as something to push, or to list."""
        if digest not in self._contents:
            found = self._store.get_manifest(f"{HOST}/{repository}", digest)
            self._contents[digest] = Content(digest, found.media_type, found.body, found.size, 0)
        return self._contents[digest]

    def _put(self, repository: str, content: Content, tags: Sequence[str] = (), *, says_digest: bool = True) -> None:
        """Push one manifest, as one request, and let Google publish it."""
        name = f"{HOST}/{repository}"
        self._contents[content.digest] = content
        is_new = not self._store.has(name, content.digest)
        kept = self._store.put_manifest(
            name, content.body, content.media_type, tags=tags, size=content.size, uploaded_ms=NOW
        )
        version = self._records.snapshot(repository)
        label = self._records.label(content.digest)
        if is_new:
            children = frozenset(kept.children) & self._store.digests(name)
            self._records.pushed.append(Pushed(repository, content.digest, kept.uploaded_ms, children))
        listed = " ".join(self._records.label(child) for child in kept.children)
        self._records.note(
            f"client puts {label} {list(tags)} {'' if is_new else '(again)'} lists [{listed}]"
            f" subject {kept.subject and self._records.label(kept.subject)} in {repository} (version {version})"
        )
        for tag in tags:
            self._records.client_tags[repository, tag] = content.digest
        self._publish(repository, content.digest if says_digest or not tags else None, tags)

    def _set_tag(self, repository: str, tag: str, digest: str, why: str = "") -> None:
        name = f"{HOST}/{repository}"
        if self._store.has(name, digest) and self._store.tags(name).get(tag) != digest:
            self._records.note(f"client tags {self._records.label(digest)} as {tag} in {repository} {why}")
            self._put(repository, self._content(repository, digest), [tag], says_digest=self._rng.random() < 0.8)

    def _move(self, repository: str, tag: str, why: str) -> None:
        if tag.startswith("sha256-"):
            return
        now = self._store.tags(f"{HOST}/{repository}").get(tag)
        others = [digest for digest in self._digests(repository) if digest != now]
        if self._rng.random() < 0.5 or not others:
            self._records.note(f"client pushes anew as {tag}, {why}")
            self._put(repository, image(self._seed(), media_type=OCI_MANIFEST), [tag])
        else:
            self._set_tag(repository, tag, self._rng.choice(others), why)

    def _push_image(self, repository: str) -> Iterator[None]:
        rng = self._rng
        media_type = rng.choice((DOCKER_MANIFEST, OCI_MANIFEST))
        tags = [some_tag(rng) for _ in range(rng.randint(0, 2))]
        content = image(self._seed(), media_type=media_type)
        self._put(repository, content)
        for tag in tags:
            yield
            self._put(repository, content, [tag])

    def _push_index(self, repository: str) -> Iterator[None]:
        """Children first, some of which are there already; sometimes the index never comes."""
        rng = self._rng
        children: list[Content] = []
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.4 and (digests := self._digests(repository)):
                children.append(self._content(repository, rng.choice(digests)))
            else:
                children.append(image(self._seed(), media_type=OCI_MANIFEST, platform="amd64"))
        yield from self._complete(repository, index(children, seed=self._seed()), abandon=rng.random() < 0.2)

    def _push_old_index(self, repository: str) -> Iterator[None]:
        """An index over what is old, as somebody does who assembles platforms built before."""
        digests = self._digests(repository)
        chosen = self._rng.sample(digests, min(len(digests), self._rng.randint(1, 3)))
        children = [self._content(repository, digest) for digest in chosen]
        yield from self._complete(repository, index(children, seed=self._seed()))

    def _merge_some(self, repository: str) -> Iterator[None]:
        """An index over what others list, and perhaps one platform more, which makes those redundant."""
        rng = self._rng
        state = self._records.state(repository)
        indexes = sorted(digest for digest, held in state.items() if held.media_type in oracle.INDEX_TYPES)
        reading = oracle.Reading(state.values())
        chosen = rng.sample(indexes, min(len(indexes), rng.randint(1, 2)))
        digests = sorted(set().union(*(reading.children[digest] for digest in chosen)))
        children = [self._content(repository, digest) for digest in digests]
        if rng.random() < 0.5:
            children.append(image(self._seed(), media_type=OCI_MANIFEST, platform="arm64"))
        yield from self._complete(repository, index(children, media_type=OCI_INDEX, seed=self._seed()))

    def _refer_to_some(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            yield from self._refer_by_index(repository, self._rng.choice(digests))

    def _refer_by_index(self, repository: str, digest: str) -> Iterator[None]:
        """A referrer, as a client pushes it that finds no referrers API: it then replaces the index by its tag."""
        if not self._store.has(f"{HOST}/{repository}", digest):
            return
        content = self._content(repository, digest)
        made = referrer(content, seed=self._seed())
        self._put(repository, made)
        yield
        tag = cosign_tag(content, "")
        old = self._store.tags(f"{HOST}/{repository}").get(tag)
        state = self._records.state(repository)
        listed = sorted(oracle.Reading(state.values()).children[old]) if old is not None else []
        others = [self._content(repository, one) for one in listed]
        yield
        if self._store.has(f"{HOST}/{repository}", made.digest):
            there = [one for one in others if self._store.has(f"{HOST}/{repository}", one.digest)]
            self._put(repository, referrers_index([*there, made], seed=self._seed()), [tag])

    def _push_again(self, repository: str, digest: str) -> Iterator[None]:
        """What was just deleted is pushed once more, as a part of something new."""
        if digest in self._contents:
            content = self._contents[digest]
        else:
            held = next(v.state[digest] for v in reversed(self._records.versions[repository]) if digest in v.state)
            content = Content(digest, held.media_type, held.body, 0, 0)
        yield from self._complete(repository, index([content], seed=self._seed()))

    def _complete(self, repository: str, whole: Content, *, abandon: bool = False) -> Iterator[None]:
        name = f"{HOST}/{repository}"
        for child in whole.children:
            if self._store.has(name, child.digest):
                self._records.note(f"client finds {self._records.label(child.digest)} there and skips it")
            else:
                self._put(repository, child)
            yield
        if abandon:
            return
        missing = [child for child in whole.children if not self._store.has(name, child.digest)]
        for child in missing:
            # The push fails, and what was there or had been pushed is pushed once more.
            self._records.gaps["child gone"] += 1
            self._records.note(f"client misses {self._records.label(child.digest)} and repeats its push")
            self._put(repository, child)
        tags = [some_tag(self._rng) for _ in range(self._rng.randint(0, 2))]
        self._put(repository, whole, tags[:1])
        for tag in tags[1:]:
            yield
            self._put(repository, whole, [tag])

    def _move_some(self, repository: str) -> Iterator[None]:
        tags = sorted(self._store.tags(f"{HOST}/{repository}"))
        if tags:
            self._move(repository, self._rng.choice(tags), "because it is time")
        yield

    def _promote(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._set_tag(repository, some_tag(self._rng), self._rng.choice(digests), "(promoted)")
        yield

    def _attach_some(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._attach(repository, self._rng.choice(digests))
        yield

    def _attach(self, repository: str, digest: str) -> None:
        """Let something new belong to ``digest``, or ``digest`` to something new."""
        rng = self._rng
        if not self._store.has(f"{HOST}/{repository}", digest):
            return
        content = self._content(repository, digest)
        match rng.randint(0, 5):
            case 0:
                self._put(repository, referrer(content, seed=self._seed()))
            case 1:
                signature = cosign_signature(content, seed=self._seed())
                if rng.random() < 0.2:
                    signature = image(self._seed(), media_type=DOCKER_MANIFEST)
                self._put(repository, signature, [cosign_tag(content, rng.choice(("sig", "att", "new")))])
            case 2:
                self._put(repository, index([content], seed=self._seed()))
            case 3:
                subject = index([image(self._seed())], seed=self._seed(), subject=content, media_type=OCI_INDEX)
                self._put(repository, subject.children[0])
                self._put(repository, subject)
            case 4:
                self._set_tag(repository, some_tag(rng), digest)
            case 5:
                self._start(self._refer_by_index(repository, digest))

    def _strike(self, repository: str) -> None:
        """Touch something that a run is just about to delete."""
        policy = self._case.repositories[repository]
        if policy is None or self.is_over:
            return
        state = self._records.state(repository)
        doomed = sorted(oracle.may_go(state.values(), policy, now_ms()))
        if not doomed:
            return
        rng = self._rng
        victim = rng.choice(doomed)
        subjects = [one for one in doomed if self._store.referrers(f"{HOST}/{repository}", one)]
        if subjects and rng.random() < 0.5:
            victim = rng.choice(subjects)
        tags = [tag for tag in sorted(state[victim].tags) if not tag.startswith("sha256-")]
        match rng.randint(0, 7):
            case 0 if tags:
                self._move(repository, rng.choice(tags), "just when it was to be deleted")
            case 1:
                self._start(self._push_old_index(repository))
            case 7:
                self._start(self._merge_some(repository))
            case 2:
                content = self._content(repository, victim)
                self._start(self._complete(repository, index([content], seed=self._seed())))
            case 3:
                # Pushed once more: nothing changes but that a message names it.
                self._put(repository, self._content(repository, victim))
            case 4 if self._records.absent[repository]:
                self._start(self._push_absent(repository))
            case _:
                self._attach(repository, victim)

    def _repeat_some(self, repository: str) -> Iterator[None]:
        digests = self._digests(repository)
        if digests:
            self._put(repository, self._content(repository, self._rng.choice(digests)))
        yield

    def _push_absent(self, repository: str) -> Iterator[None]:
        """The subject of an orphan comes after all."""
        if self._records.absent[repository]:
            self._put(repository, self._records.absent[repository].pop())
        yield

    def _delete_some(self, repository: str) -> Iterator[None]:
        name = f"{HOST}/{repository}"
        tags = sorted(self._store.tags(name))
        if tags:
            tag = self._rng.choice(tags)
            self._records.note(f"client deletes the tag {tag} in {repository}")
            self._store.delete_tag(name, tag)
            self._records.client_tags[repository, tag] = None
            self._records.snapshot(repository)
        yield
        digests = self._digests(repository)
        if digests:
            digest = self._rng.choice(digests)
            with contextlib.suppress(Refusal):
                self._content(repository, digest)
                self._store.delete_manifest(name, digest)
                self._records.client_deleted.add((repository, digest))
                self._records.note(f"client deletes {self._records.label(digest)} in {repository}")
                self._records.snapshot(repository)
        yield
