"""Many URLs into the cache, a bounded number at a time: outcomes as they come, or a report at the end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from ..entry import Protection
from ..errors import ImageCacheError, ManagerClosedError, StorageError
from ..keys import display_url
from ..request import FetchOptions, ImageRequest, Priority
from ..result import PrefetchOutcome, PrefetchReport, PrefetchStatus, ServedFrom
from ..storage.stored import StoreStatus
from .flight import Caller
from .load import NO_BODY, Loader
from .loaded import Loaded, UnusableError
from .options import check_headers, check_partition, check_timeout
from .parts import Parts

Urls = Iterable[str] | AsyncIterable[str]

_END = object()
"""What stands for the end of the list: anything a caller may give, None included, is a URL or an outcome."""

DEFAULT_CONCURRENCY = 16
MOST_CONCURRENCY = 10_000
"""Each is a task of its own; connections are bounded by the manager all the same."""
DEFAULT_TIMEOUT = 600.0
"""A prefetch has time: seconds in all for one URL."""


class PrefetchOptions(TypedDict, total=False):
    """The keyword options of ``prefetch``.

    ================= ==========================================================================
    ``concurrency``   how many URLs are under way at one time, 16 where absent
    ``force_refresh`` True: ask the server about what is stored, too
    ``headers``       request header fields of every URL
    ``partition``     whose copies these are: a text, or a callable evaluated at each URL's turn
    ``timeout``       seconds in all for each URL, 600 where absent; None: no limit
    ================= ==========================================================================
    """

    concurrency: int
    force_refresh: bool
    headers: Mapping[str, str]
    partition: str | Callable[[], str]
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Crew:
    """What a prefetch works with: a manager's parts, and its ways to make a request and its caller of options."""

    parts: Parts
    loader: Loader
    request: Callable[[object, FetchOptions], ImageRequest]
    caller: Callable[[ImageRequest], Caller]


class ImagePrefetcher:
    """A prefetch under way (Kingfisher's ``ImagePrefetcher``): ``await`` it, or iterate over it.

    URLs are taken from their iterable as there is room, never all at once. Cancelling the awaiting task,
    or leaving the loop, stops everything; ``report`` then holds what was done. It runs once.
    """

    def __init__(self, urls: Urls, crew: Callable[[], Awaitable[Crew]], options: PrefetchOptions) -> None:
        if isinstance(urls, str | bytes) or not isinstance(urls, Iterable | AsyncIterable):
            raise TypeError(f"prefetch takes URLs, an iterable or async iterable of them, not {urls!r}")
        self._concurrency, self._options = _checked(options)
        self.report = PrefetchReport()
        self._urls = urls
        self._find_crew = crew
        self._protection = Protection()
        self._has_started = False
        self._is_stopping = False
        self._idle: set[asyncio.Task[None]] = set()

    def __await__(self) -> Generator[object, None, PrefetchReport]:
        return self._run().__await__()

    def __aiter__(self) -> AsyncIterator[PrefetchOutcome]:
        return self._outcomes()

    async def _run(self) -> PrefetchReport:
        async for _ in self._outcomes():
            pass
        return self.report

    async def _outcomes(self) -> AsyncIterator[PrefetchOutcome]:
        if self._has_started:
            raise RuntimeError("a prefetch runs once; call prefetch() again")
        self._has_started = True
        crew = await self._find_crew()
        monotonic = crew.parts.clock.monotonic
        started = monotonic()
        source = _each(self._urls)
        turn = asyncio.Lock()
        done: asyncio.Queue[PrefetchOutcome | None] = asyncio.Queue()

        async def work() -> None:
            try:
                while not self._is_stopping and (url := await self._next(source, turn)) is not _END:
                    outcome = await self._fetch_one(crew, url)
                    # Into the report at once: whoever is stopped here must still be told what was done.
                    self.report.outcomes.append(outcome)
                    done.put_nowait(outcome)
            finally:
                done.put_nowait(None)

        workers = [asyncio.create_task(work()) for _ in range(self._concurrency)]
        try:
            remaining = len(workers)
            while remaining:
                outcome = await done.get()
                if outcome is None:
                    remaining -= 1
                    continue
                self.report.elapsed = monotonic() - started
                yield outcome
            for worker in workers:
                if not worker.cancelled():
                    worker.result()  # What the iterable itself raised is the caller's to see.
        finally:
            self.report.elapsed = monotonic() - started
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _stop_at_limit(self) -> None:
        """Take no more URLs: the disk has no room but for what this very job stored."""
        self.report.limit_reached = True
        self._is_stopping = True
        # Those who wait for the next URL might wait for ever: a pipe can be silent.
        for worker in self._idle:
            worker.cancel()

    async def _fetch_one(self, crew: Crew, url: object) -> PrefetchOutcome:
        shown = display_url(url) if isinstance(url, str) else repr(url)
        try:
            request = crew.request(url, self._options)
            caller = crew.caller(request)
            # A prefetch has time: whatever the server asks to wait fits, if it fits the timeout.
            patience = math.inf if request.timeout is None else request.timeout
            request = replace(request, protection=self._protection, max_retry_after=patience)
            loaded = await crew.loader.load(request, caller, up_to=NO_BODY)
            if loaded.revalidated and await self._has_gone(loaded):
                loaded = await crew.loader.replace_unusable(
                    UnusableError("the stored bytes have gone"), request, caller
                )
            outcome = await self._outcome(shown, loaded, has_joined=caller.has_joined_others)
        except ManagerClosedError:
            raise
        except ImageCacheError as error:
            crew.parts.counters.failures += 1
            return PrefetchOutcome(shown, PrefetchStatus.FAILED, error=error)
        if outcome.reason == StoreStatus.NO_ROOM.value:
            self._stop_at_limit()
        return outcome

    async def _has_gone(self, loaded: Loaded) -> bool:
        """Whether what a 304 spoke of was removed before that came: there is nothing then that it could renew."""
        return loaded.stored is not None and (await asyncio.shield(loaded.stored)).status is StoreStatus.SUPERSEDED

    async def _outcome(self, url: str, loaded: Loaded, *, has_joined: bool) -> PrefetchOutcome:
        # Bytes that crossed the wire once are counted once, for whoever asked for them.
        size, received = loaded.entry.byte_count, 0 if has_joined else loaded.metrics.bytes_received
        if loaded.served_from is not ServedFrom.NETWORK:
            # It belongs to the job as much as what the job stored: it is not evicted for the rest of the list.
            self._protection.add(loaded.entry.row)
            status = PrefetchStatus.UNCHANGED if loaded.revalidated else PrefetchStatus.ALREADY_THERE
            return PrefetchOutcome(url, status, size, received)
        if loaded.stored is None:
            return PrefetchOutcome(url, PrefetchStatus.NOT_STORED, size, received, reason="the server forbids storing")
        # Shielded: the future is everybody's who wants to know.
        stored = await asyncio.shield(loaded.stored)
        if stored.status is not StoreStatus.STORED:
            error = StorageError(str(stored.error), url=url) if stored.error is not None else None
            reason = stored.status.value
            return PrefetchOutcome(url, PrefetchStatus.NOT_STORED, size, received, reason=reason, error=error)
        self._protection.add(loaded.entry.row)
        status = PrefetchStatus.STORED if loaded.changed else PrefetchStatus.UNCHANGED
        return PrefetchOutcome(url, PrefetchStatus.ALREADY_THERE if has_joined else status, size, received)

    async def _next(self, source: AsyncIterator[object], turn: asyncio.Lock) -> object:
        worker = asyncio.current_task()
        assert worker is not None
        self._idle.add(worker)
        try:
            async with turn:
                return await anext(source, _END)
        finally:
            self._idle.discard(worker)


async def _each(urls: Urls) -> AsyncIterator[object]:
    if isinstance(urls, AsyncIterable):
        async for url in urls:
            yield url
    else:
        for url in urls:
            yield url


def _checked(options: PrefetchOptions) -> tuple[int, FetchOptions]:
    """The concurrency, and the options of each fetch. Raises ValueError or TypeError for what makes no sense."""
    if unknown := options.keys() - PrefetchOptions.__annotations__.keys():
        known = ", ".join(sorted(PrefetchOptions.__annotations__))
        raise TypeError(f"prefetch has no option {', '.join(sorted(unknown))}; there are {known}")
    concurrency = options.get("concurrency", DEFAULT_CONCURRENCY)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency is a whole number, not {concurrency!r}")
    if not 1 <= concurrency <= MOST_CONCURRENCY:
        raise ValueError(f"concurrency is 1 to {MOST_CONCURRENCY}, not {concurrency}")
    each = FetchOptions(
        force_refresh=options.get("force_refresh", False),
        headers=check_headers(options.get("headers")),
        partition=check_partition(options.get("partition", "")),
        timeout=check_timeout(options.get("timeout", DEFAULT_TIMEOUT)),
        priority=Priority.LOW,
    )
    return concurrency, each
