"""``make verify-google``: what the documentation cannot know, asked of a scratch repository of Google's.

Each question has a repository of its own below the given one, pushes small images there, and compares what Google
answers with what the documentation says.  In the end it deletes what it has pushed and made, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import sys
import textwrap
from typing import TYPE_CHECKING, Final

import requests

from cleaner.cli.prune import INTERRUPTED, interrupt_at_sigterm
from cleaner.cli.terminal import Terminal
from cleaner.core.errors import CleanerError, HostNotAllowed, InvalidReference, NoCredentials
from cleaner.core.reference import package_name, parse_repository
from tests.verify_google.google import Failed, Google
from tests.verify_google.messages import Subscription
from tests.verify_google.visit import QUESTIONS, Visit

if TYPE_CHECKING:
    from collections.abc import Sequence

_WAIT_S: Final = 30.0
_SUBSCRIPTION: Final = re.compile(r"projects/[^/]+/subscriptions/[^/]+")


class UsageError(Exception):
    """The program cannot begin; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask; the exit code is 0 if all is as expected, 1 if anything is not, 2 if the program could not begin."""
    options = _parser().parse_args(arguments)
    terminal = Terminal(os.environ)
    interrupt_at_sigterm()
    # A terminal that is closed must not leave behind what was pushed.
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        visit = _begin(options)
        _announce(visit, terminal)
        if not options.yes and not _is_confirmed(terminal):
            terminal.note("nothing was pushed")
            return 0
        return visit.run(terminal)
    except NoCredentials as error:
        terminal.note(f"error: {error}; gcloud auth application-default login makes them")
    except (UsageError, CleanerError, Failed) as error:
        terminal.note(f"error: {error}")
    except requests.RequestException as error:
        terminal.note(f"error: no answer from Google: {type(error).__name__}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify_google",
        description="Compare what Google's registry does with what the documentation says of it.",
    )
    parser.add_argument("repository", metavar="REPOSITORY", help="us-docker.pkg.dev/PROJECT/REPO[/PATH]")
    parser.add_argument("--subscription", metavar="NAME", help="of topic gcr: projects/P/subscriptions/S")
    parser.add_argument("--wait", type=float, default=_WAIT_S, metavar="SECONDS", help="for what Google does later")
    parser.add_argument("--yes", action="store_true", help="do not ask before anything is pushed")
    return parser


def _begin(options: argparse.Namespace) -> Visit:
    """Read what the repository is; nothing is changed.

    Raises:
        UsageError: An argument is invalid, or it is no repository to push to.
        CleanerError: There are no credentials.
        requests.RequestException: Google does not answer.
    """
    try:
        root = parse_repository(options.repository)
        below = parse_repository(f"{root}/verify-{secrets.token_hex(3)}")
        # The longest name that is made.
        parse_repository(f"{below}/{max((one.name for one in QUESTIONS), key=len)}")
    except (HostNotAllowed, InvalidReference) as error:
        raise UsageError(
            f"REPOSITORY: {options.repository!r} is not us-docker.pkg.dev/PROJECT/REPO[/PATH]"
        ) from error
    if package_name(root) is None:
        raise UsageError(f"REPOSITORY: {options.repository!r} names no repository: PROJECT/REPO is needed")
    if options.subscription and not _SUBSCRIPTION.fullmatch(options.subscription):
        raise UsageError(f"SUBSCRIPTION: {options.subscription!r} is not projects/P/subscriptions/S")
    google = Google()
    try:
        found = google.describe_repository(root)
    except Failed as error:
        raise UsageError(f"{root} cannot be read: {error}") from error
    kind = (found.get("format", "DOCKER"), found.get("mode", "STANDARD_REPOSITORY"))
    if kind != ("DOCKER", "STANDARD_REPOSITORY"):
        raise UsageError(f"{root} is {' '.join(kind)}: a standard Docker repository is needed")
    return Visit(
        google,
        below,
        has_immutable_tags=bool(found.get("dockerConfig", {}).get("immutableTags")),
        subscription=Subscription(options.subscription) if options.subscription else None,
        wait_s=options.wait,
    )


def _announce(visit: Visit, terminal: Terminal) -> None:
    """Say on stderr what will be pushed and deleted."""
    names = ", ".join(question.name for question in visit.scratches)
    paragraphs = [
        f"This pushes small images to {len(visit.scratches)} new repositories below {visit.below}: {names}.",
        "Then it deletes what it has pushed and the repositories it has made, and nothing else.",
    ]
    if visit.has_immutable_tags:
        paragraphs.append("Tags are immutable here: an image with a tag cannot be deleted, and one will be left.")
    if any(question.needs_subscription for question in visit.scratches):
        paragraphs.append("Of the subscription's messages it acknowledges those about these repositories.")
    for paragraph in paragraphs:
        for line in textwrap.wrap(paragraph, terminal.bar_width, break_on_hyphens=False):
            terminal.note(line)


def _is_confirmed(terminal: Terminal) -> bool:
    """Ask whoever is at the terminal.

    Raises:
        UsageError: Nobody is.
    """
    if not terminal.is_attended:
        raise UsageError("there is no terminal to ask at; --yes (YES=1) goes on without asking")
    return terminal.ask("Go on?")


if __name__ == "__main__":
    sys.exit(main())
