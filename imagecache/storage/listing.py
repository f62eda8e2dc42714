"""Going through everything that is stored, in an order, a slice at a time, so that any number of entries will do."""

from __future__ import annotations

import functools
from array import array
from collections.abc import AsyncIterator

from ..entry import Entry
from .rows import Order, Row, Slice, rows_after, rows_by_id, sorted_ids
from .store import Store

SLICE = 256


async def entries_of(store: Store, order: Order, *, is_descending: bool) -> AsyncIterator[Entry]:
    """Every entry of a store; what is removed meanwhile is passed over."""
    if order == "added" and not is_descending:
        async for entry in _as_added(store):
            yield entry
        return
    row_ids = await store.readers.run(
        functools.partial(sorted_ids, order=order, is_descending=is_descending), array("q")
    )
    for start in range(0, len(row_ids), SLICE):
        nothing: list[Row] = []
        some = functools.partial(rows_by_id, row_ids=row_ids[start : start + SLICE])
        for row in await store.readers.run(some, nothing):
            yield row.entry


async def _as_added(store: Store) -> AsyncIterator[Entry]:
    # The order of the ids themselves: nothing has to be sorted.
    after: int | None = 0
    while after is not None:
        found = await store.readers.run(functools.partial(rows_after, row_id=after, limit=SLICE), Slice())
        after = found.after
        for row in found.rows:
            yield row.entry
