"""Whatever the disk does, the image comes from its server; it is told once, and caching goes on when the disk heals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from imagecache import AccessExtension, CacheType, DiskState, ImageManager, ServedFrom
from imagecache.storage.writer import REOPEN_AFTER
from imagecache.testing import FakeClock, FaultyDisk, ImageServer, picture
from imagecache.testing.disk_rule import Fault

EVERY: list[Fault] = ["EIO", "ENOSPC", "EACCES", "EROFS", "ENOENT", "EMFILE", "locked", "corrupt"]
SMALL, LARGE = picture(16, 16), picture(400, 300, mode="RGB", seed=3, format="BMP")
LONG = picture(1200, 900, mode="RGB", seed=3, format="BMP")
SIZES = {(16, 16), (400, 300), (1200, 900)}


class Listener:
    """Hears of the disk."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.not_stored: list[str] = []

    def did_fail_on_disk(self, operation: str, error: Exception) -> None:
        self.faults.append(operation)

    def did_fail_to_store(self, url: str, error: Exception) -> None:
        self.not_stored.append(url)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def faulty(folder: Path) -> AsyncIterator[FaultyDisk]:
    with FaultyDisk(folder) as disk:
        yield disk


@pytest.fixture
async def images(faulty: FaultyDisk, folder: Path, clock: FakeClock, listener: Listener) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=folder, clock=clock) as manager:
        manager.add_delegate(listener)
        yield manager
        faulty.heal()


def add(server: ImageServer, name: str) -> list[str]:
    """A small picture, which lies in the index, a large one, which lies in a file, and one that is written to its file
    while it comes."""
    return [
        server.add(f"/{name}-small.png", SMALL),
        server.add(f"/{name}-large.bmp", LARGE),
        server.add(f"/{name}-long.bmp", LONG),
    ]


@pytest.mark.parametrize("fault", EVERY)
@pytest.mark.parametrize("operation", ["*", "open", "write", "sqlite.*", "sqlite.insert", "stat", "unlink"])
async def test_the_image_comes_and_caching_goes_on_by_itself(
    server: ImageServer,
    images: ImageManager,
    clock: FakeClock,
    faulty: FaultyDisk,
    listener: Listener,
    operation: str,
    fault: Fault,
) -> None:
    before = add(server, "before")
    for url in before:
        await images.fetch_image(url)
    await images.cache.flush()
    faulty.fail(operation, fault)
    for url in [*add(server, "during"), *before, *add(server, "more")]:
        images.clear_memory()
        assert (await images.fetch_image(url)).size in SIZES
    await images.cache.flush()
    await images._delegates.drain()
    assert len(listener.faults) == len(set(listener.faults)), "each is told once"
    assert images.cache.health().faults >= len(listener.faults)
    faulty.heal()
    clock.advance(REOPEN_AFTER)
    await see_that_caching_goes_on(images, add(server, "after"))
    assert images.cache.health().is_healthy


async def see_that_caching_goes_on(images: ImageManager, urls: list[str]) -> None:
    for url in urls:
        await images.fetch_image(url)
        await images.cache.flush()
    images.clear_memory()
    for url in urls:
        assert (await images.fetch(url)).served_from is ServedFrom.DISK


@pytest.mark.parametrize("what", ["deleted", "replaced by a file"])
async def test_a_folder_that_is_taken_away_while_it_is_used_is_made_anew(
    server: ImageServer, tmp_path: Path, clock: FakeClock, listener: Listener, what: str
) -> None:
    folder = tmp_path / "cache"
    async with ImageManager(directory=folder, clock=clock) as images:
        images.add_delegate(listener)
        urls = add(server, "a")
        for each in urls:
            await images.fetch_image(each)
        await images.cache.flush()
        await asyncio.to_thread(take_away, folder, what)
        images.clear_memory()
        for each in urls:
            assert (await images.fetch(each)).served_from is ServedFrom.NETWORK
            await images.cache.flush()
        if what != "deleted":
            assert images.cache.health().disk_state is DiskState.UNAVAILABLE
            await images._delegates.drain()
            assert listener.faults == ["open"]
            await asyncio.to_thread((folder / "imagecache-v2").unlink)
        clock.advance(REOPEN_AFTER)
        images.clear_memory()
        await see_that_caching_goes_on(images, urls)


def take_away(folder: Path, what: str) -> None:
    ours = folder / "imagecache-v2"
    ours.rename(folder.parent / "taken")
    if what == "replaced by a file":
        ours.write_bytes(b"")


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder of a user whom rights bind; root is bound by none."""
    folder = Path(tempfile.mkdtemp())
    is_root = sys.platform != "win32" and os.geteuid() == 0
    if is_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        let_write(folder)
        shutil.rmtree(folder)


def forbid_writing(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o500 if path.is_dir() else 0o400)


def let_write(folder: Path) -> None:
    folder.chmod(0o700)
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            path.chmod(0o700 if path.is_dir() else 0o600)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be made read-only there")
@pytest.mark.parametrize("is_filled", [False, True])
async def test_a_folder_that_cannot_be_written_at_the_start_means_memory_only_said_once(
    server: ImageServer,
    private: Path,
    clock: FakeClock,
    listener: Listener,
    caplog: pytest.LogCaptureFixture,
    is_filled: bool,
) -> None:
    urls = add(server, "a")
    if is_filled:
        async with ImageManager(directory=private, clock=clock) as images:
            for url in urls:
                await images.fetch_image(url)
    await asyncio.to_thread(forbid_writing, private)
    async with ImageManager(directory=private, clock=clock) as images:
        images.add_delegate(listener)
        for url in urls * 2:
            assert (await images.fetch_image(url)).size in SIZES
        await images.cache.flush()
        assert images.cache.health().disk_state is DiskState.UNAVAILABLE
        assert await images.cache.is_cached(urls[0]) is CacheType.MEMORY
        await images._delegates.drain()
        assert listener.faults == ["open"]
        (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "memory only" in message
        await asyncio.to_thread(let_write, private)
        clock.advance(REOPEN_AFTER)
        images.clear_memory()
        await see_that_caching_goes_on(images, urls)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be made read-only there")
async def test_a_folder_that_turns_read_only_while_it_is_used_costs_nobody_an_image(
    server: ImageServer, private: Path, clock: FakeClock, listener: Listener
) -> None:
    async with ImageManager(directory=private, clock=clock) as images:
        images.add_delegate(listener)
        urls = add(server, "a")
        for url in urls:
            await images.fetch_image(url)
        await images.cache.flush()
        await asyncio.to_thread(forbid_writing, private)
        for url in add(server, "b"):
            await images.fetch_image(url)
        await images.cache.flush()
        await images._delegates.drain()
        assert len(listener.faults) == len(set(listener.faults)) >= 1
        await asyncio.to_thread(let_write, private)
        clock.advance(REOPEN_AFTER)
        await see_that_caching_goes_on(images, add(server, "c"))


async def test_what_does_not_decode_is_found_by_verifying(server: ImageServer, images: ImageManager) -> None:
    urls = add(server, "a")
    for url in urls:
        await images.fetch_image(url)
    await images.cache.store("http://a.example/x.png", SMALL[:60], format="PNG")
    await images.cache.store("http://a.example/y.txt", b"whatever it is")
    report = await images.cache.verify()
    assert [damaged.url for damaged in report.damaged] == ["http://a.example/x.png"]
    assert report.checked == 4
    assert (await images.cache.verify()).is_sound


class TestWhileRunning:
    """Limits and expirations are changed under a manager at work."""

    async def test_limits_evict_at_once_and_behind(self, server: ImageServer, images: ImageManager) -> None:
        urls = [server.add(f"/{number}.png", picture(64, 64, seed=number)) for number in range(20)]
        for url in urls:
            await images.fetch_image(url)
        await images.cache.flush()
        assert images.cache.memory.cost > 100_000
        images.memory_limit = "64 KiB"
        assert images.cache.memory.cost <= images.memory_limit == 65_536
        images.disk_limit = 10_000
        assert images.disk_limit == 10_000
        await images.cache.flush()
        assert await images.cache.size() <= 10_000
        with pytest.raises(ValueError, match="memory_limit"):
            images.memory_limit = "much"
        images.disk_limit = 0
        await images.cache.flush()
        assert await images.cache.size() == 0
        assert (await images.fetch_image(urls[0], force_refresh=True)).size == (64, 64)

    async def test_expirations_are_for_what_comes(
        self, server: ImageServer, images: ImageManager, clock: FakeClock
    ) -> None:
        first, second = (server.add(f"/{number}.png", SMALL) for number in range(2))
        await images.fetch_image(first)
        images.memory_expiration, images.disk_expiration = 10, 20
        assert (images.memory_expiration.seconds, images.disk_expiration.seconds) == (10, 20)
        await images.fetch_image(second)
        await images.cache.flush()
        clock.advance(10)
        assert (await images.fetch(first)).served_from is ServedFrom.MEMORY
        assert (await images.fetch(second)).served_from is ServedFrom.DISK
        clock.advance(21)
        assert await images.clean_expired() != []
        assert await images.cache.is_cached(second) is CacheType.NONE
        assert await images.cache.is_cached(first) is CacheType.MEMORY
        with pytest.raises(TypeError, match="disk_expiration"):
            images.disk_expiration = "long"  # type: ignore[assignment]

    @pytest.mark.parametrize("extends", [True, False])
    async def test_an_access_extends_or_does_not(
        self, server: ImageServer, images: ImageManager, clock: FakeClock, extends: bool
    ) -> None:
        url = server.add("/a.png", SMALL)
        extension = AccessExtension.by_lifetime() if extends else AccessExtension.none()
        images.memory_expiration, images.disk_expiration = 10, 20
        await images.fetch_image(url)
        clock.advance(9)
        await images.fetch_image(url, memory_extension=extension)
        clock.advance(9)
        assert (images.cache.memory.peek(url) is not None) is extends
        images.clear_memory()
        await images.fetch_image(url, disk_extension=extension)
        images.clear_memory()
        clock.advance(3)
        assert await images.cache.is_cached(url) is (CacheType.DISK if extends else CacheType.NONE)
        with pytest.raises(TypeError, match="disk_extension is an AccessExtension"):
            await images.fetch_image(url, disk_extension=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_what_was_written_of_a_long_body_and_cannot_be_read_is_fetched_again(
    server: ImageServer, images: ImageManager, faulty: FaultyDisk, clock: FakeClock, after: int
) -> None:
    await images.fetch_image(server.add("/first.png", SMALL))
    await images.cache.flush()
    faulty.fail("write", "ENOSPC", after=after)
    faulty.fail("read", "EIO")
    assert (await images.fetch_image(server.add("/long.bmp", LONG))).size == (1200, 900)
