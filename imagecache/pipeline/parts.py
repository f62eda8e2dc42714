"""The parts that the stages work with, put together once by the manager, and the rules it was given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..clock import Clock, Deadlines
from ..delegate import Delegates
from ..entry import Entry
from ..expiration import StorageExpiration
from ..headers import Headers
from ..keys import userinfo_of
from ..metrics import Counters
from ..protocols import CacheSerializer, ImageProcessor
from ..request import CachePolicy, FetchOptions, ImageMode, ImageRequest, Priority
from .cached import CachedImage, Currency
from .flight import FlightTable
from .workers import Workers

if TYPE_CHECKING:
    from ..imaging.limits import ImageLimits
    from ..network.downloader import ImageDownloader
    from ..storage.cache import ImageCache


@dataclass(frozen=True, slots=True)
class Rules:
    """What a manager was told once, for all its calls. Durations in seconds, None for never."""

    limits: ImageLimits
    revalidate_after: float | None
    use_etags: bool
    keep_no_store: bool
    serializer: CacheSerializer | None
    default_headers: Headers
    stale_if_error: float | None


@dataclass(frozen=True, slots=True)
class Parts:
    """One manager's parts."""

    clock: Clock
    deadlines: Deadlines
    cache: ImageCache[CachedImage]
    downloader: ImageDownloader
    workers: Workers
    flights: FlightTable
    currency: Currency
    delegates: Delegates
    counters: Counters
    rules: Rules
    refresh_behind: Callable[[ImageRequest], None]

    def asked_headers(self, request: ImageRequest) -> Headers:
        """The header fields of a request before any modifier changed them."""
        return self.rules.default_headers.updated(request.headers)

    def held(self, request: ImageRequest, processors: int | None = None) -> CachedImage | None:
        """The image in memory, even if it has to be asked about before it may be used again."""
        return self.cache.memory.held(memory_key(request, processors))

    def remember(self, cached: CachedImage, expiration: StorageExpiration | None = None) -> None:
        """Put an image into the memory tier, or renew the one that is there.

        It is found there until it has to be asked about again, however often it is looked at.
        """
        self.cache.memory.store(
            cached.key,
            cached,
            cost=cached.pixels.cost,
            group=cached.entry.row.key_hash,
            expiration=expiration,
            deadline=self._deadline(cached.entry),
        )

    def renew_memory(self, entry: Entry) -> None:
        """The bytes behind these pixels were found unchanged: their metadata is the new one."""
        for cached in self.cache.memory.group(entry.row.key_hash):
            if cached.checksum == entry.checksum and cached.entry.row == entry.row:
                cached.entry = entry
                self.cache.memory.renew(cached.key, deadline=self._deadline(entry))

    def drop_made_of_others(self, entry: Entry, checksum: str | None) -> None:
        """Bytes of this checksum are the answer of a row now (None: none may be kept): what was made of others goes."""
        row = entry.row
        self.currency.supersede(row, checksum)
        self.currency.answered(entry, checksum)

        def is_still_good(cached: CachedImage) -> bool:
            other = cached.entry.row
            # Two that vary are two answers; one that does not vary, before or now, stands for all of them.
            varies = bool(other.vary and row.vary) and other.vary != row.vary
            return cached.checksum == checksum or other.scope != row.scope or varies

        self.cache.memory.remove_group(row.key_hash, keep=is_still_good)

    def _deadline(self, entry: Entry) -> float | None:
        """The monotonic time at which the server has to be asked again about what is served by the default policy."""
        after = self.rules.revalidate_after
        return None if after is None else self.clock.monotonic() + after - (self.clock.time() - entry.validated_at)


def memory_key(request: ImageRequest, processors: int | None = None) -> Hashable:
    """Where the memory tier keeps an image: the bare key for a plain call, so that a hit needs one look-up.

    ``processors`` counts how many of the request's processors are applied; None for all.
    """
    if not (request.processors or request.headers.pairs or request.partition or "@" in request.url):
        return _everybodys_key(request.key, request.mode, ())
    applied = request.processors[:processors]
    userinfo = userinfo_of(request.url)
    if not (request.headers.pairs or request.partition or userinfo):
        return _everybodys_key(request.key, request.mode, applied)
    identifiers = tuple([processor.identifier for processor in applied])
    return (request.key, request.mode, identifiers, request.partition, userinfo, request.headers)


def memory_key_of_call(url: str, options: FetchOptions) -> Hashable | None:
    """Where memory keeps what a call of a URL that is its own key asks for, if its options say no more than what is
    made of the image and how patiently it is fetched; None for all others.

    An image is looked for under it before a request is made of the options, which takes many times as long. Whatever is
    not plainly right gets None here too, and is told by those who look closer.
    """
    mode: Any = "auto"
    processors: Any = ()
    value: Any
    for name, value in options.items():
        if name == "processors":
            processors = value
        elif name == "mode":
            mode = value
        elif name == "policy":
            if value not in SERVED_FROM_MEMORY:
                return None
        elif name == "force_refresh":
            if value is not False:
                return None
        elif name == "timeout":
            if value is not None and not (type(value) in _NUMBERS and value > 0):
                return None
        elif name == "priority":
            if type(value) is not Priority:
                return None
        elif name != "progress":
            return None
    # An iterator can be gone through but once.
    return _everybodys_key(url, mode, processors) if isinstance(processors, _LISTS) else None


SERVED_FROM_MEMORY = (CachePolicy.CACHE_ELSE_LOAD, CachePolicy.CACHE_ONLY)
"""The policies under which an image in memory is an answer, whatever HTTP says of it."""
_NUMBERS = (int, float)
_LISTS = (list, tuple)


def _everybodys_key(key: str, mode: ImageMode, processors: Sequence[ImageProcessor]) -> Hashable:
    if not processors and mode == "auto":
        return key
    return (key, mode, tuple([processor.identifier for processor in processors]))
