"""Two versions of the library on one folder live beside each other; what the older one left goes when nobody lives
there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imagecache.storage import folder as layout
from imagecache.storage.disk import DiskStorage
from imagecache.storage.folder import Folder
from imagecache.storage.stored import StoreStatus
from imagecache.storage.writer_lock import WriterLock
from imagecache.testing.clock import FakeClock

from .entries import entry_for
from .test_disk import body_of, swept

LARGE = bytes(100_000)


@pytest.fixture
async def older(tmp_path: Path, clock: FakeClock) -> Path:
    """What a program with the version of today has left."""
    disk = DiskStorage(tmp_path, clock=clock)
    assert (await disk.put(entry_for(clock, LARGE), LARGE)).status is StoreStatus.STORED
    await disk.aclose()
    return tmp_path / layout.NAME


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """The library is the next version's."""
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 1)
    monkeypatch.setattr(layout, "NAME", f"imagecache-v{layout.VERSION}")
    monkeypatch.setattr("imagecache.storage.schema.SCHEMA_VERSION", layout.VERSION)
    return layout.NAME


async def test_what_an_older_version_left_is_removed(
    tmp_path: Path, clock: FakeClock, older: Path, tomorrow: str
) -> None:
    (tmp_path / "imagecache-v0").mkdir()
    (tmp_path / "imagecache-v999").mkdir()
    disk = DiskStorage(tmp_path, clock=clock)
    assert await body_of(disk, entry_for(clock, LARGE)) is None
    assert (await disk.put(entry_for(clock, LARGE), LARGE)).status is StoreStatus.STORED
    await swept(disk)
    await disk.flush()
    assert {path.name for path in tmp_path.iterdir()} == {"imagecache-v0", tomorrow, "imagecache-v999"}
    assert await body_of(disk, entry_for(clock, LARGE)) == LARGE
    await disk.aclose()


async def test_an_older_version_that_lives_is_left_alone(
    tmp_path: Path, clock: FakeClock, older: Path, tomorrow: str
) -> None:
    lock = await asyncio.to_thread(WriterLock, older / "writers")
    before = sorted(older.rglob("*"))
    disk = DiskStorage(tmp_path, clock=clock)
    assert (await disk.put(entry_for(clock, LARGE), LARGE)).status is StoreStatus.STORED
    await swept(disk)
    assert sorted(older.rglob("*")) == before
    await asyncio.to_thread(lock.release)
    await disk.clean()
    await swept(disk)
    await disk.flush()
    assert not older.exists()
    await disk.aclose()


async def test_nothing_is_removed_through_a_link(tmp_path: Path, clock: FakeClock, tomorrow: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "ab").mkdir(parents=True)
    (elsewhere / "ab" / "mine").write_bytes(b"x")
    older = tmp_path / "imagecache-v2"
    older.mkdir()
    (older / "bodies").symlink_to(elsewhere)
    disk = DiskStorage(tmp_path, clock=clock)
    await disk.put(entry_for(clock, LARGE), LARGE)
    await swept(disk)
    await disk.flush()
    assert (elsewhere / "ab" / "mine").read_bytes() == b"x"
    assert await asyncio.to_thread(Folder(tmp_path).older) == []
    await disk.aclose()
