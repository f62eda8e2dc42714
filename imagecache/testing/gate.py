"""A gate that holds requests until a test opens it: the way to assert what happens *meanwhile*, without a sleep."""

from __future__ import annotations

import asyncio

from .bell import Bell


class Gate:
    """Holds whoever comes to it until it is opened; open it from any thread or loop.

    Give it to an :class:`~imagecache.testing.Answer`, wait until the requests have come to it, assert what
    must hold while they are under way, and open it:

    >>> async with ImageServer() as server:
    ...     url = server.add("/cat.png")
    ...     gate = server.hold("/cat.png")
    ...     calls = asyncio.gather(*(imagecache.fetch_image(url) for _ in range(3)))
    ...     await gate.arrived()
    ...     assert not calls.done()
    ...     gate.open()
    ...     print(len(await calls), "images,", server.count(), "request")
    3 images, 1 request
    """

    def __init__(self) -> None:
        self._bell = Bell()
        self._is_open = False
        self.arrivals = 0
        """How many have ever come, those who left and those who went through an open gate included."""
        self.held = 0
        """How many wait at it now."""

    @property
    def is_open(self) -> bool:
        """Whether one who comes now goes straight through."""
        return self._is_open

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        self._is_open = True
        self._bell.ring()

    def close(self) -> None:
        """Hold those who come from now on."""
        self._is_open = False

    async def wait(self) -> None:
        """Come to the gate, and wait until it is open."""
        self.arrivals += 1
        self.held += 1
        self._bell.ring()
        try:
            await self._bell.until(lambda: self._is_open)
        finally:
            self.held -= 1
            self._bell.ring()

    async def arrived(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Wait until ``count`` have come to the gate since it was made.

        Raises TimeoutError after ``timeout`` seconds, so that a test whose request never comes fails
        instead of hanging.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._bell.until(lambda: self.arrivals >= count)
        except TimeoutError:
            raise TimeoutError(f"{self.arrivals} of {count} came to the gate in {timeout} s") from None

    def __repr__(self) -> str:
        return f"<Gate {'open' if self._is_open else 'closed'}, {self.held} held, {self.arrivals} came>"
