"""One sample of ``benchmarks.far_away``: one client, one job, in this fresh process; one line of JSON tells of it.

The clock starts before the client is made, after all imports. Names take a moment to resolve, and the server's
certificate is trusted by way of the environment's ``SSL_CERT_FILE``, for everybody alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Protocol, Self, TypedDict, get_args

import aiohttp
from aiohttp.abc import ResolveResult

from benchmarks.clients import all_of, decode
from imagecache import ImageManager, Metrics, Priority
from imagecache.pipeline.machine import usable_cpus

Job = Literal["batch", "page", "waterfall"]
"""A bounded number at a time; all at once; the first two one after another, with where their time went."""
CLIENTS: dict[str, int | None] = {"imagecache": 6, "aiohttp-6": 6, "imagecache-32": 32, "aiohttp": None}
"""Connections to a host; the first and the last have their defaults. ``aiohttp`` opens 100 in all, to whomever."""


class Figures(TypedDict):
    """Seconds since the client was about to be made."""

    first: float
    """The first image is there, decoded."""
    last: float
    urgent: float
    """The last of those that are urgent is there, or would be if they were asked for so."""
    wall: float
    """Everything is stored and closed."""
    cpu: float
    images: int


class Waterfall(TypedDict):
    """Where the time of one image went."""

    printed: str
    stages: dict[str, float]


class Client(Protocol):
    """Who fetches."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None: ...

    async def fetch(self, url: str, priority: Priority) -> object:
        """The decoded image."""


class Ours:
    """A manager over an empty folder."""

    def __init__(self, folder: str, per_host: int) -> None:
        self._folder = folder
        self._per_host = per_host

    async def __aenter__(self) -> Self:
        self.images = ImageManager(directory=self._folder, connections_per_host=self._per_host)
        await self.images.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.images.aclose()

    async def fetch(self, url: str, priority: Priority) -> object:
        """See Client."""
        return await self.images.fetch_image(url, priority=priority)


class Bare:
    """Bare aiohttp, and one thread hop that decodes; nothing is stored, and nobody comes first."""

    def __init__(self, per_host: int | None) -> None:
        self._per_host = per_host

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(usable_cpus())
        connector = aiohttp.TCPConnector(resolver=FarResolver(), limit_per_host=self._per_host or 0)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._session.close()
        self._threads.shutdown()

    async def fetch(self, url: str, priority: Priority) -> object:
        """See Client."""
        async with self._session.get(url) as response:
            response.raise_for_status()
            body = await response.read()
        return await self._loop.run_in_executor(self._threads, decode, body)


class FarResolver(aiohttp.ThreadedResolver):
    """Finds every name of ``.example`` on loopback, after as long as a name server would take."""

    seconds = 0.0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not host.endswith(".example"):
            return await super().resolve(host, port, family)
        await asyncio.sleep(self.seconds)
        found = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        return [found]


def client_for(name: str, folder: str) -> Client:
    """One of CLIENTS."""
    per_host = CLIENTS[name]
    if name.startswith("imagecache"):
        assert per_host is not None
        return Ours(folder, per_host)
    return Bare(per_host)


async def measure(client: Client, job: Job, urls: Sequence[str], urgent: int, *, with_priorities: bool) -> Figures:
    """Fetch all; the last so many are urgent."""
    there: dict[str, float] = {}
    are_urgent = set(urls[len(urls) - urgent :])

    async def fetch(url: str) -> None:
        await client.fetch(url, Priority.HIGH if with_priorities and url in are_urgent else Priority.NORMAL)
        there[url] = time.perf_counter() - began

    cpu, began = time.process_time(), time.perf_counter()
    async with client:
        if job == "page":
            await asyncio.gather(*(fetch(url) for url in urls))
        else:
            await all_of(urls, fetch)
    return Figures(
        first=min(there.values()),
        last=max(there.values()),
        urgent=max((there[url] for url in are_urgent), default=0.0),
        wall=time.perf_counter() - began,
        cpu=time.process_time() - cpu,
        images=len(there),
    )


async def waterfalls(client: Ours, urls: Sequence[str]) -> list[Waterfall]:
    """The first image, over a new connection, and the second one, over the same."""
    taken: list[Metrics] = []
    async with client:
        for url in urls[:2]:
            result = await client.images.fetch(url)
            await client.images.cache.flush()
            # What storing took is told in a turn of its own.
            await asyncio.sleep(0)
            taken.append(result.metrics)
    return [
        Waterfall(printed=str(metrics), stages={stage: asdict(metrics)[stage] for stage in Metrics.STAGES})
        for metrics in taken
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("job", choices=get_args(Job))
    parser.add_argument("--urls", type=Path, required=True, help="a file of URLs, one a line")
    parser.add_argument("--urgent", type=int, default=0, metavar="N", help="how many of the last ones are")
    parser.add_argument("--priorities", action="store_true", help="ask for those with a high priority")
    parser.add_argument("--dns", type=float, default=0.0, metavar="SECONDS", help="to resolve a name")
    options = parser.parse_args(arguments)
    FarResolver.seconds = options.dns
    # The library takes no resolver: it uses aiohttp's default one, behind its guard.
    aiohttp.DefaultResolver = FarResolver
    urls = options.urls.read_text("utf-8").split()
    with tempfile.TemporaryDirectory() as folder:
        client = client_for(options.client, os.path.join(folder, "cache"))  # noqa: PTH118 - as a string
        if options.job == "waterfall":
            assert isinstance(client, Ours)
            print(json.dumps(asyncio.run(waterfalls(client, urls))))
        else:
            call = measure(client, options.job, urls, options.urgent, with_priorities=options.priorities)
            print(json.dumps(asyncio.run(call)))


if __name__ == "__main__":
    main()
