"""What a cache did for one call, in the terms of RFC 9211."""

from __future__ import annotations

import math

from ..cache_status import CacheStatus
from ..result import ServedFrom
from .loaded import Loaded


def status_of(loaded: Loaded, source: ServedFrom, *, ttl: float, collapsed: bool) -> CacheStatus:
    """The status of a call. ``source`` is where its image came from; ``ttl`` its remaining freshness, seconds."""
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


def whole_seconds(seconds: float) -> int:
    """Seconds as a field value has them."""
    return math.floor(max(-(2.0**31), min(seconds, 2.0**31)))
