"""Names: of repositories, of which some have two, and of contents."""

from __future__ import annotations

import hashlib
import re
from typing import Final

GCR_LOCATIONS: Final = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
_TWO_NAMES: Final = re.compile(
    r"(?P<location>us|europe|asia)-docker\.pkg\.dev/(?P<project>(?:[^/]+\.[^/]+/)?[^/]+)"
    r"/(?P<host>gcr\.io|us\.gcr\.io|eu\.gcr\.io|asia\.gcr\.io)(?P<rest>/.*)?"
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def is_digest(reference: str) -> bool:
    return _DIGEST.fullmatch(reference) is not None


def canonical(repository: str) -> str:
    """The one name of a repository: ``us-docker.pkg.dev/P/gcr.io/X`` is ``gcr.io/P/X``."""
    if "-docker.pkg.dev/" not in repository:
        return repository
    match = _TWO_NAMES.fullmatch(repository)
    if match is None or GCR_LOCATIONS[match["host"]] != match["location"]:
        return repository
    return f"{match['host']}/{match['project']}{match['rest'] or ''}"
