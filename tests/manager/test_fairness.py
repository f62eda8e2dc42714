"""Whose image comes next where connections are few: priorities over all who share a download, and the options."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imagecache import ImageManager, Priority
from imagecache.testing import FakeClock, ImageServer


async def waiting(images: ImageManager, count: int) -> None:
    """Returns when so many downloads wait for a connection."""
    clock = FakeClock()
    while images.downloader.waiting != count:
        await clock.elapse(0)


async def order_of(server: ImageServer, images: ImageManager, asked: list[tuple[str, Priority]]) -> list[str]:
    """The order in which a server with one connection is asked for these, all asked for while it was taken."""
    gate = server.hold("/running.png")
    calls = [asyncio.create_task(images.fetch_data(server.add("/running.png")))]
    await gate.arrived(1)
    for path, priority in asked:
        known = images.downloader.waiting
        is_new = not any(path == other for other, _ in asked[: asked.index((path, priority))])
        calls.append(asyncio.create_task(images.fetch_data(server.add(path), priority=priority)))
        await waiting(images, known + is_new)
    gate.open()
    await asyncio.gather(*calls)
    return [request.path for request in server.requests[1:]]


@pytest.fixture
async def narrow(tmp_path: Path) -> ImageManager:
    return ImageManager(directory=tmp_path / "cache", connections_per_host=1)


async def test_the_highest_priority_of_all_who_wait_for_an_image_counts_also_of_who_joins_late(
    server: ImageServer, narrow: ImageManager
) -> None:
    async with narrow as images:
        order = await order_of(
            server,
            images,
            [
                ("/low.png", Priority.LOW),
                ("/normal.png", Priority.NORMAL),
                ("/high.png", Priority.HIGH),
                ("/low.png", Priority.HIGH),
            ],
        )
    # Within one priority by who has waited longest.
    assert order == ["/low.png", "/high.png", "/normal.png"]


async def test_a_caller_who_leaves_takes_its_priority_along(server: ImageServer, narrow: ImageManager) -> None:
    async with narrow as images:
        gate = server.hold("/running.png")
        calls = [asyncio.create_task(images.fetch_data(server.add("/running.png")))]
        await gate.arrived(1)
        calls.append(asyncio.create_task(images.fetch_data(server.add("/a.png"), priority=Priority.LOW)))
        await waiting(images, 1)
        eager = asyncio.create_task(images.fetch_data(server.url("/a.png"), priority=Priority.HIGH))
        calls.append(asyncio.create_task(images.fetch_data(server.add("/b.png"))))
        await waiting(images, 2)
        eager.cancel()
        await asyncio.wait([eager])
        gate.open()
        await asyncio.gather(*calls)
    assert [request.path for request in server.requests[1:]] == ["/b.png", "/a.png"]


async def test_a_manager_may_serve_the_newest_first(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path / "cache", connections_per_host=1, newest_first=True) as images:
        order = await order_of(server, images, [(f"/{n}.png", Priority.NORMAL) for n in range(3)])
    assert order == ["/2.png", "/1.png", "/0.png"]


async def test_a_host_may_have_more_connections_than_others(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(
        directory=tmp_path / "cache", connections_per_host=1, host_limits={"127.0.0.1": 4}
    ) as images:
        url, gate = server.add("/a.png"), server.hold("/a.png")
        calls = [asyncio.create_task(images.fetch_data(f"{url}?{n}")) for n in range(5)]
        await gate.arrived(4)
        await waiting(images, 1)
        gate.open()
        await asyncio.gather(*calls)
    assert server.peak_in_flight == 4


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_makes_no_sense_is_told(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ValueError, match="requests_per_second"):
        ImageManager(directory=tmp_path, requests_per_second=rate)
