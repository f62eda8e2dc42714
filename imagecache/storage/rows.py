"""Rows of the index as values, and the statements that read them; for any connection, in any worker thread.

Each read is one statement: metadata and bytes are of one state of the index without a transaction around them.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..entry import Entry, Namespace, RowKey
from .record import DamagedError, decode
from .schema import TotalsError, is_secret

# What is in a row that nothing damaged. Of one that was damaged, nothing but the id is known to be of its type.
_Selected = tuple[
    int, str | None, float, float | None, bytes, str, bytes | None,
    int, str, str, str, str, str, str, str | None, int,
]  # fmt: skip

_COLUMNS = "key, key_hash, namespace, scope, vary, processor, checksum, etag, cost"
_METADATA = f"SELECT id, file, stored_until, lifetime, seal, metadata, NULL, {_COLUMNS} FROM entries"
# The bytes of small bodies come along: where they are not asked for, that costs less than a second statement would.
_WITH_BODY = f"""
SELECT id, file, stored_until, lifetime, seal, metadata, (SELECT body FROM bodies WHERE bodies.id = entries.id),
    {_COLUMNS} FROM entries"""
_OF_KEY = f"{_METADATA} WHERE key = ? AND key_hash = ?"
_OF_KEY_WITH_BODY = f"{_WITH_BODY} WHERE key = ? AND key_hash = ?"
_MATCHING = f"{_OF_KEY_WITH_BODY} AND namespace IN (?, ?) AND scope = ? AND processor = ?"
_AFTER = f"{_METADATA} WHERE id > ? ORDER BY id LIMIT ?"

Order = Literal["added", "used", "expires", "size"]
"""By what entries can be sorted: when they were added, last used, when they run out, the bytes of their bodies."""
_ORDERS: dict[Order, str] = {"added": "id", "used": "last_access", "expires": "stored_until", "size": "cost"}


@dataclass(frozen=True, slots=True)
class Row:
    """An entry and where its bytes are: in ``body``, or in ``file``. ``row_id`` is 0 while it is only queued."""

    entry: Entry
    row_id: int = 0
    file: str | None = None
    body: bytes | None = field(default=None, repr=False)


def number_of(key_hash: str) -> int:
    """What rows are looked up by: the first 44 bits of the key hash, which SQLite keeps in six bytes.

    A tree of texts that come in random order grows past the page cache at some ten thousand entries, and every
    put then reads and writes a page of it. Whoever looks up compares the whole hash as well.
    """
    try:
        return int(key_hash[:11], 16)
    except ValueError:
        return -1


def rows_of_key(
    connection: sqlite3.Connection, key_hash: str, *, with_body: bool = False
) -> tuple[list[Row], list[int]]:
    """Every row of a key hash, with small bodies if asked for, and the ids of damaged ones."""
    statement = _OF_KEY_WITH_BODY if with_body else _OF_KEY
    return _decode(_select(connection, statement, (number_of(key_hash), key_hash)))


def rows_matching(
    connection: sqlite3.Connection, key_hash: str, namespaces: tuple[Namespace, Namespace], scope: str, processor: str
) -> tuple[list[Row], list[int]]:
    """The rows, with small bodies, of two namespaces, that differ in nothing else but what their answers vary on; the
    ids of damaged ones."""
    wanted = (number_of(key_hash), key_hash, *namespaces, scope, processor)
    return _decode(_select(connection, _MATCHING, wanted))


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows in the order of their ids, the ids of damaged ones among them, and the id to go on from, if any."""

    rows: list[Row] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    after: int | None = None


def rows_after(connection: sqlite3.Connection, row_id: int, limit: int) -> Slice:
    """The next ``limit`` rows by id."""
    selected = _select(connection, _AFTER, (row_id, limit))
    return Slice(*_decode(selected), selected[-1][0] if len(selected) == limit else None)


def sorted_ids(connection: sqlite3.Connection, order: Order, *, is_descending: bool) -> array[int]:
    """The ids of all rows in an order: eight bytes a row, which is what sorting any number of them takes."""
    direction = "DESC" if is_descending else "ASC"
    ids = connection.execute(f"SELECT id FROM entries ORDER BY {_ORDERS[order]} {direction}, id {direction}")
    return array("q", (row_id for (row_id,) in ids))


def rows_by_id(connection: sqlite3.Connection, row_ids: Sequence[int]) -> list[Row]:
    """Those rows that are still there and not damaged, in that order."""
    wanted = ", ".join("?" * len(row_ids))
    rows, _ = _decode(_select(connection, f"{_METADATA} WHERE id IN ({wanted})", row_ids))
    by_id = {row.row_id: row for row in rows}
    return [by_id[row_id] for row_id in row_ids if row_id in by_id]


def read_again(connection: sqlite3.Connection, row: Row) -> Row | None:
    """A row with its body, if that is in the index; None if it is another now."""
    rows, _ = _decode(_select(connection, f"{_WITH_BODY} WHERE id = ?", (row.row_id,)))
    if not rows or (rows[0].entry.checksum, rows[0].file) != (row.entry.checksum, row.file):
        return None
    return rows[0]


def _select(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> list[_Selected]:
    """All that is selected. Damaged texts are among it, but it is not for them that each text is a call of Python."""
    tolerant = connection.text_factory
    connection.text_factory = str
    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        # The module's own errors, and it has no other here, carry no code of SQLite's.
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise
    finally:
        connection.text_factory = tolerant
    return connection.execute(statement, values).fetchall()


def _decode(selected: Sequence[_Selected]) -> tuple[list[Row], list[int]]:
    rows: dict[RowKey, Row] = {}
    damaged = []
    for row_id, file, stored_until, lifetime, sealed, metadata, body, *columns in selected:
        try:
            entry = decode(metadata, sealed, stored_until, lifetime)
        except DamagedError:
            damaged.append(row_id)
            continue
        # The columns are not sealed: another's would be found, counted or dropped in its place. No row is there twice.
        is_sound = columns == _columns_of(entry) and isinstance(file, str | None) and entry.row not in rows
        if is_sound:
            rows[entry.row] = Row(entry, row_id, file, body)
        else:
            damaged.append(row_id)
    return list(rows.values()), damaged


def _columns_of(entry: Entry) -> list[object]:
    row = entry.row
    return [
        number_of(row.key_hash), row.key_hash, row.namespace, row.scope, row.vary, row.processor, entry.checksum,
        entry.etag, entry.byte_count,
    ]  # fmt: skip


def totals_of(connection: sqlite3.Connection) -> tuple[int, int]:
    """The number of rows and the bytes of their bodies, as counted; TotalsError if that cannot be so."""
    found = connection.execute("SELECT rows, bytes FROM totals").fetchall()
    if len(found) != 1 or not all(isinstance(total, int) and total >= 0 for total in found[0]):
        raise TotalsError(f"the totals are damaged: {found}")
    rows, stored = found[0]
    return rows, stored


def secret_of(connection: sqlite3.Connection) -> bytes | None:
    """The secret that was made with the index, or None if it is damaged."""
    found = connection.execute("SELECT secret FROM totals").fetchone()
    return found[0] if found is not None and is_secret(found[0]) else None
