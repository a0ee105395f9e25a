"""Globs for the whole name of a repository, and which of them no image's name can match."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet

import msgspec

from cleaner.core.messages import quote
from cleaner.core.pattern import Pattern, compile_pattern
from cleaner.core.reference import GCR_HOSTS, GCR_LOCATIONS, is_google_host

# No name is longer.
MAX_CHARS = 255

# Cloud Functions stores the images of functions under this segment.
_FUNCTIONS_SEGMENT = "gcf-artifacts"
_ARTIFACT_REGISTRY_SUFFIX = "-docker.pkg.dev"

# The characters of repository names, and the wildcard.
_SEGMENT = re.compile(r"[a-z0-9._*-]+")
_HOST_SEGMENT = re.compile(r"[a-z0-9._:*-]+")
_LOCATION_PART = re.compile(r"[a-z0-9-]*")
_TAG_OR_DIGEST = re.compile(r"(.*?)(?:@.*|:[^/]*)")


class InvalidGlob(ValueError):
    """A glob is malformed, or matches no image's name; ``correction`` is another one, empty if none is evident."""

    def __init__(self, problem: str, correction: str = "") -> None:
        super().__init__(problem)
        self.correction = correction


class Glob(msgspec.Struct, frozen=True):
    """A pattern for a repository's whole name ``HOST/PATH``.

    ``*`` matches any characters within one segment, ``**`` one or more whole segments.  Neither matches the segment
    ``gcf-artifacts``, which must be named literally.
    """

    text: str
    _segments: tuple[Pattern | str | None, ...]

    @classmethod
    def parse(cls, text: str, insecure: AbstractSet[str] = frozenset()) -> Glob:
        """Return the glob with this text.

        ``insecure`` are the hosts, as ``HOST:PORT``, that are allowed in addition to Google's.

        Raises:
            InvalidGlob: It is malformed, or no image's name matches it.
        """
        segments = text.split("/")
        try:
            _check_segments(text, segments)
            _check_host(segments, insecure)
            _check_length(text, segments, insecure)
        except InvalidGlob as error:
            error.correction = _corrected(error.correction, insecure)
            raise
        return cls(text, tuple(map(_compile, segments)))

    def matches(self, name: str) -> bool:
        """Return whether the glob matches the whole of ``name``."""
        names = name.split("/")
        reached = {0}
        for segment in self._segments:
            reached = {end for start in reached for end in _ends(segment, names, start)}
        return len(names) in reached

    def matches_below(self, name: str) -> bool:
        """Return whether the glob matches any longer name that begins with ``name`` and a slash."""
        names = name.split("/")
        reached = {0}
        for segment in self._segments:
            if len(names) in reached:
                return True
            reached = {end for start in reached for end in _ends(segment, names, start)}
            if segment is None and len(names) in reached:
                return True
        return False


def _corrected(correction: str, insecure: AbstractSet[str]) -> str:
    """Return what is left of a correction, which may need one itself: a valid glob, or an empty text."""
    try:
        return correction and Glob.parse(correction, insecure).text
    except InvalidGlob as error:
        return error.correction


def _ends(segment: Pattern | str | None, names: Sequence[str], start: int) -> Iterable[int]:
    """Yield each index at which a match of ``segment`` that begins at ``names[start]`` can end."""
    if segment is None:
        for end in range(start, len(names)):
            if names[end] == _FUNCTIONS_SEGMENT:
                return
            yield end + 1
    elif start < len(names):
        name = names[start]
        if isinstance(segment, str):
            if segment == name:
                yield start + 1
        elif name != _FUNCTIONS_SEGMENT and segment.fullmatch(name):
            yield start + 1


def _compile(segment: str) -> Pattern | str | None:
    """Compile a segment of a glob: None for ``**``, a string for a segment without a wildcard."""
    if segment == "**":
        return None
    if "*" not in segment:
        return segment
    return compile_pattern("[^/]*".join(map(re.escape, segment.split("*"))))


def _check_segments(text: str, segments: Sequence[str]) -> None:
    host, *path = segments
    if "://" in text:
        raise InvalidGlob("is a URL; a glob is for HOST/PATH", text.rpartition("://")[2])
    if "@" in text or any(":" in segment for segment in path):
        named = _TAG_OR_DIGEST.fullmatch(text, len(host) if path else 0)
        correction = text[: named.end(1)] if named else ""
        raise InvalidGlob("has a tag or digest, and names of repositories have none", correction)
    for segment in segments:
        if not segment:
            raise InvalidGlob("has an empty segment", "/".join(filter(None, segments)))
        if "**" in segment and segment != "**":
            raise InvalidGlob(f"has ** in the segment {quote(segment)}, which must be ** alone")
    for segment, allowed in zip(segments, (_HOST_SEGMENT, *[_SEGMENT] * len(path)), strict=True):
        if not allowed.fullmatch(segment):
            correction = text.lower() if allowed.fullmatch(segment.lower()) else ""
            raise InvalidGlob(f"has characters that no name has in the segment {quote(segment)}", correction)


def _check_host(segments: Sequence[str], insecure: AbstractSet[str]) -> None:
    host = segments[0]
    if not any(_may_be(host, one) for one in _families(insecure)):
        if "." in host or ":" in host or "*" in host or host == "localhost":
            raise InvalidGlob(f"is on the host {host}, which is not allowed")
        raise InvalidGlob("has no host; a glob is for HOST/PATH, like us-docker.pkg.dev/acme/apps/**")
    # us-docker.pkg.dev/P/gcr.io/X, where a domain-scoped P has two segments.
    at = 3 if len(segments) > 1 and "." in segments[1] else 2
    # As several segments, ** may be a project with a repository in which images have such names.
    if (
        "**" not in segments[:at]
        and at < len(segments)
        and f"{GCR_LOCATIONS.get(segments[at])}{_ARTIFACT_REGISTRY_SUFFIX}" == host
    ):
        name = "/".join((segments[at], *segments[1:at], *segments[at + 1 :]))
        raise InvalidGlob("is an alias, which is read as another name", name)


def _check_length(text: str, segments: Sequence[str], insecure: AbstractSet[str]) -> None:
    if "**" in segments:
        return
    domain = int(len(segments) > 1 and "." in segments[1].strip("."))
    needed = min(
        least + (domain if is_google else 0)
        for host, least, is_google in (
            *((host, 3, True) for host in GCR_HOSTS),
            (_ARTIFACT_REGISTRY_SUFFIX, 4, True),
            *((host, 2, False) for host in insecure),
        )
        if _may_be(segments[0], host)
    )
    if len(segments) < needed:
        raise InvalidGlob("has too few segments for an image's name", f"{text}/**")


def _families(insecure: AbstractSet[str]) -> Iterator[str]:
    """Yield the allowed hosts; the suffix stands for those of Artifact Registry."""
    yield from GCR_HOSTS
    yield _ARTIFACT_REGISTRY_SUFFIX
    yield from insecure


def _may_be(segment: str, host: str) -> bool:
    """Return whether the first segment of a glob may match ``host``; the suffix stands for a host that ends so."""
    if host != _ARTIFACT_REGISTRY_SUFFIX:
        compiled = _compile(segment)
        return compiled == host if isinstance(compiled, str) else compiled is None or bool(compiled.fullmatch(host))
    if "*" not in segment:
        return is_google_host(segment) and segment.endswith(host)
    # What stands before the first wildcard and behind the last has to be the beginning and the end of such a host.
    first, last = segment[: segment.index("*")], segment[segment.rindex("*") + 1 :]
    location, dot, domain = first.partition(".")
    may_begin = _LOCATION_PART.fullmatch(location) and ".pkg.dev".startswith(dot + domain)
    may_end = host.endswith(last) or (last.endswith(host) and _LOCATION_PART.fullmatch(last.removesuffix(host)))
    return bool(may_begin and may_end)
