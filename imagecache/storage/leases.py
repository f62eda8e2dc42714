"""Who loads what several processes want at the same moment: a short lease in the index, where anybody shares it.

A lease is a courtesy, not a lock: it ends by itself, and whoever cannot ask for one goes ahead.
"""

from __future__ import annotations

import sqlite3

from ..clock import Clock
from ..entry import RowKey
from .index import Index
from .keeper import is_busy
from .store import Store
from .writer import UNUSABLE

LEASE_SECONDS = 2.0
"""What a dead holder delays the others by, at most."""
COMPANY_SECONDS = 1.0
"""How long it is taken for granted that other processes do, or do not, share the folder …"""
JUST_NOW = 0.1
"""… and how long where what they stored meanwhile would be overlooked: less than it takes to start a process."""


class Leases:
    """The leases that one storage asks for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.has_company = False
        self._seen = float("-inf")
        self._looked_behind = float("-inf")

    async def acquire(self, store: Store, row: RowKey) -> bool:
        """Whether this process is the one to load a row; True where nobody else could be, or nobody can be asked."""

        def ask(index: Index) -> bool:
            # Who waited behind another one that asked, or that found the index held, need not do so again.
            if not self._is_shared(store, index) or store.writer.is_held_up:
                return True
            try:
                with index.transaction():
                    # Not before: a lease that somebody took since would be one from the future.
                    now = self._clock.time()
                    return index.lease(row, store.writer_id, now, now + LEASE_SECONDS)
            except sqlite3.Error as error:
                # Until something was written: what is to be leased is to be stored.
                store.writer.is_held_up = is_busy(error)
                raise

        if store.is_being_made:
            # Where there was no folder is nobody else.
            self._seen = self._clock.monotonic()
        if self.is_known_alone or store.writer.is_held_up:
            return True
        try:
            return await store.writer.call(ask)
        except UNUSABLE:
            return True

    def release(self, store: Store, row: RowKey) -> None:
        """Give a lease back, in the background."""
        if not self.has_company or store.writer.is_held_up:
            return

        def give_back(index: Index) -> None:
            with index.transaction():
                index.release(row, store.writer_id)

        store.writer.start(give_back)

    @property
    def is_known_alone(self) -> bool:
        """Whether nobody else had the folder open a moment ago."""
        return not self.has_company and self._clock.monotonic() - self._seen < COMPANY_SECONDS

    def was_alone_just_now(self, store: Store) -> bool:
        """The same of a shorter moment; and who asks often is told whenever that is so."""
        now = self._clock.monotonic()
        age = now - self._seen
        if age >= JUST_NOW / 2 and now - self._looked_behind >= JUST_NOW / 2 and not store.writer.is_held_up:
            self._looked_behind = now
            # Nobody waits for it.
            store.writer.start(lambda index: self._is_shared(store, index, JUST_NOW / 2))
        return age < JUST_NOW and not self.has_company

    def _is_shared(self, store: Store, index: Index, known_for: float = COMPANY_SECONDS) -> bool:
        # In the writer's thread: of many that ask at once, the first one looks.
        now = self._clock.monotonic()
        if now - self._seen >= known_for:
            self.has_company = store.has_company()
            if self.has_company:
                store.absence.forget()
            else:
                store.learn_absence(index)
                store.sightings.heed(index.version())
            self._seen = now
        return self.has_company
