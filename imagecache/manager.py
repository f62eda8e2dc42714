"""The manager: owns the parts, and says for each call which of them answers. Kingfisher's ``KingfisherManager``.

The order of events of a call is here, one short method a decision; what the stages do is in ``pipeline``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from .clock import Clock, Deadlines, SystemClock
from .delegate import Delegates, Handle, Observers
from .entry import Entry, Protection
from .errors import ImageCacheError
from .expiration import SECONDS_PER_DAY, ExpirationLike, StorageExpiration, as_expiration
from .headers import Headers
from .http.explanation import Explanation
from .imaging.encode import Encoding, check_quality
from .imaging.limits import ImageLimits
from .imaging.sniff import suffix_for
from .keys import display_url, key_for_url
from .metrics import Counters, FetchReport, Metrics
from .network.downloader import ImageDownloader
from .network.settings import NetworkOptions, Timeouts
from .pipeline.alternatives import first_that_succeeds
from .pipeline.behind import RefreshBehind
from .pipeline.cached import CachedImage, Currency
from .pipeline.encoded import AnyEncoding, EncodeStage, LikeSource
from .pipeline.flight import Caller, FlightTable
from .pipeline.lifetime import Lifetime
from .pipeline.load import ANY_BODY, NO_BODY, Loader
from .pipeline.loaded import Loaded
from .pipeline.machine import cache_folder, default_memory_limit, size_limit
from .pipeline.options import check_seconds, check_timeout, prefetch_requests, request_for
from .pipeline.others import WatchOthers
from .pipeline.parts import SERVED_FROM_MEMORY, Parts, Rules, memory_key, memory_key_of_call
from .pipeline.pixels import Made, PixelStage
from .pipeline.prefetcher import Crew, ImagePrefetcher, PrefetchOptions, Urls
from .pipeline.response import ResponseStage, question_for
from .pipeline.results import Results
from .pipeline.workers import Workers
from .protocols import CacheSerializer, RedirectHandler, RequestModifier, RetryStrategy, UnauthorizedHook
from .request import CachePolicy, FetchOptions, ImageRequest, ResponseOptions
from .result import CachedResponse, ImageResult, ServedFrom
from .storage.cache import ImageCache
from .storage.files import check_target, write_atomically
from .units import parse_size

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp
    from PIL import Image

    from .storage.etags import ETagRegistry


class ImageManager:
    """Fetches images: from memory, from disk, or from their server, which it asks as little as it may.

    ``name`` chooses the folder, so that two programs of one user do not clear each other's cache. Use it as an
    async context manager, or call :meth:`aclose`. It belongs to the event loop it is first used on.

    >>> async with ImageManager("docs-sample") as images:
    ...     image = await images.fetch_image(url)

    Sizes are bytes or texts such as ``"256 MiB"``; durations are seconds. ``directory`` is used as given; without
    it the folder is one by ``name`` where the system keeps caches (``IMAGECACHE_DIR`` stands in for that
    place). ``disk_limit=0`` keeps nothing on disk. ``memory_limit`` is an eighth of the usable memory and
    at most 256 MiB. ``revalidate_after`` is the age at which a copy served by the default policy is revalidated
    behind; None for never. ``stale_if_error`` is how stale a copy may be, in seconds, that stands in where its server
    fails, beyond what the server itself allows; ``inf`` for any. ``etags=False`` leaves conditional requests to your
    own modifiers. ``key_for_url`` says what identifies an image where its URL does not (signatures). ``session`` is
    used and left open.
    ``block_private`` refuses addresses that are not globally reachable; see also :meth:`untrusted`.

    Raises ValueError and TypeError for arguments that make no sense; it opens nothing before its first use.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        directory: str | os.PathLike[str] | None = None,
        memory_limit: int | str | None = None,
        memory_items: int | None = None,
        disk_limit: int | str | None = None,
        memory_expiration: ExpirationLike = 300.0,
        disk_expiration: ExpirationLike = 7 * SECONDS_PER_DAY,
        policy: CachePolicy = CachePolicy.CACHE_ELSE_LOAD,
        revalidate_after: float | None = SECONDS_PER_DAY,
        etags: bool = True,
        keep_no_store: bool = False,
        stale_if_error: float | None = None,
        key_for_url: Callable[[str], str] = key_for_url,
        serializer: CacheSerializer | None = None,
        session: aiohttp.ClientSession | None = None,
        headers: Mapping[str, str] | None = None,
        user_agent: str | None = None,
        timeout: float | None = 60.0,
        timeouts: Timeouts | None = None,
        max_body: int | str = "64 MiB",
        max_redirects: int = 10,
        connections: int = 64,
        connections_per_host: int = 6,
        host_limits: Mapping[str, int] | None = None,
        requests_per_second: float | None = None,
        newest_first: bool = False,
        block_private: bool = False,
        allow_addresses: tuple[str, ...] = (),
        retry: RetryStrategy | None = None,
        redirect_handler: RedirectHandler | None = None,
        on_unauthorized: UnauthorizedHook | None = None,
        limits: ImageLimits | None = None,
        decode_budget: int | str | None = None,
        decode_threads: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(policy, CachePolicy):
            raise TypeError(f"policy is a CachePolicy, not {policy!r}")
        if not callable(key_for_url):
            raise TypeError(f"key_for_url is a function of a URL, not {key_for_url!r}")
        self.name = name
        self.clock: Clock = clock or SystemClock()
        self.counters = Counters()
        memory_bytes = size_limit(memory_limit, "IMAGECACHE_MEMORY_LIMIT", "memory_limit", default_memory_limit())
        disk_bytes = size_limit(disk_limit, "IMAGECACHE_DISK_LIMIT", "disk_limit", 2**30)
        folder = cache_folder(name, directory) if disk_bytes else None
        options = NetworkOptions(
            timeouts=replace(timeouts or Timeouts(), total=check_timeout(timeout)),
            max_body=parse_size(max_body, name="max_body"),
            max_redirects=max_redirects,
            connections=connections,
            per_host=connections_per_host,
            host_limits=dict(host_limits or {}),
            requests_per_second=requests_per_second,
            newest_first=newest_first,
            headers=Headers(headers or {}),
            block_private=block_private,
            allow_addresses=tuple(allow_addresses),
            user_agent=user_agent,
        )
        self._delegates = Delegates()
        self._observers = Observers()
        self.downloader = ImageDownloader(
            options,
            session=session,
            clock=self.clock,
            delegates=self._delegates,
            retry=retry,
            redirect_handler=redirect_handler,
            on_unauthorized=on_unauthorized,
        )
        rules = Rules(
            limits=limits or ImageLimits(),
            revalidate_after=check_timeout(revalidate_after),
            use_etags=etags,
            keep_no_store=keep_no_store,
            stale_if_error=check_seconds(stale_if_error, "stale_if_error"),
            serializer=serializer,
            default_headers=options.default_headers,
        )
        self.cache: ImageCache[CachedImage] = ImageCache(
            folder,
            clock=self.clock,
            memory_limit=memory_bytes,
            memory_items=memory_items,
            disk_limit=disk_bytes,
            memory_expiration=as_expiration(memory_expiration, name="memory_expiration"),
            disk_expiration=as_expiration(disk_expiration, name="disk_expiration"),
            delegates=self._delegates,
            key_for_url=key_for_url,
            on_change=self._changed_elsewhere,
            check_body=self._check_body,
            decodes_waiting=lambda: self._workers.waiting,
        )
        budget = parse_size(decode_budget, name="decode_budget") if decode_budget is not None else memory_bytes
        self._workers = Workers(threads=decode_threads, budget=budget)
        self._parts = Parts(
            clock=self.clock,
            deadlines=Deadlines(self.clock),
            cache=self.cache,
            downloader=self.downloader,
            workers=self._workers,
            flights=FlightTable(),
            currency=Currency(),
            delegates=self._delegates,
            counters=self.counters,
            rules=rules,
            refresh_behind=self._ask_behind,
        )
        self._flights = self._parts.flights
        self._loader = Loader(self._parts)
        self._pixels = PixelStage(self._parts, self._loader)
        self._encode = EncodeStage(self._parts, self._loader, self._pixels)
        self._results = Results(self._parts, self._loader)
        self._responses = ResponseStage(self._parts)
        self._behind = RefreshBehind(self._parts, self._loader, self._pixels, timeout=options.timeouts.total)
        self._key_for_url = key_for_url
        self._policy = policy
        self._timeout = options.timeouts.total
        # With keys of one's own, a URL that is also some other URL's key must not be looked up bare.
        self._has_short_cut = policy in SERVED_FROM_MEMORY and key_for_url is _URL_IS_KEY
        self._memory_get = self.cache.memory.get
        self._lifetime = Lifetime(self._close, self._closing)
        self._others = WatchOthers(self._parts)

    @classmethod
    def untrusted(cls, name: str = "default", **options: Any) -> Self:
        """A manager for URLs that strangers give: it visits no private address, and takes no more than it should.

        10 MiB of body, 40 megapixels, 10 s in all, 3 redirects, no private addresses; ``options`` are those of
        the class and go over these.
        """
        strict: dict[str, Any] = {
            "block_private": True,
            "max_body": "10 MiB",
            "max_redirects": 3,
            "timeout": 10.0,
            "limits": ImageLimits(max_pixels=40_000_000),
        }
        return cls(name, **{**strict, **options})

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or is being closed."""
        return self._lifetime.is_closed

    def __repr__(self) -> str:
        return f"<ImageManager {self.name!r}{' closed' if self.is_closed else ''}>"

    # Fetching

    async def fetch_image(self, url: str, **options: Unpack[FetchOptions]) -> Image.Image:
        """The image of a URL: loaded, upright, in mode L, LA, RGB or RGBA, and yours to change.

        The options are those of :class:`FetchOptions`. Raises ImageCacheError for whatever goes wrong,
        ValueError or TypeError for options that make no sense.
        """
        cached = self._short_cut(url, options)
        # As `hand_out` does, one call less.
        return cached.pixels.view(cached) if cached is not None else await self._look_further(url, options)

    async def _look_further(self, url: str, options: FetchOptions) -> Image.Image:
        """The image that the short cut missed."""
        request = self._request(url, options)
        cached = self._memory_hit(request, self._short_key(url, options))
        if cached is None:
            # By far the most calls have one source only, and need nothing around it.
            make = first_that_succeeds(request, self._make) if request.alternatives else self._make(request)
            cached = (await make)[0].cached
        return cached.hand_out()

    async def fetch(self, url: str, **options: Unpack[FetchOptions]) -> ImageResult:
        """The image of a URL with how it was come by: an :class:`ImageResult`. Options as for fetch_image."""
        started = self.clock.monotonic()
        cached = self._short_cut(url, options)
        if cached is None:
            request = self._request(url, options)
            cached = self._memory_hit(request, self._short_key(url, options))
        if cached is not None:
            return self._results.from_memory(str(url), cached, Metrics(total=self.clock.monotonic() - started))
        made, caller = await first_that_succeeds(request, self._make)
        loaded = made.loaded
        metrics = self._metrics(caller, loaded, made)
        metrics.total = self.clock.monotonic() - started
        is_kept = made.is_reused and loaded.served_from is not ServedFrom.NETWORK
        source = ServedFrom.MEMORY if is_kept else loaded.served_from
        return self._results.of(caller.url, made.cached, loaded, source, metrics)

    async def fetch_data(
        self,
        url: str,
        *,
        format: str | None = None,
        quality: int | None = None,
        **options: Unpack[FetchOptions],
    ) -> bytes:
        """The exact bytes of a URL's image, checked to be one; or, with ``processors`` or ``format``, encoded ones.

        ``format`` is Pillow's name or a common one ("WEBP", "jpg"); without it a processed image is written in its
        source's own format, or as PNG where that cannot hold it. ``quality`` is the encoder's, 1 to 100. What was
        encoded is kept on disk as a variant of its original.
        """
        encoding = _encoding(format, quality)
        request = self._request(url, options)
        body, _, _ = await first_that_succeeds(request, lambda source: self._data(source, encoding, quality))
        return body

    async def fetch_file(
        self,
        url: str,
        *,
        to: str | os.PathLike[str] | None = None,
        format: str | None = None,
        quality: int | None = None,
        **options: Unpack[FetchOptions],
    ) -> Path:
        """A file with the bytes of :meth:`fetch_data`.

        With ``to``, a copy that appears there whole or not at all; without it a read-only file in the cache's
        own folder, with the true suffix, that stays for about an hour.
        """
        encoding = _encoding(format, quality)
        target = check_target(to) if to is not None else None
        request = self._request(url, options)
        body, entry, may_keep = await first_that_succeeds(request, lambda source: self._data(source, encoding, quality))
        if target is not None:
            return await self._workers.run(write_atomically, target, body, entry.url)
        return await self.cache.disk.hold(entry, body, suffix_for(entry.format), in_folder=may_keep)

    async def fetch_response(self, url: str, **options: Unpack[ResponseOptions]) -> CachedResponse:
        """The HTTP cache itself (RFC 9111): any status, any media type, GET or HEAD, nothing decoded or judged.

        The options are those of :class:`ResponseOptions`: ``policy`` is PROTOCOL where none is given.
        """
        question = question_for(url, options, self._request)
        self.start()
        try:
            return await self._responses.fetch(question, self._caller(question.request))
        except ImageCacheError as error:
            self._tell(error, question.request)
            raise

    def prefetch(self, urls: Urls, **options: Unpack[PrefetchOptions]) -> ImagePrefetcher:
        """Bring many images onto the disk, checked but not decoded: ``await`` it for a report, or iterate over it.

        ``urls`` may be any iterable or async iterable; the options are those of :class:`PrefetchOptions`. A prefetch
        never evicts what it stored itself: where the disk limit leaves no more room it stops, and its report says so.
        """
        return ImagePrefetcher(urls, self._crew, options)

    async def _crew(self) -> Crew:
        """What an :class:`ImagePrefetcher` works with."""
        self.start()
        return Crew(self._parts, self._loader, self._prefetch_requests, self._caller)

    async def explain(self, url: str, **options: Unpack[FetchOptions]) -> Explanation:
        """What is stored for a URL, its age and lifetime, and what each policy would do now. Asks no server.

        The options are those of :meth:`fetch`. Print it, or read its fields.
        """
        request = self._request(url, options)
        self.start()
        return await self._loader.explain(request)

    # What can be added and looked at

    def add_request_modifier(self, modifier: RequestModifier) -> Handle:
        """Change every request before it is sent; ``remove()`` on what is returned, or ``with``, ends it."""
        return self.downloader.add_request_modifier(modifier)

    def add_delegate(self, delegate: object) -> Handle:
        """Tell an object what happens: any subset of the methods of :class:`ImageDownloaderDelegate` and
        :class:`ImageCacheDelegate`, sync or async. Returns a handle with ``remove()``."""
        return self._delegates.add(delegate)

    @property
    def etags(self) -> ETagRegistry:
        """The entity tags of what is stored."""
        return self.cache.etags

    @property
    def memory_limit(self) -> int:
        """The most bytes of pixels in memory. Setting it (bytes or a text) evicts at once."""
        return self.cache.memory.limit

    @memory_limit.setter
    def memory_limit(self, limit: int | str) -> None:
        self.cache.memory.limit = parse_size(limit, name="memory_limit")

    @property
    def disk_limit(self) -> int:
        """The most bytes on disk. Setting it (bytes or a text) lower evicts behind, down to half of it."""
        return self.cache.disk.limit

    @disk_limit.setter
    def disk_limit(self, limit: int | str) -> None:
        self.cache.disk.limit = parse_size(limit, name="disk_limit")

    @property
    def memory_expiration(self) -> StorageExpiration:
        """How long memory keeps an image after its last use. Setting it is for what is kept from then on."""
        return self.cache.memory.expiration

    @memory_expiration.setter
    def memory_expiration(self, expiration: ExpirationLike) -> None:
        self.cache.memory.expiration = as_expiration(expiration, name="memory_expiration")

    @property
    def disk_expiration(self) -> StorageExpiration:
        """How long the disk keeps bytes after their last use. Setting it is for what is stored from then on."""
        return self.cache.disk_expiration

    @disk_expiration.setter
    def disk_expiration(self, expiration: ExpirationLike) -> None:
        self.cache.disk_expiration = as_expiration(expiration, name="disk_expiration")

    # Ending

    def cancel(self, url: str) -> None:
        """End what fetches this URL now; whoever waits for it gets DownloadCancelledError, and no alternatives.

        The URL is the one asked for, its fragment aside. What has come already is still decoded. Whoever asks from
        now on starts anew.
        """
        self._flights.cancel(key_for_url(url))

    def cancel_all(self) -> None:
        """The same for every URL. A prefetch under way goes on with its next ones."""
        self._flights.cancel()

    # Storing

    async def remove(self, url: str) -> int:
        """Remove all that is stored for a URL, in both tiers: every variant, of every user. Returns the rows."""
        self.start()
        return await self.cache.remove(url)

    def clear_memory(self) -> None:
        """Drop all decoded images; the disk keeps its bytes."""
        self.cache.clear_memory()

    async def clear_disk(self) -> None:
        """Drop all stored bytes and their ETags; memory keeps its images."""
        self.start()
        await self.cache.clear_disk()

    async def clear(self) -> None:
        """Drop everything from both tiers, and what is remembered of redirects."""
        self.start()
        self.downloader.forget_redirects()
        await self.cache.clear()

    async def clean_expired(self) -> list[str]:
        """Drop what has expired, then what is over the limit; returns the hashes that went from the disk."""
        self.start()
        return await self.cache.clean_expired()

    # Lifetime

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is under way (its callers get ManagerClosedError), write out what is queued, let go of all.

        An injected session stays open. Whoever calls it, and however often, waits for the same end; a call that is
        cancelled leaves the closing to finish by itself.
        """
        await self._lifetime.aclose()

    def start(self) -> None:
        """Bind the manager to the running event loop, whose end closes it if nobody else does.

        The first call that needs more than memory does so by itself. Raises ManagerClosedError once closed, and
        WrongLoopError on another loop than the first.
        """
        self._lifetime.start()

    def _closing(self) -> None:
        self._has_short_cut = False

    async def _close(self) -> None:
        self._others.stop()
        self._loader.stop()
        await self._flights.close()
        await self.downloader.aclose()
        await self._loader.drain()
        await self.cache.aclose()
        self._workers.shutdown()
        await self._delegates.drain()

    # What is told of a call

    def add_observer(self, observer: Callable[[FetchReport], object]) -> Handle:
        """Call ``observer`` with a :class:`FetchReport` at the end of each ``fetch…`` that memory alone did not answer.

        At once and in the caller's own context, so that it may know whose call it was; what it raises is logged.
        """
        return self._observers.add(observer)

    def _report(
        self,
        caller: Caller,
        loaded: Loaded | None = None,
        made: Made | None = None,
        error: ImageCacheError | None = None,
    ) -> None:
        if not self._observers:
            return
        metrics = self._metrics(caller, loaded, made)
        if loaded is None:
            self._observers.tell(FetchReport(caller.url, metrics, error=error))
        else:
            self._observers.tell(FetchReport(caller.url, metrics, loaded.served_from, loaded.entry.status))

    def _metrics(self, caller: Caller, loaded: Loaded | None = None, made: Made | None = None) -> Metrics:
        metrics = loaded.metrics.copy() if loaded is not None else Metrics()
        if made is not None:
            metrics.decode, metrics.process = made.decode_time, made.process_time
        metrics.total = self.clock.monotonic() - caller.started
        metrics.shared = caller.has_joined_others
        return metrics

    # The decisions of a call

    def _request(self, url: object, options: FetchOptions) -> ImageRequest:
        return request_for(url, options, key_for_url=self._key_for_url, policy=self._policy, timeout=self._timeout)

    def _prefetch_requests(
        self, options: FetchOptions, protection: Protection, max_retry_after: float
    ) -> Callable[[object], ImageRequest]:
        return prefetch_requests(
            options,
            key_for_url=self._key_for_url,
            policy=self._policy,
            protection=protection,
            max_retry_after=max_retry_after,
        )

    def _caller(self, request: ImageRequest) -> Caller:
        return Caller(
            self._parts.deadlines,
            url=display_url(request.url),
            priority=request.priority,
            progress=request.progress,
            timeout=request.timeout,
        )

    def _short_cut(self, url: str, options: FetchOptions) -> CachedImage | None:
        """The image in memory, for a URL that is its own key and options that do not ask for a closer look."""
        if not self._has_short_cut:
            return None
        # Not `_short_key`, one more call, nor suppress(), which alone costs as much as the look-up.
        try:
            key = memory_key_of_call(url, options) if options else url
            cached = self._memory_get(key) if key is not None else None
        except (AttributeError, TypeError):  # What is no URL, mode or processor is told as what it is further on.
            return None
        if cached is not None:
            self.counters.memory_hits += 1
        return cached

    def _short_key(self, url: str, options: FetchOptions) -> Hashable | None:
        """Where the short cut looked, None if nowhere; of a URL and options that proved right."""
        if not self._has_short_cut:
            return None
        return memory_key_of_call(url, options) if options else url

    def _memory_hit(self, request: ImageRequest, missed: Hashable | None) -> CachedImage | None:
        """The image in memory, if the policy of the call lets it be the answer; it was ``missed`` under that key."""
        key = memory_key(request)
        if request.policy not in _MAY_HIT_MEMORY or key == missed or self.is_closed:
            return None
        cached = self.cache.memory.get(key, request.memory_extension)
        if cached is None:
            return None
        if request.policy is CachePolicy.PROTOCOL:
            # What its Vary nominates may be other than it was, once the modifiers have run.
            is_unclear = self.downloader.has_modifiers and "vary" in cached.entry.headers
            if is_unclear or self.clock.time() >= cached.fresh_until:
                return None
        if request.is_particular and not self._loader.may_serve(request, cached.entry):
            return None
        if request.policy is CachePolicy.STALE_WHILE_REVALIDATE and self._loader.asks_behind(request, cached.entry):
            self._ask_behind(request)
        self.counters.memory_hits += 1
        return cached

    async def _make(self, request: ImageRequest) -> tuple[Made, Caller]:
        """Bytes, then pixels; into memory if they are still the current ones."""
        self.start()
        caller = self._caller(request)
        try:
            made = await self._pixels.make(await self._loader.load(request, caller), request, caller)
        except ImageCacheError as error:
            self._tell(error, request)
            self._report(caller, error=error)
            raise
        self._report(caller, made.loaded, made)
        self.counters.joined += caller.has_joined_others
        made = self._remember(request, made)
        loaded = made.loaded
        if loaded.served_from is ServedFrom.NETWORK and self._delegates.listens("did_download_image"):
            image = made.cached.hand_out()
            await self._delegates.ask("did_download_image", image, display_url(request.url), loaded.response)
        return made, caller

    def _remember(self, request: ImageRequest, made: Made) -> Made:
        """Keep the image in memory, if it may be kept and its bytes are still the current ones."""
        loaded, cached = made.loaded, made.cached
        memory = self.cache.memory
        kept = memory.peek(cached.key)
        held = kept if kept is not None else memory.held(cached.key)
        if held is not None and held is not cached and held.pixels is cached.pixels:
            # Somebody who waited for the same pixels was here before.
            cached = held
            made = Made(cached, loaded, made.is_reused, made.decode_time, made.process_time)
        is_newer = loaded.entry.validated_at > cached.entry.validated_at
        if is_newer and loaded.entry.row == cached.entry.row:
            cached.entry = loaded.entry
        if loaded.may_keep and self._parts.currency.is_current(loaded.stamp):
            if request.memory_expiration is not None or kept is not cached:
                self._parts.remember(cached, request.memory_expiration)
            if cached.entry is loaded.entry:
                cached.sighting = loaded.stamp.sighting
            self._others.watch()
        return made

    async def _data(
        self, request: ImageRequest, encoding: Encoding | None, quality: int | None
    ) -> tuple[bytes, Entry, bool]:
        """The bytes, an entry that describes them, and whether a copy may be kept."""
        self.start()
        caller = self._caller(request)
        is_exact = encoding is None and quality is None and not request.processors and request.mode == "auto"
        try:
            loaded = await self._loader.load(request, caller, up_to=ANY_BODY if is_exact else NO_BODY)
            if is_exact:
                loaded = await self._loader.with_body(loaded, request, caller)
                assert loaded.body is not None
                self._report(caller, loaded)
                return loaded.body, loaded.entry, loaded.may_keep
            chosen: AnyEncoding = encoding or LikeSource(loaded.entry.format, quality)
            encoded, loaded = await self._encode.make(loaded, request, chosen, caller)
        except ImageCacheError as error:
            self._tell(error, request)
            self._report(caller, error=error)
            raise
        self._report(caller, loaded)
        entry = replace(loaded.entry, checksum=encoded.checksum, format=encoded.format)
        return encoded.body, entry, loaded.may_keep

    def _tell(self, error: ImageCacheError, request: ImageRequest) -> None:
        """Count an error, and let it be about the URL that was asked for: who started the work may have had another."""
        self.counters.failures += 1
        error.url = display_url(request.url)

    async def _check_body(self, entry: Entry, body: bytes) -> str | None:
        """Why stored bytes are no image, for ``cache.verify()``."""
        if entry.row.namespace != "image" or entry.format is None:
            return None
        return await self._pixels.problem_with(entry, body)

    # Behind the calls

    def _ask_behind(self, request: ImageRequest) -> None:
        if not self.is_closed:
            self._behind.ask(request)

    def _changed_elsewhere(self, key_hash: str, checksum: str | None) -> None:
        """Something was stored, removed or cleared, here or by another process: follow it."""
        if key_hash == "*":
            self._parts.currency.supersede_all()
        else:
            self._parts.currency.supersede(key_hash, checksum)


_URL_IS_KEY = key_for_url
_MAY_HIT_MEMORY = (*SERVED_FROM_MEMORY, CachePolicy.PROTOCOL, CachePolicy.STALE_WHILE_REVALIDATE)


def _encoding(format: str | None, quality: int | None) -> Encoding | None:
    """The encoding asked for, None where the source's own will do; a wrong one is told at the call."""
    if format is not None:
        return Encoding(format, quality)
    check_quality("JPEG", quality)
    return None
