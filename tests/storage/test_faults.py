"""Faults: every operation of the disk fails in turn; nothing is raised to a caller, and it heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.keeper import Keeper
from imagecache.storage.schema import connect, connect_to_read
from imagecache.storage.stored import DiskState, StoreStatus
from imagecache.storage.writer import REOPEN_AFTER
from imagecache.testing.clock import FakeClock
from imagecache.testing.disk_rule import Fault
from imagecache.testing.faults import FaultyDisk

from .entries import URL, entry_for, variant_of
from .test_disk import body_files, body_of, swept

SMALL = b"small body"
LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="rights are another matter there")


# Looking at the disk is a test's business, and none of its event loop's.


def put_a_file(path: Path) -> None:
    path.write_bytes(b"")


def put_a_folder(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)


def put_a_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def take_away(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def names_in(path: Path) -> list[str]:
    return [found.name for found in path.iterdir()]


def rights_in(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultyDisk]:
    with FaultyDisk(tmp_path) as disk:
        yield disk


FAULTS: list[tuple[str, Fault]] = [
    (operation, fault)
    for operation in ("open", "write", "sqlite.insert", "sqlite.begin", "sqlite.commit", "mkdir")
    for fault in ("ENOSPC", "EIO", "EACCES", "EROFS")
]


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
async def test_a_write_fault_is_told_once_and_heals(
    tmp_path: Path,
    clock: FakeClock,
    faulty: FaultyDisk,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    fault: Fault,
) -> None:
    told: list[str] = []
    disk = DiskStorage(tmp_path, clock=clock, on_fault=lambda what, error: told.append(what))
    await disk.put(entry_for(clock, SMALL, "before"), SMALL)
    faulty.fail(operation, fault)
    entry = entry_for(clock, LARGE)
    for _ in range(3):
        result = await disk.put(entry, LARGE)
        assert result.status in (StoreStatus.FAILED, StoreStatus.UNAVAILABLE)
        assert await body_of(disk, entry) is None
    assert 1 <= len(told) <= 2, "reading and writing at most"
    assert disk.faults >= 1
    assert disk.last_fault is not None
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == len(told)
    faulty.heal()
    clock.advance(REOPEN_AFTER)
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE
    assert len(body_files(folder)) == 1, "nothing was left behind"
    assert disk.is_available
    await disk.aclose()


@pytest.mark.parametrize("operation", ["open", "read", "stat", "sqlite.select", "sqlite.begin", "sqlite.connect"])
async def test_a_read_fault_is_a_miss_and_drops_nothing(
    tmp_path: Path, clock: FakeClock, faulty: FaultyDisk, operation: str
) -> None:
    disk = DiskStorage(tmp_path, clock=clock)
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    faulty.fail(operation, "EIO")
    assert await body_of(disk, entry) in (None, LARGE)
    faulty.heal()
    clock.advance(REOPEN_AFTER)
    assert await body_of(disk, entry) == LARGE
    await disk.aclose()


async def use_everything(directory: Path, clock: FakeClock, faulty: FaultyDisk) -> None:
    """Every call once; nothing here may raise, whatever fails."""
    disk = DiskStorage(directory, clock=clock, limit=200_000)
    original = entry_for(clock, LARGE)
    for number in range(3):
        body = LARGE + bytes([number])
        await disk.put(entry_for(clock, body), body)
        await body_of(disk, original)
    await disk.put(original, LARGE)
    await disk.refresh(original)
    await disk.put(variant_of(original, SMALL), SMALL)
    disk.touch(original.row)
    await disk.etag(original.row.key_hash)
    await disk.set_etag(original.row.key_hash, '"9"')
    await disk.pin(original.row.key_hash)
    async for _ in disk.entries("size"):
        pass
    await disk.verify()
    await disk.clean()
    await disk.remove(original.row.key_hash)
    await disk.clear()
    faulty.heal()
    clock.advance(REOPEN_AFTER)
    await disk.put(original, LARGE)
    await disk.put(original, LARGE)
    assert await body_of(disk, original) == LARGE, "it works again"
    assert await disk.count() == 1
    assert await disk.size() == len(LARGE)
    await disk.clean()
    await swept(disk)
    assert len(body_files(directory / "imagecache-v2")) == 1, "nothing is left behind"
    await disk.aclose()


EVERY: list[Fault] = ["EIO", "ENOSPC", "EACCES", "EROFS", "ENOENT", "EMFILE", "locked", "corrupt"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", EVERY)
async def test_every_operation_fails_once_in_turn(tmp_path: Path, clock: FakeClock, fault: Fault) -> None:
    with FaultyDisk(tmp_path) as faulty:
        await use_everything(tmp_path / "all", clock, faulty)
        count = len(faulty.calls)
    assert count > 100
    # Each fault meets other operations than the next one, and all of them together every one.
    for number in range(EVERY.index(fault), count, len(EVERY)):
        with FaultyDisk(tmp_path) as faulty:
            rule = faulty.fail("*", fault, after=number, times=1)
            if fault == "ENOENT":
                # A file that is not there, and is there all the same, is no file of any disk.
                rule.spare("unlink", "stat", "list")
            await use_everything(tmp_path / str(number), clock, faulty)


# Not "locked": what is queued then waits for the other process, as long as that lives.
@pytest.mark.parametrize("fault", [fault for fault in EVERY if fault != "locked"])
async def test_all_operations_fail_from_a_moment_on(tmp_path: Path, clock: FakeClock, fault: Fault) -> None:
    for after in (0, 20, 60, 100):
        with FaultyDisk(tmp_path) as faulty:
            faulty.fail("*", fault, after=after)
            await use_everything(tmp_path / str(after), clock, faulty)


async def test_what_nobody_foresaw_leaves_nobody_waiting(
    disk: DiskStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Keeper) -> None:
        raise TypeError("never foreseen")

    await disk.put(entry_for(clock, SMALL, "before"), SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "current", fail)
        result = await disk.put(entry_for(clock, SMALL), SMALL)
        assert (result.status, type(result.error)) == (StoreStatus.FAILED, TypeError)
        disk.touch(entry_for(clock, SMALL).row)
        await disk.flush()
    assert (await disk.put(entry_for(clock, SMALL), SMALL)).status is StoreStatus.STORED


async def test_a_slow_disk_makes_nobody_wait_who_does_not_ask_for_it(
    disk: DiskStorage, clock: FakeClock, faulty: FaultyDisk
) -> None:
    await disk.put(entry_for(clock, SMALL, "before"), SMALL)
    rules = [faulty.hold(operation) for operation in ("write", "sqlite.insert", "sqlite.begin")]
    entries = [entry_for(clock, bytes([number]) * 80_000, str(number)) for number in range(20)]
    futures = [disk.put(entry, bytes([number]) * 80_000) for number, entry in enumerate(entries)]
    assert [await body_of(disk, entry) for entry in entries] == [bytes([n]) * 80_000 for n in range(20)]
    assert not any(future.done() for future in futures)
    for rule in rules:
        rule.remove()
    assert {(await future).status for future in futures} == {StoreStatus.STORED}
    assert disk.faults == 0


async def test_a_file_that_was_spooled_for_a_folder_that_fell_out_meanwhile_is_not_left_behind(
    disk: DiskStorage, clock: FakeClock, faulty: FaultyDisk, folder: Path
) -> None:
    await disk.put(entry_for(clock, SMALL, "before"), SMALL)
    entry = entry_for(clock, LARGE)
    spool = disk.spool(entry.row.key_hash)
    assert spool is not None
    await asyncio.to_thread(spool.write, 0, [LARGE])
    spool.close()
    rules = [faulty.fail(operation, "EIO") for operation in ("sqlite.*", "mkdir", "stat", "open")]
    assert (await disk.put(entry_for(clock, SMALL, "during"), SMALL)).status is not StoreStatus.STORED
    assert disk.state is DiskState.UNAVAILABLE
    result = await disk.put(entry, LARGE, written=spool.hand_over())
    assert result.status is StoreStatus.UNAVAILABLE
    for rule in rules:
        rule.remove()
    clock.advance(REOPEN_AFTER)
    await disk.put(entry_for(clock, SMALL, "after"), SMALL)
    assert body_files(folder) == []


async def test_a_body_that_is_written_in_pieces_is_whole(
    disk: DiskStorage, clock: FakeClock, faulty: FaultyDisk
) -> None:
    rule = faulty.cut()
    assert (await disk.put(entry_for(clock, LARGE), LARGE)).status is StoreStatus.STORED
    assert rule.calls > 5
    assert await body_of(disk, entry_for(clock, LARGE)) == LARGE


async def test_a_locked_index_keeps_the_batch_queued_and_readable(
    disk: DiskStorage, clock: FakeClock, tmp_path: Path
) -> None:
    with FaultyDisk(tmp_path) as faulty:
        await disk.put(entry_for(clock, SMALL, "before"), SMALL)
        faulty.fail("sqlite.begin", "locked", name="*", times=None)
        entry = entry_for(clock, LARGE)
        future = disk.put(entry, LARGE)
        await disk.flush()
        assert not future.done()
        assert disk.queue_depth >= 1
        assert disk.faults == 0, "another process at work is no fault"
        faulty.heal()
        assert (await future).status is StoreStatus.STORED
        assert await body_of(disk, entry) == LARGE


async def test_a_full_queue_refuses_at_once(
    disk: DiskStorage, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.storage.write_queue.MAX_ROWS", 3)
    with FaultyDisk(tmp_path) as faulty:
        await disk.put(entry_for(clock, SMALL, "before"), SMALL)
        gate = faulty.hold("sqlite.begin")
        entries = [entry_for(clock, SMALL, str(number)) for number in range(5)]
        futures = [disk.put(entry, SMALL) for entry in entries]
        assert [future.done() for future in futures] == [False, False, False, True, True]
        assert futures[4].result().status is StoreStatus.QUEUE_FULL
        gate.remove()
        assert [(await future).status for future in futures[:3]] == [StoreStatus.STORED] * 3


@pytest.mark.parametrize("what", ["deleted", "replaced by a file"])
async def test_a_folder_that_is_taken_away_is_made_anew_by_the_next_write(
    disk: DiskStorage, clock: FakeClock, folder: Path, what: str
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    # Not while the sweep that every opening starts is still at work there.
    await swept(disk)
    take_away(folder)
    if what == "replaced by a file":
        put_a_file(folder)
        assert (await disk.put(entry, LARGE)).status is StoreStatus.UNAVAILABLE
        assert disk.state is DiskState.UNAVAILABLE
        take_away(folder)
        clock.advance(REOPEN_AFTER)
    else:
        assert await disk.load(entry.row.key_hash, key=URL) is None
        assert await disk.size() == 0
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE
    assert len(body_files(folder)) == 1


@posix_only
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
async def test_a_folder_that_is_open_to_others_is_refused_and_said_once(
    disk: DiskStorage, clock: FakeClock, folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    put_a_folder(folder, mode)
    for _ in range(3):
        assert (await disk.put(entry_for(clock, SMALL), SMALL)).status is StoreStatus.UNAVAILABLE
        assert await disk.load(entry_for(clock, SMALL).row.key_hash, key=URL) is None
    assert not disk.is_available
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]
    assert names_in(folder) == []


@posix_only
async def test_a_link_in_the_place_of_the_folder_is_refused(
    disk: DiskStorage, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    put_a_folder(elsewhere, 0o700)
    put_a_link(folder, elsewhere)
    assert (await disk.put(entry_for(clock, SMALL), SMALL)).status is StoreStatus.UNAVAILABLE
    assert names_in(elsewhere) == []


@posix_only
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
async def test_rights_do_not_depend_on_the_umask(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        disk = make_disk()
        await disk.put(entry_for(clock, LARGE), LARGE)
        await disk.put(entry_for(clock, SMALL, "2"), SMALL)
        modes = rights_in(folder)
    finally:
        os.umask(before)
    folders = {".", "bodies", "writers", "held"} | {name for name in modes if len(name) == len("bodies/a")}
    assert {modes[name] for name in folders} == {0o700}
    files = {name: mode for name, mode in modes.items() if name not in folders}
    assert set(files.values()) == {0o600}, files


async def test_a_held_file_is_written_elsewhere_when_the_folder_is_full(
    disk: DiskStorage, clock: FakeClock, faulty: FaultyDisk, tmp_path: Path
) -> None:
    faulty.fail("write", "ENOSPC")
    path = await disk.hold(entry_for(clock, SMALL), SMALL, ".png")
    assert path.read_bytes() == SMALL
    assert tmp_path not in path.parents


@pytest.mark.parametrize("number", range(12))
def test_a_connection_that_cannot_be_made_ready_is_closed(tmp_path: Path, number: int) -> None:
    path = tmp_path / "index.sqlite"
    connect(path).close()
    with FaultyDisk(tmp_path) as faulty:
        rule = faulty.fail("sqlite.pragma", "EIO", after=number, times=1)
        with contextlib.suppress(sqlite3.Error):
            connect_to_read(path).close()
        made, closed = ([c.operation for c in faulty.calls].count(f"sqlite.{what}") for what in ("connect", "close"))
    assert made == closed == 1
    assert rule.calls >= 1
