"""What is still to be written: a bounded queue that readers see through. No thread, no I/O; safe from any thread.

An operation stays visible until it is committed, not until it is taken: a read that comes while the writer is in
its transaction finds it here or in the index, never in neither.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..entry import RowKey
from .access import Access
from .operations import Clear, Discard, Operation, Put, Refresh
from .sightings import Sightings

MAX_ROWS = 8_192
MAX_BYTES = 64 * 2**20
"""Bounds of the queue: beyond them a put is refused, and stays in memory only."""
BATCH_ROWS = 512
BATCH_BYTES = 4 * 2**20
"""A batch is written at the latest when it has grown to this."""
TOUCHED_ROWS = 256
"""Accesses that are written at the latest when there are so many."""


@dataclass(slots=True, eq=False)
class Queued:
    """An operation, who asked for it, and whom to tell, if anybody. The answer's type is the operation's own.

    ``told`` is called on the loop with the answer, before whoever awaits it goes on: unlike a callback of the future's,
    without a turn of the loop of its own.
    """

    operation: Operation[Any]
    future: asyncio.Future[Any] | None
    loop: asyncio.AbstractEventLoop | None
    origin: object
    told: Callable[[Any], object] | None = None
    is_ended: bool = False


_MAY_BE_LEFT_OUT = (Put, Refresh)

Accesses = dict[str, dict[RowKey, Access]]
"""By key hash, and row."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Operations in order, whether all that is in the index is about to be cleared, and accesses."""

    operations: list[Operation[Any]]
    is_cleared: bool
    accesses: dict[RowKey, Access]


def _note(accesses: Accesses, row: RowKey, access: Access) -> None:
    of_key = accesses.setdefault(row.key_hash, {})
    of_key[row] = access.after(of_key.get(row))


class WriteQueue:
    """Operations in order, and accesses. Each ends what was sighted of its key."""

    def __init__(self, sightings: Sightings) -> None:
        self._sightings = sightings
        self._lock = threading.Lock()
        self._queue: deque[Queued] = deque()
        self._bytes = 0
        self._by_key: dict[str, list[Operation[Any]]] = {}
        self._clears = 0
        self._touched: Accesses = {}
        # Taken by the writer, and not committed yet.
        self._touched_before: Accesses = {}

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._queue or self._touched)

    @property
    def is_batch_full(self) -> bool:
        """Whether waiting for more would gain nothing."""
        return len(self._queue) >= BATCH_ROWS or self._bytes >= BATCH_BYTES or len(self._touched) >= TOUCHED_ROWS

    def has_room(self, size: int) -> bool:
        """Whether a put of so many bytes would be taken now."""
        return len(self._queue) < MAX_ROWS and self._bytes + size <= MAX_BYTES

    def add(self, queued: Queued) -> bool:
        """Append an operation; False if the queue is full and it is one that may be left out."""
        operation = queued.operation
        with self._lock:
            if isinstance(operation, _MAY_BE_LEFT_OUT):
                if not self.has_room(operation.size):
                    return False
            elif isinstance(operation, Discard):
                # One comes with each put that is refused. What it would take out is an answer that still counts by
                # its own metadata: better that than a queue without an end.
                if len(self._queue) >= 2 * MAX_ROWS:
                    return False
            elif isinstance(operation, Clear):
                self._by_key.clear()
                self._touched.clear()
                self._clears += 1
            self._queue.append(queued)
            self._bytes += operation.size
            self._by_key.setdefault(operation.key_hash, []).append(operation)
        if isinstance(operation, Clear):
            self._sightings.change_all()
        elif operation.key_hash:
            self._sightings.change(operation.key_hash)
        return True

    def add_behind(self, queued: Queued, other: Queued) -> None:
        """Put another operation on the same key behind one that was taken and is not done; the taker does it, too."""
        with self._lock:
            self._queue.insert(self._queue.index(queued) + 1, other)
            self._bytes += other.operation.size
            operations = self._by_key.get(queued.operation.key_hash, [])
            for position, operation in enumerate(operations):
                # Unless a clear came since, which hid it.
                if operation is queued.operation:
                    operations.insert(position + 1, other.operation)
                    break

    def touch(self, row: RowKey, access: Access) -> bool:
        """Note an access; whether so many wait that they should be written."""
        with self._lock:
            _note(self._touched, row, access)
            return len(self._touched) >= TOUCHED_ROWS

    def take(self) -> tuple[list[Queued], Accesses]:
        """The next batch, which stays visible until it is `done`; a clear is a batch of its own. One taker only."""
        with self._lock:
            batch: list[Queued] = []
            size = 0
            for queued in islice(self._queue, BATCH_ROWS):
                if queued.is_ended:
                    continue
                if isinstance(queued.operation, Clear):
                    batch = batch or [queued]
                    break
                batch.append(queued)
                size += queued.operation.size
                if size >= BATCH_BYTES:
                    break
            if len(batch) == len(self._queue):
                # Else one of them may be an access to a row that is still to be put.
                for accesses in self._touched.values():
                    for row, access in accesses.items():
                        _note(self._touched_before, row, access)
                self._touched = {}
            return batch, self._touched_before

    def done(self, batch: list[Queued]) -> None:
        """Those have been written, or given up, in whatever order."""
        with self._lock:
            for queued in batch:
                queued.is_ended = True
                self._bytes -= queued.operation.size
                if isinstance(queued.operation, Clear):
                    self._clears -= 1
                self._hide(queued.operation)
            while self._queue and self._queue[0].is_ended:
                self._queue.popleft()

    def done_touching(self) -> None:
        """The accesses that were taken have been written, or given up."""
        with self._lock:
            self._touched_before = {}

    def key_hashes(self) -> list[str]:
        """Of all that waits."""
        with self._lock:
            return list(self._by_key)

    def pending(self, key_hash: str) -> Pending:
        """What waits for a key hash. To be asked before the index: what was written in between is then seen twice,
        where it would else be seen nowhere."""
        with self._lock:
            accesses = dict(self._touched_before.get(key_hash, ()))
            for row, access in self._touched.get(key_hash, {}).items():
                accesses[row] = access.after(accesses.get(row))
            return Pending(list(self._by_key.get(key_hash, ())), self._clears > 0, accesses)

    def _hide(self, operation: Operation[Any]) -> None:
        # A clear that came later has hidden it already. By identity: equal operations are still two.
        waiting = self._by_key.get(operation.key_hash, [])
        for position, other in enumerate(waiting):
            if other is operation:
                del waiting[position]
                break
        if not waiting:
            self._by_key.pop(operation.key_hash, None)
