"""Which stores are open in this process: one for each real path, shared by all who use it, closed by the last.

Two managers on one folder must not be two writers that wait for each other, and one must hear of what the other
stores. A process that comes by a fork starts with none: SQLite handles must not cross it. So the stores let go of
theirs before a fork; what could not, or a fork that Python was not told of, makes the folder the parent's alone.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from ..clock import Clock
from .fork_gate import FORK_PATIENCE
from .store import Store

CROSSED = (
    "this process came by a fork while its parent was using the folder, and could not be told before; "
    "fork before the first use, or start processes by spawn"
)


class Registry:
    """The open stores."""

    def __init__(self) -> None:
        # What a fork brought along is kept, unused: its end would close the parent's handles.
        self._inherited: list[Store] = []
        # The folders of those that had handles open when it came.
        self._crossed: set[Path] = set()
        self._closing: set[Store] = set()
        self._stores: dict[Path, Store] = {}
        self._begin()

    def acquire(self, directory: Path, clock: Clock) -> Store:
        """The store of a folder, opened if nobody has it open. ``directory`` is a real path."""
        self._notice_fork()
        with self._lock:
            store = self._stores.get(directory)
            if store is None:
                refusal = CROSSED if directory in self._crossed else None
                store = self._stores[directory] = Store(directory, clock, refusal)
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
                self._closing.add(store)
        if is_last:
            try:
                await store.close()
            finally:
                self._closing.discard(store)

    # Forks, in the thread that forks

    def before_fork(self) -> None:
        """Close what must not be open in two processes, and let nobody open it until the fork is done."""
        self._lock.acquire()
        deadline = time.monotonic() + FORK_PATIENCE
        for store in self._open_stores():
            if store.prepare_for_fork(max(0.0, deadline - time.monotonic())):
                self._prepared.add(store)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._prepared.clear()
        for store in self._open_stores():
            store.go_on()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing."""
        inherited = self._open_stores()
        self._inherited += inherited
        self._crossed |= {store.directory for store in inherited if store not in self._prepared}
        for store in inherited:
            store.forget_parent()
        self._begin()

    def _open_stores(self) -> list[Store]:
        return [*self._stores.values(), *self._closing]

    def _notice_fork(self) -> None:
        """A program that embeds Python may fork without a word."""
        if self._pid != os.getpid():
            self.after_fork_in_child()

    def _begin(self) -> None:
        self._pid = os.getpid()
        # A new one: the parent's may have been held at the moment of the fork.
        self._lock = threading.Lock()
        self._stores = {}
        self._closing = set()
        self._prepared: set[Store] = set()


REGISTRY = Registry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=REGISTRY.before_fork,
        after_in_parent=REGISTRY.after_fork_in_parent,
        after_in_child=REGISTRY.after_fork_in_child,
    )
