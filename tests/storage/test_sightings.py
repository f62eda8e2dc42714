"""Who has read a row before need not read it again, as long as nothing has happened to it: what ends that, and what
does not. That nothing is ever missed is for ``test_model.py``."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from imagecache.entry import Entry
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import ROW_COST
from imagecache.storage.leases import JUST_NOW
from imagecache.storage.sightings import PLACES, Sighting, Sightings
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .conftest import MakeDisk
from .entries import entry_for

BODY, OTHER = b"body", b"other"
NEIGHBOUR = "http://a.example/neighbour.png"


async def stored(disk: DiskStorage, clock: FakeClock, body: bytes = BODY) -> Entry:
    entry = entry_for(clock, body)
    assert (await disk.put(entry, body)).status is StoreStatus.STORED
    return entry


def sighting_of(disk: DiskStorage, entry: Entry) -> Sighting:
    sighting = disk.sighting(entry.row.key_hash)
    assert sighting is not None
    return sighting


async def is_unchanged(disk: DiskStorage, sighting: Sighting) -> bool:
    """Asked twice: the first one who asks after a while is told no, and sees to it that the next one knows."""
    disk.is_unchanged(sighting)
    await disk.flush()
    return disk.is_unchanged(sighting)


async def test_what_nothing_has_happened_to_is_unchanged(disk: DiskStorage, clock: FakeClock) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    await disk.put(entry_for(clock, OTHER, NEIGHBOUR), OTHER)
    disk.touch(entry.row)
    await disk.flush()
    assert await disk.load(entry.row.key_hash, key=entry.key) is not None
    assert await is_unchanged(disk, sighting)


async def test_it_is_taken_right_after_something_was_queued(disk: DiskStorage, clock: FakeClock) -> None:
    entry = entry_for(clock, BODY)
    await disk.count()
    stored = disk.put(entry, BODY)
    sighting = sighting_of(disk, entry)
    await stored
    assert await is_unchanged(disk, sighting)
    renewed = disk.refresh(entry)
    assert not await is_unchanged(disk, sighting)
    sighting = sighting_of(disk, entry)
    await renewed
    assert await is_unchanged(disk, sighting)


async def put_others(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk.put(entry_for(clock, OTHER), OTHER)


async def put_for_somebody(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk.put(entry_for(clock, OTHER, scope="s" * 32), OTHER)


async def refresh(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk.refresh(entry)


async def discard(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk.discard(entry)


async def remove(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    await disk.remove(entry.row.key_hash)


async def clear(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    await disk.clear()


async def set_etag(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    await disk.set_etag(entry.row.key_hash, '"mine"')


async def remove_etags(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    await disk.remove_etags()


async def evict(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk._limit = ROW_COST
    await disk.clean()


async def evict_for_another(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    disk._limit = ROW_COST + len(OTHER)
    clock.advance(1)
    await disk.put(entry_for(clock, OTHER, NEIGHBOUR), OTHER)


async def expire(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    clock.advance(30 * 86_400)
    await disk.clean()


async def verify(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    store = disk._store
    assert store is not None
    with closing(sqlite3.connect(next(store.folder.path.glob("index-*.sqlite")))) as index, index:
        index.execute("UPDATE entries SET seal = x'00'")
    await disk.verify()


async def begin_anew(disk: DiskStorage, entry: Entry, clock: FakeClock) -> None:
    store = disk._store
    assert store is not None
    await store.writer.abandon(sqlite3.DatabaseError("damaged"))


Act = Callable[[DiskStorage, Entry, FakeClock], Awaitable[None]]
ACTS: list[Act] = [
    put_others, put_for_somebody, refresh, discard, remove, clear, set_etag, remove_etags, evict, evict_for_another,
    expire, verify, begin_anew,
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_it_ends_with_whatever_happens_to_a_row(disk: DiskStorage, clock: FakeClock, act: Act) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    assert await is_unchanged(disk, sighting)
    await act(disk, entry, clock)
    assert not disk.is_unchanged(sighting)
    assert not await is_unchanged(disk, sighting)


@pytest.mark.parametrize("end", [StoreStatus.NO_ROOM, StoreStatus.SUPERSEDED])
async def test_it_ends_where_what_was_queued_could_not_be_written(
    make_disk: MakeDisk, clock: FakeClock, end: StoreStatus
) -> None:
    """Since a pinned image takes all the room there is; or a 304 came for what has gone."""
    disk = make_disk(limit=ROW_COST + len(BODY))
    pinned = entry_for(clock, BODY, NEIGHBOUR)
    await disk.put(pinned, BODY)
    await disk.pin(pinned.row.key_hash)
    entry = entry_for(clock, BODY)
    queued = disk.put(entry, BODY) if end is StoreStatus.NO_ROOM else disk.refresh(entry)
    sighting = sighting_of(disk, entry)
    assert (await queued).status is end
    assert not await is_unchanged(disk, sighting)


async def test_it_ends_also_where_that_had_failed_before_it_was_taken(disk: DiskStorage, clock: FakeClock) -> None:
    """Nobody has been told yet: the loop has not had its turn."""
    entry = entry_for(clock, BODY)
    await disk.count()
    assert disk._store is not None
    queued, is_written = disk.refresh(entry), threading.Event()
    disk._store.writer.wake(now=True)
    disk._store.writer.start(lambda _: is_written.set())
    assert is_written.wait(10)
    sighting = sighting_of(disk, entry)
    assert (await queued).status is StoreStatus.SUPERSEDED
    assert not await is_unchanged(disk, sighting)


async def test_it_ends_when_a_clear_is_queued(disk: DiskStorage, clock: FakeClock) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    assert await is_unchanged(disk, sighting)
    clearing = asyncio.create_task(disk.clear())
    await asyncio.sleep(0)
    assert not disk.is_unchanged(sighting)
    await clearing


async def test_the_first_who_asks_after_a_while_is_told_no(disk: DiskStorage, clock: FakeClock) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    assert await is_unchanged(disk, sighting)
    clock.advance(JUST_NOW)
    assert not disk.is_unchanged(sighting)
    assert await is_unchanged(disk, sighting)


async def test_where_others_share_the_folder_nothing_is_known(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
) -> None:
    here = make_disk()
    entry = await stored(here, clock)
    sighting = sighting_of(here, entry)
    assert await is_unchanged(here, sighting)
    there = make_other()
    await there.count()
    clock.advance(JUST_NOW)
    assert not await is_unchanged(here, sighting)


async def test_what_others_did_while_they_were_there_is_seen_when_they_have_gone(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
) -> None:
    here = make_disk()
    entry = await stored(here, clock)
    sighting = sighting_of(here, entry)
    assert await is_unchanged(here, sighting)
    there = make_other()
    await there.remove(entry.row.key_hash)
    await there.aclose()
    clock.advance(JUST_NOW)
    assert not await is_unchanged(here, sighting)
    clock.advance(JUST_NOW)
    assert not await is_unchanged(here, sighting)


async def test_who_asks_often_is_told_all_the_time(disk: DiskStorage, clock: FakeClock) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    assert await is_unchanged(disk, sighting)
    for _ in range(10):
        clock.advance(JUST_NOW * 0.6)
        assert disk.is_unchanged(sighting)
        await disk.flush()


async def test_a_closed_storage_knows_nothing(disk: DiskStorage, clock: FakeClock) -> None:
    entry = await stored(disk, clock)
    sighting = sighting_of(disk, entry)
    assert await is_unchanged(disk, sighting)
    await disk.aclose()
    assert disk.sighting(entry.row.key_hash) is None
    assert not disk.is_unchanged(sighting)


def test_another_stores_sightings_do_not_hold() -> None:
    """A process that came by a fork has its parent's, and another store."""
    key_hash = hash_for_key("a")
    assert not Sightings().hold(Sightings().take(key_hash))


def test_keys_that_share_a_place_disturb_each_other_and_no_others() -> None:
    sightings = Sightings()
    one, alike, another = (f"{number:011x}" + "0" * 53 for number in (7, 7 + PLACES, 8))
    taken = {key: sightings.take(key) for key in (one, alike, another)}
    sightings.change(one)
    assert [sightings.hold(taken[key]) for key in (one, alike, another)] == [False, False, True]


async def test_a_folder_that_cannot_be_used_has_nothing(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "imagecache-v2").write_bytes(b"in the way")
    disk = DiskStorage(tmp_path, clock=clock)
    try:
        await disk.count()
        sighting = disk.sighting(hash_for_key("a"))
        assert sighting is None or not await is_unchanged(disk, sighting)
    finally:
        await disk.aclose()
