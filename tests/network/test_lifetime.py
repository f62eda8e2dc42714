"""Sessions and the end: made late, closed whole, never somebody else's; TLS; no warning at a program's end."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest

from imagecache.errors import BadStatusError, ConnectionFailedError, ManagerClosedError, TimedOutError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.protocols import RetryContext
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer
from tests.network.test_download import Recorder


def test_a_downloader_may_be_made_without_a_loop() -> None:
    assert ImageDownloader().options == NetworkOptions()


async def test_closing_ends_what_is_under_way_and_what_waits(server: RawServer, make: MakeDownloader) -> None:
    arrived = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        arrived.set()
        await exchange.is_gone()

    downloader = make(NetworkOptions(per_host=1))
    recorder = Recorder()
    downloader.add_delegate(recorder)
    url = server.on("/a", hang)
    downloads = [asyncio.create_task(downloader.download(url)) for _ in range(2)]
    await arrived.wait()
    await downloader.aclose()
    for download in downloads:
        with pytest.raises(ManagerClosedError) as caught:
            await download
        assert caught.value.url == url
    assert recorder.heard.count("did_finish_downloading_image") == 2
    await server.all_closed()
    with pytest.raises(ManagerClosedError):
        await downloader.download(url)
    await downloader.aclose()


async def test_closing_twice_at_once_waits_for_the_same_end_and_no_strategy_goes_on(
    server: RawServer, make: MakeDownloader
) -> None:
    class Stubborn:
        def retry_delay(self, context: RetryContext) -> float | None:
            return 0.0

    arrived = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        arrived.set()
        await exchange.is_gone()

    downloader = make(retry=Stubborn())
    download = asyncio.create_task(downloader.download(server.on("/a", hang)))
    await arrived.wait()
    await asyncio.gather(downloader.aclose(), downloader.aclose())
    with pytest.raises(ManagerClosedError):
        await download


async def test_an_injected_session_works_and_stays_open(server: RawServer, make: MakeDownloader) -> None:
    async with aiohttp.ClientSession(headers={"X-Theirs": "1"}, raise_for_status=True) as session:
        downloader = make(session=session)
        assert (await downloader.download(server.serve("/a"))).body == PNG
        assert server.requests[0].headers["x-theirs"] == "1"
        with pytest.raises(BadStatusError):
            await downloader.download(server.base + "/missing")
        await downloader.aclose()
        assert not session.closed
        async with session.get(server.base + "/a") as response:
            assert await response.read() == PNG


async def test_an_injected_session_has_our_limits_of_time(server: RawServer, make: MakeDownloader) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.is_gone()

    async with aiohttp.ClientSession() as session:
        downloader = make(NetworkOptions(timeouts=Timeouts(connect=0.05, idle=0.05)), session=session)
        with pytest.raises(TimedOutError) as caught:
            await downloader.download(server.on("/a", hang))
        assert caught.value.limit == "idle"
    with pytest.raises(ConnectionFailedError):
        await downloader.download(server.base + "/a")


def test_a_downloader_belongs_to_one_loop() -> None:
    downloader = ImageDownloader()

    async def use() -> None:
        with pytest.raises(ConnectionFailedError):
            await downloader.download("http://127.0.0.1:1/")

    async def close() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await downloader.download("http://127.0.0.1:1/")

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use())
        second.run(close())
        first.run(downloader.aclose())


# TLS


async def test_tls_with_a_trusted_certificate(
    tls_server: RawServer, make: MakeDownloader, trusting: ssl.SSLContext
) -> None:
    downloader = make(NetworkOptions(ssl=trusting))
    download = await downloader.download(tls_server.serve("/a"))
    assert download.body == PNG
    again = await downloader.download(tls_server.base + "/a")
    assert again.body == PNG
    assert tls_server.connections == 1
    assert min(download.metrics.connect, download.metrics.tls) > 0
    assert (again.metrics.dns, again.metrics.connect, again.metrics.tls) == (0, 0, 0)


async def test_a_certificate_that_is_not_trusted_is_refused_and_not_tried_again(
    tls_server: RawServer, make: MakeDownloader
) -> None:
    with pytest.raises(ConnectionFailedError, match=r"certificate of 127\.0\.0\.1 is not trusted") as caught:
        await make(retry=None).download(tls_server.serve("/a"))
    assert caught.value.__cause__ is not None
    assert not tls_server.requests


async def test_a_certificate_for_another_host_is_refused(
    tls_server: RawServer, make: MakeDownloader, trusting: ssl.SSLContext
) -> None:
    url = tls_server.serve("/a").replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(ConnectionFailedError):
        await make(NetworkOptions(ssl=trusting)).download(url)


async def test_plain_http_where_tls_is_expected_is_an_error(server: RawServer, make: MakeDownloader) -> None:
    async def plain() -> None:
        await make().download(server.base.replace("http:", "https:") + "/a")

    download = asyncio.create_task(plain())
    await server.was_reached.wait()
    await server.stop()
    with pytest.raises(ConnectionFailedError):
        await download
    await server.start()


PROGRAM = """
    import asyncio, ssl, sys
    from imagecache.network.downloader import ImageDownloader
    from imagecache.network.settings import NetworkOptions
    from tests.network.server import RawServer

    async def main():
        # How long a step takes says something of the machine only.
        asyncio.get_running_loop().slow_callback_duration = 60
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(sys.argv[1])
        client_side = ssl.create_default_context(cafile=sys.argv[1])
        for context in (None, server_side):
            server = RawServer()
            await server.start(context)
            downloader = ImageDownloader(NetworkOptions(ssl=client_side))
            url = server.serve("/a")
            await asyncio.gather(*[downloader.download(url) for _ in range(4)])
            hanging = asyncio.create_task(downloader.download(server.on("/b", lambda exchange: exchange.is_gone())))
            while "/b" not in server.paths():
                await asyncio.sleep(0)
            hanging.cancel()
            await asyncio.wait([hanging])
            await downloader.aclose()
            await server.all_closed()
            await server.stop()
        assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    asyncio.run(main())
"""


def test_a_program_that_closes_its_downloader_ends_without_a_warning(certificate: Path) -> None:
    program = textwrap.dedent(PROGRAM)
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(certificate)],
        capture_output=True, text=True, check=False, cwd=root, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_settings_and_the_nouns_do_not_import_aiohttp() -> None:
    program = (
        "import sys, imagecache.delegate, imagecache.network.settings, imagecache.network.retry\n"
        "assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=str(Path(__file__).parents[2]))
