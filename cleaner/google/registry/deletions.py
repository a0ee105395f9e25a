"""Deletions of tags and manifests, and how the registry responds to them.

The registry has no conditional deletion.  So whatever may have changed is checked again before each attempt, retries
included: the caller's precondition, and which digest a tag names.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cleaner.core.errors import CleanerError, Unanswered
from cleaner.core.reference import Digest, Tag
from cleaner.google.registry.endpoint import PREFERRED_TYPES, Endpoint
from cleaner.google.registry.errors import REFUSAL_CODES, check_read, error_codes, read_denied
from cleaner.google.transport import UNAUTHORIZED, Response


class DeletionResponse(msgspec.Struct, frozen=True):
    """How the deletion of one tag or manifest ended.

    ``is_gone`` says that it no longer exists, ``was_sent`` that this deletion sent a DELETE for it.  If it exists,
    ``status`` and ``codes`` are the registry's response, or ``current_digest`` is the other digest that the tag names
    now (empty if the registry does not say which).  With none of these the precondition was False.  ``is_doubtful``:
    the DELETE of an earlier attempt was never answered, and may have succeeded.  ``is_challenged``: the response is a
    401 that says where a token is to be had.
    """

    is_gone: bool
    was_sent: bool = False
    status: int = 0
    codes: tuple[str, ...] = ()
    current_digest: str | None = None
    is_doubtful: bool = False
    is_challenged: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether a tag, a parent or a referrer of the manifest blocks its deletion."""
        return not self.is_gone and not REFUSAL_CODES.isdisjoint(self.codes)


DELETED = DeletionResponse(is_gone=True, was_sent=True)
NOT_FOUND = DeletionResponse(is_gone=True)
NOT_SENT = DeletionResponse(is_gone=False)


def delete_tag(
    endpoint: Endpoint, tag: Tag, expected_digest: Digest, precondition: Callable[[], bool]
) -> DeletionResponse:
    """Delete a tag, and not its manifest, if it names ``expected_digest`` immediately before.

    ``precondition`` is called before each attempt; if it returns False, nothing more is sent: ``NOT_SENT``, or with
    ``is_doubtful`` if an earlier attempt's DELETE may have succeeded.

    Raises:
        PermissionDenied, RequestRefused: What the tag names cannot be read, and every DELETE was answered.
        Unavailable: Still failing after all attempts; ``Unanswered`` if a DELETE was not answered.
    """
    what = f"{endpoint.repository}: {tag}"

    def check(token: str) -> DeletionResponse | None:
        head = endpoint.once("HEAD", endpoint.manifest_url(tag), token, accept=PREFERRED_TYPES)
        if head.status == 404:
            return NOT_FOUND
        if head.status == UNAUTHORIZED:
            return DeletionResponse(is_gone=False, status=head.status, is_challenged=head.is_challenged)
        check_read(head, what)
        current = head.headers.get("Docker-Content-Digest", "")
        return None if current == expected_digest else DeletionResponse(is_gone=False, current_digest=current)

    response = _delete(endpoint, tag, precondition, check, requests=2)
    if response.status == UNAUTHORIZED and not response.was_sent:
        raise read_denied(what)
    return response


def delete_manifest(endpoint: Endpoint, digest: Digest, precondition: Callable[[], bool]) -> DeletionResponse:
    """Delete a manifest.

    ``precondition`` is called before each attempt; if it returns False, nothing more is sent: ``NOT_SENT``, or with
    ``is_doubtful`` if an earlier attempt's DELETE may have succeeded.

    Raises:
        PermissionDenied, RequestRefused: There is no token.
        Unavailable: Still failing after all attempts; ``Unanswered`` if a DELETE was not answered.
    """
    return _delete(endpoint, digest, precondition, lambda _: None, requests=1)


def _delete(
    endpoint: Endpoint,
    reference: Tag | Digest,
    precondition: Callable[[], bool],
    check: Callable[[str], DeletionResponse | None],
    *,
    requests: int,
) -> DeletionResponse:
    """Delete a tag or manifest, and return how that ended.

    Each attempt calls ``precondition``, then ``check`` with its token, which returns a response if no DELETE is to be
    sent.  An attempt sends up to ``requests`` requests.

    Raises:
        Unanswered: A DELETE was never answered, and may have succeeded.
        CleanerError: Every DELETE that was sent was answered.
    """
    url = endpoint.manifest_url(reference)
    sent = answered = 0

    def attempt(token: str) -> DeletionResponse:
        nonlocal sent, answered
        response = check(token) if precondition() else NOT_SENT
        if response is None:
            sent += 1
            response = _ended(endpoint.once("DELETE", url, token))
            answered += 1
        is_doubtful = answered < sent and not response.is_gone
        return msgspec.structs.replace(response, was_sent=sent > 0, is_doubtful=is_doubtful)

    try:
        return endpoint.authorized(url, attempt, requests=requests)
    except CleanerError as error:
        # Also one that would not pass: what is known of a deletion must outlive it.
        if answered == sent:
            raise
        raise Unanswered(str(error), reference) from error


def _ended(response: Response) -> DeletionResponse:
    """Return how the response to a DELETE ends the deletion."""
    if response.status == 404 or 200 <= response.status < 300:
        return DELETED
    return DeletionResponse(
        is_gone=False,
        status=response.status,
        codes=error_codes(response.body),
        is_challenged=response.is_challenged,
    )
