"""Whether anything has happened to what is stored under a key: who has read it before need not read it again.

A sighting is taken before a key is read, or after something was queued for it, and holds as long as nothing else is
queued for it, nothing of that fails, and no row is deleted or changed in another way. It may cease to hold for no
reason, which costs a look into the index. What other processes do is seen when they are looked for: see `leases`.
"""

from __future__ import annotations

import secrets
import threading

from .rows import number_of

PLACES = 2**16
"""Keys that share one disturb each other's sightings. Four bytes each; the system gives memory for those in use."""

Sighting = tuple[int, int, int]
"""A place, what had happened to all keys by then, and what to those of that place."""


class Sightings:
    """Counts what happens to the keys of one store. Safe from any thread.

    A change is counted after it can be seen: a sighting that was taken before that ceases to hold, and whoever takes
    one after it sees the change.
    """

    __slots__ = ("_lock", "_of_all", "_of_place", "_version")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Not from 0: a process that came by a fork has its parent's, and stores of its own.
        self._of_all = secrets.randbits(62)
        self._of_place = memoryview(bytearray(4 * PLACES)).cast("I")
        self._version: int | None = None

    def take(self, key_hash: str) -> Sighting:
        """A sighting of a key as it is now."""
        place = number_of(key_hash) % PLACES
        return place, self._of_all, self._of_place[place]

    def hold(self, sighting: Sighting) -> bool:
        """Whether nothing has happened since, as far as this process knows."""
        place, of_all, of_place = sighting
        return of_all == self._of_all and of_place == self._of_place[place]

    def change(self, key_hash: str) -> None:
        """Something was queued for a key, or failed."""
        place = number_of(key_hash) % PLACES
        with self._lock:
            self._of_place[place] = (self._of_place[place] + 1) % 2**32

    def change_all(self) -> None:
        """Rows were deleted or changed, whichever; or the index is another."""
        with self._lock:
            self._of_all += 1

    def begin(self, version: int) -> None:
        """The index was opened, and may be another than before."""
        self._version = version
        self.change_all()

    def heed(self, version: int) -> None:
        """The index is in this state by what others committed; those may have changed anything."""
        if version != self._version:
            self._version = version
            self.change_all()
