"""How long what several want is kept: the longest wish of those who wait, and each image's own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import CachePolicy, ImageManager, NotInCacheError, Resize, ServedFrom, StorageExpiration
from imagecache.request import FetchOptions
from imagecache.testing import FakeClock, ImageServer

ONLY = CachePolicy.CACHE_ONLY


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock, disk_expiration=60) as manager:
        yield manager


@pytest.mark.parametrize("wishes", [(10, 1000), (1000, 10), (10, None, 1000)])
async def test_of_those_who_wait_whoever_wants_bytes_kept_longest_has_its_way(
    server: ImageServer, images: ImageManager, clock: FakeClock, wishes: tuple[float | None, ...]
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    options = [FetchOptions() if wish is None else FetchOptions(disk_expiration=wish) for wish in wishes]
    calls = [asyncio.create_task(images.fetch_data(url, **option)) for option in options]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    clock.advance(900)
    assert await images.fetch_data(url, policy=ONLY) == server.body("/a.png")
    assert server.count() == 1
    # What an access extends it by is that wish, too.
    clock.advance(900)
    assert await images.fetch_data(url, policy=ONLY)
    clock.advance(1100)
    with pytest.raises(NotInCacheError):
        await images.fetch_data(url, policy=ONLY)


async def test_the_managers_own_expiration_is_a_wish_like_any_other(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [
        asyncio.create_task(images.fetch_data(url, disk_expiration=10)),
        asyncio.create_task(images.fetch_data(url)),
    ]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    clock.advance(50)
    assert await images.fetch_data(url, policy=ONLY)


async def test_a_wish_without_a_download_changes_nothing(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png")
    await images.fetch_data(url)
    await images.fetch_data(url, disk_expiration=StorageExpiration.never())
    clock.advance(61)
    with pytest.raises(NotInCacheError):
        await images.fetch_data(url, policy=ONLY)


@pytest.mark.parametrize("wishes", [({}, {"memory_expiration": 5000}), ({"memory_expiration": 5000}, {})])
async def test_who_has_no_wish_does_not_shorten_how_long_memory_keeps_what_both_waited_for(
    server: ImageServer, images: ImageManager, clock: FakeClock, wishes: tuple[FetchOptions, FetchOptions]
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url, **wish)) for wish in wishes]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert images.counters.decodes == 1
    clock.advance(4900)
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY


@pytest.mark.parametrize("answer", ["304", "same bytes"])
async def test_a_revalidation_leaves_each_image_its_own_memory_expiration(
    server: ImageServer, images: ImageManager, clock: FakeClock, answer: str
) -> None:
    url, processors = server.add("/a.png"), [Resize(8, 8)]
    await images.fetch_image(url, memory_expiration=10)
    await images.fetch_image(url, memory_expiration=5000, processors=processors)
    if answer == "same bytes":
        server.touch("/a.png")
    await images.fetch_data(url, force_refresh=True)
    clock.advance(11)
    long = await images.fetch(url, processors=processors)
    assert (long.served_from, long.etag) == (ServedFrom.MEMORY, server.etag("/a.png"))
    assert (await images.fetch(url)).served_from is ServedFrom.DISK
    clock.advance(4900)
    assert (await images.fetch(url, processors=processors)).served_from is ServedFrom.MEMORY


async def test_a_revalidation_puts_off_when_the_server_is_asked_again(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with ImageManager(
        directory=tmp_path, clock=clock, revalidate_after=100, memory_expiration=math.inf
    ) as images:
        url = server.add("/a.png")
        await images.fetch_image(url)
        clock.advance(90)
        await images.fetch_data(url, force_refresh=True)
        clock.advance(90)
        await images.fetch_image(url)
        assert (images.counters.memory_hits, server.count()) == (1, 2)
        clock.advance(11)
        await images.fetch_image(url)
        await images._flights.idle()
        assert server.count() == 3
