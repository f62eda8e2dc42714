"""Time that a test moves: the library's :class:`~imagecache.clock.Clock`, standing still until told otherwise."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable

_TURNS = 20
"""Turns of the loop given after each timer: enough for a chain of awaits. What needs a thread needs an event."""


class FakeTimer:
    """A timer of a :class:`FakeClock`; what its ``call_at`` returns."""

    __slots__ = ("callback", "context", "is_cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        # As the loop's own timers do.
        self.context = contextvars.copy_context()
        self.is_cancelled = False

    def cancel(self) -> None:
        """Never call back; a second call does nothing."""
        self.is_cancelled = True


class FakeClock:
    """A clock that stands still; :meth:`advance` and :meth:`elapse` move it and fire the timers that fall due.

    ``wall`` is the first answer of :meth:`time`, epoch seconds; ``monotonic`` that of :meth:`monotonic`.

    >>> clock, fired = FakeClock(), []
    >>> timer = clock.call_at(clock.monotonic() + 5, lambda: fired.append(clock.monotonic()))
    >>> clock.advance(10)
    >>> fired, clock.monotonic(), clock.pending
    ([1005.0], 1010.0, 0)
    """

    def __init__(self, *, wall: float = 1_750_000_000.0, monotonic: float = 1000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._timers: list[tuple[float, int, FakeTimer]] = []
        # Timers of one moment fire in the order they were set.
        self._order = itertools.count()

    def time(self) -> float:
        """Wall time, seconds since the epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._monotonic

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        """Call ``callback`` when the clock is moved to ``when`` (monotonic) or past it; never before it is moved."""
        timer = FakeTimer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers have neither fired nor been cancelled."""
        return sum(not timer.is_cancelled for _, _, timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Move both times on. Due timers fire now, in order, each at its own moment; those they set, too.

        Raises ValueError for negative seconds, and whatever a timer raises.
        """
        end = self._end_of(seconds)
        while self._fire_next(end):
            pass
        self._move_to(end)

    async def elapse(self, seconds: float) -> None:
        """The same as :meth:`advance`, with some turns of the event loop before, between and after, so that
        tasks that a timer wakes run at its moment, and may set the next one."""
        await _let_run()
        end = self._end_of(seconds)
        while self._fire_next(end):
            await _let_run()
        self._move_to(end)
        await _let_run()

    def set_wall(self, wall: float) -> None:
        """Set the wall time alone, as an administrator or a time server does; no timer fires."""
        self._wall = wall

    def _end_of(self, seconds: float) -> float:
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}; set_wall() sets the wall clock alone")
        return self._monotonic + seconds

    def _fire_next(self, end: float) -> bool:
        """Fire the earliest timer due by ``end``; False if there is none."""
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                self._move_to(max(when, self._monotonic))
                timer.context.run(timer.callback)
                return True
        return False

    def _move_to(self, monotonic: float) -> None:
        self._wall += monotonic - self._monotonic
        self._monotonic = monotonic


async def _let_run() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
