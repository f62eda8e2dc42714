"""Many URLs into the cache, a bounded number at a time: outcomes as they come, or a report at the end."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from ..entry import Protection, RowKey
from ..errors import ImageCacheError, ManagerClosedError, StorageError
from ..keys import display_url
from ..request import FetchOptions, ImageRequest, Priority
from ..result import PrefetchOutcome, PrefetchReport, PrefetchStatus, ServedFrom
from ..storage.stored import StoreResult, StoreStatus
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
WRITTEN_BEHIND = 4
"""How many of its images each of those that fetch may have waiting to be written before it takes another URL: more than
come in the time of one commit, and few enough that a full disk is noticed soon."""


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
    """What a prefetch works with: a manager's parts, and its ways to make requests of options, and a request's caller.

    ``requests`` takes the options, what protects the job's own images, and the longest Retry-After in seconds.
    """

    parts: Parts
    loader: Loader
    requests: Callable[[FetchOptions, Protection, float], Callable[[object], ImageRequest]]
    caller: Callable[[ImageRequest], Caller]


@dataclass(frozen=True, slots=True)
class _Writing:
    """An image that came and is being written, and what its outcome will be if that works."""

    outcome: PrefetchOutcome
    row: RowKey
    stored: asyncio.Future[StoreResult]


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
        timeout = self._options.get("timeout")
        self._patience = math.inf if timeout is None else timeout
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
        # A prefetch has time: whatever the server asks to wait fits, if it fits the timeout.
        request_for = crew.requests(self._options, self._protection, self._patience)
        monotonic = crew.parts.clock.monotonic
        started = monotonic()
        source = _each_to_come(self._urls) if isinstance(self._urls, AsyncIterable) else _each(self._urls)
        turn = asyncio.Lock()
        done: asyncio.Queue[PrefetchOutcome | None] = asyncio.Queue()

        def tell(behind: deque[PrefetchOutcome | _Writing]) -> None:
            # In the order of their URLs, for each of those who fetch.
            while behind and (outcome := self._ended(behind[0])) is not None:
                behind.popleft()
                # Into the report at once: whoever is stopped here must still be told what was done.
                self.report.outcomes.append(outcome)
                done.put_nowait(outcome)
                if outcome.reason == StoreStatus.NO_ROOM.value:
                    self._stop_at_limit()

        # What is being written while the next ones are fetched: a batch of many is committed at once, and whoever
        # waited for each commit would fetch no faster than the disk is asked to write.
        all_behind: list[deque[PrefetchOutcome | _Writing]] = []

        async def work() -> None:
            behind: deque[PrefetchOutcome | _Writing] = deque()
            all_behind.append(behind)
            while not self._is_stopping:
                url = await self._next(source, turn) if isinstance(source, AsyncIterator) else next(source, _END)
                if url is _END:
                    break
                outcome = await self._fetch_one(crew, url, request_for)
                behind.append(outcome)
                if isinstance(outcome, _Writing):
                    outcome.stored.add_done_callback(lambda _: tell(behind))
                tell(behind)
                if len(behind) > WRITTEN_BEHIND:
                    await _is_written(behind[0])

        async def end() -> None:
            await asyncio.wait(workers)
            try:
                # A commit has nobody's next image to wait for any more.
                await crew.parts.cache.flush()
                for behind in all_behind:
                    while behind:
                        await _is_written(behind[0])
                        tell(behind)
            finally:
                done.put_nowait(None)

        workers = [asyncio.create_task(work()) for _ in range(self._concurrency)]
        ending = asyncio.create_task(end())
        try:
            while (outcome := await done.get()) is not None:
                self.report.elapsed = monotonic() - started
                yield outcome
            for worker in workers:
                if not worker.cancelled():
                    worker.result()  # What the iterable itself raised is the caller's to see.
        finally:
            self.report.elapsed = monotonic() - started
            for task in (*workers, ending):
                task.cancel()
            await asyncio.gather(*workers, ending, return_exceptions=True)
            if any(all_behind):
                # What came before this was stopped is on its way, and to be told.
                await crew.parts.cache.flush()
                for behind in all_behind:
                    tell(behind)

    def _stop_at_limit(self) -> None:
        """Take no more URLs: the disk has no room but for what this very job stored."""
        self.report.limit_reached = True
        self._is_stopping = True
        # Those who wait for the next URL might wait for ever: a pipe can be silent.
        for worker in self._idle:
            worker.cancel()

    async def _fetch_one(
        self, crew: Crew, url: object, request_for: Callable[[object], ImageRequest]
    ) -> PrefetchOutcome | _Writing:
        shown = display_url(url) if isinstance(url, str) else repr(url)
        try:
            request = request_for(url)
            caller = crew.caller(request)
            loaded = await crew.loader.load(request, caller, up_to=NO_BODY)
            if loaded.revalidated and await self._has_gone(loaded):
                loaded = await crew.loader.replace_unusable(
                    UnusableError("the stored bytes have gone"), request, caller
                )
        except ManagerClosedError:
            raise
        except ImageCacheError as error:
            crew.parts.counters.failures += 1
            # What fails at once, thousands in a row, must not keep the loop from everybody else.
            await asyncio.sleep(0)
            return PrefetchOutcome(shown, PrefetchStatus.FAILED, error=error)
        return self._outcome(shown, loaded, has_joined=caller.has_joined_others)

    async def _has_gone(self, loaded: Loaded) -> bool:
        """Whether what a 304 spoke of was removed before that came: there is nothing then that it could renew."""
        return loaded.stored is not None and (await asyncio.shield(loaded.stored)).status is StoreStatus.SUPERSEDED

    def _outcome(self, url: str, loaded: Loaded, *, has_joined: bool) -> PrefetchOutcome | _Writing:
        # Bytes that crossed the wire once are counted once, for whoever asked for them.
        size, received = loaded.entry.byte_count, 0 if has_joined else loaded.metrics.bytes_received
        if loaded.served_from is not ServedFrom.NETWORK:
            # It belongs to the job as much as what the job stored: it is not evicted for the rest of the list.
            self._protection.add(loaded.entry.row)
            status = PrefetchStatus.UNCHANGED if loaded.revalidated else PrefetchStatus.ALREADY_THERE
            return PrefetchOutcome(url, status, size, received)
        if loaded.stored is None:
            return PrefetchOutcome(url, PrefetchStatus.NOT_STORED, size, received, reason="the server forbids storing")
        status = PrefetchStatus.STORED if loaded.changed else PrefetchStatus.UNCHANGED
        status = PrefetchStatus.ALREADY_THERE if has_joined else status
        return _Writing(PrefetchOutcome(url, status, size, received), loaded.entry.row, loaded.stored)

    def _ended(self, behind: PrefetchOutcome | _Writing) -> PrefetchOutcome | None:
        """What became of it; None while it is being written."""
        if isinstance(behind, PrefetchOutcome):
            return behind
        if not behind.stored.done():
            return None
        stored, outcome = behind.stored.result(), behind.outcome
        if stored.status is StoreStatus.STORED:
            self._protection.add(behind.row)
            return outcome
        error = StorageError(str(stored.error), url=outcome.url) if stored.error is not None else None
        return replace(outcome, status=PrefetchStatus.NOT_STORED, reason=stored.status.value, error=error)

    async def _next(self, source: AsyncIterator[object], turn: asyncio.Lock) -> object:
        worker = asyncio.current_task()
        assert worker is not None
        self._idle.add(worker)
        try:
            async with turn:
                return await anext(source, _END)
        finally:
            self._idle.discard(worker)


async def _is_written(behind: PrefetchOutcome | _Writing) -> None:
    if isinstance(behind, _Writing) and not behind.stored.done():
        # Not awaited itself: whoever is stopped here must not cancel it for others.
        await asyncio.wait([behind.stored])


def _each(urls: Iterable[str]) -> Iterator[object]:
    # Not its own iterator, which might go on after an error.
    yield from urls


async def _each_to_come(urls: AsyncIterable[str]) -> AsyncIterator[object]:
    async for url in urls:
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
