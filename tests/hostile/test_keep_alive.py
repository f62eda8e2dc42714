"""Bytes that come while a connection lies idle are never the answer to the next request, whole, in part or late; over
TLS neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest

from imagecache import CachePolicy
from imagecache.errors import ResponseError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import CHUNKED, EVIL, LAST, NEXT, PICTURE, chunk, head, says, sized, splits
from tests.network.server import Exchange, RawServer

LATE: dict[str, bytes] = {
    "a whole answer": sized(EVIL),
    "two whole answers": sized(EVIL) * 2,
    "a chunked answer": head(CHUNKED) + chunk(EVIL) + LAST,
    "a head": head(f"Content-Length: {len(EVIL)}"),
    "a head and half a body": sized(EVIL)[:-20],
    "half a head": sized(EVIL)[:30],
    "one letter": b"H",
    "an empty line": b"\r\n",
    "a 100": head(status="100 Continue"),
    "a 304": head(status="304 Not Modified"),
    "a 408, as servers send it before they close": sized(b"", "Connection: close", status="408 Request Timeout"),
    "garbage": b"\x00\xff garbage",
    "a body without a head": EVIL,
}


async def turns(server: RawServer) -> None:
    """Returns when the loop has surely read what the idle connection got: a whole exchange on another came later."""
    other = RawServer()
    await other.start()
    downloader = ImageDownloader(NetworkOptions(), retry=BackoffRetryStrategy(1))
    try:
        for _ in range(2):
            await downloader.download(other.serve("/x"))
    finally:
        await downloader.aclose()
        await other.stop()


@pytest.mark.parametrize("is_read", [True, False], ids=["read by the loop", "in the socket yet"])
@pytest.mark.parametrize("what", LATE)
async def test_what_is_said_while_idle_answers_nothing(
    server: RawServer, make: MakeManager, what: str, is_read: bool
) -> None:
    spoken, quiet = asyncio.Event(), asyncio.Event()
    images = make(memory_limit=0)
    first = server.on("/first", splits(sized(), LATE[what], spoken=spoken, quiet=quiet))
    await images.fetch_data(first)
    quiet.set()
    await spoken.wait()
    if is_read:
        await turns(server)
    next_url = server.on("/next", says(sized(NEXT)))
    assert await images.fetch_data(next_url) == NEXT
    # Whoever speaks unasked is not spoken to again.
    assert server.connections == 2
    assert await images.fetch_data(next_url, policy=CachePolicy.CACHE_ONLY) == NEXT


async def test_what_follows_an_answer_at_once_answers_nothing(server: RawServer, make: MakeManager) -> None:
    images = make()
    for number, late in enumerate(LATE.values()):
        answer = sized() + late
        # The picture or, where the parser sees both at once, an error.
        with contextlib.suppress(ResponseError):
            assert await images.fetch_data(server.on(f"/{number}", says(answer))) == PICTURE
        assert await images.fetch_data(server.on(f"/next{number}", says(sized(NEXT)))) == NEXT


async def test_an_idle_connection_that_is_closed_or_reset_costs_no_try(server: RawServer, make: MakeManager) -> None:
    images = make()
    for way in ("cut", "reset"):

        async def ends(exchange: Exchange, way: str = way) -> None:
            await exchange.send(sized())
            getattr(exchange, way)()

        await images.fetch_data(server.on(f"/{way}", ends))
        await server.all_closed()
        result = await images.fetch(server.on(f"/next-{way}", says(sized(NEXT))))
        assert result.metrics.tries == 1


@pytest.fixture
async def tls(tls_server: RawServer, trusting: ssl.SSLContext) -> AsyncIterator[tuple[RawServer, ImageDownloader]]:
    downloader = ImageDownloader(NetworkOptions(ssl=trusting), retry=BackoffRetryStrategy(1))
    yield tls_server, downloader
    await downloader.aclose()


@pytest.mark.parametrize("is_read", [True, False], ids=["read by the loop", "in the socket yet"])
@pytest.mark.parametrize("what", LATE)
async def test_the_same_holds_over_tls(tls: tuple[RawServer, ImageDownloader], what: str, is_read: bool) -> None:
    server, downloader = tls
    spoken, quiet = asyncio.Event(), asyncio.Event()
    await downloader.download(server.on("/first", splits(sized(), LATE[what], spoken=spoken, quiet=quiet)))
    quiet.set()
    await spoken.wait()
    if is_read:
        await turns(server)
    assert (await downloader.download(server.on("/next", says(sized(NEXT))))).body == NEXT
    assert server.connections == 2


async def test_a_quiet_connection_is_used_again(server: RawServer, make: MakeManager) -> None:
    images = make()
    for number in range(5):
        await images.fetch_data(server.on(f"/{number}", says(sized())))
    assert server.connections == 1
