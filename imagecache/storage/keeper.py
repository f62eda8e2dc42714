"""Keeps the index open: opens and reopens it, and abandons it for the next generation when it is damaged.

For the writer's thread. A folder that was deleted, or an index that another process abandoned, is noticed by
looking at files' identities before each use; nothing here says what to do when the folder cannot be used.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from .bodies import Bodies
from .folder import SIDECARS, Folder, FolderRefusedError, identity, is_file, is_there, make_file_private
from .index import Index
from .schema import ForeignIndexError
from .sightings import Sightings
from .writer_lock import WriterLock, living_writers

MAX_GENERATIONS = 8
"""Damaged indexes passed over at one opening; more is no accident."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# SQLITE_ERROR from statements that are known to be right: a table or column is not there. Nor does a value that is
# known to be right break a constraint.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

INDEX_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a statement that is known to be right raises: where SQLite's own message holds a damaged name, the sqlite3
module cannot even say so."""

_CUT_SHORT = sqlite3.SQLITE_IOERR_SHORT_READ


def is_busy(error: BaseException) -> bool:
    """Whether another process (or a checkpoint) holds the index; it passes."""
    return _primary_code(error) in _BUSY


def is_damage(error: BaseException) -> bool:
    """Whether the index file itself is broken or not ours; it does not pass."""
    if isinstance(error, ForeignIndexError | sqlite3.IntegrityError | UnicodeDecodeError):
        return True
    return _primary_code(error) in _DAMAGE or getattr(error, "sqlite_errorcode", None) == _CUT_SHORT


def _primary_code(error: BaseException) -> int | None:
    # Errors that the sqlite3 module raises by itself carry no code.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


class Keeper:
    """The index of a folder, as long as there is one that can be used."""

    def __init__(self, folder: Folder, sightings: Sightings, refusal: str | None = None) -> None:
        self.folder = folder
        self._sightings = sightings
        # Why the folder must not be used at all, if so.
        self._refusal = refusal
        # The number of the opening and the file, published together when the index is ready to be read: a reader
        # whose connection is of an earlier opening connects anew.
        self.opened: tuple[int, Path] | None = None
        # The index's own, and of which opening; None where it is damaged.
        self.secret: tuple[int, bytes | None] = (0, None)
        # Kept when the index is closed: what could not be committed has to be removed all the same.
        self.bodies: Bodies | None = None
        self.is_closed = False
        self._path: Path | None = None
        self._index: Index | None = None
        self._lock: WriterLock | None = None
        self._seen: object = None

    def current(self) -> Index:
        """The open index. OSError, sqlite3.Error or FolderRefusedError if the folder cannot be used."""
        if self.is_closed:
            raise FolderRefusedError("the store is closed")
        if self._index is not None and self._look() == self._seen:
            return self._index
        self.close_index()
        self._open()
        assert self._index is not None
        return self._index

    def current_if_there(self) -> Index | None:
        """The open index, or None if its file was taken away: only what has something to write makes it anew."""
        if self.is_closed or self._path is None or identity(self._path) is None:
            return None
        return self.current()

    def is_obstructed(self) -> bool:
        """Whether something lies in the place of the index, or of what SQLite keeps beside it."""
        try:
            if self._path is not None:
                _check_files(self._path)
        except ForeignIndexError:
            return True
        except OSError:
            return False
        return False

    def abandon(self) -> None:
        """The index in use is damaged: let all processes go on with the next. OSError if even that fails."""
        generation = self.folder.generation()
        if self._path == self.folder.index_path(generation):
            self.folder.point_to(generation + 1)
        self.close_index()

    def close_index(self) -> None:
        """Let go of the index; `current` opens it again."""
        index, self._index = self._index, None
        if index is not None:
            try:
                index.close()
            except INDEX_ERRORS:
                # Its file is damaged or gone; there is nothing more to lose.
                return

    def close(self) -> None:
        """Let go of the folder, for good."""
        self.is_closed = True
        self.close_index()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def prepare_for_fork(self) -> None:
        """Let go of what must not be open in two processes; all who use the index connect anew."""
        self.close_index()
        if self.opened is not None:
            number, path = self.opened
            self.opened = (number + 1, path)

    def forget_parent(self) -> None:
        """In a child that came by a fork: the sign of life is the parent's, and must end with it."""
        if self._lock is not None:
            self._lock.forget()

    def living_writers(self) -> set[str]:
        """The ids of the other processes' (or other stores') writers on this folder."""
        return living_writers(self.folder.writers, self.writer_id)

    @property
    def writer_id(self) -> str:
        """This writer's id, or "" while the folder is not open."""
        return self._lock.id if self._lock is not None else ""

    def _open(self) -> None:
        if self._refusal is not None:
            raise FolderRefusedError(self._refusal)
        self.folder.prepare()
        first = self.folder.generation()
        for generation in range(first, first + MAX_GENERATIONS):
            path = self.folder.index_path(generation)
            lock, bodies = self._writer_of(path)
            self._path = path
            try:
                _check_files(path)
                self._index = Index(path, bodies, lock.id, secrets.token_bytes(32), self._sightings.change_all)
            except INDEX_ERRORS as error:
                if not is_damage(error):
                    raise
                self.folder.point_to(generation + 1)
                continue
            self._seen = self._look()
            epoch = self.opened[0] + 1 if self.opened is not None else 1
            self.secret = (epoch, self._index.secret)
            self.opened = (epoch, path)
            self._sightings.begin(self._index.version())
            return
        raise ForeignIndexError(f"no index in {self.folder.path} can be used")

    def _writer_of(self, path: Path) -> tuple[WriterLock, Bodies]:
        """Who writes to an index: another id for another one, so that bodies of an abandoned one can be swept."""
        if self._lock is not None and (not self._lock.is_held or self._path != path):
            self._lock.release()
            self._lock = None
        if self._lock is None or self.bodies is None:
            self._lock = WriterLock(self.folder.writers)
            # With its writer's id, and as long: it counts the names that were given.
            self.bodies = Bodies(self.folder.bodies, self._lock.id)
        return self._lock, self.bodies

    def _look(self) -> object:
        return None if self._path is None else (identity(self._path), self.folder.pointer_identity())


def _check_files(path: Path) -> None:
    """ForeignIndexError if SQLite would follow a link here, or find something that belongs to another file."""
    # In this order: whoever makes an index makes it before what is beside it.
    beside = [Path(f"{path}{suffix}") for suffix in SIDECARS]
    found = [other for other in beside if is_there(other)]
    if not is_there(path):
        if found:
            # Somebody may hold the file that was taken away, and would share these with the new one.
            raise ForeignIndexError(f"{path.name} was taken from its {found[0].name}")
        return
    for file in (path, *found):
        if not is_file(file) and is_there(file):
            raise ForeignIndexError(f"{file.name} is no file")
    make_file_private(path)
