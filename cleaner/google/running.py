"""Which images are deployed, decoded from Cloud Asset Inventory's records of what runs them.

Pure: reads no clock, network, environment or log.  Whatever may be an image reference counts as one: a reference too
many keeps an image, a reference too few deletes one that is deployed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from cleaner.core.errors import InvalidReference, PermanentError
from cleaner.core.reference import Digest, Repository, Tag, is_google_host, package_name, parse_digest

# Asset type -> its prominence and its name.  A deployment, its replica sets and its pods name the same image; an
# operator knows the deployment, which is therefore the most prominent.
#
# The inventory refuses a query with a type that it does not know; these are in the table "Resource types" of its
# documentation.  What has run, like a job's executions, is left out: it would keep every image that ever ran.
_KINDS: Mapping[str, tuple[int, str]] = {
    "run.googleapis.com/Revision": (3, "Cloud Run revision"),
    "run.googleapis.com/Job": (3, "Cloud Run job"),
    "run.googleapis.com/WorkerPool": (3, "Cloud Run worker pool"),
    "apps.k8s.io/Deployment": (3, "Deployment"),
    "apps.k8s.io/StatefulSet": (3, "StatefulSet"),
    "apps.k8s.io/DaemonSet": (3, "DaemonSet"),
    "k8s.io/ReplicationController": (3, "ReplicationController"),
    "batch.k8s.io/CronJob": (3, "CronJob"),
    "batch.k8s.io/Job": (2, "Job"),
    "apps.k8s.io/ReplicaSet": (1, "ReplicaSet"),
    "k8s.io/PodTemplate": (1, "PodTemplate"),
    "k8s.io/Pod": (0, "Pod"),
    "appengine.googleapis.com/Version": (3, "App Engine version"),
    "aiplatform.googleapis.com/Model": (3, "Vertex AI model"),
    "aiplatform.googleapis.com/ReasoningEngine": (3, "Vertex AI reasoning engine"),
    "workstations.googleapis.com/WorkstationConfig": (3, "Workstation configuration"),
}
ASSET_TYPES = tuple(_KINDS)

# The first of these collections that a resource name has, and the runner's name with its member.  The names of
# Kubernetes have a location as well, and those of Cloud Run a service.
_NAME_FORMS = (
    ("namespaces", "{kind} {value}/{last}"),
    ("locations", "{kind} {last} ({value})"),
    ("services", "{kind} {value}/{last}"),
)

# What Docker and Kubernetes pull if a reference has neither tag nor digest.
_DEFAULT_TAG = Tag("latest")
_HTTPS_PORT = ":443"


class Runner(NamedTuple):
    """What runs an image.  Of several the greatest is reported: the most prominent, then the last by name."""

    prominence: int
    name: str


# Image references as they are written, each with what runs it.
Images = tuple[tuple[str, Runner], ...]


class ImageReference(msgspec.Struct, frozen=True):
    """What an image reference names.

    ``name`` is ``HOST/PATH``, the host in lower case and a Google host without its port; it is empty if the reference
    has only a digest, or no host, which is Docker Hub.  It is compared and never requested, so it need not be within
    the grammar of names.
    """

    name: str = ""
    tag: Tag | None = None
    digest: Digest | None = None


class Deployed(msgspec.Struct, frozen=True):
    """What runs each image: by digest, in whatever repository, and by repository name and tag."""

    digests: Mapping[Digest, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, Mapping[Tag, str]] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, images: Mapping[str, Runner]) -> Deployed:
        """Return what is deployed, from image references as they are written."""
        digests: dict[Digest, Runner] = {}
        tags: dict[str, dict[Tag, Runner]] = {}
        for image, runner in images.items():
            reference = parse_image(image)
            if reference.digest:
                _keep_greatest(digests, reference.digest, runner)
            if reference.name and reference.tag:
                _keep_greatest(tags.setdefault(reference.name, {}), reference.tag, runner)
        return cls(_runner_names(digests), {name: _runner_names(by_tag) for name, by_tag in tags.items()})

    def tags_in(self, repository: Repository) -> Mapping[Tag, str]:
        """Return the deployed tags of ``repository``, under any of its names, with what runs them."""
        runners: dict[Tag, str] = {}
        for name in _names_of(repository):
            runners |= self.tags.get(name, {})
        return runners


class _Node(msgspec.Struct):
    """Any object on the path to an image reference.

    The schemas of all asset types, Cloud Run's in two API versions, nest the same few keys, so one type decodes them
    all, whichever schema the inventory has for an asset type.  The decoder skips other keys: a pod has some ten
    kilobytes, its image references a hundred bytes.
    """

    image: str | _Node | None = None
    image_uri: str | None = msgspec.field(default=None, name="imageUri")
    # A volume's image.
    reference: str | None = None
    image_id: str | None = msgspec.field(default=None, name="imageID")
    image_digest: str | None = msgspec.field(default=None, name="imageDigest")

    spec: _Node | None = None
    status: _Node | None = None
    template: _Node | None = None
    job_template: _Node | None = msgspec.field(default=None, name="jobTemplate")
    deployment: _Node | None = None
    container: _Node | None = None
    container_spec: _Node | None = msgspec.field(default=None, name="containerSpec")

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


_page_decoder = msgspec.json.Decoder(_Page)
_node_decoder = msgspec.json.Decoder(_Node)
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def decode_assets_page(body: bytes | bytearray) -> Images:
    """Return the image references of one page of assets with their resources.

    Raises:
        msgspec.ValidationError: The body is JSON, but not a page of assets.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: The body is not JSON.
        PermanentError: An asset has no resource, so its images are not known.
    """
    page = _page_decoder.decode(body)
    if page.read_time is None and page.assets is None:
        raise msgspec.ValidationError("it has neither a readTime nor assets")
    return tuple((image, runner) for asset in page.assets or () for image, runner in _images_of(asset))


def gather(images: dict[str, Runner], page: Images) -> None:
    """Add the references of ``page`` to ``images``, which has each once with the greatest of its runners."""
    for image, runner in page:
        _keep_greatest(images, image, runner)


def parse_image(text: str) -> ImageReference:
    """Return what an image reference names, in any form of a container's ``image`` or ``imageID``.

    Of a reference with tag and digest both are returned: the digest is what runs, the tag is what was configured.
    """
    reference = text.strip().rpartition("://")[2]
    before, at, last = reference.rpartition("@")
    digest = _digest(last)
    folder, slash, leaf = (before if at else last).rpartition("/")
    leaf, _, tag = leaf.partition(":")
    host, _, path = f"{folder}{slash}{leaf}".partition("/")
    # distribution/reference: the first component is a host if it has a dot or a colon; every allowed host has.
    if not path or not ("." in host or ":" in host):
        return ImageReference(digest=digest)
    if not tag and not at:
        tag = _DEFAULT_TAG
    return ImageReference(f"{_plain_host(host)}/{path}", Tag(tag) if tag else None, digest)


def runner_of(asset_type: str, name: str) -> Runner:
    """Return a short name for an asset, like ``Deployment prod/api``, from its type and full resource name.

    A resource name of an unknown form is not shortened.
    """
    prominence, kind = _KINDS.get(asset_type, (0, asset_type))
    parts = name.split("/")
    for parent, form in _NAME_FORMS:
        if parent in parts[:-2]:
            value = parts[parts.index(parent) + 1]
            return Runner(prominence, form.format(kind=kind, value=value, last=parts[-1]))
    return Runner(prominence, f"{kind} {name}")


def _images_of(asset: _Asset) -> Iterator[tuple[str, Runner]]:
    """Yield the image references of one asset.

    If none is found, or the data has an unknown schema, each string in it counts that could name an image that can be
    pruned: failing instead would let one unusual asset of an organization end all pruning, and skipping it could
    delete its image.  An asset that names none, like a version of App Engine's standard environment, has no such
    string either.
    """
    data = asset.resource.data if asset.resource else msgspec.UNSET
    if data is msgspec.UNSET:
        raise PermanentError(f"{asset.name}: the inventory has no data of this asset")
    runner = runner_of(asset.asset_type, asset.name)
    try:
        images = [*_named_images(_node_decoder.decode(data))]
    except msgspec.ValidationError:
        images = []
    if not images:
        document = _any_decoder.decode(data)
        if not isinstance(document, dict):
            raise PermanentError(f"{asset.name}: the inventory has no data of this asset")
        images = [text for text in _strings(document) if _could_be_image(text)]
    for image in images:
        yield image, runner


def _named_images(root: _Node) -> Iterator[str]:
    pending = [root]
    while pending:
        node = pending.pop()
        image = node.image
        texts = (
            image if isinstance(image, str) else None,
            node.image_uri,
            node.reference,
            node.image_id,
            node.image_digest,
        )
        yield from filter(None, texts)
        below = (
            image if isinstance(image, _Node) else None,
            node.spec,
            node.status,
            node.template,
            node.job_template,
            node.deployment,
            node.container,
            node.container_spec,
        )
        pending += [one for one in below if one]
        for group in (
            node.containers,
            node.init_containers,
            node.ephemeral_containers,
            node.container_statuses,
            node.init_statuses,
            node.ephemeral_statuses,
            node.volumes,
        ):
            pending += group or ()


def _strings(root: object) -> Iterator[str]:
    pending = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _could_be_image(text: str) -> bool:
    """Return whether ``text`` could name an image that can be pruned.

    Its repository is at a Google host, or at the ``HOST:PORT`` of an insecure registry; a digest counts in every
    repository.  Other hosts are left out: most are in URLs, and a version of App Engine may have one for each file.
    """
    if any(character.isspace() for character in text):
        return False
    reference = parse_image(text)
    host = reference.name.partition("/")[0]
    return reference.digest is not None or is_google_host(host) or ":" in host


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except InvalidReference:
        return None


def _plain_host(host: str) -> str:
    host = host.lower()
    bare = host.removesuffix(_HTTPS_PORT)
    return bare if is_google_host(bare) else host


def _names_of(repository: Repository) -> Iterable[str]:
    """Return the names of ``repository``: its own, and that of Artifact Registry if it is a ``gcr.io`` name."""
    own = str(repository)
    name = package_name(repository)
    if name is None:
        return (own,)
    # A domain-scoped project has a slash in a path, and a colon in the REST name.
    parts = (name.project.replace(":", "/", 1), name.repository, name.package)
    return dict.fromkeys((own, "/".join(filter(None, (f"{name.location}-docker.pkg.dev", *parts)))))


_Key = TypeVar("_Key")


def _keep_greatest(runners: dict[_Key, Runner], key: _Key, runner: Runner) -> None:
    runners[key] = max(runners.get(key, runner), runner)


def _runner_names(runners: Mapping[_Key, Runner]) -> dict[_Key, str]:
    return {key: runner.name for key, runner in runners.items()}
