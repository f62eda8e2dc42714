"""Everything side by side: ``python -m benchmarks.side_by_side``, or ``make bench`` and ``make bench-quick``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .corpus import corpus
from .report import draw, table, write_json
from .rounds import WORKLOADS, Samples, measured, why_not
from .serving import serving

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
_QUICK = ("floor", "imagecache", "aiohttp-client-cache, SQLite", "curl --parallel")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, write the results."""
    asked = _parser().parse_args(arguments)
    thumbnails, photos, rounds = (150, 24, 2) if asked.quick else (1000, 300, 5)
    if asked.quick and not asked.candidates:
        asked.candidates = _QUICK
    counts = {"thumbnails": asked.thumbnails or thumbnails, "photos": asked.photos or photos}
    rounds = asked.rounds or rounds
    folder = asked.corpus / ("quick" if asked.quick else "full")
    names = corpus(folder, **counts, pictures=asked.pictures)
    candidates = {candidate for workload in WORKLOADS for candidate in workload.candidates}
    left_out = {candidate: reason for candidate in sorted(candidates) if (reason := why_not(candidate))}
    for candidate, reason in left_out.items():
        if asked.candidates and candidate not in asked.candidates:
            continue
        print(f"{candidate} is left out: {reason}")
    chosen = (set(asked.candidates) if asked.candidates else candidates) - left_out.keys()
    samples: list[Samples] = []
    with serving(folder) as server:
        for workload in WORKLOADS:
            taking_part = [candidate for candidate in workload.candidates if candidate in chosen]
            if asked.only and not any(part in workload.name for part in asked.only):
                continue
            for told in measured(workload, taking_part, names[workload.kind], server, rounds):
                if isinstance(told, Samples):
                    samples.append(told)
                else:
                    print(told, file=sys.stderr)
    print(f"\n{counts['thumbnails']} thumbnails, {counts['photos']} photos, {server.name}; medians of {rounds} rounds")
    print(table(samples))
    results = asked.results / ("quick" if asked.quick else "side-by-side")
    write_json(results.with_suffix(".json"), samples, server=server.name, rounds=rounds, counts=counts)
    has_chart = draw(results.with_suffix(".png"), samples)
    print(f"written: {results.name}.json" + (f", {results.name}.png" if has_chart else "; no chart without matplotlib"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pictures and two rounds: whether it works")
    parser.add_argument("--rounds", type=int, help="how often each candidate is measured")
    parser.add_argument("--pictures", type=Path, help="a folder of photographs to cut from, instead of generated ones")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="workloads with this in their name")
    parser.add_argument("--candidates", nargs="+", metavar="NAME", help="these candidates only")
    parser.add_argument("--thumbnails", type=int, help="how many there are")
    parser.add_argument("--photos", type=int, help="how many there are")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".venv" / "benchmark-pictures", help="where pictures are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are written")
    return parser


if __name__ == "__main__":
    main()
