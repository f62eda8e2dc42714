"""The rounds: every candidate once in each, in turn, each sample a fresh process on a fresh folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .candidates import CANDIDATES, REFRESHING
from .serving import Server
from .tools import TOOLS, missing

ROOT = Path(__file__).parents[2]
SAMPLE_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Workload:
    """``kind`` of pictures, ``how`` they are fetched, and by whom."""

    name: str
    kind: str
    how: str
    candidates: tuple[str, ...]


PEERS = tuple(name for name in CANDIDATES if name not in ("floor", "imagecache"))
_READERS = ("floor", "imagecache", *(name for name in PEERS if name != "requests-cache"))
WORKLOADS = (
    Workload("thumbnails, cold", "thumbnails", "cold", ("floor", "imagecache", *PEERS)),
    Workload("thumbnails, prefetched", "thumbnails", "prefetch", ("floor", "imagecache", *TOOLS)),
    Workload("photos, cold", "photos", "cold", ("floor", "imagecache", *PEERS)),
    Workload("photos, prefetched", "photos", "prefetch", ("floor", "imagecache", *TOOLS)),
    Workload("thumbnails, from disk", "thumbnails", "disk", _READERS),
    Workload("photos, from disk", "photos", "disk", _READERS),
    Workload("thumbnails, 304", "thumbnails", "refresh", tuple(REFRESHING)),
    Workload("one photo, one caller", "photos", "coalesce1", ("imagecache",)),
    Workload("one photo, a hundred callers", "photos", "coalesce100", ("imagecache",)),
)


@dataclass(slots=True)
class Samples:
    """What the samples of one candidate told, round by round."""

    workload: str
    candidate: str
    told: list[dict[str, float]] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        """The median of a figure, None where it was not measured."""
        values = [sample[figure] for sample in self.told if figure in sample]
        return statistics.median(values) if values else None

    def ratio(self, floor: Samples, figure: str) -> float | None:
        """The median of the ratios to the floor of the same round."""
        pairs = [
            our[figure] / base[figure]
            for our, base in zip(self.told, floor.told, strict=True)
            if figure in our and base.get(figure)
        ]
        return statistics.median(pairs) if pairs else None


def why_not(candidate: str) -> str | None:
    """Why a candidate cannot be measured here, None if it can."""
    if candidate in TOOLS:
        return missing(candidate)
    module = CANDIDATES[candidate][0]
    return None if importlib.util.find_spec(module) else f"{module} is not installed"


def measured(
    workload: Workload, candidates: list[str], paths: list[str], server: Server, rounds: int
) -> Iterator[Samples | str]:
    """The samples of each candidate; on the way, a line for each round."""
    urls = [f"{server.base}/{path}" for path in paths]
    samples = {candidate: Samples(workload.name, candidate) for candidate in candidates}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        listed = base / "urls"
        listed.write_text("\n".join(urls))
        full = {}
        if workload.how == "disk":
            # Filled once, by a process of its own, and only read from then on.
            for candidate in candidates:
                full[candidate] = base / f"full-{candidates.index(candidate)}"
                full[candidate].mkdir()
                _sample(candidate, "cold", listed, full[candidate])
        for number in range(rounds):
            for candidate in candidates:
                folder = full.get(candidate, base / f"{number}-{candidates.index(candidate)}")
                folder.mkdir(exist_ok=True)
                server.requests()
                told = _tool(candidate, folder, urls) if candidate in TOOLS else None
                told = told or _sample(candidate, _way(workload.how, candidate), listed, folder)
                samples[candidate].told.append(told | {"requests": server.requests()})
                if candidate not in full:
                    shutil.rmtree(folder)
            yield f"{workload.name}: round {number + 1} of {rounds}"
    yield from samples.values()


def _way(how: str, candidate: str) -> str:
    # A prefetch of ours is held against what everybody else does instead, and that decodes.
    return "cold" if how == "prefetch" and candidate != "imagecache" else how


def _sample(candidate: str, how: str, listed: Path, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", f"{__package__}.sample", candidate, how, str(listed), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SAMPLE_TIMEOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{candidate}, {how}:\n{done.stderr.decode()}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _tool(name: str, folder: Path, urls: list[str]) -> dict[str, float]:
    command = TOOLS[name](folder, urls)
    began = time.perf_counter()
    # Some draw their progress whatever they are told.
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SAMPLE_TIMEOUT, check=True)
    return {"wall": time.perf_counter() - began}
