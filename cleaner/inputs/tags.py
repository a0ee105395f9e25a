"""The file of ``check --tags``: images with their tags, as a registry or gcloud lists them."""

from __future__ import annotations

import hashlib

import msgspec

from cleaner.core.errors import CleanerError, ConfigurationError, InvalidReference
from cleaner.core.manifest import OCI_MANIFEST, Listing, Manifest, decode_tags_page, parse_number
from cleaner.core.reference import Repository, parse_digest, parse_repository, parse_tag
from cleaner.core.times import parse_time
from cleaner.inputs.policies import Policies, name_of, read_text

# A listing of a hundred thousand images has some thirty megabytes.
_MAX_CHARS = 256 * 1024 * 1024


class Tags(msgspec.Struct, frozen=True):
    """The listing of each repository in a file, and ``notes`` about what the file does not say."""

    listings: tuple[Listing, ...]
    notes: tuple[str, ...] = ()


class _Image(msgspec.Struct):
    """An entry of what ``gcloud artifacts docker images list --include-tags --format=json`` prints."""

    package: str
    version: str
    tags: list[str] | str | None = None
    createTime: object = None  # noqa: N815  # gcloud's name
    metadata: dict[str, object] | None = None

    @property
    def manifest(self) -> Manifest:
        """The image, as a listing has it."""
        tags = self.tags.split(",") if isinstance(self.tags, str) else self.tags or []
        return Manifest(
            parse_digest(self.version),
            OCI_MANIFEST,
            tuple(sorted({parse_tag(tag.strip()) for tag in tags if tag})),
            parse_time(self.createTime) or parse_time(f"{self.createTime}Z"),
            parse_number((self.metadata or {}).get("imageSizeBytes")),
        )


class _TagsList(msgspec.Struct):
    """The body of a ``tags/list``; its manifests are decoded as those of a registry are."""

    name: str
    tags: list[str] | None = None
    manifest: dict[str, msgspec.Raw] | None = None


def read_tags(path: str, policies: Policies) -> Tags:
    """Return the images of a file; ``-`` is stdin.  Each entry is an image: what an index lists is not known.

    ``policies`` say on which host the repository of a ``tags/list`` is, which has none.

    Raises:
        ConfigurationError: The file cannot be read, or is neither of the two kinds.
    """
    text = read_text(path, _MAX_CHARS)
    try:
        if not text.lstrip().startswith("["):
            return _of_tags_list(msgspec.json.decode(text, type=_TagsList), text, policies)
        by_package: dict[str, list[Manifest]] = {}
        for image in msgspec.json.decode(text, type=list[_Image]):
            by_package.setdefault(image.package, []).append(image.manifest)
        return Tags(tuple(Listing.of(_repository(package), images) for package, images in by_package.items()))
    except (msgspec.MsgspecError, ValueError, RecursionError, CleanerError) as error:
        raise ConfigurationError(
            f"{name_of(path)}: neither the body of a tags/list nor what gcloud artifacts docker images list"
            f" --include-tags --format=json prints: {error}"
        ) from error


def _of_tags_list(body: _TagsList, text: str, policies: Policies) -> Tags:
    repository, notes = _place(body.name, policies)
    if body.manifest:
        manifests = decode_tags_page(text.encode()).manifests
        images = [msgspec.structs.replace(one, media_type=OCI_MANIFEST) if one.is_index else one for one in manifests]
        return Tags((Listing.of(repository, images),), notes)
    tags = list(map(parse_tag, body.tags or ()))
    digests = {tag: parse_digest(f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}") for tag in tags}
    listing = Listing.of(repository, (Manifest(digest, OCI_MANIFEST, (tag,)) for tag, digest in digests.items()))
    unknown = "no upload times are known: every tag is shown as an image of unknown age, which is kept"
    return Tags((listing,), (*notes, unknown))


def _place(name: str, policies: Policies) -> tuple[Repository, tuple[str, ...]]:
    """Return the repository of a ``tags/list``, on the first host for which a policy is; else on any, with a note."""
    hosts = [glob.text.partition("/")[0] for policy in policies.policies for glob in policy.repositories]
    places = [
        _repository(f"{host}/{name}") for host in dict.fromkeys([*hosts, "us-docker.pkg.dev"]) if "*" not in host
    ]
    for repository in places:
        if policies.choose(repository):
            return repository, ()
    return places[0], (f"no policy of {policies.name} matches {name} on any host",)


def _repository(package: str) -> Repository:
    host = package.partition("/")[0]
    try:
        return parse_repository(package, {host})
    except InvalidReference as error:
        raise ValueError(f"{package!a}: {error}") from error
