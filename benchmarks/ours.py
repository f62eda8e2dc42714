"""imagecache as a candidate: a manager with its defaults, and nothing that a program would not write itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.workloads import AT_ONCE
from imagecache import ImageManager


class Ours:
    """A manager over the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> Self:
        self._images = await ImageManager(directory=self._folder).__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._images.aclose()

    @property
    def decodes(self) -> int:
        """As its own counters tell."""
        return self._images.counters.decodes

    async def fetch(self, url: str) -> object:
        """The usual call."""
        return await self._images.fetch_image(url)

    async def refresh(self, url: str) -> object:
        """A force refresh."""
        return await self._images.fetch_image(url, force_refresh=True)

    async def prefetch(self, urls: Sequence[str]) -> object:
        """The batch call; every URL has to end stored."""
        report = await self._images.prefetch(urls, concurrency=AT_ONCE)
        assert all(outcome.status.value == "stored" for outcome in report.outcomes), report
        return report

    async def flush(self) -> None:
        """What is written behind."""
        await self._images.cache.flush()
