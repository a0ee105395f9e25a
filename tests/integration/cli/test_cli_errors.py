"""What the command line says of bad names, hosts, credentials and permissions."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest

from cleaner.core.errors import HostNotAllowed, InvalidReference
from tests.emulator.faults import Status
from tests.emulator.images import raw
from tests.emulator.store import OCI_INDEX
from tests.support.command_line import PATH, RETIRING, Operator, one_line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docker.io/library/redis", "host not allowed: use gcr.io, us.gcr.io"),
        ("registry:5000/a", "for a registry over plain HTTP add --insecure registry:5000"),
        ("localhost/a", "write localhost:PORT"),
        ("nginx:latest", "host not allowed: use gcr.io, us.gcr.io"),
        ("redis:7", "host not allowed: use gcr.io, us.gcr.io"),
        ("redis:seven/a", "host not allowed: use gcr.io, us.gcr.io"),
        ("gcr.io:443/acme/api", "host not allowed: use gcr.io, us.gcr.io"),
        ("a:1,b:2/a", "host not allowed: use gcr.io, us.gcr.io"),
        ("https://gcr.io/acme/api", "host not allowed: leave out https://"),
        ("http://localhost:5000/a", "host not allowed: leave out http://"),
        ("gcr.io/acme/api:latest", "HOST/PATH in lower case, without tag or digest"),
        ("gcr.io/Acme/api", "HOST/PATH in lower case"),
        ("gcr.io", "HOST/PATH"),
        ("gcr.io/a\x1b[31m/b", "'gcr.io/a\\x1b[31m/b': not a repository name"),
    ],
)
def test_bad_names(operator: Operator, name: str, said: str) -> None:
    """Exit code 2; the line says what would be right."""
    ended = operator.call("plan", name)

    assert ended.code == 2
    assert said in one_line(ended)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (HostNotAllowed(), "use gcr.io, us.gcr.io"),
        (InvalidReference("host not allowed"), "write HOST/PATH in lower case"),
    ],
)
def test_hint_goes_by_the_error_and_not_by_its_text(operator: Operator, error: InvalidReference, hint: str) -> None:
    """What another one says is for people."""

    def refuse(*_: object) -> NoReturn:
        raise error

    operator.monkeypatch.setattr("cleaner.inputs.names.parse_repository", refuse)

    assert f"host not allowed: {hint}" in one_line(operator.call("plan", "quay.io/a/b"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("us-docker.pkg.dev/acme", "us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme/apps", "us-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme.com/p/apps", "us-docker.pkg.dev/DOMAIN/PROJECT/REPOSITORY/IMAGE"),
        ("us-docker.pkg.dev/acme/gcr.io", "gcr.io/PROJECT/IMAGE"),
        ("eu.gcr.io/acme", "eu.gcr.io/PROJECT/IMAGE"),
        ("gcr.io/acme.com/p", "gcr.io/DOMAIN/PROJECT/IMAGE"),
    ],
)
def test_name_that_ends_before_the_image(operator: Operator, name: str, said: str) -> None:
    """No image can be there, whatever the credentials are: exit code 2, and how a whole name is spelled."""
    ended = operator.call("prune", name, *RETIRING)

    assert ended.code == 2
    assert one_line(ended) == f"error: {name!r} is not an image; an image is {said}; plan and sweep accept a root\n"


def test_root_is_no_image(operator: Operator) -> None:
    """With a slash at its end it is a root, of which ``prune`` takes none."""
    ended = operator.call("prune", "gcr.io/acme/api/", *RETIRING)

    assert ended.code == 2
    assert one_line(ended) == "error: 'gcr.io/acme/api/': not a repository name: leave out the / at its end\n"


def test_insecure_hosts_add_up(operator: Operator) -> None:
    """Comma separated, given more than once, or as the function's setting."""
    operator.builds(1)
    # An address of this machine that is not taken for one.
    host = operator.emulator.host.replace("127.0.0.1", "127.0.1.1")
    name = f"{host}/{PATH}"
    given = ("--insecure", "b:2", "--insecure", f"a:1,{host}", "--time-limit", "1")
    assert "host not allowed" not in operator.call("plan", name, *given).err
    assert operator.call("plan", name).code == 2
    operator.monkeypatch.setenv("INSECURE_REGISTRIES", host)
    assert "host not allowed" not in operator.call("plan", name, "--time-limit", "1").err
    assert operator.call("plan", name, "--insecure", "a:1").code == 2


def test_local_hosts_need_no_insecure(operator: Operator) -> None:
    """They get plain HTTP anyway; another host does not."""
    operator.builds(1)

    assert operator.call("plan", operator.name).code == 0
    assert operator.call("plan", operator.name, "--insecure", "a:1").code == 0
    assert operator.call("plan", f"registry.{operator.name}").code == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("INSECURE_REGISTRIES", "gcr.io:80"),
        ("RUNNING_SCOPES", "everything"),
        ("GOOGLE_ARTIFACT_REGISTRY_CUSTOM_ENDPOINT", "localhost"),
        ("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", "ftp://x"),
    ],
)
def test_bad_settings(operator: Operator, setting: str, value: str) -> None:
    """Those of the environment are read as the function reads them."""
    operator.monkeypatch.setenv(setting, value)

    ended = operator.call("plan", "gcr.io/acme/api")

    assert ended.code == 2
    assert one_line(ended).startswith(f"error: {setting}: ")


def test_no_credentials(operator: Operator, tmp_path: Path) -> None:
    """The line says how to get some."""
    operator.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    ended = operator.call("plan", "gcr.io/acme/api")

    assert ended.code == 1
    assert one_line(ended).endswith("; run: gcloud auth application-default login\n")


@pytest.mark.parametrize("command", ["plan", "prune"])
def test_permission_denied(operator: Operator, command: str) -> None:
    """The permission that is likely missing is named."""
    operator.builds(1)
    operator.emulator.behaviour.auth = True
    operator.emulator.behaviour.denied = {PATH}
    yes = (*RETIRING, "--yes") if command == "prune" else ()

    ended = operator.call(command, operator.name, "--insecure", operator.emulator.host, *yes)

    assert ended.code == 1
    assert "the permission that is likely missing is artifactregistry.repositories.downloadArtifacts" in one_line(
        ended
    )


def test_registry_that_does_not_answer(operator: Operator) -> None:
    """What was asked, and what came."""
    operator.builds(1)
    operator.emulator.faults.add(Status(503), kind="tags_list")

    ended = operator.plan("--time-limit", "1")

    assert ended.code == 1
    assert "tags/list?n=10000: status 503, at the last attempt: try again later" in one_line(ended)


def test_host_that_is_not_there(operator: Operator) -> None:
    """Nobody listens: the line says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

    ended = operator.call("plan", f"{host}/acme/api", "--insecure", host, "--time-limit", "1")

    assert ended.code == 1
    assert one_line(ended).endswith(
        "ConnectionError, at the last attempt: check the host's name and the network, or try again later\n"
    )


def test_running_scope_that_is_not_there(operator: Operator) -> None:
    """It is named, and not by the path of a request."""
    operator.builds(7)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    operator.emulator.faults.add(Status(404), kind="assets")

    ended = operator.plan(*RETIRING, "--running-scopes", "projects/acme")

    assert (ended.code, one_line(ended)) == (1, "error: projects/acme: no such project, folder or organization\n")


def test_malformed_manifest_ends_the_command(operator: Operator) -> None:
    """Reading it again cannot help, and nothing is deleted."""
    operator.load(raw(b'{"manifests": 7}', OCI_INDEX), days=9)

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 1
    assert "is malformed" in one_line(ended)
