"""The threads that decode, process, encode and hash, and the budget of pixels under way at one time.

One pool with a thread per processor: more threads decode no faster and make the loop wait longer for the
GIL (measured). Work whose caller has gone is dropped before it starts; what runs keeps its share of
the budget until the thread is really done with it, whoever has left meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ..errors import ManagerClosedError
from .machine import usable_cpus

T = TypeVar("T")


class Workers:
    """A pool of threads for one manager, made at first use. ``budget`` is in bytes of decoded pixels."""

    def __init__(self, *, threads: int | None = None, budget: int) -> None:
        self._threads = threads or usable_cpus()
        self._executor: ThreadPoolExecutor | None = None
        self._is_shut_down = False
        self._budget = budget
        self._in_use = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a share of the budget."""
        return len(self._queue)

    @property
    def is_busy(self) -> bool:
        """Whether pixels are being made, so that more of them may have to wait."""
        return self._in_use > 0

    def has_room(self, cost: int) -> bool:
        """Whether work of this cost would begin at once."""
        return not self._queue and self._fits(cost)

    async def run(
        self,
        function: Callable[..., T],
        *args: object,
        cost: int = 0,
        bring: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        """Run a blocking function in a thread; ``cost`` bytes of pixels are made while it runs.

        An image over the whole budget is let through alone: limits of its own have let it come this far. What
        ``bring`` brings, once the share of the budget is there, is the function's first argument.
        """
        await self._acquire(cost)
        try:
            if bring is not None:
                args = (await bring(), *args)
            future = self._pool().submit(function, *args)
        except BaseException:
            self._release(cost)
            raise
        if cost:
            loop = asyncio.get_running_loop()
            future.add_done_callback(lambda done: self._release_from_thread(loop, cost, done))
        return await asyncio.wrap_future(future)

    def _pool(self) -> ThreadPoolExecutor:
        if self._is_shut_down:
            raise ManagerClosedError("the manager was closed")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="imagecache-worker")
        return self._executor

    def shutdown(self) -> None:
        """Let the threads end. What has not started is dropped, and nothing starts any more."""
        self._is_shut_down = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    async def _acquire(self, cost: int) -> None:
        if not cost:
            return
        if self.has_room(cost):
            self._in_use += cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((cost, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(cost)
            else:
                # Not there if a grant came by after the cancellation, and passed it over.
                with suppress(ValueError):
                    self._queue.remove((cost, turn))
                self._grant()
            raise

    def _fits(self, cost: int) -> bool:
        return self._in_use == 0 or self._in_use + cost <= self._budget

    def _release(self, cost: int) -> None:
        self._in_use -= cost
        self._grant()

    def _release_from_thread(self, loop: asyncio.AbstractEventLoop, cost: int, _: Future[T]) -> None:
        try:
            loop.call_soon_threadsafe(self._release, cost)
        except RuntimeError:
            # The loop was closed while the thread still worked: nobody is left to wait for a share.
            self._in_use -= cost

    def _grant(self) -> None:
        # First come, first served: a large image is not overtaken for ever by small ones.
        while self._queue and self._fits(self._queue[0][0]):
            cost, turn = self._queue.popleft()
            if not turn.done():
                self._in_use += cost
                turn.set_result(None)
