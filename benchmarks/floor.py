"""The floor: the least a program has to do in each workload, written by hand, without any cache's care."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import aiohttp
from PIL import Image

from benchmarks.clients import all_of, decode
from imagecache.pipeline.machine import usable_cpus


def name_for(url: str) -> str:
    """A file's name below the folder: one of 256 sub-folders, and the URL's hash."""
    digest = hashlib.sha256(url.encode()).hexdigest()
    return f"{digest[:2]}/{digest}"


class Floor:
    """Bare aiohttp, and one thread hop that writes a file and decodes, or reads one and decodes."""

    def __init__(self, folder: Path, *, from_disk: bool) -> None:
        self._folder = str(folder)
        self._from_disk = from_disk
        self._numbers = itertools.count()
        for number in range(256):
            (folder / f"{number:02x}").mkdir(exist_ok=True)
        self._etags: dict[str, str] = {}
        self._images: dict[str, Image.Image] = {}
        self.keeps_images = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(usable_cpus())
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._session.close()
        self._threads.shutdown()

    async def fetch(self, url: str) -> object:
        """One hop, with a GET before it unless all is on disk."""
        if self._from_disk:
            return await self._loop.run_in_executor(self._threads, self._read_and_decode, name_for(url))
        async with self._session.get(url) as response:
            response.raise_for_status()
            body = await response.read()
        image = await self._loop.run_in_executor(self._threads, self._write_and_decode, name_for(url), body)
        if self.keeps_images:
            self._etags[url], self._images[url] = response.headers["ETag"], image
        return image

    async def refresh(self, url: str) -> object:
        """A conditional GET, and a dict."""
        async with self._session.get(url, headers={"If-None-Match": self._etags[url]}) as response:
            assert response.status == 304
        return self._images[url]

    async def prefetch(self, urls: Sequence[str]) -> object:
        """The floor knows no other way than to fetch: its cold time is what prefetching is compared with."""
        await all_of(urls, self.fetch)
        return None

    async def flush(self) -> None:
        """Nothing is written behind."""

    def _write_and_decode(self, name: str, body: bytes) -> Image.Image:
        part = f"{self._folder}/{name}.{next(self._numbers)}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, body)
        finally:
            os.close(descriptor)
        # On Windows, a rename onto a file of another caller's fails; on POSIX the two are the same.
        os.replace(part, f"{self._folder}/{name}")  # noqa: PTH105 - whatever pathlib adds would not be the floor
        return decode(body)

    def _read_and_decode(self, name: str) -> Image.Image:
        with open(f"{self._folder}/{name}", "rb") as file:  # noqa: PTH123 - as above
            body = file.read()
        return decode(body)
