"""A hostile server, and managers that try once and are closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from imagecache import ImageManager
from imagecache.network.retry import BackoffRetryStrategy
from tests.network.conftest import (
    certificate,
    other_server,
    server,
    tls_server,
    trusting,
)

# Fixtures of the network's tests, and of these.
__all__ = ["certificate", "other_server", "server", "tls_server", "trusting"]

MakeManager = Callable[..., ImageManager]


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
