"""What memory keeps of real images: by the bytes of their pixels, the least recently used first, and for its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import ImageManager, Resize, ServedFrom
from imagecache.pipeline import machine
from imagecache.storage.memory import SWEEP_INTERVAL
from imagecache.testing import FakeClock, ImageServer, picture

COST = 32 * 32 * 4
"""Bytes of pixels of each picture here: RGB takes four for each, as Pillow holds it."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path, clock=clock, memory_limit=3 * COST) as manager:
        yield manager


async def sources(images: ImageManager, urls: list[str]) -> list[ServedFrom]:
    """Where each comes from now; nothing that is in memory already is changed by looking, but for its turn."""
    return [(await images.fetch(url)).served_from for url in urls]


async def test_the_limit_holds_after_every_image_and_counts_pixels(server: ImageServer, images: ImageManager) -> None:
    for number in range(10):
        await images.fetch_image(server.add(f"/{number}.png", picture(32, 32, seed=number)))
        assert images.cache.memory.cost == min(number + 1, 3) * COST
    # Of one image's own processed form the same is true.
    await images.fetch_image(server.url("/9.png"), processors=[Resize(16, 16)])
    assert images.cache.memory.cost == 2 * COST + COST // 4


async def test_a_hit_is_a_use_and_the_least_recently_used_goes(server: ImageServer, images: ImageManager) -> None:
    urls = [server.add(f"/{number}.png", picture(32, 32, seed=number)) for number in range(4)]
    for url in urls[:3]:
        await images.fetch_image(url)
    await images.fetch_image(urls[0])
    await images.fetch_image(urls[3])
    kept = [urls[0], urls[2], urls[3]]
    assert await sources(images, kept) == [ServedFrom.MEMORY] * 3
    assert await sources(images, [urls[1]]) == [ServedFrom.DISK]


async def test_a_hit_extends_how_long_an_image_is_kept(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    used, unused = (server.add(f"/{name}.png", picture(32, 32)) for name in ("used", "unused"))
    await images.fetch_image(used)
    await images.fetch_image(unused)
    for _ in range(3):
        clock.advance(200)
        assert (await images.fetch(used)).served_from is ServedFrom.MEMORY
    assert (await images.fetch(unused)).served_from is ServedFrom.DISK
    clock.advance(300)
    assert (await images.fetch(used)).served_from is ServedFrom.DISK
    assert server.count() == 2


async def test_what_is_not_looked_at_leaves_memory_by_itself(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", picture(32, 32))
    await images.fetch_image(url)
    await images.fetch_image(server.add("/short.png", picture(32, 32, seed=1)), memory_expiration=10)
    assert images.cache.memory.cost == 2 * COST
    await clock.elapse(SWEEP_INTERVAL)
    assert images.cache.memory.cost == COST
    await clock.elapse(3 * SWEEP_INTERVAL)
    assert (images.cache.memory.cost, images.cache.memory.is_empty) == (0, True)
    assert (await images.fetch(url)).served_from is ServedFrom.DISK


async def test_a_closed_manager_leaves_no_timer(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with ImageManager(directory=tmp_path, clock=clock) as images:
        await images.fetch_image(server.add("/a.png", picture(32, 32)))
        assert clock.pending
    assert clock.pending == 0


async def test_after_shrinking_what_somebody_holds_comes_back_without_a_decode(
    server: ImageServer, images: ImageManager
) -> None:
    urls = [server.add(f"/{number}.png", picture(32, 32, seed=number)) for number in range(3)]
    held = [await images.fetch_image(url) for url in urls[:2]]
    await images.fetch_image(urls[2])
    assert images.cache.memory.shrink(0) == 3
    assert images.cache.memory.cost == 0
    assert await sources(images, urls[:2]) == [ServedFrom.MEMORY] * 2
    assert images.counters.decodes == 3
    assert images.cache.memory.cost == 2 * COST
    assert len(held) == 2
    # Of the third, nobody held a thing.
    assert await sources(images, urls[2:]) == [ServedFrom.DISK]
    assert images.counters.decodes == 4


async def test_an_image_with_a_large_profile_does_not_pass_for_a_small_one(
    server: ImageServer, images: ImageManager
) -> None:
    profile = bytes(range(256)) * 4 * 7
    await images.fetch_image(server.add("/a.png", picture(8, 8, icc_profile=profile)))
    assert len(images.cache.memory) == 0, "it takes more than half of the limit"


async def test_the_limit_is_an_eighth_of_what_the_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_limits", lambda root: [2**30, 80 * 2**20])
    async with ImageManager(directory=tmp_path) as images:
        assert images.cache.memory.limit == 10 * 2**20
