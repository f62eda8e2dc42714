"""Two processes on one folder, of which the one replaces what the other has decoded or is still working on."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from imagecache import CachePolicy, Custom, FormatCacheSerializer, ImageManager, ServedFrom
from imagecache.testing import ImageServer, picture

OLD, NEW = picture(30, 30, seed=1), picture(31, 31, seed=2)

RELOADS = """
import asyncio, sys, imagecache
async def main():
    async with imagecache.ImageManager(directory=sys.argv[2]) as images:
        image = await images.fetch_image(sys.argv[1], policy=imagecache.CachePolicy.RELOAD)
        print(*image.size)
asyncio.run(main())
"""


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks what other processes did: whatever is right then is right by the identity of pixels alone."""
    monkeypatch.setattr("imagecache.pipeline.others.POLL_INTERVAL", 3600.0)


@pytest.fixture
async def images(deaf: None, tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path, serializer=FormatCacheSerializer("PNG")) as manager:
        yield manager


async def reload_elsewhere(url: str, folder: Path) -> None:
    """Let another process load the new version into the same folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RELOADS, url, folder, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert output.split() == [b"31", b"31"]


async def look(images: ImageManager) -> None:
    """The look at what other processes did, which is made once a second elsewhere."""
    await images.cache.disk.poll()
    # News are told in the loop's next turn.
    await asyncio.sleep(0)


class SlowTurn:
    """A processor that is held until it may go on."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self.processors = [Custom("slow-turn", self._turn)]

    def _turn(self, image: Image.Image) -> Image.Image:
        self.entered.set()
        assert self.release.wait(30)
        return image.rotate(90)


@pytest.mark.parametrize("what", ["image", "data", "encoded", "file"])
async def test_a_304_to_the_other_processes_etag_never_brings_ones_own_old_version(
    server: ImageServer, images: ImageManager, tmp_path: Path, what: str
) -> None:
    url = server.add("/a.png", OLD)
    old = await images.fetch_image(url)
    old_png = await images.fetch_data(url, format="PNG")
    server.replace("/a.png", NEW)
    await reload_elsewhere(url, tmp_path)
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY, "or nothing is shown by what follows"
    match what:
        case "image":
            image = await images.fetch_image(url, force_refresh=True)
            assert image.size == (31, 31)
            assert image.tobytes() != old.tobytes()
        case "data":
            assert await images.fetch_data(url, force_refresh=True) == NEW
        case "encoded":
            assert await images.fetch_data(url, format="PNG", force_refresh=True) != old_png
        case "file":
            assert (await images.fetch_file(url, force_refresh=True)).read_bytes() == NEW
    assert [request.status for request in server.requests] == [200, 200, 304]
    assert server.requests[-1].headers["if-none-match"] == server.etag("/a.png")


@pytest.mark.parametrize("looks", ["before it ends", "after it ended"])
async def test_a_slow_processor_is_kept_in_no_tier_for_the_version_that_came_from_elsewhere_meanwhile(
    server: ImageServer, images: ImageManager, tmp_path: Path, looks: str
) -> None:
    url, slow = server.add("/a.png", OLD), SlowTurn()
    call = asyncio.create_task(images.fetch(url, processors=slow.processors))
    assert await asyncio.to_thread(slow.entered.wait, 30)
    server.replace("/a.png", NEW)
    await reload_elsewhere(url, tmp_path)
    if looks == "before it ends":
        await look(images)
    slow.release.set()
    assert (await call).image.size == (30, 30)
    if looks == "after it ended":
        await look(images)
    for _ in range(2):
        result = await images.fetch(url, processors=slow.processors)
        assert result.image.size == (31, 31)
        images.clear_memory()
    assert server.count() == 2


async def test_nor_does_a_force_refresh_find_it(server: ImageServer, images: ImageManager, tmp_path: Path) -> None:
    url, slow = server.add("/a.png", OLD), SlowTurn()
    call = asyncio.create_task(images.fetch(url, processors=slow.processors))
    assert await asyncio.to_thread(slow.entered.wait, 30)
    server.replace("/a.png", NEW)
    await reload_elsewhere(url, tmp_path)
    slow.release.set()
    await call
    result = await images.fetch(url, processors=slow.processors, force_refresh=True)
    assert server.requests[-1].status == 304
    assert result.image.size == (31, 31)


async def test_who_takes_only_what_is_stored_finds_what_another_process_stored_a_moment_ago(
    server: ImageServer, images: ImageManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A miss, so that all that is not there is known for as long as this takes.
    monkeypatch.setattr("imagecache.storage.leases.COMPANY_SECONDS", 3600.0)
    await images.fetch_image(server.add("/first.png", OLD))
    url = server.add("/x.png", NEW)
    request = images._request(url, {})
    assert images.cache.disk.lacks(request.key_hash)
    await reload_elsewhere(url, tmp_path)

    assert (await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY)).size == (31, 31)
    headers = {"Cache-Control": "only-if-cached"}
    images.clear_memory()
    assert (await images.fetch_image(url, headers=headers)).size == (31, 31)
