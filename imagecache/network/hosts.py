"""Who gets the next connection: slots for each host and in all. It knows names of hosts, and no network.

One heap over all hosts holds the waiters that may be next; those of a host that is full are parked with it. Each
grant and each release costs a logarithm, so that ten thousand waiters on one host do no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from heapq import heappop, heappush

from ..clock import Clock
from ..request import Priority
from .priority import PriorityTicket

logger = logging.getLogger("imagecache")

LONG_WAIT = 1.0
"""Seconds in the queue after which the log tells, once a host, which option would help."""


class _Host:
    __slots__ = ("active", "limit", "name", "parked", "waiting")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.active = 0
        self.waiting = 0
        self.parked: list[_Place] = []


class _Waiter:
    __slots__ = ("granted", "host", "number", "ticket")

    def __init__(self, host: _Host, number: int, ticket: PriorityTicket) -> None:
        self.host = host
        self.number = number
        self.ticket = ticket
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


_Place = tuple[int, int, _Waiter]
"""A place in a heap: (-priority, number, waiter). Out of date once the waiter is done or of another priority."""


class Slot:
    """The right to one connection to a host; :meth:`release` gives it back, once."""

    __slots__ = ("_host", "_limiter")

    def __init__(self, limiter: HostLimiter, host: _Host) -> None:
        self._limiter = limiter
        self._host: _Host | None = host

    def release(self) -> None:
        """Give the slot to whoever is next; a second call does nothing."""
        host, self._host = self._host, None
        if host is not None:
            self._limiter._release(host)


class HostLimiter:
    """Grants slots: at most ``per_host`` (or ``host_limits[host]``) a host and ``connections`` in all.

    The highest priority is served first, and whoever came first within one. Safe under cancellation: a waiter that is
    cancelled in the moment of its grant passes the slot on.
    """

    def __init__(
        self, clock: Clock, *, per_host: int = 6, connections: int = 64, host_limits: Mapping[str, int] | None = None
    ) -> None:
        self._clock = clock
        self._per_host = per_host
        self._connections = connections
        self._limits = dict(host_limits or {})
        self._hosts: dict[str, _Host] = {}
        self._queue: list[_Place] = []
        self._active = 0
        self._number = 0
        self._told: set[str] = set()

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._active

    @property
    def waiting(self) -> int:
        """Downloads in the queue."""
        return sum(host.waiting for host in self._hosts.values())

    async def acquire(self, name: str, ticket: PriorityTicket) -> Slot:
        """A slot for this host, waited for as long as it takes."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name, self._limits.get(name, self._per_host))
        # While a slot is free in all, the queue is empty, and nobody is parked with a host that is not full:
        # nobody is overtaken here.
        if self._active >= self._connections or host.active >= host.limit:
            return await self._wait(host, ticket)
        self._active += 1
        host.active += 1
        return Slot(self, host)

    async def _wait(self, host: _Host, ticket: PriorityTicket) -> Slot:
        began = self._clock.monotonic()
        self._number += 1
        waiter = _Waiter(host, self._number, ticket)
        host.waiting += 1
        self._place(waiter)
        # The old place stays in its heap, out of date.
        ticket.listen(lambda: self._place(waiter))
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._release(host)
            else:
                host.waiting -= 1
                self._forget(host)
            raise
        finally:
            ticket.listen(None)
        self._tell(host, self._clock.monotonic() - began)
        return Slot(self, host)

    def _place(self, waiter: _Waiter) -> None:
        heappush(self._queue, (-waiter.ticket.priority, waiter.number, waiter))
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._active < self._connections:
            place = heappop(self._queue)
            waiter = place[2]
            host = waiter.host
            if not _is_current(place):
                # Its place may have been the one that stood for a free slot of this host.
                self._unpark(host)
            elif host.active >= host.limit:
                heappush(host.parked, place)
            else:
                self._active += 1
                host.active += 1
                host.waiting -= 1
                waiter.granted.set_result(None)

    def _release(self, host: _Host) -> None:
        self._active -= 1
        host.active -= 1
        self._unpark(host)
        self._serve()
        self._forget(host)

    def _unpark(self, host: _Host) -> None:
        while host.parked and host.active < host.limit:
            place = heappop(host.parked)
            if _is_current(place):
                heappush(self._queue, place)
                return

    def _forget(self, host: _Host) -> None:
        if not host.active and not host.waiting:
            self._hosts.pop(host.name, None)

    def _tell(self, host: _Host, waited: float) -> None:
        if waited > LONG_WAIT and host.name not in self._told:
            self._told.add(host.name)
            logger.info(
                "a download waited %.1f s for a connection to %s (%d at a time); host_limits={%r: …} raises that",
                waited, host.name, host.limit, host.name,
            )  # fmt: skip


def _is_current(place: _Place) -> bool:
    waiter = place[2]
    return not waiter.granted.done() and -place[0] == waiter.ticket.priority


def as_ticket(priority: Priority | PriorityTicket) -> PriorityTicket:
    """The ticket that a priority means."""
    return priority if isinstance(priority, PriorityTicket) else PriorityTicket(priority)
