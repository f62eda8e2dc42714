"""The pytest plugin, found by its entry point: fixtures ``image_cache`` and ``image_server``.

Every test run where imagecache is installed imports this module: it loads neither aiohttp nor Pillow, nor the
library itself, before a fixture is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

try:
    # Its own decorator, so that strict mode knows the fixtures for asynchronous ones.
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    # anyio's plugin takes plain ones.
    async_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from imagecache.manager import ImageManager

    from .server import ImageServer


@async_fixture
async def image_cache(tmp_path: Path) -> AsyncIterator[ImageManager]:
    """An ImageManager in a folder of the test's own, which ``imagecache.fetch_image`` and its like use, too."""
    from imagecache.default import override_default
    from imagecache.manager import ImageManager

    async with ImageManager("test", directory=tmp_path / "imagecache") as manager:
        with override_default(manager):
            yield manager


@async_fixture
async def image_server() -> AsyncIterator[ImageServer]:
    """A running ImageServer of the test's own."""
    from .server import ImageServer

    async with ImageServer() as server:
        yield server
