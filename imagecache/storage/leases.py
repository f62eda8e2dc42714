"""Who loads what several processes want at the same moment: a short lease in the index, where anybody shares it.

A lease is a courtesy, not a lock: it ends by itself, and whoever cannot ask for one goes ahead.
"""

from __future__ import annotations

from ..clock import Clock
from ..entry import RowKey
from .index import Index
from .store import Store
from .writer import UNUSABLE

LEASE_SECONDS = 2.0
"""What a dead holder delays the others by, at most."""
COMPANY_SECONDS = 1.0
"""How long it is taken for granted that other processes do, or do not, share the folder."""


class Leases:
    """The leases that one storage asks for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._has_company = False
        self._seen = float("-inf")

    async def acquire(self, store: Store, row: RowKey) -> bool:
        """Whether this process is the one to load a row; True where nobody else could be, or nobody can be asked."""
        holder, now = store.writer_id, self._clock.time()

        def ask(index: Index) -> bool:
            with index.transaction():
                return index.lease(row, holder, now, now + LEASE_SECONDS)

        try:
            return not await self._is_shared(store) or await store.writer.call(ask)
        except UNUSABLE:
            return True

    def release(self, store: Store, row: RowKey) -> None:
        """Give a lease back, in the background."""
        if not self._has_company:
            return
        holder = store.writer_id

        def give_back(index: Index) -> None:
            with index.transaction():
                index.release(row, holder)

        store.writer.start(give_back)

    async def _is_shared(self, store: Store) -> bool:
        now = self._clock.monotonic()
        if now - self._seen >= COMPANY_SECONDS:
            self._seen = now
            self._has_company = await store.writer.call(lambda _: store.has_company())
        return self._has_company
