"""Damaged bodies and rows: never served, never crossed, never raised, and the next fetch heals them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.record import DamagedError, decode, encode, seal
from imagecache.storage.rows import number_of
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from . import harm
from .entries import URL, entry_for, variant_of
from .harm import Harm, execute
from .test_disk import body_files, body_of, swept

SMALL = b"small body"
LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]
TIMES = ["before the storage is opened", "under an open storage", "while another process has it open"]

FILE_HARMS: list[Harm] = [
    harm.truncate,
    harm.zero_the_tail,
    harm.flip_a_bit,
    harm.append,
    harm.empty,
    harm.zero,
    harm.scribble,
    harm.replace_by_text,
    harm.replace_by_folder,
    harm.replace_by_link,
    harm.replace_by_pipe,
    harm.replace_by_socket,
    harm.remove,
]
ROW_HARMS = [
    "UPDATE bodies SET body = substr(body, 1, length(body) - 1)",
    "UPDATE bodies SET body = CAST(substr(body, 1, 4) || x'000000000000' AS BLOB)",
    "UPDATE bodies SET body = CAST('Small body' AS BLOB)",
    "UPDATE bodies SET body = CAST(body || 'x' AS BLOB)",
    "UPDATE bodies SET body = x''",
    "UPDATE bodies SET body = 'small body'",
    "UPDATE bodies SET body = 7",
    "UPDATE bodies SET id = id + 1000",
    "DELETE FROM bodies",
]
METADATA_HARMS = [
    "UPDATE entries SET metadata = replace(metadata, '200', '404')",
    "UPDATE entries SET metadata = '['",
    "UPDATE entries SET metadata = CAST(x'5bff' AS TEXT)",
    "UPDATE entries SET metadata = x'ff00'",
    "UPDATE entries SET seal = x'00'",
    "UPDATE entries SET seal = 'text'",
    "UPDATE entries SET metadata = 7, seal = 'text'",
    "UPDATE entries SET file = '../../etc/passwd'",
    "UPDATE entries SET file = 7",
    "UPDATE entries SET file = x'ff'",
    "UPDATE entries SET file = CAST(x'ff' AS TEXT)",
    "UPDATE entries SET stored_until = 'soon'",
    "UPDATE entries SET stored_until = x'00'",
    "UPDATE entries SET lifetime = 'long'",
    "UPDATE entries SET cost = 'dear'",
    "UPDATE entries SET cost = -5",
    "UPDATE entries SET cost = 1e300",
    "UPDATE entries SET cost = cost + 1",
    "UPDATE entries SET etag = '\"2\"'",
    "UPDATE entries SET etag = NULL",
    "UPDATE entries SET checksum = 'x'",
    "UPDATE entries SET checksum = CAST(x'ff' AS TEXT)",
    "UPDATE entries SET key_hash = 'x'",
    "UPDATE entries SET key_hash = CAST(x'ff' AS TEXT)",
    "UPDATE entries SET key = key + 1",
    "UPDATE entries SET key = 'x'",
    "UPDATE entries SET scope = 'somebody'",
    "UPDATE entries SET vary = 'x'",
    "UPDATE entries SET processor = 'round(20)'",
    "UPDATE entries SET namespace = 'response'",
    "UPDATE entries SET namespace = x'ff'",
    "UPDATE entries SET last_access = 'now'",
    "UPDATE entries SET last_access = -1e300",
]


def damage(path: Path, harm: Harm) -> None:
    harm(path)


def change_index(folder: Path, *statements: str) -> None:
    execute(*statements)(folder / "index-1.sqlite")


def read(path: Path) -> bytes:
    return path.read_bytes()


async def opened(
    make_disk: MakeDisk, make_other: MakeDisk, time: str, entries: list[tuple[Entry, bytes]], harm: Callable[[], None]
) -> tuple[DiskStorage, DiskStorage | None]:
    """A storage where those entries were stored and then damaged, and perhaps another process's."""
    disk = make_disk()
    for entry, body in entries:
        assert (await disk.put(entry, body)).status is StoreStatus.STORED
    other = None
    match time:
        case "before the storage is opened":
            await disk.aclose()
            harm()
            return make_disk(), None
        case "while another process has it open":
            other = make_other()
            assert await body_of(other, entries[0][0]) == entries[0][1]
    assert await body_of(disk, entries[0][0]) == entries[0][1]
    harm()
    return disk, other


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("kind", FILE_HARMS, ids=lambda kind: kind.__name__)
async def test_a_damaged_file_is_a_miss_that_the_next_fetch_heals(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, kind: Harm, time: str
) -> None:
    entry = entry_for(clock, LARGE)
    stored = [(entry, LARGE), (variant_of(entry, b"variant"), b"variant")]
    disk, other = await opened(make_disk, make_other, time, stored, lambda: damage(body_files(folder)[0], kind))
    assert await disk.load(entry.row.key_hash, key=URL) is None
    await disk.flush()
    assert await disk.etag(entry.row.key_hash) is None, "no conditional request for bytes that are not there"
    assert (await disk.count(), await disk.size()) == (0, 0), "what was made of them went along"
    assert disk.is_available
    assert disk.faults == 0, "the disk is as good as ever"
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    for storage in (disk, other or disk):
        assert await body_of(storage, entry) == LARGE


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("statement", ROW_HARMS)
async def test_a_damaged_body_in_the_index_is_a_miss_that_the_next_fetch_heals(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, statement: str, time: str
) -> None:
    entry = entry_for(clock, SMALL)
    disk, other = await opened(make_disk, make_other, time, [(entry, SMALL)], lambda: change_index(folder, statement))
    assert await body_of(disk, entry) is None
    # At once, before the damaged row is dropped.
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    for storage in (disk, other or disk):
        assert await body_of(storage, entry) == SMALL
    assert await disk.count() == 1
    assert disk.faults == 0


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("statement", METADATA_HARMS)
async def test_a_damaged_row_is_never_another_and_the_next_fetch_heals_it(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, statement: str, time: str
) -> None:
    entry, scoped = entry_for(clock, SMALL), entry_for(clock, SMALL, scope="somebody", etag='"s"')
    disk, other = await opened(make_disk, make_other, time, [(entry, SMALL)], lambda: change_index(folder, statement))
    for storage in (disk, other or disk):
        found = await storage.load(entry.row.key_hash, key=URL)
        assert found is None or (found.entry, found.body) == (entry, SMALL)
        assert await body_of(storage, scoped) is None
        assert [found async for found in storage.entries()] in ([], [entry])
        assert await storage.etag("x") is None
        assert isinstance(await storage.size(), int)
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    for storage in (disk, other or disk):
        assert await body_of(storage, entry) == SMALL
    assert disk.is_available


@pytest.mark.parametrize("statement", METADATA_HARMS + ROW_HARMS)
async def test_a_damaged_row_stops_neither_trimming_nor_cleaning_nor_clearing(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, statement: str
) -> None:
    disk = make_disk(limit=10 * (len(SMALL) + ROW_COST))
    for number in range(3):
        await disk.put(entry_for(clock, SMALL, str(number)), SMALL)
    change_index(folder, statement)
    for number in range(3, 40):
        assert (await disk.put(entry_for(clock, SMALL, str(number)), SMALL)).status is StoreStatus.STORED
    assert await disk.count() <= 10
    clock.advance(30 * 86_400)
    await disk.clean()
    await disk.clear()
    assert (await disk.put(entry_for(clock, SMALL), SMALL)).status is StoreStatus.STORED
    assert (await disk.count(), await disk.size()) == (1, len(SMALL))


async def test_a_row_under_anothers_key_lends_it_neither_bytes_nor_etag(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    one, two = entry_for(clock, b"one", "1", etag='"one"'), entry_for(clock, b"two", "2", etag='"two"')
    first = make_disk()
    await first.put(one, b"one")
    await first.put(two, b"two")
    await first.aclose()
    key, key_hash = number_of(two.row.key_hash), two.row.key_hash
    change_index(folder, f"UPDATE entries SET key = {key}, key_hash = '{key_hash}'")
    disk = make_disk()
    assert await disk.etag(two.row.key_hash) == '"two"'
    assert await body_of(disk, two) == b"two"
    assert await body_of(disk, one) is None
    assert [key async for key, _, _ in disk.etags()] == [two.row.key_hash]
    await disk.put(one, b"one")
    assert [await body_of(disk, entry) for entry in (one, two)] == [b"one", b"two"]
    assert await disk.count() == 2


async def test_a_row_that_is_there_twice_is_there_once(make_disk: MakeDisk, clock: FakeClock, folder: Path) -> None:
    disk = make_disk()
    old, new = entry_for(clock, b"old"), entry_for(clock, b"new")
    await disk.put(old, b"old")
    change_index(
        folder,
        "CREATE TEMP TABLE twice AS SELECT * FROM entries",
        "UPDATE twice SET id = 100",
        "INSERT INTO entries SELECT * FROM twice",
        "INSERT INTO bodies SELECT 100, body FROM bodies",
    )
    assert await disk.count() == 2
    assert await body_of(disk, old) == b"old"
    await disk.put(new, b"new")
    assert await body_of(disk, new) == b"new"
    await disk.flush()
    assert await disk.count() == 1


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["in the index", "in files"])
async def test_swapped_bodies_are_two_misses(make_disk: MakeDisk, clock: FakeClock, folder: Path, body: bytes) -> None:
    disk = make_disk()
    bodies = [body, body[::-1]]
    entries = [entry_for(clock, each, str(number)) for number, each in enumerate(bodies)]
    for entry, each in zip(entries, bodies, strict=True):
        await disk.put(entry, each)
    if files := body_files(folder):
        swap(*files)
    else:
        change_index(folder, "UPDATE bodies SET id = id + 5", "UPDATE bodies SET id = 8 - id")
    assert [await body_of(disk, entry) for entry in entries] == [None, None]
    for entry, each in zip(entries, bodies, strict=True):
        await disk.put(entry, each)
    assert [await body_of(disk, entry) for entry in entries] == bodies


def swap(one: Path, two: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    two.rename(one)
    between.rename(two)


@pytest.mark.parametrize("kind", FILE_HARMS, ids=lambda kind: kind.__name__)
async def test_a_damaged_file_is_healed_by_a_reload_that_never_read_it(
    disk: DiskStorage, clock: FakeClock, folder: Path, kind: Harm
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    damage(body_files(folder)[0], kind)
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE


@pytest.mark.parametrize("statement", ROW_HARMS)
async def test_a_damaged_body_in_the_index_is_healed_by_a_reload_that_never_read_it(
    disk: DiskStorage, clock: FakeClock, folder: Path, statement: str
) -> None:
    entry, variant = entry_for(clock, SMALL), variant_of(entry_for(clock, SMALL), b"variant")
    await disk.put(entry, SMALL)
    change_index(folder, statement)
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == SMALL
    assert (await disk.put(variant, b"variant")).status is StoreStatus.STORED
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, variant) == b"variant", "the bytes are the same, and so is what was made of them"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET cost = 'dear'",
        "UPDATE entries SET cost = cost + 1",
        "UPDATE entries SET checksum = CAST(x'ff' AS TEXT)",
        "UPDATE entries SET file = x'ff'",
        "UPDATE entries SET seal = x'00'",
    ],
)
async def test_a_damaged_row_is_healed_by_a_reload_that_never_read_it(
    disk: DiskStorage, clock: FakeClock, folder: Path, statement: str
) -> None:
    entry = entry_for(clock, SMALL)
    await disk.put(entry, SMALL)
    change_index(folder, statement)
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == SMALL
    assert await disk.size() == len(SMALL)


async def test_a_row_whose_last_access_is_damaged_is_evicted_all_the_same(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk = make_disk(limit=10 * (len(SMALL) + ROW_COST))
    await disk.put(entry_for(clock, SMALL), SMALL)
    change_index(folder, "UPDATE entries SET last_access = -1e300")
    for number in range(20):
        await disk.put(entry_for(clock, SMALL, str(number)), SMALL)
    assert await body_of(disk, entry_for(clock, SMALL)) is None


async def test_a_hard_link_to_the_bytes_is_the_bytes_and_its_other_name_stays(
    disk: DiskStorage, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    elsewhere = tmp_path / "elsewhere"
    link(elsewhere, body_files(folder)[0])
    assert await body_of(disk, entry) == LARGE
    await disk.remove(entry.row.key_hash)
    await disk.flush()
    assert body_files(folder) == []
    assert read(elsewhere) == LARGE


def link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


async def test_what_a_link_leads_to_is_neither_read_nor_changed_nor_removed(
    disk: DiskStorage, clock: FakeClock, folder: Path
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    [file] = body_files(folder)
    damage(file, harm.replace_by_link)
    assert await body_of(disk, entry) is None
    await disk.put(entry, LARGE)
    await disk.remove(entry.row.key_hash)
    await disk.clean()
    await swept(disk)
    assert read(file.with_name("elsewhere")) == LARGE


async def test_a_page_that_the_writer_remembers_whole_is_healed_all_the_same(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    # A put of known bytes wrote new metadata and left the page that readers find the row by as it was: damaged.
    disk = make_disk()
    entries = [entry_for(clock, SMALL, str(number)) for number in range(5)]
    for entry in entries:
        await disk.put(entry, SMALL)
    checkpoint(folder / "index-1.sqlite")
    # The writer looks into the tree, changes nothing of it, and remembers it.
    await disk.remove("f" * 64)
    break_the_key(folder / "index-1.sqlite", number_of(entries[2].row.key_hash))
    assert await body_of(disk, entries[2]) is None, "or nothing is shown by what follows"
    assert (await disk.put(entries[2], SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entries[2]) == SMALL


def checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def break_the_key(path: Path, key: int) -> None:
    """Change a number in the tree that rows are found by, in the file alone."""
    with closing(sqlite3.connect(path)) as db:
        statement = "SELECT rootpage FROM sqlite_master WHERE name = 'entries_by_key'"
        start = (db.execute(statement).fetchone()[0] - 1) * 4096
        place = path.read_bytes().index(key.to_bytes(6, "big"), start, start + 4096)
        harm.overwrite(path, place, (key ^ 1).to_bytes(6, "big"))


@pytest.mark.parametrize(("stored_until", "lifetime"), [("x", None), (None, None), (b"", None), (1.0, "x"), (1.0, b"")])
def test_columns_outside_the_seal_are_numbers(clock: FakeClock, stored_until: float, lifetime: float | None) -> None:
    metadata = encode(entry_for(clock, SMALL))
    with pytest.raises(DamagedError):
        decode(metadata, seal(metadata), stored_until, lifetime)


async def test_an_entry_whose_stored_until_is_no_number_is_refused_and_harms_no_other(
    disk: DiskStorage, clock: FakeClock
) -> None:
    good, bad = entry_for(clock, SMALL), entry_for(clock, SMALL, "bad")
    futures = [disk.put(good, SMALL), disk.put(replace(bad, stored_until=float("nan")), SMALL)]
    assert [(await future).status for future in futures] == [StoreStatus.STORED, StoreStatus.FAILED]
    assert await body_of(disk, good) == SMALL


@pytest.mark.parametrize("name", ["notes.txt", "../../notes.txt", "/etc/passwd", "a\0b", "{}-", b"\xff", 7], ids=repr)
async def test_the_list_of_what_is_to_be_removed_names_nothing_but_bodies(
    disk: DiskStorage, clock: FakeClock, folder: Path, name: object
) -> None:
    await disk.put(entry_for(clock, LARGE), LARGE)
    foreign = body_files(folder)[0].parent / "notes.txt"
    write(foreign)
    insert_trash(folder, name)
    for _ in range(2):
        assert (await disk.put(entry_for(clock, SMALL, "next"), SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entry_for(clock, LARGE)) == LARGE
    assert read(foreign) == b"somebody's"
    assert trash(folder) == []


def write(path: Path) -> None:
    path.write_bytes(b"somebody's")


def insert_trash(folder: Path, name: object) -> None:
    with closing(sqlite3.connect(folder / "index-1.sqlite")) as db, db:
        db.execute("INSERT INTO trash VALUES (?)", (name,))


def trash(folder: Path) -> list[object]:
    with closing(sqlite3.connect(folder / "index-1.sqlite")) as db:
        return db.execute("SELECT file FROM trash").fetchall()
