"""The connections: aiohttp's connector with the address guard, a clean keep-alive pool and the times it measures.

What aiohttp calls by itself lives here. It decides nothing about requests, answers or retries.
"""

from __future__ import annotations

import asyncio
import functools
import select
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from .faults import AddressGateError
from .guard import AddressGuard
from .settings import NetworkOptions
from .watch import current_watch

KEEPALIVE = 15.0
"""Seconds that an idle connection is kept."""
DNS_TTL = 60
"""Seconds that a resolved name is kept: a page's worth of images, and short enough for a moving CDN."""
READ_BUFFER = 2**20
"""Bytes; a tenth to a third faster for bodies of a MiB than aiohttp's 256 KiB, by measurement."""
MAX_FIELD = 32_768
"""Bytes of a header line; some CDNs send policies longer than aiohttp's 8,190."""


class GuardedResolver(AbstractResolver):
    """Gives only the addresses that may be visited. Literals do not come this way: the socket gate sees those."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        watch = current_watch.get(None)
        if watch is not None and watch.is_proxied:
            # This is the proxy's own name; those it resolves itself are never seen here.
            return results
        refusals = [self._guard.refusal(host, result["host"]) for result in results]
        allowed = [result for result, refusal in zip(results, refusals, strict=True) if refusal is None]
        if refusals and not allowed:
            raise AddressGateError(refusals[0] or host)
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


class QuietHandler(ResponseHandler):
    """aiohttp's protocol, which ends a connection that speaks while it lies idle.

    aiohttp's parser swallows what is no whole answer yet, and nothing tells of it afterwards.
    """

    is_idle = False
    _is_readable: Callable[[], bool] | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether this idle connection has said nothing since its last answer, neither read yet nor waiting to be."""
        if self.should_close or self.transport is None:
            return False
        if self._is_readable is None:
            sock = self.transport.get_extra_info("socket")
            self._is_readable = _never if sock is None else _readiness_of(sock.fileno())
        return not self._is_readable()

    def data_received(self, data: bytes) -> None:
        # aiohttp itself calls this with nothing, to go on with what it held back.
        if self.is_idle and data:
            self.force_close()
            if self.transport is not None:
                self.transport.close()
            return
        super().data_received(data)


def _quiet_handler(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    # Loops ask for the protocol of a connection when it has been opened, and before its TLS.
    current_watch.get().opened()
    return QuietHandler(loop)


class GuardedConnector(aiohttp.TCPConnector):
    """aiohttp's connector, without limits of its own: slots are granted before it is asked."""

    def __init__(self, guard: AddressGuard, resolver: GuardedResolver) -> None:
        super().__init__(
            limit=0,
            limit_per_host=0,
            ttl_dns_cache=DNS_TTL,
            keepalive_timeout=KEEPALIVE,
            resolver=resolver,
            socket_factory=self._make_socket,
        )
        self._guard = guard
        self._factory = functools.partial(_quiet_handler, loop=self._loop)

    def _make_socket(self, addr_info: aiohttp.AddrInfoType) -> socket.socket:
        # The last gate: the very address that is connected to, literals, redirects and rebound names included.
        family, kind, proto, _, address = addr_info
        watch = current_watch.get()
        if not watch.is_proxied:
            refusal = self._guard.refusal(watch.host, str(address[0]))
            if refusal is not None:
                raise AddressGateError(refusal)
        return socket.socket(family, kind, proto)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        watch = current_watch.get()
        watch.connecting(req.url.raw_host, is_proxied=req.proxy is not None)
        connection = await super().connect(req, traces, timeout)
        watch.connected(is_secure=req.is_ssl())
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        # Here and not in the resolver: waiting for somebody else's look-up of the same name is time, too.
        addresses = await super()._resolve_host(host, port, traces)
        current_watch.get().resolved()
        return addresses

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        # aiohttp 3.14 hands out a pooled connection whatever arrived on it while it lay idle, and would take that for
        # the answer to the next request (response splitting).
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if isinstance(protocol, QuietHandler) and protocol.is_quiet:
                protocol.is_idle = False
                return connection
            connection.close()
        return None

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, QuietHandler):
            protocol.is_idle = True
        super()._release(key, protocol, should_close=should_close)


def _readiness_of(fd: int) -> Callable[[], bool]:
    """What tells whether a socket has something to be read."""
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([fd], [], [], 0)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return lambda: bool(poll.poll(0))


def _never() -> bool:
    return False


def open_session(options: NetworkOptions, guard: AddressGuard) -> tuple[aiohttp.ClientSession, GuardedResolver]:
    """A session of our own, on the running loop, and the resolver to be closed after it."""
    resolver = GuardedResolver(guard)
    session = aiohttp.ClientSession(
        connector=GuardedConnector(guard, resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=options.trust_env,
        # What is sent is what modifiers saw: aiohttp adds nothing of its own.
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None),
    )
    return session, resolver


def literal_refusal(guard: AddressGuard, host: str) -> str | None:
    """Why a host that is an address may not be visited: all that can be said over a session that is not ours."""
    try:
        ip_address(host)
    except ValueError:
        return None
    return guard.refusal(host, host)
