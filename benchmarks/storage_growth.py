"""What a put, a get and a trimmed entry cost as a folder grows: CPU of all threads, against SQLite alone and diskcache.

A round at a count of entries puts half of them, gets some at random, and trims to half: so a folder stays between
half and all of its count, and goes through as many checkpoints as it does in use. Opening, and the loop's lag, come
last, in rounds of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import random
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from benchmarks.storage_load import (
    GETS_AT_ONCE,
    Item,
    Lag,
    Spent,
    batches,
    get_all,
    idle_lag,
    item,
    open_disk,
    put_all,
    trim_to_half,
    url_of,
    weight_of,
)
from imagecache.keys import hash_for_key
from imagecache.storage.rows import number_of
from imagecache.storage.schema import CACHE_KIB, WAL_PAGES
from imagecache.storage.trimming import SLICE

COUNTS = (1_000, 10_000, 100_000)
SIZE = 4 * 1024
OTHER_SIZES = (300, 13 * 1024, 32 * 1024)
OTHER_COUNTS = 10_000
"""Other sizes than 4 KiB are tried up to this count."""
CHUNK = 500
"""Puts before a flush."""
PUTS, GETS = 4_000, 1_000
"""At least so many a round: a small folder is gone through several times."""
ROUNDS = 5
OPENINGS = 7
STEPS = ("put", "get", "trim")


class Candidate(Protocol):
    """A store that is measured."""

    async def put(self, items: Sequence[Item]) -> None: ...

    async def get(self, numbers: Sequence[int]) -> None: ...

    async def count(self) -> int: ...

    async def trim(self) -> None:
        """To half."""

    async def close(self) -> None: ...


class Ours:
    """DiskStorage."""

    def __init__(self, folder: str) -> None:
        self._disk = open_disk(folder)
        self._weight = 0

    async def put(self, items: Sequence[Item]) -> None:
        await put_all(self._disk, items)

    async def get(self, numbers: Sequence[int]) -> None:
        await get_all(self._disk, numbers)

    async def count(self) -> int:
        # Asked before a trim: what it needs to know is not measured.
        self._weight = await weight_of(self._disk)
        return await self._disk.count()

    async def trim(self) -> None:
        await trim_to_half(self._disk, self._weight)

    async def close(self) -> None:
        await self._disk.aclose()


class Floor:
    """One table with a blob, and the numbers of the keys; nothing is checked, nothing follows anything."""

    def __init__(self, folder: str) -> None:
        self._db = sqlite3.connect(Path(folder) / "floor.sqlite", isolation_level=None, check_same_thread=False)
        self._thread = ThreadPoolExecutor(1)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            "PRAGMA secure_delete=OFF",
            f"PRAGMA cache_size=-{CACHE_KIB}",
            f"PRAGMA wal_autocheckpoint={WAL_PAGES}",
            "CREATE TABLE IF NOT EXISTS bodies (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, body BLOB NOT NULL)",
            "CREATE INDEX IF NOT EXISTS bodies_by_key ON bodies (key)",
        ):
            self._db.execute(statement).fetchall()

    async def put(self, items: Sequence[Item]) -> None:
        for batch in batches(items):
            rows = [(number_of(entry.row.key_hash), body) for entry, body in batch]
            await self._run(self._put, rows)

    def _put(self, rows: list[tuple[int, bytes]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO bodies (key, body) VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    async def get(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), GETS_AT_ONCE):
            urls = [url_of(number) for number in numbers[start : start + GETS_AT_ONCE]]
            await asyncio.gather(*(self._run(self._get, number_of(hash_for_key(url))) for url in urls))

    def _get(self, key: int) -> bytes:
        (body,) = self._db.execute("SELECT body FROM bodies WHERE key = ?", (key,)).fetchone()
        return bytes(body)

    async def count(self) -> int:
        return int(await self._run(self._count, None))

    def _count(self, _: None) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM bodies").fetchone()
        return int(count)

    async def trim(self) -> None:
        left = await self._run(self._count, None) // 2
        while left > 0:
            left -= await self._run(self._trim, min(SLICE, left))

    def _trim(self, rows: int) -> int:
        deleted = self._db.execute(
            "DELETE FROM bodies WHERE id IN (SELECT id FROM bodies ORDER BY id LIMIT ?)", (rows,)
        )
        return deleted.rowcount

    async def close(self) -> None:
        self._thread.shutdown()
        self._db.close()

    async def _run(self, job: Any, argument: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job, argument)


class DiskCache:
    """The peer, as it comes, in a thread; its puts in transactions as large as ours."""

    def __init__(self, folder: str) -> None:
        module = importlib.import_module("diskcache")
        self._cache: Any = module.Cache(str(Path(folder) / "diskcache"), size_limit=2**50)
        self._thread = ThreadPoolExecutor(1)
        self._empty: int = self._cache.volume()

    async def put(self, items: Sequence[Item]) -> None:
        for batch in batches(items):
            await self._run(self._put, batch)

    def _put(self, batch: Sequence[Item]) -> None:
        with self._cache.transact():
            for entry, body in batch:
                self._cache.set(entry.key, body)

    async def get(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), GETS_AT_ONCE):
            urls = [url_of(number) for number in numbers[start : start + GETS_AT_ONCE]]
            assert all(await asyncio.gather(*(self._run(self._cache.get, url) for url in urls)))

    async def count(self) -> int:
        return len(self._cache)

    async def trim(self) -> None:
        await self._run(self._trim, self._empty)

    def _trim(self, empty: int) -> None:
        self._cache.reset("size_limit", (self._cache.volume() + empty) // 2)
        self._cache.cull()
        self._cache.reset("size_limit", 2**50)

    async def close(self) -> None:
        await self._run(lambda cache: cache.close(), self._cache)
        self._thread.shutdown()
        self._cache.close()

    async def _run(self, job: Any, argument: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job, argument)


class Run:
    """A candidate in a folder of its own, and what its rounds cost."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.rounds: dict[str, list[float]] = {step: [] for step in STEPS}
        self._spent: dict[str, Spent] = {}

    def begin(self) -> None:
        """Begin a round."""
        self._spent = {step: Spent() for step in STEPS}

    def end(self) -> None:
        """End a round, and keep its figures."""
        for step, spent in self._spent.items():
            self.rounds[step].append(spent.cpu_each)

    async def put(self, items: Sequence[Item]) -> None:
        """Measure puts."""
        with self._spent["put"].measure(len(items)):
            await self.candidate.put(items)

    async def get(self, numbers: Sequence[int]) -> None:
        """Measure gets."""
        with self._spent["get"].measure(len(numbers)):
            await self.candidate.get(numbers)

    async def trim(self) -> None:
        """Measure a trim to half."""
        before = await self.candidate.count()
        with self._spent["trim"].measure():
            await self.candidate.trim()
        self._spent["trim"].count += before - await self.candidate.count()

    def cost(self, step: str) -> float:
        """Microseconds of CPU, the median of the rounds."""
        return statistics.median(self.rounds[step])


class Field:
    """One count and size of entries: every candidate that goes through the same rounds."""

    def __init__(self, count: int, size: int, runs: dict[str, Run]) -> None:
        self.count, self.size, self.runs = count, size, runs
        self._next = 0

    async def fill(self) -> None:
        """Bring every candidate to half of the count; not measured."""
        while self._next < self.count // 2:
            items = self._make(self.count // 2 - self._next)
            for run in self.runs.values():
                await run.candidate.put(items)

    async def round(self, puts: int, gets: int) -> None:
        """Half of the entries come, some are read, half go; until there were so many puts."""
        cycles = max(1, puts // (self.count // 2))
        for run in self.runs.values():
            run.begin()
        for _ in range(cycles):
            left = self.count // 2
            while left:
                items = self._make(left)
                left -= len(items)
                for run in self.runs.values():
                    await run.put(items)
            # What a peer trims by the pages it fills may be some more than half.
            numbers = random.choices(range(self._next - self.count * 4 // 5, self._next), k=gets // cycles)
            for run in self.runs.values():
                await run.get(numbers)
            for run in self.runs.values():
                await run.trim()
        for run in self.runs.values():
            run.end()

    def _make(self, most: int) -> list[Item]:
        made = [item(number, self.size) for number in range(self._next, self._next + min(CHUNK, most))]
        self._next += len(made)
        return made


def candidates() -> dict[str, Callable[[str], Candidate]]:
    """Who is measured: the peer only where it is installed."""
    found: dict[str, Callable[[str], Candidate]] = {"imagecache": Ours, "sqlite3": Floor}
    if importlib.util.find_spec("diskcache") is not None:
        found["diskcache"] = DiskCache
    return found


async def costs(counts: Sequence[int], size: int, rounds: int, puts: int, gets: int) -> None:
    """Print a table for one size of bodies: every count, every candidate."""
    kinds = candidates()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        fields = []
        for count in counts:
            runs = {}
            for name, kind in kinds.items():
                place = Path(folder) / f"{count}-{name}"
                place.mkdir()
                runs[name] = Run(kind(str(place)))
            fields.append(Field(count, size, runs))
        for field in fields:
            await field.fill()
        for _ in range(rounds):
            # Interleaved: a machine that gets slower does so for every count and every candidate.
            for field in fields:
                await field.round(puts, gets)
        for field in fields:
            for run in field.runs.values():
                await run.candidate.close()
    print(f"bodies of {size:,} bytes: µs of CPU each, medians of {rounds} rounds")
    others = [name for name in kinds if name != "imagecache"]
    heads = "".join(f"{name:>11}{'ratio':>7}" for name in others)
    print(f"{'':6}{'entries':>9}{'imagecache':>12}{'of ' + format(counts[0], ','):>10}{heads}")
    for step in STEPS:
        for field in fields:
            ours = field.runs["imagecache"].cost(step)
            growth = ours / fields[0].runs["imagecache"].cost(step)
            theirs = [field.runs[name].cost(step) for name in others]
            tail = "".join(f"{cost:11.1f}{ours / cost:7.2f}" for cost in theirs)
            print(f"{step:6}{field.count:9,}{ours:12.1f}{growth:10.2f}{tail}")
    print()


async def fill(folder: str, count: int, size: int) -> None:
    """A folder with so many entries, closed."""
    disk = open_disk(folder)
    for start in range(0, count, CHUNK):
        await put_all(disk, [item(number, size) for number in range(start, min(count, start + CHUNK))])
    await disk.aclose()


async def opening(folder: str, count: int, lag: Lag) -> float:
    """Seconds from nothing to the first answer; while what sweeps behind goes on, the loop is watched."""
    disk, serving = open_disk(folder), Spent()
    with serving.measure():
        await get_all(disk, [random.randrange(count)])
    async with lag.measure():
        # An answer behind every job of the sweep: it is a chain, one for some hundred files.
        for _ in range(300):
            await disk.poll()
    await disk.aclose()
    return serving.wall


async def floor_opening(folder: str, count: int) -> float:
    """The same of SQLite alone."""
    serving = Spent()
    with serving.measure():
        floor = Floor(folder)
        await floor.get([random.randrange(count)])
    await floor.close()
    return serving.wall


async def open_to_serve(count: int, size: int, openings: int) -> Lag:
    """Print how long the first answer takes, with the bodies in the index and in files."""
    lag = Lag()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        floor = Floor(folder)
        for start in range(0, count, CHUNK):
            await floor.put([item(number, size) for number in range(start, min(count, start + CHUNK))])
        await floor.close()
        await fill(folder, count, size)
        in_files = str(Path(folder) / "files")
        with mock.patch("imagecache.storage.operations.INLINE_LIMIT", 0):
            await fill(in_files, count, size)
        times: dict[str, list[float]] = {}
        for _ in range(openings):
            times.setdefault("bodies in the index", []).append(await opening(folder, count, lag))
            times.setdefault("bodies in files", []).append(await opening(in_files, count, lag))
            times.setdefault("sqlite3", []).append(await floor_opening(folder, count))
    print(f"open to serve: ms from constructing to the first answer, {count:,} entries of {size:,} bytes")
    for name, seconds in times.items():
        print(f"{name:<22}{statistics.median(seconds) * 1e3:7.1f}   slowest {max(seconds) * 1e3:7.1f}")
    print()
    return lag


async def lags(count: int, size: int) -> None:
    """Print the loop's lag while a folder of that count is put to, read and trimmed, by each candidate in turn."""
    print(f"{count:,} entries")
    for name, kind in candidates().items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            candidate = kind(folder)
            by_step = {step: Lag() for step in STEPS}
            for start in range(0, count, CHUNK):
                items = [item(number, size) for number in range(start, min(count, start + CHUNK))]
                async with by_step["put"].measure():
                    await candidate.put(items)
            async with by_step["get"].measure():
                await candidate.get(random.choices(range(count), k=min(4_000, 4 * count)))
            await candidate.count()
            async with by_step["trim"].measure():
                await candidate.trim()
            await candidate.close()
        for step, lag in by_step.items():
            print(f"  {name:<12}{step:<6}{lag}")


async def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="small counts and few rounds, to see that it works")
    options = parser.parse_args(arguments)
    counts, rounds, puts, gets, openings = sorted(options.counts), options.rounds, PUTS, GETS, OPENINGS
    if options.quick:
        counts, rounds, puts, gets, openings = [300, 600], 1, 300, 50, 1
    if "diskcache" not in candidates():
        print("diskcache is not installed: no peer to compare with\n")
    await costs(counts, SIZE, rounds, puts, gets)
    for size in OTHER_SIZES:
        await costs([count for count in counts if count <= OTHER_COUNTS] or counts[:1], size, rounds, puts, gets)
    behind = await open_to_serve(counts[-1], SIZE, openings)
    print("the loop's lag: how late a timer of 1 ms comes")
    print(f"{'idle':<20}{await idle_lag(0.2 if options.quick else 3)}")
    print(f"{'a sweep goes on':<20}{behind}")
    for count in counts:
        await lags(count, SIZE)


if __name__ == "__main__":
    asyncio.run(main())
