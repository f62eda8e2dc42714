"""The recipe of 2015: an app that looks after ETags itself.

A delegate keeps the ETag of every image that was downloaded, a request modifier sends it along, and
``force_refresh`` asks the server, which answers 304: the image is the cached one, and no byte of it crossed the
wire. imagecache does all this by itself; here it is told not to (``etags=False``), so that the 304 is this
app's own doing.

Usage: python -m examples.etag_by_hand https://example.com/photo.jpg
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from imagecache import (
    DownloadRequest,
    ImageCacheDelegate,
    ImageDownloaderDelegate,
    ImageManager,
    ImageResult,
    ResponseInfo,
    hash_for_key,
    key_for_url,
)


class ETagKeeper(ImageDownloaderDelegate, ImageCacheDelegate):
    """ETags by the hash of the image's key: the name that the cache itself uses on disk and in its news."""

    def __init__(self) -> None:
        self.etags: dict[str, str] = {}

    def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> None:
        """Keep what the server called this version."""
        if "ETag" in response.headers:
            self.etags[hash_for_key(key_for_url(url))] = response.headers["ETag"]

    def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
        """These images are gone from the disk: to ask for "changed since" would end in an empty 304."""
        for image_hash in hashes:
            self.etags.pop(image_hash, None)

    def add_condition(self, request: DownloadRequest) -> DownloadRequest:
        """The request modifier: send the image only if it is another one than this."""
        etag = self.etags.get(hash_for_key(key_for_url(request.url)))
        return request if etag is None else request.with_headers({"If-None-Match": etag})


async def main(url: str, directory: Path | None = None) -> tuple[ImageResult, ImageResult]:
    """Fetch an image, and fetch it again from a server that has no other; returns both results."""
    keeper = ETagKeeper()
    async with ImageManager("etag-by-hand", directory=directory, etags=False) as images:
        images.add_delegate(keeper)
        modifier = images.add_request_modifier(keeper.add_condition)

        first = await images.fetch(url)
        print(f"from the {first.served_from.value}, {first.byte_count:,} bytes; its ETag is {first.etag}")

        second = await images.fetch(url, force_refresh=True)
        print(f"from the {second.served_from.value}; {'the server said 304' if second.revalidated else 'loaded again'}")

        # Clearing by hand is no cleaning, and brings no notification: whoever clears drops the ETags, too.
        await images.cache.clear()
        keeper.etags.clear()

        modifier.remove()
    return first, second


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
