"""The peak of memory of a batch of photos, as a multiple of the floor's: with pixels kept and without, and prefetched.

What a manager keeps decoded is there to be used again, and its limit is a setting; so it is compared with a floor that
keeps as many bytes of pixels, too, and without any. Each sample is a fresh process; the candidates take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import corpus
from benchmarks.clients import all_of
from benchmarks.floor import Floor
from benchmarks.origin import serve
from benchmarks.sample import peak_memory
from benchmarks.targets import PEAK_MEMORY
from benchmarks.workloads import AT_ONCE
from imagecache import ImageManager
from imagecache.pipeline.machine import default_memory_limit

ROUNDS, QUICK_ROUNDS = 5, 1
QUICK_PHOTOS = 20


class KeepingFloor(Floor):
    """The floor, with the images that were used last in a dict, as many as a manager keeps by default."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, from_disk=False)
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()
        self._bytes = 0

    async def fetch(self, url: str) -> object:
        """As the floor does."""
        image = await super().fetch(url)
        assert isinstance(image, Image.Image)
        self._kept[url] = image
        self._bytes += cost(image)
        while self._bytes > default_memory_limit():
            self._bytes -= cost(self._kept.popitem(last=False)[1])
        return image


def cost(image: Image.Image) -> int:
    """Bytes of the pixels: Pillow takes four for one of RGB."""
    return image.width * image.height * 4


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate, and whom it is compared with."""

    name: str
    title: str
    base: str


ROWS = {
    row.name: row
    for row in (
        Row("floor", "the floor", "floor"),
        Row("floor-keeping", "the floor that keeps as many pixels", "floor"),
        Row("none-kept", "imagecache, memory_limit=0", "floor"),
        Row("defaults", "imagecache", "floor-keeping"),
        Row("prefetch", "imagecache, prefetched", "floor"),
    )
}


async def sample(name: str, urls: Sequence[str], folder: Path) -> str:
    """A line of JSON: the peak of this fresh process once all is fetched and stored."""
    if name in ("floor", "floor-keeping"):
        async with Floor(folder, from_disk=False) if name == "floor" else KeepingFloor(folder) as floor:
            await all_of(urls, floor.fetch)
    else:
        # The budget of a decode is the memory limit by itself, which would be one image at a time.
        limit = 0 if name == "none-kept" else None
        budget = default_memory_limit()
        async with ImageManager(directory=folder, memory_limit=limit, decode_budget=budget) as images:
            if name == "prefetch":
                await images.prefetch(urls, concurrency=AT_ONCE)
            else:
                await all_of(urls, images.fetch_image)
    return json.dumps({"peak": peak_memory()})


def in_a_process(name: str, urls: Path, folder: Path) -> float:
    """The bytes of one sample's peak."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    line = [sys.executable, "-m", "benchmarks.peak_memory", "--sample", name, str(urls), str(folder)]
    done = subprocess.run(line, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak"])


def table(taken: dict[str, list[float]]) -> str:
    """A line a candidate."""
    lines = [f"{'':<46}{'MiB':>6}{'of floor':>10}   at most {PEAK_MEMORY}"]
    for name, peaks in taken.items():
        row, bare = ROWS[name], ratio(peaks, taken["floor"])
        told = f"{row.title:<46}{statistics.median(peaks) / 2**20:6.0f}{bare:10.2f}"
        if name.startswith("floor"):
            lines.append(told)
            continue
        told += f"   {verdict(bare)}"
        if row.base != "floor":
            equal = ratio(peaks, taken[row.base])
            told += f"; {equal:.2f} of {ROWS[row.base].title}: {verdict(equal)}"
        lines.append(told)
    return "\n".join(lines)


def verdict(found: float) -> str:
    """In a word; compared as it is printed."""
    return "met" if round(found, 2) <= PEAK_MEMORY else "missed"


def ratio(peaks: Sequence[float], base: Sequence[float]) -> float:
    """The median of each round's ratio."""
    return statistics.median(one / other for one, other in zip(peaks, base, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PHOTOS} photos, one round, to see that it works")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by itself")
    parser.add_argument("--corpus", type=Path, help="where the pictures are kept")
    parser.add_argument("--sample", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sample:
        name, listed, place = options.sample
        print(asyncio.run(sample(name, Path(listed).read_text().split(), Path(place))))
        return
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    count = QUICK_PHOTOS if options.quick else corpus.PHOTOS
    pictures = options.corpus or corpus.default_folder(None)
    files = corpus.make(pictures, "photos", count, None)
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "server"
        base.mkdir()
        with serve(pictures, base, own=False) as origin:
            urls = Path(scratch) / "urls.txt"
            urls.write_text("\n".join(f"{origin.address}/photos/{file.name}" for file in files))
            for _ in range(rounds):
                for name, peaks in taken.items():
                    peaks.append(in_a_process(name, urls, Path(scratch) / "cache"))
    print(f"{count} photos of 1600×1200, {AT_ONCE} at a time, fetched, stored, decoded; medians of {rounds} rounds")
    print(table(taken))


if __name__ == "__main__":
    main()
