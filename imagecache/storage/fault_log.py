"""Faults of disk and index: counted always, told once until things work again. Nothing is decided here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("imagecache")


class FaultLog:
    """What went wrong with one folder. Safe from any thread.

    ``tell`` is called, in the thread where it happened, with the name of what failed ("open", "read", "write") and
    the error; again only after the same has worked in between.
    """

    def __init__(self, folder: Path, tell: Callable[[str, Exception], None]) -> None:
        self.count = 0
        self.last: Exception | None = None
        self._folder = folder
        self._tell = tell
        self._failing: set[str] = set()
        self._lock = threading.Lock()

    def report(self, what: str, error: Exception) -> None:
        """That failed."""
        with self._lock:
            self.count += 1
            self.last = error
            is_known = what in self._failing
            self._failing.add(what)
        if not is_known:
            logger.warning("the image cache in %s cannot %s: %s: %s", self._folder, what, type(error).__name__, error)
            self._tell(what, error)

    def works(self, what: str) -> None:
        """That worked; should it fail again, it is news."""
        if what in self._failing:
            with self._lock:
                self._failing.discard(what)
