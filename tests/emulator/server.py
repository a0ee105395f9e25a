"""The registry over HTTP: the distribution API as Google answers it, and where faults come in.

The answers are computed from the store without waiting, in the one thread of the server, so that two requests never
mix; only latency, faults and request bodies wait.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from aiohttp import web

from tests.emulator import control, credentials, rest
from tests.emulator.answer import Answer, google_error, json_answer, registry_error
from tests.emulator.authorization import Authorization, authorization_kind
from tests.emulator.faults import (
    After,
    Before,
    BrokenJson,
    CutBody,
    Delay,
    DropAfter,
    DropBefore,
    Faults,
    Stall,
    Status,
)
from tests.emulator.names import is_digest
from tests.emulator.store import OCI_INDEX, Gap, Manifest, Refusal, Store
from tests.emulator.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.emulator.faults import Action

_V2: Final = re.compile(
    r"/v2/(?P<name>.+?)/(?:(?P<tags_list>tags/list)|manifests/(?P<manifest>[^/]+)|blobs/uploads/?(?P<upload>[^/]*)"
    r"|blobs/(?P<blob>[^/]+)|referrers/(?P<referrers>[^/]+))"
)
_FIXED: Final = {
    "/": "metadata",
    "/oauth/token": "oauth",
    "/token": "oauth",
    "/v2": "ping",
    "/v2/": "ping",
    "/v2/token": "token",
}
_CATALOG: Final = "/v2/_catalog"
# What clients tell the protocol by.
_API_VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}
_READ_ONLY_KINDS: Final = frozenset({"tags_list", "blob", "referrers", "ping", "metadata"})
_GOOGLE_KINDS: Final = ("rest_", "assets")
_MANIFEST_KINDS: Final = {"GET": "manifest_get", "HEAD": "manifest_head", "PUT": "manifest_put"}


class Entry(NamedTuple):
    """One request.  ``status`` is 0 where the connection ended without an answer.

    ``authorization`` is ``""``, ``token`` (issued here), ``basic``, or ``credential``: any other bearer token.
    """

    time: float
    method: str
    path: str
    status: int
    kind: str
    authorization: str
    host: str


class Log:
    """The record of requests.  ``counts`` is by kind: ``token``, ``tags_list``, ``manifest_get`` and so on."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.bytes_sent = 0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.counts[entry.kind] += 1
        self.statuses[entry.status] += 1

    def clear(self) -> None:
        self.entries.clear()
        self.counts.clear()
        self.statuses.clear()
        self.bytes_sent = 0

    @property
    def total(self) -> int:
        return len(self.entries)

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def credentials(self) -> list[Entry]:
        """The requests that carried a bearer token that was not issued here: a Google credential."""
        return [entry for entry in self.entries if entry.authorization == "credential"]


@dataclass(slots=True)
class Behaviour:
    """How the registry behaves.  Any field may be changed while it runs.

    ``auth``: everything but the token endpoint wants Google's access token or a token for its repository.
    ``takes_access_token``: ``/v2/`` accepts ``access_token`` as bearer; else only what ``/v2/token`` gives for it.
    ``anonymous``: what a token may be for that is asked for without a credential.
    ``expires_in``: seconds; None leaves it out of the answer, which then means 60.
    ``denied``: paths (``acme/api``) for which the caller has no permission; ``*`` is all of them.
    ``lacking``: permissions that the caller has for no path.
    ``style``: ``gcr`` or ``ar``, the two spellings of a listing and of a deletion's answer.
    ``numbers``: times and sizes as numbers.  ``foreign``: neither ``manifest`` nor ``child``, as other registries.
    ``page_size``: at most this many manifests in a page, or ``n`` if that is less; None ignores ``n`` and ``last``.
    ``link``: what the ``Link`` header of a page says; ``{next}`` is the relative address of the next page.
    ``access_token``: the Google credential that the metadata server and ``/oauth/token`` give out.
    ``cut_at``: only the first so many manifests by digest are listed; ``cut_tags`` cuts ``tags`` alike.
    ``index_takes_children``: an index is deleted with those of its children that have no tag and no other living
    index, as one user has reported of Google; others' runs contradict it.
    ``aliases``: ``Host`` header -> host of the store's names.  ``assets``: scope -> what the inventory knows there.
    ``denied_scopes``: where the inventory may not be asked.
    """

    auth: bool = False
    takes_access_token: bool = True
    anonymous: frozenset[str] = frozenset({"pull"})
    expires_in: int | None = 3600
    denied: set[str] = field(default_factory=set)
    lacking: set[str] = field(default_factory=set)
    style: str = "gcr"
    numbers: bool = False
    foreign: bool = False
    page_size: int | None = None
    link: str = '<{next}>; rel="next"'
    cut_at: int | None = None
    cut_tags: bool = False
    index_takes_children: bool = False
    access_token: str = credentials.ACCESS_TOKEN
    aliases: dict[str, str] = field(default_factory=dict)
    assets: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    denied_scopes: set[str] = field(default_factory=set)


class Route(NamedTuple):
    """What a request is about: its kind, and the parts of its path."""

    kind: str
    name: str = ""
    reference: str = ""


def _route(method: str, path: str) -> Route:
    """Read a request's path."""
    match = _V2.fullmatch(path)
    if match is None:
        if path.startswith(rest.PREFIXES):
            return Route(rest.kind_of(path), path)
        return Route("metadata" if path.startswith(credentials.METADATA) else _FIXED.get(path, "other"), path)
    part = match.lastgroup or ""
    name, reference = unquote(match["name"]), unquote(match[part])
    if part != "manifest":
        return Route(part, name, reference)
    if method == "DELETE":
        return Route("manifest_delete" if ":" in reference else "tag_delete", name, reference)
    return Route(_MANIFEST_KINDS.get(method, "other"), name, reference)


class _Look(NamedTuple):
    digest: str
    at: float
    attempts: int


class Registry:
    """One registry: the store, what goes wrong with it, and the record of what it was asked."""

    def __init__(self, store: Store, faults: Faults, log: Log, behaviour: Behaviour, default_host: str = "") -> None:
        self.store = store
        self.faults = faults
        self.log = log
        self.behaviour = behaviour
        self.default_host = default_host
        self.scheme = "http"
        # The names of the operations that deletions by REST have begun, all of which have ended.
        self.operations: set[str] = set()
        self._authorization = Authorization(behaviour)
        self._uploads = Uploads(store)
        # (repository, tag) -> client -> its last look at the tag.
        self._looks: dict[tuple[str, str], dict[str, _Look]] = {}

    def reset(self) -> None:
        self._authorization.reset()
        self.operations.clear()
        self._uploads.clear()
        self._looks.clear()

    def expire_tokens(self) -> None:
        """No token issued so far is good any more."""
        self._authorization.expire()

    # The way of a request.

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, with whatever goes wrong with it."""
        arrived = time.monotonic()
        method, raw = request.method, request.raw_path
        path, _, query = raw.partition("?")
        if path.startswith("/_emulator/"):
            return _response(control.answer(self, method, path, query, await _read(request)))
        route = _route(method, path)
        kind = authorization_kind(request.headers.get("Authorization", ""))
        actions = self.faults.choose(method, raw, route.kind)
        wait = self.faults.latency_s + sum(one.seconds for one in actions if isinstance(one, Delay) and not one.after)
        if wait > 0:
            await asyncio.sleep(max(0.0, wait - (time.monotonic() - arrived)))
        deciding = self._decide(method, actions)
        answer = await self._outcome(request, route, query, deciding, actions)
        status = 0 if answer is None else answer.status
        self.log.add(Entry(arrived, method, raw, status, route.kind, kind, request.headers.get("Host", "")))
        if answer is None:
            return _drop(request)
        self.log.bytes_sent += len(answer.body)
        if isinstance(deciding, CutBody):
            return await _cut(request, answer, deciding.fraction)
        return _response(answer)

    def _decide(self, method: str, actions: Sequence[Action]) -> Action | None:
        """The fault that decides this request's end, if any; what comes before the work is called here."""
        quota = self.faults.quota
        if quota is not None and method in quota.methods and not quota.take(time.monotonic()):
            return quota.refusal()
        for action in actions:
            if isinstance(action, Before):
                action.callback()
        return next((one for one in actions if not isinstance(one, (Delay, Before, After))), None)

    async def _outcome(
        self, request: web.BaseRequest, route: Route, query: str, deciding: Action | None, actions: Sequence[Action]
    ) -> Answer | None:
        """Do the work unless a fault prevents it.  None: the connection ends without an answer."""
        if isinstance(deciding, Status):
            return _fault_answer(deciding, registry=not route.kind.startswith(_GOOGLE_KINDS))
        if isinstance(deciding, DropBefore):
            return None
        if isinstance(deciding, Stall):
            await asyncio.sleep(deciding.seconds)
            return None
        body = await _read(request) if request.method in ("PUT", "POST", "PATCH") else b""
        answer = self._work(request, route, query, body)
        if route.kind == "ping":
            answer = answer._replace(headers={**answer.headers, **_API_VERSION})
        for action in actions:
            if isinstance(action, After):
                action.callback()
            elif isinstance(action, Delay) and action.after:
                await asyncio.sleep(action.seconds)
        if isinstance(deciding, DropAfter):
            return None
        if isinstance(deciding, BrokenJson):
            return Answer(200, deciding.body, {"Content-Type": "application/json"})
        return answer

    def _work(self, request: web.BaseRequest, route: Route, query: str, body: bytes) -> Answer:
        google = route.kind.startswith(_GOOGLE_KINDS)
        try:
            header = request.headers.get("Authorization", "")
            address = f"{self.scheme}://{request.headers.get('Host', '')}"
            refused = self._authorization.refuse(request.method, route, header, address)
            if refused is not None:
                return refused
            if google:
                return rest.answer(self, request.method, route.kind, route.name, query, body)
            if route.kind in _READ_ONLY_KINDS and request.method not in ("GET", "HEAD"):
                raise Refusal(405, "UNSUPPORTED", f"{request.method} is not supported here")
            return self._distribution(request, route, query, body)
        except Refusal as refusal:
            made = google_error if google else registry_error
            return made(refusal.status, refusal.code, refusal.message)

    # The distribution API.

    def repository(self, request: web.BaseRequest, name: str) -> str:
        """The full name of what a request's path names on the host that it was sent to."""
        host = request.headers.get("Host", "")
        return f"{self.behaviour.aliases.get(host, self.default_host)}/{name}"

    def _distribution(self, request: web.BaseRequest, route: Route, query: str, body: bytes) -> Answer:
        repository = self.repository(request, route.name)
        match route.kind:
            case "tag_delete":
                found = self.store.delete_tag(repository, route.reference)
                self._watch_deletion(request, repository, route.reference, found)
                return self._deleted()
            case "manifest_delete":
                takes_children = self.behaviour.index_takes_children
                self.store.delete_manifest(repository, route.reference, with_children=takes_children)
                return self._deleted()
            case "manifest_get" | "manifest_head":
                return self._manifest(request, repository, route.reference)
            case "token":
                return self._authorization.issue(request.headers.get("Authorization", ""), query, body)
            case "tags_list":
                return self._tags_list(repository, route.name, query)
            case "manifest_put":
                return self._put_manifest(request, repository, route, body)
        return self._distribution_rest(request, repository, route, query, body)

    def _distribution_rest(
        self, request: web.BaseRequest, repository: str, route: Route, query: str, body: bytes
    ) -> Answer:
        match route.kind:
            case "upload":
                chunk = request.headers.get("Content-Range")
                return self._uploads.answer(
                    request.method, repository, route.name, route.reference, query, chunk, body
                )
            case "blob":
                content = self.store.get_blob(repository, route.reference)
                headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": route.reference}
                return Answer(200, content, headers)
            case "referrers":
                return self._referrers(repository, route.reference, query)
            case "ping":
                return json_answer({})
            case "other" if route.name == _CATALOG:
                # No credential of the emulator has Google's right to list a whole host.
                raise Refusal(403, "DENIED", "Permission denied on the catalog")
            case "oauth" | "metadata":
                return credentials.answer(route.kind, route.name, self.behaviour.access_token)
        raise Refusal(404, "NAME_UNKNOWN", f"no such path: {route.name}")

    def _deleted(self) -> Answer:
        if self.behaviour.style == "gcr":
            return Answer(202, b'{"errors":[]}', {"Content-Type": "application/json"})
        return Answer(202, b"", {})

    def _manifest(self, request: web.BaseRequest, repository: str, reference: str) -> Answer:
        accept = {
            one.partition(";")[0].strip() for line in request.headers.getall("Accept", ()) for one in line.split(",")
        }
        found = self.store.get_manifest(repository, reference, accept)
        if reference != found.digest:
            look = _Look(found.digest, time.monotonic(), 0)
            self._looks.setdefault((repository, reference), {})[_client(request)] = look
        return Answer(200, found.body, {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest})

    def _watch_deletion(self, request: web.BaseRequest, repository: str, tag: str, found: str) -> None:
        looks = self._looks.get((repository, tag))
        if not looks:
            return
        client = _client(request)
        if client not in looks:
            # Its token may have ended between the look and the deletion: take the last look of anybody.
            client = max(looks, key=lambda one: looks[one].at)
        look = looks[client]
        looks[client] = _Look(look.digest, look.at, look.attempts + 1)
        if look.digest != found:
            seconds = time.monotonic() - look.at
            self.store.gaps.append(Gap("tag-moved", repository, tag, look.digest, found, seconds, look.attempts + 1))

    def _tags_list(self, repository: str, name: str, query: str) -> Answer:
        behaviour = self.behaviour
        limit, last = None, ""
        if behaviour.page_size is not None:
            asked = parse_qs(query)
            wanted = asked.get("n", [""])[0]
            limit = min(behaviour.page_size, int(wanted)) if wanted.isdecimal() else behaviour.page_size
            last = asked.get("last", [""])[0]
        body, more = self.store.tags_list(
            repository,
            style=behaviour.style,
            numbers=behaviour.numbers,
            limit=limit,
            last=last,
            cut_at=behaviour.cut_at,
            cut_tags=behaviour.cut_tags,
        )
        if behaviour.foreign:
            tags = sorted(self.store.tags(repository))
            return json_answer({"name": name, "tags": tags})
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if more is not None:
            following = f"/v2/{name}/tags/list?n={limit}&last={quote(more, safe='')}"
            headers["Link"] = behaviour.link.replace("{next}", following)
        return Answer(200, body, headers)

    def _put_manifest(self, request: web.BaseRequest, repository: str, route: Route, body: bytes) -> Answer:
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("mediaType", media_type) != media_type:
            raise Refusal(400, "MANIFEST_INVALID", "not a manifest of the type that its Content-Type says")
        digest = route.reference if ":" in route.reference else None
        tags = () if digest else (route.reference,)
        manifest = self.store.put_manifest(repository, body, media_type, digest=digest, tags=tags)
        headers = {
            "Location": f"/v2/{route.name}/manifests/{manifest.digest}",
            "Docker-Content-Digest": manifest.digest,
        }
        if manifest.subject is not None:
            headers["OCI-Subject"] = manifest.subject
        return Answer(201, b"", headers)

    def _referrers(self, repository: str, digest: str, query: str) -> Answer:
        if not is_digest(digest):
            raise Refusal(400, "DIGEST_INVALID", "not a digest")
        wanted = parse_qs(query).get("artifactType", [None])[0]
        entries = [_referrer_entry(one) for one in self.store.referrers(repository, digest)]
        if wanted is not None:
            entries = [one for one in entries if one.get("artifactType") == wanted]
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        headers = {"Content-Type": OCI_INDEX}
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        return Answer(200, body, headers)


def _client(request: web.BaseRequest) -> str:
    """Who asks, as well as a registry can tell: by its token, without one by its program."""
    authorization: str = request.headers.get("Authorization", "")
    return authorization or request.headers.get("User-Agent", "")


def _referrer_entry(manifest: Manifest) -> dict[str, object]:
    document = json.loads(manifest.body)
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    entry: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.body),
    }
    if kind:
        entry["artifactType"] = kind
    if "annotations" in document:
        entry["annotations"] = document["annotations"]
    return entry


def _fault_answer(fault: Status, *, registry: bool) -> Answer:
    headers = {"Content-Type": fault.content_type, **dict(fault.headers)}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if fault.plain:
        return Answer(fault.status, b"Quota Exceeded.", {**headers, "Content-Type": "text/plain"})
    if fault.body is not None:
        return Answer(fault.status, fault.body, headers)
    code = fault.code or "UNKNOWN"
    made = registry_error if registry else google_error
    return made(fault.status, code, fault.message or code, headers)


def _response(answer: Answer) -> web.Response:
    # Said here: aiohttp leaves the length of an empty body out of the answer to HEAD.
    headers: Mapping[str, str] = {**answer.headers, "Content-Length": str(len(answer.body))}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


async def _read(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await request.content.read()


def _drop(request: web.BaseRequest) -> web.Response:
    """Reset the connection.  The answer that is returned finds nobody to go to."""
    transport = request.transport
    if transport is not None:
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            # With nothing to linger for, closing sends RST and not FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _cut(request: web.BaseRequest, answer: Answer, fraction: float) -> web.StreamResponse:
    """Announce a whole body, send a part of it, close."""
    headers: Mapping[str, str] = {**answer.headers, "Content-Length": str(len(answer.body))}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    await response.write(answer.body[: int(len(answer.body) * fraction)])
    if request.transport is not None:
        request.transport.close()
    return response
