"""What `cancel` and `cancel_all` end, with which error, and that the same URL may be asked for again at once."""

from __future__ import annotations

import asyncio

import pytest

from imagecache.errors import DownloadCancelledError
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions
from imagecache.protocols import RetryContext
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer
from tests.network.test_download import Recorder


class Hanging:
    """Never answers the first request; hears when its client has gone."""

    def __init__(self) -> None:
        self.come, self.gone = asyncio.Event(), asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if self.come.is_set():
            await exchange.reply(body=PNG)
            return
        self.come.set()
        await exchange.is_gone()
        self.gone.set()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_all_downloads_of_the_url_end_down_to_the_socket_and_no_others(
    server: RawServer, make: MakeDownloader
) -> None:
    hanging, downloader = Hanging(), make(NetworkOptions(per_host=1))
    url, other = server.on("/a", hanging), server.serve("/b")
    first = asyncio.create_task(downloader.download(url + "#one"))
    await hanging.come.wait()
    queued, left_alone = (asyncio.create_task(downloader.download(u)) for u in (url, other))
    await turns()
    downloader.cancel(url)
    for download in (first, queued):
        with pytest.raises(DownloadCancelledError, match="was cancelled"):
            await download
    await hanging.gone.wait()
    assert (await left_alone).body == PNG
    assert server.paths() == ["/a", "/b"]
    assert downloader.active == downloader.waiting == 0


async def test_cancelled_and_asked_again_at_once_is_a_new_download(server: RawServer, make: MakeDownloader) -> None:
    hanging, downloader = Hanging(), make()
    url = server.on("/a", hanging)
    first = asyncio.create_task(downloader.download(url))
    await hanging.come.wait()
    downloader.cancel(url)
    second = asyncio.create_task(downloader.download(url))
    with pytest.raises(DownloadCancelledError):
        await first
    assert (await second).body == PNG


async def test_cancel_all_ends_everything(server: RawServer, make: MakeDownloader) -> None:
    one, two, downloader = Hanging(), Hanging(), make()
    urls = [server.on("/a", one), server.on("/b", two)]
    downloads = [asyncio.create_task(downloader.download(url)) for url in urls]
    await one.come.wait()
    await two.come.wait()
    downloader.cancel_all()
    ended = await asyncio.gather(*downloads, return_exceptions=True)
    assert [type(error) for error in ended] == [DownloadCancelledError] * 2
    # The downloader goes on.
    assert (await downloader.download(urls[0])).body == PNG


async def test_what_was_cancelled_is_never_tried_again_and_no_strategy_is_asked(
    server: RawServer, make: MakeDownloader
) -> None:
    asked: list[RetryContext] = []

    class Stubborn:
        def retry_delay(self, context: RetryContext) -> float | None:
            asked.append(context)
            return 0

    hanging, downloader = Hanging(), make(retry=Stubborn())
    url = server.on("/a", hanging)
    download = asyncio.create_task(downloader.download(url))
    await hanging.come.wait()
    downloader.cancel(url)
    with pytest.raises(DownloadCancelledError):
        await download
    assert asked == []


async def test_a_wait_between_two_tries_ends_as_well(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    downloader = make(retry=BackoffRetryStrategy(3, base=4), clock=clock)
    url = server.serve("/a", status=503)
    download = asyncio.create_task(downloader.download(url))
    while not server.requests or downloader.active:
        await clock.elapse(0)
    downloader.cancel(url)
    with pytest.raises(DownloadCancelledError):
        await download
    assert clock.pending == 0


async def test_delegates_are_told_once_that_it_was_cancelled(server: RawServer, make: MakeDownloader) -> None:
    hanging, downloader, recorder = Hanging(), make(), Recorder()
    downloader.add_delegate(recorder)
    url = server.on("/a", hanging)
    download = asyncio.create_task(downloader.download(url))
    await hanging.come.wait()
    downloader.cancel(url)
    with pytest.raises(DownloadCancelledError):
        await download
    assert recorder.heard.count("did_finish_downloading_image") == 1
    assert isinstance(recorder.error, DownloadCancelledError)


async def test_the_callers_own_cancellation_stays_its_own(server: RawServer, make: MakeDownloader) -> None:
    hanging, downloader = Hanging(), make()
    url = server.on("/a", hanging)
    download = asyncio.create_task(downloader.download(url))
    await hanging.come.wait()
    downloader.cancel(url)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download


async def test_nothing_under_way_is_nothing_to_cancel(make: MakeDownloader) -> None:
    downloader = make()
    downloader.cancel("http://a.example/")
    downloader.cancel_all()
