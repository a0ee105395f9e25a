"""``make verify-google`` against the emulator, which poses as Google: HTTPS, and nothing without a token."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from cleaner.core.reference import parse_repository
from tests.emulator import Behaviour, Emulator
from tests.emulator.faults import After, Before, BrokenJson, Status
from tests.emulator.images import image, load
from tests.emulator.store import DANGLING_PARENT
from tests.support.processes import ROOT, Child, inherited
from tests.verify_google.google import Failed, Google
from tests.verify_google.scratch import Scratch
from tests.verify_google.visit import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.emulator.tls import Tls
    from tests.support.pubsub import PubSub

REPOSITORY: Final = "us-docker.pkg.dev/acme/scratch"
LIMIT_S: Final = 60
NEEDS_MORE: Final = frozenset({"immutable-tag", "announced-push", "announced-tag", "announced-deletion"})
AS_EXPECTED: Final = {one.name: "unknown" if one.name in NEEDS_MORE else "same" for one in QUESTIONS}


@dataclass(slots=True)
class Lab:
    """The registry, and the program in processes of its own."""

    emulator: Emulator
    environment: dict[str, str]
    children: list[Child] = field(default_factory=list)

    def start(self, *arguments: str, **environment: str) -> Child:
        command = [sys.executable, "-m", "tests.verify_google", *arguments]
        child = Child("verify-google", command, self.environment | environment)
        self.children.append(child)
        return child

    def run(self, *arguments: str, **environment: str) -> tuple[int, Child]:
        """Run it without its question, and wait for its end."""
        child = self.start(REPOSITORY, "--yes", "--wait=2", *arguments, **environment)
        return child.wait_for_end(LIMIT_S), child

    def left(self) -> dict[str, list[str]]:
        """The manifests of every repository that has any."""
        store = self.emulator.store
        found = {name: sorted(store.digests(name)) for name in store.repositories()}
        return {name: digests for name, digests in found.items() if digests}


@contextmanager
def laboratory(tls: Tls) -> Iterator[Lab]:
    behaviour = Behaviour(style="ar", page_size=10_000)
    # The metadata server, which has the credentials, speaks plain HTTP.
    with (
        Emulator(tls=tls, default_host="us-docker.pkg.dev", auth=True, behaviour=behaviour) as emulator,
        Emulator() as machine,
    ):
        emulator.store.set_mode(REPOSITORY, "STANDARD_REPOSITORY")
        environment = {
            **inherited(),
            "HOME": "/nonexistent",
            "COLUMNS": "80",
            "REQUESTS_CA_BUNDLE": str(tls.ca_file),
            "HTTPS_PROXY": emulator.proxy_url,
            "NO_PROXY": "127.0.0.1",
            "GCE_METADATA_HOST": machine.host,
            "GCE_METADATA_IP": machine.host,
        }
        made = Lab(emulator, environment)
        yield made
        for child in made.children:
            child.kill()


@pytest.fixture
def lab(tls: Tls) -> Iterator[Lab]:
    with laboratory(tls) as made:
        yield made


class Row(NamedTuple):
    """A line of the table, put together again."""

    question: str
    expected: str
    seen: str
    result: str
    documentation: str


def rows(child: Child) -> dict[str, Row]:
    """The table's rows by their questions' names."""
    widths = [len(dashes) for dashes in child.lines[1].split()]
    starts = [sum(widths[:number]) + 2 * number for number in range(len(widths))]
    found = {}
    for text in "\n".join(child.lines[2:]).split("\n\n"):
        lines = text.split("\n")
        cells = [
            [line[start : start + width].strip() for line in lines]
            for start, width in zip(starts, widths, strict=True)
        ]
        row = Row(*(" ".join(filter(None, cell)) for cell in cells))
        found[next(one.name for one in QUESTIONS if one.text == row.question)] = row
    return found


def results(child: Child) -> dict[str, str]:
    return {name: row.result for name, row in rows(child).items()}


# The switches: each changes the answer to one question.


def repository(emulator: Emulator, name: str) -> str:
    """The full name of a question's repository."""
    return next(one for one in emulator.store.repositories() if one.endswith(f"/{name}"))


def at(name: str) -> str:
    """The pattern of the requests to a question's repository, also where its slash is quoted."""
    return f"verify-[0-9a-f]{{6}}(?:/|%2F){name}/"


def refuse(name: str, status: Status, **where: object) -> Callable[[Emulator], None]:
    """Answer the first such request with ``status``, and do nothing."""
    return lambda emulator: void(emulator.faults.add(status, path=at(name), **{"nth": 1, **where}))


def void(_: object) -> None:
    pass


def ignore_n(emulator: Emulator) -> None:
    emulator.behaviour.page_size = None


def omit_link(emulator: Emulator) -> None:
    emulator.behaviour.link = ""


def change_referrer_code(emulator: Emulator) -> None:
    emulator.store.referrer_code = DANGLING_PARENT


def take_children(emulator: Emulator) -> None:
    emulator.behaviour.index_takes_children = True


def renew_upload_time(name: str) -> Callable[[Emulator], None]:
    def switch(emulator: Emulator) -> None:
        def renew() -> None:
            for manifest in emulator.store.manifests(repository(emulator, name)).values():
                assert isinstance(manifest.uploaded_ms, int)
                manifest.uploaded_ms += 60_000

        emulator.faults.add(After(renew), kind="manifest_put", path=at(name), nth=2)

    return switch


def list_later(emulator: Emulator) -> None:
    emulator.faults.add(BrokenJson(b'{"manifests":[]}'), kind="referrers", path=at("new-referrer"), nth=1)


def forget_tag(emulator: Emulator) -> None:
    def forget() -> None:
        emulator.store.delete_tag(repository(emulator, "related-tags"), "v2")

    emulator.faults.add(Before(forget), kind="rest_versions", path=at("related-tags"), nth=1)


def list_another(name: str, field_name: str, difference: int) -> Callable[[Emulator], None]:
    """``tags/list`` says something else than the REST API has said."""

    def switch(emulator: Emulator) -> None:
        def change() -> None:
            for manifest in emulator.store.manifests(repository(emulator, name)).values():
                setattr(manifest, field_name, getattr(manifest, field_name) + difference)

        emulator.faults.add(Before(change), kind="tags_list", path=at(name), nth=1)

    return switch


# The question's name, the switch, and what is seen then.
SWITCHES: Final[dict[str, tuple[Callable[[Emulator], None], str]]] = {
    "access-token-reads": (
        refuse("access-token-reads", Status(401, "UNAUTHORIZED"), kind="tags_list"),
        "401 UNAUTHORIZED",
    ),
    "access-token-deletes": (
        refuse("access-token-deletes", Status(403, "DENIED"), method="DELETE"),
        "403 DENIED",
    ),
    "tagged-digest": (refuse("tagged-digest", Status(202), method="DELETE"), "202 UNKNOWN"),
    "subject": (change_referrer_code, "400 GOOGLE_MANIFEST_ DANGLING_PARENT_ IMAGE"),
    "child-of-tagged-index": (
        refuse("child-of-tagged-index", Status(409, "CONFLICT"), method="DELETE"),
        "409 CONFLICT",
    ),
    "child-of-untagged-index": (
        refuse("child-of-untagged-index", Status(202, body=b""), method="DELETE"),
        "202",
    ),
    "children-of-deleted-index": (take_children, "both are deleted"),
    "page-size": (ignore_n, "3 manifests, 3 tags"),
    "next-page": (omit_link, "no Link"),
    "referrers-api": (refuse("referrers-api", Status(404, "NOT_FOUND"), kind="referrers"), "404 NOT_FOUND"),
    "new-referrer": (list_later, "after 1 s"),
    "repeated-push": (renew_upload_time("repeated-push"), "a new one, 60.0 s later"),
    "added-tag": (renew_upload_time("added-tag"), "a new one, 60.0 s later"),
    "related-tags": (forget_tag, "v1"),
    "create-time": (list_another("create-time", "uploaded_ms", -12), "12 ms later"),
    "metadata": (list_another("metadata", "size", 1), "imageSizeBytes: 320"),
    "any-type": (
        refuse("any-type", Status(404, "MANIFEST_UNKNOWN"), kind="manifest_head", nth=3),
        "404 for Docker list",
    ),
}


def test_everything_is_as_expected(lab: Lab) -> None:
    """Each answer is the documentation's, in 80 columns; what was pushed is deleted, and nothing else."""
    old = f"{REPOSITORY}/mine"
    load(lab.emulator.store, old, image(1), tags="v1", uploaded=0)
    load(lab.emulator.store, old, image(2), uploaded=0)
    before = lab.left()

    code, child = lab.run()

    assert code == 0, child.tail()
    assert results(child) == AS_EXPECTED
    assert max(map(len, [*child.lines, *child.errors])) <= 80
    assert child.errors[-1] == "17 same, 0 different, 4 unknown"
    assert lab.left() == before
    assert lab.emulator.store.repositories() == [old]
    assert lab.emulator.store.tags(old).keys() == {"v1"}
    assert lab.emulator.log.statuses[400] == 4, "no deletion is refused but those that are asked for"
    assert rows(child)["announced-tag"].seen == "not asked: give SUBSCRIPTION= projects/P/ subscriptions/S"
    row = rows(child)["tagged-digest"]
    assert row.expected == row.seen == "400 GOOGLE_MANIFEST_ DANGLING_TAG"


def test_each_switch_changes_its_row_alone(tls: Tls) -> None:
    """Exit 1; what is seen stands beside what was expected, and every other row is the same as before."""

    def differing(name: str) -> dict[str, tuple[str, str]]:
        switch, _ = SWITCHES[name]
        with laboratory(tls) as made:
            switch(made.emulator)
            code, child = made.run()
            assert code == 1, child.tail()
            assert made.left() == {}
            found = rows(child)
            return {key: (row.result, row.seen) for key, row in found.items() if row.result != AS_EXPECTED[key]}

    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(SWITCHES, pool.map(differing, SWITCHES), strict=True))

    expected = {name: {name: ("different", seen)} for name, (_, seen) in SWITCHES.items()}
    # A list that is not cut needs no further page.
    expected["page-size"]["next-page"] = ("unknown", "not asked: the list is not cut")
    assert found == expected
    assert SWITCHES.keys() == AS_EXPECTED.keys() - NEEDS_MORE


def test_immutable_tags(lab: Lab) -> None:
    """Only what concerns them is asked, as nothing with a tag can be deleted there; what is left is said."""
    lab.emulator.store.repository(REPOSITORY, immutable_tags=True)

    code, child = lab.run()

    assert code == 0, child.tail()
    assert results(child) == {name: "same" if name == "immutable-tag" else "unknown" for name in AS_EXPECTED}
    assert rows(child)["subject"].seen == "not asked: the repository has immutable tags"
    text = " ".join(child.errors)
    assert "Tags are immutable here" in text
    (name,) = lab.left()
    assert f"not deleted: {name}:v1: 400 FAILED_PRECONDITION" in text
    lab.emulator.faults.add(Status(409, "DENIED"), method="DELETE", nth=1)

    code, child = lab.run()

    assert (code, results(child)["immutable-tag"]) == (1, "different")


# The topic.


def announce(emulator: Emulator, publish: Callable[[list[dict[str, str]]], object]) -> None:
    """Publish what Google says of every push and deletion."""
    known: set[tuple[str, str, str]] = set()

    def after() -> None:
        store = emulator.store
        held: set[tuple[str, str, str]] = set()
        for name in store.repositories():
            held |= {(name, digest, "") for digest in store.digests(name)}
            held |= {(name, digest, tag) for tag, digest in store.tags(name).items()}
        messages = []
        for name, digest, tag in sorted(held - known):
            tagged = {"tag": f"{name}:{tag}"} if tag else {}
            messages.append({"action": "INSERT", "digest": f"{name}@{digest}", **tagged})
        for name, digest, tag in sorted(known - held):
            gone = {"tag": f"{name}:{tag}"} if tag else {"digest": f"{name}@{digest}"}
            messages.append({"action": "DELETE", **gone})
        known.clear()
        known.update(held)
        publish(messages)

    emulator.faults.add(After(after), method="PUT|DELETE", path="/manifests/")


def spelled(messages: list[dict[str, str]]) -> list[bytes]:
    return [json.dumps(one).encode() for one in messages]


def test_messages_are_read(lab: Lab, pubsub: PubSub) -> None:
    """What the topic says is as expected; messages about other repositories are left in the subscription."""
    pubsub.create_topic("whole")
    pubsub.subscribe("whole", None, name="pull")
    announce(lab.emulator, lambda messages: messages and pubsub.publish("whole", spelled(messages)))
    other = json.dumps({"action": "INSERT", "digest": f"us-docker.pkg.dev/acme/other@sha256:{'0' * 64}"}).encode()
    pubsub.publish("whole", [other, b"no json"])

    code, child = lab.run("--subscription=projects/whole/subscriptions/pull", PUBSUB_EMULATOR_HOST=address(pubsub))

    assert code == 0, child.tail()
    assert results(child) == AS_EXPECTED | dict.fromkeys(NEEDS_MORE - {"immutable-tag"}, "same")
    assert {other, b"no json"} <= set(pubsub.pull("whole", "pull"))


def test_messages_that_are_missing_or_others_are_different(lab: Lab, pubsub: PubSub) -> None:
    """Nothing is said of a deletion; the others have an attribute and one more field."""
    pubsub.create_topic("other")
    pubsub.subscribe("other", None, name="pull")

    def publish(messages: list[dict[str, str]]) -> None:
        said = [{**one, "size": "1"} for one in messages if "tag" in one and one["action"] == "INSERT"]
        if said:
            pubsub.publish("other", spelled(said), attributes={"host": "us"})

    announce(lab.emulator, publish)

    code, child = lab.run("--subscription=projects/other/subscriptions/pull", PUBSUB_EMULATOR_HOST=address(pubsub))

    assert code == 1
    assert {name: row.seen for name, row in rows(child).items() if row.result == "different"} == {
        "announced-push": "INSERT digest size=1 tag (attributes: host)",
        "announced-tag": "INSERT digest size=1 tag (attributes: host)",
        "announced-deletion": "nothing within 2 s",
    }


def test_subscription_that_does_not_exist_fails_its_questions(lab: Lab, pubsub: PubSub) -> None:
    """The others are answered."""
    code, child = lab.run("--subscription=projects/none/subscriptions/none", PUBSUB_EMULATOR_HOST=address(pubsub))

    assert (code, results(child), lab.left()) == (1, AS_EXPECTED, {})
    assert rows(child)["announced-tag"].seen == "failed: projects/none/ subscriptions/ none: NotFound"


def address(pubsub: PubSub) -> str:
    return f"127.0.0.1:{pubsub.port}"


# Before it begins.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "REPOSITORY: '' is not us-docker.pkg.dev/PROJECT/REPO[/PATH]"),
        (["docker.io/acme/scratch"], "is not us-docker.pkg.dev/PROJECT/REPO[/PATH]"),
        (["us-docker.pkg.dev/acme"], "names no repository: PROJECT/REPO is needed"),
        (["us-docker.pkg.dev/acme/" + "x" * 230], "is not us-docker.pkg.dev/PROJECT/REPO[/PATH]"),
        (
            ["us-docker.pkg.dev/acme/none", "--yes"],
            "us-docker.pkg.dev/acme/none cannot be read: GET /v1/projects/acme/",
        ),
        ([REPOSITORY, "--subscription=gcr"], "SUBSCRIPTION: 'gcr' is not projects/P/subscriptions/S"),
        ([REPOSITORY], "there is no terminal to ask at; --yes (YES=1) goes on without asking"),
    ],
)
def test_it_does_not_begin(lab: Lab, arguments: list[str], said: str) -> None:
    """Exit 2, what is wrong, and nothing is pushed."""
    child = lab.start(*arguments)

    assert child.wait_for_end(LIMIT_S) == 2
    assert child.lines == []
    assert child.errors[-1].startswith("error: ")
    assert said in child.errors[-1]
    assert lab.emulator.log.counts["manifest_put"] == 0


def test_remote_repository_is_not_for_it(lab: Lab) -> None:
    """Nobody can push there."""
    lab.emulator.store.set_mode(REPOSITORY, "REMOTE_REPOSITORY")

    code, child = lab.run()

    assert code == 2
    assert child.errors == [
        f"error: {REPOSITORY} is DOCKER REMOTE_REPOSITORY: a standard Docker repository is needed"
    ]


def test_no_credentials(lab: Lab) -> None:
    """A clear error."""
    child = lab.start(
        REPOSITORY, "--yes", GCE_METADATA_HOST="127.0.0.1:1", GCE_METADATA_IP="127.0.0.1:1", NO_GCE_CHECK="true"
    )

    assert child.wait_for_end(LIMIT_S) == 2
    (error,) = child.errors
    assert error.startswith("error: no usable application default credentials")
    assert error.endswith("; gcloud auth application-default login makes them")


@pytest.mark.parametrize("reply", ["y", "n", ""])
def test_somebody_at_a_terminal_is_asked(lab: Lab, reply: str) -> None:
    """Where it will push and what it will delete; only a yes lets it begin."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tests.verify_google", f"{REPOSITORY}/team", "--wait=1"]
    program = subprocess.Popen(
        command, cwd=ROOT, env=lab.environment, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True
    )
    os.close(theirs)
    said = ""
    while not said.endswith("Go on? [y/N] "):
        said += os.read(ours, 1000).decode()
    os.write(ours, f"{reply}\n".encode())
    out = program.communicate(timeout=LIMIT_S)[0]
    os.close(ours)

    assert program.returncode == 0
    assert re.search(
        rf"17 new repositories below\s+{REPOSITORY}/team/verify-[0-9a-f]{{6}}: access-token-reads,", said
    )
    assert "deletes what it has pushed and the repositories it has made, and nothing else." in " ".join(said.split())
    assert bool(lab.emulator.log.counts["manifest_put"]) is (reply == "y")
    assert out.startswith("question " if reply == "y" else "")
    assert lab.left() == {}


# Whatever happens.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_cleans_up(lab: Lab, number: signal.Signals) -> None:
    """Ctrl-C in the middle, or a closed terminal: what was pushed is deleted, and the answers so far are shown."""
    child = lab.start(REPOSITORY, "--yes", "--wait=2")
    child.wait_for(lambda: any(line.startswith("9/17") for line in child.errors), "it is half done")

    os.kill(child.pid, number)

    assert child.wait_for_end(LIMIT_S) == 128 + signal.SIGINT
    asked = [one.name for one in QUESTIONS if one.name not in NEEDS_MORE]
    assert rows(child).keys() == {*asked[:8], *NEEDS_MORE}
    assert lab.left() == {}


def test_interrupted_again_it_says_what_is_left(lab: Lab) -> None:
    """The second Ctrl-C ends the clean-up."""
    child = lab.start(REPOSITORY, "--yes", "--wait=2")
    child.wait_for(lambda: any(line.startswith("9/17") for line in child.errors), "it is half done")
    lab.emulator.faults.latency_s = 0.3
    os.kill(child.pid, signal.SIGINT)
    child.wait_for(lambda: "Deleting what was pushed." in child.errors, "it cleans up")

    os.kill(child.pid, signal.SIGINT)

    assert child.wait_for_end(LIMIT_S) == 128 + signal.SIGINT
    left = set(lab.left()) | {f"{name}@{digest}" for name, digests in lab.left().items() for digest in digests}
    said = {line.removeprefix("not deleted: ").removesuffix(": interrupted") for line in child.errors}
    assert left
    assert left <= said


def test_failure_is_an_answer_too(lab: Lab) -> None:
    """The other questions are asked, and what cannot be deleted is said: exit 1."""
    lab.emulator.faults.add(Status(403, "DENIED"), method="PUT", path=at("subject"))
    lab.emulator.faults.add(Status(403, "DENIED"), method="DELETE", path=at("tagged-digest"))

    code, child = lab.run()

    assert code == 1
    found = rows(child)
    assert {name for name, result in results(child).items() if result != AS_EXPECTED[name]} == {
        "subject",
        "tagged-digest",
    }
    assert (found["subject"].result, found["tagged-digest"].result) == ("unknown", "different")
    assert found["subject"].seen.startswith("failed: PUT 403")
    (name,) = lab.left()
    assert f"not deleted: {name}:v1: 403 DENIED" in child.errors


def test_refused_deletion_is_tried_again(lab: Lab) -> None:
    """What has just been deleted may still count for a while."""
    rule = lab.emulator.faults.add(Status(400, DANGLING_PARENT), method="DELETE", path=at("page-size"), nth=1)

    code, child = lab.run()

    assert (code, rule.hits) == (0, 1), child.tail()
    assert lab.left() == {}


def test_what_somebody_else_has_pushed_is_left(lab: Lab) -> None:
    """Even to a repository that it has made."""

    def push() -> None:
        load(lab.emulator.store, repository(lab.emulator, "page-size"), image(1), tags="mine")

    lab.emulator.faults.add(Before(push), method="DELETE", path=at("page-size"), nth=1)

    code, child = lab.run()

    (name,) = lab.left()
    assert code == 1
    assert lab.emulator.store.tags(name) == {"mine": image(1).digest}
    assert f"not deleted: {name}: it is not empty" in child.errors


def test_it_cleans_up_where_nobody_reads(lab: Lab) -> None:
    """``make verify-google 2>&1 | head``: the readers of both streams have gone."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "tests.verify_google", REPOSITORY, "--yes", "--wait=1"]

    subprocess.run(command, cwd=ROOT, env=lab.environment, stdout=theirs, stderr=theirs, timeout=LIMIT_S, check=False)

    os.close(theirs)
    assert lab.emulator.log.counts["manifest_put"]
    assert lab.left() == {}


def test_only_what_was_pushed_can_be_deleted() -> None:
    """Whatever a question asks for; nothing is sent."""
    scratch = Scratch(Google(), parse_repository(f"{REPOSITORY}/mine"), 1, None)

    with pytest.raises(Failed, match="v1 was not pushed here"):
        scratch.delete("v1")
