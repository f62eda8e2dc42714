"""Faults of disk and index: counted always, told once until things work again. Nothing is decided here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("imagecache")

Tell = Callable[[str, Exception], None]


class FaultLog:
    """What went wrong with one folder. Safe from any thread.

    Listeners are called, in the thread where it happened, with the name of what failed ("open", "read", "read a
    file", "write", "write a file", "use the index") and the error; again only after the same has worked in between.
    """

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.last: Exception | None = None
        self._folder = folder
        self._failing: dict[str, Exception] = {}
        self._listeners: list[tuple[object, Tell]] = []
        self._lock = threading.Lock()

    def listen(self, owner: object, tell: Tell) -> None:
        """Add a listener; what fails already is told now. The folder may have been opened before anybody listened."""
        with self._lock:
            self._listeners = [*self._listeners, (owner, tell)]
            failing = dict(self._failing)
        for what, error in failing.items():
            tell(what, error)

    def leave(self, owner: object) -> None:
        """Remove the owner's listeners."""
        with self._lock:
            self._listeners = [listener for listener in self._listeners if listener[0] is not owner]

    def report(self, what: str, error: Exception, consequence: str = "") -> None:
        """That failed, and this is what comes of it."""
        with self._lock:
            self.count += 1
            self.last = error
            is_known = what in self._failing
            self._failing[what] = error
            listeners = self._listeners
        if is_known:
            return
        cause = f"{type(error).__name__}: {error}" + (f"; {consequence}" if consequence else "")
        logger.warning("the image cache in %s cannot %s: %s", self._folder, what, cause)
        for _, tell in listeners:
            tell(what, error)

    def works(self, what: str) -> None:
        """That worked; should it fail again, it is news."""
        if what in self._failing:
            with self._lock:
                self._failing.pop(what, None)
