"""One awaited memory hit, as a multiple of one awaited look-up in a dict."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable

from imagecache import Downsample, ImageManager
from imagecache.testing import ImageServer, picture

ROUNDS, CALLS = 15, 20_000


async def per_call(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds of one awaited call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - began) / CALLS


async def main() -> None:
    """Print a line for each way to hit."""
    async with ImageServer() as server:
        url = server.add("/a.jpg", picture(256, 256, format="JPEG"))
        with tempfile.TemporaryDirectory() as folder:
            async with ImageManager(directory=folder) as images:
                known = {url: await images.fetch_image(url)}
                processors = [Downsample(64, 64)]

                async def floor() -> object:
                    return known.get(url)

                candidates: dict[str, Callable[[], Awaitable[object]]] = {
                    "fetch_image(url)": lambda: images.fetch_image(url),
                    "fetch_image(url, processors=[…])": lambda: images.fetch_image(url, processors=processors),
                    "fetch(url)": lambda: images.fetch(url),
                }
                for name, call in candidates.items():
                    await call()
                    floors, ours = [], []
                    for _ in range(ROUNDS):
                        floors.append(await per_call(floor))
                        ours.append(await per_call(call))
                    ratio = statistics.median(our / base for our, base in zip(ours, floors, strict=True))
                    print(f"{name:<36} {ratio:6.1f} of a dict   {statistics.median(ours) * 1e6:7.2f} µs")


if __name__ == "__main__":
    asyncio.run(main())
