"""What the network's tests share: raw servers on loopback and downloaders that are closed again."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.testing.clock import FakeClock
from tests.network.certificate import LOOPBACK, certificate_for
from tests.network.server import RawServer

MakeDownloader = Callable[..., ImageDownloader]
MakeServer = Callable[[], Awaitable[RawServer]]


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    raw = RawServer()
    await raw.start()
    yield raw
    await raw.stop()


@pytest.fixture
async def other_server() -> AsyncIterator[RawServer]:
    raw = RawServer()
    await raw.start()
    yield raw
    await raw.stop()


@pytest.fixture
async def tls_server(certificate: Path) -> AsyncIterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    raw = RawServer()
    await raw.start(context)
    yield raw
    await raw.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_text(certificate_for(*LOOPBACK), "ascii")
    return path


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts the test certificate."""
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def make() -> AsyncIterator[MakeDownloader]:
    """Makes downloaders that try once unless told otherwise, and closes them."""
    async with AsyncExitStack() as stack:

        def maker(*args: Any, **options: Any) -> ImageDownloader:
            options.setdefault("retry", BackoffRetryStrategy(1))
            downloader = ImageDownloader(*args, **options)
            stack.push_async_callback(downloader.aclose)
            return downloader

        yield maker


@pytest.fixture
def downloader(make: MakeDownloader) -> ImageDownloader:
    return make()
