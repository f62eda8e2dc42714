"""A damaged index, or its log: nothing wrong is served, nothing raised, caching goes on.

An index that cannot be used is abandoned for the next, never renamed or removed while anybody may hold it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.schema import APPLICATION_ID, SCHEMA_VERSION
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from . import harm
from .entries import entry_for, variant_of
from .harm import Harm, cut_to, execute, flip_bits
from .test_disk import body_files, body_of, swept
from .test_sharing import process

LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]
Stored = list[tuple[Entry, bytes]]
TIMES = ["before the storage is opened", "under an open storage", "while another process has it open"]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be replaced there")


def create_database(*statements: str) -> Harm:
    """Another program's database in its place."""

    def damage(path: Path) -> None:
        path.unlink()
        execute(*statements)(path)

    damage.__name__ = f"other_program_{statements[0]}"
    return damage


IN_PLACE: list[Harm] = [
    harm.truncate,
    harm.append,
    harm.empty,
    harm.zero,
    harm.scribble,
    *(cut_to(size) for size in (1, 100, 511, 4096, 4097, 20_000, -4096)),
    *(flip_bits(seed) for seed in range(8)),
]
BY_SQL: list[Harm] = [
    execute(f"PRAGMA user_version={SCHEMA_VERSION - 1}"),
    execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}"),
    execute("PRAGMA user_version=0"),
    execute("PRAGMA application_id=7"),
    execute("DROP TABLE totals"),
    execute("DROP TABLE bodies"),
    execute("DROP TABLE entries"),
    execute("DROP INDEX entries_by_access"),
    execute("DROP TRIGGER entry_deleted"),
    execute("DELETE FROM totals"),
    execute("INSERT INTO totals SELECT * FROM totals"),
    execute("ALTER TABLE entries ADD COLUMN more"),
    execute("ALTER TABLE entries RENAME COLUMN cost TO price"),
    execute("CREATE TRIGGER theirs AFTER INSERT ON entries BEGIN DELETE FROM entries; END"),
    execute("CREATE VIEW theirs AS SELECT load_extension('theirs') FROM entries"),
    execute("CREATE TABLE theirs (x)"),
    # SQLite's message holds the name, and the sqlite3 module fails to say it.
    execute(
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT), sql = 'CREATE TABLE' WHERE name = 'leases'",
    ),
    execute("CREATE TABLE x AS SELECT * FROM entries", "DROP TABLE entries", "ALTER TABLE x RENAME TO entries"),
]
REPLACED: list[Harm] = [
    create_database("CREATE TABLE entries (x)"),
    create_database(f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={SCHEMA_VERSION}"),
    harm.replace_by_text,
    harm.replace_by_folder,
    harm.replace_by_link,
    harm.replace_by_pipe,
    harm.remove,
]


def name_of(kind: object) -> str:
    return getattr(kind, "__name__", repr(kind))


def damage(path: Path, kind: Harm) -> None:
    kind(path)


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def is_there(path: Path) -> bool:
    return path.exists()


def pointer(folder: Path) -> int:
    path = folder / "current"
    return int(path.read_text()) if path.exists() else 1


def checkpoint(path: Path) -> None:
    """Bring everything from the log into the file, so that the file is what is read."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def made(clock: FakeClock, count: int = 10) -> Stored:
    entries: Stored = []
    for number in range(count):
        body = LARGE[: 4000 * number]
        entries.append((entry_for(clock, body, str(number)), body))
    entries.append((variant_of(entries[3][0], b"variant"), b"variant"))
    return entries


async def store_all(disk: DiskStorage, entries: Stored) -> None:
    for result in await asyncio.gather(*(disk.put(entry, body) for entry, body in entries)):
        assert result.status is StoreStatus.STORED


async def look_at_everything(disk: DiskStorage, entries: Stored) -> None:
    """Whatever is asked, the answer is right or none."""
    for entry, body in entries:
        assert await body_of(disk, entry) in (None, body)
        assert await disk.etag(entry.row.key_hash) in (None, '"1"')
    assert [found async for found in disk.entries() if found not in [entry for entry, _ in entries]] == []
    assert [type(total) for total in (await disk.size(), await disk.count())] == [int, int]
    assert len(await disk.secret()) == 32


async def heal(disk: DiskStorage, entries: Stored) -> None:
    """The next fetches store what is missing. What finds the damage begins anew, perhaps in the middle of it: in a
    thread that has read nothing since, or behind the answer of a read."""
    for _ in range(5):
        missing = [(entry, body) for entry, body in entries if await body_of(disk, entry) != body]
        if not missing:
            break
        for entry, body in missing:
            await disk.put(entry, body)
        await disk.poll()
    assert missing == []
    assert disk.is_available


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    "kind",
    [*IN_PLACE, *BY_SQL, *(pytest.param(kind, marks=posix_only) for kind in REPLACED)],
    ids=name_of,
)
async def test_a_damaged_index_serves_nothing_wrong_and_the_next_fetch_heals(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, kind: Harm, time: str
) -> None:
    entries, index, other = made(clock), folder / "index-1.sqlite", None
    disk = make_disk()
    await store_all(disk, entries)
    if time == "while another process has it open":
        other = make_other()
        assert await body_of(other, entries[5][0]) == entries[5][1]
    if other is None and time.startswith("before"):
        await disk.aclose()
        damage(index, kind)
        disk = make_disk()
    else:
        assert await body_of(disk, entries[5][0]) == entries[5][1]
        checkpoint(index)
        damage(index, kind)
    await look_at_everything(disk, entries)
    await heal(disk, entries)
    if other is not None:
        await look_at_everything(other, entries)
        await heal(other, entries)
        await disk.poll()
        await heal(disk, entries)
        assert await body_of(other, entries[5][0]) == entries[5][1]


@pytest.mark.parametrize(
    "kind",
    [harm.scribble, harm.empty, harm.zero, execute("DROP TABLE totals"), execute("DROP TABLE entries")],
    ids=name_of,
)
async def test_an_abandoned_index_stays_while_anybody_may_hold_it_and_is_swept_then(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, kind: Harm
) -> None:
    entries, index = made(clock), folder / "index-1.sqlite"
    disk, other = make_disk(), make_other()
    await store_all(disk, entries)
    assert await body_of(other, entries[5][0]) == entries[5][1]
    checkpoint(index)
    damage(index, kind)
    before = identity(index)
    await look_at_everything(disk, entries)
    await heal(disk, entries)
    assert pointer(folder) == 2
    for storage in (disk, other):
        await storage.clean()
        await swept(storage)
        assert identity(index) == before, "nobody renames or removes what another may hold"
    await heal(other, entries)
    await other.aclose()
    await disk.clean()
    await swept(disk)
    assert not is_there(index)
    assert not is_there(folder / "index-1.sqlite-wal")
    assert is_there(folder / "index-2.sqlite")
    assert len(body_files(folder)) == sum(len(body) > INLINE_LIMIT for _, body in entries)
    assert [await body_of(disk, entry) for entry, _ in entries] == [body for _, body in entries]


async def test_a_process_that_still_holds_a_damaged_index_goes_on_with_the_next(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    script = """
        body = bytes(range(250)) * 12
        async def main():
            disk = DiskStorage(folder, clock=clock)
            entries = [entry_for(clock, body, str(number)) for number in range(40)]
            async def loaded():
                found = [await disk.load(entry.row.key_hash, key=entry.key) for entry in entries]
                assert all(one is None or one.body == body for one in found), "wrong"
                return sum(one is not None for one in found)
            for entry in entries:
                await disk.put(entry, body)
            for _ in range(3):
                print(await loaded(), flush=True)
                await asyncio.to_thread(input)
            await disk.put(entries[0], body)
            await disk.poll()
            print((folder / "imagecache-v2" / "current").read_text(), await loaded(), flush=True)
            await disk.aclose()
        asyncio.run(main())
        """
    with process(script, tmp_path) as child:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None

        async def answer() -> str:
            return (await asyncio.to_thread(stdout.readline)).strip()

        def go_on() -> None:
            stdin.write("\n")
            stdin.flush()

        assert await answer() == "40"
        index = folder / "index-1.sqlite"
        checkpoint(index)
        before = identity(index)
        damage(index, harm.scribble)
        disk = make_disk()
        ours = entry_for(clock, b"ours", "ours")
        await disk.put(ours, b"ours")
        assert await body_of(disk, ours) == b"ours"
        await disk.clean()
        await swept(disk)
        assert identity(index) == before
        for _ in range(2):
            go_on()
            assert 0 <= int(await answer()) <= 40
        go_on()
        assert await answer() == "2"
        assert int(await answer()) >= 1
        assert await asyncio.to_thread(child.wait, 30) == 0
    assert await body_of(disk, ours) == b"ours"


@pytest.mark.parametrize("kind", BY_SQL, ids=name_of)
async def test_an_index_that_is_not_as_we_make_it_is_another_programs(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, kind: Harm
) -> None:
    entries, disk = made(clock), make_disk()
    await store_all(disk, entries)
    await disk.aclose()
    damage(folder / "index-1.sqlite", kind)
    disk = make_disk()
    await heal(disk, entries)
    assert pointer(folder) == 2


# The log


def keep(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy)


def put_back(copy: Path, folder: Path) -> None:
    """As a crash leaves it: the log is still there, the writers are not."""
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    for lock in (folder / "writers").iterdir():
        lock.unlink()


SIDECAR_HARMS: list[Harm] = [
    harm.truncate,
    harm.append,
    harm.empty,
    harm.zero,
    harm.scribble,
    *(flip_bits(seed) for seed in range(3)),
    harm.replace_by_text,
    harm.replace_by_folder,
    harm.replace_by_link,
    harm.replace_by_pipe,
    harm.remove,
]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("kind", SIDECAR_HARMS, ids=name_of)
async def test_a_damaged_log_that_a_crash_left_serves_nothing_wrong(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path, kind: Harm, suffix: str
) -> None:
    entries, first = made(clock), make_disk()
    await store_all(first, entries)
    keep(folder, tmp_path / "kept")
    await first.aclose()
    put_back(tmp_path / "kept", folder)
    damage(folder / f"index-1.sqlite{suffix}", kind)
    disk = make_disk()
    await look_at_everything(disk, entries)
    await heal(disk, entries)
    await disk.clean()
    await swept(disk)
    assert len(body_files(folder)) == sum(len(body) > INLINE_LIMIT for _, body in entries)


# A map of memory that is cut short ends the process that looks at it (SIGBUS): what the index of the log is while
# it is in use cannot be guarded from outside, so it is not cut here.
LIVE_HARMS = [("-wal", kind) for kind in SIDECAR_HARMS] + [
    ("-shm", kind) for kind in (harm.zero, harm.scribble, flip_bits(1), flip_bits(2), harm.remove)
]


@posix_only
@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "with another"])
@pytest.mark.parametrize(("suffix", "kind"), LIVE_HARMS, ids=name_of)
async def test_a_log_that_is_damaged_in_use_serves_nothing_wrong(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, suffix: str, kind: Harm, is_shared: bool
) -> None:
    entries, disk = made(clock), make_disk()
    await store_all(disk, entries)
    storages = [disk, make_other()] if is_shared else [disk]
    for storage in storages:
        assert await body_of(storage, entries[5][0]) == entries[5][1]
    damage(folder / f"index-1.sqlite{suffix}", kind)
    for storage in storages:
        await look_at_everything(storage, entries)
    for storage in storages:
        await heal(storage, entries)
    await disk.poll()
    await look_at_everything(disk, entries)
    await heal(disk, entries)


@posix_only
async def test_an_index_that_is_gone_while_another_holds_it_is_not_made_anew_under_its_name(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    # The new file would share its log with the one that was taken away.
    entries, disk, other = made(clock), make_disk(), make_other()
    await store_all(disk, entries)
    assert await body_of(other, entries[5][0]) == entries[5][1]
    damage(folder / "index-1.sqlite", harm.remove)
    await heal(disk, entries)
    assert pointer(folder) == 2
    await heal(other, entries)
    assert await body_of(disk, entries[5][0]) == entries[5][1]
