"""The limit holds at all times: what is stored, and the files of the index themselves."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.headers import Headers
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import entry_for
from .test_disk import body_of, swept

MakeDisk = Callable[..., DiskStorage]
MIB = 2**20
LIMIT = 8 * MIB


def index_bytes(folder: Path) -> int:
    """What the index's own files take."""
    return sum(path.stat().st_size for path in folder.glob("index-*"))


def all_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def with_long_headers(entry: Entry) -> Entry:
    """What a server that says a great deal sends along."""
    return replace(entry, headers=Headers([("X-Padding", "x" * 6_000)]))


async def fill(
    disk: DiskStorage, clock: FakeClock, folder: Path, sizes: list[int], dress: Callable[[Entry], Entry]
) -> int:
    """Put bodies of these sizes; the most that the index's files took meanwhile."""
    most = 0
    for number, size in enumerate(sizes):
        body = os.urandom(size)
        clock.advance(1)
        future = disk.put(dress(entry_for(clock, body, str(number))), body)
        if number % 200 == 0:
            await future
            most = max(most, await asyncio.to_thread(index_bytes, folder))
    await disk.flush()
    return max(most, await asyncio.to_thread(index_bytes, folder))


CHANCE = random.Random(4)
SIZES = {
    "empty": [0] * 8_000,
    "tiny": [300] * 8_000,
    "half a page and two": [2_050] * 6_000,
    "a page": [4_096] * 5_000,
    "the largest inline": [INLINE_LIMIT] * 800,
    "files": [INLINE_LIMIT + 1] * 800,
    "mixed": [int(2 ** CHANCE.uniform(6, 17)) for _ in range(3_000)],
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
async def test_what_is_stored_and_the_index_stay_within_the_limit(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, sizes: str
) -> None:
    disk = make_disk(limit=LIMIT)
    largest = max(SIZES[sizes])
    most = await fill(disk, clock, folder, SIZES[sizes], lambda entry: entry)
    assert disk.evictions > 0
    assert await disk.size() + await disk.count() * ROW_COST <= LIMIT
    # The log is a few megabytes, and so is what a batch may add to it.
    assert most <= LIMIT * 1.1 + 16 * MIB
    await swept(disk)
    await disk.aclose()
    assert await asyncio.to_thread(all_bytes, folder) <= LIMIT * 1.1 + 8 * MIB + largest


@pytest.mark.slow
async def test_headers_without_end_count_as_what_they_take(make_disk: MakeDisk, clock: FakeClock, folder: Path) -> None:
    disk = make_disk(limit=LIMIT)
    most = await fill(disk, clock, folder, [100] * 6_000, with_long_headers)
    assert disk.evictions > 0
    assert most <= LIMIT * 1.1 + 16 * MIB


async def test_a_limit_that_was_lowered_takes_the_files_along(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk = make_disk(limit=64 * MIB)
    before = await fill(disk, clock, folder, [8_000] * 2_000, lambda entry: entry)
    disk.limit = MIB
    while await disk.size() > MIB:
        await disk.flush()
    await disk.clean()
    assert await disk.size() + await disk.count() * ROW_COST <= MIB
    await disk.aclose()
    after = await asyncio.to_thread(index_bytes, folder)
    assert after < before / 4
    assert after <= MIB * 1.1 + 16 * MIB


async def test_two_processes_exceed_it_by_no_more_than_an_entry_each(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
) -> None:
    limit = 40 * (1_000 + ROW_COST)
    here, there = make_disk(limit=limit), make_other(limit=limit)
    for number in range(300):
        body = os.urandom(1_000)
        futures = [disk.put(entry_for(clock, body, f"{disk is here}{number}"), body) for disk in (here, there)]
        clock.advance(1)
        if number % 20 == 0:
            await asyncio.gather(*futures)
            assert await here.size() + await here.count() * ROW_COST <= limit + 2 * (1_000 + ROW_COST)
    await here.flush()
    await there.flush()
    assert await there.size() + await there.count() * ROW_COST <= limit


async def test_a_reader_of_an_entry_that_is_evicted_finishes(make_disk: MakeDisk, clock: FakeClock) -> None:
    disk = make_disk(limit=6 * (80_000 + ROW_COST))
    entries = []
    for number in range(5):
        body = bytes([number]) * 80_000
        entries.append(entry_for(clock, body, str(number)))
        await disk.put(entries[-1], body)
        clock.advance(1)
    reads = [asyncio.ensure_future(body_of(disk, entry)) for entry in entries for _ in range(10)]
    body = bytes(5 * 80_000)
    stored = disk.put(entry_for(clock, body, "large"), body)
    found = await asyncio.gather(*reads)
    assert (await stored).status is StoreStatus.STORED
    # Whole or not any more, each of them; and what was asked for before the eviction is whole.
    assert {None if body is None else body[:1] * 80_000 for body in found} >= set(found) - {None}
    assert disk.faults == 0


async def test_accesses_decide_who_goes_although_they_are_written_later(make_disk: MakeDisk, clock: FakeClock) -> None:
    disk = make_disk(limit=10 * (1_000 + ROW_COST))
    for number in range(10):
        body = bytes([number]) * 1_000
        await disk.put(entry_for(clock, body, str(number)), body)
        clock.advance(1)
    for number in (0, 3, 5):
        disk.touch(entry_for(clock, b"", str(number)).row)
    clock.advance(11)
    await disk.flush()
    await disk.put(entry_for(clock, b"x" * 1_000, "new"), b"x" * 1_000)
    assert {entry.url async for entry in disk.entries()} == {"0", "3", "5", "8", "9", "new"}
