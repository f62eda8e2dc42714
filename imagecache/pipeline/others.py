"""Following what other processes do to the folder, for as long as there is something in memory that could go stale."""

from __future__ import annotations

import asyncio

from .parts import Parts

POLL_INTERVAL = 1.0
"""Seconds between two looks at what other processes changed: half of the two that they may go unnoticed."""


class WatchOthers:
    """Looks at the folder now and then, off the way of a request."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def watch(self) -> None:
        """See to it that there is a next look; without anything in memory there is nothing to look for."""
        if self._timer is None and not self._is_stopped and not self._parts.cache.memory.is_empty:
            self._timer = asyncio.get_running_loop().call_later(POLL_INTERVAL, self._look)

    def stop(self) -> None:
        """No look after this."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._parts.cache.memory.is_empty:
            self._parts.flights.start(self._parts.cache.disk.poll())
            self.watch()
