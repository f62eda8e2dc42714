"""Waiting until something is so, from any event loop or thread. It knows nothing of what it waits for.

A server may run in a thread of its own while the test that holds one of its answers runs elsewhere, so
asyncio's own Event and Condition, which belong to one loop, are not enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class Bell:
    """Wakes everybody who waits, so that each looks whether what it waits for has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def ring(self) -> None:
        """Something has changed. May be called from any thread."""
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            # A loop that has been closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, waiter)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until ``is_so()``; it is called again after every ring."""
        while not is_so():
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            with self._lock:
                self._waiters.append((loop, waiter))
            # What changed between the first look and the registration has rung for nobody.
            if is_so():
                return
            await waiter


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
