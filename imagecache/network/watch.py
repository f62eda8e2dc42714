"""The limits of time of one download, held by one timer. It knows nothing of HTTP: whoever drives it says what happens.

One timer that is looked at lazily, instead of a timeout object a limit: a chunk costs a clock reading and two
assignments, and every limit runs on the replaceable clock.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar, Token
from types import TracebackType

from ..clock import Clock, TimerHandle, Timing
from ..errors import ConnectionFailedError, ImageCacheError, TimedOutError
from .settings import Timeouts

current_watch: ContextVar[Watch] = ContextVar("imagecache_watch")
"""The watch of the running download, for the connector, which is called by aiohttp and not by us."""


class Watch:
    """Cancels the work inside ``with watch:`` when a limit is over, and raises the limit's own error instead.

    The caller's own cancellation passes through untouched, as with ``asyncio.timeout``. May be entered again and
    again by one task; the total goes on over the entries. ``host`` and ``is_proxied`` tell what is being
    connected to, ``connect_time``, its parts ``dns_time`` and ``tls_time``, and ``connected_at`` what the connector
    measured.
    """

    __slots__ = (
        "_armed_at", "_cancelling", "_clock", "_limits", "_opened_at", "_phase", "_phase_end", "_queued_at", "_task",
        "_timer", "_token", "_total", "_total_end", "_url", "_verdict", "_window_bytes", "_window_end", "connect_time",
        "connected_at", "dns_time", "host", "is_proxied", "started_at", "tls_time",
    )  # fmt: skip

    def __init__(self, clock: Timing, limits: Timeouts, total: float | None, url: str) -> None:
        self._clock = clock
        self._limits = limits
        self._total = math.inf if total is None else total
        self._url = url
        self._total_end = self._phase_end = self._window_end = self._armed_at = math.inf
        self._phase = ""
        self._window_bytes = 0
        self._queued_at = 0.0
        self._timer: TimerHandle | None = None
        self._verdict: ImageCacheError | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._token: Token[Watch] | None = None
        self.started_at: float | None = None
        self.host: str | None = None
        self.is_proxied = False
        self.connect_time = self.dns_time = self.tls_time = 0.0
        self._opened_at: float | None = None
        self.connected_at = 0.0

    def __enter__(self) -> Watch:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._token = current_watch.set(self)
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()
        self._disarm()
        task, verdict, token = self._task, self._verdict, self._token
        self._task = self._verdict = self._token = None
        assert task is not None
        assert token is not None
        current_watch.reset(token)
        # uncancel() tells whether somebody else cancelled the task as well: that one goes first.
        if verdict is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise verdict from None
        if kind is asyncio.CancelledError and task.cancelling() <= self._cancelling:
            # Nobody cancelled this task: a callback did it to itself, or aiohttp, whose closing session cancels
            # whoever waits for a name. To the caller that is a failure, not its own cancellation.
            raise ConnectionFailedError("something the download waited for was cancelled", url=self._url) from error

    def stop(self, error: ImageCacheError) -> None:
        """End the work with this error."""
        if self._task is not None and self._verdict is None:
            self._verdict = error
            self._disarm()
            self._task.cancel()

    @property
    def elapsed(self) -> float:
        """Seconds of the total that are used up; 0 before the first slot."""
        return 0.0 if self.started_at is None else self._clock.monotonic() - self.started_at

    @property
    def remaining(self) -> float:
        """Seconds of the total that are left; ``inf`` without a limit."""
        return self._total_end - self._clock.monotonic()

    def queued(self) -> None:
        """Waiting for a slot begins: no limit runs, the total stands still."""
        self._queued_at = self._clock.monotonic()
        self.rest()
        self._disarm()

    def granted(self) -> float:
        """The slot is there, and starts the total if it is the first. Returns the seconds waited."""
        now = self._clock.monotonic()
        waited = now - self._queued_at
        if self.started_at is None:
            self.started_at = now
            self._total_end = now + self._total
        else:
            self.started_at += waited
            self._total_end += waited
        return waited

    def connecting(self, host: str | None, *, is_proxied: bool) -> None:
        """A connection to a host, or to the proxy that will reach it, is being made or taken from the pool."""
        self.host = host
        self.is_proxied = is_proxied
        self.connected_at = self._clock.monotonic()
        self._opened_at = None
        self._enter("connect", self.connected_at + self._limits.connect)

    def resolved(self) -> None:
        """The name has addresses, which was the first thing to be done for a connection."""
        self.dns_time += self._clock.monotonic() - self.connected_at

    def opened(self) -> None:
        """The host is reached, or the proxy's tunnel to it; TLS comes next, where there is any."""
        self._opened_at = self._clock.monotonic()

    def connected(self, *, is_secure: bool) -> None:
        """The connection is there, if not from before; the answer's head is awaited."""
        now = self._clock.monotonic()
        if self._opened_at is not None:
            self.connect_time += now - self.connected_at
            self.tls_time += now - self._opened_at if is_secure else 0.0
            self.connected_at = now
        self._enter("idle", now + self._limits.idle)

    def requested(self) -> None:
        """The request is in the hands of a session whose connections cannot be watched."""
        self.connected_at = self._clock.monotonic()
        self._enter("idle", self.connected_at + self._limits.connect + self._limits.idle)

    def reading(self) -> None:
        """The body begins."""
        now = self._clock.monotonic()
        self._window_bytes = 0
        if self._limits.min_rate:
            self._window_end = now + self._limits.rate_window
        self._enter("idle", now + self._limits.idle)

    def received(self, byte_count: int) -> None:
        """A piece of the body came."""
        self._phase_end = self._clock.monotonic() + self._limits.idle
        self._window_bytes += byte_count

    def rest(self) -> None:
        """Nothing is expected of the server; only the total runs."""
        self._phase_end = self._window_end = math.inf

    def _enter(self, phase: str, end: float) -> None:
        self._phase, self._phase_end = phase, end
        if min(end, self._window_end) < self._armed_at:
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        when = min(self._total_end, self._phase_end, self._window_end)
        if when < math.inf and self._verdict is None and self._task is not None:
            self._armed_at = when
            self._timer = self._clock.call_at(when, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_at = math.inf

    def _look(self) -> None:
        now = self._clock.monotonic()
        limit = self._broken_limit(now)
        if limit is None:
            if now >= self._window_end:
                self._window_bytes, self._window_end = 0, now + self._limits.rate_window
            self._arm()
        else:
            self.stop(TimedOutError(self._message(limit), url=self._url, limit=limit))

    def _broken_limit(self, now: float) -> str | None:
        if now >= self._total_end:
            return "total"
        if now >= self._phase_end:
            return self._phase
        if now >= self._window_end and self._window_bytes < self._limits.min_rate * self._limits.rate_window:
            return "rate"
        return None

    def _message(self, limit: str) -> str:
        limits = self._limits
        match limit:
            case "connect":
                return f"no connection within {limits.connect:g} s (the connect timeout)"
            case "idle":
                return f"nothing came from the server for {limits.idle:g} s (the idle timeout)"
            case "rate":
                return f"the body came at under {limits.min_rate:g} bytes/s over {limits.rate_window:g} s (min_rate)"
            case _:
                return f"not complete within {self._total:g} s (the total timeout)"


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on the replaceable clock."""
    done = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    timer = clock.call_at(clock.monotonic() + seconds, wake)
    try:
        await done
    finally:
        timer.cancel()
