"""How a manager ends: once, whoever asks for it and whoever gives up waiting."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

import imagecache
from imagecache import CachePolicy, ImageManager, ManagerClosedError, ServedFrom
from imagecache.testing import Gate, ImageServer


class HeldClosing:
    """A manager's closing, held half way."""

    def __init__(self, images: ImageManager, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = Gate()
        self._close = images.cache.aclose
        monkeypatch.setattr(images.cache, "aclose", self._aclose)

    async def _aclose(self) -> None:
        await self.gate.wait()
        await self._close()


@pytest.fixture
async def held(images: ImageManager, monkeypatch: pytest.MonkeyPatch) -> HeldClosing:
    return HeldClosing(images, monkeypatch)


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_close_wait_for_the_same_end(
    server: ImageServer, images: ImageManager, held: HeldClosing
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    calls = [asyncio.create_task(images.aclose()) for _ in range(3)]
    await held.gate.arrived(1)
    await turn()
    assert images.is_closed
    assert not any(call.done() for call in calls)
    held.gate.open()
    await asyncio.gather(*calls)
    assert held.gate.arrivals == 1
    assert images.cache.disk._is_closed


async def test_a_cancelled_close_closes_all_the_same_and_the_next_one_waits_for_it(
    server: ImageServer, images: ImageManager, held: HeldClosing, tmp_path: Path
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    first = asyncio.create_task(images.aclose())
    await held.gate.arrived(1)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    with pytest.raises(ManagerClosedError):
        await images.fetch_image(url)
    second = asyncio.create_task(images.aclose())
    await turn()
    assert not second.done()
    held.gate.open()
    await second
    async with ImageManager(directory=tmp_path / "cache") as next_one:
        assert (await next_one.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is ServedFrom.DISK


def test_a_loop_that_ends_in_the_middle_of_a_closing_finishes_it(tmp_path: Path) -> None:
    managers = []

    async def main() -> None:
        images = ImageManager(directory=tmp_path)
        managers.append(images)
        async with ImageServer() as server:
            await images.fetch_image(server.add("/a.png"))
        gate = Gate()
        images._flights.start(gate.wait())
        await gate.arrived(1)
        closing = asyncio.create_task(images.aclose())
        await asyncio.sleep(0)
        assert not closing.done()

    asyncio.run(main())
    assert managers[0].cache.disk._is_closed

    async def look() -> int:
        async with ImageManager(directory=tmp_path) as images:
            return await images.cache.disk.count()

    assert asyncio.run(look()) == 1


async def test_a_delegate_that_never_ends_does_not_keep_a_manager_from_closing(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, cut_off, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Hanging:
        async def did_refresh_image(self, url: str, changed: bool) -> None:
            entered.set()
            try:
                await end.wait()
            except asyncio.CancelledError:
                cut_off.set()
                raise

    images.add_delegate(Hanging())
    monkeypatch.setattr(images._delegates, "drain", partial(images._delegates.drain, patience=0.01))
    url = server.add("/a.png")
    await images.fetch_image(url)
    await images.fetch_image(url, policy=CachePolicy.STALE_WHILE_REVALIDATE)
    await asyncio.wait_for(entered.wait(), 10)
    try:
        await asyncio.wait_for(images.aclose(), 10)
        assert cut_off.is_set()
    finally:
        end.set()


async def test_a_delegate_may_close_the_manager_that_calls_it(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closer:
        async def did_refresh_image(self, url: str, changed: bool) -> None:
            await images.aclose()

    images = ImageManager(directory=tmp_path)
    images.add_delegate(Closer())
    monkeypatch.setattr(images._delegates, "drain", partial(images._delegates.drain, patience=0.01))
    url = server.add("/a.png")
    await images.fetch_image(url)
    await images.fetch_image(url, policy=CachePolicy.STALE_WHILE_REVALIDATE)
    await images._flights.idle()
    await asyncio.wait_for(images.aclose(), 10)
    assert images.cache.disk._is_closed


async def test_the_modules_own_functions_work_again_after_their_manager_was_closed(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path))
    url = server.add("/a.png")
    closed = imagecache.default_manager()
    await imagecache.fetch_image(url)
    await closed.aclose()
    try:
        assert (await imagecache.fetch(url)).served_from is ServedFrom.DISK
        assert imagecache.default_manager() is not closed
        assert imagecache.default_manager() is imagecache.default_manager()
    finally:
        await imagecache.default_manager().aclose()


async def test_other_processes_are_watched_as_long_as_anything_is_remembered(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.pipeline.others.POLL_INTERVAL", 0.0)
    async with ImageManager(directory=tmp_path, memory_limit=1000) as images:
        looks = Gate()
        monkeypatch.setattr(images.cache.disk, "poll", looks.wait)
        looks.open()
        # Over half of the limit: known to memory for as long as this test holds it, and no longer.
        image = await images.fetch_image(server.add("/a.png"))
        assert len(images.cache.memory) == 0
        await looks.arrived(5)
        del image
        images.clear_memory()
        await turn()
        assert images._others._timer is None
