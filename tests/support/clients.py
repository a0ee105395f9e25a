"""Real clients of Google's registries, for which the emulator is Google.

A client reaches it by its proxy, trusts its authority and comes with its credential.  What it would read of the
user's own settings is in a directory that is made for it.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import oras.client
import oras.oci
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import artifactregistry_v1
from google.oauth2.credentials import Credentials

from tests.emulator.credentials import ACCESS_TOKEN, PROJECT
from tests.emulator.names import digest_of
from tests.support.command_line import Ended
from tests.support.processes import inherited
from tests.support.programs import required

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulator import Emulator
    from tests.emulator.images import Content

_LIMIT_S: Final = 60
# Google's user name for an access token in the place of a password.
_DOCKER_CREDENTIAL: Final = base64.b64encode(f"oauth2accesstoken:{ACCESS_TOKEN}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Site:
    """How a client gets to the emulator, and where it keeps its files."""

    registry: Emulator
    metadata: Emulator
    ca_file: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What clients in Go and in Python read, and Google's libraries for Python."""
        return {
            "HOME": str(self.home),
            "HTTPS_PROXY": self.registry.proxy_url,
            "NO_PROXY": "",
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
            "SSL_CERT_FILE": str(self.ca_file),
            "GCE_METADATA_HOST": self.metadata.host,
            "GCE_METADATA_IP": self.metadata.host,
        }

    def run(self, *command: str, **environment: str) -> Ended:
        """Run a program that ends by itself."""
        passed_on = inherited()
        # gcloud would take a virtual environment's Python for its own.
        passed_on.pop("VIRTUAL_ENV", None)
        result = subprocess.run(
            command,
            env={**passed_on, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return Ended(result.returncode, result.stdout, result.stderr)


class Skopeo:
    """The program ``skopeo``, with Docker credentials, which it exchanges for a token of the registry."""

    def __init__(self, site: Site) -> None:
        self._program = required("skopeo")
        self._site = site
        self._policy = site.home / "policy.json"
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._credentials = site.home / "auth.json"
        hosts = ("gcr.io", "us-docker.pkg.dev")
        self._credentials.write_text(json.dumps({"auths": {host: {"auth": _DOCKER_CREDENTIAL} for host in hosts}}))

    def call(self, *arguments: str) -> Ended:
        return self._site.run(
            *(self._program, "--policy", str(self._policy), *arguments), REGISTRY_AUTH_FILE=str(self._credentials)
        )

    def push(self, content: Content, target: str) -> None:
        """Push everything that ``content`` consists of.  ``target`` ends with a tag or the digest."""
        with TemporaryDirectory() as folder:
            _write(content, Path(folder))
            self._copy(f"dir:{folder}", f"docker://{target}")

    def copy(self, source: str, target: str) -> None:
        """Copy from repository to repository, or to another tag."""
        self._copy(f"docker://{source}", f"docker://{target}")

    def pull(self, source: str) -> set[str]:
        """Pull an image whole; return the digests of its manifests and blobs, computed from what has come."""
        with TemporaryDirectory() as folder:
            self._copy(f"docker://{source}", f"dir:{folder}")
            files = [file for file in Path(folder).iterdir() if file.name != "version"]
            return {digest_of(file.read_bytes()) for file in files}

    def finds(self, reference: str) -> bool:
        ended = self.call("inspect", "--raw", f"docker://{reference}")
        if ended.code and "manifest unknown" in ended.err:
            return False
        _done(ended)
        return True

    def tags(self, repository: str) -> list[str]:
        found: list[str] = _done(self.call("list-tags", f"docker://{repository}")).document["Tags"]
        return found

    def delete(self, reference: str) -> Ended:
        """Delete a manifest.  A tag is resolved first: no request deletes a tag alone."""
        return self.call("delete", f"docker://{reference}")

    def _copy(self, source: str, target: str) -> None:
        _done(self.call("copy", "--all", "--preserve-digests", source, target))


def parts(content: Content) -> set[str]:
    """The digests of all that a pull of ``content`` brings."""
    return {digest_of(body) for body in _bodies(content)}


def _bodies(content: Content) -> Iterator[bytes]:
    yield content.body
    yield from content.blobs
    for child in content.children:
        yield from _bodies(child)


def _write(content: Content, folder: Path) -> None:
    """Write what skopeo reads as ``dir:``, its one form for manifests of Docker's types and of OCI's."""
    for body in _bodies(content):
        (folder / digest_of(body)[7:]).write_bytes(body)
    for child in content.children:
        (folder / f"{child.digest[7:]}.manifest.json").write_bytes(child.body)
    (folder / "manifest.json").write_bytes(content.body)


def _done(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


class Oras:
    """The Python package ``oras``, with Google's access token as it is.

    It keeps the token of its first challenge, which is for pulling, so it cannot push by exchanging.
    """

    def __init__(self) -> None:
        self._client = oras.client.OrasClient()
        self._client.auth.set_token_auth(ACCESS_TOKEN)

    def push(
        self, target: str, file: Path, media_type: str, *, config: str = "", subject: oras.oci.Subject | None = None
    ) -> oras.oci.Subject:
        """Push a file; return what is to be the ``subject`` of whatever is about it.  ``config`` is FILE:TYPE."""
        answer = self._client.push(
            target=target,
            files=[f"{file}:{media_type}"],
            manifest_config=config or None,
            subject=subject,
            disable_path_validation=True,
        )
        assert answer.status_code == 201, answer.text
        body = answer.request.body
        kind = answer.request.headers["Content-Type"]
        return oras.oci.Subject(kind, answer.headers["Docker-Content-Digest"], len(body))

    def pull(self, target: str) -> list[bytes]:
        """The content of the files of an artifact."""
        with TemporaryDirectory() as folder:
            return [Path(file).read_bytes() for file in self._client.pull(target=target, outdir=folder)]

    def finds(self, reference: str) -> bool:
        try:
            self._client.get_manifest(reference)
        except ValueError as error:
            if "Not Found" in str(error):
                return False
            raise
        return True

    def tags(self, repository: str) -> list[str]:
        found: list[str] = self._client.get_tags(repository)
        return found

    def delete(self, repository: str, tag: str) -> None:
        """Delete the manifest that a tag names."""
        self._client.delete_tag(repository, tag)

    def close(self) -> None:
        self._client.session.close()


class Gcloud:
    """The program ``gcloud``, with an access token from a file."""

    def __init__(self, site: Site) -> None:
        self._program = required("gcloud")
        self._site = site
        token = site.home / "access-token"
        token.write_text(ACCESS_TOKEN)
        self._environment = {
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CONFIG": str(site.home / "gcloud"),
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(site.ca_file),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "true",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_CORE_PROJECT": PROJECT,
        }

    def images(self, image: str) -> dict[str, list[str]]:
        """The digests of an image, each with its tags."""
        listed: Any = _done(self._call("images", "list", image, "--include-tags")).document
        return {one["version"]: sorted(one["tags"]) for one in listed}

    def contents(self, repository: str) -> set[str]:
        """The images of a repository, each as ``NAME@DIGEST``."""
        listed: Any = _done(self._call("images", "list", repository)).document
        return {f"{one['package']}@{one['version']}" for one in listed}

    def tags(self, image: str) -> dict[str, str]:
        """The tags of an image, each with its digest."""
        listed: Any = _done(self._call("tags", "list", image)).document
        return {_last(one["tag"]): _last(one["version"]) for one in listed}

    def finds(self, image: str, tag: str) -> bool:
        ended = self._call("images", "describe", f"{image}:{tag}")
        if ended.code and "Image not found" in ended.err:
            return False
        _done(ended)
        return True

    def add_tag(self, image: str, tag: str, new: str) -> None:
        _done(self._call("tags", "add", f"{image}:{tag}", f"{image}:{new}"))

    def delete_tag(self, image: str, tag: str) -> None:
        _done(self._call("tags", "delete", f"{image}:{tag}"))

    def delete(self, image: str, digest: str, *, with_tags: bool = False) -> bool:
        """Delete a manifest.  Return False if it has tags and was not deleted for this."""
        ended = self._call("images", "delete", f"{image}@{digest}", *(["--delete-tags"] if with_tags else []))
        if ended.code and "because it is tagged" in ended.err:
            return False
        _done(ended)
        return True

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _call(self, *arguments: str) -> Ended:
        command = (self._program, "artifacts", "docker", *arguments, "--format=json")
        return self._site.run(*command, **self._environment)


class ArtifactRegistry:
    """The Python package ``google-cloud-artifact-registry``, over REST, with what ``gcloud`` can do."""

    def __init__(self, _site: Site) -> None:
        credentials = Credentials(ACCESS_TOKEN)  # type: ignore[no-untyped-call]  # no types
        self._client = artifactregistry_v1.ArtifactRegistryClient(credentials=credentials, transport="rest")

    def images(self, image: str) -> dict[str, list[str]]:
        """The digests of an image, each with its tags."""
        asked = {"parent": _package(image), "view": artifactregistry_v1.VersionView.FULL, "page_size": 2}
        listed = self._client.list_versions(asked)
        return {_last(one.name): sorted(_last(tag.name) for tag in one.related_tags) for one in listed}

    def contents(self, repository: str) -> set[str]:
        """The images of a repository, each as ``NAME@DIGEST``."""
        return {one.uri for one in self._client.list_docker_images(parent=_place(repository))}

    def tags(self, image: str) -> dict[str, str]:
        """The tags of an image, each with its digest."""
        return {_last(one.name): _last(one.version) for one in self._client.list_tags(parent=_package(image))}

    def finds(self, image: str, tag: str) -> bool:
        try:
            self._client.get_tag(name=f"{_package(image)}/tags/{tag}")
        except NotFound:
            return False
        return True

    def add_tag(self, image: str, tag: str, new: str) -> None:
        package = _package(image)
        version = self._client.get_tag(name=f"{package}/tags/{tag}").version
        made = artifactregistry_v1.Tag(name=f"{package}/tags/{new}", version=version)
        self._client.create_tag(parent=package, tag=made, tag_id=new)

    def delete_tag(self, image: str, tag: str) -> None:
        self._client.delete_tag(name=f"{_package(image)}/tags/{tag}")

    def delete(self, image: str, digest: str, *, with_tags: bool = False) -> bool:
        """Delete a manifest.  Return False if it has tags and was not deleted for this."""
        asked = {"name": f"{_package(image)}/versions/{digest}", "force": with_tags}
        try:
            self._client.delete_version(asked).result(timeout=_LIMIT_S)
        except BadRequest as error:
            if "tag" in error.message:
                return False
            raise
        return True

    def close(self) -> None:
        self._client.transport.close()


def _place(repository: str) -> str:
    """The REST name of ``LOCATION-docker.pkg.dev/PROJECT/REPOSITORY``."""
    host, project, name = repository.split("/")
    return f"projects/{project}/locations/{host.removesuffix('-docker.pkg.dev')}/repositories/{name}"


def _package(image: str) -> str:
    """The REST name of ``LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE``."""
    repository, _, name = image.rpartition("/")
    return f"{_place(repository)}/packages/{name}"


def _last(name: str) -> str:
    return name.rpartition("/")[2]
