"""One awaited memory hit, as a multiple of one awaited look-up in a dict."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import imagecache
from benchmarks.targets import MEMORY_HIT, MEMORY_HIT_WITH_OPTIONS
from imagecache import BlackWhite, Downsample, ImageManager, Priority
from imagecache.protocols import ImageProcessor
from imagecache.testing import ImageServer, picture

ROUNDS, CALLS = 25, 10_000


async def per_call(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds of one awaited call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - began) / CALLS


async def main() -> None:
    """Print a line for each way to hit."""
    async with ImageServer() as server:
        urls = {
            mode: server.add(f"/{mode}.{suffix}", picture(256, 256, mode=mode, format=name))
            for mode, name, suffix in (("RGB", "JPEG", "jpg"), ("RGBA", "PNG", "png"), ("L", "PNG", "png"))
        }
        with tempfile.TemporaryDirectory() as folder:
            async with ImageManager(directory=folder) as images:
                known = {url: await images.fetch_image(url) for url in urls.values()}
                url = urls["RGB"]
                processors = [Downsample(64, 64)]
                both: list[ImageProcessor] = [Downsample(64, 64), BlackWhite()]

                async def floor() -> object:
                    return known.get(url)

                candidates: dict[str, tuple[float | None, Callable[[], Awaitable[object]]]] = {
                    f"fetch_image(url), {mode}": (MEMORY_HIT, partial(images.fetch_image, each))
                    for mode, each in urls.items()
                }
                candidates |= {
                    "imagecache.fetch_image(url)": (MEMORY_HIT, lambda: imagecache.fetch_image(url)),
                    "processors=[one]": (
                        MEMORY_HIT_WITH_OPTIONS,
                        lambda: images.fetch_image(url, processors=processors),
                    ),
                    "processors=[two], mode, timeout, priority": (
                        MEMORY_HIT_WITH_OPTIONS,
                        lambda: images.fetch_image(
                            url, processors=both, mode="RGB", timeout=5.0, priority=Priority.HIGH
                        ),
                    ),
                    "fetch(url)": (None, lambda: images.fetch(url)),
                }
                imagecache.configure("memory-hit", directory=folder)
                for name, (target, call) in candidates.items():
                    await call()
                    floors, ours = [], []
                    for _ in range(ROUNDS):
                        floors.append(await per_call(floor))
                        ours.append(await per_call(call))
                    ratio = statistics.median(our / base for our, base in zip(ours, floors, strict=True))
                    line = f"{name:<42} {ratio:6.1f} of a dict {statistics.median(ours) * 1e6:8.2f} µs"
                    if target is not None:
                        line += f"   {'met' if ratio <= target else 'MISSED'}: {target:.0f}"
                    print(line, flush=True)
                await imagecache.default_manager().aclose()


if __name__ == "__main__":
    asyncio.run(main())
