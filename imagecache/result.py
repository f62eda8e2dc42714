"""What a call gives back. Values, with a way to the exact bytes."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import ImageCacheError
from .headers import Headers
from .metrics import Metrics
from .protocols import Animation, Redirect
from .units import format_size

if TYPE_CHECKING:
    from PIL import Image

    from .cache_status import CacheStatus


class ServedFrom(enum.Enum):
    """Where the pixels or bytes of a result came from."""

    MEMORY = "memory"
    DISK = "disk"
    NETWORK = "network"


class CacheType(enum.Enum):
    """Where something is cached (Kingfisher's ``CacheType``)."""

    NONE = "none"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """An image and how it was come by.

    ``served_from`` is where the pixels came from: after a 304 that is MEMORY or DISK, with ``revalidated``.
    ``changed`` says whether the bytes are other than the ones stored before (True for a first load).
    ``stale`` marks a copy that HTTP no longer calls fresh, served all the same. ``headers`` are the stored ones, with
    the ``Age`` (RFC 9111, 5.1) of what did not just come from its server. ``byte_count`` is the length of the exact
    bytes, ``format`` is Pillow's name for what they are. ``cache_status`` says in the terms of RFC 9211 what the cache
    did; ``str()`` of it is the value of a Cache-Status field.
    """

    image: Image.Image
    url: str
    final_url: str
    status: int
    headers: Headers
    served_from: ServedFrom
    revalidated: bool
    changed: bool
    stale: bool
    etag: str | None
    format: str | None
    byte_count: int
    checksum: str
    redirects: tuple[Redirect, ...] = ()
    metrics: Metrics
    cache_status: CacheStatus
    read_data: Callable[[], Awaitable[bytes]] = field(repr=False)
    open_animation: Callable[[bytes], Awaitable[Animation]] = field(repr=False)

    async def data(self) -> bytes:
        """The exact bytes that the image was decoded from.

        Raises NotInCacheError if they were evicted or replaced since.
        """
        return await self.read_data()

    async def animation(self) -> Animation:
        """The animated image over the exact bytes, with a decoder of its own; a still image has one frame."""
        return await self.open_animation(await self.read_data())


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResponse:
    """An answer of the HTTP cache itself: any status, any media type, bytes as they came."""

    url: str
    final_url: str
    status: int
    headers: Headers
    body: bytes = field(repr=False)
    served_from: ServedFrom
    revalidated: bool = False
    stale: bool = False
    cache_status: CacheStatus


class PrefetchStatus(enum.Enum):
    """What became of one URL of a prefetch."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    ALREADY_THERE = "already there"
    NOT_STORED = "not stored"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PrefetchOutcome:
    """One URL of a prefetch: ``reason`` tells why it was not stored, ``error`` why it failed."""

    url: str
    status: PrefetchStatus
    byte_count: int = 0
    bytes_received: int = 0
    reason: str = ""
    error: ImageCacheError | None = None


@dataclass(slots=True)
class PrefetchReport:
    """The outcomes of a prefetch, with counts. ``limit_reached`` says that it stopped at the disk limit."""

    outcomes: list[PrefetchOutcome] = field(default_factory=list)
    elapsed: float = 0.0
    limit_reached: bool = False

    def __iter__(self) -> Iterator[PrefetchOutcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def count(self, status: PrefetchStatus) -> int:
        """How many URLs ended so."""
        return self.counts[status]

    @property
    def counts(self) -> Counter[PrefetchStatus]:
        """The number of outcomes by status."""
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def failed(self) -> list[PrefetchOutcome]:
        """Those that failed, each with its error."""
        return [o for o in self.outcomes if o.status is PrefetchStatus.FAILED]

    @property
    def bytes_received(self) -> int:
        """Body bytes that crossed the wire."""
        return sum(o.bytes_received for o in self.outcomes)

    @property
    def is_complete(self) -> bool:
        """Whether every URL is in the cache now."""
        good = {PrefetchStatus.STORED, PrefetchStatus.UNCHANGED, PrefetchStatus.ALREADY_THERE}
        return not self.limit_reached and all(o.status in good for o in self.outcomes)

    def __str__(self) -> str:
        counts = self.counts
        told = ", ".join(f"{counts[s]} {s.value}" for s in PrefetchStatus if counts[s]) or "nothing to do"
        return f"{told}; {format_size(self.bytes_received)} in {self.elapsed:.1f} s"
