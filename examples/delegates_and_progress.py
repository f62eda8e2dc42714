"""An app that watches its downloads: a delegate follows every network task, a callback the bytes of each image.

Usage: python -m examples.delegates_and_progress https://example.com/1.jpg https://example.com/2.jpg …
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from imagecache import DownloadRequest, ImageCacheError, ImageDownloaderDelegate, ImageManager, ResponseInfo

LARGEST = 20_000_000


class DownloadLog(ImageDownloaderDelegate):
    """Counts network tasks and what they end with; refuses what announces to be too large for this app."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def will_download_image(self, url: str, request: DownloadRequest) -> None:
        """Once a network task: callers who join one do not count."""
        self.counts["started"] += 1

    def did_receive_response(self, response: ResponseInfo) -> bool:
        """The head is there; the body is not read unless this says so."""
        return int(response.headers.get("Content-Length", 0)) <= LARGEST

    async def did_finish_downloading_image(
        self, url: str, response: ResponseInfo | None, error: ImageCacheError | None
    ) -> None:
        """Exactly once a network task. Delegates may be coroutines."""
        self.counts["failed" if error else "finished"] += 1


class ProgressBoard:
    """How far every image is; ``show`` could as well move a bar of a user interface."""

    def __init__(self) -> None:
        self.received: dict[str, int] = {}

    def show(self, url: str, received: int, total: int | None) -> None:
        """Called on the event loop while the body comes; ``total`` is None where the server does not tell."""
        self.received[url] = received
        print(f"{url}: {received:,} of {'?' if total is None else f'{total:,}'} bytes")


async def main(urls: Sequence[str], directory: Path | None = None) -> tuple[DownloadLog, ProgressBoard]:
    """Fetch all ``urls`` at the same time; one that fails leaves the others alone."""
    log, board = DownloadLog(), ProgressBoard()

    async def fetch(images: ImageManager, url: str) -> None:
        try:
            await images.fetch_image(url, progress=partial(board.show, url))
        except ImageCacheError as error:
            print(f"no image: {error}")

    async with ImageManager("delegates-and-progress", directory=directory) as images:
        with images.add_delegate(log):
            await asyncio.gather(*(fetch(images, url) for url in urls))
    print(", ".join(f"{count} {what}" for what, count in log.counts.items()))
    return log, board


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1:]))
