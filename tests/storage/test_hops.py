"""A read from the disk costs one hop to a thread and back, whatever it reads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from imagecache import ImageManager
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.readers import THREADS
from imagecache.testing import FakeClock, ImageServer, picture

from .entries import entry_for
from .test_disk import body_of


async def are_at_rest(disk: DiskStorage) -> None:
    """Wait until no thread of the disk's has anything left to do."""
    # The sweep that follows an opening is a chain of jobs of its own.
    for _ in range(10):
        await disk.poll()
    assert disk._store is not None
    # A reader that has given its answer back looks for more before it sleeps: the next read would need no hop.
    barrier, executor = threading.Barrier(THREADS), disk._store.readers._executor
    await asyncio.gather(
        *(asyncio.get_running_loop().run_in_executor(executor, barrier.wait, 10) for _ in range(THREADS))
    )


@pytest.mark.parametrize("size", [100, INLINE_LIMIT, INLINE_LIMIT + 1])
async def test_a_load_is_one_hop(disk: DiskStorage, clock: FakeClock, hops: list[object], size: int) -> None:
    entry = entry_for(clock, bytes(size))
    await disk.put(entry, bytes(size))
    await disk.flush()
    assert await body_of(disk, entry) == bytes(size)
    await are_at_rest(disk)
    hops.clear()
    assert await body_of(disk, entry) == bytes(size)
    assert len(hops) == 1


@pytest.mark.parametrize("size", [16, 400, 700])
async def test_so_are_the_bytes_of_a_stored_image(tmp_path: Path, hops: list[object], size: int) -> None:
    async with ImageServer() as server, ImageManager(directory=tmp_path, clock=FakeClock()) as images:
        url = server.add("/a.bmp", picture(size, size, format="BMP"))
        await images.fetch_data(url)
        await images.cache.flush()
        await are_at_rest(images.cache.disk)
        hops.clear()
        assert await images.fetch_data(url) == picture(size, size, format="BMP")
        assert len(hops) == 1
