"""A large JPEG made small while it is decoded, against Pillow; and how decoding and processing grow with threads.

Each sample is a fresh process, as memory is told by a process's peak; the candidates take turns, A B A B.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import corpus
from benchmarks.clients import decode
from benchmarks.sample import peak_memory
from benchmarks.targets import DOWNSAMPLED_MEMORY, DOWNSAMPLED_TIME, TWO_THREADS
from imagecache import Downsample, ImageManager, Resize
from imagecache.imaging.decode import options_for
from imagecache.imaging.header import read_header
from imagecache.imaging.limits import ImageLimits
from imagecache.pipeline.machine import usable_cpus
from imagecache.pipeline.pixels import _apply, _decode
from imagecache.testing import ImageServer, picture

ROUNDS, REPEATS, PHOTOS = 5, 5, 40
QUICK_ROUNDS, QUICK_REPEATS, QUICK_PHOTOS = 1, 1, 6
SIDE = 300
AT_ONCE = 32
PROCESSED = (800, 600)
PARTS = ("downsampling", "threads")
FRESH = {"Cache-Control": "max-age=86400"}
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture to make, as large as cameras make them; ``grain`` is the share of white noise in it."""

    name: str
    title: str
    size: tuple[int, int]
    grain: float
    quality: int
    is_progressive: bool = False

    def encoded(self) -> bytes:
        """The JPEG: a scene of the corpus, enlarged, under the grain of a sensor, which enlarging takes away."""
        scene = corpus._generated(0).resize(self.size, Image.Resampling.BICUBIC)
        width, height = self.size
        noise = Image.frombytes("L", self.size, random.Random(self.name).randbytes(width * height))
        grainy = Image.blend(scene, Image.merge("RGB", (noise, noise, noise)), self.grain)
        file = io.BytesIO()
        grainy.save(file, "JPEG", quality=self.quality, progressive=self.is_progressive)
        return file.getvalue()


PHOTOGRAPHS = {
    photograph.name: photograph
    for photograph in (
        Photograph("clean", "12 MP, smooth", (4000, 3000), 0.0, 92),
        Photograph("grainy", "12 MP, grainy", (4000, 3000), 0.12, 88),
        Photograph("progressive", "12 MP, grainy, progressive", (4000, 3000), 0.12, 88, is_progressive=True),
        Photograph("large", "24 MP, grainy", (6000, 4000), 0.12, 88),
    )
}


def full(body: bytes) -> object:
    """Pillow's full decode: the floor."""
    return decode(body)


def eighth(body: bytes) -> object:
    """Pillow at an eighth, as libjpeg can at the least, and nothing else done: all of it is reading Huffman codes."""
    image = Image.open(io.BytesIO(body))
    image.draft(None, (image.width // 8, image.height // 8))
    image.load()
    return image


def thumbnail(body: bytes) -> object:
    """Pillow's own: a draft at twice the size that is asked for, then the rest."""
    image = Image.open(io.BytesIO(body))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def ours(body: bytes) -> object:
    """What imagecache's workers do for ``Downsample(300, 300)``, one after another."""
    processor, limits = Downsample(SIDE, SIDE), ImageLimits()
    read_header(body, limits=limits)
    return _apply(processor, _decode(body, options_for((processor,), "auto"), limits, ""), "")


FULL, OURS, FROM_DISK = "Pillow, full decode", "imagecache", "imagecache, from disk"
WAYS: dict[str, Callable[[bytes], object]] = {
    FULL: full,
    "Pillow, thumbnail()": thumbnail,
    "Pillow at an eighth, no more": eighth,
    OURS: ours,
}


def forget_peak() -> None:
    """From here on, the peak of memory is counted anew, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


async def measured(job: Callable[[], Awaitable[object]], warm_up: Callable[[], Awaitable[object]], repeats: int) -> str:
    """A line of JSON: the least wall and CPU time of the job, and the memory that doing it first took more."""
    await warm_up()
    forget_peak()
    before = peak_memory() or 0
    walls, cpus, more = [], [], 0
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        await job()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        more = more or (peak_memory() or 0) - before
    return json.dumps({"wall": min(walls), "cpu": min(cpus), "more": more})


async def sample_way(way: str, body: bytes, repeats: int) -> str:
    """One way of making a body small; the body lies in memory before."""
    little = picture(64, 48, format="JPEG")

    async def job() -> None:
        WAYS[way](body)

    async def warm_up() -> None:
        WAYS[way](little)

    return await measured(job, warm_up, repeats)


async def sample_from_disk(folder: Path, urls: Sequence[str], repeats: int) -> str:
    """The first URL from disk through a manager, reading and checking its bytes included; the second warms up."""
    processors = [Downsample(SIDE, SIDE)]
    async with ImageManager(directory=folder) as images:

        async def job() -> None:
            images.clear_memory()
            await images.fetch_image(urls[0], processors=processors)

        async def warm_up() -> None:
            await images.fetch_image(urls[1], processors=processors)

        line = await measured(job, warm_up, repeats)
        assert images.counters.requests == 0
    return line


async def sample_threads(folder: Path, urls: Sequence[str], threads: int) -> str:
    """All URLs but the first, which warms up, from disk through a manager, decoded whole and resized."""
    processors = [Resize(*PROCESSED)]
    left = iter(urls[1:])
    async with ImageManager(directory=folder, decode_threads=threads) as images:

        async def caller() -> None:
            for url in left:
                await images.fetch_image(url, processors=processors)

        async def job() -> None:
            await asyncio.gather(*(caller() for _ in range(AT_ONCE)))

        async def warm_up() -> None:
            await images.fetch_image(urls[0], processors=processors)

        line = await measured(job, warm_up, repeats=1)
        assert images.counters.requests == 0
    return line


async def sample_floor_threads(files: Sequence[Path], threads: int) -> str:
    """The same with nothing but Pillow and a pool."""
    with ThreadPoolExecutor(threads) as pool:

        def one(file: Path) -> None:
            image = Image.open(io.BytesIO(file.read_bytes()))
            image.load()
            image.resize(PROCESSED, Image.Resampling.LANCZOS)

        async def job() -> None:
            for _ in pool.map(one, files[1:]):
                pass

        async def warm_up() -> None:
            one(files[0])

        return await measured(job, warm_up, repeats=1)


def sample(kind: str, arguments: Sequence[str]) -> str:
    """What a fresh process is started for."""
    match kind:
        case "way":
            way, file, repeats = arguments
            return asyncio.run(sample_way(way, Path(file).read_bytes(), int(repeats)))
        case "disk":
            folder, url, little, repeats = arguments
            return asyncio.run(sample_from_disk(Path(folder), [url, little], int(repeats)))
        case "threads":
            folder, file, threads = arguments
            urls = Path(file).read_text().split()
            return asyncio.run(sample_threads(Path(folder), urls, int(threads)))
        case "floor-threads":
            folder, threads = arguments
            return asyncio.run(sample_floor_threads(sorted(Path(folder).iterdir()), int(threads)))
    raise ValueError(kind)


def in_a_process(kind: str, *arguments: object) -> Figures:
    """The figures of one sample."""
    line = [sys.executable, "-m", "benchmarks.downsampling", "--sample", kind, *map(str, arguments)]
    done = subprocess.run(line, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{kind} {arguments[0]}: {done.stderr.strip()}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def verdict(is_met: bool) -> str:
    """In a word."""
    return "met" if is_met else "missed"


def downsampling(files: dict[str, Path], cache: Path, urls: dict[str, str], rounds: int, repeats: int) -> None:
    """Print a block for each photograph."""
    print(f"to {SIDE} pixels, medians of {rounds} rounds; memory is the peak above that just before")
    for name, file in files.items():
        taken: dict[str, list[Figures]] = {way: [] for way in (*WAYS, FROM_DISK)}
        for _ in range(rounds):
            for way in WAYS:
                taken[way].append(in_a_process("way", way, file, repeats))
            taken[FROM_DISK].append(in_a_process("disk", cache, urls[name], urls["little"], repeats))

        title, size = PHOTOGRAPHS[name].title, file.stat().st_size / 1e6
        print(f"\n{f'{title}, {size:.1f} MB':<36}{'CPU ms':>8}{'of full':>9}{'wall':>7}{'MiB':>7}")
        for way, samples in taken.items():
            cpu, wall = ratio(samples, taken[FULL], "cpu"), ratio(samples, taken[FULL], "wall")
            milliseconds, more = median(samples, "cpu") * 1e3, median(samples, "more") / 2**20
            print(f"  {way:<34}{milliseconds:8.1f}{cpu:9.2f}{wall:7.2f}{more:7.1f}")
        if name in ("clean", "grainy"):
            # All of it is one thread's work: on a machine with other work, too, wall time is mostly that of others.
            time_taken, more = round(ratio(taken[OURS], taken[FULL], "cpu"), 2), median(taken[OURS], "more")
            print(f"  target: {DOWNSAMPLED_TIME:.2f} of full {verdict(time_taken <= DOWNSAMPLED_TIME)}, ", end="")
            print(f"{DOWNSAMPLED_MEMORY / 2**20:.0f} MiB {verdict(more <= DOWNSAMPLED_MEMORY)}")


def scaling(photos: Path, cache: Path, urls: Path, rounds: int, count: int) -> None:
    """Print what two threads do more than one."""
    print(f"\n{count} photos from disk, decoded whole and resized{'images a second':>26}{'two threads':>13}")
    rows: dict[str, dict[int, list[Figures]]] = {name: {1: [], 2: []} for name in ("Pillow in a pool", OURS)}
    for _ in range(rounds):
        for threads in (1, 2):
            rows["Pillow in a pool"][threads].append(in_a_process("floor-threads", photos, threads))
            rows[OURS][threads].append(in_a_process("threads", cache, urls, threads))
    for name, taken in rows.items():
        one, two = (count / median(taken[threads], "wall") for threads in (1, 2))
        print(f"  {name:<48}{one:12.1f}, {two:8.1f}{ratio(taken[1], taken[2], 'wall'):11.2f} ×")
    bare, reached = (round(ratio(taken[1], taken[2], "wall"), 2) for taken in rows.values())
    told = f"  target: {TWO_THREADS} × {verdict(reached >= TWO_THREADS)}"
    if bare < TWO_THREADS:
        # Too few processors, or busy ones, which no library makes up for.
        told += f"; bare Pillow's two threads get {bare:.2f} × of {usable_cpus()} processors here"
    print(told)


def ratio(samples: Sequence[Figures], base: Sequence[Figures], figure: str) -> float:
    """The median of each round's ratio."""
    return statistics.median(one[figure] / other[figure] for one, other in zip(samples, base, strict=True))


def median(samples: Sequence[Figures], figure: str) -> float:
    """Of all rounds."""
    return statistics.median(one[figure] for one in samples)


async def fill(cache: Path, urls: Sequence[str]) -> None:
    """Store all, not decoded."""
    async with ImageManager(directory=cache) as images:
        report = await images.prefetch(urls)
        assert all(outcome.status.value == "stored" for outcome in report.outcomes), report


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of everything, to see that it works")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by itself")
    parser.add_argument("--only", choices=PARTS, help="one of the two tables")
    parser.add_argument("--sample", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sample:
        print(sample(options.sample[0], options.sample[1:]))
        return
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    repeats, count = (QUICK_REPEATS, QUICK_PHOTOS) if options.quick else (REPEATS, PHOTOS)
    with tempfile.TemporaryDirectory() as name, ImageServer.in_thread() as server:
        scratch = Path(name)
        large, photos, cache = scratch / "large", scratch / "photos", scratch / "cache"
        for folder in (large, photos):
            folder.mkdir()
        files = {photograph: large / f"{photograph}.jpg" for photograph in PHOTOGRAPHS}
        urls = {"little": server.add("/little.jpg", picture(64, 48, format="JPEG"), headers=FRESH)}
        for photograph in PHOTOGRAPHS.values():
            file = files[photograph.name]
            file.write_bytes(photograph.encoded())
            urls[photograph.name] = server.add(f"/{file.name}", file.read_bytes(), headers=FRESH)
        batch = []
        # One more, to warm up with.
        for number in range(count + 1):
            body = corpus.encoded("photos", number, None)
            (photos / f"{number:04d}").write_bytes(body)
            batch.append(server.add(f"/photos/{number}", body, headers=FRESH))
        asyncio.run(fill(cache, [*urls.values(), *batch]))
        if options.only != "threads":
            downsampling(files, cache, urls, rounds, repeats)
        if options.only != "downsampling":
            listed = scratch / "urls.txt"
            listed.write_text("\n".join(batch))
            scaling(photos, cache, listed, rounds, count)


if __name__ == "__main__":
    main()
