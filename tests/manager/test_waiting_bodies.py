"""Long bodies whose images wait for the decode budget wait on the disk: a crowd of photographs must not fill the
memory before the first of them is decoded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import ImageManager, ServedFrom
from imagecache.pipeline.load import CARRIED
from imagecache.testing import ImageServer, picture

CROWD = 8


@pytest.fixture
def urls(server: ImageServer) -> list[str]:
    bodies = [picture(800, 600, seed=number, format="BMP") for number in range(CROWD)]
    assert min(map(len, bodies)) > CARRIED
    return [server.add(f"/{number}.bmp", body) for number, body in enumerate(bodies)]


@contextlib.asynccontextmanager
async def nothing_left_of_the_budget(images: ImageManager) -> AsyncIterator[None]:
    """Until the end of this, every decode waits."""
    images.start()
    release = threading.Event()
    work = asyncio.create_task(images._workers.run(release.wait, 30, cost=1))
    await asyncio.sleep(0)
    assert images._workers.is_busy
    try:
        yield
    finally:
        release.set()
        await work


async def turn() -> None:
    await asyncio.sleep(0)


async def until_waiting(images: ImageManager, count: int) -> None:
    """Let the loop turn until so many decodes wait for the budget."""
    while images._workers.waiting < count:
        await turn()


async def waiting_bytes(images: ImageManager, urls: list[str]) -> tuple[int, set[ServedFrom]]:
    """What is held while all wait for the budget, and where they come from, once they may go on."""
    tracemalloc.start()
    try:
        async with asyncio.timeout(60), nothing_left_of_the_budget(images):
            calls = [asyncio.create_task(images.fetch(url)) for url in urls]
            await until_waiting(images, len(urls))
            held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    results = await asyncio.gather(*calls)
    return held, {result.served_from for result in results}


async def test_bodies_from_the_network_do_not_wait_in_memory(urls: list[str], tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path, decode_budget=1) as images:
        held, sources = await waiting_bytes(images, urls)
    assert held < 2 * CARRIED
    assert sources == {ServedFrom.NETWORK}


async def test_bodies_from_the_disk_do_not_wait_in_memory(urls: list[str], tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path) as images:
        await images.prefetch(urls)
    async with ImageManager(directory=tmp_path, decode_budget=1) as images:
        held, sources = await waiting_bytes(images, urls)
    assert held < 2 * CARRIED
    assert sources == {ServedFrom.DISK}


async def test_without_a_disk_they_wait_where_they_are(urls: list[str]) -> None:
    async with ImageManager(disk_limit=0, decode_budget=1) as images:
        held, sources = await waiting_bytes(images, urls)
    assert held > CROWD * CARRIED
    assert sources == {ServedFrom.NETWORK}


async def test_one_whose_stored_bytes_go_while_it_waits_is_loaded_again(
    urls: list[str], server: ImageServer, tmp_path: Path
) -> None:
    async with ImageManager(directory=tmp_path, decode_budget=1) as images:
        async with asyncio.timeout(60), nothing_left_of_the_budget(images):
            call = asyncio.create_task(images.fetch(urls[0]))
            await until_waiting(images, 1)
            await images.cache.remove(urls[0])
        result = await call
        assert result.image.size == (800, 600)
    assert server.count() == 2


async def test_an_animation_is_opened_within_the_budget(server: ImageServer, tmp_path: Path) -> None:
    # Opening decodes an icon, and makes the canvases of a WebP.
    async with ImageManager(directory=tmp_path, decode_budget=1) as images:
        result = await images.fetch(server.add("/a.ico", picture(64, 64, format="ICO")))
        async with asyncio.timeout(60), nothing_left_of_the_budget(images):
            opening = asyncio.create_task(result.animation())
            await until_waiting(images, 1)
        (await opening).close()
