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
from tests.support.sweeping import Requests


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
    assert "tags/list?n=10000: status 503, after several attempts: try again later" in one_line(ended)


def test_host_that_is_not_there(operator: Operator) -> None:
    """Nobody listens: the line says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"

    ended = operator.call("plan", f"{host}/acme/api", "--insecure", host, "--time-limit", "1")

    assert ended.code == 1
    assert one_line(ended) == (
        f"error: {host}/acme/api: no connection to {host}, after several attempts:"
        " check the host's name and the network\n"
    )


def test_running_scope_that_is_not_there(operator: Operator) -> None:
    """It is named, and not by the path of a request."""
    operator.builds(7)
    operator.monkeypatch.setenv("GOOGLE_CLOUD_ASSET_CUSTOM_ENDPOINT", operator.emulator.url)
    operator.emulator.faults.add(Status(404), kind="assets")

    ended = operator.plan(*RETIRING, "--running-scopes", "projects/acme")

    assert (ended.code, one_line(ended)) == (
        1,
        f"error: {operator.name}: projects/acme: no such project, folder or organization\n",
    )


def test_malformed_manifest_ends_the_command(operator: Operator) -> None:
    """Reading it again cannot help, and nothing is deleted."""
    operator.load(raw(b'{"manifests": 7}', OCI_INDEX), days=9)

    ended = operator.prune(*RETIRING, "--yes")

    assert ended.code == 1
    assert "is malformed" in one_line(ended)


@pytest.mark.parametrize("command", ["plan", "prune", "sweep"])
def test_error_names_the_repository(operator: Operator, command: str) -> None:
    """Of one repository as of several: a script's log may have many commands."""
    operator.builds(1)
    operator.emulator.faults.add(Status(200, body=b'{"name": "x", "tags": ["-"]}'), kind="tags_list")

    how = {"plan": [], "prune": ["--yes"], "sweep": ["--local", "--yes"]}[command]
    ended = operator.call(command, operator.name, *RETIRING, *how)

    assert ended.code == 1
    assert one_line(ended).startswith(f"error: {operator.name}: the tags list ")


@pytest.mark.parametrize("slash", ["", "/"])
def test_denied_listing_below_a_name_is_an_error(operator: Operator, slash: str) -> None:
    """A name without manifests of its own is a root; that nothing below it may be read is no empty plan."""
    operator.builds(3, "acme/team/app")
    operator.emulator.faults.add(Status(403, "DENIED"), kind="tags_list", path="acme/team/app/tags")
    name = operator.emulator.name("acme/team")

    ended = operator.call("plan", f"{name}{slash}", *RETIRING)
    document = operator.call("plan", f"{name}{slash}", *RETIRING, "-o", "json")

    assert (ended.code, document.code) == (1, 1)
    assert ("1 repository (1 failed): keep 0 images, delete nothing" in ended.out) == bool(slash)
    assert ended.out if slash else not ended.out
    for one in (ended, document):
        assert one.err.startswith(f"error: {name}")
        assert one.err.endswith("missing is artifactregistry.repositories.downloadArtifacts\n")


def test_control_characters_of_a_registry_do_not_reach_the_terminal(operator: Operator) -> None:
    """On stdout and on stderr they are shown as escapes, with and without colours."""
    operator.builds(3)
    code = "\x1b]0;title\x07\x1b[2J\u202eevil"
    operator.monkeypatch.setenv("FORCE_COLOR", "1")
    operator.emulator.faults.add(Status(405, code), method="DELETE")
    done = operator.prune(*RETIRING, "--yes")
    operator.emulator.faults.clear()
    operator.emulator.faults.add(Status(418, code), kind="tags_list")
    refused = operator.plan(*RETIRING)

    assert "\x1b[1m" in done.out
    for text in (done.out, refused.err):
        assert "\\x1b]0;title\\x07\\x1b[2J\\u202eevil" in text
        assert not set("\x07\u202e") & set(text)
        assert "\x1b[2J" not in text


@pytest.mark.parametrize("broken", [0, 1])
def test_failure_after_some_requests(operator: Operator, tmp_path: Path, broken: int) -> None:
    """What was published is told; of nothing, nothing is."""
    path = tmp_path / "p.json"
    path.write_text('[{"repositories": ["**"]}]')
    for at in range(3):
        operator.builds(1, f"acme/r{at}")
    operator.monkeypatch.setattr("cleaner.engine.sweep.BATCH", 2)
    operator.monkeypatch.setattr("cleaner.cli.sweep.TopicPublisher", lambda _: Requests(broken))

    ended = operator.call(
        "sweep", operator.emulator.name("acme"), "-p", str(path), "--topic", "projects/p/topics/ttt"
    )

    note = "at least 2 requests published; repeating them does no harm\n" if broken else ""
    assert (ended.code, ended.err) == (
        1,
        f"{note}error: the topic is away, after several attempts: try again later\n",
    )
