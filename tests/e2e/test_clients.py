"""Real clients before and after a prune: they pull what is kept and do not find what is deleted."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.emulator.images import Content, image, multi_arch, referrer
from tests.emulator.store import OCI_MANIFEST
from tests.emulator.tls import Tls
from tests.support.clients import ArtifactRegistry, Gcloud, Oras, Site, Skopeo, parts
from tests.support.command_line import Ended, run

DAY_MS = 86_400_000
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
SBOM = "application/spdx+json"
_numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def site(tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A registry that is Google for every client of this process and for those that it starts."""
    with (
        Emulator() as metadata,
        Emulator(tls=tls, default_host="gcr.io", auth=True) as registry,
        pytest.MonkeyPatch.context() as patch,
    ):
        # No parts may be missing when a manifest is pushed.
        registry.store.strict = True
        made = Site(registry, metadata, tls.ca_file, tmp_path_factory.mktemp("home"))
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def skopeo(site: Site) -> Skopeo:
    return Skopeo(site)


@pytest.fixture
def oras() -> Iterator[Oras]:
    client = Oras()
    yield client
    client.close()


@pytest.fixture(params=[Gcloud, ArtifactRegistry])
def google_client(site: Site, request: pytest.FixtureRequest) -> Iterator[Gcloud | ArtifactRegistry]:
    client: Gcloud | ArtifactRegistry = request.param(site)
    yield client
    client.close()


def prune(repository: str, *options: str) -> Ended:
    """Prune by the command line, in a process of its own, which gets its credential from the metadata server."""
    ended = run("prune", repository, *options, "--yes", "-o", "json")
    assert ended.returncode == 0, ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def days_ago(site: Site, days: int) -> None:
    """What is pushed from now on was pushed so long ago."""
    site.registry.store.now_ms = lambda: time.time_ns() // 1_000_000 - days * DAY_MS


@dataclass(frozen=True, slots=True)
class Releases:
    """Images, indexes and what is attached to them, without a tag, in one repository."""

    repository: str
    images: dict[str, Content]
    sboms: dict[str, Content]

    @classmethod
    def push(cls, site: Site, skopeo: Skopeo, prefix: str) -> Releases:
        """Push four releases.  The oldest is also ``stable``, by a copy."""
        number = next(_numbers)
        images = {
            "v1": image(f"{number}/1", with_blobs=True),
            "v2": multi_arch(f"{number}/2", attestations=True, with_blobs=True),
            "v3": image(f"{number}/3", media_type=OCI_MANIFEST, with_blobs=True),
            "v4": multi_arch(f"{number}/4", attestations=True, with_blobs=True),
        }
        sboms = {tag: referrer(images[tag]) for tag in ("v2", "v4")}
        made = cls(f"{prefix}/app-{number}", images, sboms)
        for days, (tag, content) in zip((40, 30, 20, 10), images.items(), strict=True):
            days_ago(site, days)
            skopeo.push(content, f"{made.repository}:{tag}")
            if tag in sboms:
                skopeo.push(sboms[tag], f"{made.repository}@{sboms[tag].digest}")
        skopeo.copy(f"{made.repository}:v1", f"{made.repository}:stable")
        return made

    def prune(self) -> None:
        """Keep the two newest releases and what has another tag as well, so that ``v2`` is deleted."""
        done = prune(self.repository, "--match", r"v\d+", "--keep", "2").document
        assert [one["tags"] for one in done["delete"] if one["tags"]] == [["v2"]]

    def versions(self, *tags: str) -> dict[str, list[str]]:
        """The digests that belong to these releases, each with its tags."""
        found: dict[str, list[str]] = {}
        for tag in tags:
            content = self.images[tag]
            found |= {child.digest: [] for child in content.children}
            found[content.digest] = ["stable", "v1"] if tag == "v1" else [tag]
            if tag in self.sboms:
                found[self.sboms[tag].digest] = []
        return found


@pytest.mark.parametrize("prefix", ["gcr.io/acme", "us-docker.pkg.dev/acme/apps"])
def test_skopeo_pulls_what_is_kept_and_does_not_find_what_is_deleted(site: Site, skopeo: Skopeo, prefix: str) -> None:
    """Images, multi-platform indexes with attestations, and referrers: whole, or no part is left."""
    releases = Releases.push(site, skopeo, prefix)
    name = releases.repository
    assert skopeo.tags(name) == ["stable", "v1", "v2", "v3", "v4"]

    releases.prune()

    assert skopeo.tags(name) == ["stable", "v1", "v3", "v4"]
    for tag in ("v1", "v3", "v4"):
        assert skopeo.pull(f"{name}:{tag}") == parts(releases.images[tag])
    assert skopeo.pull(f"{name}:stable") == parts(releases.images["v1"])
    assert skopeo.pull(f"{name}@{releases.sboms['v4'].digest}") == parts(releases.sboms["v4"])
    assert not skopeo.finds(f"{name}:v2")
    for digest in releases.versions("v2"):
        assert not skopeo.finds(f"{name}@{digest}")


def test_skopeo_deletes_only_by_digest_and_google_refuses_a_tagged_one(skopeo: Skopeo) -> None:
    """A tag is taken away by moving it; then the image can be deleted, and a child only after its index."""
    name = f"gcr.io/acme/app-{next(_numbers)}"
    old, new = multi_arch(f"{name}/1", with_blobs=True), image(f"{name}/2", with_blobs=True)
    skopeo.push(old, f"{name}:latest")

    assert "GOOGLE_MANIFEST_DANGLING_TAG" in skopeo.delete(f"{name}:latest").err
    skopeo.push(new, f"{name}:latest")
    assert "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE" in skopeo.delete(f"{name}@{old.children[0].digest}").err
    for content in (old, *old.children):
        assert skopeo.delete(f"{name}@{content.digest}").code == 0
        assert not skopeo.finds(f"{name}@{content.digest}")
    assert skopeo.pull(f"{name}:latest") == parts(new)


def test_oras_pulls_charts_that_are_kept_and_their_sboms(site: Site, oras: Oras, tmp_path: Path) -> None:
    """Charts as Helm stores them, each with an SBOM that names it as its subject."""
    name = "us-docker.pkg.dev/acme/charts/web"
    config, chart, sbom = (tmp_path / file for file in ("config.json", "web.tgz", "sbom.json"))
    attached: dict[str, str] = {}
    for days, version in ((30, "1.0.0"), (20, "1.1.0"), (10, "2.0.0")):
        days_ago(site, days)
        config.write_text(json.dumps({"name": "web", "version": version}))
        chart.write_text(f"chart {version}")
        sbom.write_text(f"sbom {version}")
        subject = oras.push(f"{name}:{version}", chart, HELM_CHART, config=f"{config}:{HELM_CONFIG}")
        # This client gives everything a tag; by this one it is known as what is about the chart.
        attached[version] = f"{subject.digest.replace(':', '-')}.sbom"
        oras.push(f"{name}:{attached[version]}", sbom, SBOM, subject=subject)

    prune(name, "--keep", "2")

    kept = ("1.1.0", "2.0.0")
    assert oras.tags(name) == sorted([*kept, *(attached[version] for version in kept)])
    for version in kept:
        assert oras.pull(f"{name}:{version}") == [f"chart {version}".encode()]
        assert oras.pull(f"{name}:{attached[version]}") == [f"sbom {version}".encode()]
    for tag in ("1.0.0", attached["1.0.0"]):
        assert not oras.finds(f"{name}:{tag}")


def test_google_clients_retag_delete_and_list_what_is_left(
    site: Site, skopeo: Skopeo, google_client: Gcloud | ArtifactRegistry
) -> None:
    """They name a repository of gcr.io by its place in Artifact Registry, and delete a tag without its image."""
    releases = Releases.push(site, skopeo, "gcr.io/acme")
    name = releases.repository
    repository = "us-docker.pkg.dev/acme/gcr.io"
    listed_as = f"{repository}/{name.rpartition('/')[2]}"
    first, second, third, fourth = (content.digest for content in releases.images.values())
    assert google_client.images(listed_as) == releases.versions("v1", "v2", "v3", "v4")

    google_client.add_tag(listed_as, "v2", "pinned")
    google_client.delete_tag(listed_as, "stable")
    assert not google_client.delete(listed_as, third)
    assert google_client.delete(listed_as, third, with_tags=True)
    prune(name, "--match", r"v\d+", "--keep", "1")

    left = releases.versions("v2", "v4") | {second: ["pinned", "v2"]}
    assert google_client.images(listed_as) == left
    contents = google_client.contents(repository)
    assert contents >= {f"{listed_as}@{digest}" for digest in left}
    assert not contents & {f"{listed_as}@{digest}" for digest in (first, third)}
    assert google_client.tags(listed_as) == {"pinned": second, "v2": second, "v4": fourth}
    assert google_client.finds(listed_as, "pinned")
    assert not google_client.finds(listed_as, "v1")
    assert skopeo.pull(f"{name}:pinned") == parts(releases.images["v2"])
    assert not any(skopeo.finds(f"{name}@{digest}") for digest in (first, third))
