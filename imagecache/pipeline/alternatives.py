"""One source after the other, until one gives an image. What a source is asked, and how, is the manager's."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import DownloadCancelledError, ImageCacheError, ManagerClosedError, WrongLoopError
from ..keys import display_url
from ..request import ImageRequest

logger = logging.getLogger("imagecache")

T = TypeVar("T")

_FINAL = (DownloadCancelledError, ManagerClosedError, WrongLoopError)
"""What says nothing about the source, and would meet the next one, too."""


async def first_that_succeeds(request: ImageRequest, attempt: Callable[[ImageRequest], Awaitable[T]]) -> T:
    """What ``attempt`` makes of the request, or of the first of its alternatives that does not fail (Kingfisher's
    ``alternativeSources``: after all tries of the one before, each under its own URL).

    Raises the last one's error, with those of all before it as its ``errors`` and its notes.
    """
    if not request.alternatives:
        return await attempt(request)
    failed: list[ImageCacheError] = []
    for source in (request, *request.alternatives):
        try:
            return await attempt(source)
        except _FINAL:
            raise
        except ImageCacheError as error:
            logger.debug("%s failed, and may have an alternative: %s", display_url(source.url), error)
            failed.append(error)
    last = failed.pop()
    for before in failed:
        last.add_note(f"tried before: {before}")
    last.errors = tuple(failed)
    raise last
