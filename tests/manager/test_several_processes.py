"""Managers in several processes, and several in one: what each sees of the others, who loads, and what a fork does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from imagecache import CacheType, ImageManager, ServedFrom
from imagecache.entry import RowKey
from imagecache.pipeline.load import LEASE_LOOKS, LEASE_PAUSE
from imagecache.pipeline.others import POLL_INTERVAL
from imagecache.storage.leases import LEASE_SECONDS
from imagecache.testing import FakeClock, ImageServer, picture
from tests.storage.worker import run, worker

NEW = picture(31, 31, seed=2)
MakeManager = Callable[[], ImageManager]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")


@pytest.fixture
async def make_manager(tmp_path: Path) -> AsyncIterator[MakeManager]:
    async with AsyncExitStack() as stack:

        def make() -> ImageManager:
            manager = ImageManager(directory=tmp_path / "cache")
            stack.push_async_callback(manager.aclose)
            return manager

        yield make


OTHER = """
import imagecache
async def main():
    async with imagecache.ImageManager(directory=folder) as images:
        url = sys.argv[2]
        ask("open")
        await images.fetch_image(url, policy=imagecache.CachePolicy.RELOAD)
        await images.cache.disk.flush()
        ask("stored")
        await images.remove(url)
        ask("removed")
        await images.clear()
        ask("cleared")
asyncio.run(main())
"""


async def test_memory_follows_what_another_process_stores_removes_and_clears(
    server: ImageServer, images: ImageManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert POLL_INTERVAL <= 1.0, "half of the two seconds: the look itself and its news take some time, too"
    monkeypatch.setattr("imagecache.pipeline.others.POLL_INTERVAL", 0.01)
    url, news = server.add("/a.png"), asyncio.Queue[object]()
    # After the memory tier, which subscribed first.
    images.cache.disk.subscribe(news.put_nowait)
    async with worker(OTHER, tmp_path / "cache", url) as process:
        assert await process.line() == "open"
        for said in ("stored", "removed", "cleared"):
            await images.fetch(url)
            assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
            await images.cache.disk.flush()
            server.replace("/a.png", NEW)
            process.go_on()
            assert await process.line() == said
            await asyncio.wait_for(news.get(), 30)
            left = CacheType.DISK if said == "stored" else CacheType.NONE
            assert await images.cache.is_cached(url) is left
        assert (await images.fetch(url)).image.size == (31, 31)
        process.go_on()
        assert await process.end() == (0, "", "")


FETCHES = """
import imagecache
async def main():
    async with imagecache.ImageManager(directory=folder) as images:
        await images.cache.disk.count()
        ask("open")
        results = await asyncio.gather(*(images.fetch(url) for url in sys.argv[2:]))
        print(*sorted({result.image.size for result in results}))
        assert images.cache.disk.faults == 0
asyncio.run(main())
"""


async def test_of_several_processes_that_miss_the_same_images_one_asks_for_each(
    server: ImageServer, tmp_path: Path
) -> None:
    urls = [server.add(f"/{number}.png", picture(30, 30, seed=number)) for number in range(4)]
    gates = [server.hold(f"/{number}.png") for number in range(4)]
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(worker(FETCHES, tmp_path, *urls)) for _ in range(4)]
        for process in processes:
            assert await process.line() == "open"
        for process in processes:
            process.go_on()
        await server.wait_for_requests(4)
        for gate in gates:
            gate.open()
        for process in processes:
            assert await process.end() == (0, "(30, 30)\n", "")
    assert server.count() == 4


async def test_who_waits_for_another_process_waits_two_seconds_however_slow_its_looks_are(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pauses were counted, the time that the looks between them took was not.
    clock, looks = FakeClock(), list[float]()
    assert LEASE_PAUSE * LEASE_LOOKS == LEASE_SECONDS == 2.0

    async def is_anothers(row: object) -> bool:
        looks.append(clock.monotonic())
        clock.advance(0.5)
        return False

    async with ImageManager(directory=tmp_path, clock=clock) as images:
        monkeypatch.setattr(images.cache.disk, "lease", is_anothers)
        await images.fetch_image(server.add("/a.png"))
    assert looks[-1] - looks[0] < LEASE_SECONDS
    assert server.count() == 1


async def test_two_managers_on_one_folder_share_what_is_stored_and_follow_each_other_at_once(
    server: ImageServer, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.pipeline.others.POLL_INTERVAL", 3600.0)
    url, first, second = server.add("/a.png"), make_manager(), make_manager()
    assert (await first.fetch(url)).served_from is ServedFrom.NETWORK
    assert (await second.fetch(url)).served_from is ServedFrom.DISK, "also what is still queued"
    assert first.cache.disk._store is second.cache.disk._store
    await first.remove(url)
    await asyncio.sleep(0)
    assert await second.cache.is_cached(url) is CacheType.NONE
    await second.fetch(url)
    await first.aclose()
    assert await second.cache.is_cached(url) is CacheType.MEMORY
    second.clear_memory()
    assert (await second.fetch(url)).served_from is ServedFrom.DISK
    assert server.count() == 2


async def test_what_came_between_a_look_and_the_lease_is_not_loaded_again(
    server: ImageServer, images: ImageManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other process had stored it and given its lease back, so that this one took the next, and loaded it, too.
    url, lease = server.add("/a.png"), images.cache.disk.lease

    async def late(row: RowKey) -> bool:
        process.go_on()
        assert await process.line() == "stored"
        return await lease(row)

    async with worker(OTHER, tmp_path / "cache", url) as process:
        assert await process.line() == "open"
        await images.cache.disk.count()
        monkeypatch.setattr(images.cache.disk, "lease", late)
        assert (await images.fetch(url)).served_from is ServedFrom.DISK
    assert server.count() == 1


# Forks

PRELOADED = """
import imagecache
url = sys.argv[2]
# As a module that gunicorn --preload imports, with one manager that is used at once and one that is not.
used = imagecache.ImageManager(directory=folder)
unused = imagecache.ImageManager(directory=folder)
loop = asyncio.new_event_loop()
size = loop.run_until_complete(used.fetch_image(url)).size

async def refused(images):
    # In memory or not: what is there follows nobody any more.
    for option in ({}, {"force_refresh": True}, {"policy": imagecache.CachePolicy.CACHE_ONLY}):
        try:
            await images.fetch_image(url, **option)
        except imagecache.WrongLoopError as error:
            assert isinstance(error, imagecache.ImageCacheError) and "fork" in str(error), error
        else:
            raise AssertionError("served by its parent's manager")
    await images.aclose()

async def work():
    await refused(used)
    assert (await unused.fetch_image(url)).size == size
    async with imagecache.ImageManager(directory=folder) as own:
        assert (await own.fetch(url)).served_from is imagecache.ServedFrom.DISK
        assert own.cache.disk.faults == 0
    # The parent's own folder, by the module's functions: a manager for each loop.
    assert (await imagecache.fetch_image(url)).size == size

async def parent():
    assert (await used.fetch(url)).served_from is imagecache.ServedFrom.MEMORY
    assert (await used.fetch_image(url, force_refresh=True)).size == size
    assert used.cache.disk.faults == 0
    await used.aclose()

def be_a_worker():
    warnings.simplefilter("ignore", ResourceWarning)  # The parent's session and loop, left as they are.
    asyncio.run(work())
"""
SUPERVISES = """
pids = []
for _ in range(2):
    pids.append(os.fork())
    if pids[-1] == 0:
        be_a_worker()
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
loop.run_until_complete(parent())
loop.close()
print("done")
"""


@needs_fork
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"], ids=["at once", "in order"])
async def test_each_worker_forked_after_use_begins_anew_and_the_parents_manager_says_why_not(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path / "default"))
    output = await run(PRELOADED + f"    {end}\n" + SUPERVISES, tmp_path / "own", server.add("/a.png"))
    assert output == "done\n"
    assert [request.status for request in server.requests].count(304) == 1


@needs_fork
async def test_a_child_that_goes_on_in_its_parents_loop_is_told_so(server: ImageServer, tmp_path: Path) -> None:
    output = await run(
        """
        import imagecache
        async def main():
            async with imagecache.ImageManager(directory=folder) as images:
                await images.fetch_image(sys.argv[2])
                pid = os.fork()
                if pid == 0:
                    try:
                        await images.fetch_image(sys.argv[2], force_refresh=True)
                    except imagecache.WrongLoopError as error:
                        await images.aclose()
                        os._exit(0 if "fork" in str(error) else 1)
                    os._exit(2)
                assert os.waitpid(pid, 0)[1] == 0
                image = await images.fetch_image(sys.argv[2], force_refresh=True)
                print(image.size)
        asyncio.run(main())
        """,
        tmp_path,
        server.add("/a.png", NEW),
    )
    assert output == "(31, 31)\n"
    assert [request.status for request in server.requests] == [200, 304]
