"""Who is measured: each opens what it needs, fetches one URL, closes. Imports what it measures, and nothing before.

The floor is what somebody would write by hand who wants each image stored and decoded, and knows what is fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imagecache.pipeline.machine import usable_cpus

Fetch = Callable[[str], Awaitable[object]]
Opened = contextlib.AbstractAsyncContextManager[Fetch]
Candidate = Callable[[Path], Opened]
"""Opens what works in a folder, and gives what fetches a URL."""


def decoded(body: bytes) -> object:
    """What everybody's thread does with a body in the end."""
    from PIL import Image

    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def _name(folder: Path, url: str) -> str:
    name = hashlib.sha256(url.encode()).hexdigest()
    return os.path.join(folder, name[:2], name)  # noqa: PTH118  # pathlib would be a tenth of the floor


def _store_and_decode(path: str, body: bytes) -> object:
    part = f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, body)
    os.close(descriptor)
    os.rename(part, path)  # noqa: PTH104  # the same
    return decoded(body)


def _read_and_decode(path: str) -> object:
    descriptor = os.open(path, os.O_RDONLY)
    body = os.read(descriptor, os.fstat(descriptor).st_size)
    os.close(descriptor)
    return decoded(body)


def _has_files(folder: Path) -> bool:
    """Whether somebody filled it before; else it is made ready to be filled."""
    if any(folder.iterdir()):
        return True
    for number in range(256):
        (folder / f"{number:02x}").mkdir()
    return False


@contextlib.asynccontextmanager
async def floor(folder: Path) -> AsyncIterator[Fetch]:
    """Bare aiohttp, then one turn of a thread that writes a file and decodes; a file that is there is read."""
    import aiohttp

    loop = asyncio.get_running_loop()
    is_full = _has_files(folder)
    with ThreadPoolExecutor(usable_cpus()) as threads:
        async with aiohttp.ClientSession() as session:

            async def fetch(url: str) -> object:
                if is_full:
                    return await loop.run_in_executor(threads, _read_and_decode, _name(folder, url))
                async with session.get(url) as response:
                    body = await response.read()
                return await loop.run_in_executor(threads, _store_and_decode, _name(folder, url), body)

            yield fetch


@contextlib.asynccontextmanager
async def conditional_floor(_: Path) -> AsyncIterator[Fetch]:
    """The same with the images and their ETags in a dict: what it has, it asks about."""
    import aiohttp

    known: dict[str, tuple[str, object]] = {}
    async with aiohttp.ClientSession() as session:

        async def fetch(url: str) -> object:
            if url not in known:
                async with session.get(url) as response:
                    known[url] = response.headers["ETag"], decoded(await response.read())
                return known[url][1]
            etag, image = known[url]
            async with session.get(url, headers={"If-None-Match": etag}) as response:
                assert response.status == 304
            return image

        yield fetch


@contextlib.asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Fetch]:
    """imagecache as it comes."""
    from imagecache import ImageManager

    async with ImageManager(directory=folder) as images:
        yield images.fetch_image


@contextlib.asynccontextmanager
async def ours_refreshing(folder: Path) -> AsyncIterator[Fetch]:
    """imagecache, asking its server about what it has; with room in memory for all of it, as the floor has."""
    from imagecache import ImageManager

    async with ImageManager(directory=folder, memory_limit="1 GiB") as images:
        yield lambda url: images.fetch_image(url, force_refresh=True)


@contextlib.asynccontextmanager
async def aiohttp_and_diskcache(folder: Path) -> AsyncIterator[Fetch]:
    """diskcache under aiohttp, in the floor's threads."""
    import aiohttp
    import diskcache

    loop = asyncio.get_running_loop()
    cache = diskcache.Cache(str(folder))

    def look(url: str) -> object:
        body = cache.get(url)
        return None if body is None else decoded(body)

    def keep(url: str, body: bytes) -> object:
        cache.set(url, body)
        return decoded(body)

    is_full = len(cache) > 0
    with ThreadPoolExecutor(usable_cpus()) as threads:
        async with aiohttp.ClientSession() as session:

            async def fetch(url: str) -> object:
                if is_full and (image := await loop.run_in_executor(threads, look, url)) is not None:
                    return image
                async with session.get(url) as response:
                    body = await response.read()
                return await loop.run_in_executor(threads, keep, url, body)

            yield fetch
    cache.close()


def _cached_session(backend: str, *, refresh: bool = False) -> Candidate:
    @contextlib.asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Fetch]:
        package: Any = importlib.import_module("aiohttp_client_cache")
        loop = asyncio.get_running_loop()
        cache = getattr(package, backend)(str(folder / "cache"))
        seen: set[str] = set()
        with ThreadPoolExecutor(usable_cpus()) as threads:
            async with package.CachedSession(cache=cache) as session:

                async def fetch(url: str) -> object:
                    options = {"refresh": True} if refresh and url in seen else {}
                    seen.add(url)
                    async with session.get(url, **options) as response:
                        body = await response.read()
                    return await loop.run_in_executor(threads, decoded, body)

                yield fetch

    return opened


@contextlib.asynccontextmanager
async def httpx_and_hishel(folder: Path) -> AsyncIterator[Fetch]:
    """hishel over httpx; by its rules of HTTP, these answers are fresh for a while."""
    import hishel
    from hishel.httpx import AsyncCacheClient

    loop = asyncio.get_running_loop()
    storage = hishel.AsyncSqliteStorage(database_path=folder / "cache.db")
    with ThreadPoolExecutor(usable_cpus()) as threads:
        async with AsyncCacheClient(storage=storage) as client:

            async def fetch(url: str) -> object:
                response = await client.get(url)
                return await loop.run_in_executor(threads, decoded, response.content)

            yield fetch
    await storage.close()


@contextlib.asynccontextmanager
async def requests_and_cache(folder: Path) -> AsyncIterator[Fetch]:
    """requests-cache, which is not for asyncio, in as many threads as there are fetches at one time."""
    import requests_cache

    loop = asyncio.get_running_loop()
    with (
        requests_cache.CachedSession(str(folder / "cache"), backend="sqlite") as session,
        ThreadPoolExecutor(32) as threads,
    ):

        def get(url: str) -> object:
            return decoded(session.get(url).content)

        yield lambda url: loop.run_in_executor(threads, get, url)


CANDIDATES: dict[str, tuple[str, Candidate]] = {
    "floor": ("aiohttp", floor),
    "imagecache": ("imagecache", ours),
    "aiohttp + diskcache": ("diskcache", aiohttp_and_diskcache),
    "aiohttp-client-cache, files": ("aiohttp_client_cache", _cached_session("FileBackend")),
    "aiohttp-client-cache, SQLite": ("aiohttp_client_cache", _cached_session("SQLiteBackend")),
    "hishel + httpx": ("hishel", httpx_and_hishel),
    "requests-cache": ("requests_cache", requests_and_cache),
}
"""By name: the module that it needs, and how it is opened."""

REFRESHING: dict[str, tuple[str, Candidate]] = {
    "floor": ("aiohttp", conditional_floor),
    "imagecache": ("imagecache", ours_refreshing),
    "aiohttp-client-cache, files": ("aiohttp_client_cache", _cached_session("FileBackend", refresh=True)),
    "aiohttp-client-cache, SQLite": ("aiohttp_client_cache", _cached_session("SQLiteBackend", refresh=True)),
}
"""Those that can be told to ask again, and do so with an ETag."""
