"""TLS: what is not trusted is not heard, and nothing leaves it for plain HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagecache.errors import ConnectionFailedError, NetworkError, RedirectError, TimedOutError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy, is_worth_retrying
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.request import DownloadRequest
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import PICTURE, hangs, head, resets, says, sized
from tests.network.certificate import LOOPBACK, certificate_for
from tests.network.server import RawServer

LONG_AGO, FAR_OFF = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2090))

MakeTlsServer = Callable[[str], Awaitable[RawServer]]


@pytest.fixture
async def make_tls_server(tmp_path: Path) -> AsyncIterator[MakeTlsServer]:
    """Starts a server with this key and certificate."""
    async with AsyncExitStack() as stack:

        async def maker(pem: str) -> RawServer:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pem"
            path.write_text(pem, "ascii")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
            raw = RawServer()
            await raw.start(context)
            stack.push_async_callback(raw.stop)
            return raw

        yield maker


def trusts(pem: str) -> ssl.SSLContext:
    """A client's context that trusts what signed this."""
    return ssl.create_default_context(cadata=pem[pem.index("-----BEGIN CERT") :])


@pytest.fixture
async def make_downloader() -> AsyncIterator[Callable[[ssl.SSLContext | bool], ImageDownloader]]:
    async with AsyncExitStack() as stack:

        def maker(context: ssl.SSLContext | bool) -> ImageDownloader:
            made = ImageDownloader(
                NetworkOptions(ssl=context, timeouts=Timeouts(connect=5)), retry=BackoffRetryStrategy(1)
            )
            stack.push_async_callback(made.aclose)
            return made

        yield maker


MakeDownloader = Callable[[ssl.SSLContext | bool], ImageDownloader]


@pytest.mark.parametrize(
    ("make_pem", "why"),
    [
        (lambda: certificate_for("other.example"), "not valid for '127.0.0.1'"),
        (lambda: certificate_for(*LOOPBACK, not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=30)), "expired"),
        (
            lambda: certificate_for(*LOOPBACK, not_before=FAR_OFF, not_after=FAR_OFF + timedelta(days=30)),
            "not yet valid",
        ),
    ],
    ids=["another host's", "expired", "not yet valid"],
)
async def test_a_certificate_that_does_not_hold_is_refused_though_its_issuer_is_trusted(
    make_tls_server: MakeTlsServer, make_downloader: MakeDownloader, make_pem: Callable[[], str], why: str
) -> None:
    pem = make_pem()
    server = await make_tls_server(pem)
    url = server.on("/a", says(sized()))
    with pytest.raises(ConnectionFailedError, match=why) as caught:
        await make_downloader(trusts(pem)).download(url)
    assert caught.value.__cause__ is not None
    assert not is_worth_retrying(caught.value)
    assert not server.requests
    # Whoever asks for no verification gets none.
    assert (await make_downloader(False).download(url)).body == PICTURE


async def test_a_certificate_that_nobody_signed_is_refused_by_default(tls_server: RawServer, make: MakeManager) -> None:
    url = tls_server.on("/a", says(sized()))
    images = make()
    with pytest.raises(ConnectionFailedError, match="not trusted"):
        await images.fetch_image(url)
    assert not tls_server.requests
    assert (await images.explain(url)).entry is None


async def test_no_redirect_leads_from_https_to_http(
    tls_server: RawServer, server: RawServer, trusting: ssl.SSLContext, make_downloader: MakeDownloader
) -> None:
    goal = server.on("/goal", says(sized()))
    downloader = make_downloader(trusting)
    for location in (goal, goal.replace("http:", "HTTP:")):
        url = tls_server.on("/a", says(sized(b"", f"Location: {location}", status="301 Moved")))
        with pytest.raises(RedirectError, match="leaves https for http"):
            await downloader.download(url)
    # Nor by a detour over https.
    tls_server.on("/detour", says(sized(b"", "Location: /a", status="302 Found")))
    with pytest.raises(RedirectError, match="leaves https for http"):
        await downloader.download(tls_server.base + "/detour")
    assert not server.connections
    assert (await downloader.download(tls_server.on("/b", says(sized())))).body == PICTURE


async def test_a_redirect_from_http_to_https_carries_no_credentials(
    tls_server: RawServer, server: RawServer, trusting: ssl.SSLContext, make_downloader: MakeDownloader
) -> None:
    goal = tls_server.on("/goal", says(sized()))
    url = server.on("/a", says(sized(b"", f"Location: {goal}", status="302 Found")))
    request = DownloadRequest(url).with_headers({"Authorization": "Bearer s", "X-Api-Key": "s"})
    assert (await make_downloader(trusting).download(request)).body == PICTURE
    assert not {"authorization", "x-api-key"} & set(tls_server.requests[0].headers)


async def test_plain_http_at_the_port_of_tls_is_an_error(
    tls_server: RawServer, trusting: ssl.SSLContext, make_downloader: MakeDownloader
) -> None:
    with pytest.raises(NetworkError):
        await make_downloader(trusting).download(tls_server.base.replace("https:", "http:") + "/a")
    assert not tls_server.requests


async def test_a_body_cut_within_tls_is_not_whole(
    tls_server: RawServer, trusting: ssl.SSLContext, make_downloader: MakeDownloader
) -> None:
    url = tls_server.on("/a", resets(head(f"Content-Length: {len(PICTURE)}") + PICTURE[:50]))
    with pytest.raises(NetworkError):
        await make_downloader(trusting).download(url)


async def test_a_handshake_that_hangs_is_a_connect_timeout(server: RawServer, make: MakeManager) -> None:
    images = make(timeouts=Timeouts(connect=0.3), timeout=30)
    async with asyncio.timeout(30):
        with pytest.raises(TimedOutError) as caught:
            await images.fetch_image(server.on("/a", hangs()).replace("http:", "https:"))
    assert caught.value.limit == "connect"
    await server.all_closed()
