"""The threads that decode, process, encode and hash, and the budget of pixels under way at one time.

A thread per processor: more threads decode no faster and make the loop wait longer for the GIL (measured). Work whose
caller has gone is dropped before it starts; what runs keeps its share of the budget until the thread is really done
with it, whoever has left meanwhile.

Not an executor: that makes a lock and a condition for each piece of work, two futures, and a turn of the loop for each
answer. Here a piece of work is put into a queue, and answers that are there by the same turn of the loop are handed out
together. What takes less time than waking a thread may wait a moment for others of its kind, and go to one together.
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

TOGETHER = 16
"""Pieces of work that go to a thread together, where each of them may wait for others …"""
LONGEST_WAIT = 0.005
"""… and for how many seconds the first of them does, at the most."""

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
        self._queue: SimpleQueue[list[_Work] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        self._lock = threading.Lock()
        self._done: list[_Work] = []
        self._is_ending = False
        _ALL.add(self)

    # On the loop

    def expect(self, count: int) -> None:
        """See to it that there are threads for so many more pieces of work."""
        self._outstanding += count
        if len(self._threads) < min(self._count, self._outstanding):
            name = f"imagecache-worker_{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def expect_less(self, count: int) -> None:
        """So many of them will not come."""
        self._outstanding -= count

    def _hand_out(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        self._outstanding -= len(done)
        self._deliver(done)

    # From any thread

    def put(self, together: list[_Work]) -> None:
        """Work that was expected: one thread does it piece by piece, and tells of all of it at once."""
        self._queue.put(together)

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
        while (together := self._queue.get()) is not None:
            for work in together:
                self._do(work)
            with self._lock:
                is_first = not self._done
                self._done += together
            # What was decoded may be large, and the next piece of work may be long in coming.
            del work, together
            if is_first:
                # The loop was closed while the thread still worked: nobody is left to be told.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._hand_out)

    def _do(self, work: _Work) -> None:
        if self._is_ending or work.future.cancelled():
            work.answer = _DROPPED
        else:
            try:
                work.answer = work.function(*work.args)
            except BaseException as error:  # Whatever it is: the one who waits is told, and the thread lives on.
                work.error = error
        work.args = ()


_ALL: weakref.WeakSet[_Threads] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    # A daemon that is in the middle of a decoder while the interpreter goes down may crash it.
    running = list(_ALL)
    for threads in running:
        threads.end()
    for threads in running:
        threads.join()


class Seat:
    """A share of the budget, and a place among the threads, for work that another thread than the loop's may bring.

    ``future`` is what that work will end, once it was brought.
    """

    __slots__ = ("_cost", "_give_back", "_is_gone", "_lock", "_threads", "future")

    def __init__(self, threads: _Threads, cost: int, give_back: Callable[[int], None]) -> None:
        self._threads = threads
        self._cost = cost
        self._give_back = give_back
        self._lock = threading.Lock()
        self._is_gone = False
        self.future: asyncio.Future[Any] | None = None

    def take(self, future: asyncio.Future[T], function: Callable[..., T], *args: object) -> bool:
        """Bring the work, which ends the future of whoever waits on the loop; False where nobody expects it any more.
        From any thread."""
        with self._lock:
            if self._is_gone:
                return False
            self._is_gone, self.future = True, future
        self._threads.put([_Work(function, args, self._cost, future)])
        return True

    def leave(self) -> None:
        """Give it back, unless work was brought: none is expected any more. On the loop."""
        with self._lock:
            if self._is_gone:
                return
            self._is_gone = True
        self._threads.expect_less(1)
        self._give_back(self._cost)


class Workers:
    """The threads of one manager, made at first use. ``budget`` is in bytes of decoded pixels."""

    def __init__(self, *, threads: int | None = None, budget: int) -> None:
        self._count = threads or usable_cpus()
        self._threads: _Threads | None = None
        self._is_shut_down = False
        self._budget = budget
        self._in_use = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._gathered: list[_Work] = []
        self._timer: asyncio.TimerHandle | None = None

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
        may_wait: bool = False,
    ) -> T:
        """Run a blocking function in a thread; ``cost`` bytes of pixels are made while it runs.

        An image over the whole budget is let through alone: limits of its own have let it come this far. What
        ``bring`` brings, once the share of the budget is there, is the function's first argument. ``may_wait``: not at
        once, but together with others that may wait, when there are `TOGETHER` of them or `LONGEST_WAIT` is over.
        """
        if cost:
            await self._acquire(cost)
        try:
            if bring is not None:
                args = (await bring(), *args)
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            threads, work = self._running(), _Work(function, args, cost, future)
            if may_wait:
                self._gather(work)
            else:
                threads.expect(1)
                threads.put([work])
                # Once a thread is woken, they may come along.
                self._put_gathered()
        except BaseException:
            if cost:
                self._release(cost)
            raise
        return await future

    def seat(self, cost: int) -> Seat | None:
        """A place for work of this cost that another thread may bring; None where it would have to wait for one.

        Whoever takes one sees to it that it is left in the end.
        """
        if self._is_shut_down or not self.has_room(cost):
            return None
        threads = self._running()
        threads.expect(1)
        self._in_use += cost
        return Seat(threads, cost, self._release)

    def _gather(self, work: _Work) -> None:
        self._gathered.append(work)
        if len(self._gathered) >= TOGETHER:
            self._put_gathered()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONGEST_WAIT, self._put_gathered)

    def _put_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._threads is not None and gathered:
            self._threads.expect(len(gathered))
            self._threads.put(gathered)

    def _running(self) -> _Threads:
        if self._is_shut_down:
            raise ManagerClosedError("the manager was closed")
        if self._threads is None:
            self._threads = _Threads(asyncio.get_running_loop(), self._count, self._deliver)
        return self._threads

    def shutdown(self) -> None:
        """Let the threads end. What has not started is dropped, and nothing starts any more."""
        self._is_shut_down = True
        self._put_gathered()
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
