"""Which images are deployed, read from Cloud Asset Inventory's records of what runs them.

A function of values: reads no clock, network, environment or log.  Whatever is unclear counts as running: a
reference too many keeps an image, one too few loses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from cleaner.core.errors import InvalidReference, PermanentError
from cleaner.core.reference import Digest, Repository, Tag, is_google_host, package_name, parse_digest

# Asset type -> how well its name tells an operator what runs an image, and what it is called.  A deployment's pods
# and replica sets name the same image; the deployment is what somebody has written down.
_KINDS: Mapping[str, tuple[int, str]] = {
    "run.googleapis.com/Revision": (3, "Cloud Run revision"),
    "run.googleapis.com/Job": (3, "Cloud Run job"),
    "apps.k8s.io/Deployment": (3, "Deployment"),
    "apps.k8s.io/StatefulSet": (3, "StatefulSet"),
    "apps.k8s.io/DaemonSet": (3, "DaemonSet"),
    "batch.k8s.io/CronJob": (3, "CronJob"),
    "batch.k8s.io/Job": (2, "Job"),
    "apps.k8s.io/ReplicaSet": (1, "ReplicaSet"),
    "k8s.io/Pod": (0, "Pod"),
}
ASSET_TYPES = tuple(_KINDS)

# What Docker and Kubernetes pull where a reference has neither tag nor digest.
_DEFAULT_TAG = Tag("latest")
_HTTPS_PORT = ":443"


class Runner(NamedTuple):
    """Who runs an image; of several, the greatest is named: of two revisions the later one."""

    prominence: int
    name: str


class ImageReference(msgspec.Struct, frozen=True):
    """What an image reference names.

    ``name`` is ``HOST/PATH``, the host in lower case and a Google host without its port; it is empty where nothing
    but a digest is named, or no host, which is Docker Hub.  It is compared and never requested, so it need not be
    within the grammar of names, and no reference has to be thrown away for being outside it.
    """

    name: str = ""
    tag: Tag | None = None
    digest: Digest | None = None


class AssetsPage(msgspec.Struct, frozen=True):
    """One page of an inventory: the image references of its assets as they are spelled, each with who runs it."""

    images: tuple[tuple[str, Runner], ...]
    next_page_token: str


class Deployed(msgspec.Struct, frozen=True):
    """What is deployed, as names of who runs it: by digest wherever that is, and by repository name and tag."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, Mapping[Tag, str]] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, images: Mapping[str, Runner]) -> Deployed:
        """Return what image references, however spelled, say of who runs them."""
        digests: dict[Digest, Runner] = {}
        tags: dict[str, dict[Tag, Runner]] = {}
        for image, runner in images.items():
            reference = parse_image(image)
            if reference.digest:
                _note(digests, reference.digest, runner)
            if reference.name and reference.tag:
                _note(tags.setdefault(reference.name, {}), reference.tag, runner)
        return cls(_names(digests), {name: _names(by_tag) for name, by_tag in tags.items()})

    def tags_in(self, repository: Repository) -> Mapping[Tag, str]:
        """Return the tags of ``repository`` that are deployed, under any of its names."""
        runners: dict[Tag, str] = {}
        for name in _spellings(repository):
            runners |= self.tags.get(name, {})
        return runners


class _Node(msgspec.Struct):
    """Any object on the way to an image.

    The shapes of Cloud Run's two API versions and of Kubernetes' workloads are nestings of the same few keys, so one
    type reads them all, whichever shape the inventory has for an asset type.  What is not on the way is skipped
    without being built: a pod is some ten kilobytes, its image references a hundred bytes.
    """

    image: str | _Node | None = None
    # A volume's image.
    reference: str | None = None
    image_id: str | None = msgspec.field(default=None, name="imageID")
    image_digest: str | None = msgspec.field(default=None, name="imageDigest")

    spec: _Node | None = None
    status: _Node | None = None
    template: _Node | None = None
    job_template: _Node | None = msgspec.field(default=None, name="jobTemplate")

    containers: list[_Node] | None = None
    init_containers: list[_Node] | None = msgspec.field(default=None, name="initContainers")
    ephemeral_containers: list[_Node] | None = msgspec.field(default=None, name="ephemeralContainers")
    container_statuses: list[_Node] | None = msgspec.field(default=None, name="containerStatuses")
    init_statuses: list[_Node] | None = msgspec.field(default=None, name="initContainerStatuses")
    ephemeral_statuses: list[_Node] | None = msgspec.field(default=None, name="ephemeralContainerStatuses")
    volumes: list[_Node] | None = None


class _Resource(msgspec.Struct):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Asset(msgspec.Struct, rename="camel"):
    name: str
    asset_type: str
    resource: _Resource | None = None


class _Page(msgspec.Struct, rename="camel"):
    read_time: str | None = None
    assets: list[_Asset] | None = None
    next_page_token: str = ""


_page_decoder = msgspec.json.Decoder(_Page)
_node_decoder = msgspec.json.Decoder(_Node)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def decode_assets_page(body: bytes | bytearray) -> AssetsPage:
    """Return the image references of one answer to a question for assets with their resources.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: The body is not JSON, or no page of assets
            (``msgspec.ValidationError``).
        PermanentError: An asset comes without its resource, so its images are not known.
    """
    page = _page_decoder.decode(body)
    if page.read_time is None and page.assets is None:
        raise msgspec.ValidationError("it has neither a readTime nor assets")
    found = tuple((image, runner) for asset in page.assets or () for image, runner in _images_of(asset))
    return AssetsPage(found, page.next_page_token)


def gather(images: dict[str, Runner], page: AssetsPage) -> None:
    """Add the references of ``page`` to ``images``, which holds each once with the most prominent of its runners."""
    for image, runner in page.images:
        _note(images, image, runner)


def parse_image(text: str) -> ImageReference:
    """Return what an image reference names, in any spelling of a container's ``image`` or ``imageID``.

    With a tag and a digest both count: the digest is what runs, and the tag is what somebody has written down.
    """
    reference = text.strip().rpartition("://")[2]
    before, at, last = reference.rpartition("@")
    digest = _digest(last)
    folder, slash, leaf = (before if at else last).rpartition("/")
    leaf, _, tag = leaf.partition(":")
    host, _, path = f"{folder}{slash}{leaf}".partition("/")
    # distribution/reference: the first component is a host if it has a dot or a colon; all that may be pruned do.
    if not path or not ("." in host or ":" in host):
        return ImageReference(digest=digest)
    if not tag and not at:
        tag = _DEFAULT_TAG
    return ImageReference(f"{_plain_host(host)}/{path}", Tag(tag) if tag else None, digest)


def runner_of(asset_type: str, name: str) -> Runner:
    """Return a short name for an asset, like ``Deployment prod/api``, from its type and full resource name.

    The name is whole where it is of an unknown form.
    """
    prominence, kind = _KINDS.get(asset_type, (0, asset_type))
    parts = name.split("/")
    for parent, form in (("namespaces", "{kind} {value}/{last}"), ("locations", "{kind} {last} ({value})")):
        if parent in parts[:-2]:
            value = parts[parts.index(parent) + 1]
            return Runner(prominence, form.format(kind=kind, value=value, last=parts[-1]))
    return Runner(prominence, f"{kind} {name}")


def _images_of(asset: _Asset) -> Iterator[tuple[str, Runner]]:
    """Yield the image references of one asset.

    Every type that is asked for names an image.  Where none is found, or the data has another shape than is known,
    each string in it counts that could be a reference: failing instead would let one odd asset of a whole
    organization end all pruning, and passing over it could lose its image.
    """
    data = asset.resource.data if asset.resource else msgspec.UNSET
    if data is msgspec.UNSET:
        raise PermanentError(f"{asset.name}: the inventory does not say what it is made of")
    runner = runner_of(asset.asset_type, asset.name)
    try:
        images = [*_named_images(_node_decoder.decode(data))]
    except msgspec.ValidationError:
        images = []
    if not images:
        document = _any_decoder.decode(data)
        if not isinstance(document, dict):
            raise PermanentError(f"{asset.name}: the inventory does not say what it is made of")
        images = [text for text in _strings(document) if _could_be_image(text)]
    for image in images:
        yield image, runner


def _named_images(root: _Node) -> Iterator[str]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        image = node.image
        for text in (image if isinstance(image, str) else None, node.reference, node.image_id, node.image_digest):
            if text:
                yield text
        below = (
            image if isinstance(image, _Node) else None,
            node.spec,
            node.status,
            node.template,
            node.job_template,
        )
        waiting += [one for one in below if one]
        for group in (
            node.containers,
            node.init_containers,
            node.ephemeral_containers,
            node.container_statuses,
            node.init_statuses,
            node.ephemeral_statuses,
            node.volumes,
        ):
            waiting += group or ()


def _strings(root: object) -> Iterator[str]:
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _could_be_image(text: str) -> bool:
    if any(character.isspace() for character in text):
        return False
    reference = parse_image(text)
    return bool(reference.name or reference.digest)


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except InvalidReference:
        return None


def _plain_host(host: str) -> str:
    host = host.lower()
    bare = host.removesuffix(_HTTPS_PORT)
    return bare if is_google_host(bare) else host


def _spellings(repository: Repository) -> Iterable[str]:
    """Return the names that ``repository`` answers to: its own, and for a ``gcr.io`` one Artifact Registry's."""
    own = str(repository)
    name = package_name(repository)
    if name is None:
        return (own,)
    # A domain-scoped project is a part of the path here, and has a colon in the REST name.
    parts = (name.project.replace(":", "/", 1), name.repository, name.package)
    return dict.fromkeys((own, "/".join(filter(None, (f"{name.location}-docker.pkg.dev", *parts)))))


_Key = TypeVar("_Key")


def _note(runners: dict[_Key, Runner], key: _Key, runner: Runner) -> None:
    runners[key] = max(runners.get(key, runner), runner)


def _names(runners: Mapping[_Key, Runner]) -> dict[_Key, str]:
    return {key: runner.name for key, runner in runners.items()}
