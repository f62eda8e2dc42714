"""Loads that come while one is under way are answered together: each gets its own answer, and none waits for a file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imagecache.entry import Entry
from imagecache.storage.bodies import Bodies
from imagecache.storage.disk import DiskStorage, newest
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.readers import THREADS
from imagecache.testing import FakeClock

from .entries import entry_for
from .harm import execute
from .test_disk import body_of

BODIES = {f"http://a.example/{number}": b"%d" % number * 100 for number in range(20)}


class Held:
    """A choice that holds the reader's thread until it is let go."""

    def __init__(self) -> None:
        self.has_come = threading.Event()
        self.may_go = threading.Event()

    def __call__(self, entries: Sequence[Entry]) -> Entry | None:
        self.has_come.set()
        self.may_go.wait(10)
        return newest(entries)


@pytest.fixture
async def entries(disk: DiskStorage, clock: FakeClock) -> list[Entry]:
    stored = [entry_for(clock, body, url) for url, body in BODIES.items()]
    for entry in stored:
        disk.put(entry, BODIES[entry.url])
    await disk.flush()
    return stored


async def hold(disk: DiskStorage, entry: Entry) -> tuple[Held, asyncio.Future[Any]]:
    """A load that is under way until it is let go."""
    held = Held()
    load = asyncio.ensure_future(disk.load(entry.row.key_hash, key=entry.key, choose=held))
    await asyncio.to_thread(held.has_come.wait, 10)
    return held, load


async def begin(disk: DiskStorage, entries: Sequence[Entry]) -> list[asyncio.Future[bytes | None]]:
    """Loads that wait for the one under way."""
    loads: list[asyncio.Future[bytes | None]] = [asyncio.ensure_future(body_of(disk, entry)) for entry in entries]
    await asyncio.sleep(0)
    return loads


async def test_loads_that_wait_for_one_under_way_are_no_hops_of_their_own(
    disk: DiskStorage, entries: list[Entry], hops: list[object]
) -> None:
    held, first = await hold(disk, entries[0])
    hops.clear()
    loads = await begin(disk, entries)
    held.may_go.set()
    assert await asyncio.gather(*loads) == list(BODIES.values())
    assert (await first).body == BODIES[entries[0].url]
    assert not hops


async def test_what_one_caller_raises_is_no_others(disk: DiskStorage, entries: list[Entry]) -> None:
    def refuse(_: Sequence[Entry]) -> Entry | None:
        raise LookupError("mine")

    held, first = await hold(disk, entries[0])
    refused = asyncio.ensure_future(disk.load(entries[1].row.key_hash, key=entries[1].key, choose=refuse))
    loads = await begin(disk, entries)
    held.may_go.set()
    with pytest.raises(LookupError, match="mine"):
        await refused
    assert await asyncio.gather(*loads) == list(BODIES.values())
    await first


async def test_a_load_that_was_cancelled_while_it_waited_is_not_read(disk: DiskStorage, entries: list[Entry]) -> None:
    asked: list[str] = []

    def choose(found: Sequence[Entry]) -> Entry | None:
        asked.append(found[0].url)
        return found[0]

    held, first = await hold(disk, entries[0])
    loads = [
        asyncio.ensure_future(disk.load(entry.row.key_hash, key=entry.key, choose=choose)) for entry in entries[:3]
    ]
    await asyncio.sleep(0)
    loads[1].cancel()
    held.may_go.set()
    await asyncio.gather(first, loads[0], loads[2])
    assert asked == [entries[0].url, entries[2].url]


async def test_what_is_missing_queued_or_damaged_is_so_among_others(
    disk: DiskStorage, clock: FakeClock, entries: list[Entry], folder: Path
) -> None:
    held, first = await hold(disk, entries[0])
    damaged = entries[1].row.key_hash
    execute(f"UPDATE entries SET metadata = 'x' WHERE key_hash = '{damaged}'")(folder / "index-1.sqlite")
    missing = entry_for(clock, b"missing", "http://a.example/missing")
    queued = entry_for(clock, b"queued", "http://a.example/queued")
    disk.put(queued, b"queued")
    loads = await begin(disk, [entries[0], entries[1], missing, queued, entries[2]])
    held.may_go.set()
    found = await asyncio.gather(*loads)
    assert found == [BODIES[entries[0].url], None, None, b"queued", BODIES[entries[2].url]]
    await first


async def test_an_index_that_is_taken_away_meanwhile_is_a_miss_for_all(
    disk: DiskStorage, entries: list[Entry], folder: Path
) -> None:
    held, first = await hold(disk, entries[0])
    (folder / "index-1.sqlite").unlink()
    loads = await begin(disk, entries)
    held.may_go.set()
    assert await asyncio.gather(*loads) == [None] * len(entries)
    await first


@pytest.mark.skipif(THREADS < 2, reason="one thread")
async def test_nobody_waits_for_another_ones_file(
    disk: DiskStorage, clock: FakeClock, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = entry_for(clock, bytes(INLINE_LIMIT + 1), "http://a.example/large")
    disk.put(large, bytes(INLINE_LIMIT + 1))
    await disk.flush()
    is_reading, may_read, read = threading.Event(), threading.Event(), Bodies.read

    def slow(self: Bodies, name: str, byte_count: int) -> bytes:
        is_reading.set()
        may_read.wait(10)
        return read(self, name, byte_count)

    monkeypatch.setattr(Bodies, "read", slow)
    held, first = await hold(disk, entries[0])
    [slow_load, *loads] = await begin(disk, [large, *entries])
    held.may_go.set()
    assert await asyncio.gather(*loads) == list(BODIES.values())
    await asyncio.to_thread(is_reading.wait, 10)
    # Nor does one that comes now.
    assert await body_of(disk, entries[5]) == BODIES[entries[5].url]
    assert not slow_load.done()
    may_read.set()
    assert await slow_load == bytes(INLINE_LIMIT + 1)
    await first


async def test_every_loop_gets_its_own_answers(disk: DiskStorage, entries: list[Entry], tmp_path: Path) -> None:
    async def elsewhere() -> list[bytes | None]:
        other = DiskStorage(tmp_path)
        try:
            return list(await asyncio.gather(*(body_of(other, entry) for entry in entries)))
        finally:
            await other.aclose()

    there = asyncio.to_thread(asyncio.run, elsewhere())
    here = asyncio.gather(*(body_of(disk, entry) for entry in entries))
    assert await there == await here == list(BODIES.values())


async def test_leaving_waits_for_the_loads_that_wait(disk: DiskStorage, entries: list[Entry]) -> None:
    held, first = await hold(disk, entries[0])
    loads = await begin(disk, entries)
    closing = asyncio.ensure_future(disk.aclose())
    await asyncio.sleep(0)
    held.may_go.set()
    await closing
    assert await asyncio.gather(*loads) == list(BODIES.values())
    await first
