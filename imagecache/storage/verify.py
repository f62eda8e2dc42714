"""Looking at everything that is stored, byte by byte, and taking out what is not what it was.

One entry at a time, a read in a reader's thread and a look by whoever knows what the bytes should be; what is removed
goes through the writer like any other change. The reads are never in a transaction, so that nobody waits.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..entry import Entry
from .index import Index
from .keeper import is_busy
from .operations import Drop
from .record import DamagedError
from .rows import Row, Slice, rows_after
from .store import Store
from .writer import UNUSABLE

T = TypeVar("T")

SLICE = 256


class BodyCheck(Protocol):
    """Somebody who knows what bytes should be: why these cannot be what ``entry`` says, or None."""

    async def __call__(self, entry: Entry, body: bytes) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Damaged:
    """An entry that was not what it was stored as; it is gone now. ``url`` is "" where even that could not be read."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found, and has repaired.

    ``checked`` entries were sound, of ``bytes`` in all. ``totals_were_wrong`` if what the index counted was not what
    it held. ``is_index_sound`` is False for an index that SQLite itself finds broken: it was abandoned for a new one.
    """

    checked: int = 0
    bytes: int = 0
    damaged: tuple[Damaged, ...] = ()
    totals_were_wrong: bool = False
    is_index_sound: bool = True

    @property
    def is_sound(self) -> bool:
        """Whether all was well."""
        return self.is_index_sound and not self.damaged and not self.totals_were_wrong

    def __str__(self) -> str:
        found = f"{self.checked:,} entries, {self.bytes:,} bytes"
        if not self.is_index_sound:
            return "the index was broken; a new one is begun"
        lines = [f"{damaged.url or 'unreadable'}: {damaged.reason}" for damaged in self.damaged]
        wrong = ["the totals were wrong"] if self.totals_were_wrong else []
        return "\n".join([found, *wrong, *lines])


async def verify(store: Store, check: BodyCheck | None) -> VerifyReport:
    """Read every entry, drop what is damaged, count anew."""
    problem = await store.readers.run(_look_at_index, None)
    if problem is not None:
        await store.writer.abandon(sqlite3.DatabaseError(problem))
        return VerifyReport(is_index_sound=False)
    checked, size, damaged = 0, 0, []
    after: int | None = 0
    while after is not None:
        found = await store.readers.run(functools.partial(rows_after, row_id=after, limit=SLICE), Slice())
        after = found.after
        for row in found.rows:
            reason = await _problem_with(store, row, check)
            if reason is None:
                checked, size = checked + 1, size + row.entry.byte_count
            else:
                damaged.append(Damaged(row.entry.url, reason))
                store.writer.submit_quietly(Drop(row.entry.row.key_hash, (row,)))
        if found.damaged:
            gone = await _repair(store, functools.partial(_drop_unreadable, row_ids=found.damaged), 0)
            damaged += [Damaged("", "the metadata cannot be read")] * gone
    was_wrong = await _repair(store, Index.recount, False)
    store.sweep()
    return VerifyReport(checked, size, tuple(damaged), was_wrong)


def _look_at_index(connection: sqlite3.Connection) -> str | None:
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return str(error)
    return None if found == "ok" else str(found)


async def _problem_with(store: Store, row: Row, check: BodyCheck | None) -> str | None:
    found = await store.readers.verified(row)
    if found is None:
        # Gone or replaced meanwhile, or the disk cannot be read: nobody's damage.
        return None
    if isinstance(found, DamagedError):
        return str(found)
    return None if check is None else await check(row.entry, found)


async def _repair(store: Store, job: Callable[[Index], T], default: T) -> T:
    try:
        return await store.writer.call(job)
    except UNUSABLE as error:
        if not is_busy(error):
            store.faults.report("use the index", error)
        return default


def _drop_unreadable(index: Index, row_ids: list[int]) -> int:
    with index.transaction():
        return index.drop_unreadable(row_ids)
