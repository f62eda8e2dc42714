"""A server and a manager on a folder of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import ImageManager
from imagecache.testing import ImageServer


@pytest.fixture
async def server() -> AsyncIterator[ImageServer]:
    async with ImageServer() as running:
        yield running


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache") as manager:
        yield manager
