"""A damaged index, its log, its totals or the pointer to it: nothing wrong is served, nothing raised, caching goes on.

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
from imagecache.storage.index import INLINE_LIMIT, ROW_COST, Index
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
    *(cut_to(size) for size in (1, 50, 100, 511, 4095, 4096, 4097, 8192, 20_000, -4096)),
    *(flip_bits(seed) for seed in range(12)),
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


def made(clock: FakeClock, count: int = 24) -> Stored:
    entries: Stored = []
    for number in range(count):
        body = LARGE[: 3000 * number]
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
    """The next fetch of each is stored, and found. Its turn may be what finds the damage, and begins anew."""
    for entry, body in entries:
        await disk.put(entry, body)
    for entry, body in entries:
        if await body_of(disk, entry) is None:
            assert (await disk.put(entry, body)).status is StoreStatus.STORED
            assert await body_of(disk, entry) == body
    assert [await body_of(disk, entry) for entry, _ in entries] == [body for _, body in entries]
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
            print((folder / "imagecache-v1" / "current").read_text(), await loaded(), flush=True)
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
    *(flip_bits(seed) for seed in range(4)),
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


# The pointer


def write_pointer(content: bytes) -> Harm:
    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    damage.__name__ = repr(content)
    return damage


def empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


GARBAGE = [
    write_pointer(content)
    for content in (
        b"", b"\n", b"x\n", b"\xff\xfe", bytes(4096), b"9" * 5000, b"9" * 20 + b"\n", b"-2\n", b"0\n", b"2.5\n",
        b"\xd9\xa2\n", b"2\n2\n", b"../../x\n",
    )
]  # fmt: skip
NO_FILES: list[Harm] = [
    harm.remove,
    empty_folder,
    harm.replace_by_folder,
    harm.replace_by_link,
    harm.replace_by_pipe,
    harm.replace_by_socket,
]


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("kind", [*GARBAGE, *NO_FILES], ids=name_of)
async def test_a_damaged_pointer_means_the_highest_index_there_is(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, kind: Harm, time: str
) -> None:
    entries, disk, other = made(clock, 5), make_disk(), None
    await disk.put(*entries[0])
    await disk.aclose()
    damage(folder / "index-1.sqlite", harm.scribble)
    disk = make_disk()
    await store_all(disk, entries)
    assert pointer(folder) == 2
    if time.startswith("before"):
        await disk.aclose()
        damage(folder / "current", kind)
        disk = make_disk()
    else:
        other = make_other() if time.startswith("while") else disk
        assert await body_of(other, entries[3][0]) == entries[3][1]
        damage(folder / "current", kind)
    for storage in (disk, other or disk):
        assert [await body_of(storage, entry) for entry, _ in entries] == [body for _, body in entries]
        await heal(storage, entries)
        assert storage.faults == 0


@pytest.mark.parametrize("number", [1, 3, 7, 999_999_999])
async def test_a_pointer_to_another_index_than_ours_serves_nothing_wrong(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, number: int
) -> None:
    entries, disk, other = made(clock, 5), make_disk(), make_other()
    await store_all(disk, entries)
    assert await body_of(other, entries[3][0]) == entries[3][1]
    damage(folder / "current", write_pointer(b"%d\n" % number))
    for storage in (disk, other):
        await look_at_everything(storage, entries)
        await heal(storage, entries)
    assert pointer(folder) == number


@pytest.mark.parametrize("kind", [empty_folder, harm.replace_by_link, harm.replace_by_pipe], ids=name_of)
async def test_a_damaged_index_is_abandoned_over_a_damaged_pointer(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, kind: Harm
) -> None:
    entries, disk = made(clock, 5), make_disk()
    await store_all(disk, entries)
    await disk.aclose()
    damage(folder / "current", write_pointer(b"1\n"))
    damage(folder / "current", kind)
    damage(folder / "index-1.sqlite", harm.scribble)
    disk = make_disk()
    await heal(disk, entries)
    assert pointer(folder) == 2


async def test_what_somebody_filled_in_the_pointers_place_stays_and_the_rest_is_memory_only(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    entries, disk = made(clock, 5), make_disk()
    await store_all(disk, entries)
    await disk.aclose()
    damage(folder / "current", write_pointer(b"1\n"))
    damage(folder / "current", harm.replace_by_folder)
    damage(folder / "index-1.sqlite", harm.scribble)
    disk = make_disk()
    await look_at_everything(disk, entries)
    assert (await disk.put(*entries[0])).status is StoreStatus.UNAVAILABLE
    assert not disk.is_available
    assert is_there(folder / "current" / "notes.txt")
    assert not [name for name in names_in(folder) if name.startswith("current-")]


def names_in(path: Path) -> list[str]:
    return [found.name for found in path.iterdir()]


async def test_what_a_crash_left_beside_the_pointer_is_swept(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk = make_disk()
    await disk.count()
    left, foreign = folder / f"current-{'0' * 16}", folder / "current-notes"
    damage(left, write_pointer(b"7\n"))
    damage(foreign, write_pointer(b"somebody's"))
    await disk.clean()
    await swept(disk)
    assert not is_there(left)
    assert is_there(foreign)


# The totals

TOTALS = [
    "rows = 'x'", "rows = -1", "rows = 7.5", "rows = 1000000", "rows = 0", "rows = 9223372036854775807", "rows = x'00'",
    "bytes = 'x'", "bytes = -1", "bytes = 1e300", "bytes = 9223372036854775807", "bytes = 2.5", "bytes = x'00'",
    "bytes = 1000000000", "rows = -1, bytes = -1", "secret = 'x'", "secret = x'00'", "secret = 7", "writer = 7",
    "writer = x'ff'", "writer = CAST(x'ff' AS TEXT)",
]  # fmt: skip


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("values", TOTALS)
async def test_damaged_totals_break_neither_puts_nor_trims_and_are_right_in_the_end(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, values: str, time: str
) -> None:
    limit = 20 * (ROW_COST + 100)
    disk, other = make_disk(limit=limit), None
    entries = [(entry_for(clock, b"x" * 100, str(number)), b"x" * 100) for number in range(8)]
    await store_all(disk, entries)
    if time.startswith("before"):
        await disk.aclose()
    elif time.startswith("while"):
        other = make_other(limit=limit)
        assert await body_of(other, entries[5][0]) == entries[5][1]
    damage(folder / "index-1.sqlite", execute(f"UPDATE totals SET {values}"))
    if time.startswith("before"):
        disk = make_disk(limit=limit)
    more = [(entry_for(clock, b"y" * 100, f"more {number}"), b"y" * 100) for number in range(60)]
    for storage in (disk, other or disk):
        await look_at_everything(storage, entries + more)
        await store_all(storage, more)
        assert storage.is_available
        assert [body for entry, body in more if await body_of(storage, entry) not in (None, body)] == []
    await disk.clear()
    assert (await disk.count(), await disk.size()) == (0, 0), "there is nothing left that could be wrong"
    await store_all(disk, entries)
    assert (await disk.count(), await disk.size()) == (8, 800)


@pytest.mark.parametrize("values", [values for values in TOTALS if values != "bytes = 1000000000"])
async def test_totals_that_cannot_be_are_counted_anew_at_the_next_opening(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, values: str
) -> None:
    disk = make_disk()
    await store_all(disk, made(clock, 8))
    expected = await disk.count(), await disk.size()
    secret = await disk.secret()
    await disk.aclose()
    damage(folder / "index-1.sqlite", execute(f"UPDATE totals SET {values}"))
    disk = make_disk()
    if values != "bytes = 9223372036854775807":
        assert (await disk.count(), await disk.size()) == expected
    assert (await disk.secret() == secret) is not values.startswith("secret")
    assert len(await disk.secret()) == 32
    assert pointer(folder) == 1


async def test_totals_that_may_be_right_are_not_counted_at_every_opening(
    make_disk: MakeDisk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_disk()
    await store_all(disk, made(clock, 8))
    await disk.aclose()
    counted: list[object] = []
    monkeypatch.setattr("imagecache.storage.schema.recount", counted.append)
    monkeypatch.setattr(Index, "recount", counted.append)
    disk = make_disk()
    assert await disk.count() == 9
    await disk.clean()
    assert counted == []
