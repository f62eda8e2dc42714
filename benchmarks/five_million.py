"""A folder of millions of generated entries, or of as many as the disk holds: opened, put to, read and trimmed.

Filled through DiskStorage.put, as an app does it, so that the fill is a figure, too. The folder is made in the
system's temporary one, or in ``--in``, and always removed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.storage_load import Lag, Spent, get_all, item, open_disk, put_all, trim_to_half, weight_of

ROWS, SIZE = 5_000_000, 20 * 1024
RESERVE, RESERVED_SHARE = 2 * 2**30, 0.1
"""Left free on the disk: so many bytes, or that share of it, whichever is more."""
PAGES_A_ROW = 1.25
"""What a row takes on disk, at most, for each of its bytes: pages that a body does not fill, metadata, the log."""
CHUNK = 500
PROBES = 5_000
OPENINGS = 5


def rows_that_fit(folder: Path, rows: int, size: int) -> int:
    """As many of the rows as the disk holds beside what is to stay free."""
    disk = shutil.disk_usage(folder)
    room = disk.free - max(RESERVE, int(disk.total * RESERVED_SHARE))
    return max(0, min(rows, int(room / ((size + 2048) * PAGES_A_ROW))))


def line(what: str, spent: Spent) -> str:
    """The figures of one step."""
    return f"{what:<22}{spent.cpu_each:9.1f} µs of CPU {spent.wall_each:9.1f} µs each, of {spent.count:,}"


async def fill(folder: Path, rows: int, size: int) -> None:
    """Put all rows, and print what each tenth of them took."""
    disk = open_disk(folder)
    tenth = Spent()
    for start in range(0, rows, CHUNK):
        items = [item(number, size) for number in range(start, min(rows, start + CHUNK))]
        with tenth.measure(len(items)):
            await put_all(disk, items)
        if tenth.count >= rows // 10:
            print(line(f"put, up to {start + len(items):,}", tenth), flush=True)
            tenth = Spent()
    with (closing := Spent()).measure(1):
        await disk.aclose()
    print(f"closed in {closing.wall * 1e3:,.0f} ms")


def print_files(folder: Path) -> None:
    """What lies on the disk: the index's own files by name, the bodies together."""
    bodies = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            if path.suffix.startswith(".sqlite"):
                print(f"{path.name:<22}{size / 2**20:12,.1f} MiB")
            else:
                bodies += size
    print(f"{'other files':<22}{bodies / 2**20:12,.1f} MiB")


async def use(folder: Path, rows: int, size: int) -> None:
    """Open, read, put to and trim the folder."""
    times = []
    for _ in range(OPENINGS):
        began = time.perf_counter()
        disk = open_disk(folder)
        await get_all(disk, [random.randrange(rows)])
        times.append(time.perf_counter() - began)
        await disk.aclose()
    print(f"{'open to serve':<22}{statistics.median(times) * 1e3:9.1f} ms, slowest {max(times) * 1e3:.1f} ms")

    disk, lag = open_disk(folder), Lag()
    with (reads := Spent()).measure(min(rows, PROBES)):
        await get_all(disk, random.sample(range(rows), min(rows, PROBES)))
    print(line("get", reads))
    puts = Spent()
    for start in range(rows, rows + PROBES, CHUNK):
        items = [item(number, size) for number in range(start, start + CHUNK)]
        with puts.measure(CHUNK):
            await put_all(disk, items)
    print(line("put", puts))
    with (idle := Spent()).measure(1):
        await disk.clean()
    print(f"{'clean, nothing to do':<22}{idle.wall * 1e3:9.1f} ms")
    before, weight = await disk.count(), await weight_of(disk)
    async with lag.measure():
        with (trim := Spent()).measure():
            await trim_to_half(disk, weight)
    trim.count = before - await disk.count()
    print(line("trim", trim))
    print(f"{'lag while trimming':<22}{lag}")
    await disk.aclose()


async def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of a body")
    parser.add_argument("--in", dest="parent", type=Path, default=Path(tempfile.gettempdir()), help="a folder to fill")
    options = parser.parse_args(arguments)
    rows = rows_that_fit(options.parent, options.rows, options.size)
    if rows < min(options.rows, 10 * CHUNK):
        raise SystemExit("the disk is too full")
    print(f"{rows:,} rows of {options.size:,} bytes" + ("" if rows == options.rows else ": what the disk holds"))
    with tempfile.TemporaryDirectory(dir=options.parent) as name:
        folder = Path(name)
        await fill(folder, rows, options.size)
        print_files(folder)
        await use(folder, rows, options.size)
        print_files(folder)


if __name__ == "__main__":
    asyncio.run(main())
