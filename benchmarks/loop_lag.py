"""The event loop while imagecache works: how late a ticker of 5 ms is, and the longest steps, beside the bare floor.

Each sample is a fresh process; imagecache and the floor take turns over the rounds, and what is printed are medians.
Waiting is for the GIL or a processor: where others use the machine, only the CPU of a step says what the step did.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import compare, corpus
from benchmarks.clients import Client, all_of
from benchmarks.floor import Floor, name_for
from benchmarks.loop_steps import Lag, Steps
from benchmarks.origin import Origin, serve
from benchmarks.ours import Ours
from benchmarks.sample import Figures
from benchmarks.storage_load import NO_LIMIT, item, put_all, url_of, weight_of
from benchmarks.targets import LOOP
from benchmarks.workloads import CALLERS, FLOOR, OURS, WORKLOADS, Job, Kind, Workload
from imagecache import ImageManager
from imagecache.pipeline.machine import usable_cpus

ROUNDS, QUICK_ROUNDS = 5, 1
HIT_IMAGES, HIT_ROUNDS = 100, 200
"""As many images in memory, and how often all callers ask for one at once."""
ENTRIES, QUICK_ENTRIES, ENTRY_SIZE = 10_000, 1_000, 4096
PUT_AT_ONCE = 250
NAMES_SHOWN = 3

HITS = Workload("memory-hits", f"{CALLERS} callers at once, all in memory", "thumbnails", Job.COLD, (FLOOR, OURS))
TRIM = Workload("trim", "cleaned: half of the entries trimmed", "thumbnails", Job.COLD, (FLOOR, OURS))
MEASURED: Mapping[str, Workload] = {
    name: workload for name, workload in WORKLOADS.items() if workload.job is not Job.COALESCED
} | {HITS.name: HITS, TRIM.name: TRIM}


class Meter:
    """The lag and the steps of a block."""

    def __init__(self) -> None:
        self.lag, self.steps = Lag(), Steps()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Watch the running loop."""
        # What the imports left is not the workload's, and would be seen to somewhere within it.
        gc.collect()
        with self.steps.watch():
            async with self.lag.watch():
                yield

    @property
    def figures(self) -> Figures:
        """Seconds, and counts of steps."""
        longest, most = self.steps.longest, self.steps.slowest(ours=False)
        return {
            "lag_median": self.lag.median,
            "lag_p99": self.lag.at(0.99),
            "lag_max": self.lag.at(1.0),
            "longest": longest.whole,
            "longest_cpu": longest.cpu,
            "longest_collecting": longest.collecting,
            "longest_waited": longest.waited,
            "cpu": most.cpu,
            "collecting": self.steps.most_collecting,
            "cpu_ours": self.steps.slowest(ours=True).cpu,
            "long": float(sum(count for name, count in self.steps.long.items() if self.steps.by_cpu[name].is_ours)),
            "steps": float(self.steps.count),
        }


# One sample, in a process of its own


async def measure(candidate: str, workload: Workload, urls: Sequence[str], folder: Path, *, is_setup: bool) -> Meter:
    """Run the workload once, and watch what is its own of that."""
    if workload is TRIM:
        return await _trim(candidate, folder, int(urls[0]))
    client: Client
    if candidate == OURS:
        client = Ours(folder)
    else:
        floor = Floor(folder, from_disk=workload.job is Job.DISK and not is_setup)
        floor.keeps_images = workload.job is Job.REFRESH
        client = floor
    meter = Meter()
    if workload is HITS:
        return await _hits(client, urls, meter)
    if workload.job is Job.REFRESH:
        async with client:
            await all_of(urls, client.fetch)
            await client.flush()
            async with meter.watch():
                await all_of(urls, client.refresh)
        return meter
    async with meter.watch(), client:
        if workload.job is Job.PREFETCHED:
            await client.prefetch(urls)
        else:
            await all_of(urls, client.fetch)
    return meter


async def _hits(client: Client, urls: Sequence[str], meter: Meter) -> Meter:
    async with client:
        images = {url: await client.fetch(url) for url in urls}

        async def known(url: str) -> object:
            return images[url]

        # Each call is a task of its own, and so a step.
        call = known if isinstance(client, Floor) else client.fetch
        async with meter.watch():
            for number in range(HIT_ROUNDS):
                await asyncio.gather(*(call(urls[number % len(urls)]) for _ in range(CALLERS)))
    return meter


async def _trim(candidate: str, folder: Path, count: int) -> Meter:
    meter = Meter()
    if candidate == OURS:
        async with ImageManager(directory=folder) as images:
            disk = images.cache.disk
            disk.limit = NO_LIMIT
            for start in range(0, count, PUT_AT_ONCE):
                await put_all(disk, [item(number, ENTRY_SIZE) for number in range(start, start + PUT_AT_ONCE)])
            # Not by the property: that evicts behind, and this is about one clean.
            disk._limit = await weight_of(disk) - 1
            async with meter.watch():
                gone = await images.clean_expired()
            assert len(gone) >= count // 2
        return meter
    with ThreadPoolExecutor(usable_cpus()) as threads:
        for number in range(256):
            (folder / f"{number:02x}").mkdir()
        names = [folder / name_for(url_of(number)) for number in range(count)]
        for number, name in enumerate(names):
            name.write_bytes(item(number, ENTRY_SIZE)[1])

        def remove() -> None:
            for name in names[::2]:
                os.remove(name)  # noqa: PTH107 - whatever pathlib adds would not be the floor

        async with meter.watch():
            await asyncio.get_running_loop().run_in_executor(threads, remove)
    return meter


def sample(arguments: Sequence[str]) -> None:
    """Print one line: the figures, and the slowest steps with their names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("candidate")
    parser.add_argument("workload")
    parser.add_argument("--urls", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--setup", action="store_true")
    options = parser.parse_args(arguments)
    urls = options.urls.read_text(encoding="utf-8").split()
    workload = MEASURED[options.workload]
    meter = asyncio.run(measure(options.candidate, workload, urls, options.folder, is_setup=options.setup))
    slowest = {step.name: step.cpu for step in meter.steps.by_cpu.values() if step.is_ours}
    longest = meter.steps.longest.name
    print(json.dumps({"figures": meter.figures, "slowest": slowest, "long": meter.steps.long, "longest": longest}))


# All samples


class LagRun(compare.Run):
    """The suite's run with samples of another kind, and two workloads more; it keeps what has a name."""

    def __init__(self, origin: Origin, scratch: Path, files: dict[Kind, list[Path]], entries: int) -> None:
        super().__init__(origin, scratch, files)
        self._folder = scratch
        self._entries = entries
        self.slowest: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        """Workload -> step of ours -> the most CPU of it, a figure a round."""
        self.longest: dict[tuple[str, str], list[str]] = defaultdict(list)
        """Workload, candidate -> the name of the longest step, one a round."""

    def urls(self, workload: Workload) -> Path:
        """A file of the workload's URLs, or of how many entries there are."""
        path = super().urls(workload)
        if workload is TRIM:
            path.write_text(str(self._entries), encoding="utf-8")
        elif workload is HITS:
            path.write_text("\n".join(path.read_text(encoding="utf-8").split()[:HIT_IMAGES]), encoding="utf-8")
        return path

    def sample(self, candidate: str, workload: Workload) -> Figures:
        """One candidate's turn; requests are counted where the suite has the workload."""
        if workload not in {HITS, TRIM}:
            return super().sample(candidate, workload)
        folder = self._folder / f"{workload.name}-{candidate}"
        folder.mkdir()
        try:
            return self._process(candidate, workload, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _process(self, candidate: str, workload: Workload, folder: Path, *more: str) -> Figures:
        line = [sys.executable, "-m", "benchmarks.loop_lag", "sample", candidate, workload.name]
        line += ["--urls", str(self.urls(workload)), "--folder", str(folder), *more]
        done = subprocess.run(line, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise compare.SampleFailedError((done.stderr.strip().splitlines() or ["no word of why"])[-1])
        told = json.loads(done.stdout.splitlines()[-1])
        if not more:
            self.longest[workload.name, candidate].append(told["longest"])
            if candidate == OURS:
                for name, cpu in told["slowest"].items():
                    self.slowest[workload.name][name].append(cpu)
        figures: Figures = told["figures"]
        return figures


_HEADS = (
    "", "lag p50", "p99", "max", "longest", "= CPU", "+ collector", "+ waiting", "most CPU", "of ours", "over 1 ms",
    "most collector",
)  # fmt: skip
_LAGS = ("lag_median", "lag_p99", "lag_max")
_PARTS = ("longest", "longest_cpu", "longest_collecting", "longest_waited")


def _median(samples: Sequence[Figures], figure: str) -> float:
    values = [value for sample in samples if (value := sample[figure]) is not None]
    return statistics.median(values) if values else 0.0


def told(
    workload: Workload, taken: Mapping[str, Sequence[Figures]], run: LagRun, left_out: Mapping[str, str]
) -> list[str]:
    """The lines of a workload: a row a candidate, the target, and the slowest steps of ours."""
    lines = ["", workload.title]
    if OURS not in taken:
        return [*lines, *(f"left out: {name}: {why}" for name, why in left_out.items() if name.endswith(workload.name))]
    for name, samples in taken.items():
        # The parts are of one step, the median one, so that they add up.
        middle = sorted(samples, key=lambda sample: sample["longest"] or 0.0)[len(samples) // 2]
        seconds = [_median(samples, figure) for figure in _LAGS] + [middle[part] or 0.0 for part in _PARTS]
        seconds += [_median(samples, figure) for figure in ("cpu", "cpu_ours", "collecting")]
        cells = [f"{value * 1e3:.2f}" for value in seconds]
        cells.insert(-1, f"{_median(samples, 'long'):g}")
        if name != OURS:
            cells[-3:-1] = "-", "-"
        lines.append(_line((name, *cells)))
    ours = taken[OURS]
    missed = LOOP.misses(_median(ours, "lag_p99"), _median(ours, "lag_max"), _median(ours, "cpu_ours"))
    lines.append(f"target: {LOOP} -> {'met' if not missed else 'MISSED: ' + '; '.join(missed)}")
    # Of a step that is in half of the rounds, the median; of another one, chance.
    often = {
        name: statistics.median(figures)
        for name, figures in run.slowest[workload.name].items()
        if len(figures) * 2 > len(ours)
    }
    for name, cpu in sorted(often.items(), key=lambda item: -item[1])[:NAMES_SHOWN]:
        lines.append(f"  {cpu * 1e3:6.2f} ms CPU  {name}")
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<12}" + "".join(
        cell.rjust(max(8, len(head) + 2)) for cell, head in zip(cells[1:], _HEADS[1:], strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, entries and rounds: to see that it works")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by itself")
    parser.add_argument("--only", nargs="+", choices=MEASURED, metavar="WORKLOAD", help=", ".join(MEASURED))
    parser.add_argument("--own-server", action="store_true", help="not nginx, though it is there")
    parser.add_argument("--corpus", type=Path, help="where the pictures are kept")
    # For the tests: even fewer.
    parser.add_argument("--thumbnails", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    counts = compare.QUICK_COUNTS if options.quick else compare.COUNTS
    folder = options.corpus or corpus.default_folder(None)
    files: dict[Kind, list[Path]] = {
        "thumbnails": corpus.make(folder, "thumbnails", options.thumbnails or counts["thumbnails"], None),
        "photos": corpus.make(folder, "photos", options.photos or counts["photos"], None),
    }
    lines = ["milliseconds; of the longest step by wall time its parts, then the most CPU that any step took"]
    lines.append(_line(_HEADS))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        (scratch / "server").mkdir()
        with serve(folder, scratch / "server", own=options.own_server) as origin:
            left_out: dict[str, str] = {}
            run = LagRun(origin, scratch, files, QUICK_ENTRIES if options.quick else ENTRIES)
            for workload in MEASURED.values():
                if options.only is None or workload.name in options.only:
                    taken = run.workload(workload, (FLOOR, OURS), rounds, left_out)
                    lines += told(workload, taken, run, left_out)
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["sample"]:
        sample(sys.argv[2:])
    else:
        main()
