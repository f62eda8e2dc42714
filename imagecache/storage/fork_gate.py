"""Where SQLite is used by turns with forks: whoever uses it goes through the gate, and a fork shuts it.

SQLite remembers in its own memory which locks this process holds on a file. A child that inherits that memory
believes to hold what only its parent does, also for connections that it opens itself: it finds the index locked for
ever if the parent was in a transaction, and writes to a log that others have deleted if it was not. So no connection
may be open, and no call of SQLite's under way, at the moment of a fork.
"""

from __future__ import annotations

import threading
from types import TracebackType

FORK_PATIENCE = 5.0
"""Seconds that a fork waits for what is under way. A transaction takes milliseconds; a disk that hangs never ends."""


class ForkGate:
    """Lets any number of threads through, but none while it is shut. Not to be entered twice by one thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_shut = False

    def __enter__(self) -> None:
        with self._changed:
            while self._is_shut:
                self._changed.wait()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            if self._is_shut:
                self._changed.notify_all()

    def shut(self, timeout: float) -> bool:
        """Let nobody in until `open`, and wait until all are out; whether they are."""
        with self._changed:
            self._is_shut = True
            return self._changed.wait_for(lambda: not self._inside, timeout)

    def open(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._is_shut = False
            self._changed.notify_all()
