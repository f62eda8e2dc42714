"""A damaged pointer to the index in use, and damaged totals in it: neither costs more than what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import ROW_COST, Index
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from . import harm
from .entries import entry_for
from .harm import Harm, execute
from .test_damaged_index import TIMES, damage, heal, is_there, look_at_everything, made, name_of, pointer, store_all
from .test_disk import body_of, swept

MakeDisk = Callable[..., DiskStorage]

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


async def test_totals_that_are_wrong_and_look_right_are_right_after_clearing(
    disk: DiskStorage, clock: FakeClock, folder: Path
) -> None:
    await store_all(disk, made(clock, 8))
    damage(folder / "index-1.sqlite", execute("UPDATE totals SET bytes = bytes + 1024, rows = rows + 1"))
    await disk.clear()
    assert (await disk.count(), await disk.size()) == (0, 0)


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
