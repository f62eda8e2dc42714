"""Rows of the index as values, and the statements that read them; for any connection, in any worker thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..entry import Entry, Namespace
from .record import DamagedError, decode

Selected = tuple[int, str | None, float, float | None, bytes, str]

_COLUMNS = "id, file, stored_until, lifetime, seal, metadata"
_ONE_KEY = f"SELECT {_COLUMNS} FROM entries WHERE key_hash = ?"
_NARROWED = f"{_ONE_KEY} AND namespace = ? AND scope = ? AND processor = ?"
_AFTER = f"SELECT {_COLUMNS} FROM entries WHERE id > ? ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class Row:
    """An entry and where its bytes are: in ``body`` (still queued), in ``file``, or in the index under ``row_id``."""

    entry: Entry
    row_id: int = 0
    file: str | None = None
    body: bytes | None = field(default=None, repr=False)


def rows_of_key(connection: sqlite3.Connection, key_hash: str) -> tuple[list[Row], list[int]]:
    """Every row of a key hash, and the ids of damaged ones."""
    return _decode(connection.execute(_ONE_KEY, (key_hash,)).fetchall())


def rows_matching(
    connection: sqlite3.Connection, key_hash: str, namespace: Namespace, scope: str, processor: str
) -> tuple[list[Row], list[int]]:
    """The rows that differ in nothing but what their answers vary on, and the ids of damaged ones."""
    return _decode(connection.execute(_NARROWED, (key_hash, namespace, scope, processor)).fetchall())


def rows_after(connection: sqlite3.Connection, row_id: int, limit: int) -> tuple[list[Row], int | None]:
    """The next ``limit`` rows by id, and the id to go on from, or None at the end; damaged rows are passed over."""
    selected = connection.execute(_AFTER, (row_id, limit)).fetchall()
    rows, _ = _decode(selected)
    return rows, selected[-1][0] if len(selected) == limit else None


def body_in_index(connection: sqlite3.Connection, row_id: int) -> bytes:
    """The bytes of a small body; DamagedError if they are not there."""
    found: tuple[bytes] | None = connection.execute("SELECT body FROM bodies WHERE id = ?", (row_id,)).fetchone()
    if found is None:
        raise DamagedError("the body is not in the index")
    return found[0]


def _decode(selected: Sequence[Selected]) -> tuple[list[Row], list[int]]:
    rows, damaged = [], []
    for row_id, file, stored_until, lifetime, sealed, metadata in selected:
        try:
            rows.append(Row(decode(metadata, sealed, stored_until, lifetime), row_id, file))
        except DamagedError:
            damaged.append(row_id)
    return rows, damaged
