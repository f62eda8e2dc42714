"""What a 304 saves: a force refresh of images in memory, and on disk only, against loading them anew."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from imagecache import CachePolicy, ImageManager
from imagecache.testing import ImageServer, picture

IMAGES, AT_ONCE, ROUNDS = 200, 16, 5
SIZE = (640, 480)


async def fetch_all(images: ImageManager, urls: list[str], **options: Any) -> float:
    """Seconds to fetch all, decoded."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        async with turns:
            await images.fetch_image(url, **options)

    began = time.perf_counter()
    await asyncio.gather(*(one(url) for url in urls))
    return time.perf_counter() - began


async def main() -> None:
    """Print a table of times and bytes."""
    with ImageServer.in_thread() as server, tempfile.TemporaryDirectory() as folder:
        urls = [server.add(f"/{n}.jpg", picture(*SIZE, seed=n, format="JPEG")) for n in range(IMAGES)]
        async with ImageManager(directory=Path(folder) / "cache", memory_limit="512 MiB") as images:
            await fetch_all(images, urls)
            rows: dict[str, list[float]] = {"loaded anew": [], "304, image in memory": [], "304, bytes on disk": []}
            sent: dict[str, int] = {}
            for _ in range(ROUNDS):
                for name, times in rows.items():
                    if name != "304, image in memory":
                        # With the decoded image at hand, the same bytes loaded anew would not be decoded again.
                        images.clear_memory()
                    policy = CachePolicy.RELOAD if name == "loaded anew" else CachePolicy.REVALIDATE
                    server.reset()
                    times.append(await fetch_all(images, urls, policy=policy))
                    sent[name] = server.bytes_sent
            whole = statistics.median(rows["loaded anew"])
            print(f"{IMAGES} JPEGs of {SIZE[0]}×{SIZE[1]}, {AT_ONCE} at a time, medians of {ROUNDS} rounds")
            for name, times in rows.items():
                median = statistics.median(times)
                print(
                    f"{name:<22}{median / IMAGES * 1e3:8.2f} ms an image {median / whole:6.2f} of loading"
                    f"{sent[name] / 2**20:9.2f} MiB of bodies"
                )


if __name__ == "__main__":
    asyncio.run(main())
