"""Some at a time: many that are ready at once have their steps in several turns of the loop. No thread, no I/O.

A loop calls all that is ready before it looks at its sockets again. A page of images asked for at once would wait for
the last of them before the first one's server is even looked up, and thousands would hold everything else up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque

AT_ONCE = 4
"""Steps of some 50 to 100 µs each."""


class Turns:
    """Who may go on in this turn of the loop, in the order in which they ask."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        # Since they were counted anew, which is so once there are as many as may be, and by the next turn.
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> asyncio.Future[None] | None:
        """What has to be waited for; None, nearly always, where few have asked just now."""
        self._taken += 1
        if self._taken < AT_ONCE:
            return None
        loop = asyncio.get_running_loop()
        if self._taken == AT_ONCE:
            loop.call_soon(self._next, context=contextvars.Context())
            return None
        turn = loop.create_future()
        self._waiting.append(turn)
        return turn

    def _next(self) -> None:
        self._taken = 0
        while self._waiting and self._taken < AT_ONCE:
            turn = self._waiting.popleft()
            # Unless it was cancelled.
            if not turn.done():
                turn.set_result(None)
                self._taken += 1
        if self._taken == AT_ONCE:
            asyncio.get_running_loop().call_soon(self._next, context=contextvars.Context())
