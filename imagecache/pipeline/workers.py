"""The threads that decode, process, encode and hash, and the budget of pixels under way at one time.

A thread per processor: more threads decode no faster and make the loop wait longer for the GIL (measured). Work whose
caller has gone is dropped before it starts; what runs keeps its share of the budget until the thread is really done
with it, whoever has left meanwhile.

Not an executor: that makes a lock and a condition for each piece of work, two futures, and a turn of the loop for each
answer. Here a piece of work is put into a queue, and answers that are there by the same turn of the loop are handed out
together.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import ManagerClosedError
from .machine import usable_cpus

T = TypeVar("T")


_DROPPED = object()
"""In place of an answer: the work was never begun."""


class _Work:
    """A call that waits for a thread, then for its turn to be told of."""

    __slots__ = ("answer", "args", "cost", "error", "function", "future")

    def __init__(
        self, function: Callable[..., object], args: tuple[object, ...], cost: int, future: asyncio.Future[Any]
    ) -> None:
        self.function = function
        self.args = args
        self.cost = cost
        self.future = future
        self.answer: object = None
        self.error: BaseException | None = None


class _Threads:
    """Threads that take work from one queue, and tell one loop of it.

    They are daemons, so that a program which never closed its manager can end; see `_end_all`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, deliver: Callable[[list[_Work]], None]) -> None:
        self._loop = loop
        self._count = count
        self._deliver = deliver
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        self._lock = threading.Lock()
        self._done: list[_Work] = []
        self._is_ending = False
        _ALL.add(self)

    # On the loop

    def put(self, work: _Work) -> None:
        self._outstanding += 1
        if len(self._threads) < min(self._count, self._outstanding):
            name = f"imagecache-worker_{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(work)

    def _hand_out(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        self._outstanding -= len(done)
        self._deliver(done)

    # From any thread

    def end(self) -> None:
        """Start nothing more, and let the threads end."""
        self._is_ending = True
        for _ in self._threads:
            self._queue.put(None)

    def join(self) -> None:
        """Wait for what runs now."""
        for thread in self._threads:
            thread.join()

    # In a thread

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            if self._is_ending or work.future.cancelled():
                work.answer = _DROPPED
            else:
                try:
                    work.answer = work.function(*work.args)
                except BaseException as error:  # Whatever it is: the one who waits is told, and the thread lives on.
                    work.error = error
            # What was decoded may be large, and the next piece of work may be long in coming.
            work.args = ()
            with self._lock:
                self._done.append(work)
                is_first = len(self._done) == 1
            del work
            if is_first:
                # The loop was closed while the thread still worked: nobody is left to be told.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._hand_out)


_ALL: weakref.WeakSet[_Threads] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    # A daemon that is in the middle of a decoder while the interpreter goes down may crash it.
    running = list(_ALL)
    for threads in running:
        threads.end()
    for threads in running:
        threads.join()


class Workers:
    """The threads of one manager, made at first use. ``budget`` is in bytes of decoded pixels."""

    def __init__(self, *, threads: int | None = None, budget: int) -> None:
        self._count = threads or usable_cpus()
        self._threads: _Threads | None = None
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
        if cost:
            await self._acquire(cost)
        try:
            if bring is not None:
                args = (await bring(), *args)
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._running().put(_Work(function, args, cost, future))
        except BaseException:
            if cost:
                self._release(cost)
            raise
        return await future

    def _running(self) -> _Threads:
        if self._is_shut_down:
            raise ManagerClosedError("the manager was closed")
        if self._threads is None:
            self._threads = _Threads(asyncio.get_running_loop(), self._count, self._deliver)
        return self._threads

    def shutdown(self) -> None:
        """Let the threads end. What has not started is dropped, and nothing starts any more."""
        self._is_shut_down = True
        if self._threads is not None:
            self._threads.end()

    def _deliver(self, done: list[_Work]) -> None:
        for work in done:
            if work.cost:
                self._release(work.cost)
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            elif work.answer is _DROPPED:
                work.future.cancel()
            else:
                work.future.set_result(work.answer)

    async def _acquire(self, cost: int) -> None:
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

    def _grant(self) -> None:
        # First come, first served: a large image is not overtaken for ever by small ones.
        while self._queue and self._fits(self._queue[0][0]):
            cost, turn = self._queue.popleft()
            if not turn.done():
                self._in_use += cost
                turn.set_result(None)
