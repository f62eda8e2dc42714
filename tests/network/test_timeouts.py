"""The limits of time, each by name, on a clock that the test moves; and cancellation, which is no timeout."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from imagecache.clock import SystemClock
from imagecache.errors import ConnectionFailedError, RequestModifierError, TimedOutError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.request import DownloadRequest
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer


class Script:
    """A handler that sends a piece each time it is told to."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    async def __call__(self, exchange: Exchange) -> None:
        self.arrived.set()
        watcher = asyncio.create_task(exchange.is_gone())
        try:
            while True:
                piece = asyncio.create_task(self._pieces.get())
                done, _ = await asyncio.wait({piece, watcher}, return_when=asyncio.FIRST_COMPLETED)
                if piece in done:
                    await exchange.send(piece.result())
                else:
                    piece.cancel()
                    self.gone.set()
                    return
        finally:
            watcher.cancel()


async def fails(download: asyncio.Task[object]) -> TimedOutError:
    with pytest.raises(TimedOutError) as caught:
        await download
    return caught.value


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
# The script reads until the client is gone, so that no second request goes over its connection.
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"


async def test_a_server_that_says_nothing_runs_into_the_idle_timeout(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    script = Script()
    download = asyncio.create_task(make(clock=clock).download(server.on("/a", script)))
    await script.arrived.wait()
    clock.advance(9.9)
    await asyncio.sleep(0)
    assert not download.done()
    clock.advance(0.2)
    error = await fails(download)
    assert error.limit == "idle"
    assert error.url == server.base + "/a"
    await script.gone.wait()


async def test_a_head_that_drips_runs_into_the_idle_timeout(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    script = Script()
    download = asyncio.create_task(make(clock=clock).download(server.on("/a", script), total=None))
    await script.arrived.wait()
    for byte in HEAD[:4]:
        script.send(bytes([byte]))
        await clock.elapse(3)
    assert (await fails(download)).limit == "idle"


async def test_a_body_that_stops_runs_into_the_idle_timeout(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    script, came = Script(), asyncio.Event()
    timeouts = Timeouts(min_rate=0)
    downloader = make(NetworkOptions(timeouts=timeouts), clock=clock)
    url = server.on("/a", script)
    download = asyncio.create_task(downloader.download(url, progress=lambda *p: came.set()))
    for _ in range(3):
        came.clear()
        script.send(HEAD + b"x")
        await came.wait()
        clock.advance(9)
    clock.advance(2)
    assert (await fails(download)).limit == "idle"


async def test_a_body_that_drips_runs_into_the_minimum_rate(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    script, came = Script(), asyncio.Event()
    url = server.on("/a", script)
    download = asyncio.create_task(make(clock=clock).download(url, total=None, progress=lambda *p: came.set()))
    script.send(HEAD + bytes(20_000))
    await came.wait()
    clock.advance(5)
    for _ in range(3):  # The first window was fast enough; the second one is not.
        came.clear()
        script.send(b"x")
        await came.wait()
        clock.advance(5)
    assert (await fails(download)).limit == "rate"


async def test_the_total_ends_what_no_other_limit_does(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    script, came = Script(), asyncio.Event()
    url = server.on("/a", script)
    download = asyncio.create_task(make(clock=clock).download(url, total=20, progress=lambda *p: came.set()))
    script.send(HEAD)
    for _ in range(4):
        came.clear()
        script.send(bytes(20_000))
        await came.wait()
        clock.advance(5.1)
    assert (await fails(download)).limit == "total"


async def test_connecting_has_its_own_limit(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    # A server that takes the connection and never shakes hands: TLS is part of connecting.
    url = server.base.replace("http:", "https:") + "/a"
    downloader = make(NetworkOptions(timeouts=Timeouts(connect=3)), clock=clock)
    download = asyncio.create_task(downloader.download(url))
    await server.was_reached.wait()
    clock.advance(2.9)
    await asyncio.sleep(0)
    assert not download.done()
    clock.advance(0.2)
    assert (await fails(download)).limit == "connect"
    await server.all_closed()


async def test_the_total_does_not_run_while_queued(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    first, second = Script(), Script()
    started: list[float] = []
    downloader = make(NetworkOptions(per_host=1), clock=clock)
    slow = asyncio.create_task(downloader.download(server.on("/slow", first)))
    await first.arrived.wait()
    queued = asyncio.create_task(
        downloader.download(server.on("/second", second), total=7, on_start=lambda: started.append(clock.monotonic()))
    )
    await clock.elapse(9)
    assert not started
    first.send(ANSWER)
    await slow
    await second.arrived.wait()
    assert started == [clock.monotonic()]
    clock.advance(6.5)
    second.send(ANSWER)
    download = await queued
    assert download.metrics.queue == 9
    assert download.metrics.total == 15.5


async def test_the_callers_own_cancellation_is_not_a_timeout(server: RawServer, downloader: ImageDownloader) -> None:
    script = Script()
    download = asyncio.create_task(downloader.download(server.on("/a", script)))
    await script.arrived.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    await script.gone.wait()


@pytest.mark.parametrize("is_cancelled_first", [True, False])
async def test_the_callers_cancellation_goes_before_a_timeout_in_the_same_moment(
    server: RawServer, make: MakeDownloader, clock: FakeClock, is_cancelled_first: bool
) -> None:
    script = Script()
    download = asyncio.create_task(make(clock=clock).download(server.on("/a", script)))
    await script.arrived.wait()
    if is_cancelled_first:
        download.cancel()
    clock.advance(20)
    if not is_cancelled_first:
        download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download


async def test_a_cancellation_that_is_not_the_callers_is_a_failure(server: RawServer, make: MakeDownloader) -> None:
    async def gives_up(*_: object) -> None:
        raise asyncio.CancelledError

    traces = aiohttp.TraceConfig()
    traces.on_request_start.append(gives_up)
    async with aiohttp.ClientSession(trace_configs=[traces]) as session:
        with pytest.raises(ConnectionFailedError, match="was cancelled"):
            await make(session=session).download(server.serve("/a"))


async def test_a_modifier_that_ends_in_a_cancellation_of_its_own_has_failed(
    server: RawServer, downloader: ImageDownloader
) -> None:
    async def gives_up(request: DownloadRequest) -> DownloadRequest:
        raise asyncio.CancelledError

    downloader.add_request_modifier(gives_up)
    with pytest.raises(RequestModifierError):
        await downloader.download(server.serve("/a"))


async def test_cancelling_in_mid_body_closes_the_connection_and_frees_the_slot(
    server: RawServer, make: MakeDownloader
) -> None:
    script, came = Script(), asyncio.Event()
    downloader = make(NetworkOptions(per_host=1))
    download = asyncio.create_task(downloader.download(server.on("/a", script), progress=lambda *p: came.set()))
    script.send(HEAD + b"x")
    await came.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    await script.gone.wait()
    assert (await downloader.download(server.serve("/b"))).body == PNG


async def test_a_callers_own_asyncio_timeout_works_around_it(server: RawServer, downloader: ImageDownloader) -> None:
    script = Script()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await downloader.download(server.on("/a", script))
    assert type(caught.value) is TimeoutError


async def test_the_limits_hold_on_the_machines_own_clock(server: RawServer, make: MakeDownloader) -> None:
    downloader = make(NetworkOptions(timeouts=Timeouts(idle=0.05)), clock=SystemClock())
    with pytest.raises(TimedOutError) as caught:
        await downloader.download(server.on("/a", Script()))
    assert caught.value.limit == "idle"
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("field", ["connect", "idle", "total", "rate_window", "min_rate"])
def test_limits_that_make_no_sense_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Timeouts(**{field: -1})
