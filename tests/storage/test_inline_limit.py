"""Where bodies lie is a constant's to say, and nothing else depends on it: not what is found, replaced or evicted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import entry_for, variant_of

NONE, ALL = 0, 2**30
SIZES = (1, 300, INLINE_LIMIT - 1, INLINE_LIMIT, INLINE_LIMIT + 1, 128 * 1024)
MakeDisk = Callable[..., DiskStorage]
SetLimit = Callable[[int], None]


@pytest.fixture
def set_inline_limit(monkeypatch: pytest.MonkeyPatch) -> SetLimit:
    return lambda limit: monkeypatch.setattr("imagecache.storage.operations.INLINE_LIMIT", limit)


def url_of(number: int) -> str:
    return f"http://a.example/{number}.png"


def body_of(number: int, size: int) -> bytes:
    return bytes([number % 256]) * size


def body_files(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "bodies").rglob("*"))


def bodies_in_index(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "index-1.sqlite")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM bodies").fetchone()
    return int(count)


def places(folder: Path) -> tuple[int, int]:
    """How many bodies lie in files, and how many in the index."""
    return body_files(folder), bodies_in_index(folder)


def expected(limit: int, count: int) -> tuple[int, int]:
    return (count, 0) if limit == NONE else (0, count)


async def put(disk: DiskStorage, clock: FakeClock, number: int, body: bytes) -> Entry:
    clock.advance(1)
    entry = entry_for(clock, body, url_of(number))
    assert (await disk.put(entry, body)).status is StoreStatus.STORED
    return entry


async def found(disk: DiskStorage, entry: Entry) -> bytes | None:
    stored = await disk.load(entry.row.key_hash, key=entry.key, processor=entry.row.processor)
    return None if stored is None else stored.body


@pytest.mark.parametrize("limit", [NONE, ALL], ids=["none", "all"])
class TestAtEitherEnd:
    @pytest.fixture(autouse=True)
    def limited(self, set_inline_limit: SetLimit, limit: int) -> None:
        set_inline_limit(limit)

    async def test_bodies_of_every_size_are_stored_in_one_place_and_found_by_the_next_process(
        self, make_disk: MakeDisk, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        first = make_disk()
        entries = [await put(first, clock, number, body_of(number, size)) for number, size in enumerate(SIZES)]
        await first.aclose()
        assert places(folder) == expected(limit, len(SIZES))
        again = make_disk()
        for number, (entry, size) in enumerate(zip(entries, SIZES, strict=True)):
            assert await found(again, entry) == body_of(number, size)

    async def test_a_replaced_body_leaves_nothing_behind(
        self, disk: DiskStorage, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        for size in SIZES:
            entry = await put(disk, clock, 1, body_of(1, size))
            await disk.flush()
            assert await found(disk, entry) == body_of(1, size)
        assert places(folder) == expected(limit, 1)
        assert (await disk.count(), await disk.size()) == (1, SIZES[-1])

    async def test_the_same_body_again_stays_where_it_is(
        self, disk: DiskStorage, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        for _ in range(2):
            entry = await put(disk, clock, 1, body_of(1, 300))
        assert await found(disk, entry) == body_of(1, 300)
        assert places(folder) == expected(limit, 1)

    async def test_a_trim_takes_half_and_their_bodies(
        self, disk: DiskStorage, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        entries = [await put(disk, clock, number, body_of(number, 4096)) for number in range(20)]
        # Not by the property, which would evict behind.
        disk._limit = 20 * (4096 + ROW_COST) - 1
        await disk.clean()
        assert disk.evictions == 11
        assert places(folder) == expected(limit, 9)
        assert await found(disk, entries[10]) is None
        assert await found(disk, entries[11]) == body_of(11, 4096)

    async def test_removing_takes_variants_and_all_bodies(
        self, disk: DiskStorage, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        original = await put(disk, clock, 1, body_of(1, 300))
        variant = variant_of(original, b"rounded")
        assert (await disk.put(variant, b"rounded")).status is StoreStatus.STORED
        assert await found(disk, variant) == b"rounded"
        assert places(folder) == expected(limit, 2)
        assert await disk.remove(original.row.key_hash) == 2
        await disk.flush()
        assert places(folder) == (0, 0)

    async def test_clearing_takes_everything(
        self, disk: DiskStorage, clock: FakeClock, folder: Path, limit: int
    ) -> None:
        for number, size in enumerate(SIZES):
            await put(disk, clock, number, body_of(number, size))
        await disk.clear()
        assert places(folder) == (0, 0)
        assert await disk.size() == 0


@pytest.mark.parametrize(("before", "after"), [(NONE, ALL), (ALL, NONE)], ids=["into the index", "into files"])
async def test_a_folder_outlives_a_change_of_the_constant(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, set_inline_limit: SetLimit, before: int, after: int
) -> None:
    set_inline_limit(before)
    first = make_disk()
    kept, replaced = [await put(first, clock, number, body_of(number, 300)) for number in range(2)]
    await first.aclose()
    set_inline_limit(after)
    second = make_disk()
    assert await found(second, kept) == body_of(0, 300)
    replaced = await put(second, clock, 1, body_of(7, 300))
    assert await found(second, replaced) == body_of(7, 300)
    await second.flush()
    assert places(folder) == (1, 1)
    await second.clear()
    assert places(folder) == (0, 0)


async def test_up_to_the_constant_bodies_lie_in_the_index(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    await put(disk, clock, 1, body_of(1, INLINE_LIMIT))
    assert places(folder) == (0, 1)
    await put(disk, clock, 2, body_of(2, INLINE_LIMIT + 1))
    assert places(folder) == (1, 1)
