"""What is asked for: the options of a call, and the request that modifiers see and change. Values only."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypedDict

from .expiration import AccessExtension, ExpirationLike, StorageExpiration
from .headers import Headers
from .keys import shown_url

if TYPE_CHECKING:
    from .entry import Protection
    from .protocols import ImageProcessor


class CachePolicy(enum.Enum):
    """When a stored copy may be used: NSURLRequestCachePolicy, all six, and one more."""

    CACHE_ELSE_LOAD = "cache-else-load"
    """A stored copy until its storage expiration, else load (the default; Kingfisher's way)."""
    CACHE_ONLY = "cache-only"
    """Never the network; a miss is NotInCacheError."""
    PROTOCOL = "protocol"
    """RFC 9111 as a private cache: fresh is served, stale is asked about."""
    REVALIDATE = "revalidate"
    """Always ask, with validators; a 304 gives the stored copy. ``force_refresh=True`` means this."""
    RELOAD = "reload"
    """Load in full, without validators; the new copy is stored."""
    RELOAD_END_TO_END = "reload-end-to-end"
    """The same, and caches on the way are told to reload too."""
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    """The stored copy now, and a conditional GET behind it."""

    # There is one of each. An enum's own hash is that of its name, by a call of Python's at each look into a dict.
    __hash__ = object.__hash__


class Priority(enum.IntEnum):
    """Who gets the next free connection. The highest of a flight's callers counts."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


ImageMode = Literal["auto", "L", "LA", "RGB", "RGBA"] | None
"""``"auto"``: L, LA, RGB or RGBA, whichever holds the file's own; None: the file's own, whatever it is."""

ProgressCallback = Callable[[int, int | None], object]
"""``progress(received, total)``, bytes; ``total`` is None where the server does not tell. Called on the loop."""


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """A request about to be sent: what request modifiers see, and return changed.

    >>> DownloadRequest("http://a.example/x.png").with_headers({"Authorization": "Bearer t"}).headers["authorization"]
    'Bearer t'
    """

    url: str
    headers: Headers = Headers()
    method: str = "GET"

    def with_headers(self, fields: Mapping[str, str]) -> DownloadRequest:
        """The same request with these fields in place of their namesakes."""
        return replace(self, headers=self.headers.updated(fields))

    def with_url(self, url: str) -> DownloadRequest:
        """The same request to another URL; the cache key stays that of the URL asked for."""
        return replace(self, url=url)

    def __repr__(self) -> str:
        return f"DownloadRequest({self.method} {shown_url(self.url)}, {self.headers!r})"


class FetchOptions(TypedDict, total=False):
    """The keyword options of ``fetch_image``, ``fetch``, ``fetch_data`` and ``fetch_file``.

    ===================== ==================================================================================
    ``policy``            a :class:`CachePolicy`; the manager's default where absent
    ``force_refresh``     True: ask the server (``REVALIDATE``); contradicts every other policy
    ``processors``        image processors, applied in order
    ``mode``              ``"auto"`` (L, LA, RGB, RGBA), one of these, or None for the file's own
    ``headers``           request header fields of this call
    ``partition``         whose copy this is: a text, or a callable evaluated in the caller's context
    ``cache_key``         the identity to store under, where the URL is not it (signatures)
    ``timeout``           seconds in all, from the moment a connection is granted; None: no limit
    ``priority``          a :class:`Priority`
    ``alternatives``      URLs to fetch instead, in order, where the one before failed after all its tries
    ``progress``          called with (received, total) on the loop
    ``memory_expiration`` how long memory keeps this image
    ``disk_expiration``   how long the disk keeps these bytes
    ``memory_extension``  what a hit in memory does to its expiration: an :class:`AccessExtension`
    ``disk_extension``    the same for a hit on disk
    ``max_age``           seconds: no stored copy that is older (RFC 9111, 5.2.1.1)
    ``max_stale``         seconds: a stored copy that has been stale for longer will not do (5.2.1.2); inf: any
    ``min_fresh``         seconds: a stored copy has to stay fresh for at least as long (5.2.1.3)
    ``stale_if_error``    seconds: how stale a copy may be that stands in where its server fails; inf: any
    ``expected_etag``     the image with this strong entity tag, quotes included, or none; "*": any that exists
    ``unmodified_since``  the image as long as it was not modified after this: an aware datetime or wall seconds
    ===================== ==================================================================================

    ``max_age``, ``max_stale`` and ``min_fresh`` hold under every policy that may serve a stored copy, and travel to
    the caches on the way as the request directives that they are named for.

    An alternative is an image of its own: stored under its own URL, and told by ``ImageResult.url``. It gets the
    other options of the call, with a ``timeout`` of its own, but no ``cache_key``, and at another origin no
    ``headers`` but those that a redirect would take there.
    """

    policy: CachePolicy
    force_refresh: bool
    processors: Sequence[ImageProcessor]
    mode: ImageMode
    headers: Mapping[str, str]
    partition: str | Callable[[], str]
    cache_key: str
    timeout: float | None
    priority: Priority
    alternatives: Sequence[str]
    progress: ProgressCallback
    memory_expiration: ExpirationLike
    disk_expiration: ExpirationLike
    memory_extension: AccessExtension
    disk_extension: AccessExtension
    max_age: float
    max_stale: float
    min_fresh: float
    stale_if_error: float
    expected_etag: str
    unmodified_since: float | datetime


class ResponseOptions(TypedDict, total=False):
    """The keyword options of ``fetch_response``.

    ==================== ================================================================================
    ``method``           ``"GET"``, as where absent, or ``"HEAD"``
    ``headers``          request header fields; conditions, ranges and Cache-Control among them are obeyed
    ``policy``           a :class:`CachePolicy`, ``PROTOCOL`` where absent
    ``follow_redirects`` True: the answer at the end of redirects; else a redirect is the answer
    ``retry``            True: try again as the manager's retry strategy says; else once
    ``partition``        whose copy this is: a text, or a callable evaluated in the caller's context
    ``timeout``          seconds in all, the manager's where absent; None: no limit
    ==================== ================================================================================
    """

    method: Literal["GET", "HEAD"]
    headers: Mapping[str, str] | None
    policy: CachePolicy
    follow_redirects: bool
    retry: bool
    partition: str | Callable[[], str]
    timeout: float | None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One call's options, checked and filled in; made once a call has missed the memory tier's short cut.

    ``max_retry_after`` (seconds; None: the downloader's own) and ``protection`` are a prefetch's: how long a
    server may make it wait, and what its own job stored, which it does not evict. ``alternatives`` are what is asked
    for instead, one after the other, where this fails.
    """

    url: str
    key: str
    key_hash: str
    policy: CachePolicy
    processors: tuple[ImageProcessor, ...] = ()
    mode: ImageMode = "auto"
    headers: Headers = Headers()
    partition: str = ""
    timeout: float | None = None
    priority: Priority = Priority.NORMAL
    progress: ProgressCallback | None = None
    memory_expiration: StorageExpiration | None = None
    disk_expiration: StorageExpiration | None = None
    memory_extension: AccessExtension | None = None
    disk_extension: AccessExtension | None = None
    max_retry_after: float | None = None
    protection: Protection | None = None
    max_age: float | None = None
    max_stale: float | None = None
    min_fresh: float | None = None
    stale_if_error: float | None = None
    expected_etag: str | None = None
    unmodified_since: float | None = None
    alternatives: tuple[ImageRequest, ...] = ()

    @property
    def about(self) -> str:
        """The URL as far as it is sent: a fragment never is."""
        return self.url.partition("#")[0]

    def __repr__(self) -> str:
        return f"ImageRequest({shown_url(self.url)}, {self.policy.name}, {self.headers!r})"

    @property
    def demands(self) -> tuple[object, ...]:
        """What the call asks of the answer besides its policy: part of what makes two calls the same."""
        return (self.max_age, self.max_stale, self.min_fresh, self.expected_etag, self.unmodified_since)

    @property
    def has_demands(self) -> bool:
        """Whether there is any of them."""
        return not (
            self.max_age is None
            and self.max_stale is None
            and self.min_fresh is None
            and self.expected_etag is None
            and self.unmodified_since is None
        )

    @property
    def is_particular(self) -> bool:
        """Whether a stored copy that the policy would serve may still not do for this call."""
        return self.has_demands or "cache-control" in self.headers or "pragma" in self.headers
