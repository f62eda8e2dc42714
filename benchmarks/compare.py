"""imagecache against the floor and against what would be used instead: every candidate, every workload, one table.

Each sample is a fresh process; the candidates of a workload take turns, A B A B, over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import chart, corpus, report
from benchmarks.origin import Origin, serve
from benchmarks.sample import Figures
from benchmarks.workloads import CALLERS, CANDIDATES, FLOOR, PAIRS, QUICK, WORKLOADS, Job, Kind, Workload

ROUNDS, QUICK_ROUNDS = 5, 1
QUICK_COUNTS: dict[Kind, int] = {"thumbnails": 150, "photos": 20}
COUNTS: dict[Kind, int] = {"thumbnails": corpus.THUMBNAILS, "photos": corpus.PHOTOS}
SLOWEST = 600
"""Seconds after which a sample is given up."""


class SampleFailedError(Exception):
    """A candidate that does not do what it is measured at; the text says why."""


class Run:
    """One run: the server, a scratch folder, and what is known of each candidate's folder."""

    def __init__(self, origin: Origin, scratch: Path, files: dict[Kind, list[Path]]) -> None:
        self._origin = origin
        self._scratch = scratch
        self._files = files

    def urls(self, workload: Workload) -> Path:
        """A file of the workload's URLs."""
        path = self._scratch / f"{workload.name}.txt"
        names = [f"{self._origin.address}/{workload.prefix}/{file.name}" for file in self._files[workload.kind]]
        path.write_text("\n".join(names), encoding="utf-8")
        return path

    def sample(self, candidate: str, workload: Workload) -> Figures:
        """One candidate's turn."""
        folder = self._scratch / f"{workload.name}-{candidate}"
        if workload.job is Job.DISK:
            # Filled once by an earlier process, read by one of each round.
            if not folder.exists():
                folder.mkdir()
                self._process(candidate, workload, folder, "--setup")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self._origin.count()
        figures = self._process(candidate, workload, folder)
        requests = float(self._origin.count())
        if workload.job is Job.COALESCED:
            # Of one crowd of callers: without the first request of all, and those of the single callers.
            requests = (requests - 1 - PAIRS) / PAIRS
        elif workload.job is Job.REFRESH:
            requests -= len(self._files[workload.kind])
        figures["requests"] = requests
        expected = 0 if workload.job is Job.DISK else len(self._files[workload.kind])
        if candidate == FLOOR and workload.job is not Job.COALESCED and requests != expected:
            raise SystemExit(f"the floor made {requests:g} requests of {expected}: nothing can be measured by it")
        if workload.job is not Job.DISK:
            shutil.rmtree(folder, ignore_errors=True)
        return figures

    def _process(self, candidate: str, workload: Workload, folder: Path, *more: str) -> Figures:
        line = [sys.executable, "-m", "benchmarks.sample", candidate, workload.name]
        line += ["--urls", str(self.urls(workload)), "--folder", str(folder), *more]
        root = Path(__file__).parents[1]
        try:
            done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=SLOWEST, check=False)
        except subprocess.TimeoutExpired as error:
            raise SampleFailedError(f"not done after {SLOWEST} s") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise SampleFailedError(last[:200])
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    def workload(
        self, workload: Workload, candidates: Sequence[str], rounds: int, left_out: dict[str, str]
    ) -> dict[str, list[Figures]]:
        """All rounds of one workload; who fails once is out of it."""
        taken: dict[str, list[Figures]] = {name: [] for name in candidates}
        for number in range(rounds + 1):
            for name in list(taken):
                # The round before the first fills the caches of the system, for which the floor is enough.
                if number == 0 and (name != FLOOR or workload.job is Job.COALESCED):
                    continue
                try:
                    figures = self.sample(name, workload)
                except SampleFailedError as error:
                    left_out[f"{name} in {workload.name}"] = str(error)
                    del taken[name]
                    continue
                if number > 0:
                    taken[name].append(figures)
            told = f"{workload.name}: round {number} of {rounds}"
            print(told, flush=True)
        return taken


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer pictures, rounds and candidates")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by itself")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="cut the corpus from these, not from made-up ones")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, metavar="NAME", help=", ".join(CANDIDATES))
    parser.add_argument("--own-server", action="store_true", help="not nginx, though it is there")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="where to write")
    parser.add_argument("--corpus", type=Path, help="where the pictures are kept")
    # For the tests: even fewer.
    parser.add_argument("--thumbnails", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write JSON and chart."""
    options = parse(arguments)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    counts = QUICK_COUNTS if options.quick else COUNTS
    wanted = options.candidates or (QUICK if options.quick else tuple(CANDIDATES))
    left_out = {name: why for name in wanted if (why := CANDIDATES[name].lacks())}
    # Everything is measured by the floor.
    able = [FLOOR, *(name for name in wanted if name not in left_out and name != FLOOR)]
    folder = options.corpus or corpus.default_folder(options.pictures)
    print("making the pictures that are not there yet", flush=True)
    files: dict[Kind, list[Path]] = {
        "thumbnails": corpus.make(folder, "thumbnails", options.thumbnails or counts["thumbnails"], options.pictures),
        "photos": corpus.make(folder, "photos", options.photos or counts["photos"], options.pictures),
    }
    samples: dict[str, report.Samples] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        (scratch / "server").mkdir()
        with serve(folder, scratch / "server", own=options.own_server) as origin:
            if origin.name != "nginx" and not options.own_server:
                left_out["nginx"] = f"not on the PATH; {origin.name} serves"
            run = Run(origin, scratch, files)
            for workload in WORKLOADS.values():
                if options.only is None or workload.name in options.only:
                    taking_part = [candidate for candidate in able if candidate in workload.candidates]
                    samples[workload.name] = run.workload(workload, taking_part, rounds, left_out)
            server = origin.name
    results = {workload: report.rows_of(taken) for workload, taken in samples.items()}
    stem = options.results / ("quick" if options.quick else "compare")
    medians = {kind: statistics.median(file.stat().st_size for file in made) for kind, made in files.items()}
    about = {
        "server": server,
        "rounds": rounds,
        "callers": CALLERS,
        "pictures": "given" if options.pictures else "generated",
        "count": {kind: len(made) for kind, made in files.items()},
        "median_bytes": medians,
    }
    report.write_json(stem.with_suffix(".json"), results, samples, left_out, about)
    note = (
        f"medians of {rounds} rounds; {len(files['thumbnails']):,} thumbnails, {len(files['photos'])} photos; {server}"
    )
    try:
        chart.draw(stem.with_suffix(".png"), results, note)
    except ImportError:
        left_out["the chart"] = "matplotlib not installed"
    print()
    print(report.table(results, left_out))


if __name__ == "__main__":
    main()
