"""What is still to be written: a bounded queue that readers see through. No thread, no I/O; safe from any thread.

An operation stays visible until it is committed, not until it is taken: a read that comes while the writer is in
its transaction finds it here or in the index, never in neither.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..entry import RowKey
from .operations import Clear, Discard, Operation, Put, Refresh

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
    """An operation, who asked for it, and whom to tell, if anybody. The answer's type is the operation's own."""

    operation: Operation[Any]
    future: asyncio.Future[Any] | None
    loop: asyncio.AbstractEventLoop | None
    origin: object
    is_ended: bool = False


class WriteQueue:
    """Operations in order, and accesses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Queued] = deque()
        self._bytes = 0
        self._by_key: dict[str, list[Operation[Any]]] = {}
        self._clears = 0
        self._touched: dict[RowKey, float] = {}
        # Taken by the writer, and not committed yet.
        self._touched_before: dict[RowKey, float] = {}

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

    def add(self, queued: Queued) -> bool:
        """Append an operation; False if the queue is full and it is one that may be left out."""
        operation = queued.operation
        with self._lock:
            if isinstance(operation, Put | Refresh):
                if len(self._queue) >= MAX_ROWS or self._bytes + operation.size > MAX_BYTES:
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
        return True

    def touch(self, row: RowKey, when: float) -> bool:
        """Note an access; whether so many wait that they should be written."""
        with self._lock:
            self._touched[row] = when
            return len(self._touched) >= TOUCHED_ROWS

    def take(self) -> tuple[list[Queued], dict[RowKey, float]]:
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
                self._touched_before.update(self._touched)
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

    def pending(self, key_hash: str) -> tuple[list[Operation[Any]], bool]:
        """What waits for a key hash, in order, and whether all that is in the index is about to be cleared."""
        with self._lock:
            return list(self._by_key.get(key_hash, ())), self._clears > 0

    def touched(self, row: RowKey) -> float | None:
        """When the row was accessed, if the index does not know yet."""
        with self._lock:
            return self._touched.get(row, self._touched_before.get(row))

    def _hide(self, operation: Operation[Any]) -> None:
        # A clear that came later has hidden it already. By identity: equal operations are still two.
        waiting = self._by_key.get(operation.key_hash, [])
        for position, other in enumerate(waiting):
            if other is operation:
                del waiting[position]
                break
        if not waiting:
            self._by_key.pop(operation.key_hash, None)
