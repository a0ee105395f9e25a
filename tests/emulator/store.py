"""What the registry holds: repositories, their manifests, tags and blobs.  No sockets and no waiting.

Every refusal of Google's registries is decided here, so that a test can use the state without a server.
One lock guards everything: tests change the state while the server answers from it.
Names are full repository names (``HOST/PATH``); the two names of a ``gcr.io`` repository are one.
"""

from __future__ import annotations

import threading
import time
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.emulator.bodies import blobs_of, children_of, content_size, created_ms_of, subject_of
from tests.emulator.listing import listing_body, page_by_digest, page_by_tag, tags_of
from tests.emulator.names import canonical, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
INDEXES: Final = frozenset({DOCKER_LIST, OCI_INDEX})
OCI_TYPES: Final = frozenset({OCI_MANIFEST, OCI_INDEX})

DANGLING_TAG: Final = "GOOGLE_MANIFEST_DANGLING_TAG"
DANGLING_PARENT: Final = "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE"
REFERRING_MANIFEST: Final = "GOOGLE_MANIFEST_REFERRING_MANIFEST"
FAILED_PRECONDITION: Final = "FAILED_PRECONDITION"

# An upload time of "now" is read from the store's clock.
NOW: Final = "now"


class Refusal(Exception):
    """The registry says no.  ``status`` and ``code`` are what the wire carries."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(slots=True)
class Manifest:
    """One manifest.  ``tags`` keeps the order of tagging; a time of None is left out of listings."""

    digest: str
    media_type: str
    body: bytes
    size: int
    uploaded_ms: int | str | None
    created_ms: int | str | None
    children: tuple[str, ...] = ()
    subject: str | None = None
    tags: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """A request that fell into one of the two gaps that no client can close: there is no conditional deletion.

    ``tag-moved``: a tag moved between a client's look at it (``expected``) and its deletion (it named ``found``).
    ``child-gone``: an index (``found``) was pushed whose child ``expected`` had been here and was deleted meanwhile.
    ``seconds`` passed between the look or the deletion and what fell in.  ``attempt`` is the number of the
    deletion since the look, from 1.  ``age_s`` is how old the child was when it was deleted: one that was younger
    than any policy allows to delete fell into no gap.
    """

    kind: str
    repository: str
    tag: str
    expected: str
    found: str
    seconds: float
    attempt: int = 1
    age_s: float | None = None


@dataclass(slots=True)
class _Repository:
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    # Digest -> the living indexes that list it, whether the child is here or not.
    parents: dict[str, dict[str, None]] = field(default_factory=dict)
    # Digest -> the living manifests that name it as their subject.
    referrers: dict[str, dict[str, None]] = field(default_factory=dict)
    # Digest -> when it was deleted and uploaded, for telling a child that was here from one that never was.
    deleted: dict[str, tuple[int, int | str | None]] = field(default_factory=dict)
    immutable_tags: bool = False
    # The earliest and the latest upload there ever was.
    uploads: tuple[int, int] | None = None
    cache: dict[tuple[object, ...], tuple[bytes, str | None]] = field(default_factory=dict)
    order: list[str] | None = None


class Store:
    """The state of any number of repositories on any number of hosts.

    ``referrer_code`` is the code that a subject with living referrers is refused with.
    ``strict`` refuses manifests whose blobs or children are not in the repository.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] | None = None,
        referrer_code: str = REFERRING_MANIFEST,
        strict: bool = False,
    ) -> None:
        self.now_ms: Callable[[], int] = now_ms or (lambda: time.time_ns() // 1_000_000)
        self.referrer_code = referrer_code
        self.strict = strict
        self._lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}
        # Every path above a repository -> the names one level below it.
        self._below: dict[str, dict[str, None]] = {}
        self._modes: dict[str, str] = {}
        self.gaps: list[Gap] = []

    def copy(self) -> Store:
        """Another store of the same state and settings."""
        made = Store(now_ms=self.now_ms, referrer_code=self.referrer_code, strict=self.strict)
        with self._lock:
            made._repositories, made._below, made._modes = deepcopy((self._repositories, self._below, self._modes))
        return made

    # Repositories.

    def clear(self) -> None:
        with self._lock:
            self._repositories.clear()
            self._below.clear()
            self._modes.clear()
            self.gaps.clear()

    def repository(self, repository: str, *, immutable_tags: bool | None = None) -> str:
        """Make the repository if it is new; return its one name.

        Those that are made below one with immutable tags have them too.
        """
        with self._lock:
            held = self._make(repository)
            if immutable_tags is not None:
                held.immutable_tags = immutable_tags
            return canonical(repository)

    def repositories(self) -> list[str]:
        with self._lock:
            return sorted(self._repositories)

    def has_immutable_tags(self, repository: str) -> bool:
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return held is not None and held.immutable_tags

    def remove_repository(self, repository: str) -> None:
        """The repository and everything in it is gone at once."""
        name = canonical(repository)
        with self._lock:
            self._repositories.pop(name, None)
            while "/" in name and name not in self._repositories and not self._below.get(name):
                self._below.pop(name, None)
                above, _, last = name.rpartition("/")
                self._below.get(above, {}).pop(last, None)
                self._forget(above)
                name = above

    def set_mode(self, prefix: str, mode: str) -> None:
        """``STANDARD_REPOSITORY``, ``VIRTUAL_REPOSITORY`` or ``REMOTE_REPOSITORY`` for all under ``prefix``."""
        with self._lock:
            self._modes[canonical(prefix)] = mode

    def mode(self, repository: str) -> str:
        name = canonical(repository)
        with self._lock:
            while name:
                if name in self._modes:
                    return self._modes[name]
                name = name.rpartition("/")[0]
        return "STANDARD_REPOSITORY"

    def has_mode(self, prefix: str) -> bool:
        with self._lock:
            return canonical(prefix) in self._modes

    def repositories_of(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are repositories."""
        with self._lock:
            return [name for name in names if canonical(name) in self._repositories]

    def under(self, prefix: str) -> list[str]:
        """The repositories below ``prefix``, as paths from there, sorted."""
        start = canonical(prefix) + "/"
        with self._lock:
            return sorted(name[len(start) :] for name in self._repositories if name.startswith(start))

    def names_under(self, prefix: str) -> list[str]:
        """The full names of the repositories below ``prefix``."""
        start = canonical(prefix) + "/"
        with self._lock:
            return [name for name in self._repositories if name.startswith(start)]

    def uploads(self, repository: str) -> tuple[int, int] | None:
        """When the first and the last manifest were uploaded; None if nothing has told a time."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return held.uploads if held else None

    def some(self, repository: str, digests: Iterable[str]) -> list[Manifest]:
        """Those of ``digests`` that are in the repository, in the order given."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return [held.manifests[one] for one in digests if one in held.manifests] if held else []

    def below(self, repository: str) -> list[str]:
        """The names one level down, sorted."""
        with self._lock:
            return sorted(self._below.get(canonical(repository), ()))

    # Reading.

    def manifests(self, repository: str) -> dict[str, Manifest]:
        """A copy of the map; the manifests in it are the store's own."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return dict(held.manifests) if held else {}

    def digests(self, repository: str) -> frozenset[str]:
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return frozenset(held.manifests) if held else frozenset()

    def tags(self, repository: str) -> dict[str, str]:
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return dict(held.tags) if held else {}

    def parents(self, repository: str, digest: str) -> frozenset[str]:
        """The living indexes that list ``digest``."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return frozenset(held.parents.get(digest, ())) if held else frozenset()

    def referrers(self, repository: str, digest: str) -> list[Manifest]:
        """The living manifests whose ``subject`` is ``digest``, in digest order."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is None:
                return []
            return [held.manifests[one] for one in sorted(held.referrers.get(digest, ()))]

    def get_manifest(self, repository: str, reference: str, accept: Iterable[str] | None = None) -> Manifest:
        """Look a manifest up by tag or digest.  With ``accept``, which may have wildcards, other types are not found.

        Raises:
            Refusal: 404 ``MANIFEST_UNKNOWN``.
        """
        with self._lock:
            held = self._repositories.get(canonical(repository))
            found = None
            if held is not None:
                found = held.manifests.get(held.tags.get(reference, reference))
            if found is None:
                raise Refusal(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{reference}"')
            wanted = {found.media_type, f"{found.media_type.partition('/')[0]}/*", "*/*"}
            if accept is not None and wanted.isdisjoint(accept):
                message = f"{found.media_type} found, but accept header does not support it"
                raise Refusal(404, "MANIFEST_UNKNOWN", message)
            return found

    def has(self, repository: str, reference: str) -> bool:
        with self._lock:
            held = self._repositories.get(canonical(repository))
            return held is not None and (reference in held.tags or reference in held.manifests)

    def order(self, repository: str) -> list[str]:
        """The digests, sorted.  The list is the store's own: read it only.

        Raises:
            Refusal: 404 ``NAME_UNKNOWN``.
        """
        with self._lock:
            name = canonical(repository)
            held = self._repositories.get(name)
            if held is None:
                if name in self._below:
                    return []
                raise Refusal(404, "NAME_UNKNOWN", f'Repository "{name}" not found')
            if held.order is None:
                held.order = sorted(held.manifests)
            return held.order

    def tags_list(
        self,
        repository: str,
        *,
        style: str = "gcr",
        numbers: bool = False,
        limit: int | None = None,
        last: str = "",
        cut_at: int | None = None,
        cut_tags: bool = False,
    ) -> tuple[bytes, str | None]:
        """The listing in Google's shape, and what to go on after, or None if this is its end.

        Pages go by digest; after a tag as ``last``, by tag.  ``cut_at`` leaves out what comes later in digest order,
        without a word; ``tags`` stays whole unless ``cut_tags``.  The bytes are kept until the repository changes.

        Raises:
            Refusal: 404 ``NAME_UNKNOWN``.
        """
        name = canonical(repository)
        with self._lock:
            order = self.order(name)
            held = self._repositories.get(name)
            key = (style, numbers, limit, last, cut_at, cut_tags)
            if held is not None and key in held.cache:
                return held.cache[key]
            manifests = held.manifests if held else {}
            listed = order if cut_at is None else order[:cut_at]
            page = page_by_tag if last and ":" not in last else page_by_digest
            digests, tags, more = page(manifests, listed, limit, last)
            if cut_at is not None and not cut_tags and limit is None:
                tags = tags_of(manifests, order)
            shown = [manifests[one] for one in digests]
            body = listing_body(name, self.below(name), shown, tags, style=style, numbers=numbers)
            answer = body, more
            if held is not None:
                held.cache[key] = answer
            return answer

    def kept_until_changed(self, repository: str, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """What ``make`` returns for ``key``, made anew once the repository has changed."""
        with self._lock:
            cache = self._repositories[canonical(repository)].cache
            if key not in cache:
                cache[key] = make(), None
            return cache[key][0]

    # Writing.

    def put_manifest(
        self,
        repository: str,
        body: bytes,
        media_type: str,
        *,
        tags: Iterable[str] = (),
        digest: str | None = None,
        trust_digest: bool = False,
        size: int | None = None,
        uploaded_ms: int | str | None = NOW,
        created_ms: int | str | None = NOW,
    ) -> Manifest:
        """Keep a manifest and let ``tags`` name it.  Put again, it keeps the upload time that it had.

        ``digest`` is checked against the body unless ``trust_digest`` (captured listings come without bodies).
        ``created_ms`` left alone is what the configuration blob says, 0 without one.

        Raises:
            Refusal: 400 ``DIGEST_INVALID``, an immutable tag, and in strict mode a blob or child that is not here.
        """
        actual = digest if digest is not None and trust_digest else digest_of(body)
        if digest is not None and digest != actual:
            raise Refusal(400, "DIGEST_INVALID", f"provided digest {digest} does not match the content {actual}")
        names = list(tags)
        with self._lock:
            held = self._make(repository)
            if held.immutable_tags and any(held.tags.get(tag, actual) != actual for tag in names):
                raise Refusal(400, FAILED_PRECONDITION, f"a tag of {names} is immutable")
            kept = held.manifests.get(actual)
            if kept is None:
                children = children_of(body) if media_type in INDEXES else ()
                kept = Manifest(
                    digest=actual,
                    media_type=media_type,
                    body=body,
                    size=_image_size(media_type, body) if size is None else size,
                    uploaded_ms=self.now_ms() if uploaded_ms == NOW else uploaded_ms,
                    created_ms=created_ms_of(body, held.blobs) if created_ms == NOW else created_ms,
                    children=children,
                    subject=subject_of(body) if media_type in OCI_TYPES else None,
                )
                self._watch_children(held, canonical(repository), kept)
                if self.strict:
                    _check_parts(held, body, children)
                _add(held, kept)
            for tag in names:
                _tag(held, tag, kept)
            held.cache.clear()
            return kept

    def tag(self, repository: str, tag: str, digest: str) -> None:
        """Let ``tag`` name ``digest``, moving it if it named another.

        Raises:
            Refusal: 404 ``MANIFEST_UNKNOWN``, or 400 for an immutable tag.
        """
        with self._lock:
            held = self._make(repository)
            if digest not in held.manifests:
                raise Refusal(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{digest}"')
            if held.immutable_tags and held.tags.get(tag, digest) != digest:
                raise Refusal(400, FAILED_PRECONDITION, f"tag {tag} is immutable")
            _tag(held, tag, held.manifests[digest])
            held.cache.clear()

    def delete_tag(self, repository: str, tag: str) -> str:
        """Remove a tag; the manifest stays.  Returns the digest that the tag named.

        Raises:
            Refusal: 404 ``MANIFEST_UNKNOWN``, 400 where tags are immutable or the repository is not a standard one.
        """
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is None or tag not in held.tags:
                raise Refusal(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{tag}"')
            self._refuse_by_mode(repository)
            if held.immutable_tags:
                raise Refusal(400, FAILED_PRECONDITION, f"tag {tag} is immutable")
            digest = held.tags.pop(tag)
            del held.manifests[digest].tags[tag]
            held.cache.clear()
            return digest

    def delete_repository(self, repository: str) -> None:
        """Remove the repository with all that is in it.

        Raises:
            Refusal: 404 ``NAME_UNKNOWN``, 400 where tags are immutable or the repository is not a standard one.
        """
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is None:
                raise Refusal(404, "NAME_UNKNOWN", f'Repository "{repository}" not found')
            self._refuse_by_mode(repository)
            if held.immutable_tags and held.tags:
                raise Refusal(400, FAILED_PRECONDITION, f"tag {next(iter(held.tags))} is immutable")
            self.remove_repository(repository)

    def delete_manifest(
        self, repository: str, digest: str, *, with_tags: bool = False, with_children: bool = False
    ) -> None:
        """Remove an untagged manifest that nothing living refers to.

        ``with_tags`` also removes a tagged one, and its tags.  ``with_children`` also removes the children of an
        index, and theirs, that have no tag and are in no other living index.

        Raises:
            Refusal: 404 ``MANIFEST_UNKNOWN``; 400, asked in this order, for tags, parents and referrers.
        """
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is None or digest not in held.manifests:
                raise Refusal(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{digest}"')
            self._refuse_by_mode(repository)
            manifest = held.manifests[digest]
            if manifest.tags and (held.immutable_tags or not with_tags):
                code = FAILED_PRECONDITION if held.immutable_tags else DANGLING_TAG
                raise Refusal(400, code, f"Manifest is still referenced by tag: {next(iter(manifest.tags))}")
            parent = next((one for one in held.parents.get(digest, ()) if one != digest), None)
            if parent is not None:
                raise Refusal(400, DANGLING_PARENT, f"Manifest is still referenced by a parent image: {parent}")
            referrer = next((one for one in held.referrers.get(digest, ()) if one != digest), None)
            if referrer is not None:
                raise Refusal(400, self.referrer_code, f"Manifest is still referenced by: {referrer}")
            self._drop(held, manifest)
            if with_children:
                self._drop_children(held, manifest)

    def force_delete(self, repository: str, digest: str) -> None:
        """Remove a manifest and its tags whatever refers to it, as no client could."""
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is not None and digest in held.manifests:
                self._drop(held, held.manifests[digest])

    # Blobs.

    def put_blob(self, repository: str, content: bytes, digest: str | None = None) -> str:
        """Keep a blob.

        Raises:
            Refusal: 400 ``DIGEST_INVALID``.
        """
        actual = digest_of(content)
        if digest is not None and digest != actual:
            raise Refusal(400, "DIGEST_INVALID", f"provided digest {digest} does not match the content {actual}")
        with self._lock:
            self._make(repository).blobs[actual] = content
        return actual

    def get_blob(self, repository: str, digest: str) -> bytes:
        """Read a blob.

        Raises:
            Refusal: 404 ``BLOB_UNKNOWN``.
        """
        with self._lock:
            held = self._repositories.get(canonical(repository))
            if held is None or digest not in held.blobs:
                raise Refusal(404, "BLOB_UNKNOWN", f'Failed to fetch "{digest}"')
            return held.blobs[digest]

    # Whole states, for dumps and loading.

    def dump(self, *, bodies: bool = True) -> dict[str, object]:
        """The state as a JSON document that :meth:`load` reads."""
        with self._lock:
            repositories: dict[str, object] = {}
            for name in sorted(self._repositories):
                held = self._repositories[name]
                shown = [_dump_manifest(held.manifests[one], bodies=bodies) for one in sorted(held.manifests)]
                repositories[name] = {"immutable_tags": held.immutable_tags, "manifests": shown}
            return {"repositories": repositories, "modes": dict(self._modes)}

    def load(self, document: Mapping[str, object], host: str = "") -> None:
        """Add what a document of :meth:`dump`'s shape holds; ``{host}`` in a name stands for ``host``."""
        repositories = document.get("repositories", {})
        modes = document.get("modes", {})
        if not isinstance(repositories, dict) or not isinstance(modes, dict):
            raise TypeError("repositories and modes must be objects")
        for prefix, mode in modes.items():
            self.set_mode(str(prefix).replace("{host}", host), str(mode))
        for name, held in repositories.items():
            full = str(name).replace("{host}", host)
            self.repository(full, immutable_tags=bool(held.get("immutable_tags", False)))
            for one in held["manifests"]:
                self.put_manifest(
                    full,
                    str(one.get("body", "{}")).encode("utf-8", "surrogateescape"),
                    one["media_type"],
                    digest=one.get("digest"),
                    trust_digest="digest" in one,
                    tags=one.get("tags", ()),
                    size=one.get("size"),
                    uploaded_ms=one.get("uploaded_ms", NOW),
                    created_ms=one.get("created_ms", NOW),
                )

    # Inside.

    def _make(self, repository: str) -> _Repository:
        name = canonical(repository)
        held = self._repositories.get(name)
        if held is None:
            held = self._repositories[name] = _Repository()
            while "/" in name:
                above, _, last = name.rpartition("/")
                self._below.setdefault(above, {})[last] = None
                self._forget(above)
                if above in self._repositories and self._repositories[above].immutable_tags:
                    held.immutable_tags = True
                name = above
        return held

    def _forget(self, name: str) -> None:
        held = self._repositories.get(name)
        if held is not None:
            held.cache.clear()

    def _watch_children(self, held: _Repository, name: str, manifest: Manifest) -> None:
        for child in manifest.children:
            if child not in held.deleted:
                continue
            deleted, uploaded = held.deleted[child]
            seconds = (self.now_ms() - deleted) / 1000
            age = (deleted - uploaded) / 1000 if isinstance(uploaded, int) else None
            self.gaps.append(Gap("child-gone", name, "", child, manifest.digest, seconds, age_s=age))

    def _refuse_by_mode(self, repository: str) -> None:
        mode = self.mode(repository) if self._modes else "STANDARD_REPOSITORY"
        if mode != "STANDARD_REPOSITORY":
            raise Refusal(400, FAILED_PRECONDITION, f"{mode} does not support deletion")

    def _drop_children(self, held: _Repository, index: Manifest) -> None:
        for digest in index.children:
            child = held.manifests.get(digest)
            if child is not None and not child.tags and digest not in held.parents:
                self._drop(held, child)
                self._drop_children(held, child)

    def _drop(self, held: _Repository, manifest: Manifest) -> None:
        digest = manifest.digest
        for tag in manifest.tags:
            del held.tags[tag]
        del held.manifests[digest]
        for child in manifest.children:
            _discard(held.parents, child, digest)
        if manifest.subject is not None:
            _discard(held.referrers, manifest.subject, digest)
        held.deleted[digest] = (self.now_ms(), manifest.uploaded_ms)
        held.order = None
        held.cache.clear()


def _image_size(media_type: str, body: bytes) -> int:
    """What Google calls ``imageSizeBytes``: configuration and layers; 0 for an index."""
    return 0 if media_type in INDEXES else content_size(body)


def _add(held: _Repository, manifest: Manifest) -> None:
    held.manifests[manifest.digest] = manifest
    held.order = None
    if isinstance(manifest.uploaded_ms, int):
        first, last = held.uploads or (manifest.uploaded_ms, manifest.uploaded_ms)
        held.uploads = min(first, manifest.uploaded_ms), max(last, manifest.uploaded_ms)
    held.deleted.pop(manifest.digest, None)
    for child in manifest.children:
        held.parents.setdefault(child, {})[manifest.digest] = None
    if manifest.subject is not None:
        held.referrers.setdefault(manifest.subject, {})[manifest.digest] = None


def _discard(index: dict[str, dict[str, None]], key: str, digest: str) -> None:
    named = index[key]
    del named[digest]
    if not named:
        del index[key]


def _tag(held: _Repository, tag: str, manifest: Manifest) -> None:
    before = held.tags.get(tag)
    if before == manifest.digest:
        return
    if before is not None:
        del held.manifests[before].tags[tag]
    held.tags[tag] = manifest.digest
    manifest.tags[tag] = None


def _check_parts(held: _Repository, body: bytes, children: tuple[str, ...]) -> None:
    for child in children:
        if child not in held.manifests:
            raise Refusal(400, "MANIFEST_BLOB_UNKNOWN", f"manifest references a manifest that is not here: {child}")
    for digest in blobs_of(body):
        if digest not in held.blobs:
            raise Refusal(400, "MANIFEST_BLOB_UNKNOWN", f"manifest references a blob that is not here: {digest}")


def _dump_manifest(one: Manifest, *, bodies: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "digest": one.digest,
        "media_type": one.media_type,
        "size": one.size,
        "uploaded_ms": one.uploaded_ms,
        "created_ms": one.created_ms,
        "tags": list(one.tags),
        "children": list(one.children),
        "subject": one.subject,
    }
    if bodies:
        document["body"] = one.body.decode("utf-8", "surrogateescape")
    return document
