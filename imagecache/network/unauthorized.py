"""What can be done about a 401: one refresh for all who were refused with the same credentials at the same time.

The hook is its owner's; who asks it when, and who shares its answer, is decided here. Nothing is sent from here.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from ..headers import Headers
from ..keys import CREDENTIAL_FIELDS
from ..protocols import ResponseInfo, UnauthorizedHook
from ..request import DownloadRequest
from .urls import target_of

REMEMBERED = 256
"""Refreshes whose answer is still given to requests that were sent before they ended."""
PATIENCE = 5.0
"""Seconds that closing waits for a hook that was cancelled."""

_is_refreshing: contextvars.ContextVar[bool] = contextvars.ContextVar("imagecache_refreshing", default=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a refresh came to: the fields to send from now on (None: there is nothing to be done), or its error."""

    fields: Headers | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Refresh:
    task: asyncio.Task[Outcome]
    waiting: int = field(default=0)


class Refreshes:
    """Asks the hook, once for all 401s of one origin and the same credentials.

    Those of other credentials are other users', who must not get each other's tokens. A 401 that comes after a
    refresh, of a request sent before it ended, gets the answer of that refresh.
    """

    def __init__(self, hook: UnauthorizedHook | None) -> None:
        self._hook = hook
        self._running: dict[Hashable, _Refresh] = {}
        self._ended: OrderedDict[Hashable, tuple[int, Outcome]] = OrderedDict()
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self.moment = 0
        """The refreshes that have ended: what a request notes when it is sent."""

    @property
    def may_help(self) -> bool:
        """Whether there is a hook, and it is not itself that was refused."""
        return self._hook is not None and not _is_refreshing.get()

    async def after(self, request: DownloadRequest, response: ResponseInfo, *, sent_at: int) -> Outcome:
        """What the refresh for this refused request came to; ``sent_at`` is the moment that it was sent at."""
        credentials = tuple(request.headers.get(name) for name in CREDENTIAL_FIELDS)
        key = (target_of(request.url).origin, credentials)
        ended_at, outcome = self._ended.get(key, (0, Outcome()))
        if ended_at > sent_at:
            return outcome
        refresh = self._running.get(key)
        if refresh is None:
            # In an empty context: what is refreshed for all must not see one caller's variables.
            context = contextvars.Context()
            context.run(_is_refreshing.set, True)
            loop = asyncio.get_running_loop()
            refresh = _Refresh(loop.create_task(self._ask(request, response), context=context))
            self._running[key] = refresh
            self._tasks.add(refresh.task)
            refresh.task.add_done_callback(lambda task: self._end(key, task))
        refresh.waiting += 1
        try:
            return await asyncio.shield(refresh.task)
        finally:
            refresh.waiting -= 1
            if not refresh.waiting and not refresh.task.done():
                # Whoever comes now must not join what ends.
                self._forget(key, refresh.task)
                refresh.task.cancel()

    async def aclose(self) -> None:
        """Wait until no hook runs. Those who waited for one have left by now, which has cancelled it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)

    async def _ask(self, request: DownloadRequest, response: ResponseInfo) -> Outcome:
        assert self._hook is not None
        try:
            answer: object = self._hook(request, response)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is None or isinstance(answer, bool):
                return Outcome(Headers() if answer else None)
            if not isinstance(answer, Mapping):
                told = f"on_unauthorized returns header fields, True or None, not {type(answer).__name__}"
                return Outcome(error=TypeError(told))
            return Outcome(Headers(answer))
        except Exception as error:  # The border of a user's code: told with the 401.
            return Outcome(error=error)

    def _end(self, key: Hashable, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        self._forget(key, task)
        if task.cancelled():
            return
        self.moment += 1
        self._ended[key] = (self.moment, task.result())
        self._ended.move_to_end(key)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _forget(self, key: Hashable, task: asyncio.Task[Outcome]) -> None:
        refresh = self._running.get(key)
        if refresh is not None and refresh.task is task:
            del self._running[key]
