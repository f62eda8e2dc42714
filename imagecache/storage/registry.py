"""Which stores are open in this process: one for each real path, shared by all who use it, closed by the last.

Two managers on one folder must not be two writers that wait for each other, and one must hear of what the other
stores. A process that comes by a fork starts with none: SQLite handles must not cross it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ..clock import Clock
from .store import Store


class Registry:
    """The open stores."""

    def __init__(self) -> None:
        self._begin()
        # What a fork brought along is kept, unused: its end would close the parent's handles.
        self._inherited: list[dict[Path, Store]] = []

    def acquire(self, directory: Path, clock: Clock) -> Store:
        """The store of a folder, opened if nobody has it open. ``directory`` is a real path."""
        self._notice_fork()
        with self._lock:
            store = self._stores.get(directory)
            if store is None:
                store = self._stores[directory] = Store(directory, clock)
            store.users += 1
            return store

    async def release(self, store: Store) -> None:
        """Leave a store; the last one writes what is queued and closes it."""
        self._notice_fork()
        if store.pid != self._pid:
            return
        with self._lock:
            store.users -= 1
            is_last = store.users == 0
            if is_last:
                # Who comes from here on gets a store of its own; the two are to each other as two processes.
                del self._stores[store.directory]
        if is_last:
            await store.close()

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self._inherited.append(self._stores)
            self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        # A new one: the parent's may have been held at the moment of the fork.
        self._lock = threading.Lock()
        self._stores: dict[Path, Store] = {}


REGISTRY = Registry()
