"""The changes that wait to be written. Each says twice what it does: to the index, and to a reader who must not wait.

`execute` runs in the writer's transaction. `apply` does the same to the rows of one key hash in memory, so that a
read sees at once what is still queued. Whatever one of the two learns, the other must: a model test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from ..entry import Entry, Protection, RowKey
from .bodies import Bodies
from .index import INLINE_LIMIT, ROW_COST, Found, Index
from .record import DamagedError
from .rows import Row
from .stored import StoreResult, StoreStatus

T_co = TypeVar("T_co", covariant=True)
Rows = dict[RowKey, Row]
Change = tuple[str, str | None]
"""A key hash and the new checksum of its original, None if it is gone."""

STORED = StoreResult(StoreStatus.STORED)
SUPERSEDED = StoreResult(StoreStatus.SUPERSEDED)


class NoRoomError(Exception):
    """The limit leaves no room; nothing was changed. ``needed`` is what the row would add, in bytes."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class Operation(Protocol[T_co]):
    """A queued change. ``key_hash`` is whose rows it changes; ``size`` the bytes it holds in memory."""

    @property
    def key_hash(self) -> str: ...

    @property
    def size(self) -> int: ...

    def prepare(self, index: Index) -> None:
        """What can be done before the transaction, so that others wait less."""

    def execute(self, index: Index) -> T_co:
        """Make the change, within a transaction."""
        ...

    def fail(self, status: StoreStatus, error: Exception | None) -> T_co:
        """The answer where the change was not made."""
        ...

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        """Clean up after the commit or the failure; what others on this folder have to know of."""
        ...

    def apply(self, rows: Rows) -> None:
        """Make the change to what a reader sees."""


def original_of(row: RowKey) -> RowKey:
    """The row whose bytes a variant was made from."""
    return row if not row.processor else RowKey(row.key_hash, row.scope, row.vary, "", row.namespace)


@dataclass(slots=True)
class Put:
    """Store an entry and its bytes. A variant only while its original is what it was made from.

    ``written`` is the name of a body file of this writer's that has these very bytes already.
    """

    entry: Entry
    body: bytes = field(repr=False)
    limit: int
    protection: Protection | None
    accessed: float
    written: str | None = None
    _file: str | None = field(default=None, init=False)
    _is_used: bool = field(default=False, init=False)

    @property
    def key_hash(self) -> str:
        return self.entry.row.key_hash

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def has_file(self) -> bool:
        """Whether its body was written to a file, and is used."""
        return self._file is not None and self._is_used

    def prepare(self, index: Index) -> None:
        if self._file is not None and not index.bodies.is_own(self._file):
            # Written for an index that was abandoned since: whoever sweeps may take it away.
            index.bodies.remove(self._file)
            self._file = None
        if self._file is None and len(self.body) > INLINE_LIMIT:
            found = index.find(self.entry.row)
            if found is None or found.checksum != self.entry.checksum or not self._is_file_sound(index, found):
                self._file = self._take_over(index.bodies) or index.bodies.write(
                    self.key_hash, self.body, self.entry.format
                )

    def _take_over(self, bodies: Bodies) -> str | None:
        name = self.written
        if name is None or not bodies.is_own(name) or not bodies.is_intact(name, len(self.body)):
            return None
        self.written = None
        return name

    def execute(self, index: Index) -> StoreResult:
        self._is_used = False
        row = self.entry.row
        if row.processor:
            original = index.find(original_of(row))
            if original is None or original.checksum != self.entry.source_checksum:
                return SUPERSEDED
        found = index.find(row)
        if found is not None and found.checksum == self.entry.checksum:
            # Whoever fetched it anew may have found it damaged.
            index.forget_pages()
            found = index.find(row)
        size = len(self.body)
        needed = size + ROW_COST if found is None else size - found.cost
        if needed > 0 and index.weight(self.limit) + needed > self.limit:
            raise NoRoomError(needed)
        if found is not None and self._has_same_bytes(index, found):
            index.refresh(found, self.entry, self.accessed)
        else:
            self._write(index, found)
        if self.protection is not None:
            self.protection.add(row)
        return STORED

    @property
    def is_plain(self) -> bool:
        """Whether it is an image as it came, with its body in the index: new in most cases, and then nothing else is to
        be looked at."""
        return not self.entry.row.processor and self._file is None and len(self.body) <= INLINE_LIMIT

    def _has_same_bytes(self, index: Index, found: Found) -> bool:
        size = len(self.body)
        if (found.checksum, found.cost) != (self.entry.checksum, size) or self._file is not None:
            return False
        # Something may have damaged the bytes; this is the moment to heal them.
        if found.file is None:
            return index.has_body(found, self.body)
        return size > INLINE_LIMIT and index.bodies.is_intact(found.file, size)

    def _is_file_sound(self, index: Index, found: Found) -> bool:
        try:
            return found.file is not None and index.bodies.read(found.file, len(self.body)) == self.body
        except (DamagedError, OSError):
            return False

    def _write(self, index: Index, found: Found | None) -> None:
        size = len(self.body)
        if size > INLINE_LIMIT and (self._file is None or not index.bodies.is_intact(self._file, size)):
            # The row changed, or the folder was taken away, since `prepare` looked.
            if self._file is not None:
                index.bodies.drop(self._file)
            self._file = index.bodies.write(self.key_hash, self.body, self.entry.format)
        self._is_used = True
        if found is None:
            index.insert(self.entry, self.accessed, self.body, self._file)
        else:
            index.update(found, self.entry, self.accessed, self.body, self._file)

    def fail(self, status: StoreStatus, error: Exception | None) -> StoreResult:
        return StoreResult(status, error)

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        if self._file is not None and bodies is not None and not (is_done and self._is_used):
            bodies.drop(self._file)
            self._file = None
        if self.written is not None and bodies is not None:
            # The row had these bytes already, or they lie in the index.
            bodies.drop(self.written)
            self.written = None
        return (self.key_hash, self.entry.checksum) if is_done and self.entry.row.is_original_image else None

    def apply(self, rows: Rows) -> None:
        row, entry = self.entry.row, self.entry
        if row.processor:
            original = rows.get(original_of(row))
            if original is None or original.entry.checksum != entry.source_checksum:
                return
        elif (old := rows.get(row)) is not None and old.entry.checksum != entry.checksum:
            _drop_variants(rows, row)
        rows[row] = Row(entry, body=self.body)


def put_together(index: Index, puts: Sequence[Put]) -> list[StoreResult] | None:
    """Execute plain puts of different key hashes at once, as many as `TOGETHER` names; None, and nothing is done, where
    each is to be executed on its own: if one is not new, or the limit may leave no room."""
    needed = sum(put.size + ROW_COST for put in puts)
    limit = min(put.limit for put in puts)
    if index.weight(limit) + needed > limit:
        return None
    if not index.insert_together([(put.entry, put.accessed, put.body) for put in puts]):
        return None
    for put in puts:
        if put.protection is not None:
            put.protection.add(put.entry.row)
    return [STORED] * len(puts)


@dataclass(slots=True)
class Refresh:
    """New metadata for bytes that did not change, if they are still there."""

    entry: Entry
    accessed: float

    @property
    def key_hash(self) -> str:
        return self.entry.row.key_hash

    @property
    def size(self) -> int:
        return 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> StoreResult:
        found = index.find(self.entry.row)
        if found is None or found.checksum != self.entry.checksum:
            return SUPERSEDED
        index.refresh(found, self.entry, self.accessed)
        return STORED

    def fail(self, status: StoreStatus, error: Exception | None) -> StoreResult:
        return StoreResult(status, error)

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return None

    def apply(self, rows: Rows) -> None:
        row = rows.get(self.entry.row)
        if row is not None and row.entry.checksum == self.entry.checksum:
            rows[self.entry.row] = replace(row, entry=self.entry)


def refresh_together(index: Index, refreshes: Sequence[Refresh]) -> list[StoreResult] | None:
    """Execute those of different key hashes at once, as many as `TOGETHER` names; None, and nothing is done, where each
    is to be executed on its own, since not all of the rows are there with the same bytes."""
    rows = []
    found = index.find_together([refresh.entry.row for refresh in refreshes])
    for refresh, row in zip(refreshes, found, strict=True):
        if row is None or row.checksum != refresh.entry.checksum:
            return None
        rows.append((row, refresh.entry, refresh.accessed))
    index.refresh_together(rows)
    return [STORED] * len(rows)


def execute_together(index: Index, operations: Sequence[Operation[object]]) -> list[StoreResult] | None:
    """Execute a run of operations of which each `may_join` those before it; None where each is to be executed alone."""
    first = operations[0]
    if isinstance(first, Put):
        return put_together(index, [operation for operation in operations if isinstance(operation, Put)])
    return refresh_together(index, [operation for operation in operations if isinstance(operation, Refresh)])


def may_join(operation: Operation[object], first: Operation[object]) -> bool:
    """Whether an operation may be executed together with others like the first, if their key hashes differ."""
    if isinstance(first, Put):
        return first.is_plain and isinstance(operation, Put) and operation.is_plain
    return isinstance(first, Refresh) and isinstance(operation, Refresh)


@dataclass(slots=True)
class Remove:
    """All rows of a key hash: scopes, namespaces, variants."""

    key_hash: str
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        return index.remove_key(self.key_hash)

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return (self.key_hash, None) if is_done else None

    def apply(self, rows: Rows) -> None:
        rows.clear()


@dataclass(slots=True)
class Drop:
    """Rows of a key hash that turned out damaged, if they still are what was read; and those nobody can read."""

    key_hash: str
    damaged: tuple[Row, ...]
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        index.forget_pages()
        gone = [row.row_id for row in self.damaged if self._is_still_there(index, row)]
        gone += index.unreadable(self.key_hash)
        index.delete(gone)
        return len(gone)

    def _is_still_there(self, index: Index, row: Row) -> bool:
        found = index.find(row.entry.row)
        return found is not None and (found.row_id, found.checksum, found.file) == (
            row.row_id,
            row.entry.checksum,
            row.file,
        )

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return None

    def apply(self, rows: Rows) -> None:
        for damaged in self.damaged:
            row = rows.get(damaged.entry.row)
            if row is not None and (row.row_id, row.file) == (damaged.row_id, damaged.file):
                del rows[damaged.entry.row]
                if not damaged.entry.row.processor:
                    _drop_variants(rows, damaged.entry.row)


@dataclass(slots=True)
class Discard:
    """One row with its variants: if it has the bytes of ``entry``, which proved to be of no use, or (``if_other``)
    if it has others, which ``entry`` outdates without being kept itself."""

    entry: Entry
    if_other: bool = False
    size: int = 0
    _is_gone: bool = field(default=False, init=False)

    @property
    def key_hash(self) -> str:
        return self.entry.row.key_hash

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        found = index.find(self.entry.row)
        self._is_gone = found is not None and self._is_meant(found.checksum)
        if found is None or not self._is_gone:
            return 0
        index.delete([found.row_id])
        if self.entry.row.is_original_image:
            index.log(self.key_hash)
        return 1

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return (self.key_hash, None) if self._is_gone and self.entry.row.is_original_image else None

    def apply(self, rows: Rows) -> None:
        row = rows.get(self.entry.row)
        if row is not None and self._is_meant(row.entry.checksum):
            del rows[self.entry.row]
            if not self.entry.row.processor:
                _drop_variants(rows, self.entry.row)

    def _is_meant(self, checksum: str) -> bool:
        return (checksum != self.entry.checksum) is self.if_other


@dataclass(slots=True)
class SetETag:
    """Another ETag, or none, for the original of a key hash."""

    key_hash: str
    etag: str | None
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        return index.set_etag(self.key_hash, self.etag)

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return None

    def apply(self, rows: Rows) -> None:
        for key, row in rows.items():
            if key.is_original_image:
                rows[key] = replace(row, entry=replace(row.entry, etag=self.etag))


@dataclass(slots=True)
class Pin:
    """Keep all rows of a key hash from being evicted, or no longer."""

    key_hash: str
    pinned: bool
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        return index.pin(self.key_hash, self.pinned)

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return None

    def apply(self, rows: Rows) -> None: ...


@dataclass(slots=True)
class Clear:
    """Everything that was there, or queued, before. The writer does it in slices; nothing is left to `execute`."""

    key_hash: str = "*"
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        index.log(self.key_hash)
        return 0

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return (self.key_hash, None) if is_done else None

    def apply(self, rows: Rows) -> None:
        rows.clear()


@dataclass(slots=True)
class Mark:
    """Nothing: done once all that was queued before it is."""

    key_hash: str = ""
    size: int = 0

    def prepare(self, index: Index) -> None: ...

    def execute(self, index: Index) -> int:
        return 0

    def fail(self, status: StoreStatus, error: Exception | None) -> int:
        return 0

    def settle(self, bodies: Bodies | None, *, is_done: bool) -> Change | None:
        return None

    def apply(self, rows: Rows) -> None: ...


def _drop_variants(rows: Rows, original: RowKey) -> None:
    for row in [row for row in rows if row.processor and original_of(row) == original]:
        del rows[row]
