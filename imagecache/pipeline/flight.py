"""Work under way, and those who wait for it. This file does not know what the work is.

A *flight* is one piece of work with a key. Whoever wants what it makes joins it; a caller that is cancelled
leaves, and the last one out stops the work. (``asyncio.shield`` alone would leak it: nobody would be left to
cancel it.) The work runs as a task of the table's own, in an empty context, so that no context variable and
no cancellation of one caller ever reaches another; a failure reaches each as an exception object of its own.

A flight may itself join another one, as its listener: progress, the moment the network starts, and the
priority of whoever waits travel along that chain.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from ..clock import TimerHandle, Timing
from ..errors import DownloadCancelledError, ImageCacheError, ManagerClosedError, TimedOutError
from ..keys import display_url
from ..request import Priority, ProgressCallback
from .turns import Turns

logger = logging.getLogger("imagecache")

T = TypeVar("T")

ENDED_AT_ONCE = 50
"""Tasks of flights that are ended in one step of the loop, where all of them are."""


class Listener(Protocol):
    """Who waits for a flight: a caller, or another flight."""

    @property
    def priority(self) -> Priority: ...

    def progress(self, received: int, total: int | None) -> None: ...

    def network_started(self) -> None:
        """A connection was granted: from here a caller's total timeout counts."""
        ...

    def waits_on(self, flight: Flight[Any], waiter: asyncio.Future[Any], *, joined: bool) -> None:
        """Told by the table what it awaits now, and whether the work was under way already."""
        ...

    def waits_no_more(self) -> None:
        """Told by the table when that is over."""
        ...


class Caller:
    """A caller of ours, waiting: its own priority, progress and timeout (seconds; None for no limit)."""

    def __init__(
        self,
        clock: Timing,
        *,
        url: str = "",
        priority: Priority = Priority.NORMAL,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> None:
        self.priority = priority
        self.url = url
        self._clock = clock
        self.started = clock.monotonic()
        self._progress = progress
        # A callback is its caller's own, and runs as if the caller ran it, also from within a flight.
        self._context = contextvars.copy_context() if progress is not None else None
        self._timeout = timeout
        self._timer: TimerHandle | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self.has_joined_others = False

    def progress(self, received: int, total: int | None) -> None:
        if self._progress is not None and self._context is not None:
            try:
                self._context.run(self._progress, received, total)
            except Exception:  # One caller's progress bar must not end another's download.
                logger.exception("a progress callback raised")

    def network_started(self) -> None:
        if self._timeout is not None and self._timer is None:
            self._timer = self._clock.call_at(self._clock.monotonic() + self._timeout, self._run_out)

    def _run_out(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            message = f"not there within {self._timeout:g} s in all; `timeout=` raises that limit"
            self._waiter.set_exception(TimedOutError(message, url=self.url, limit="total"))

    def waits_on(self, flight: Flight[Any], waiter: asyncio.Future[Any], *, joined: bool) -> None:
        self._waiter = waiter
        self.has_joined_others = self.has_joined_others or joined

    def waits_no_more(self) -> None:
        # The timeout is for the network, and ends with it.
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Flight(Generic[T]):
    """One piece of work under way. It is a listener of the flights that it joins in turn.

    It runs as a task of its own, or, if it was started by another flight, as a part of that one's task: a task, a
    future and four turns of the loop less for each step of an image that nobody else wants at the same moment. Others
    may join either kind all the same.
    """

    def __init__(
        self,
        table: FlightTable,
        key: Hashable,
        work: Callable[[Flight[T]], Coroutine[Any, Any, T]],
        about: str = "",
        host: Flight[Any] | None = None,
        turn: asyncio.Future[None] | None = None,
    ) -> None:
        self.key = key
        self.about = about
        self.table = table
        self._host = host
        self._part: Flight[Any] | None = None
        self._is_over = False
        # A part's host, which runs it and so awaits nothing, is there under None.
        self._waiters: dict[asyncio.Future[T] | None, Listener] = {}
        self._last_progress: tuple[int, int | None] | None = None
        self._has_network_started = False
        self._priority = Priority.LOW
        self._follower: Callable[[Priority], None] | None = None
        self.task: asyncio.Task[Any]
        if host is None:
            self.task = asyncio.get_running_loop().create_task(self._run(work, turn), context=contextvars.Context())
            self.task.add_done_callback(self._finish)
        else:
            self.task = host.task
            self._waiters[None] = host
            self._priority = host._priority
            host._follower = self._follow_host

    @property
    def may_have_part(self) -> bool:
        """Whether what it joins may run within its own task: that is the one that asks, and does nothing else."""
        return self._part is None and asyncio.current_task() is self.task

    @property
    def priority(self) -> Priority:
        """The highest of those who wait."""
        return self._priority

    def follow_priority(self, follower: Callable[[Priority], None]) -> None:
        """Tell ``follower`` the priority now, and whenever it changes: a queue, or the flight that this one joined."""
        self._follower = follower
        follower(self._priority)

    def _follow_host(self, _: Priority) -> None:
        self.weigh()

    def waits_on(self, flight: Flight[Any], waiter: asyncio.Future[Any], *, joined: bool) -> None:
        self.follow_priority(lambda _: flight.weigh())

    def waits_no_more(self) -> None:
        # To remember who followed would keep what it made, the bytes of an image say, in memory.
        self._follower = None

    def weigh(self) -> None:
        """Look again at who waits, and pass on what that changes."""
        self._set_priority(max((listener.priority for listener in self._waiters.values()), default=Priority.LOW))

    def _weigh_without(self, gone: Listener) -> None:
        # Of ten thousand who leave, each must not look at all others: the first of the highest priority is enough.
        if gone.priority >= self._priority and all(
            listener.priority < self._priority for listener in self._waiters.values()
        ):
            self.weigh()

    def _set_priority(self, priority: Priority) -> None:
        if priority is not self._priority:
            self._priority = priority
            if self._follower is not None:
                self._follower(priority)

    def progress(self, received: int, total: int | None) -> None:
        self._last_progress = (received, total)
        for listener in list(self._waiters.values()):
            listener.progress(received, total)

    def network_started(self) -> None:
        self._has_network_started = True
        for listener in list(self._waiters.values()):
            listener.network_started()

    def add(self, listener: Listener) -> asyncio.Future[T]:
        """Let somebody wait; one who comes late is told how far it is."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = listener
        # Not by looking at all who wait: a thousand may join.
        self._set_priority(max(self._priority, listener.priority))
        if self._has_network_started:
            listener.network_started()
        if self._last_progress is not None:
            listener.progress(*self._last_progress)
        return waiter

    def leave(self, waiter: asyncio.Future[T]) -> None:
        """Stop waiting. The last one out stops the work, down to the socket."""
        listener = self._waiters.pop(waiter, None)
        if listener is None or self._is_over:
            return
        self._weigh_without(listener)
        self._stop_if_unwanted()

    async def _run(
        self, work: Callable[[Flight[T]], Coroutine[Any, Any, T]], turn: asyncio.Future[None] | None
    ) -> None:
        if turn is not None:
            await turn
        made = await work(self)
        # Here and not in `_finish`, a turn of the loop later: a busy loop may do much else in between.
        self._end(made, None)

    async def run_as_part(self, work: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> T:
        """Do the work within the task of the flight that started this one, which is its first listener."""
        host = self._host
        assert host is not None
        host._part = self
        try:
            made = await work(self)
        except asyncio.CancelledError:
            self._end_part(host, None, _outside())
            raise
        except BaseException as error:
            self._end_part(host, None, error)
            host._stop_if_unwanted()
            raise
        self._end_part(host, made, None)
        # Others may have wanted this part, and nobody the whole.
        host._stop_if_unwanted()
        return made

    def _end_part(self, host: Flight[Any], made: T | None, error: BaseException | None) -> None:
        host._part = None
        host.waits_no_more()
        self._end(made, error)

    def _stop_if_unwanted(self) -> None:
        """Cancel the task, unless somebody waits for it or for any part of it."""
        flight: Flight[Any] | None = self
        while flight is not None and flight._host is not None:
            flight = flight._host
        parts = []
        while flight is not None:
            # Its own host is the first who waits for a part.
            if len(flight._waiters) > (flight._host is not None):
                return
            parts.append(flight)
            flight = flight._part
        for part in parts:
            self.table.forget(part)
        self.task.cancel()

    def fail(self, error: ImageCacheError) -> None:
        """Give everybody who waits this error, each a copy, and stop the work."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if waiter is not None and not waiter.done():
                waiter.set_exception(error.fresh())
        self.task.cancel()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self.table.discard(task)
        if not self._is_over:
            # Whoever leaves takes its waiter along, so somebody from outside cancelled the task: a loop that ends
            # cancels all there are.
            self._end(None, _outside() if task.cancelled() else task.exception())

    def _end(self, made: T | None, error: BaseException | None) -> None:
        self._is_over = True
        self.table.forget(self)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if waiter is None or waiter.done():
                continue
            if error is None:
                waiter.set_result(made)  # type: ignore[arg-type]  # without an error, it was made
            else:
                waiter.set_exception(_own_copy(error))


class FlightTable:
    """The flights of one manager, by key. Used on one event loop only."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed: ManagerClosedError | None = None
        # Cancelled, and not told yet.
        self._to_cancel: deque[list[Flight[Any]]] = deque()
        self._beginnings = Turns()

    def __len__(self) -> int:
        return len(self._flights)

    async def join(
        self,
        key: Hashable,
        work: Callable[[Flight[T]], Coroutine[Any, Any, T]],
        listener: Listener,
        *,
        about: str = "",
    ) -> T:
        """Join the flight of ``key``, or start it with ``work``, and wait for what it makes.

        ``about`` is the URL under which :meth:`cancel` finds it; "" for work that is no fetching.
        """
        if self._closed is not None:
            raise self._closed.fresh()
        flight: Flight[T] | None = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            if isinstance(listener, Flight) and listener.may_have_part:
                part = Flight(self, key, work, about, listener)
                self._flights[key] = part
                return await part.run_as_part(work)
            flight = Flight(self, key, work, about, turn=self._beginnings.take())
            self._flights[key] = flight
            self._tasks.add(flight.task)
        waiter = flight.add(listener)
        listener.waits_on(flight, waiter, joined=joined)
        try:
            return await waiter
        finally:
            flight.leave(waiter)
            listener.waits_no_more()
            if waiter.done() and not waiter.cancelled():
                # A caller cancelled in the very turn that brought an error never reads it.
                waiter.exception()

    def discard(self, task: asyncio.Task[Any]) -> None:
        """A flight's task has ended."""
        self._tasks.discard(task)

    def forget(self, flight: Flight[Any]) -> None:
        """Take a flight off the table: whoever asks now starts anew."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def cancel(self, about: str | None = None) -> None:
        """Give up fetching this URL, or all (None): whoever waits gets DownloadCancelledError, each its own.

        Whoever asks for the same from now on starts anew.
        """
        flights = [flight for flight in self._flights.values() if flight.about and about in (None, flight.about)]
        for flight in flights:
            self.forget(flight)
        is_first = not self._to_cancel
        self._to_cancel.extend(_by_task(flights))
        if is_first:
            self._cancel_some()

    def _cancel_some(self) -> None:
        some = [self._to_cancel.popleft() for _ in range(min(ENDED_AT_ONCE, len(self._to_cancel)))]
        if self._to_cancel:
            asyncio.get_running_loop().call_soon(self._cancel_some)
        for group in some:
            for flight in group:
                flight.fail(DownloadCancelledError("the download was cancelled", url=display_url(flight.about)))

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something behind, that nobody waits for; ended with the table."""
        task = asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until nothing is under way, but for whoever calls this."""
        while others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def close(self) -> None:
        """End everything under way; whoever waits gets ManagerClosedError."""
        self._closed = ManagerClosedError("the manager was closed")
        while self._to_cancel:
            # Theirs is another reason.
            self._cancel_some()
            await asyncio.sleep(0)
        for number, group in enumerate(_by_task(self._flights.values()), 1):
            for flight in group:
                flight.fail(self._closed)
            if number % ENDED_AT_ONCE == 0:
                await asyncio.sleep(0)
        for number, task in enumerate(list(self._tasks), 1):
            task.cancel()
            if number % ENDED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self.idle()


def _by_task(flights: Iterable[Flight[Any]]) -> list[list[Flight[Any]]]:
    """Each with its parts: whatever ends the task that they share has to tell all of them why."""
    groups: dict[asyncio.Task[Any], list[Flight[Any]]] = {}
    for flight in flights:
        groups.setdefault(flight.task, []).append(flight)
    return list(groups.values())


def _outside() -> ManagerClosedError:
    return ManagerClosedError("cancelled from outside; is the event loop ending?")


def _own_copy(error: BaseException) -> BaseException:
    if isinstance(error, ImageCacheError):
        return error.fresh()
    # Not one of ours: a fault of this library, told as such, with the original as its cause.
    wrapped = ImageCacheError(f"internal error: {error!r}; please report it")
    wrapped.__cause__ = error
    return wrapped
