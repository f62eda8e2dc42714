"""What is certainly not stored, known without asking the index: most misses need no thread and no SQL.

A byte stands for every so many beginnings of key hashes; it is set where something may be stored. What is removed stays
set, and two keys may share a byte: both cost a look into the index, as every hit does. The index is gone through by the
writer's thread, a slice at a time, and only while nobody else writes to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from .rows import number_of

PLACES = 16
"""Bytes for each entry there is when the index is gone through. When there are twice as many, it is gone through again;
until then, at most every eighth miss asks the index all the same."""
FEWEST = 2**16
MOST_ENTRIES = 2**18
"""Of more, too many pages would have to be read before it is of any use; what is known takes 8 MiB at most."""
SLICE = 4096
"""Keys gone through in one turn of the writer's thread: a millisecond or two."""

_Table = tuple[bytearray, int]
"""Bytes, and the mask that makes a place in them of a number."""


class Keys(Protocol):
    """The index, as far as it is gone through."""

    def version(self) -> int: ...

    def count(self) -> int: ...

    def numbers_after(self, number: int, limit: int) -> Sequence[object]: ...


def _table(entries: int) -> _Table:
    size = max(FEWEST, 1 << (entries * PLACES - 1).bit_length()) if entries else FEWEST
    return bytearray(size), size - 1


class Absence:
    """What is known not to be there."""

    __slots__ = ("_added", "_epoch", "_limit", "_lock", "_next", "_table", "_version")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table = _table(0)
        # Of which opening of the index it is complete; 0 while it is not.
        self._epoch = 0
        # Behind which number the writer's thread goes on; None while it does not.
        self._next: int | None = None
        self._version = 0
        self._added = 0
        self._limit = 0

    # From any thread

    def holds_in_new_folder(self, key_hash: str) -> bool:
        """Whether nothing waits to be stored under a key hash, where there was no folder when this was made."""
        places, mask = self._table
        return not places[number_of(key_hash) & mask]

    def holds(self, key_hash: str, epoch: int) -> bool:
        """Whether nothing is stored under a key hash in that opening of the index; False where nobody knows."""
        places, mask = self._table
        return self._epoch == epoch > 0 and not places[number_of(key_hash) & mask]

    def add(self, key_hash: str) -> None:
        """Something waits to be stored under it: to be called once it is seen in the queue."""
        with self._lock:
            places, mask = self._table
            places[number_of(key_hash) & mask] = 1
            self._added += 1

    # In the writer's thread

    def forget(self) -> None:
        """Others store there, too: nothing is known from now on."""
        self._epoch, self._next = 0, None

    def learn(self, index: Keys, epoch: int, queued: Callable[[], Iterable[str]]) -> bool:
        """Go through the next of what is there; whether there is more. Nothing where all is known already.

        ``queued`` gives the key hashes of all that waits to be written.
        """
        if self._next is None:
            # Others may have come and gone between two looks for company; their commits are seen all the same.
            is_known = self._epoch == epoch and index.version() == self._version and self._added <= self._limit
            if is_known or not self._begin(index, queued):
                return False
            self._next = -2
        places, mask = self._table
        numbers = index.numbers_after(self._next, SLICE)
        for number in numbers:
            if not isinstance(number, int):
                # Damage, which whoever reads that row sees to. Here it only means that nobody knows.
                self._next = None
                return False
            places[number & mask] = 1
            self._next = number
        if len(numbers) == SLICE:
            return True
        self._next, self._epoch = None, epoch
        return False

    def _begin(self, index: Keys, queued: Callable[[], Iterable[str]]) -> bool:
        self._epoch = 0
        # In this order: what comes between the two is gone through, and then again.
        self._version = index.version()
        count = index.count()
        if count > MOST_ENTRIES:
            return False
        with self._lock:
            # Whoever stores is in the queue first and comes here then: what is not seen in the one is told to the
            # other, and what has left the queue is in the index.
            self._table = places, mask = _table(count)
            self._added, self._limit = 0, max(count, FEWEST // PLACES)
            for key_hash in queued():
                places[number_of(key_hash) & mask] = 1
        return True
