"""What a sample asks of every candidate that is a library, and what the harness does for those that do less."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, Self

from PIL import Image

from benchmarks.workloads import AT_ONCE


class Client(Protocol):
    """A cache over an empty or a filled folder; made and entered within the timed part, imported before."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None:
        """Whatever is not stored yet is, then."""

    async def fetch(self, url: str) -> object:
        """The decoded image, from the cache or fetched and stored."""

    async def refresh(self, url: str) -> object:
        """The decoded image, once the server has said that it has not changed."""

    async def prefetch(self, urls: Sequence[str]) -> object:
        """All of them stored, in whatever way the candidate has for it."""

    async def flush(self) -> None:
        """Wait until what was fetched is stored, where that happens behind."""


decodes = [0]
"""How often ``decode`` was called in this process."""


def decode(body: bytes) -> Image.Image:
    """What a program does with the bytes of a cache that knows nothing of images."""
    image = Image.open(io.BytesIO(body))
    image.load()
    decodes[0] += 1
    return image


async def all_of(urls: Sequence[str], fetch: Callable[[str], Awaitable[object]]) -> None:
    """Fetch all, a bounded number at a time; what comes is let go of at once."""
    left = iter(urls)

    async def worker() -> None:
        for url in left:
            await fetch(url)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
