"""What is deployed, asked of Cloud Asset Inventory: whole, or the question fails and nothing may be deleted."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable

from cleaner.core.errors import RequestRefused, TimeLimitReached, Unavailable
from cleaner.core.plan import Running
from cleaner.core.reference import Repository
from cleaner.google.rest import GoogleApi
from cleaner.google.running import ASSET_TYPES, Deployed, Runner, decode_assets_page, gather
from cleaner.google.transport import RequestBudget

# The inventory itself is minutes behind, so nothing is lost by not asking for each repository anew.
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
    """What runs in the ``scopes``, one answer for all of a process's repositories.

    ``clock`` is the transport's, in seconds.  Safe to use from many threads: those who want to know at the same time
    wait for one question.
    """

    def __init__(self, api: GoogleApi, scopes: Iterable[str], clock: Callable[[], float]) -> None:
        self._api = api
        self._scopes = tuple(scopes)
        self._clock = clock
        self._lock = threading.Lock()
        # The latest answer; None after a question that failed.
        self._deployed: Deployed | None = None
        self._began = 0.0
        # When the latest question got an answer, or was found to get none for now.
        self._ended = -math.inf

    def ask(self, repository: Repository, budget: RequestBudget) -> Running:
        """Return what is deployed, as far as it concerns ``repository``; it is an ``AskRunning``.

        An answer is used for 60 s from when its question began.  Who waited for a question shares its answer however
        long that took, and its transient failure; no failure outlasts its question.

        Raises:
            TimeLimitReached: The answer did not come before the budget's deadline.
            PermissionDenied: A scope is not to be read.
            PermanentError: A scope does not exist, or an answer makes no sense.
            Unavailable: A page cannot be read.
        """
        deployed = self._whole(budget)
        return Running(deployed.digests, deployed.tags_in(repository))

    def _whole(self, budget: RequestBudget) -> Deployed:
        arrived = self._clock()
        timeout = min(max(budget.deadline - arrived, 0.0), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=timeout):
            raise TimeLimitReached("what is running was not known in time")
        try:
            waited = self._ended > arrived
            if self._deployed is not None and (waited or self._clock() - self._began < REUSED_S):
                return self._deployed
            if waited:
                raise Unavailable("what is running is not known: the question failed just now")
            return self._question(budget)
        finally:
            self._lock.release()

    def _question(self, budget: RequestBudget) -> Deployed:
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
                    raise TimeLimitReached(f"{path}: time is over")
        except RequestRefused as error:
            if error.status == 404:
                raise RequestRefused(f"{scope}: no such project, folder or organization", error.status) from error
            raise
