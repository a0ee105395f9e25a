"""The error body of the registry API: its codes, and the exceptions for requests that read."""

from __future__ import annotations

import msgspec

from cleaner.core.errors import PermissionDenied, RequestRefused
from cleaner.google.tokens import Access
from cleaner.google.transport import FORBIDDEN, UNAUTHORIZED, Response

# The codes with which Google's registries refuse to delete a manifest that has a tag, a parent or a referrer.
REFUSAL_CODES = frozenset(
    {"GOOGLE_MANIFEST_DANGLING_TAG", "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE", "GOOGLE_MANIFEST_REFERRING_MANIFEST"}
)


class _Error(msgspec.Struct):
    code: str = ""


class _ErrorBody(msgspec.Struct):
    errors: list[_Error] = []


_decoder = msgspec.json.Decoder(_ErrorBody)


def error_codes(body: bytes | bytearray) -> tuple[str, ...]:
    """Return the codes of an error body, in its order; none if it is not one."""
    try:
        return tuple(error.code for error in _decoder.decode(body).errors if error.code)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def check_read(response: Response, what: str) -> None:
    """Raise unless the response to a GET or HEAD of ``what`` has status 200.

    Raises:
        PermissionDenied: The status is 401 or 403.
        RequestRefused: It is another one.
    """
    if response.status in (UNAUTHORIZED, FORBIDDEN):
        raise read_denied(what)
    if response.status != 200:
        codes = error_codes(response.body)
        raise RequestRefused(f"{what}: status {response.status} {' '.join(codes)}".rstrip(), response.status, codes)


def read_denied(what: str) -> PermissionDenied:
    """Return the exception for a GET or HEAD of ``what`` that was denied."""
    return PermissionDenied(f"{what}: denied", Access.READ.permission)
