"""A hostile server, and managers that try once and are closed again."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from imagecache import ImageManager
from imagecache.network.retry import BackoffRetryStrategy
from tests.network.certificate import LOOPBACK, certificate_for
from tests.network.server import RawServer

MakeManager = Callable[..., ImageManager]


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
async def make(tmp_path: Path) -> AsyncIterator[MakeManager]:
    """Makes managers on one folder that try once unless told otherwise, and closes them."""
    async with AsyncExitStack() as stack:

        def maker(**options: Any) -> ImageManager:
            options.setdefault("directory", tmp_path / "cache")
            options.setdefault("retry", BackoffRetryStrategy(1))
            manager = ImageManager(**options)
            stack.push_async_callback(manager.aclose)
            return manager

        yield maker


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for localhost and 127.0.0.1."""
    path = tmp_path / "certificate.pem"
    path.write_text(certificate_for(*LOOPBACK), "ascii")
    return path


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts that certificate."""
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
async def tls_server(certificate: Path) -> AsyncIterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    raw = RawServer()
    await raw.start(context)
    yield raw
    await raw.stop()
