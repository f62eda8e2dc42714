"""Asking the server about copies that were served already: once at a time for each, and nobody waits for it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import replace

from ..errors import ImageCacheError
from ..keys import display_url, shown_url
from ..request import CachePolicy, ImageRequest, Priority
from .flight import Caller
from .load import NO_BODY, Loader
from .parts import Parts
from .pixels import PixelStage

logger = logging.getLogger("imagecache")

PAUSE = 60.0
"""Seconds before a copy is asked about again after that failed: a server that is down is not asked at every hit."""
REMEMBERED_PAUSES = 1024


class RefreshBehind:
    """Revalidates behind the calls. Whoever caused it may be cancelled meanwhile."""

    def __init__(self, parts: Parts, loader: Loader, pixels: PixelStage, *, timeout: float | None) -> None:
        self._parts = parts
        self._loader = loader
        self._pixels = pixels
        self._timeout = timeout
        self._running: set[object] = set()
        self._paused_until: OrderedDict[object, float] = OrderedDict()

    def ask(self, request: ImageRequest) -> None:
        """See to it that the server is asked about what was served for this request."""
        identity = (request.url, request.key_hash, request.partition, request.headers)
        is_paused = self._parts.clock.monotonic() < self._paused_until.get(identity, 0.0)
        if identity in self._running or is_paused:
            return
        self._running.add(identity)
        # The caller's own timeout, progress and priority went with the caller, and what it asked of the answer.
        behind = replace(
            request,
            policy=CachePolicy.REVALIDATE,
            progress=None,
            priority=Priority.LOW,
            max_age=None,
            max_stale=None,
            min_fresh=None,
            expected_etag=None,
            unmodified_since=None,
        )
        self._parts.flights.start(self._refresh(behind, identity))

    async def _refresh(self, request: ImageRequest, identity: object) -> None:
        parts, url = self._parts, display_url(request.url)
        try:
            caller = Caller(parts.deadlines, url=url, priority=Priority.LOW, timeout=self._timeout)
            loaded = await self._loader.load(request, caller, up_to=NO_BODY)
            if loaded.stale:
                # The stored copy in place of a server that fails is no news.
                self._pause(identity)
                return
            if loaded.changed and not parts.cache.disk.is_available:
                # Memory is all there is: what was just loaded would be loaded once more for the next caller.
                made = await self._pixels.make(loaded, request, caller)
                parts.remember(made.cached)
            parts.delegates.notify("did_refresh_image", url, loaded.changed)
        except ImageCacheError as error:
            logger.debug("revalidating %s behind failed: %s", shown_url(url), error)
            self._pause(identity)
        finally:
            self._running.discard(identity)

    def _pause(self, identity: object) -> None:
        self._paused_until[identity] = self._parts.clock.monotonic() + PAUSE
        while len(self._paused_until) > REMEMBERED_PAUSES:
            self._paused_until.popitem(last=False)
