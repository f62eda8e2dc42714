"""Damage: whatever happened to files and index, it is never served, never raised, and the next fetch heals it."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import URL, entry_for, variant_of
from .test_disk import body_files, body_of, swept

SMALL = b"small body"
LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero_the_tail(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[:-100] + bytes(100))


def flip_a_bit(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_a_link(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def make_a_pipe(path: Path) -> None:
    path.unlink()
    if sys.platform == "win32":
        pytest.skip("no pipes in folders there")
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        zero_the_tail,
        flip_a_bit,
        append,
        empty,
        make_a_folder,
        make_a_link,
        make_a_pipe,
        Path.unlink,
    ],
)
async def test_a_damaged_body_is_a_miss_that_the_next_fetch_heals(
    disk: DiskStorage, clock: FakeClock, folder: Path, damage: Callable[[Path], None]
) -> None:
    entry, variant = entry_for(clock, LARGE), variant_of(entry_for(clock, LARGE), b"variant")
    await disk.put(entry, LARGE)
    await disk.put(variant, b"variant")
    damage(body_files(folder)[0])
    assert await disk.load(entry.row.key_hash, key=URL) is None
    await disk.flush()
    assert await disk.etag(entry.row.key_hash) is None, "no conditional request for bytes that are not there"
    assert (await disk.count(), await disk.size()) == (0, 0)
    assert disk.is_available
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE


async def test_a_lost_file_is_healed_by_a_reload_that_never_read_it(
    disk: DiskStorage, clock: FakeClock, folder: Path
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    body_files(folder)[0].unlink()
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE


async def test_swapped_bodies_are_two_misses(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    entries = [entry_for(clock, LARGE, "a"), entry_for(clock, LARGE[::-1], "b")]
    await disk.put(entries[0], LARGE)
    await disk.put(entries[1], LARGE[::-1])
    one, two = body_files(folder)
    bodies = one.read_bytes(), two.read_bytes()
    one.write_bytes(bodies[1])
    two.write_bytes(bodies[0])
    assert [await body_of(disk, entry) for entry in entries] == [None, None]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bodies SET body = 'something else'",
        "DELETE FROM bodies",
        "UPDATE entries SET metadata = replace(metadata, '200', '404')",
        "UPDATE entries SET metadata = '['",
        "UPDATE entries SET seal = x'00'",
        "UPDATE entries SET metadata = 7, seal = 'text'",
        "UPDATE entries SET file = '../../etc/passwd'",
        "UPDATE entries SET file = NULL, metadata = x'ff00'",
    ],
)
async def test_a_damaged_row_is_a_miss_that_the_next_fetch_heals(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, statement: str
) -> None:
    entry = entry_for(clock, SMALL)
    first = make_disk()
    await first.put(entry, SMALL)
    await first.aclose()
    with sqlite3.connect(folder / "index-1.sqlite") as db:
        db.execute(statement)
    db.close()
    disk = make_disk()
    assert await body_of(disk, entry) is None
    # At once, before the damaged row is dropped.
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == SMALL
    assert await disk.count() == 1


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE entries (x)")
    db.close()


def other_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()


def lost_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE totals")
    db.close()


def lost_totals(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM totals")
    db.close()


@pytest.mark.parametrize(
    "damage",
    [garbage, cut_in_half, empty, other_program, other_version, lost_table, lost_totals, make_a_folder, make_a_link],
)
async def test_an_index_that_cannot_be_used_is_abandoned_for_the_next(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, damage: Callable[[Path], None]
) -> None:
    entries: list[tuple[Entry, bytes]] = []
    for number in range(20):
        body = LARGE[: 3000 * number]
        entries.append((entry_for(clock, body, str(number)), body))
    first = make_disk()
    for entry, body in entries:
        await first.put(entry, body)
    await first.aclose()
    index = folder / "index-1.sqlite"
    damage(index)
    disk = make_disk()
    for entry, body in entries:
        assert await body_of(disk, entry) in (None, body)
        assert (await disk.put(entry, body)).status is StoreStatus.STORED
        assert await body_of(disk, entry) == body
    assert await disk.count() == 20
    assert disk.is_available


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "overwritten"])
async def test_an_index_that_is_broken_while_two_hold_it_is_abandoned_by_both(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, is_cut: bool
) -> None:
    first, second = make_disk(), make_other()
    entries = [(entry_for(clock, LARGE[:size], str(size)), LARGE[:size]) for size in range(2000, 4000, 20)]
    for entry, body in entries:
        first.put(entry, body)
    await first.flush()
    assert await body_of(second, entries[0][0]) == entries[0][1]
    for name in ("index-1.sqlite", "index-1.sqlite-wal"):
        # What a test may do and the library may not: open these files.
        with (folder / name).open("r+b") as file:
            if is_cut:
                file.truncate(4096)
            else:
                file.seek(4096)
                file.write(os.urandom(folder.joinpath(name).stat().st_size))
    for disk in (first, second):
        for entry, body in entries:
            assert await body_of(disk, entry) in (None, body)
    for disk in (first, second):
        for entry, body in entries:
            await disk.put(entry, body)
    for disk in (first, second):
        await disk.poll()
        assert [await body_of(disk, entry) for entry, _ in entries] == [body for _, body in entries]
    assert (folder / "current").read_text() == "2\n"
    assert (folder / "index-1.sqlite").exists(), "somebody might still hold it"


async def test_foreign_files_are_left_alone_and_orphans_are_swept(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    first = make_disk()
    entry = entry_for(clock, LARGE)
    await first.put(entry, LARGE)
    await first.aclose()
    [kept] = body_files(folder)
    orphan = kept.with_name(f"{entry.row.key_hash}-{'0' * 16}0.png")
    orphan.write_bytes(b"left behind by a crash")
    foreign = kept.with_name("notes.txt")
    foreign.write_bytes(b"somebody's")
    disk = make_disk()
    assert await body_of(disk, entry) == LARGE
    await disk.clean()
    await swept(disk)
    assert sorted(body_files(folder)) == sorted([kept, foreign])
