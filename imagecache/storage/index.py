"""The index as its one writer in this process sees it: every statement that changes a row, and nothing else.

Blocking, for the writer's thread. When and in which batch something is written is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..entry import Entry, RowKey
from .access import Access
from .bodies import Bodies
from .record import encode, seal
from .rows import Row, number_of, rows_after, rows_of_key, secret_of, totals_of
from .schema import connect, create_or_check, recount

INLINE_LIMIT = 64 * 1024
"""Bodies up to this size lie in the index, in the transaction of their metadata; larger ones in files, where
they cost less (``benchmarks/inline_threshold.py``). 0 keeps all in files."""
ROW_COST = 2 * 1024
"""What a row counts towards the limit beside its body: metadata, index entries, what pages leave unused."""
INDEX_ALLOWANCE = 4 * 2**20
"""What the index's pages may take beyond the limit and a tenth of it: the tables that hold no entries. Where rows
need more than they count (long headers, bodies that fill pages badly), the pages themselves are the weight."""
LOG_LENGTH = 16_384
"""Changes kept for other processes; one that has missed more drops all it has in memory."""

_LEASE = "key_hash = ? AND namespace = ? AND scope = ? AND vary = ? AND processor = ?"
_ROW = f"key = ? AND {_LEASE}"
_FIND = f"SELECT id, checksum, cost, file FROM entries WHERE {_ROW}"
_FIELDS = """
key, key_hash, namespace, scope, vary, processor, checksum, etag, stored_until, lifetime, last_access, cost, file, seal,
    metadata"""
_INSERT = f"INSERT INTO entries ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = """
UPDATE entries SET checksum = ?, etag = ?, stored_until = ?, lifetime = ?, last_access = ?, cost = ?, file = ?,
    seal = ?, metadata = ? WHERE id = ?"""
_REFRESH = """
UPDATE entries SET etag = ?, stored_until = ?, lifetime = ?, last_access = ?, seal = ?, metadata = ? WHERE id = ?"""
_INSERT_BODY = "INSERT INTO bodies (id, body) VALUES (?, ?)"
_PUT_BODY = "INSERT INTO bodies (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"

TOGETHER = (32, 8)
"""How many rows one statement looks for, inserts or refreshes: SQLite lets go of the interpreter's lock several times
in each, and to have it back from the loop's thread takes longer than the row. Every SQLite takes 999 values."""
_KEYS = {count: f"key IN ({', '.join('?' * count)})" for count in TOGETHER}
_ANY_OF = {count: f"SELECT 1 FROM entries WHERE {keys} LIMIT 1" for count, keys in _KEYS.items()}
_FIND_ALL = {
    count: f"""
SELECT key, key_hash, namespace, scope, vary, processor, id, checksum, cost, file FROM entries WHERE {keys}"""
    for count, keys in _KEYS.items()
}
_INSERT_ALL = {
    count: f"INSERT INTO entries (id, {_FIELDS}) VALUES {', '.join(['(' + ', '.join('?' * 16) + ')'] * count)}"
    for count in TOGETHER
}
_INSERT_BODIES = {count: f"INSERT INTO bodies (id, body) VALUES {', '.join(['(?, ?)'] * count)}" for count in TOGETHER}
# All of them are there: an UPDATE that takes many rows' values is younger than the SQLite of some systems.
_REFRESH_ALL = {
    count: f"""
{insert} ON CONFLICT (id) DO UPDATE SET etag = excluded.etag, stored_until = excluded.stored_until,
    lifetime = excluded.lifetime, last_access = excluded.last_access, seal = excluded.seal,
    metadata = excluded.metadata"""
    for count, insert in _INSERT_ALL.items()
}
_TOUCH = f"""
UPDATE entries SET last_access = max(last_access, ?),
    stored_until = ifnull(?, max(stored_until, ? + ifnull(lifetime, -1e18)))
WHERE {_ROW} AND last_access <= ?"""
# Both walk the one index that has all they ask for; a row is looked at only when it is to go.
_OLDEST = """
SELECT last_access, stored_until, id, cost, key_hash, scope, vary, processor, namespace FROM entries
INDEXED BY entries_by_access WHERE (last_access, stored_until, pinned, id) > (?, ?, 0, ?) AND pinned = 0
ORDER BY last_access, stored_until, pinned, id LIMIT ?"""
_EXPIRED = """
SELECT last_access, id, key_hash, namespace FROM entries INDEXED BY entries_by_access
WHERE last_access >= ? AND stored_until <= ? AND pinned = 0 ORDER BY last_access LIMIT ?"""
_DELETE_EXPIRED = "DELETE FROM entries WHERE id = ? AND key_hash = ? AND stored_until <= ? AND pinned = 0"
_ORIGINALS = "SELECT id FROM entries WHERE key = ? AND key_hash = ? AND namespace = 'image' AND processor = ''"


Position = tuple[float, float, int]
"""Last access, stored until, id: the order in which rows are evicted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of a row before it is written."""

    row_id: int
    checksum: str
    cost: int
    file: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be evicted."""

    last_access: float
    stored_until: float
    row_id: int
    cost: int
    row: RowKey

    @property
    def position(self) -> Position:
        """Where it stands among all that may be evicted."""
        return self.last_access, self.stored_until, self.row_id


@dataclass(frozen=True, slots=True)
class Expired:
    """A row whose stored-until has passed."""

    last_access: float
    row_id: int
    key_hash: str
    namespace: str


class Index:
    """An open index file and the bodies that belong to it.

    ``did_change`` is called after rows were deleted, or got another ETag, and that can be seen.
    """

    def __init__(
        self, path: Path, bodies: Bodies, writer_id: str, secret: bytes, did_change: Callable[[], object]
    ) -> None:
        """Open or make it. sqlite3.Error if it is damaged, foreign, or the folder cannot be used."""
        self.bodies = bodies
        self._did_change = did_change
        self._has_changed = False
        # What counts towards the limit, as far as the transaction under way knows without asking.
        self._weight: int | None = None
        self._has_counted = False
        self._writer_id = writer_id
        self._db = connect(path)
        try:
            create_or_check(self._db, path, secret)
            # In this order: a change that comes between the two is then read again, not missed.
            self._data_version = self.version()
            self.last_change: int = self._db.execute("SELECT ifnull(max(seq), 0) FROM changes").fetchone()[0]
            self.secret = secret_of(self._db)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection; the last one of all processes folds the log into the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. OperationalError (busy) if another process does not let go of the index in time."""
        self._db.execute("BEGIN IMMEDIATE")
        self._weight = None
        try:
            self._db.execute("UPDATE totals SET writer = ? WHERE writer <> ?", (self._writer_id, self._writer_id))
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk or a lost file has already rolled back by itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            if self._has_changed:
                self._has_changed = False
                self._did_change()

    def _note_change(self) -> None:
        """Rows were deleted or changed: to be told once it is committed."""
        if self._db.in_transaction:
            self._has_changed = True
        else:
            self._did_change()

    def totals(self) -> tuple[int, int]:
        """The number of rows, and the bytes of their bodies."""
        return totals_of(self._db)

    def doubt_totals(self) -> None:
        """Count anew, once while it is open: nothing is left to evict, and still it is too much."""
        if not self._has_counted:
            self._has_counted = True
            self.recount()

    def recount(self) -> bool:
        """Count anew, which takes as long as there are rows; whether the totals were wrong."""
        with self.transaction():
            self._note_change()
            return recount(self._db)

    def weight(self, limit: int) -> int:
        """What counts towards a limit: the bodies and a fixed cost a row, or the index's own pages if they take more
        than the limit, a tenth of it and an allowance."""
        if self._weight is None or not self._db.in_transaction:
            rows, stored = self.totals()
            self._weight = max(stored + rows * ROW_COST, self.bytes_in_use() - limit // 10 - INDEX_ALLOWANCE)
        return self._weight

    def bytes_in_use(self) -> int:
        """The pages of the index file that hold something."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def find(self, row: RowKey) -> Found | None:
        """What is stored of a row."""
        found = self._db.execute(_FIND, _columns(row)).fetchone()
        if found is None:
            return None
        return _found(*found)

    def find_together(self, rows: Sequence[RowKey]) -> list[Found | None]:
        """The same for rows of different key hashes, as many as `TOGETHER` names."""
        selected = self._db.execute(_FIND_ALL[len(rows)], [number_of(row.key_hash) for row in rows]).fetchall()
        found = {values[:6]: _found(*values[6:]) for values in selected}
        return [found.get(_columns(row)) for row in rows]

    def forget_pages(self) -> None:
        """Read from the file again: it may be damaged where this connection remembers it whole, and readers do not."""
        self._db.execute("PRAGMA shrink_memory")

    def has_body(self, found: Found, body: bytes) -> bool:
        """Whether the index holds these bytes for a row."""
        same = self._db.execute("SELECT body = ? FROM bodies WHERE id = ?", (body, found.row_id)).fetchone()
        return same is not None and bool(same[0])

    def insert(self, entry: Entry, accessed: float, body: bytes, file: str | None) -> None:
        """Add a row that is not there yet; ``file`` holds its body, or the index does."""
        cursor = self._db.execute(_INSERT, _fields(entry, accessed, len(body), file))
        if file is None:
            self._db.execute(_INSERT_BODY, (cursor.lastrowid, body))
        if self._weight is not None:
            self._weight += len(body) + ROW_COST

    def insert_together(self, rows: Sequence[tuple[Entry, float, bytes]]) -> bool:
        """Add rows of different key hashes, as many as `TOGETHER` names, with their bodies; False, and nothing is done,
        if there may be rows of one of them."""
        count, keys = len(rows), [number_of(entry.row.key_hash) for entry, _, _ in rows]
        if self._db.execute(_ANY_OF[count], keys).fetchone() is not None:
            return False
        first = self.last_id() + 1
        values: list[object] = []
        bodies: list[object] = []
        for row_id, (entry, accessed, body) in enumerate(rows, first):
            values += (row_id, *_fields(entry, accessed, len(body), None))
            bodies += (row_id, body)
        self._db.execute(_INSERT_ALL[count], values)
        self._db.execute(_INSERT_BODIES[count], bodies)
        if self._weight is not None:
            self._weight += sum(len(body) + ROW_COST for _, _, body in rows)
        return True

    def update(self, found: Found, entry: Entry, accessed: float, body: bytes, file: str | None) -> None:
        """Put new bytes into a row."""
        metadata = encode(entry)
        values = (entry.checksum, entry.etag, entry.stored_until, entry.lifetime, accessed, len(body), file)
        self._db.execute(_UPDATE, (*values, seal(metadata), metadata, found.row_id))
        # Variants may have gone along.
        self._weight = None
        if file is None:
            self._db.execute(_PUT_BODY, (found.row_id, body))
        elif found.file is None:
            self._db.execute("DELETE FROM bodies WHERE id = ?", (found.row_id,))

    def refresh(self, found: Found, entry: Entry, accessed: float) -> None:
        """Put new metadata for the same bytes into a row."""
        metadata = encode(entry)
        values = (entry.etag, entry.stored_until, entry.lifetime, accessed, seal(metadata), metadata)
        self._db.execute(_REFRESH, (*values, found.row_id))

    def refresh_together(self, rows: Sequence[tuple[Found, Entry, float]]) -> None:
        """The same for as many different rows as `TOGETHER` names, which were found in this very transaction."""
        values: list[object] = []
        for found, entry, accessed in rows:
            values += (found.row_id, *_fields(entry, accessed, found.cost, found.file))
        self._db.execute(_REFRESH_ALL[len(rows)], values)

    def touch(self, accesses: Iterable[Mapping[RowKey, Access]]) -> None:
        """Note accesses: when they were, and what they made of stored-until."""
        values = [
            (access.when, access.until, access.renewed, *_columns(row), access.when)
            for of_key in accesses
            for row, access in of_key.items()
        ]
        self._db.executemany(_TOUCH, values)

    def delete(self, row_ids: Iterable[int]) -> None:
        """Delete rows, their bodies, their variants and their ETags."""
        gone = [(row_id,) for row_id in row_ids]
        # A sweep that finds nothing changes nothing.
        if gone:
            self._db.executemany("DELETE FROM entries WHERE id = ?", gone)
            self._weight = None
            self._note_change()

    def remove_key(self, key_hash: str) -> int:
        """Delete all rows of a key hash, and let other processes know; how many there were."""
        key = (number_of(key_hash), key_hash)
        (count,) = self._db.execute("SELECT count(*) FROM entries WHERE key = ? AND key_hash = ?", key).fetchone()
        self._db.execute("DELETE FROM entries WHERE key = ? AND key_hash = ?", key)
        self._weight = None
        self._note_change()
        self.log(key_hash)
        return int(count)

    def log(self, key_hash: str) -> None:
        """Let other processes know that this (or ``*``: everything) is gone."""
        self._db.execute("INSERT INTO changes (writer, key_hash) VALUES (?, ?)", (self._writer_id, key_hash))

    def pin(self, key_hash: str, pinned: bool) -> int:
        """Pin or unpin all rows of a key hash; how many there are."""
        statement = "UPDATE entries SET pinned = ? WHERE key = ? AND key_hash = ?"
        return self._db.execute(statement, (pinned, number_of(key_hash), key_hash)).rowcount

    def set_etag(self, key_hash: str, etag: str | None) -> int:
        """Give the original rows of a key hash another ETag; how many there are."""
        originals = {row_id for (row_id,) in self._db.execute(_ORIGINALS, (number_of(key_hash), key_hash)).fetchall()}
        rows = [row for row in rows_of_key(self._db, key_hash)[0] if row.row_id in originals]
        for row in rows:
            self._put_etag(row, etag)
        return len(rows)

    def _put_etag(self, row: Row, etag: str | None) -> None:
        metadata = encode(replace(row.entry, etag=etag))
        self._db.execute(
            "UPDATE entries SET etag = ?, seal = ?, metadata = ? WHERE id = ?",
            (etag, seal(metadata), metadata, row.row_id),
        )
        self._note_change()

    def count(self) -> int:
        """How many rows there are."""
        return totals_of(self._db)[0]

    def numbers_after(self, number: int, limit: int) -> list[object]:
        """The next of the numbers that rows are looked up by, ascending; where rows are damaged, other things, too."""
        # Walks the one index that has all it asks for.
        statement = "SELECT key FROM entries INDEXED BY entries_by_key WHERE key > ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._db.execute(statement, (number, limit))]

    def unreadable(self, key_hash: str) -> list[int]:
        """The ids of rows whose metadata is damaged."""
        return rows_of_key(self._db, key_hash)[1]

    def drop_unreadable(self, row_ids: Iterable[int]) -> int:
        """Delete those of the rows whose metadata is damaged; how many there were."""
        damaged = [row_id for row_id in row_ids if rows_after(self._db, row_id - 1, 1).damaged == [row_id]]
        self.delete(damaged)
        return len(damaged)

    def oldest(self, after: Position, limit: int) -> list[Candidate]:
        """The least recently used rows that are not pinned, from the given position on."""
        selected = self._db.execute(_OLDEST, (*after, limit)).fetchall()
        return [
            # A damaged cost must not stop the others from being evicted.
            Candidate(when, until, row_id, cost if isinstance(cost, int) else 0, RowKey(*row))
            for when, until, row_id, cost, *row in selected
        ]

    def expired(self, now: float, after: float, limit: int) -> list[Expired]:
        """Rows past their stored-until, the least recently used first, from that last access on."""
        return [Expired(*row) for row in self._db.execute(_EXPIRED, (after, now, limit)).fetchall()]

    def delete_expired(self, rows: Iterable[Expired], now: float) -> list[Expired]:
        """Delete those that are expired still; which ones."""
        self._weight = None
        self._note_change()
        return [row for row in rows if self._db.execute(_DELETE_EXPIRED, (row.row_id, row.key_hash, now)).rowcount]

    def last_id(self) -> int:
        """The highest row id there is."""
        (highest,) = self._db.execute("SELECT ifnull(max(id), 0) FROM entries").fetchone()
        return int(highest)

    def ids_up_to(self, highest: int, limit: int) -> list[int]:
        """Some of the rows that are not newer than ``highest``."""
        selected = self._db.execute("SELECT id FROM entries WHERE id <= ? LIMIT ?", (highest, limit))
        return [row_id for (row_id,) in selected.fetchall()]

    def refers_to(self, key_hash: str, file: str) -> bool:
        """Whether a row needs that body file."""
        statement = "SELECT 1 FROM entries WHERE key = ? AND key_hash = ? AND file = ?"
        found = self._db.execute(statement, (number_of(key_hash), key_hash, file))
        return found.fetchone() is not None

    def trash(self, limit: int) -> list[tuple[int, str]]:
        """Body files that no row refers to any more."""
        return self._db.execute("SELECT rowid, file FROM trash LIMIT ?", (limit,)).fetchall()

    def forget_trash(self, ids: Iterable[int]) -> None:
        """Those have been removed."""
        self._db.executemany("DELETE FROM trash WHERE rowid = ?", [(rowid,) for rowid in ids])

    def changes(self) -> list[tuple[str, str | None]]:
        """What other processes stored, removed or cleared since the last call: key hash and checksum, None for gone."""
        version = self.version()
        if version == self._data_version:
            return []
        self._data_version = version
        seen = self.last_change
        (first,) = self._db.execute("SELECT ifnull(min(seq), 0) FROM changes").fetchone()
        (last,) = self._db.execute("SELECT ifnull(max(seq), 0) FROM changes").fetchone()
        self.last_change = last
        if first > seen + 1 or last < seen:
            return [("*", None)]
        return self._db.execute(
            "SELECT key_hash, checksum FROM changes WHERE seq > ? AND seq <= ? AND writer <> ? ORDER BY seq",
            (seen, last, self._writer_id),
        ).fetchall()

    def shorten_log(self) -> None:
        """Keep the newest changes only."""
        self._db.execute("DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", (LOG_LENGTH,))

    def lease(self, row: RowKey, holder: str, now: float, until: float) -> bool:
        """Take the lease of a row unless another holder has one that runs and is not from the future."""
        self._db.execute("DELETE FROM leases WHERE expires <= ? OR expires > ?", (now, until))
        row_key = _columns(row)[1:]
        self._db.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", (*row_key, holder, until)
        )
        (holding,) = self._db.execute(f"SELECT holder FROM leases WHERE {_LEASE}", row_key).fetchone()
        return str(holding) == holder

    def release(self, row: RowKey, holder: str) -> None:
        """Give a lease back."""
        self._db.execute(f"DELETE FROM leases WHERE {_LEASE} AND holder = ?", (*_columns(row)[1:], holder))

    def remove_etags(self, after: int, limit: int) -> int | None:
        """Take the ETags of the next ``limit`` rows away; the id to go on from, None at the end."""
        found = rows_after(self._db, after, limit)
        for row in found.rows:
            if row.entry.etag is not None:
                self._put_etag(row, None)
        return found.after

    def vacuum(self, pages: int, *, over: int) -> bool:
        """Give up to ``pages`` free pages back if the file is larger than ``over`` bytes; whether to go on."""
        spare = min(self._pragma("freelist_count"), self._pragma("page_count") - over // self._pragma("page_size"))
        if spare <= 0:
            return False
        # Each step of the statement frees one page, and execute() makes one step where no column is returned.
        self._db.executescript(f"PRAGMA incremental_vacuum({min(pages, spare)})")
        return bool(spare > pages)

    def version(self) -> int:
        return self._pragma("data_version")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)


def _found(row_id: int, checksum: object, cost: object, file: object) -> Found:
    if isinstance(checksum, str) and isinstance(cost, int) and cost >= 0 and isinstance(file, str | None):
        return Found(row_id, checksum, cost, file)
    # No bytes have an empty checksum: whatever comes takes the place of what is damaged.
    return Found(row_id, "", 0, None)


def _fields(entry: Entry, accessed: float, cost: int, file: str | None) -> tuple[object, ...]:
    metadata = encode(entry)
    values = (entry.checksum, entry.etag, entry.stored_until, entry.lifetime, accessed, cost, file)
    return *_columns(entry.row), *values, seal(metadata), metadata


def _columns(row: RowKey) -> tuple[int, str, str, str, str, str]:
    return number_of(row.key_hash), row.key_hash, row.namespace, row.scope, row.vary, row.processor
