"""What assets say of who runs which image, and what a plan makes of it."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from cleaner.core.errors import PermanentError
from cleaner.core.manifest import Manifest
from cleaner.core.plan import Plan, plan
from cleaner.core.reference import Digest, Repository, Tag, parse_repository
from cleaner.core.rules import Reason, Running
from cleaner.google.running import (
    ASSET_TYPES,
    Deployed,
    ImageReference,
    Images,
    Runner,
    decode_assets_page,
    gather,
    parse_image,
    runner_of,
)
from tests.support import builders
from tests.support.builders import digest, listing, manifest, retiring

DATA = Path(__file__).parent.parent / "data"
APPS = "europe-west1-docker.pkg.dev/acme/apps"
CLUSTER = "//container.googleapis.com/projects/acme/locations/europe-west1/clusters/prod/k8s"
API = Repository("europe-west1-docker.pkg.dev", "acme/apps/api")
HEX = "0123456789abcdef" * 4
DIGEST = Digest(f"sha256:{HEX}")


def page_of(*files: str) -> Images:
    """Return the assets of recorded answers as one page."""
    documents = [json.loads((DATA / name).read_bytes()) for name in files]
    return decode_assets_page(json.dumps({"assets": [one for each in documents for one in each["assets"]]}).encode())


RECORDED = (
    "assets-kubernetes.json",
    "assets-run-v1.json",
    "assets-run-v2.json",
    "assets-app-engine.json",
    "assets-vertex-ai.json",
    "assets-workstations.json",
)


def images_by_runner(page: Images) -> Mapping[str, set[str]]:
    images: dict[str, set[str]] = {}
    for image, runner in page:
        images.setdefault(runner.name, set()).add(image)
    return images


def body(data: object, *, asset_type: str = "k8s.io/Pod", name: str = f"{CLUSTER}/namespaces/prod/pods/odd") -> bytes:
    """Return an answer with one asset."""
    return json.dumps({"assets": [{"name": name, "assetType": asset_type, "resource": {"data": data}}]}).encode()


def deployed(*images: str, who: str = "Deployment prod/api") -> Deployed:
    """Return what is deployed where ``who`` names these images."""
    return Deployed.of(dict.fromkeys(images, Runner(3, who)))


# Image references.

SPELLINGS = {
    "by digest": (f"{APPS}/api@{DIGEST}", ImageReference(f"{APPS}/api", None, DIGEST)),
    "by tag": (f"{APPS}/api:v1", ImageReference(f"{APPS}/api", Tag("v1"))),
    "by both": (f"{APPS}/api:v1@{DIGEST}", ImageReference(f"{APPS}/api", Tag("v1"), DIGEST)),
    "by neither": (f"{APPS}/api", ImageReference(f"{APPS}/api", Tag("latest"))),
    "docker-pullable": (f"docker-pullable://gcr.io/p/i@{DIGEST}", ImageReference("gcr.io/p/i", None, DIGEST)),
    "docker": (f"docker://gcr.io/p/i@{DIGEST}", ImageReference("gcr.io/p/i", None, DIGEST)),
    "https": ("https://gcr.io/p/i:v1", ImageReference("gcr.io/p/i", Tag("v1"))),
    "bare digest": (DIGEST, ImageReference(digest=DIGEST)),
    "bare digest behind a scheme": (f"docker://{DIGEST}", ImageReference(digest=DIGEST)),
    "host in upper case": ("GCR.io/p/i:V1", ImageReference("gcr.io/p/i", Tag("V1"))),
    "Google's host with its port": ("gcr.io:443/p/i:v1", ImageReference("gcr.io/p/i", Tag("v1"))),
    "Google's host with another port": ("gcr.io:5000/p/i:v1", ImageReference("gcr.io:5000/p/i", Tag("v1"))),
    "a local host's port": ("localhost:443/p/i", ImageReference("localhost:443/p/i", Tag("latest"))),
    "a port, no tag": ("127.0.0.1:5000/i", ImageReference("127.0.0.1:5000/i", Tag("latest"))),
    "white space around": (" gcr.io/p/i:v1\n", ImageReference("gcr.io/p/i", Tag("v1"))),
    "a mirror": (f"mirror.example/gcr/p/i@{DIGEST}", ImageReference("mirror.example/gcr/p/i", None, DIGEST)),
    "Docker Hub by digest": (f"nginx:1.27@{DIGEST}", ImageReference(digest=DIGEST)),
    "Docker Hub by tag": ("library/nginx:1.27", ImageReference()),
    "another algorithm": (f"gcr.io/p/i:v1@sha512:{HEX * 2}", ImageReference("gcr.io/p/i", Tag("v1"))),
    "another algorithm, no tag": (f"gcr.io/p/i@sha512:{HEX * 2}", ImageReference("gcr.io/p/i")),
    "a digest that is none": ("gcr.io/p/i:v1@sha256:0123", ImageReference("gcr.io/p/i", Tag("v1"))),
    "a colon and no tag": ("gcr.io/p/i:", ImageReference("gcr.io/p/i", Tag("latest"))),
    "a host alone": ("gcr.io", ImageReference()),
    "nothing": ("", ImageReference()),
}


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_spelling_is_read(text: str, expected: ImageReference) -> None:
    """Every spelling of an ``image`` or ``imageID`` names what a container runtime takes it for."""
    assert parse_image(text) == expected


def test_name_of_any_length_and_letters_is_held_as_it_is() -> None:
    """No reference is thrown away for being outside the grammar of names: it is only compared."""
    name = f"us-docker.pkg.dev/{'p' * 300}/Upper_/api"

    assert parse_image(f"{name}:v1") == ImageReference(name, Tag("v1"))


# Which repository a tag is deployed in.

NAMES = {
    "its own": ("gcr.io/acme/api", "gcr.io/acme/api"),
    "gcr.io": ("gcr.io/acme/api", "us-docker.pkg.dev/acme/gcr.io/api"),
    "us.gcr.io": ("us.gcr.io/acme/api", "us-docker.pkg.dev/acme/us.gcr.io/api"),
    "eu.gcr.io": ("eu.gcr.io/acme/api", "europe-docker.pkg.dev/acme/eu.gcr.io/api"),
    "asia.gcr.io": ("asia.gcr.io/acme/api", "asia-docker.pkg.dev/acme/asia.gcr.io/api"),
    "domain-scoped": ("gcr.io/example.com/acme/api", "us-docker.pkg.dev/example.com/acme/gcr.io/api"),
    "deep path": ("gcr.io/acme/team/api", "us-docker.pkg.dev/acme/gcr.io/team/api"),
    "Artifact Registry": (str(API), str(API)),
    "insecure registry": ("127.0.0.1:5000/acme/api", "127.0.0.1:5000/acme/api"),
}


@pytest.mark.parametrize(("canonical", "spelled"), NAMES.values(), ids=NAMES)
def test_tag_counts_under_every_name_of_its_repository(canonical: str, spelled: str) -> None:
    """A gcr.io repository's Artifact Registry name is the same repository, and the two modules agree on it."""
    repository = parse_repository(canonical, frozenset({"127.0.0.1:5000"}))

    assert parse_repository(spelled, frozenset({"127.0.0.1:5000"})) == repository
    assert deployed(f"{spelled}:v1").tags_in(repository) == {"v1": "Deployment prod/api"}


def test_artifact_registry_name_that_is_too_long_still_counts() -> None:
    """A gcr.io name just within the limit has an Artifact Registry name beyond it, which runtimes still pull."""
    package = "a" * (255 - len("gcr.io/acme/"))
    repository = parse_repository(f"gcr.io/acme/{package}")

    assert deployed(f"us-docker.pkg.dev/acme/gcr.io/{package}:v1").tags_in(repository) == {
        "v1": "Deployment prod/api"
    }


def test_tags_under_both_names_are_put_together() -> None:
    """One repository, two names, a tag under each."""
    found = deployed("gcr.io/acme/api:v1", "us-docker.pkg.dev/acme/gcr.io/api:v2")

    assert found.tags_in(Repository("gcr.io", "acme/api")).keys() == {"v1", "v2"}


@pytest.mark.parametrize(
    "image",
    [
        "gcr.io/acme/api/sub:v1",
        "gcr.io/acme:v1",
        "eu.gcr.io/acme/api:v1",
        "europe-docker.pkg.dev/acme/gcr.io/api:v1",
        "us-docker.pkg.dev/acme/virtual/api:v1",
        "registry.example/acme/api:v1",
        "acme/api:v1",
    ],
)
def test_tag_of_another_repository_does_not_count(image: str) -> None:
    """A tag counts in its own repository alone: other registries are ignored."""
    assert deployed(image).tags_in(Repository("gcr.io", "acme/api")) == {}


# Who runs it.

ASSET_NAMES = {
    "pod": ("k8s.io/Pod", f"{CLUSTER}/namespaces/prod/pods/api-x", "Pod prod/api-x"),
    "deployment": (
        "apps.k8s.io/Deployment",
        f"{CLUSTER}/namespaces/prod/apps/deployments/api",
        "Deployment prod/api",
    ),
    "zonal cluster": (
        "batch.k8s.io/CronJob",
        "//container.googleapis.com/projects/p/zones/z/clusters/c/k8s/namespaces/ns/batch/cronjobs/n",
        "CronJob ns/n",
    ),
    "revision": (
        "run.googleapis.com/Revision",
        "//run.googleapis.com/projects/p/locations/europe-west1/services/api/revisions/api-00042-abc",
        "Cloud Run revision api-00042-abc (europe-west1)",
    ),
    "job": (
        "run.googleapis.com/Job",
        "//run.googleapis.com/projects/p/locations/us-central1/jobs/nightly",
        "Cloud Run job nightly (us-central1)",
    ),
    "worker pool": (
        "run.googleapis.com/WorkerPool",
        "//run.googleapis.com/projects/p/locations/us-central1/workerPools/consumer",
        "Cloud Run worker pool consumer (us-central1)",
    ),
    "version": (
        "appengine.googleapis.com/Version",
        "//appengine.googleapis.com/apps/p/services/default/versions/v1",
        "App Engine version default/v1",
    ),
    "unknown form": ("k8s.io/Pod", "//elsewhere/api", "Pod //elsewhere/api"),
    "unknown type": ("example.com/Thing", "//example.com/locations/l/things/t", "example.com/Thing t (l)"),
    "cut short": ("k8s.io/Pod", "x/namespaces", "Pod x/namespaces"),
}


@pytest.mark.parametrize(("asset_type", "name", "expected"), ASSET_NAMES.values(), ids=ASSET_NAMES)
def test_runner_has_a_short_name(asset_type: str, name: str, expected: str) -> None:
    """Kind and name, with the namespace, the location or App Engine's service; all of it where that fails."""
    assert runner_of(asset_type, name).name == expected


def test_the_workload_that_somebody_wrote_down_is_named() -> None:
    """A deployment goes before its replica set and its pods, a cron job before its job, whatever their order."""
    page = page_of("assets-kubernetes.json")
    forwards: dict[str, Runner] = {}
    backwards: dict[str, Runner] = {}

    gather(forwards, page)
    gather(backwards, page[::-1])

    assert forwards == backwards
    assert Deployed.of(forwards).tags_in(API) == {"v7": "Deployment prod/api", "v6": "ReplicaSet prod/api-5d8f7c6b9"}


def test_of_several_revisions_the_last_is_named() -> None:
    """The traffic is likely there."""
    images: dict[str, Runner] = {}
    for number in (41, 43, 42):
        gather(images, ((f"{APPS}/api:v1", Runner(3, f"Cloud Run revision api-000{number}-abc (l)")),))

    assert Deployed.of(images).tags_in(API) == {"v1": "Cloud Run revision api-00043-abc (l)"}


# Assets.


def test_every_asset_type_of_the_recorded_answers_names_its_images() -> None:
    """Containers, init and ephemeral containers, resolved IDs, volumes, templates; nothing of the environment.

    The recorded answers also have a version of App Engine's standard environment, a model and a reasoning engine
    without an image.
    """
    images = images_by_runner(page_of(*RECORDED))

    assert images == {
        "Deployment prod/api": {
            f"{APPS}/api:v7",
            f"gcr.io/acme/proxy@{digest('proxy')}",
            f"{APPS}/migrate:v7@{digest('migrate')}",
        },
        "ReplicaSet prod/api-7c9d6b5f4": {f"{APPS}/api:v7"},
        "ReplicaSet prod/api-5d8f7c6b9": {f"{APPS}/api:v6"},
        "StatefulSet prod/queue": {f"{APPS}/queue"},
        "DaemonSet prod/agent": {"us-docker.pkg.dev/acme/gcr.io/agent:v3"},
        "Job prod/report-29013120": {f"{APPS}/report:2026-01"},
        "CronJob prod/report": {f"{APPS}/report:2026-02"},
        "ReplicationController prod/ledger": {f"{APPS}/ledger:v3"},
        "PodTemplate prod/train": {f"{APPS}/train:v1", f"{APPS}/prepare"},
        "Pod prod/api-7c9d6b5f4-x2x7q": {
            f"{APPS}/api:v7",
            f"{APPS}/api@{digest('api-amd64')}",
            f"{APPS}/migrate:v7@{digest('migrate')}",
            f"{APPS}/migrate@{digest('migrate-amd64')}",
            digest("migrate-config"),
            f"{APPS}/debug:v1",
            digest("debug-config"),
            f"docker-pullable://{APPS}/debug@{digest('debug')}",
            f"{APPS}/model:v2",
        },
        "Cloud Run revision shop-00042-abc (europe-west1)": {
            f"{APPS}/shop:v42",
            f"{APPS}/sidecar",
            f"{APPS}/shop@{digest('shop')}",
            f"{APPS}/sidecar@{digest('sidecar')}",
        },
        "Cloud Run revision shop-00043-def (europe-west1)": {
            f"{APPS}/shop@{digest('shop-43')}",
            f"{APPS}/sidecar:v2",
            f"{APPS}/sidecar@{digest('sidecar-v2')}",
        },
        "Cloud Run job nightly (europe-west1)": {f"{APPS}/nightly:v1", f"{APPS}/nightly:v2"},
        "Cloud Run worker pool consumer (europe-west1)": {f"{APPS}/consumer:v1", f"{APPS}/consumer:v2"},
        "App Engine version reports/20260110t101112": {
            f"eu.gcr.io/acme/appengine/reports.20260110t101112@{digest('reports')}"
        },
        "Vertex AI model 4567890123456789012 (europe-west1)": {f"{APPS}/ranker:v3"},
        "Vertex AI reasoning engine 7890123456789012345 (europe-west1)": {f"{APPS}/support:v5"},
        "Workstation configuration go (europe-west1)": {f"{APPS}/workstation:2026-01"},
    }


def test_recorded_answers_have_every_asset_type() -> None:
    """No type is asked for that these tests do not know."""
    documents = [json.loads((DATA / name).read_bytes()) for name in RECORDED]

    assert {one["assetType"] for each in documents for one in each["assets"]} == set(ASSET_TYPES)


CONTAINER = {"name": "api", "image": f"{APPS}/api:v1"}
SHAPES: Mapping[str, object] = {
    "containers are no list": {"spec": {"containers": {"api": CONTAINER}}},
    "a container is text": {"spec": {"containers": [f"{APPS}/api:v1"]}},
    "a container is null": {"spec": {"containers": [None, CONTAINER]}},
    "an image ID is a number": {
        "spec": {"containers": [CONTAINER]},
        "status": {"containerStatuses": [{"imageID": 7}]},
    },
    "spec is a list": {"spec": [{"containers": [CONTAINER]}]},
    "unknown keys": {"spec": {"tasks": [{"run": CONTAINER}]}},
    "an image is a list": {"spec": {"containers": [{"image": [f"{APPS}/api:v1"]}]}},
}


@pytest.mark.parametrize("data", SHAPES.values(), ids=SHAPES)
def test_image_in_data_of_another_shape_counts(data: object) -> None:
    """Where an asset's images are not found, every string of it counts that could be one."""
    images: dict[str, Runner] = {}

    gather(images, decode_assets_page(body(data)))

    assert Deployed.of(images).tags_in(API) == {"v1": "Pod prod/odd"}


def test_prose_in_data_of_another_shape_is_no_image() -> None:
    """What could never be a reference is not held."""
    page = decode_assets_page(
        body({"spec": 7, "status": {"message": "Back-off pulling gcr.io/p/i:v1", "phase": "Pending"}})
    )

    assert page == ()


COUNTED = {
    "at Google": "gcr.io/acme/api:v1",
    "at Google, with the port": "GCR.io:443/acme/api:v1",
    "behind a scheme": "https://gcr.io/acme/api:v1",
    "at an insecure registry": "127.0.0.1:5000/acme/api:v1",
    "a mirror's, by digest": f"mirror.example/hub/api@{DIGEST}",
    "a digest alone": DIGEST,
}
LEFT_OUT = {
    "a file of App Engine": "https://storage.googleapis.com/staging.acme.appspot.com/0123456789abcdef",
    "a file of Vertex AI": "gs://acme.example.com/models/1",
    "an account": "acme@appspot.gserviceaccount.com",
    "a resource": "apps/acme/services/default/versions/v1",
    "a mirror's, by tag": "mirror.example/hub/api:v1",
}


@pytest.mark.parametrize("text", COUNTED.values(), ids=COUNTED)
def test_string_that_may_name_an_image_to_prune_counts(text: str) -> None:
    """In an asset whose images are not found."""
    page = decode_assets_page(
        body({"deployment": {"kit": {"ref": text}}}, asset_type="appengine.googleapis.com/Version")
    )

    assert [image for image, _ in page] == [text]


@pytest.mark.parametrize("text", LEFT_OUT.values(), ids=LEFT_OUT)
def test_string_that_names_no_image_to_prune_is_not_held(text: str) -> None:
    """A version of App Engine may have ten thousand of them, and an application two hundred versions."""
    page = decode_assets_page(
        body({"deployment": {"files": {"a": {"sourceUrl": text}}}}, asset_type="appengine.googleapis.com/Version")
    )

    assert page == ()


def test_null_means_nothing() -> None:
    """Go writes an empty list as null."""
    data = {"spec": {"containers": [CONTAINER], "initContainers": None}, "status": None}

    assert [image for image, _ in decode_assets_page(body(data))] == [f"{APPS}/api:v1"]


@pytest.mark.parametrize(
    "asset",
    [
        {},
        {"resource": None},
        {"resource": {}},
        {"resource": {"data": None}},
        {"resource": {"data": []}},
        {"resource": {"data": "text"}},
    ],
    ids=json.dumps,
)
def test_asset_without_its_data_fails_the_question(asset: dict[str, object]) -> None:
    """It runs something, and nobody knows what."""
    document = {"assets": [{"name": "//x/pods/p", "assetType": "k8s.io/Pod", **asset}]}

    with pytest.raises(PermanentError, match=re.escape("//x/pods/p: ")):
        decode_assets_page(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        '{"error":{"code":500}}',
        '{"assets":{}}',
        '{"assets":[null]}',
        '{"assets":[{}]}',
        '{"assets":[{"name":"n","assetType":"t","resource":[]}]}',
    ],
)
def test_body_that_is_no_page_of_assets_is_refused(text: str) -> None:
    """JSON of another kind never counts as "nothing runs"."""
    with pytest.raises(msgspec.ValidationError):
        decode_assets_page(text.encode())


@pytest.mark.parametrize(
    "text",
    ["", "<html>", '{"assets":[{"na', '{"assets":[{"name":"n","assetType":"t","resource":{"data":{"spec":}}}]}'],
)
def test_body_that_is_no_json_is_refused(text: str) -> None:
    """It was damaged on its way."""
    with pytest.raises(msgspec.DecodeError) as caught:
        decode_assets_page(text.encode())

    assert not isinstance(caught.value, msgspec.ValidationError)


@pytest.mark.parametrize("prefix", ['{"x":', '{"spec":', "["])
def test_data_nested_beyond_reason_is_refused(prefix: str) -> None:
    """Neither of the decoders follows it to the end of the stack."""
    closing = "]" if prefix == "[" else "}"
    data = prefix * 100_000 + "1" + closing * 100_000

    with pytest.raises(RecursionError):
        decode_assets_page(f'{{"assets":[{{"name":"n","assetType":"t","resource":{{"data":{data}}}}}]}}'.encode())


def test_no_assets_are_an_answer() -> None:
    """A scope where nothing runs, and a page that is empty with another to come."""
    assert decode_assets_page(b'{"readTime":"2026-01-12T09:00:00Z"}') == ()
    assert decode_assets_page(b'{"readTime":"2026-01-12T09:00:00Z","nextPageToken":"t"}') == ()
    assert decode_assets_page(b'{"assets":[]}') == ()


def test_twenty_thousand_pods_take_bounded_memory() -> None:
    """Of 80 MB of pods only their 4000 references are held, and next to nothing is built on the way to them."""
    environment = [{"name": f"NAME_{number}", "value": "v" * 50} for number in range(45)]

    def pod(number: int) -> dict[str, object]:
        image = f"{APPS}/app-{number % 100}"
        container = {"name": "app", "image": f"{image}:vPAGE", "env": environment}
        status = {"image": f"{image}:vPAGE", "imageID": f"{image}@sha256:PAGE{number % 100:062x}"}
        data = {"spec": {"containers": [container]}, "status": {"containerStatuses": [status]}}
        name = f"{CLUSTER}/namespaces/prod/pods/app-PAGE-{number}"
        return {"name": name, "assetType": "k8s.io/Pod", "resource": {"data": data}}

    template = json.dumps({"assets": [pod(number) for number in range(1000)]}).encode()
    assert len(template) > 4e6
    images: dict[str, Runner] = {}
    built = 0
    tracemalloc.start()
    try:
        for page in range(10, 30):
            answer = template.replace(b"PAGE", b"%d" % page)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            gather(images, decode_assets_page(answer))
            built = max(built, tracemalloc.get_traced_memory()[1] - before)
            del answer
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(images) == 4000
    assert held < 4e6
    assert built < 8e6


# What a plan makes of it.


def decide(found: Deployed, *manifests: Manifest) -> Plan:
    """Return a plan under a policy that would delete all that is old, where ``found`` is deployed."""
    held = listing(*manifests)
    return plan(held, retiring(), builders.NOW, running=Running(found.digests, found.tags_in(held.repository)))


def test_running_child_keeps_its_index_and_that_its_other_children() -> None:
    """A node pulls its platform's manifest through the index, and another node another platform's."""
    result = decide(
        deployed(f"gcr.io/acme/api@{digest('amd64')}"),
        manifest("index", tags="v1", children="amd64 arm64"),
        manifest("amd64"),
        manifest("arm64"),
        manifest("signature", tags=builders.cosign("index")),
        manifest("sbom", subject="amd64"),
        manifest("old", tags="v0"),
    )

    assert builders.reasons(result) == {
        "index": "running",
        "amd64": "running",
        "arm64": "needed",
        "signature": "needed",
        "sbom": "needed",
        "old": "expired",
    }


def test_running_index_keeps_its_children() -> None:
    """Cloud Run and workloads name the index."""
    result = decide(
        deployed("us-docker.pkg.dev/acme/gcr.io/api:v1"),
        manifest("index", tags="v1 stable", children="amd64"),
        manifest("amd64"),
        manifest("signature", tags=builders.cosign("index")),
    )

    assert builders.reasons(result) == {"index": "running", "amd64": "needed", "signature": "needed"}


def test_digest_counts_in_every_repository_and_a_tag_in_its_own() -> None:
    """A pod that pulled through a mirror runs this image; a tag of a mirror is another tag."""
    result = decide(
        deployed(f"mirror.example/hub/api@{digest('mirrored')}", "mirror.example/hub/api:v2", "gcr.io/acme/other:v3"),
        manifest("mirrored", tags="v1"),
        manifest("same tag elsewhere", tags="v2"),
        manifest("same tag in another repository", tags="v3"),
    )

    assert builders.reasons(result) == {
        "mirrored": "running",
        "same tag elsewhere": "expired",
        "same tag in another repository": "expired",
    }


def test_tag_beside_a_digest_counts_too() -> None:
    """The digest is what runs, the tag is what somebody may yet pull: both stay."""
    result = decide(
        deployed(f"gcr.io/acme/api:stable@{digest('deployed')}"),
        manifest("deployed"),
        manifest("moved on", tags="stable"),
    )

    assert builders.reasons(result) == {"deployed": "running", "moved on": "running"}


def test_reference_without_tag_keeps_latest() -> None:
    """As container runtimes read it."""
    result = decide(deployed("gcr.io/acme/api"), manifest("new", tags="latest"), manifest("old", tags="v1"))

    assert builders.reasons(result) == {"new": "running", "old": "expired"}


def test_log_line_says_who_runs_an_image() -> None:
    """The index of a running child too."""
    result = decide(
        deployed(f"gcr.io/acme/api@{digest('amd64')}"), manifest("index", children="amd64"), manifest("amd64")
    )

    assert [verdict.reason for verdict in result.keep] == [Reason.RUNNING, Reason.RUNNING]
    assert [verdict.facts()["running"] for verdict in result.keep] == ["Deployment prod/api"] * 2
