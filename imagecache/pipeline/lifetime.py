"""From a manager's first use to its end: the loop it belongs to, what that loop's own end does to it, and closing."""

from __future__ import annotations

import asyncio
import contextvars
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

from ..errors import ManagerClosedError, WrongLoopError


class Lifetime:
    """Binds what it is given the end of to one event loop, and sees to it that this end happens once.

    ``on_closing`` is called the moment closing begins, ``end`` is what closing is.
    """

    def __init__(self, end: Callable[[], Awaitable[None]], on_closing: Callable[[], None]) -> None:
        self._end = end
        self._on_closing = on_closing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hook: AsyncGenerator[None, None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_parents = False
        self.is_closed = False
        _lifetimes.add(self)

    def start(self) -> None:
        """Bind to the running loop, or see that it still is the same one.

        Raises ManagerClosedError once closed, WrongLoopError on another loop, or in a child that came by a fork.
        """
        if self._is_parents:
            raise WrongLoopError("this manager was used before this process came by a fork; make one in each process")
        loop = asyncio.get_running_loop()
        if self._loop is loop and not self.is_closed:
            return
        if self.is_closed:
            raise ManagerClosedError("the manager was closed")
        if self._loop is not None:
            raise WrongLoopError("this manager belongs to another event loop; make one for each loop")
        self._loop = loop
        self._hook = self._live()
        # Its first step waits for nothing, so nobody has to await it for the loop to know of it.
        with suppress(StopIteration):
            self._hook.asend(None).send(None)

    def forget_parent(self) -> None:
        """In a child that came by a fork: what is open is the parent's, memory follows nobody; so all ends here."""
        if self._loop is not None:
            self._is_parents = True
            self._begin_to_close()

    async def aclose(self) -> None:
        """Close. Whoever calls it, and however often, waits for the same end; cancelling the call does not undo it."""
        if self._is_parents:
            return
        self._begin_to_close()
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), context=contextvars.Context())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._end()
        if self._hook is not None:
            await self._hook.aclose()

    async def _live(self) -> AsyncGenerator[None, None]:
        # A loop that ends finishes its async generators: that is how what nobody closes is closed. It has
        # cancelled all tasks before, a closing under way among them.
        try:
            yield
        finally:
            if not self._is_parents and (self._closing is None or self._closing.cancelled()):
                self._begin_to_close()
                await self._end()

    def _begin_to_close(self) -> None:
        self.is_closed = True
        self._on_closing()


_lifetimes: weakref.WeakSet[Lifetime] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lifetime in list(_lifetimes):
        lifetime.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
