"""Each limit of time has its own error, starts when it should, and is not run into by waiting for one's turn."""

from __future__ import annotations

import asyncio

import pytest

from imagecache import Timeouts
from imagecache.errors import BadStatusError, ImageCacheError, TimedOutError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions
from imagecache.testing import FakeClock
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import PICTURE, drips, for_ever, hangs, head, says, sized
from tests.network.server import Exchange, Handler, RawServer

CALLS = 10_000


async def test_ten_thousand_calls_to_one_slow_host_do_not_time_out_in_the_queue(server: RawServer) -> None:
    """The host takes a second of the clock for each of six at a time: half an hour in the queue, with 3 s in all."""
    clock = FakeClock()
    served = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        if served % 6 == 0:
            clock.advance(1)
        await exchange.send(sized(b"x"))

    options = NetworkOptions(per_host=6, timeouts=Timeouts(total=3, idle=2, connect=2, min_rate=0))
    downloader = ImageDownloader(options, clock=clock, retry=BackoffRetryStrategy(1))
    url = server.on("/a", slow)
    try:
        answers = await asyncio.gather(*(downloader.download(f"{url}?{n}") for n in range(CALLS)))
    finally:
        await downloader.aclose()
    assert len(answers) == served == CALLS
    waits = sorted(answer.metrics.queue for answer in answers)
    # Far more than any limit, and the wait is told.
    assert waits[-1] > 100 * 3
    assert waits[0] == 0


async def test_the_same_calls_do_time_out_where_the_limit_is_the_callers_own_server(
    server: RawServer, make: MakeManager
) -> None:
    """Waiting for one's turn is free; waiting for the server is not."""
    url = server.on("/a", hangs())
    images = make(connections_per_host=2, timeout=0.3, timeouts=Timeouts(idle=10))
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(images.fetch_data(f"{url}?{n}") for n in range(6)), return_exceptions=True)
    limits = [answer.limit for answer in answers if isinstance(answer, TimedOutError)]
    assert limits == ["total"] * 6


LIMITS: dict[str, tuple[Handler, Timeouts]] = {
    "idle": (hangs(), Timeouts(idle=0.3)),
    "rate": (drips(head("Connection: close"), for_ever(PICTURE)), Timeouts(min_rate=10_000, rate_window=0.3)),
    "total": (drips(head("Connection: close"), for_ever(bytes(500)), size=500), Timeouts(min_rate=0)),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_each_limit_has_its_own_error_which_names_it(server: RawServer, make: MakeManager, limit: str) -> None:
    handler, timeouts = LIMITS[limit]
    images = make(timeouts=timeouts, timeout=0.6 if limit == "total" else 60)
    async with asyncio.timeout(60):
        with pytest.raises(TimedOutError) as caught:
            await images.fetch_image(server.on("/a", handler))
    assert caught.value.limit == limit
    words = {"idle": "idle timeout", "rate": "min_rate", "total": "`timeout=` raises that limit"}
    assert words[limit] in str(caught.value)
    assert isinstance(caught.value, TimeoutError)
    # The server hears of it: nothing is left open behind the caller's back.
    await server.all_closed()


async def test_the_total_counts_over_hops(server: RawServer, make: MakeManager) -> None:
    clock = FakeClock()

    async def slow_hop(exchange: Exchange) -> None:
        clock.advance(2)
        await exchange.send(sized(b"", f"Location: {exchange.target}x", status="302 Found"))

    for hop in range(8):
        server.on("/a" + "x" * hop, slow_hop)
    downloader = ImageDownloader(
        NetworkOptions(timeouts=Timeouts(total=7, idle=5)), clock=clock, retry=BackoffRetryStrategy(1)
    )
    try:
        with pytest.raises(TimedOutError) as caught:
            await downloader.download(server.base + "/a")
    finally:
        await downloader.aclose()
    assert caught.value.limit == "total"
    assert len(server.requests) == 4


async def test_the_total_counts_over_tries_and_their_waits(server: RawServer) -> None:
    clock = FakeClock()

    async def fails(exchange: Exchange) -> None:
        clock.advance(2)
        await exchange.send(sized(b"", status="503 Busy"))

    downloader = ImageDownloader(
        NetworkOptions(timeouts=Timeouts(total=7, idle=5)), clock=clock, retry=BackoffRetryStrategy(9, base=0, jitter=0)
    )
    download = asyncio.create_task(downloader.download(server.on("/a", fails)))
    while not download.done():
        # A wait of nothing ends when the clock is asked to go on.
        clock.advance(0)
        await asyncio.sleep(0)
    await downloader.aclose()
    with pytest.raises(ImageCacheError) as caught:
        await download
    assert isinstance(caught.value, TimedOutError | BadStatusError)
    assert len(server.requests) == 4


async def test_the_total_stands_still_where_a_redirect_leads_into_another_queue(server: RawServer) -> None:
    clock, arrived, gate = FakeClock(), asyncio.Event(), asyncio.Event()

    async def holds_the_slot(exchange: Exchange) -> None:
        arrived.set()
        await gate.wait()
        await exchange.send(sized())

    by_name = server.base.replace("127.0.0.1", "localhost")
    server.on("/held", holds_the_slot)

    async def goal(exchange: Exchange) -> None:
        # A limit that has passed meanwhile would be seen now.
        clock.advance(1)
        await exchange.send(sized())

    server.on("/goal", goal)
    hop = server.on("/hop", says(sized(b"", f"Location: {by_name}/goal", status="302 Found")))
    options = NetworkOptions(per_host=1, timeouts=Timeouts(idle=1000, total=7, min_rate=0))
    downloader = ImageDownloader(options, clock=clock, retry=BackoffRetryStrategy(1))
    try:
        first = asyncio.create_task(downloader.download(f"{by_name}/held", total=None))
        await arrived.wait()
        second = asyncio.create_task(downloader.download(hop))
        async with asyncio.timeout(60):
            while not downloader._tools.limiter.waiting:
                clock.advance(0)
                await asyncio.sleep(0)
        clock.advance(100)
        gate.set()
        await first
        assert (await second).metrics.queue == 100
    finally:
        await downloader.aclose()


async def test_who_is_cut_off_does_not_hold_the_others_up(server: RawServer, make: MakeManager) -> None:
    bad, good = server.on("/bad", hangs()), server.on("/good", says(sized()))
    images = make(connections_per_host=1, timeouts=Timeouts(idle=0.3))
    async with asyncio.timeout(60):
        answers = await asyncio.gather(
            *(images.fetch_data(url) for url in (bad, good, f"{bad}?2", f"{good}?2")), return_exceptions=True
        )
    assert [isinstance(answer, TimedOutError) for answer in answers] == [True, False, True, False]
    assert answers[1] == answers[3] == PICTURE
