"""One sample: one candidate, one workload, in this fresh process; one line of JSON with what it took.

Timed is what lies between a cache being made and its being closed, everything stored; imports are not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import tools
from benchmarks.workloads import CALLERS, CANDIDATES, FLOOR, OURS, PAIRS, WORKLOADS, Job

TICK = 0.005
Figures = dict[str, float | None]


class Timer:
    """Wall and CPU time of a block, and how late a ticker on the loop was meanwhile."""

    def __init__(self) -> None:
        self.figures: Figures = {}

    @asynccontextmanager
    async def measure(self) -> AsyncIterator[None]:
        """Time the block."""
        late: list[float] = []

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(TICK)
                late.append(time.perf_counter() - began - TICK)

        # What the imports left is not the block's, and would be seen to somewhere within: 15 ms, for whoever it hits.
        gc.collect()
        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0)
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        ticker.cancel()
        late.sort()
        self.figures = {
            "wall": wall,
            "cpu": cpu,
            "lag_p99": late[math.ceil(len(late) * 0.99) - 1] if late else None,
            "lag_max": late[-1] if late else None,
        }


def peak_memory() -> int | None:
    """The most bytes that this process has had in memory."""
    try:
        # Not ru_maxrss: it begins with what the parent had when it forked.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def measure(candidate: str, job: Job, urls: Sequence[str], folder: Path, *, is_setup: bool) -> Figures:
    """What the job takes with a library."""
    from benchmarks.clients import Client, all_of, decodes

    client: Client
    if candidate == FLOOR:
        from benchmarks.floor import Floor

        floor = Floor(folder, from_disk=job is Job.DISK and not is_setup)
        floor.keeps_images = job is Job.REFRESH
        client = floor
    elif candidate == OURS:
        from benchmarks.ours import Ours

        client = Ours(folder)
    else:
        from benchmarks import peers

        match candidate:
            case "acc-file" | "acc-sqlite":
                client = peers.acc(folder, candidate.removeprefix("acc-"))
            case "hishel":
                client = peers.hishel(folder)
            case "requests-cache":
                client = peers.requests_cache(folder)
            case "diskcache":
                client = peers.DiskCache(folder)
            case _:
                raise ValueError(candidate)

    def decoded() -> int:
        return getattr(client, "decodes", decodes[0])

    timer = Timer()
    match job:
        case Job.COLD | Job.DISK | Job.PREFETCHED:
            async with timer.measure(), client:
                if job is Job.PREFETCHED:
                    await client.prefetch(urls)
                else:
                    await all_of(urls, client.fetch)
        case Job.REFRESH:
            async with client:
                await all_of(urls, client.fetch)
                await client.flush()
                before = decoded()
                async with timer.measure():
                    await all_of(urls, client.refresh)
                timer.figures["decodes"] = decoded() - before
        case Job.COALESCED:
            ones, manies, most_decodes = [], [], 0
            async with client, timer.measure():
                # Any query names the same file to the server and another one to a cache.
                url = urls[0]
                await client.fetch(f"{url}?warm")
                for number in range(PAIRS):
                    began = time.perf_counter()
                    await client.fetch(f"{url}?one={number}")
                    ones.append(time.perf_counter() - began)
                    before, began = decoded(), time.perf_counter()
                    await asyncio.gather(*(client.fetch(f"{url}?many={number}") for _ in range(CALLERS)))
                    manies.append(time.perf_counter() - began)
                    most_decodes = max(most_decodes, decoded() - before)
            extra = statistics.median(many - one for one, many in zip(ones, manies, strict=True))
            timer.figures |= {"wall": statistics.median(manies), "extra": extra, "decodes": most_decodes}
    return timer.figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidate", choices=CANDIDATES)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--urls", type=Path, required=True, help="a file of URLs, one a line")
    parser.add_argument("--folder", type=Path, required=True, help="for what is stored: empty, or set up before")
    parser.add_argument("--setup", action="store_true", help="only fill the folder, for disk hits in a later process")
    options = parser.parse_args(arguments)
    urls = options.urls.read_text().split()
    figures: Figures
    if CANDIDATES[options.candidate].tool is not None:
        figures = tools.run(options.candidate, urls, options.folder)
    else:
        job = WORKLOADS[options.workload].job
        figures = asyncio.run(measure(options.candidate, job, urls, options.folder, is_setup=options.setup))
        figures["memory"] = peak_memory()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
