"""What is made of the samples: medians of per-round ratios, the table, the JSON. Nothing is measured here."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.sample import Figures as Sample
from benchmarks.targets import TARGETS, Figures
from benchmarks.workloads import CANDIDATES, FLOOR, OURS, WORKLOADS

PACKAGES = (
    "imagecache", "aiohttp", "Pillow", "aiofiles", "aiohttp-client-cache", "hishel", "httpx", "diskcache",
    "requests-cache", "img2dataset",
)  # fmt: skip
Samples = Mapping[str, Sequence[Sample]]
"""Candidate -> a sample a round."""


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one candidate in one workload; seconds, bytes; None where there is no such figure."""

    candidate: str
    wall: float | None
    ratio: float | None
    peer_ratio: float | None
    cpu_ratio: float | None
    memory: float | None
    lag_p99: float | None
    lag_max: float | None
    requests: float | None
    decodes: float | None
    extra: float | None


def _median(samples: Sequence[Sample], figure: str) -> float | None:
    values = [value for sample in samples if (value := sample.get(figure)) is not None]
    return statistics.median(values) if values else None


def _ratio(samples: Sequence[Sample], bases: Sequence[Sample] | None, figure: str) -> float | None:
    if bases is None:
        return None
    pairs = [(sample.get(figure), base.get(figure)) for sample, base in zip(samples, bases, strict=True)]
    ratios = [value / base for value, base in pairs if value is not None and base]
    return statistics.median(ratios) if ratios else None


def rows_of(samples: Samples) -> list[Row]:
    """A row for each candidate, the quickest first; the best peer is the quickest one that is a library."""
    walls = {name: _median(taken, "wall") or math.inf for name, taken in samples.items()}
    peers = [name for name in samples if name not in {FLOOR, OURS} and CANDIDATES[name].tool is None]
    best = samples[min(peers, key=walls.__getitem__)] if peers else None
    return [
        Row(
            name,
            _median(samples[name], "wall"),
            _ratio(samples[name], samples.get(FLOOR), "wall"),
            _ratio(samples[name], best, "wall"),
            _ratio(samples[name], samples.get(FLOOR), "cpu"),
            _median(samples[name], "memory"),
            _median(samples[name], "lag_p99"),
            _median(samples[name], "lag_max"),
            _median(samples[name], "requests"),
            _median(samples[name], "decodes"),
            _median(samples[name], "extra"),
        )
        for name in sorted(samples, key=walls.__getitem__)
    ]


def missed_by(workload: str, rows: Sequence[Row]) -> list[str] | None:
    """What imagecache misses; None where it, or what it is measured by, did not take part."""
    figures = {
        row.candidate: Figures(math.nan if row.ratio is None else row.ratio, row.requests, row.decodes, row.extra)
        for row in rows
    }
    if OURS not in figures or FLOOR not in figures or workload not in TARGETS:
        return None
    return TARGETS[workload].misses(figures[OURS], figures)


_HEADS = (
    "",
    "wall s",
    "x floor",
    "x peer",
    "cpu x",
    "RSS MiB",
    "lag p99",
    "lag max",
    "requests",
    "decodes",
    "extra ms",
)


def _cells(row: Row) -> tuple[str, ...]:
    def cell(value: float | None, form: str, scale: float = 1.0) -> str:
        return "-" if value is None else format(value * scale, form)

    return (
        row.candidate,
        cell(row.wall, ".3f"),
        cell(row.ratio, ".2f"),
        cell(row.peer_ratio, ".2f"),
        cell(row.cpu_ratio, ".2f"),
        cell(row.memory, ".0f", 2.0**-20),
        cell(row.lag_p99, ".1f", 1e3),
        cell(row.lag_max, ".1f", 1e3),
        cell(row.requests, "g"),
        cell(row.decodes, "g"),
        cell(row.extra, "+.1f", 1e3),
    )


def table(results: Mapping[str, Sequence[Row]], left_out: Mapping[str, str]) -> str:
    """One table: a block for each workload, its target and whether that is met below."""
    body = {workload: [_cells(row) for row in rows] for workload, rows in results.items()}
    every = [_HEADS, *(cells for block in body.values() for cells in block)]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(_HEADS))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        return "  ".join([first.ljust(widths[0]), *padded]).rstrip()

    lines = [line(_HEADS)]
    for workload, block in body.items():
        lines += ["", WORKLOADS[workload].title, *(line(cells) for cells in block)]
        missed = missed_by(workload, results[workload])
        if missed is not None:
            verdict = "met" if not missed else "MISSED: " + "; ".join(missed)
            lines.append(f"target: {TARGETS[workload]} -> {verdict}")
    if left_out:
        lines += ["", *(f"left out: {name}: {why}" for name, why in left_out.items())]
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_json(
    path: Path,
    results: Mapping[str, Sequence[Row]],
    samples: Mapping[str, Samples],
    left_out: Mapping[str, str],
    about: Mapping[str, object],
) -> None:
    """Everything that was measured, and on what; neither names of hosts nor paths."""
    document = {
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **about,
        "left_out": dict(left_out),
        "workloads": {
            workload: {
                "title": WORKLOADS[workload].title,
                "target": str(TARGETS[workload]),
                "missed": missed_by(workload, rows),
                "medians": [asdict(row) for row in rows],
                "samples": {name: list(taken) for name, taken in samples[workload].items()},
            }
            for workload, rows in results.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
