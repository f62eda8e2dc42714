"""Who gets the next connection: slots for each host and in all. It knows names of hosts, and no network.

One heap over all hosts holds the waiters that may be next; those of a host that is full, or was asked a moment ago
and has a rate, are parked with it. Each grant and each release costs a logarithm, so that ten thousand waiters on one
host do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from heapq import heappop, heappush

from ..clock import Clock, TimerHandle
from ..request import Priority
from .priority import PriorityTicket

logger = logging.getLogger("imagecache")

LONG_WAIT = 1.0
"""Seconds in the queue after which the log tells, once a host, which option would help."""


class _Host:
    __slots__ = ("active", "limit", "name", "open_at", "parked", "timer", "waiting")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.active = 0
        self.waiting = 0
        self.parked: list[_Place] = []
        self.open_at = -math.inf
        """When its rate lets the next request go, monotonic."""
        self.timer: TimerHandle | None = None


class _Waiter:
    __slots__ = ("granted", "host", "ticket", "turn")

    def __init__(self, host: _Host, turn: int, ticket: PriorityTicket) -> None:
        self.host = host
        self.turn = turn
        self.ticket = ticket
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


_Place = tuple[int, int, _Waiter]
"""A place in a heap: (-priority, turn, waiter). Out of date once the waiter is done or of another priority."""


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

    The highest priority is served first, and whoever came first within one; with ``newest_first`` whoever came last.
    ``requests_per_second`` spaces the grants of a host evenly, in that same order; whoever waits for its turn holds no
    slot meanwhile. Safe under cancellation: a waiter that is cancelled in the moment of its grant passes the slot on.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        per_host: int = 6,
        connections: int = 64,
        host_limits: Mapping[str, int] | None = None,
        requests_per_second: float | None = None,
        newest_first: bool = False,
    ) -> None:
        self._clock = clock
        self._per_host = per_host
        self._connections = connections
        self._limits = dict(host_limits or {})
        self._interval = 0.0 if requests_per_second is None else 1 / requests_per_second
        self._direction = -1 if newest_first else 1
        self._hosts: dict[str, _Host] = {}
        self._queue: list[_Place] = []
        self._active = 0
        self._waiting = 0
        self._number = 0
        self._told: set[str] = set()

    @property
    def has_rate(self) -> bool:
        """Whether every single request needs a slot granted to it, also on a connection that is there already."""
        return self._interval > 0

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._active

    @property
    def waiting(self) -> int:
        """Downloads in the queue."""
        return self._waiting

    async def acquire(self, name: str, ticket: PriorityTicket) -> Slot:
        """A slot for this host, waited for as long as it takes."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name, self._limits.get(name, self._per_host))
        # While a slot is free in all, the queue is empty, and nobody is parked with a host that is open: nobody is
        # overtaken here. A host with a rate opens a moment before its timer tells, with its waiters still parked.
        if self._active >= self._connections or not self._is_open(host) or (self._interval and host.waiting):
            return await self._wait(host, ticket)
        self._grant(host)
        return Slot(self, host)

    async def _wait(self, host: _Host, ticket: PriorityTicket) -> Slot:
        began, option = self._clock.monotonic(), self._what_helps(host)
        self._number += 1
        waiter = _Waiter(host, self._number * self._direction, ticket)
        host.waiting += 1
        self._waiting += 1
        self._place(waiter)
        # The old place stays in its heap, out of date.
        ticket.listen(lambda: self._place(waiter))
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                # Nothing was asked of the host: its next request need not keep a distance from this one.
                host.open_at -= self._interval
                self._release(host)
            else:
                host.waiting -= 1
                self._waiting -= 1
                self._forget(host)
            raise
        finally:
            ticket.listen(None)
        self._tell(host, self._clock.monotonic() - began, option)
        return Slot(self, host)

    def _is_open(self, host: _Host) -> bool:
        """Whether the host itself could be asked now, whatever goes on elsewhere."""
        return host.active < host.limit and (not self._interval or self._clock.monotonic() >= host.open_at)

    def _place(self, waiter: _Waiter) -> None:
        place = (-waiter.ticket.priority, waiter.turn, waiter)
        if self._interval:
            # By way of those who wait for the same moment: it may be somebody else's.
            heappush(waiter.host.parked, place)
            self._unpark(waiter.host)
        else:
            heappush(self._queue, place)
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._active < self._connections:
            place = heappop(self._queue)
            waiter = place[2]
            host = waiter.host
            if not _is_current(place):
                # Its place may have been the one that stood for a free slot of this host.
                self._unpark(host)
            elif not self._is_open(host):
                heappush(host.parked, place)
                self._wake_later(host)
            else:
                host.waiting -= 1
                self._waiting -= 1
                self._grant(host)
                waiter.granted.set_result(None)

    def _grant(self, host: _Host) -> None:
        self._active += 1
        host.active += 1
        if self._interval:
            host.open_at = self._clock.monotonic() + self._interval
            self._wake_later(host)

    def _release(self, host: _Host) -> None:
        self._active -= 1
        host.active -= 1
        self._unpark(host)
        self._serve()
        self._forget(host)

    def _unpark(self, host: _Host) -> None:
        while host.parked and self._is_open(host):
            place = heappop(host.parked)
            if _is_current(place):
                heappush(self._queue, place)
                return
        self._wake_later(host)

    def _wake_later(self, host: _Host) -> None:
        """See to it that a host with a rate is looked at again when its moment comes."""
        if host.timer is None and host.parked and self._clock.monotonic() < host.open_at:
            host.timer = self._clock.call_at(host.open_at, lambda: self._wake(host))

    def _wake(self, host: _Host) -> None:
        host.timer = None
        self._unpark(host)
        self._serve()
        self._forget(host)

    def _forget(self, host: _Host) -> None:
        if host.active or host.waiting:
            return
        host.parked.clear()
        if self._clock.monotonic() >= host.open_at:
            if host.timer is not None:
                host.timer.cancel()
            self._hosts.pop(host.name, None)
        elif host.timer is None:
            # Whoever comes next still keeps the distance.
            host.timer = self._clock.call_at(host.open_at, lambda: self._wake(host))

    def _what_helps(self, host: _Host) -> str:
        """The option that a download waits for, in the words of a hint."""
        if host.active >= host.limit:
            return f"host_limits={{{host.name!r}: …}} raises the {host.limit} at a time"
        if not self._is_open(host):
            return f"requests_per_second={1 / self._interval:g} spaces them"
        return f"connections={self._connections} in all are in use"

    def _tell(self, host: _Host, waited: float, option: str) -> None:
        if waited > LONG_WAIT and host.name not in self._told:
            self._told.add(host.name)
            logger.info("a download waited %.1f s for a connection to %s; %s", waited, host.name, option)


def _is_current(place: _Place) -> bool:
    waiter = place[2]
    return not waiter.granted.done() and -place[0] == waiter.ticket.priority


def as_ticket(priority: Priority | PriorityTicket) -> PriorityTicket:
    """The ticket that a priority means."""
    return priority if isinstance(priority, PriorityTicket) else PriorityTicket(priority)
