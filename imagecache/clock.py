"""Time as a part that can be replaced. Nothing else in the library reads a clock.

Wall time is for what HTTP and the disk say (dates, ages, *stored until*); monotonic time is for what
lives in this process (memory expiration, timeouts). The two are never mixed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """What :meth:`Clock.call_at` returns."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where the library gets its time from."""

    def time(self) -> float:
        """Wall time, seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Call ``callback`` on the running loop at monotonic time ``when``."""
        ...


class SystemClock:
    """The machine's clocks and the running event loop's timers."""

    # The function itself: a wrapper around it would be a third of a memory hit.
    monotonic = staticmethod(time.monotonic)

    def time(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        # A loop's clock need not be time.monotonic (uvloop's is not), so only the distance carries over.
        return asyncio.get_running_loop().call_later(when - time.monotonic(), callback)
