"""A batch of thumbnails from a server on loopback, as a multiple of bare aiohttp with one thread hop that writes a
file and decodes. The server runs in this process, so that what is ours alone differs by more than the ratio shows.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
from PIL import Image

from imagecache import ImageManager
from imagecache.pipeline.machine import usable_cpus
from imagecache.testing import ImageServer, picture

IMAGES, AT_ONCE, ROUNDS = 300, 32, 7


def store_and_decode(folder: Path, name: str, body: bytes) -> Image.Image:
    """The floor's one thread hop."""
    part = folder / f"{name}.part"
    part.write_bytes(body)
    part.rename(folder / name)
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


async def all_of(urls: list[str], fetch: Callable[[str], Awaitable[object]]) -> float:
    """Seconds to fetch all, a bounded number at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        async with turns:
            await fetch(url)

    began = time.perf_counter()
    await asyncio.gather(*(one(url) for url in urls))
    return time.perf_counter() - began


async def floor(urls: list[str]) -> float:
    """Bare aiohttp."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(usable_cpus()) as threads:
        async with aiohttp.ClientSession() as session:

            async def fetch(url: str) -> object:
                async with session.get(url) as response:
                    body = await response.read()
                name = url.rpartition("/")[2]
                return await loop.run_in_executor(threads, store_and_decode, Path(folder), name, body)

            return await all_of(urls, fetch)


async def ours(urls: list[str]) -> dict[str, float]:
    """The same with a manager; then from disk in a new one; then asked about."""
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        async with ImageManager(directory=folder) as images:
            times["prefetched"] = await all_of(urls, images.fetch_data)
            await images.clear()
            times["cold"] = await all_of(urls, images.fetch_image)
        async with ImageManager(directory=folder) as images:
            times["from disk"] = await all_of(urls, images.fetch_image)
            times["force-refreshed (304)"] = await all_of(urls, lambda url: images.fetch_image(url, force_refresh=True))
    return times


async def main() -> None:
    """Print a line for each step."""
    async with ImageServer() as server:
        for number in range(IMAGES):
            format = ("JPEG", "JPEG", "JPEG", "WEBP", "PNG")[number % 5]
            server.add(f"/{number}", picture(256, 256, seed=number, format=format))
        urls = [server.url(f"/{number}") for number in range(IMAGES)]
        await floor(urls)
        ratios: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            base = await floor(urls)
            for step, seconds in (await ours(urls)).items():
                ratios.setdefault(step, []).append(seconds / base)
    for step, values in ratios.items():
        print(f"{step:<24} {statistics.median(values):5.2f} of the floor")


if __name__ == "__main__":
    asyncio.run(main())
