"""Bringing many images into the cache before they are wanted.

Usage: python -m examples.batch_prefetch https://example.com/1.jpg https://example.com/2.jpg …
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from imagecache import ImageManager, PrefetchReport, PrefetchStatus


async def main(urls: Iterable[str], directory: Path | None = None) -> PrefetchReport:
    """Prefetch ``urls`` and say what became of each."""
    async with ImageManager("batch-prefetch", directory=directory, disk_limit="2 GiB") as images:
        job = images.prefetch(urls, concurrency=32)
        async for outcome in job:
            if outcome.status is PrefetchStatus.FAILED:
                print(f"failed: {outcome.error}")
            elif outcome.status is PrefetchStatus.NOT_STORED:
                print(f"not stored: {outcome.url}: {outcome.reason}")
        print(job.report)
        return job.report


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1:]))
