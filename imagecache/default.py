"""The module's own functions: one lazily made manager for each running event loop.

aiohttp and Pillow take a good part of a second to import. Where the first use of a function here is what brings
them in, that happens in a thread, so that the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from .request import FetchOptions, ResponseOptions
from .result import CachedResponse, ImageResult

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from PIL import Image

    from .http.explanation import Explanation
    from .manager import ImageManager
    from .pipeline.prefetcher import Crew, ImagePrefetcher, PrefetchOptions, Urls

MANAGER_MODULE = f"{__package__}.manager"
_running_loop = asyncio.get_running_loop
"""By one name: a memory hit is short."""


def _make_manager(name: str | None, options: Mapping[str, Any]) -> ImageManager:
    from .manager import ImageManager

    return ImageManager(**options) if name is None else ImageManager(name, **options)


class _DefaultManagers:
    """The managers of the running loops, and how the next one is made."""

    def __init__(self) -> None:
        self._managers: dict[asyncio.AbstractEventLoop, ImageManager] = {}
        # The same, where nothing overrides it: a memory hit has no time for questions.
        self.at_hand = self._managers
        # Every thread may have a loop of its own.
        self._lock = threading.Lock()
        self._name: str | None = None
        self._options: Mapping[str, Any] = {}
        self._spare: ImageManager | None = None
        self._override: Callable[[], ImageManager] | None = None

    def get(self) -> ImageManager:
        """The manager of the running loop."""
        if self._override is not None:
            return self._override()
        loop = asyncio.get_running_loop()
        manager = self._managers.get(loop)
        if manager is None or manager.is_closed:
            with self._lock:
                self._drop_closed()
                # The one that was made to check the options will do for the first loop.
                spare, self._spare = self._spare, None
                manager = self._managers[loop] = spare or _make_manager(self._name, self._options)
            # From here on the end of the loop closes it, whichever of its parts is used.
            manager.start()
        return manager

    async def ready(self) -> ImageManager:
        """The same, with what it needs imported first, off the loop."""
        if MANAGER_MODULE not in sys.modules:
            await asyncio.to_thread(import_module, MANAGER_MODULE)
        return self.get()

    def configure(self, name: str, options: Mapping[str, Any]) -> None:
        with self._lock:
            self._drop_closed()
        if self._managers:
            raise RuntimeError("configure() comes before the first use of imagecache's own functions")
        self._spare = _make_manager(name, options)  # A wrong argument is told here, not at the first fetch.
        self._name, self._options = name, options

    def _drop_closed(self) -> None:
        # A loop's end closes its manager, but the loop itself would be held here for ever.
        for loop in [loop for loop in self._managers if loop.is_closed()]:
            del self._managers[loop]

    @property
    def is_overridden(self) -> bool:
        return self._override is not None

    @contextmanager
    def override(self, manager: Callable[[], ImageManager]) -> Iterator[None]:
        before, self._override = (self._override, self.at_hand), manager
        self.at_hand = {}
        try:
            yield
        finally:
            self._override, self.at_hand = before


_defaults = _DefaultManagers()


def configure(name: str, **options: Any) -> None:
    """Set up the manager behind the module's own functions: the arguments are ImageManager's.

    Raises RuntimeError if a manager is in use already, ValueError or TypeError for wrong arguments.
    """
    _defaults.configure(name, options)


def default_manager() -> ImageManager:
    """The manager behind the module's own functions, on the running event loop."""
    return _defaults.get()


def override_default(manager: ImageManager | Callable[[], ImageManager]) -> AbstractContextManager[None]:
    """A context manager in which the module's own functions use this manager, or what a function gives; for tests."""
    return _defaults.override(manager if callable(manager) else lambda: manager)


def is_default_overridden() -> bool:
    """Whether the module's own functions use what :func:`override_default` gave them; for tests."""
    return _defaults.is_overridden


async def fetch_image(url: str, **options: Unpack[FetchOptions]) -> Image.Image:
    """``ImageManager.fetch_image`` of the running loop's own manager."""
    # As the manager's own method does: to call that would cost a hit a coroutine and another dict of the options.
    manager = _defaults.at_hand.get(_running_loop())
    if manager is not None:
        # Of a closed one there is none.
        cached = manager._short_cut(url, options)
        if cached is not None:
            return cached.pixels.view(cached)
        if not manager.is_closed:
            return await manager._look_further(url, options)
    return await (await _defaults.ready()).fetch_image(url, **options)


async def fetch(url: str, **options: Unpack[FetchOptions]) -> ImageResult:
    """``ImageManager.fetch`` of the running loop's own manager."""
    return await (await _defaults.ready()).fetch(url, **options)


async def fetch_data(
    url: str, *, format: str | None = None, quality: int | None = None, **options: Unpack[FetchOptions]
) -> bytes:
    """``ImageManager.fetch_data`` of the running loop's own manager."""
    return await (await _defaults.ready()).fetch_data(url, format=format, quality=quality, **options)


async def fetch_file(
    url: str,
    *,
    to: str | os.PathLike[str] | None = None,
    format: str | None = None,
    quality: int | None = None,
    **options: Unpack[FetchOptions],
) -> Path:
    """``ImageManager.fetch_file`` of the running loop's own manager."""
    return await (await _defaults.ready()).fetch_file(url, to=to, format=format, quality=quality, **options)


async def fetch_response(url: str, **options: Unpack[ResponseOptions]) -> CachedResponse:
    """``ImageManager.fetch_response`` of the running loop's own manager."""
    return await (await _defaults.ready()).fetch_response(url, **options)


async def explain(url: str, **options: Unpack[FetchOptions]) -> Explanation:
    """``ImageManager.explain`` of the running loop's own manager."""
    return await (await _defaults.ready()).explain(url, **options)


def prefetch(urls: Urls, **options: Unpack[PrefetchOptions]) -> ImagePrefetcher:
    """``ImageManager.prefetch`` of the running loop's own manager."""
    from .pipeline.prefetcher import ImagePrefetcher

    async def crew() -> Crew:
        return await (await _defaults.ready())._crew()

    return ImagePrefetcher(urls, crew, options)
