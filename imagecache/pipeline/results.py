"""What a call gives back: an image with how it was come by, in words and in the terms of RFC 9211."""

from __future__ import annotations

import math
from functools import partial

from ..cache_status import CacheStatus
from ..entry import Entry
from ..errors import NotInCacheError
from ..imaging.animation import open_animation
from ..keys import display_url
from ..metrics import Metrics
from ..protocols import Animation
from ..result import ImageResult, ServedFrom
from .cached import CachedImage
from .load import Loader
from .loaded import Loaded
from .parts import Parts

OPENED_BYTES_PER_PIXEL = {"ICO": 8, "WEBP": 8}
"""An icon is decoded, and a WebP gets its canvases, as it is opened; to open any other takes next to nothing."""


class Results:
    """Makes the results of one manager's calls."""

    def __init__(self, parts: Parts, loader: Loader) -> None:
        self._parts = parts
        self._loader = loader

    def from_memory(self, url: str, cached: CachedImage, metrics: Metrics) -> ImageResult:
        """The result of a memory hit."""
        parts = self._parts
        stale, stamp = parts.clock.time() >= cached.fresh_until, parts.currency.stamp(cached.entry.row.key_hash)
        loaded = Loaded(cached.entry, None, ServedFrom.MEMORY, may_keep=True, stamp=stamp, stale=stale)
        return self.of(url, cached, loaded, ServedFrom.MEMORY, metrics)

    def of(self, url: str, cached: CachedImage, loaded: Loaded, source: ServedFrom, metrics: Metrics) -> ImageResult:
        """The result of a call for ``url``; ``source`` is where its image came from."""
        entry, headers, now = loaded.entry, loaded.entry.headers, self._parts.clock.time()
        if source is not ServedFrom.NETWORK:
            # RFC 9111, 4: what comes from a cache tells its age.
            headers = headers.updated({"Age": str(max(0, int(now - cached.born_at)))})
        measured = loaded.measured
        if loaded.stored is not None and measured is not None:
            # The caller's metrics are its own; who stored for all knows only later how long that took.
            loaded.stored.add_done_callback(lambda _: setattr(metrics, "store", measured.store))
        return ImageResult(
            image=cached.hand_out(),
            url=display_url(url),
            final_url=entry.final_url,
            status=entry.status,
            headers=headers,
            served_from=source,
            revalidated=loaded.revalidated,
            changed=loaded.changed,
            stale=loaded.stale,
            etag=entry.etag,
            format=entry.format,
            byte_count=entry.byte_count,
            checksum=entry.checksum,
            redirects=loaded.redirects,
            metrics=metrics,
            cache_status=_status_of(loaded, source, ttl=cached.ttl(now), collapsed=metrics.shared),
            read_data=partial(self._read_data, loaded),
            open_animation=partial(self._open_animation, entry=entry),
        )

    async def _read_data(self, loaded: Loaded) -> bytes:
        body = loaded.body if loaded.body is not None else await self._loader.read_stored(loaded)
        if body is None:
            raise NotInCacheError("the bytes of this image are no longer stored", url=loaded.entry.url)
        return body

    async def _open_animation(self, body: bytes, *, entry: Entry) -> Animation:
        cost = (entry.width or 0) * (entry.height or 0) * OPENED_BYTES_PER_PIXEL.get(entry.format or "", 0)
        return await self._parts.workers.run(open_animation, body, self._parts.rules.limits, entry.url, cost=cost)


def whole_seconds(seconds: float) -> int:
    """Seconds as a field value has them."""
    return math.floor(max(-(2.0**31), min(seconds, 2.0**31)))


def _status_of(loaded: Loaded, source: ServedFrom, *, ttl: float, collapsed: bool) -> CacheStatus:
    if loaded.forward is None:
        return CacheStatus(hit=True, ttl=whole_seconds(ttl), detail=source.value)
    return CacheStatus(
        forward=loaded.forward,
        forward_status=loaded.forward_status,
        stored=loaded.stored is not None,
        collapsed=collapsed,
        ttl=whole_seconds(ttl) if loaded.may_keep else None,
        detail=source.value,
    )
