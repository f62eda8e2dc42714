"""What the benchmarks of the storage share: generated entries, meters of CPU and of the loop's lag, batches.

Nothing here is measured: entries and bodies are made before a meter starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imagecache.clock import SystemClock
from imagecache.entry import Entry, RowKey
from imagecache.headers import Headers
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import ROW_COST
from imagecache.storage.stored import StoreStatus
from imagecache.storage.write_queue import BATCH_BYTES, BATCH_ROWS

NO_LIMIT = 2**50
PUTS_A_STEP = 32
"""How many puts an app makes before the loop runs again."""
GETS_AT_ONCE = 32
WEEK = 7 * 86_400.0

Item = tuple[Entry, bytes]

_NOISE = random.Random(4).randbytes(2**20)


def url_of(number: int) -> str:
    """A URL as long as they are."""
    return f"https://images.example/catalogue/{number:09d}/picture.jpg?width=640"


def item(number: int, size: int) -> Item:
    """An entry and its body, which no other entry shares."""
    start = number * 64 % (len(_NOISE) - size)
    body = number.to_bytes(8, "big") + _NOISE[start + 8 : start + size]
    url, now, checksum = url_of(number), time.time(), hashlib.sha256(body).hexdigest()
    entry = Entry(
        row=RowKey(hash_for_key(url)),
        key=url,
        url=url,
        final_url=url,
        status=200,
        headers=Headers(
            [
                ("Content-Type", "image/jpeg"),
                ("Content-Length", str(size)),
                ("Cache-Control", "public, max-age=86400"),
                ("Last-Modified", "Tue, 04 Aug 2020 10:00:00 GMT"),
                ("Date", "Tue, 04 Aug 2026 10:00:00 GMT"),
            ]
        ),
        vary_fields=(),
        request_time=now,
        response_time=now,
        validated_at=now,
        stored_at=now,
        stored_until=now + WEEK,
        lifetime=WEEK,
        checksum=checksum,
        source_checksum=checksum,
        byte_count=size,
        etag=f'"{number:x}"',
        format="JPEG",
        width=640,
        height=480,
    )
    return entry, body


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Items as the storage's writer batches them: for the others, so that they commit as often."""
    begin, size = 0, 0
    for position, (_, body) in enumerate(items):
        if position - begin >= BATCH_ROWS or size >= BATCH_BYTES:
            yield items[begin:position]
            begin, size = position, 0
        size += len(body)
    yield items[begin:]


@dataclass(slots=True)
class Spent:
    """Seconds of CPU, of all threads, and of wall time; and of how many things they are."""

    cpu: float = 0.0
    wall: float = 0.0
    count: int = 0

    @contextmanager
    def measure(self, count: int = 0) -> Iterator[None]:
        """Add what a block takes; without the collector, whose work is the benchmark's heap more than the store's."""
        gc.collect()
        gc.disable()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.cpu += time.process_time() - cpu
            self.wall += time.perf_counter() - wall
            self.count += count
            gc.enable()

    @property
    def cpu_each(self) -> float:
        """Microseconds of CPU for one."""
        return self.cpu / max(1, self.count) * 1e6

    @property
    def wall_each(self) -> float:
        """Microseconds for one."""
        return self.wall / max(1, self.count) * 1e6


@dataclass(slots=True)
class Lag:
    """How late a timer of 1 ms comes."""

    late: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def measure(self) -> AsyncIterator[None]:
        """Watch the running loop; it costs CPU, so that a figure of CPU is not taken at the same time."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
            # What the block did at its end may delay a timer that comes after it.
            await asyncio.sleep(0.002)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.late.append(time.perf_counter() - began - 0.001)

    def __str__(self) -> str:
        late = sorted(self.late) or [0.0]
        often = late[int(len(late) * 0.999)]
        return f"greatest {late[-1] * 1e3:5.1f} ms, 99.9 % under {often * 1e3:5.1f} ms, of {len(late)} timers"


async def idle_lag(seconds: float) -> Lag:
    """The lag of a loop that does nothing: the machine's own."""
    lag = Lag()
    async with lag.measure():
        await asyncio.sleep(seconds)
    return lag


# What is done to a DiskStorage


def open_disk(folder: str | Path) -> DiskStorage:
    """A storage whose limit is out of the way."""
    return DiskStorage(Path(folder), clock=SystemClock(), limit=NO_LIMIT)


async def put_all(disk: DiskStorage, items: Sequence[Item]) -> None:
    """Put as an app does: many, then a flush."""
    futures = []
    for position, (entry, body) in enumerate(items, 1):
        futures.append(disk.put(entry, body))
        if position % PUTS_A_STEP == 0:
            await asyncio.sleep(0)
    await disk.flush()
    for future in futures:
        assert (await future).status is StoreStatus.STORED


async def get_all(disk: DiskStorage, numbers: Sequence[int]) -> None:
    """Load verified bytes, some at a time; decode nothing."""
    for start in range(0, len(numbers), GETS_AT_ONCE):
        urls = [url_of(number) for number in numbers[start : start + GETS_AT_ONCE]]
        found = await asyncio.gather(*(disk.load(hash_for_key(url), key=url) for url in urls))
        assert all(stored is not None and stored.body for stored in found)


async def trim_to_half(disk: DiskStorage, weight: int) -> None:
    """Clean with the limit just below what is stored: half of it goes, as always."""
    # Not by the property: that evicts behind, and this is about one clean.
    disk._limit = weight - 1
    await disk.clean()
    disk.limit = NO_LIMIT


async def weight_of(disk: DiskStorage) -> int:
    """What counts towards the limit."""
    return await disk.size() + await disk.count() * ROW_COST
