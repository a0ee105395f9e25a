"""What is deployed, queried from Cloud Asset Inventory: completely, or the query fails and nothing may be deleted.

State: the latest result, which all repositories of a process share, and when its query began and ended.  The lock
protects it and is held during a query, so that runs that need it at the same time wait for one query.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable

from cleaner.core.errors import RequestRefused, TimeLimitReached, Unavailable
from cleaner.core.reference import Repository
from cleaner.core.rules import Running
from cleaner.google.rest import GoogleApi
from cleaner.google.running import ASSET_TYPES, Deployed, Runner, decode_assets_page, gather
from cleaner.google.transport import RequestBudget

# The inventory itself is minutes behind, so a query per repository would be no more up to date.
REUSED_S = 60.0
# assets.list, "pageSize": at most 1000.
_PAGE_SIZE = "1000"
_PERMISSION = "cloudasset.assets.listResource"

_PARAMETERS = (
    *(("assetTypes", asset_type) for asset_type in ASSET_TYPES),
    ("contentType", "RESOURCE"),
    ("pageSize", _PAGE_SIZE),
)


class Inventory:
    """Queries what is deployed in the ``scopes``; ``clock`` is the transport's, in seconds."""

    def __init__(self, api: GoogleApi, scopes: Iterable[str], clock: Callable[[], float]) -> None:
        self._api = api
        self._scopes = tuple(scopes)
        self._clock = clock
        self._lock = threading.Lock()
        # The latest result; None after a query that failed.
        self._deployed: Deployed | None = None
        self._began = 0.0
        # When the latest query returned a result or failed transiently; else -inf.
        self._ended = -math.inf

    def ask(self, repository: Repository, budget: RequestBudget) -> Running:
        """Return what is deployed: the digests anywhere, and the tags of ``repository``.

        A result is reused for 60 s from the beginning of its query.  Threads that waited for a query share its
        result, however long it took, and its transient failure; no failure is reused later.

        Raises:
            TimeLimitReached: There was no result before the budget's deadline.
            PermissionDenied: A scope may not be read.
            PermanentError: A scope does not exist, or a page is malformed.
            Unavailable: A page cannot be read.
        """
        deployed = self._result(budget)
        return Running(deployed.digests, deployed.tags_in(repository))

    def _result(self, budget: RequestBudget) -> Deployed:
        arrived = self._clock()
        timeout = min(max(budget.deadline - arrived, 0.0), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=timeout):
            raise TimeLimitReached("the time limit was reached before it was known what is deployed")
        try:
            waited = self._ended > arrived
            if self._deployed is not None and (waited or self._clock() - self._began < REUSED_S):
                return self._deployed
            if waited:
                raise Unavailable("it is not known what is deployed: the query that this run waited for has failed")
            return self._query(budget)
        finally:
            self._lock.release()

    def _query(self, budget: RequestBudget) -> Deployed:
        self._deployed, self._began, self._ended = None, self._clock(), -math.inf
        images: dict[str, Runner] = {}
        try:
            for scope in self._scopes:
                self._read(scope, budget, images)
        except Unavailable:
            self._ended = self._clock()
            raise
        self._deployed, self._ended = Deployed.of(images), self._clock()
        return self._deployed

    def _read(self, scope: str, budget: RequestBudget, images: dict[str, Runner]) -> None:
        path = f"v1/{scope}/assets"
        try:
            for page in self._api.pages(budget, path, _PARAMETERS, _PERMISSION, decode_assets_page):
                gather(images, page)
                if self._clock() >= budget.deadline:
                    raise TimeLimitReached(f"{path}: the time limit was reached before everything was read")
        except RequestRefused as error:
            if error.status == 404:
                raise RequestRefused(f"{scope}: no such project, folder or organization", error.status) from error
            raise
