"""The first five minutes: an image, the same one from memory, a thumbnail, a file, and a question to the server.

Usage: python -m examples.quick_start https://example.com/photo.jpg
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from imagecache import Downsample, ImageManager, RoundCorners


async def main(url: str, directory: Path | None = None) -> None:
    """Fetch one image in every way; ``directory`` is where the cache lives (default: the user's cache folder)."""
    async with ImageManager("quick-start", directory=directory) as images:
        image = await images.fetch_image(url)  # a PIL.Image.Image, yours to change
        print(f"{image.format} of {image.width} x {image.height}, mode {image.mode}")

        again = await images.fetch(url)
        print(f"the same again came from {again.served_from.value} in {again.metrics.total * 1e6:.0f} us")

        thumbnail = await images.fetch_image(url, processors=[Downsample(96, 96), RoundCorners(12)])
        print(f"a thumbnail of {thumbnail.width} x {thumbnail.height}, made in a worker thread, cached as well")

        path = await images.fetch_file(url)
        print(f"its bytes lie in {path.name}")

        asked = await images.fetch(url, force_refresh=True)
        print(f"asked the server: {'another one now' if asked.changed else 'unchanged, nothing was sent again'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
