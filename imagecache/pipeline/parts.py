"""The parts that the stages work with, put together once by the manager, and the rules it was given."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..clock import Clock
from ..delegate import Delegates
from ..entry import Entry, RowKey
from ..expiration import StorageExpiration
from ..headers import Headers
from ..metrics import Counters
from ..protocols import CacheSerializer
from ..request import ImageRequest
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
    memory_expiration: StorageExpiration
    disk_expiration: StorageExpiration
    revalidate_after: float | None
    use_etags: bool
    keep_no_store: bool
    serializer: CacheSerializer | None
    default_headers: Headers


@dataclass(frozen=True, slots=True)
class Parts:
    """One manager's parts."""

    clock: Clock
    cache: ImageCache[CachedImage]
    downloader: ImageDownloader
    workers: Workers
    flights: FlightTable
    currency: Currency
    delegates: Delegates
    counters: Counters
    rules: Rules
    refresh_behind: Callable[[ImageRequest], None]

    def held(self, request: ImageRequest, processors: int | None = None) -> CachedImage | None:
        """The image in memory, even if it has to be asked about before it may be used again."""
        key = memory_key(request, processors)
        return next((c for c in self.cache.memory.group(request.key_hash) if c.key == key), None)

    def remember(self, cached: CachedImage, expiration: StorageExpiration | None = None) -> None:
        """Put an image into the memory tier, or renew the one that is there.

        It is found there until it has to be asked about again, however often it is looked at.
        """
        after = self.rules.revalidate_after
        age = self.clock.time() - cached.entry.validated_at
        self.cache.memory.store(
            cached.key,
            cached,
            cost=cached.pixels.cost,
            group=cached.entry.row.key_hash,
            expiration=expiration,
            deadline=None if after is None else self.clock.monotonic() + after - age,
        )

    def renew_memory(self, entry: Entry) -> None:
        """The bytes behind these pixels were found unchanged: their metadata is the new one."""
        for cached in self.cache.memory.group(entry.row.key_hash):
            if cached.checksum == entry.checksum and cached.entry.row == entry.row:
                cached.entry = entry
                self.remember(cached)

    def drop_made_of_others(self, row: RowKey, checksum: str | None) -> None:
        """Bytes of this checksum are a row's now (None: none are): what was made of others goes."""
        self.currency.supersede(row.key_hash, checksum)
        self.cache.memory.remove_group(
            row.key_hash,
            keep=lambda cached: (
                cached.checksum == checksum or (cached.entry.row.scope, cached.entry.row.vary) != (row.scope, row.vary)
            ),
        )


def memory_key(request: ImageRequest, processors: int | None = None) -> Hashable:
    """Where the memory tier keeps an image: the bare key for a plain call, so that a hit needs one look-up.

    ``processors`` counts how many of the request's processors are applied; None for all.
    """
    applied = request.processors[:processors]
    if not applied and request.mode == "auto" and not request.headers and not request.partition:
        return request.key
    identifiers = tuple(processor.identifier for processor in applied)
    return (request.key, request.partition, request.headers, request.mode, identifiers)
