"""What is certainly not stored is known without a look into the index, and never of anything that is."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from imagecache.entry import RowKey
from imagecache.keys import hash_for_key
from imagecache.storage import absence
from imagecache.storage.absence import FEWEST, PLACES, Absence
from imagecache.storage.disk import DiskStorage
from imagecache.storage.folder import Folder
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.leases import COMPANY_SECONDS
from imagecache.storage.rows import number_of
from imagecache.testing.clock import FakeClock

from .conftest import MakeDisk
from .entries import entry_for

MANY = 200
ABSENT = [hash_for_key(f"http://a.example/absent/{n}") for n in range(MANY)]


async def look_for_company(disk: DiskStorage) -> None:
    """What a miss does every second: ask who else is there, and learn what there is while nobody is."""
    await disk.lease(RowKey(hash_for_key("http://a.example/another")))
    # The rest is learned in turns of the writer's thread; each of these is one behind it.
    for _ in range(5):
        await disk.poll()


async def put(disk: DiskStorage, clock: FakeClock, url: str, body: bytes = b"body") -> str:
    entry = entry_for(clock, body, url)
    await disk.put(entry, body)
    return entry.row.key_hash


async def test_a_new_folder_lacks_everything_until_it_is_put(disk: DiskStorage, clock: FakeClock) -> None:
    # Nobody knows before the first look.
    assert not disk.lacks(ABSENT[0])
    await look_for_company(disk)
    assert all(disk.lacks(key_hash) for key_hash in ABSENT)

    entry = entry_for(clock, b"body")
    stored = disk.put(entry, b"body")
    assert not disk.lacks(entry.row.key_hash)
    await stored
    assert not disk.lacks(entry.row.key_hash)


@pytest.mark.parametrize("size", [4, INLINE_LIMIT + 1])
async def test_what_was_stored_before_is_never_lacked(
    make_disk: MakeDisk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(absence, "SLICE", 7)
    first = make_disk()
    stored = [await put(first, clock, f"http://a.example/{n}", b"x" * size) for n in range(20)]
    await first.aclose()
    disk = make_disk()
    await look_for_company(disk)
    assert not any(disk.lacks(key_hash) for key_hash in stored)
    assert sum(disk.lacks(key_hash) for key_hash in ABSENT) > MANY * 9 // 10


async def test_what_goes_and_comes_again_is_found(disk: DiskStorage, clock: FakeClock) -> None:
    await look_for_company(disk)
    key_hash = await put(disk, clock, "http://a.example/x")
    await disk.remove(key_hash)
    await disk.clear()
    await put(disk, clock, "http://a.example/x")
    assert not disk.lacks(key_hash)
    assert await disk.contains(key_hash)


@pytest.fixture
def held_opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Folders are not made until this is set."""
    may_go = threading.Event()
    prepare = Folder.prepare

    def held(self: Folder) -> None:
        may_go.wait(30)
        prepare(self)

    monkeypatch.setattr(Folder, "prepare", held)
    yield may_go
    may_go.set()


async def test_in_a_folder_that_is_to_be_made_is_nothing(
    make_disk: MakeDisk, clock: FakeClock, held_opening: threading.Event
) -> None:
    disk = make_disk()
    assert [disk.has_looked] == [False]
    # Whoever is cancelled while it waits takes nothing from the others.
    hasty = asyncio.create_task(disk.look())
    await asyncio.sleep(0)
    hasty.cancel()
    await disk.look()
    assert disk.has_looked
    assert all(disk.lacks(key_hash) for key_hash in ABSENT)
    assert await disk.lease(RowKey(ABSENT[0]))

    entry = entry_for(clock, b"body")
    stored = disk.put(entry, b"body")
    assert not disk.lacks(entry.row.key_hash)
    held_opening.set()
    await stored
    assert not disk.lacks(entry.row.key_hash)
    assert await disk.contains(entry.row.key_hash)
    assert all(disk.lacks(key_hash) for key_hash in ABSENT)


async def test_a_folder_that_is_there_is_looked_into(
    make_disk: MakeDisk, clock: FakeClock, held_opening: threading.Event
) -> None:
    held_opening.set()
    first = make_disk()
    key_hash = await put(first, clock, "http://a.example/x")
    await first.aclose()
    held_opening.clear()
    disk = make_disk()
    await disk.look()
    assert not disk.lacks(key_hash)
    assert not disk.lacks(ABSENT[0])


async def test_in_company_nothing_is_known(
    disk: DiskStorage, make_other: Callable[..., DiskStorage], clock: FakeClock
) -> None:
    await look_for_company(disk)
    assert disk.lacks(ABSENT[0])

    other = make_other()
    theirs = await put(other, clock, "http://a.example/theirs")
    clock.advance(COMPANY_SECONDS)
    # The last look is too long ago.
    assert not disk.lacks(ABSENT[0])
    await look_for_company(disk)
    assert not disk.lacks(ABSENT[0])

    await other.aclose()
    clock.advance(COMPANY_SECONDS)
    await look_for_company(disk)
    assert disk.lacks(ABSENT[0])
    assert not disk.lacks(theirs)


async def test_who_came_and_went_between_two_looks_is_known_of_by_the_second(
    disk: DiskStorage, make_other: Callable[..., DiskStorage], clock: FakeClock
) -> None:
    await look_for_company(disk)
    other = make_other()
    theirs = await put(other, clock, "http://a.example/theirs")
    await other.aclose()

    clock.advance(COMPANY_SECONDS)
    await look_for_company(disk)
    assert not disk.lacks(theirs)
    assert disk.lacks(ABSENT[0])


async def test_nothing_is_known_of_an_index_that_took_the_place_of_another(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk = make_disk()
    await look_for_company(disk)
    assert disk.lacks(ABSENT[0])
    for file in folder.glob("index*"):
        file.unlink()
    await put(disk, clock, "http://a.example/x")
    assert not disk.lacks(ABSENT[0])
    clock.advance(COMPANY_SECONDS)
    await look_for_company(disk)
    assert disk.lacks(ABSENT[0])


async def test_without_a_folder_nothing_is_known(make_disk: MakeDisk) -> None:
    disk = make_disk(None)
    await look_for_company(disk)
    assert not disk.lacks(ABSENT[0])


async def test_a_miss_that_is_known_is_counted_as_one(disk: DiskStorage) -> None:
    await look_for_company(disk)
    before = disk.misses
    assert disk.lacks(ABSENT[0])
    assert disk.misses == before + 1


class Rows:
    """An index, as far as it is gone through, that nobody else writes to."""

    def __init__(self, key_hashes: list[str]) -> None:
        self.numbers = sorted(map(number_of, key_hashes))

    def version(self) -> int:
        return 1

    def count(self) -> int:
        return len(self.numbers)

    def numbers_after(self, number: int, limit: int) -> Sequence[object]:
        return [other for other in self.numbers if other > number][:limit]


def hashes(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(b"%d" % n).hexdigest() for n in range(start, start + count)]


def learn(known: Absence, rows: Rows, epoch: int = 1, queued: tuple[str, ...] = ()) -> int:
    turns = 1
    while known.learn(rows, epoch, lambda: queued):
        turns += 1
    return turns


@given(stored=st.integers(0, 60), queued=st.integers(0, 20), later=st.integers(0, 20), turns=st.integers(0, 9))
def test_whatever_comes_while_it_is_gone_through_is_never_lacked(
    stored: int, queued: int, later: int, turns: int
) -> None:
    all_of_them = hashes(stored + queued + later)
    known, rows = Absence(), Rows(all_of_them[:stored])
    waiting = all_of_them[stored : stored + queued]
    absence_slice = 7
    original, absence.SLICE = absence.SLICE, absence_slice
    try:
        # Those that wait were told before: that is forgotten when it begins anew.
        for key_hash in waiting:
            known.add(key_hash)
        has_more = True
        for _ in range(turns):
            has_more = has_more and known.learn(rows, 1, lambda: waiting)
        for key_hash in all_of_them[stored + queued :]:
            waiting.append(key_hash)
            known.add(key_hash)
        learn(known, rows, queued=tuple(waiting))
    finally:
        absence.SLICE = original
    assert not any(known.holds(key_hash, 1) for key_hash in all_of_them)
    assert not known.holds(all_of_them[0] if all_of_them else ABSENT[0], 2)


def test_it_is_gone_through_anew_when_much_was_added_and_when_the_index_is_another() -> None:
    known = Absence()
    learn(known, Rows([]))
    added = hashes(FEWEST // PLACES + 1)
    for key_hash in added:
        known.add(key_hash)
    missed = [key_hash for key_hash in ABSENT if not known.holds(key_hash, 1)]
    assert len(missed) < MANY // 4

    # With more places, now that there are so many.
    assert learn(known, Rows(added)) > 1
    assert not any(known.holds(key_hash, 1) for key_hash in added)
    assert sum(known.holds(key_hash, 1) for key_hash in ABSENT) > MANY * 9 // 10

    learn(known, Rows([]), epoch=2)
    assert not known.holds(ABSENT[0], 1)
    assert all(known.holds(key_hash, 2) for key_hash in ABSENT)


def test_of_an_index_that_is_too_large_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "MOST_ENTRIES", 10)
    known = Absence()
    assert learn(known, Rows(hashes(11))) == 1
    assert not known.holds(ABSENT[0], 1)


async def test_many_puts_at_once_are_all_found(disk: DiskStorage, clock: FakeClock) -> None:
    await look_for_company(disk)
    stored = await asyncio.gather(*(put(disk, clock, f"http://a.example/{n}") for n in range(50)))
    assert not any(disk.lacks(key_hash) for key_hash in stored)


def test_of_an_index_that_is_damaged_nothing_is_known() -> None:
    class Damaged(Rows):
        def numbers_after(self, number: int, limit: int) -> Sequence[object]:
            return [*super().numbers_after(number, limit), "no number"]

    known = Absence()
    assert learn(known, Damaged(hashes(3))) == 1
    assert not known.holds(ABSENT[0], 1)
    # Until it is another one.
    learn(known, Rows([]), epoch=2)
    assert known.holds(ABSENT[0], 2)
