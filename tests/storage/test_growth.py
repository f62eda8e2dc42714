"""What a put, a get and an eviction do is the same however much is stored: work is counted, not timed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagecache.expiration import StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.storage import schema
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import ROW_COST
from imagecache.storage.stored import StoreStatus
from imagecache.storage.trimming import SLICE
from imagecache.testing.clock import FakeClock

from .entries import WEEK, entry_for

FEW, MANY = 100, 5_000
PROBES = 100
ABOUT_EQUAL = 1.2
BODY = b"b" * 500
MakeDisk = Callable[..., DiskStorage]


@dataclass(slots=True)
class Steps:
    """Instructions that SQLite's machine has executed, on all connections together."""

    count: int = 0
    while_writing: int = 0
    """Those of them for which other writers had to wait."""

    def counting(self, connection: sqlite3.Connection) -> Callable[[], int]:
        def add() -> int:
            self.count += 1
            self.while_writing += connection.in_transaction
            # Anything else would interrupt the statement.
            return 0

        return add

    def take(self) -> int:
        count, self.count, self.while_writing = self.count, 0, 0
        return count


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    counted = Steps()
    connect = schema.connect

    def counting(path: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        connection.set_progress_handler(counted.counting(connection), 1)
        return connection

    # The one that readers connect with, and the one that the index imported.
    monkeypatch.setattr("imagecache.storage.schema.connect", counting)
    monkeypatch.setattr("imagecache.storage.index.connect", counting)
    return counted


def url_of(number: int) -> str:
    return f"http://a.example/{number}.png"


async def put(
    disk: DiskStorage, clock: FakeClock, numbers: Sequence[int], expiration: StorageExpiration = WEEK
) -> None:
    """All in one batch, each with a body of its own and older than the next."""
    futures = []
    for number in numbers:
        clock.advance(0.001)
        body = b"%d " % number + BODY
        futures.append(disk.put(entry_for(clock, body, url_of(number), expiration=expiration), body))
    await disk.flush()
    assert {result.status for result in await asyncio.gather(*futures)} == {StoreStatus.STORED}


async def get(disk: DiskStorage, numbers: Sequence[int]) -> None:
    for number in numbers:
        stored = await disk.load(hash_for_key(url_of(number)), key=url_of(number))
        assert stored is not None
        assert stored.body is not None


async def fill(disk: DiskStorage, clock: FakeClock, count: int) -> None:
    for start in range(0, count, PROBES):
        await put(disk, clock, range(start, start + PROBES))


@dataclass(slots=True)
class Work:
    """What PROBES of each took."""

    put: int
    get: int
    etag: int
    touch: int
    miss: int


async def work_at(disk: DiskStorage, clock: FakeClock, count: int, take: Callable[[], int]) -> Work:
    await fill(disk, clock, count)
    some = range(0, count, count // PROBES)
    take()
    await put(disk, clock, range(count, count + PROBES))
    did_put = take()
    await get(disk, some)
    did_get = take()
    for number in some:
        assert await disk.etag(hash_for_key(url_of(number))) is not None
    did_look_up = take()
    for number in some:
        disk.touch(entry_for(clock, b"", url_of(number)).row)
    await disk.flush()
    did_touch = take()
    for number in some:
        assert await disk.load(hash_for_key(f"{number}"), key=f"{number}") is None
    return Work(did_put, did_get, did_look_up, did_touch, take())


async def test_an_entry_takes_as_many_steps_among_few_as_among_many(
    make_disk: MakeDisk, clock: FakeClock, steps: Steps, tmp_path: Path
) -> None:
    few = await work_at(make_disk(tmp_path / "few"), clock, FEW, steps.take)
    many = await work_at(make_disk(tmp_path / "many"), clock, MANY, steps.take)
    assert few.put > PROBES
    assert few.get > PROBES
    assert few.etag > PROBES
    assert many.put < few.put * ABOUT_EQUAL
    assert many.get < few.get * ABOUT_EQUAL
    assert many.etag < few.etag * ABOUT_EQUAL
    assert many.touch < few.touch * ABOUT_EQUAL
    assert many.miss < few.miss * ABOUT_EQUAL


async def trimmed_steps(disk: DiskStorage, clock: FakeClock, count: int, take: Callable[[], int]) -> float:
    """Steps for each entry that goes, at a clean that takes half of them."""
    await fill(disk, clock, count)
    # Not by the property, which would evict behind.
    disk._limit = await disk.size() + count * ROW_COST - 1
    take()
    await disk.clean()
    assert disk.evictions > count * 0.4
    return take() / disk.evictions


async def test_an_eviction_takes_as_many_steps_among_few_as_among_many(
    make_disk: MakeDisk, clock: FakeClock, steps: Steps, tmp_path: Path
) -> None:
    few = await trimmed_steps(make_disk(tmp_path / "few"), clock, 10 * FEW, steps.take)
    many = await trimmed_steps(make_disk(tmp_path / "many"), clock, MANY, steps.take)
    assert many < few * ABOUT_EQUAL


async def logged_pages(disk: DiskStorage, clock: FakeClock, folder: Path, count: int) -> int:
    """Pages that go into the log when PROBES are put in one batch."""
    await fill(disk, clock, count)
    with closing(sqlite3.connect(folder / "imagecache-v2" / "index-1.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        await put(disk, clock, range(count, count + PROBES))
        _, logged, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(logged)


async def test_a_batch_writes_as_many_pages_among_few_as_among_many(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    pages_of_few = await logged_pages(make_disk(few), clock, few, FEW)
    pages_of_many = await logged_pages(make_disk(many), clock, many, MANY)
    assert pages_of_few > 0
    # Keys come in no order: a tree of 5,000 has some twenty pages, of which a batch meets most.
    assert pages_of_many < pages_of_few * ABOUT_EQUAL + 20


async def test_opening_takes_as_many_steps_among_few_as_among_many(
    make_disk: MakeDisk, clock: FakeClock, steps: Steps, tmp_path: Path
) -> None:
    taken = {}
    for count in (FEW, MANY):
        first = make_disk(tmp_path / str(count))
        await fill(first, clock, count)
        await first.aclose()
        again = make_disk(tmp_path / str(count))
        steps.take()
        await get(again, [0])
        taken[count] = steps.take()
    assert taken[MANY] < taken[FEW] * ABOUT_EQUAL


async def test_looking_for_what_has_expired_holds_nobody_up(
    make_disk: MakeDisk, clock: FakeClock, steps: Steps, tmp_path: Path
) -> None:
    """The whole index was looked through with its write lock held: longer than others wait, at a million rows."""
    disk = make_disk(tmp_path)
    await fill(disk, clock, MANY)
    steps.take()
    assert await disk.clean() == []
    assert steps.while_writing < PROBES
    assert steps.take() > MANY


async def test_what_expires_is_found_by_looking_once_at_what_does_not(
    make_disk: MakeDisk, clock: FakeClock, steps: Steps, tmp_path: Path
) -> None:
    """Each slice began at the least recently used row again, however many of them had not expired."""
    expiring = 4 * SLICE
    taken: dict[int, int] = {}
    looked: dict[int, int] = {}
    for lasting in (0, MANY):
        disk = make_disk(tmp_path / str(lasting))
        await fill(disk, clock, lasting)
        steps.take()
        assert await disk.clean() == []
        looked[lasting] = steps.take()
        await put(disk, clock, range(lasting, lasting + expiring), StorageExpiration.after_seconds(30))
        clock.advance(60)
        steps.take()
        assert len(await disk.clean()) == expiring
        taken[lasting] = steps.take()
    assert taken[MANY] < taken[0] + 2 * looked[MANY]
