"""A program of its own that meets the large misbehaviours one after another, and says by how much its memory grew.

Run by test_bounds.py: ``ru_maxrss`` only ever grows, so that it needs a process in which nothing else happened.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import zlib

from imagecache import ImageManager
from imagecache.errors import ImageCacheError
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import Timeouts
from tests.hostile.cases import ENDLESS, HEADERS, Case, bomb, labelled, png, png_chunk
from tests.hostile.wire import CHUNKED, KIB, MIB, chunk, floods, head, says, sized
from tests.network.server import RawServer

ONE_PIXEL = zlib.compress(b"\0\0")


def packed_png(kind: bytes) -> bytes:
    """A small picture with 300 MiB packed in its metadata."""
    text = bomb(300 * MIB, 15)
    prefix = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    return png(1, 1, data=ONE_PIXEL, extra=png_chunk(kind, prefix + text))


def large() -> dict[str, Case]:
    """What would take hundreds of megabytes if it were let."""
    gzip = "Content-Encoding: gzip"
    return {
        **{name: case for name, case in ENDLESS.items() if "tiny" not in name},
        **{name: case for name, case in HEADERS.items() if "10,000" in name or "1 MiB" in name},
        "1 GiB of zeros in gzip": Case(says(sized(bomb(1024 * MIB, 31), gzip))),
        "1 GiB of zeros in deflate": Case(says(sized(bomb(1024 * MIB, 15), "Content-Encoding: deflate"))),
        "a bomb in a bomb": Case(says(sized(zlib.compress(bomb(1024 * MIB, 31), wbits=31), gzip))),
        "a bomb in a picture's text": Case(labelled(packed_png(b"zTXt"))),
        "a bomb in a picture's international text": Case(labelled(packed_png(b"iTXt"))),
        "a bomb in a picture's profile": Case(labelled(packed_png(b"iCCP"))),
        "12 gigapixels": Case(labelled(png(110_000, 110_000, data=bomb(64 * MIB, 15)))),
        "300 MB with a length": Case(floods(head("Content-Length: 300000000"), bytes(64 * KIB))),
        "300 MB in one chunk": Case(floods(head(CHUNKED) + b"11e1a300\r\n", bytes(64 * KIB))),
        "chunks of 16 bytes": Case(floods(head(CHUNKED), chunk(bytes(16)) * 1000)),
    }


def peak() -> int:
    """The most bytes that this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * KIB


async def meet(images: ImageManager, url: str) -> str:
    try:
        await images.fetch_image(url)
    except ImageCacheError as error:
        return type(error).__name__
    return "a picture"


async def main() -> None:
    cases = large()
    server = RawServer()
    await server.start()
    with tempfile.TemporaryDirectory() as folder:
        timeouts, retry = Timeouts(idle=0.7), BackoffRetryStrategy(5)
        async with ImageManager(directory=folder, max_body=8 * MIB, timeouts=timeouts, retry=retry) as images:
            good = server.on("/good", says(sized()))
            await images.fetch_image(good)
            retry.max_tries = 1
            gc.collect()
            before, growth, ends = peak(), {}, {}
            for number, (name, case) in enumerate(cases.items()):
                ends[name] = await meet(images, server.on(f"/{number}", case.handler))
                growth[name] = peak() - before
            # A busy machine may need longer than the small limit, which is meant for the others.
            retry.max_tries = 5
            await images.fetch_image(good, force_refresh=True)
    await server.stop()
    json.dump({"growth": growth, "ends": ends}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
