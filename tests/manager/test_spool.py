"""A long body goes to a file while it comes: memory stays flat, it is written once, and no file is left over."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import BackoffRetryStrategy, BodyTooLargeError, CachePolicy, ImageManager, NetworkError, hash_for_key
from imagecache.network.body import SPOOL_OVER
from imagecache.storage.bodies import Bodies
from imagecache.storage.spool import Spool
from imagecache.testing import Answer, ImageServer
from tests.storage.test_disk import swept

MIB = 2**20


def image_of(size: int, color: int = 0) -> bytes:
    """A picture of about so many bytes, made in a moment."""
    target = io.BytesIO()
    Image.new("L", (2048, size // 2048), color).save(target, "PNG", compress_level=0)
    return target.getvalue()


LONG, OTHER = image_of(4 * MIB), image_of(4 * MIB, 7)
CUT = 3 * MIB
SMALL = image_of(SPOOL_OVER // 2)


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with manager(tmp_path) as one:
        # While the folder is being made, on a busy machine for longer than a body takes, there is no file for one.
        await one.cache.disk.count()
        yield one


def manager(folder: Path, **options: Any) -> ImageManager:
    return ImageManager(directory=folder, retry=BackoffRetryStrategy(1), **options)


async def files(images: ImageManager) -> list[Path]:
    """The body files, once all that is under way has ended."""
    await images._flights.idle()
    await images._loader.drain()
    await images.cache.flush()
    disk = images.cache.disk
    assert disk.directory is not None
    await disk.poll()
    return await asyncio.to_thread(lambda: [p for p in (disk.directory or Path()).glob("*/bodies/*/*") if p.is_file()])


async def namespaces(images: ImageManager, url: str) -> list[str]:
    return [entry.row.namespace for entry in await images.cache.disk.rows(hash_for_key(url))]


def asked_from(server: ImageServer) -> list[int]:
    """From where on each request wanted it. What lay in the client's buffer when the connection broke is lost."""
    return [int(r.headers.get("range", "bytes=0-")[6:-1]) for r in server.requests]


class Writes:
    """What was written: whole bodies, and bodies that were coming."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.whole = self.spooled = 0
        write, spool = Bodies.write, Spool.write

        def count_whole(bodies: Bodies, key_hash: str, body: bytes, format_name: str | None) -> str:
            self.whole += len(body)
            return write(bodies, key_hash, body, format_name)

        def count_spooled(self_: Spool, position: int, pieces: list[bytes]) -> None:
            self.spooled += sum(map(len, pieces))
            spool(self_, position, pieces)

        patch.setattr(Bodies, "write", count_whole)
        patch.setattr(Spool, "write", count_spooled)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


async def test_a_long_body_is_written_once_and_stored_as_it_lies_there(
    server: ImageServer, images: ImageManager, writes: Writes, tmp_path: Path
) -> None:
    url = server.add("/a.png", LONG)
    assert await images.fetch_data(url) == LONG
    (file,) = await files(images)
    assert file.read_bytes() == LONG
    assert (writes.spooled, writes.whole) == (len(LONG), 0)
    assert file.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    await images.aclose()
    async with manager(tmp_path) as again:
        assert await again.fetch_data(url, policy=CachePolicy.CACHE_ONLY) == LONG


async def test_a_small_body_never_sees_a_file_of_its_own(
    server: ImageServer, images: ImageManager, writes: Writes
) -> None:
    url = server.add("/a.png", SMALL)
    await images.fetch_image(url)
    assert len(await files(images)) == 1
    assert (writes.spooled, writes.whole) == (0, len(SMALL))


async def test_a_body_of_untold_length_and_a_coded_one_are_spooled_too(
    server: ImageServer, images: ImageManager, writes: Writes
) -> None:
    url = server.add("/a.png", LONG)
    server.script("/a.png", Answer(chunked=True))
    assert await images.fetch_data(url) == LONG
    assert (writes.spooled, writes.whole) == (len(LONG), 0)


async def test_what_may_not_be_stored_is_not_written_for_a_while_either(
    server: ImageServer, images: ImageManager, writes: Writes
) -> None:
    url = server.add("/a.png", LONG, headers={"Cache-Control": "no-store"})
    assert await images.fetch_data(url) == LONG
    assert writes.spooled == 0
    assert await files(images) == []


async def test_without_a_disk_it_stays_in_memory(server: ImageServer, writes: Writes) -> None:
    async with ImageManager(disk_limit=0) as images:
        assert await images.fetch_data(server.add("/a.png", LONG)) == LONG
    assert writes.spooled == 0


async def test_the_same_bytes_again_leave_one_file(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LONG)
    await images.fetch_data(url)
    (first,) = await files(images)
    await images.fetch_data(url, policy=CachePolicy.RELOAD)
    assert await files(images) == [first]


async def test_other_bytes_take_the_place_of_the_file(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LONG)
    await images.fetch_data(url)
    server.replace("/a.png")
    server.add("/a.png", OTHER)
    assert await images.fetch_data(url, policy=CachePolicy.RELOAD) == OTHER
    (file,) = await files(images)
    assert file.read_bytes() == OTHER


async def test_what_is_too_large_for_the_disk_leaves_no_file(server: ImageServer, tmp_path: Path) -> None:
    async with manager(tmp_path, disk_limit=2 * MIB) as images:
        assert await images.fetch_data(server.add("/a.png", LONG)) == LONG
        assert await files(images) == []


async def test_what_is_no_image_leaves_no_file(server: ImageServer, images: ImageManager) -> None:
    with pytest.raises(Exception, match="image"):
        await images.fetch_data(server.add("/a.png", bytes(CUT)))
    assert await files(images) == []


async def test_what_is_over_the_limit_leaves_no_file(server: ImageServer, tmp_path: Path) -> None:
    async with manager(tmp_path, max_body=CUT) as images:
        url = server.add("/a.png", LONG)
        server.script("/a.png", Answer(chunked=True))
        with pytest.raises(BodyTooLargeError):
            await images.fetch_data(url)
        assert await files(images) == []


async def test_what_breaks_off_and_cannot_be_gone_on_with_leaves_no_file(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", LONG, etag=False, last_modified=False)
    server.script("/a.png", Answer(cut_at=CUT))
    with pytest.raises(NetworkError):
        await images.fetch_data(url)
    assert await files(images) == []


async def test_what_breaks_off_is_kept_and_gone_on_with(
    server: ImageServer, images: ImageManager, writes: Writes
) -> None:
    url = server.add("/a.png", LONG)
    server.script("/a.png", Answer(cut_at=CUT))
    with pytest.raises(NetworkError):
        await images.fetch_data(url)
    (part,) = await files(images)
    kept = part.read_bytes()
    assert LONG.startswith(kept)
    assert SPOOL_OVER < len(kept) <= CUT
    assert await namespaces(images, url) == ["partial"]
    assert await images.fetch_data(url) == LONG
    assert asked_from(server) == [0, len(kept)]
    (file,) = await files(images)
    assert (file.read_bytes(), await namespaces(images, url)) == (LONG, ["image"])


async def test_a_retry_goes_on_behind_what_lies_in_the_file(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path, retry=BackoffRetryStrategy(3, base=0)) as images:
        url = server.add("/a.png", LONG)
        server.script("/a.png", Answer(cut_at=CUT), Answer(cut_at=SPOOL_OVER // 2))
        assert await images.fetch_data(url) == LONG
        first, second, third = asked_from(server)
        assert first < SPOOL_OVER < second < third
        (file,) = await files(images)
        assert file.read_bytes() == LONG


@pytest.mark.parametrize("good", [0, 1, 2])
async def test_a_full_disk_costs_memory_and_nothing_else(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    write, count = Spool.write, iter(range(100))

    def fails(self: Spool, position: int, pieces: list[bytes]) -> None:
        write(self, position, pieces[: -1 if pieces else None])
        if next(count) >= good:
            raise OSError(28, "No space left on device")
        write(self, position, pieces)

    monkeypatch.setattr(Spool, "write", fails)
    assert await images.fetch_data(server.add("/a.png", LONG)) == LONG
    (file,) = await files(images)
    assert file.read_bytes() == LONG


async def test_a_part_kept_after_the_disk_was_full_is_what_came(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Spool.write

    def fails(self: Spool, position: int, pieces: list[bytes]) -> None:
        if position:
            raise OSError(28, "No space left on device")
        write(self, position, pieces)

    monkeypatch.setattr(Spool, "write", fails)
    monkeypatch.setattr("imagecache.network.part.CHECKPOINT", 0.0)
    url = server.add("/a.png", LONG)
    server.script("/a.png", Answer(cut_at=CUT))
    with pytest.raises(NetworkError):
        await images.fetch_data(url)
    assert await images.fetch_data(url) == LONG
    assert asked_from(server)[-1] > SPOOL_OVER


CRASH = """
import asyncio, sys, imagecache
async def main():
    async with imagecache.ImageManager(directory=sys.argv[2]) as images:
        def progress(received, total):
            if received > 2 * 2**20 + 2**19:
                print("came", flush=True)
        await images.fetch_data(sys.argv[1], progress=progress)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
async def test_the_file_of_a_process_that_was_killed_is_swept(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", LONG)
    gate = server.hold_body("/a.png", at=CUT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASH, url, tmp_path, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"came\n"
    process.kill()
    await process.wait()
    assert await asyncio.to_thread(lambda: [p.stat().st_size > 0 for p in tmp_path.glob("*/bodies/*/*")]) == [True]
    gate.open()
    server.always("/a.png", None)
    async with manager(tmp_path) as images:
        await images.cache.size()
        await swept(images.cache.disk)
        assert await files(images) == []


MEMORY = """
import asyncio, sys, tracemalloc, imagecache
async def main():
    async with imagecache.ImageManager(directory=sys.argv[2]) as images:
        await images.fetch_data(sys.argv[3])
        tracemalloc.start()
        coming = []
        def progress(received, total):
            if received < total:
                coming.append(tracemalloc.get_traced_memory()[0])
        body = await images.fetch_data(sys.argv[1], progress=progress)
        await images.cache.flush()
        print(max(coming), tracemalloc.get_traced_memory()[1], len(body))
asyncio.run(main())
"""


async def test_memory_stays_flat_while_it_comes_and_holds_it_once_in_the_end(
    server: ImageServer, tmp_path: Path
) -> None:
    url, first = server.add("/a.png", image_of(60 * MIB)), server.add("/b.png", LONG)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMORY, url, tmp_path, first, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    coming, most, size = map(int, output.split())
    assert size > 59 * MIB
    assert coming < 8 * MIB
    assert most < size + 8 * MIB
