"""Up to which size a body is better kept in the index than in a file of its own: what chose INLINE_LIMIT.

First each size in either place: what one entry costs to put, to get and to trim. Then each limit with a mix of all
sizes, as many of each: what a folder costs under it. CPU of all threads, and wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from unittest import mock

from benchmarks.storage_load import Spent, get_all, item, open_disk, put_all, trim_to_half, weight_of
from imagecache.storage.index import INLINE_LIMIT

KIB = 1024
LIMITS = tuple(kib * KIB for kib in (0, 4, 8, 16, 32, 64, 128))
SIZES = tuple(kib * KIB for kib in (2, 4, 8, 16, 32, 64, 128))
IN_FILES, IN_INDEX = 0, 2**30
ENTRIES, CHUNK, ROUNDS = 800, 200, 5
STEPS = ("put", "get", "trim")

Figures = dict[str, tuple[float, float]]
"""Step -> microseconds an entry, of CPU and of wall time."""


async def round_of(limit: int, sizes: Sequence[int], entries: int) -> Figures:
    """A new folder under that limit: all entries put, as many got at random, half trimmed; then all of it again."""
    spent = {step: Spent() for step in STEPS}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        mock.patch("imagecache.storage.operations.INLINE_LIMIT", limit),
    ):
        disk = open_disk(folder)
        await disk.flush()
        # The second time finds pages that were used before, and sub-folders that are there, as most entries do.
        for start in (0, entries):
            for begin in range(start, start + entries, CHUNK):
                numbers = range(begin, min(begin + CHUNK, start + entries))
                made = [item(number, sizes[number % len(sizes)]) for number in numbers]
                with spent["put"].measure(len(made)):
                    await put_all(disk, made)
            any_order = random.sample(range(start, start + entries), entries)
            with spent["get"].measure(entries):
                await get_all(disk, any_order)
            before, weight = await disk.count(), await weight_of(disk)
            with spent["trim"].measure():
                await trim_to_half(disk, weight)
            spent["trim"].count += before - await disk.count()
        await disk.aclose()
    return {step: (taken.cpu_each, taken.wall_each) for step, taken in spent.items()}


def median_of(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return {
        step: (
            statistics.median(figures[step][0] for figures in rounds),
            statistics.median(figures[step][1] for figures in rounds),
        )
        for step in STEPS
    }


def total_of(figures: Figures) -> tuple[float, float]:
    """An entry's life: put once, got once, trimmed once."""
    return sum(cpu for cpu, _ in figures.values()), sum(wall for _, wall in figures.values())


def line(figures: Figures) -> str:
    """CPU of each step, then the sums."""
    cpu, wall = total_of(figures)
    return "".join(f"{figures[step][0]:8.1f}" for step in STEPS) + f"{cpu:9.1f}{wall:9.1f}"


def name_of(size: int) -> str:
    """In KiB, as the constant is given."""
    return f"{size // KIB} KiB"


async def by_size(sizes: Sequence[int], entries: int, rounds: int) -> None:
    """Print what each size costs in either place, and which is the better one."""
    found: dict[tuple[int, int], list[Figures]] = {}
    for _ in range(rounds):
        for size in sizes:
            for limit in (IN_INDEX, IN_FILES):
                found.setdefault((size, limit), []).append(await round_of(limit, [size], entries))
    print(f"µs an entry, medians of {rounds} rounds of {entries:,}: CPU of each step, CPU and wall of all three\n")
    heads = "".join(f"{step:>8}" for step in STEPS) + f"{'CPU':>9}{'wall':>9}"
    print(f"{'body':>8}  {'in the index':^42}  {'in a file':^42}  {'index / file':^14}")
    print(f"{'':8}  {heads}  {heads}  {'CPU':>6}{'wall':>8}")
    for size in sizes:
        index, file = median_of(found[size, IN_INDEX]), median_of(found[size, IN_FILES])
        (cpu, wall), (file_cpu, file_wall) = total_of(index), total_of(file)
        print(f"{name_of(size):>8}  {line(index)}  {line(file)}  {cpu / file_cpu:6.2f}{wall / file_wall:8.2f}")
    print()


async def by_limit(limits: Sequence[int], sizes: Sequence[int], entries: int, rounds: int) -> None:
    """Print what a mix of all sizes costs under each limit."""
    found: dict[int, list[Figures]] = {}
    for _ in range(rounds):
        for limit in limits:
            found.setdefault(limit, []).append(await round_of(limit, sizes, entries))
    figures = {limit: median_of(rounds_of_limit) for limit, rounds_of_limit in found.items()}
    least = min(total_of(figures[limit])[0] for limit in limits)
    least_wall = min(total_of(figures[limit])[1] for limit in limits)
    mean = sum(sizes) / len(sizes) / KIB
    print(f"as many bodies of each size, {mean:.0f} KiB on average: µs an entry\n")
    heads = "".join(f"{step:>8}" for step in STEPS)
    print(f"{'limit':>8}  {heads}{'CPU':>9}{'wall':>9}{'CPU a KiB':>11}{'of the least CPU':>18}{'wall':>7}")
    for limit in limits:
        cpu, wall = total_of(figures[limit])
        chosen = "   <- INLINE_LIMIT" if limit == INLINE_LIMIT else ""
        print(
            f"{name_of(limit):>8}  {line(figures[limit])}{cpu / mean:11.2f}{cpu / least:18.2f}{wall / least_wall:7.2f}"
            f"{chosen}"
        )


async def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few sizes, entries and rounds, to see that it works")
    options = parser.parse_args(arguments)
    limits, sizes, entries, rounds = LIMITS, SIZES, ENTRIES, options.rounds
    if options.quick:
        limits, sizes, entries, rounds = (0, INLINE_LIMIT), (2 * KIB, 64 * KIB), 60, 1
    await by_size(sizes, entries, rounds)
    await by_limit(limits, sizes, entries, rounds)


if __name__ == "__main__":
    asyncio.run(main())
