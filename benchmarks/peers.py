"""The caches that a program would use instead, each set up as its documentation does, images decoded in two threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import aiohttp
from PIL import Image

from benchmarks.clients import Client, all_of, decode
from benchmarks.workloads import AT_ONCE

DECODERS = 2
Get = Callable[[str, bool], Awaitable[bytes]]
"""The body of a URL; True: after asking the server."""


class Peer:
    """A cache of bodies, and the decoding that its user has to add. ``start`` gives its get and its close."""

    def __init__(self, start: Callable[[], tuple[Get, Callable[[], Awaitable[object]]]]) -> None:
        self._start = start

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(DECODERS)
        self._get, self._close = self._start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._close()
        self._threads.shutdown()

    async def fetch(self, url: str) -> object:
        """Get, then decode."""
        return await self._loop.run_in_executor(self._threads, decode, await self._get(url, False))

    async def refresh(self, url: str) -> object:
        """Ask, then decode: none of them keeps what was decoded."""
        return await self._loop.run_in_executor(self._threads, decode, await self._get(url, True))

    async def prefetch(self, urls: Sequence[str]) -> object:
        """As cold."""
        await all_of(urls, self.fetch)
        return None

    async def flush(self) -> None:
        """What a call has returned is stored."""


def acc(folder: Path, backend: str) -> Client:
    """aiohttp-client-cache over files or SQLite."""
    from aiohttp_client_cache.session import CachedSession

    if backend == "file":
        from aiohttp_client_cache.backends.filesystem import FileBackend as Backend
    else:
        from aiohttp_client_cache.backends.sqlite import SQLiteBackend as Backend

    def start() -> tuple[Get, Callable[[], Awaitable[object]]]:
        session = CachedSession(cache=Backend(cache_name=str(folder / "cache")))

        async def get(url: str, ask: bool) -> bytes:
            async with session.get(url, refresh=ask) as response:
                response.raise_for_status()
                body: bytes = await response.read()
            return body

        return get, session.close

    return Peer(start)


def hishel(folder: Path) -> Client:
    """hishel under httpx, in SQLite, by the rules of HTTP: it asks where the server's answer says so."""
    import httpx
    from hishel import AsyncSqliteStorage
    from hishel.httpx import AsyncCacheClient

    def start() -> tuple[Get, Callable[[], Awaitable[object]]]:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=AT_ONCE)
        client = AsyncCacheClient(
            storage=AsyncSqliteStorage(database_path=folder / "cache.db"), rfc=True, limits=limits
        )

        async def get(url: str, _ask: bool) -> bytes:
            body: bytes = (await client.get(url)).raise_for_status().content
            return body

        return get, client.aclose

    return Peer(start)


def requests_cache(folder: Path) -> Client:
    """requests-cache in SQLite, its blocking calls in as many threads as there are fetches under way."""
    from requests.adapters import HTTPAdapter
    from requests_cache import CachedSession

    def start() -> tuple[Get, Callable[[], Awaitable[object]]]:
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(AT_ONCE)
        session = CachedSession(str(folder / "cache"), backend="sqlite")
        session.mount("http://", HTTPAdapter(pool_connections=AT_ONCE, pool_maxsize=AT_ONCE))

        def blocking(url: str, ask: bool) -> bytes:
            response = session.get(url, refresh=ask)
            response.raise_for_status()
            body: bytes = response.content
            return body

        async def get(url: str, ask: bool) -> bytes:
            return await loop.run_in_executor(threads, blocking, url, ask)

        async def close() -> None:
            threads.shutdown()
            session.close()

        return get, close

    return Peer(start)


class DiskCache:
    """diskcache under bare aiohttp: looked up and decoded in one hop, stored and decoded in another."""

    def __init__(self, folder: Path) -> None:
        import diskcache

        self._make = diskcache.Cache
        self._folder = folder / "cache"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(DECODERS)
        self._cache = self._make(str(self._folder))
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._session.close()
        self._threads.shutdown()
        self._cache.close()

    async def fetch(self, url: str) -> object:
        """Look, and load where there is nothing."""
        found = await self._loop.run_in_executor(self._threads, self._look_up, url)
        if found is not None:
            return found
        async with self._session.get(url) as response:
            response.raise_for_status()
            body = await response.read()
        return await self._loop.run_in_executor(self._threads, self._store, url, body)

    async def refresh(self, url: str) -> object:
        """It knows no server."""
        raise NotImplementedError

    async def prefetch(self, urls: Sequence[str]) -> object:
        """As cold."""
        await all_of(urls, self.fetch)
        return None

    async def flush(self) -> None:
        """What a call has returned is stored."""

    def _look_up(self, url: str) -> Image.Image | None:
        body = self._cache.get(url)
        return None if body is None else decode(body)

    def _store(self, url: str, body: bytes) -> Image.Image:
        self._cache.set(url, body)
        return decode(body)
