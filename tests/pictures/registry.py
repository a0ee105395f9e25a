"""The registry that the pictures show: a project as a CI leaves it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tests.emulator.images import attestation, cosign_signature, cosign_tag, image, index, load
from tests.emulator.store import OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.emulator.images import Content
    from tests.emulator.store import Store

PROJECT: Final = "us-docker.pkg.dev/my-project"
API: Final = f"{PROJECT}/apps/api"
POLICIES: Final = f"""\
- repositories: ["{PROJECT}/apps/*"]
  tagged:
    - match: 'v[0-9.]+'
      keep: all
    - match: '(main|pr-\\d+)-.*'
      keep: 2
      delete_after: 30d
  untagged:
    keep: 1
- repositories: ["{PROJECT}/ml/**"]
  tagged:
    - match: 'v[0-9.]+'
      keep: all
    - match: 'run-.*'
      keep: 2
  untagged:
    keep: 0
"""

# No age is near the end of its unit, so it is shown the same however long the command takes.
_MARGIN: Final = timedelta(minutes=5)


def fill(store: Store, now: datetime) -> None:
    """Load what there is, as of ``now``."""
    _api(store, now)
    for path, prefix, count, size in (
        ("apps/billing", "main", 118, 83_000_000),
        ("apps/web", "main", 214, 131_000_000),
        ("apps/worker", "main", 87, 96_000_000),
        ("ml/ranker", "run", 31, 870_000_000),
        ("ml/trainer", "run", 45, 1_310_000_000),
    ):
        _builds(store, f"{PROJECT}/{path}", prefix, count, size, now)


def _api(store: Store, now: datetime) -> None:
    """Branches, pull requests and releases; two platforms each, attested and signed where they are of main."""
    for tags, hours, is_signed in (
        ("main-e4d909c", 0, True),
        ("pr-52-a77e310", 26, False),
        ("main-3f2a1bc", 51, True),
        ("pr-52-1c9b0f4", 75, False),
        ("main-81fe2d0", 100, True),
        ("pr-52-70ba2c4", 104, False),
        ("main-5b0c7aa v1.4.2", 150, True),
        ("", 230, False),
        ("", 400, False),
        ("pr-41-9d0c77e", 45 * 24, False),
        ("v1.4.1", 60 * 24, True),
        ("debug", 95 * 24, False),
    ):
        uploaded = now - timedelta(hours=hours) - _MARGIN
        # Images grow by 2 MB a month.
        built = _built(f"api/{hours}", 49_000_000 - hours * 2_800, is_attested=is_signed)
        load(store, API, built, tags=tags.split(), uploaded=uploaded)
        if is_signed:
            load(store, API, cosign_signature(built), tags=cosign_tag(built), uploaded=uploaded)


def _built(name: str, size: int, *, is_attested: bool) -> Content:
    images = [
        image(f"{name}/{platform}", media_type=OCI_MANIFEST, platform=platform, size=size)
        for platform in ("amd64", "arm64")
    ]
    attestations: Iterable[Content] = map(attestation, images) if is_attested else ()
    return index([*images, *attestations])


def _builds(store: Store, repository: str, prefix: str, count: int, size: int, now: datetime) -> None:
    """``count`` images of one platform, some hours apart; each fifth has lost its tag, and some are releases."""
    for at in range(count):
        content = image(f"{repository}/{at}", size=size + at * 1_003)
        tags = [f"{prefix}-{content.digest[7:14]}"] if at % 5 else []
        if at % 20 == 3:
            tags.append(f"v2.{count // 20 - at // 20}.0")
        load(store, repository, content, tags=tags, uploaded=now - timedelta(hours=3 + at * 7) - _MARGIN)
