"""What the tests of the testing tools share: a server, and a bare client that hides nothing."""

from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

import imagecache
from imagecache.testing import ImageServer

PLUGIN = "imagecache.testing.plugin"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ImageServer]:
    async with ImageServer() as running:
        yield running


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # A connection of its own for each request, so that no test depends on how the one before it ended.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as opened:
        yield opened


@pytest.fixture
def plugin_arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a pytest in a process of its own needs to find the package and its plugin, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(imagecache.__file__).parents[1]))
    is_installed = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
    scope = "asyncio_default_fixture_loop_scope=function"
    return ["-p", "no:randomly", "-o", scope, *([] if is_installed else ["-p", PLUGIN])]
