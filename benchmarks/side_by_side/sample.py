"""One sample in a process of its own: one candidate, one way to use it, a list of URLs, a folder. Prints JSON.

What is timed begins once everything is imported, before anything is opened, and ends when all is closed again: what
is to be stored is stored by then.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from .candidates import CANDIDATES, REFRESHING

AT_ONCE = 32
TICK = 0.005
"""Seconds between two looks at how late the event loop is."""


async def all_of(urls: Iterable[str], fetch: Callable[[str], Awaitable[object]]) -> None:
    """Fetch all, a bounded number at a time."""
    left = iter(urls)

    async def work() -> None:
        for url in left:
            await fetch(url)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


class Lateness:
    """A ticker: how late each of its ticks came, in seconds."""

    def __init__(self) -> None:
        self.values: list[float] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            self.values.append(time.perf_counter() - due)

    def at(self, share: float) -> float:
        """The lateness that this share of the ticks stays within."""
        ordered = sorted(self.values) or [0.0]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def use(name: str, how: str, urls: list[str], folder: Path) -> dict[str, float]:
    """Do it, and tell what it took."""
    lateness = Lateness()
    ticker = asyncio.create_task(lateness.run())
    began, cpu = time.perf_counter(), time.process_time()
    told: dict[str, float] = {}
    if how == "refresh":
        async with REFRESHING[name][1](folder) as fetch:
            await all_of(urls, fetch)
            # What was loaded first is no part of it.
            gc.collect()
            ticker.cancel()
            lateness = Lateness()
            ticker = asyncio.create_task(lateness.run())
            began, cpu = time.perf_counter(), time.process_time()
            await all_of(urls, fetch)
            told = taken(began, cpu)
    elif how == "prefetch":
        from imagecache import ImageManager

        async with ImageManager(directory=folder) as images:
            report = await images.prefetch(urls, concurrency=AT_ONCE)
            assert report.is_complete, str(report)
    elif how.startswith("coalesce"):
        from imagecache import ImageManager

        async with ImageManager(directory=folder) as images:
            # Connected, and with threads: what is measured is the second image.
            await images.fetch_image(urls[0])
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(images.fetch_image(urls[1]) for _ in range(int(how.removeprefix("coalesce")))))
            told = taken(began, cpu) | {"decodes": images.counters.decodes - 1}
    else:
        async with CANDIDATES[name][1](folder) as fetch:
            await all_of(urls, fetch)
    told = told or taken(began, cpu)
    ticker.cancel()
    return told | {"late_p99": lateness.at(0.99), "late_max": lateness.at(1.0), "memory": peak_memory()}


def taken(began: float, cpu: float) -> dict[str, float]:
    """Wall and CPU seconds since."""
    return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def peak_memory() -> float:
    """The most bytes that this process had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: that of a process just started is its parent's.
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(found.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def main(arguments: list[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("how")
    parser.add_argument("urls", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    for module in ("PIL.Image", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.WebPImagePlugin"):
        importlib.import_module(module)
    importlib.import_module(CANDIDATES[asked.name][0])
    if asked.name == "imagecache":
        importlib.import_module("imagecache.manager")
    urls = asked.urls.read_text().split()
    os.environ.pop("IMAGECACHE_MEMORY_LIMIT", None)
    print(json.dumps(asyncio.run(use(asked.name, asked.how, urls, asked.folder))))


if __name__ == "__main__":
    main()
