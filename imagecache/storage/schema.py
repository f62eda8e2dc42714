"""The index's tables and triggers, and how a connection to it is opened. No row is read or written here.

What must hold whatever statement changes a row is a trigger: the totals, the body that goes with its row, the
variants that go with their original, the log that other processes read. Rows are inserted, updated and
deleted, never replaced: REPLACE skips delete triggers.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from .folder import VERSION

APPLICATION_ID = 0x696D6763
"""``imgc``: what tells our index from another program's database."""
SCHEMA_VERSION = VERSION
"""Another version lives in another folder; one that is found in ours is damage."""

BUSY_TIMEOUT_MS = 250
"""How long a statement waits for another process's write. Longer waits are the queue's."""
WAL_PAGES = 1_000
"""Pages of log after which a commit also checkpoints: 4 MiB, so that it stays short. A longer log brings nothing."""
WAL_SIZE_LIMIT = 4 * 2**20
"""What is left of a log that had to grow longer, once it begins anew."""
CACHE_KIB = 4_096
SECRET_LENGTH = 32

_SCHEMA = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    -- The beginning of the key hash as a number: see `rows.number_of`.
    key INTEGER NOT NULL,
    key_hash TEXT NOT NULL,
    namespace TEXT NOT NULL,
    scope TEXT NOT NULL,
    vary TEXT NOT NULL,
    processor TEXT NOT NULL,
    checksum TEXT NOT NULL,
    etag TEXT,
    stored_until REAL NOT NULL,
    lifetime REAL,
    last_access REAL NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL,
    file TEXT,
    seal BLOB NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX entries_by_key ON entries (key);
-- Everything that evicting and expiring look at; what has expired is found near its beginning.
CREATE INDEX entries_by_access ON entries (last_access, stored_until, pinned);

-- Apart from the entries, so that an access that rewrites a number does not rewrite the bytes beside it.
CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- Body files that no row refers to any more; unlinked after the commit that put them here, or after the next start.
CREATE TABLE trash (file TEXT NOT NULL);

-- One row. `writer` is who makes the transaction under way, for the log.
CREATE TABLE totals (rows INTEGER NOT NULL, bytes INTEGER NOT NULL, writer TEXT NOT NULL, secret BLOB NOT NULL);

-- What other processes' memory has to follow: images, as they came; key_hash '*' is everything.
CREATE TABLE changes (seq INTEGER PRIMARY KEY, writer TEXT NOT NULL, key_hash TEXT NOT NULL, checksum TEXT);

CREATE TABLE leases (
    key_hash TEXT NOT NULL, namespace TEXT NOT NULL, scope TEXT NOT NULL, vary TEXT NOT NULL, processor TEXT NOT NULL,
    holder TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (key_hash, namespace, scope, vary, processor)
) WITHOUT ROWID;

-- One trigger for each kind of statement where it can be: starting one costs as much as what it does.
CREATE TRIGGER entry_inserted AFTER INSERT ON entries BEGIN
    UPDATE totals SET rows = rows + 1, bytes = bytes + NEW.cost;
    INSERT INTO changes (writer, key_hash, checksum)
        SELECT writer, NEW.key_hash, NEW.checksum FROM totals WHERE NEW.processor = '' AND NEW.namespace = 'image';
END;
CREATE TRIGGER body_changed AFTER UPDATE OF cost, file ON entries BEGIN
    UPDATE totals SET bytes = bytes + NEW.cost - OLD.cost;
    INSERT INTO trash SELECT OLD.file WHERE OLD.file IS NOT NULL AND OLD.file IS NOT NEW.file;
END;
CREATE TRIGGER original_changed AFTER UPDATE OF checksum ON entries
WHEN NEW.processor = '' AND NEW.checksum <> OLD.checksum BEGIN
    INSERT INTO changes (writer, key_hash, checksum)
        SELECT writer, NEW.key_hash, NEW.checksum FROM totals WHERE NEW.namespace = 'image';
    DELETE FROM entries WHERE key = NEW.key AND key_hash = NEW.key_hash AND namespace = NEW.namespace
        AND scope = NEW.scope AND vary = NEW.vary AND processor <> '';
END;
CREATE TRIGGER entry_deleted AFTER DELETE ON entries BEGIN
    UPDATE totals SET rows = rows - 1, bytes = bytes - OLD.cost;
    DELETE FROM bodies WHERE id = OLD.id;
    INSERT INTO trash SELECT OLD.file WHERE OLD.file IS NOT NULL;
    DELETE FROM entries WHERE OLD.processor = '' AND key = OLD.key AND key_hash = OLD.key_hash
        AND namespace = OLD.namespace AND scope = OLD.scope AND vary = OLD.vary AND processor <> '';
END;
"""


class ForeignIndexError(sqlite3.DatabaseError):
    """A database, but another program's, or of another version."""


class TotalsError(sqlite3.DatabaseError):
    """The totals cannot be right; they are counted anew when the index is opened."""


# recursive_triggers: a variant that its original's trigger deletes has to be counted, too. secure_delete is on in
# some builds, and writes every page that is freed once more: twice the cost of a trimmed entry. trusted_schema:
# whatever the file's schema says, it calls nothing. cell_size_check: a damaged page is found when it is read.
_PRAGMAS = (
    "synchronous=NORMAL", "recursive_triggers=ON", "secure_delete=OFF", "trusted_schema=OFF", "cell_size_check=ON",
    f"cache_size=-{CACHE_KIB}",
)  # fmt: skip
# A text that a bit has made no text any more must not fail the statement that meets it, and every other row with it.
_any_text = functools.partial(str, encoding="utf-8", errors="replace")


def connect(path: Path, *, mode: str = "rwc", pragmas: Iterable[str] = ()) -> sqlite3.Connection:
    """A connection for the thread that uses it; closing it in another one is allowed.

    Where not all ``pragmas`` can be set it is closed, and the error raised.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    connection.text_factory = _any_text
    try:
        for pragma in (*_PRAGMAS, *pragmas):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, and makes no file where there is none."""
    return connect(path, mode="rw", pragmas=("query_only=ON",))


def create_or_check(connection: sqlite3.Connection, path: Path, secret: bytes) -> None:
    """Make the tables in an empty file, or see that they are ours.

    ``secret`` is kept if the file is new. Raises ForeignIndexError for another program's or version's database,
    and sqlite3.Error where WAL cannot work.
    """
    version, is_empty = _look(connection)
    if version == (APPLICATION_ID, SCHEMA_VERSION):
        if _objects(connection) != _own_objects():
            raise ForeignIndexError(f"{path.name} has other tables, or triggers, than ours")
        _begin_logging(connection)
        _check_totals(connection, path, secret)
        return
    if version != (0, 0) or not is_empty:
        raise ForeignIndexError(f"{path.name} is no index of this version")
    # SQLite makes files as the umask says, and gives the log and its index the rights of the database.
    path.chmod(0o600)
    # Nothing is lost with an empty index, and the first image of all waits for it: 3 ms, or 25 with a disk's syncs. A
    # power cut may leave half of one, which is damage; the first checkpoint syncs all of it.
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    _begin_logging(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have come first.
        if _is_empty(connection):
            _create(connection, secret)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_logging(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError("this file system does not let SQLite keep a write-ahead log")
    connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_SIZE_LIMIT}").fetchall()


def _check_totals(connection: sqlite3.Connection, path: Path, secret: bytes) -> None:
    """See that the totals are possible; to count at every opening would take as long as there are rows."""
    found = connection.execute("SELECT rows, bytes, secret, (SELECT max(id) FROM entries) FROM totals").fetchall()
    if len(found) != 1:
        raise ForeignIndexError(f"{path.name} has lost its totals")
    rows, stored, known, highest = found[0]
    if not is_secret(known):
        connection.execute("UPDATE totals SET secret = ?", (secret,))
    if not _are_possible(rows, stored, highest):
        connection.execute("BEGIN IMMEDIATE")
        try:
            recount(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _are_possible(rows: object, stored: object, highest: int | None) -> bool:
    if not isinstance(rows, int) or not isinstance(stored, int):
        return False
    return 0 < rows <= highest and stored >= 0 if highest is not None else rows == stored == 0


def recount(connection: sqlite3.Connection) -> bool:
    """Count the rows and their bodies anew, within a transaction; rows that could not be counted, and bodies without a
    row, are dropped. Whether the totals were wrong."""
    connection.execute("DELETE FROM entries WHERE typeof(cost) <> 'integer' OR cost < 0")
    connection.execute("DELETE FROM bodies WHERE id NOT IN (SELECT id FROM entries)")
    counted = connection.execute("SELECT count(*), ifnull(sum(cost), 0) FROM entries").fetchone()
    if connection.execute("SELECT rows, bytes FROM totals").fetchall() == [counted]:
        return False
    connection.execute("UPDATE totals SET rows = ?, bytes = ?", counted)
    return True


def is_secret(value: object) -> bool:
    """Whether that is a secret as it was made."""
    return isinstance(value, bytes) and len(value) == SECRET_LENGTH


@functools.cache
def _own_objects() -> frozenset[tuple[object, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_SCHEMA)
        return _objects(connection)
    finally:
        connection.close()


def _objects(connection: sqlite3.Connection) -> frozenset[tuple[object, ...]]:
    """Every table, index, view and trigger, as it was made."""
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())


def _create(connection: sqlite3.Connection, secret: bytes) -> None:
    statement = ""
    for line in _SCHEMA.splitlines(keepends=True):
        statement += line
        # Not executescript: it commits first.
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute("INSERT INTO totals VALUES (0, 0, '', ?)", (secret,))
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _look(connection: sqlite3.Connection) -> tuple[tuple[int, int], bool]:
    # In one transaction: another process may be making the tables, and half of them would be a stranger's.
    connection.execute("BEGIN")
    try:
        return _version(connection), _is_empty(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(tables) == 0
