"""Time as a part that can be replaced. Nothing else in the library reads a clock.

Wall time is for what HTTP and the disk say (dates, ages, *stored until*); monotonic time is for what
lives in this process (memory expiration, timeouts). The two are never mixed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol


class TimerHandle(Protocol):
    """What :meth:`Clock.call_at` returns."""

    def cancel(self) -> None: ...


class Timing(Protocol):
    """Time that passes, and is waited for."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Call ``callback`` on the running loop at monotonic time ``when``."""
        ...


class Clock(Timing, Protocol):
    """Where the library gets its time from."""

    def time(self) -> float:
        """Wall time, seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    # The functions themselves: a wrapper around one would be a third of a memory hit.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        # A loop's clock need not be time.monotonic (uvloop's is not), so only the distance carries over.
        return asyncio.get_running_loop().call_later(when - time.monotonic(), callback)


class Deadline:
    """A moment by which something is to be done; what :meth:`Deadlines.call_at` returns."""

    __slots__ = ("_deadlines", "callback", "when")

    def __init__(self, deadlines: Deadlines, when: float, callback: Callable[[], object]) -> None:
        self._deadlines = deadlines
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """It is done; a second call does nothing."""
        self._deadlines._drop(self)


class Deadlines:
    """Deadlines of many, on one timer of a clock.

    Nearly all of them are met, and then a timer of its own is the dearest part of one: the loop's heap of timers is
    ordered by calls of Python, and keeps those that were called off until their moment. Here a deadline costs an entry
    in a set, and the timer, which stands at the earliest there was, is touched by the first one and the last one.
    """

    __slots__ = ("_clock", "_open", "_stands_at", "_timer", "monotonic")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.monotonic = clock.monotonic
        self._open: set[Deadline] = set()
        self._timer: TimerHandle | None = None
        self._stands_at = math.inf

    def call_at(self, when: float, callback: Callable[[], object]) -> Deadline:
        """Call ``callback`` at monotonic time ``when``, unless the deadline is called off before."""
        deadline = Deadline(self, when, callback)
        self._open.add(deadline)
        if when < self._stands_at:
            self._stand_at(when)
        return deadline

    def _drop(self, deadline: Deadline) -> None:
        self._open.discard(deadline)
        if not self._open and self._timer is not None:
            # Whoever waits for nothing leaves nothing behind in the loop.
            self._stand_at(math.inf)

    def _stand_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stands_at = when
        self._timer = None if when == math.inf else self._clock.call_at(when, self._look)

    def _look(self) -> None:
        self._timer, self._stands_at = None, math.inf
        now = self.monotonic()
        due = sorted((deadline for deadline in self._open if deadline.when <= now), key=attrgetter("when"))
        try:
            for deadline in due:
                # Unless one of those before it called it off.
                if deadline in self._open:
                    self._open.discard(deadline)
                    deadline.callback()
        finally:
            self._stand_at(min((deadline.when for deadline in self._open), default=math.inf))
