"""Taking rows out: what has expired, what is over the limit, everything. In slices, so that no other writer waits long.

Blocking, for the writer's thread. Each slice is a transaction of its own; the body files go after its commit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..entry import Protection
from .index import INDEX_ALLOWANCE, ROW_COST, Candidate, Index, Position

SLICE = 256
"""Rows a transaction: some milliseconds, far below the time that another process waits."""
VACUUM_PAGES = 256
"""Pages moved in one go."""


def trim(index: Index, limit: int, down_to: int, protection: Protection | None = None) -> Iterator[list[str]]:
    """Evict least recently used rows until what counts towards ``limit`` is ``down_to`` bytes or less.

    Yields, after each slice, the key hashes of which an image went. Ends early when only pinned and protected rows
    are left.
    """
    after: Position = (-math.inf, -math.inf, 0)
    while (excess := index.weight(limit) - down_to) > 0:
        with index.transaction():
            candidates = index.oldest(after, SLICE)
            chosen = _choose(candidates, excess, protection)
            index.delete(candidate.row_id for candidate in chosen)
        if not candidates:
            index.doubt_totals()
            return
        after = candidates[-1].position
        tidy(index)
        yield list(dict.fromkeys(c.row.key_hash for c in chosen if c.row.namespace == "image"))


def _choose(candidates: list[Candidate], excess: int, protection: Protection | None) -> list[Candidate]:
    chosen = []
    for candidate in candidates:
        if excess <= 0:
            break
        if protection is None or candidate.row not in protection:
            chosen.append(candidate)
            excess -= candidate.cost + ROW_COST
    return chosen


def expire(index: Index, now: float, after: float) -> tuple[list[str], float] | None:
    """Delete a slice of what has expired, from the last access ``after`` (-inf for the first) on.

    Returns the key hashes of which an image went, and where to go on from; None when nothing is left.
    """
    # Outside the transaction: where little or nothing has expired, this looks at every row there is.
    found = index.expired(now, after, SLICE)
    if not found:
        return None
    with index.transaction():
        gone = index.delete_expired(found, now)
    tidy(index)
    return list(dict.fromkeys(row.key_hash for row in gone if row.namespace == "image")), found[-1].last_access


def clear(index: Index) -> int:
    """Delete every row that is there now; how many went."""
    highest, count = index.last_id(), 0
    while True:
        with index.transaction():
            row_ids = index.ids_up_to(highest, SLICE)
            index.delete(row_ids)
        tidy(index)
        if not row_ids:
            break
        count += len(row_ids)
    # Now it costs nothing.
    index.recount()
    while shrink(index, 0):
        pass
    return count


def shrink(index: Index, limit: int) -> bool:
    """Give some free pages back to the file system, if the index is larger than ``limit`` bytes or most of it is
    free; whether to go on.

    Not after every eviction: what comes next needs the pages again, and to free the last of a file is to move the
    ones that are in use.
    """
    return index.vacuum(VACUUM_PAGES, over=min(limit, 2 * index.bytes_in_use() + INDEX_ALLOWANCE))


def tidy(index: Index) -> None:
    """Unlink the body files that no row refers to any more."""
    index.bodies.drop_left()
    while trash := index.trash(SLICE):
        gone = [rowid for rowid, file in trash if index.bodies.remove(file)]
        if not gone:
            # Windows keeps a file that is being read; the next round tries again.
            break
        with index.transaction():
            index.forget_trash(gone)
