"""Growth in one table: what each step costs among 1,000, 10,000 and 100,000 entries, a memory hit also among 10 images.

A round goes through all counts in turn, each in a fresh process. On disk: the folder of that many entries, which stays
from round to round, is opened; some entries are got, and their ETags; half of them are trimmed, and as many are put. In
memory: that many tiny images are hit, and a bare dict that holds as many beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from benchmarks.storage_growth import CHUNK, COUNTS, PUTS, SIZE
from benchmarks.storage_load import (
    GETS_AT_ONCE,
    NO_LIMIT,
    Spent,
    get_all,
    item,
    put_all,
    trim_to_half,
    url_of,
    weight_of,
)
from benchmarks.targets import FLAT
from imagecache import ImageManager
from imagecache.entry import Entry
from imagecache.imaging.shared import SharedImage
from imagecache.pipeline.cached import CachedImage
from imagecache.storage import record
from imagecache.storage.cache import ImageCache
from imagecache.storage.etags import ETagRegistry

ROUNDS = 5
OPENINGS = 15
BATCH, BATCHES = 500, 8
"""Gets, or look-ups, that are one figure, and how many such figures a round takes the median of."""
HITS, TURNS = 20_000, 5
"""Hits in a row, and how often these and the dict's take turns in one process."""
FEW = 10
"""Images in memory: the least."""
SOME = 1_000
"""So many images an app shows again and again, of all that are in memory."""
SIDE = 4
PIXELS = SIDE * SIDE * 4
"""Bytes of one image's pixels: small enough that a hundred thousand fit."""
WARM_UP = 64
"""Entries of a folder that is gone through before anything is measured: what is done once a process is not."""

PUT, GET, TRIM, OPEN, ETAG = "put", "get", "trim", "open", "ETag look-up"
ONE, SCREEN, ANY = "one of them", f"any of {SOME:,} of them", "any of them"
HIT, DICT, RATIO = "memory hit", "bare dict", "hit / dict"

Figures = dict[str, float]
T = TypeVar("T")


def resident() -> float:
    """Bytes of this process that are in memory now; NaN where the system does not say."""
    gc.collect()
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return math.nan


def in_fresh_process(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a coroutine function returns in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_run, work).result()


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for a figure: at least so many puts, reads in batches, openings, hits in a row."""

    puts: int = PUTS
    batch: int = BATCH
    batches: int = BATCHES
    openings: int = OPENINGS
    hits: int = HITS


QUICK = Effort(puts=200, batch=50, batches=1, openings=1, hits=100)


# On disk


def open_cache(folder: Path) -> ImageCache[CachedImage]:
    """A cache without a manager, whose limit is out of the way."""
    return ImageCache(folder, disk_limit=NO_LIMIT)


async def put_numbers(cache: ImageCache[CachedImage], numbers: range, spent: Spent) -> None:
    """Put the entries of these numbers; making them is not measured."""
    for start in range(numbers.start, numbers.stop, CHUNK):
        items = [item(number, SIZE) for number in range(start, min(numbers.stop, start + CHUNK))]
        with spent.measure(len(items)):
            await put_all(cache.disk, items)


async def etags_of(etags: ETagRegistry, numbers: Sequence[int]) -> None:
    """Look ETags up, some at a time."""
    for start in range(0, len(numbers), GETS_AT_ONCE):
        urls = [url_of(number) for number in numbers[start : start + GETS_AT_ONCE]]
        assert all(await asyncio.gather(*(etags.get(url) for url in urls)))


async def read(
    work: Callable[[Sequence[int]], Coroutine[Any, Any, None]], numbers: range, batch: int, batches: int
) -> float:
    """What one read takes, microseconds of CPU: the median of some batches, behind one that is not measured."""
    taken = []
    for _ in range(batches + 1):
        some = random.choices(numbers, k=batch)
        with (spent := Spent()).measure(batch):
            await work(some)
        taken.append(spent.cpu_each)
    return statistics.median(taken[1:])


async def trim_and_put(cache: ImageCache[CachedImage], numbers: range, trim: Spent, puts: Spent) -> range:
    """Trim a full folder to half and fill it again; the numbers of its entries then."""
    weight = await weight_of(cache.disk)
    with trim.measure():
        await trim_to_half(cache.disk, weight)
    gone = len(numbers) - await cache.disk.count()
    trim.count += gone
    await put_numbers(cache, range(numbers.stop, numbers.stop + gone), puts)
    return range(numbers.start + gone, numbers.stop + gone)


async def warm_up(folder: Path) -> None:
    """Do everything once in a folder beside it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        cache, numbers = open_cache(Path(other)), range(WARM_UP)
        await put_numbers(cache, numbers, Spent())
        await get_all(cache.disk, numbers)
        await etags_of(cache.etags, numbers)
        await trim_and_put(cache, numbers, Spent(), Spent())
        await cache.aclose()


async def fill(folder: Path, count: int) -> float:
    """Put so many entries into a new folder; bytes that the process grew by."""
    await warm_up(folder)
    before = resident()
    cache = open_cache(folder)
    await put_numbers(cache, range(count), Spent())
    grown = resident() - before
    await cache.aclose()
    return grown


async def get_each(folder: Path, numbers: range) -> float:
    """Open a folder and get every entry once; bytes that the process grew by."""
    await warm_up(folder)
    before = resident()
    cache = open_cache(folder)
    for start in range(numbers.start, numbers.stop, GETS_AT_ONCE):
        urls = [url_of(number) for number in range(start, min(numbers.stop, start + GETS_AT_ONCE))]
        assert all(await asyncio.gather(*(cache.get(url) for url in urls)))
    # That these were used is noted until it is written.
    await cache.flush()
    grown = resident() - before
    await cache.aclose()
    return grown


async def open_often(folder: Path, numbers: range, openings: int) -> float:
    """From constructing to the first answer, microseconds of CPU."""
    opened = []
    for _ in range(openings):
        with (serving := Spent()).measure(1):
            cache = open_cache(folder)
            await get_all(cache.disk, [random.choice(numbers)])
        opened.append(serving.cpu_each)
        await cache.aclose()
    return statistics.median(opened)


async def disk_sample(folder: Path, numbers: range, effort: Effort) -> tuple[Figures, range]:
    """What each step costs, microseconds of CPU of all threads; and the numbers of the entries that are there then."""
    await warm_up(folder)
    opened = await open_often(folder, numbers, effort.openings)
    cache, trim, puts = open_cache(folder), Spent(), Spent()
    got = await read(partial(get_all, cache.disk), numbers, effort.batch, effort.batches)
    looked_up = await read(partial(etags_of, cache.etags), numbers, effort.batch, effort.batches)
    while puts.count < effort.puts:
        numbers = await trim_and_put(cache, numbers, trim, puts)
    await cache.aclose()
    return {PUT: puts.cpu_each, GET: got, ETAG: looked_up, TRIM: trim.cpu_each, OPEN: opened}, numbers


# In memory


def as_read(entry: Entry) -> Entry:
    """The entry as it comes from the disk: it shares no text with any other."""
    text = record.encode(entry)
    return record.decode(text, record.seal(text), entry.stored_until, entry.lifetime)


def hold(images: ImageManager, count: int) -> list[CachedImage]:
    """Put so many tiny images into the memory tier, as a manager does."""
    held = []
    for number in range(count):
        entry = as_read(item(number, PIXELS)[0])
        cached = CachedImage(entry.key, SharedImage(Image.new("RGB", (SIDE, SIDE))), entry)
        kept = images.cache.memory.store(
            cached.key,
            cached,
            cost=cached.pixels.cost,
            group=entry.row.key_hash,
            deadline=time.monotonic() + 86_400,
        )
        assert kept
        held.append(cached)
    return held


def manager(folder: Path) -> ImageManager:
    """One whose memory holds them all."""
    return ImageManager(directory=folder, memory_limit="1 GiB")


async def traced(folder: Path, count: int) -> float:
    """Bytes that Python allocates for each image held, as it counts them itself; pixels are not among them."""
    async with manager(folder) as images:
        hold(images, 1)
        tracemalloc.start()
        hold(images, count)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return size / count


async def memory_sample(folder: Path, count: int, hits: int) -> tuple[Figures, float]:
    """What a hit and a look-up cost, microseconds of CPU; and the bytes that the process grew by to hold the images."""
    async with manager(folder) as images:
        hold(images, 1)
        await images.fetch_image(url_of(0))
        before = resident()
        held = hold(images, count)
        grown = resident() - before
        # Images, as a program without a cache would keep them. The keys are its own.
        known = {url_of(number): cached.hand_out() for number, cached in enumerate(held)}

        async def look_up(url: str) -> object:
            return known.get(url)

        some = random.sample(range(count), min(SOME, count))
        asked: dict[str, Callable[[], Iterable[int]]] = {
            ONE: lambda: [count // 2] * hits,
            SCREEN: lambda: random.choices(some, k=hits),
            ANY: lambda: random.choices(range(count), k=hits),
        }
        taken: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for which, numbers in asked.items():
                for what, call in ((DICT, look_up), (HIT, images.fetch_image)):
                    # Equal to the keys, but other objects, whose hash nobody has asked for: so callers' are.
                    urls = list(map(url_of, numbers()))
                    with (spent := Spent()).measure(hits):
                        for url in urls:
                            await call(url)
                    taken.setdefault(f"{what}, {which}", []).append(spent.cpu_each)
        assert images.counters.memory_hits == TURNS * len(asked) * hits + 1
    figures = {name: statistics.median(times) for name, times in taken.items()}
    figures |= {f"{RATIO}, {which}": figures[f"{HIT}, {which}"] / figures[f"{DICT}, {which}"] for which in asked}
    return figures, grown


# The table


@dataclass(slots=True)
class Row:
    """One step: its figures by count, one a round."""

    name: str
    rounds: dict[int, list[float]] = field(default_factory=dict)

    def cost(self, count: int) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds[count])

    def factor(self, count: int) -> float:
        """How much of the cost at the least count: the median of each round's, so that a slow round slows both."""
        least = self.rounds[min(self.rounds)]
        return statistics.median(cost / base for cost, base in zip(self.rounds[count], least, strict=True))

    @property
    def verdict(self) -> str:
        """Whether it is flat; nothing is asked of what is only compared with."""
        if self.name.startswith(DICT):
            return ""
        # Compared as it is printed.
        return "met" if all(round(self.factor(count), 2) <= FLAT for count in self.rounds) else "MISSED"

    def line(self, counts: Sequence[int]) -> str:
        """The row as it is printed."""
        cells = [
            f"{self.cost(count):10.2f}{self.factor(count):6.2f}" if count in self.rounds else f"{'':16}"
            for count in counts
        ]
        return f"{self.name:<34}{''.join(cells)}  {self.verdict}".rstrip()


class Table:
    """All rows, in the order in which they first came."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def add(self, count: int, figures: Figures) -> None:
        """Add a round's figures at a count."""
        for name, figure in figures.items():
            self._rows.setdefault(name, Row(name)).rounds.setdefault(count, []).append(figure)

    def print(self) -> None:
        """Print it; what is a ratio says so by its name."""
        counts = sorted({count for row in self._rows.values() for count in row.rounds})
        heads = "".join(f"{count:10,}      " for count in counts)
        print(f"{'':34}{heads}  flat within {FLAT:.2f}")
        for row in self._rows.values():
            print(row.line(counts))


def print_memory(what: str, grown: dict[int, float], *, without: int = 0) -> None:
    """The process's growth at each count, and for one entry: by what the two largest counts differ in."""
    sizes = "   ".join(f"{size / 2**20:.1f} MiB at {count:,}" for count, size in grown.items())
    (fewer, less), (more, most) = sorted(grown.items())[-2:]
    print(f"{what:<34}{(most - less) / (more - fewer) - without:8.0f} bytes each   ({sizes})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and the memory that an entry takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="at least two")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="small counts and one round, to see that it works")
    options = parser.parse_args(arguments)
    counts, rounds, effort = sorted(set(options.counts)), options.rounds, Effort()
    if options.quick:
        counts, rounds, effort = [200, 400], 1, QUICK
    if len(counts) < 2:
        parser.error("growth takes two counts")
    on_disk, in_memory = Table(), Table()
    put, got, held = {}, {}, {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        memory = Path(name) / "memory"
        folders = {count: Path(name) / str(count) for count in counts}
        numbers = {count: range(count) for count in counts}
        for count, folder in folders.items():
            put[count] = in_fresh_process(partial(fill, folder, count))
            got[count] = in_fresh_process(partial(get_each, folder, range(count)))
        for _ in range(rounds):
            for count, folder in folders.items():
                figures, numbers[count] = in_fresh_process(partial(disk_sample, folder, numbers[count], effort))
                on_disk.add(count, figures)
            for count in (FEW, *counts):
                figures, held[count] = in_fresh_process(partial(memory_sample, memory, count, effort.hits))
                in_memory.add(count, figures)
        by_python = in_fresh_process(partial(traced, memory, counts[-1]))
    print(f"µs of CPU each, all threads, medians of {rounds} rounds; beside each, of the least count")
    on_disk.print()
    print()
    in_memory.print()
    print(f"\nmemory of the process, from {counts[-2]:,} to {counts[-1]:,}")
    print_memory("an entry on disk, put", put)
    print_memory("an entry on disk, got once", got)
    del held[FEW]
    print_memory("an image in memory, without pixels", held, without=PIXELS)
    print(f"{'  of that, as Python counts':<34}{by_python:8.0f} bytes each")


if __name__ == "__main__":
    main()
