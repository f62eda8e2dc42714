"""Keeps the index open: opens and reopens it, and abandons it for the next generation when it is damaged.

For the writer's thread. A folder that was deleted, or an index that another process abandoned, is noticed by
looking at files' identities before each use; nothing here says what to do when the folder cannot be used.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from .bodies import Bodies
from .folder import Folder, FolderRefusedError, identity
from .index import Index
from .schema import ForeignIndexError
from .writer_lock import WriterLock, living_writers

MAX_GENERATIONS = 8
"""Damaged indexes passed over at one opening; more is no accident."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# SQLITE_ERROR from statements that are known to be right: a table or column is not there.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_CORRUPTION = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_CUT_SHORT = sqlite3.SQLITE_IOERR_SHORT_READ


def is_busy(error: BaseException) -> bool:
    """Whether another process (or a checkpoint) holds the index; it passes."""
    return _primary_code(error) in _BUSY


def is_corruption(error: BaseException) -> bool:
    """Whether SQLite itself found the file broken."""
    return _primary_code(error) in _CORRUPTION or getattr(error, "sqlite_errorcode", None) == _CUT_SHORT


def is_damage(error: BaseException) -> bool:
    """Whether the index file itself is broken or not ours; it does not pass."""
    return isinstance(error, ForeignIndexError) or _primary_code(error) in _DAMAGE or is_corruption(error)


def _primary_code(error: BaseException) -> int | None:
    # Errors that the sqlite3 module raises by itself carry no code.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


class Keeper:
    """The index of a folder, as long as there is one that can be used."""

    def __init__(self, folder: Folder, refusal: str | None = None) -> None:
        self.folder = folder
        # Why the folder must not be used at all, if so.
        self._refusal = refusal
        # The number of the opening and the file, published together when the index is ready to be read: a reader
        # whose connection is of an earlier opening connects anew.
        self.opened: tuple[int, Path] | None = None
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
            except sqlite3.Error:
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
        if self._lock is None or not self._lock.is_held:
            self._lock = WriterLock(self.folder.writers)
            # With its writer's id, and as long: it counts the names that were given.
            self.bodies = Bodies(self.folder.bodies, self._lock.id)
        assert self.bodies is not None
        first = self.folder.generation()
        for generation in range(first, first + MAX_GENERATIONS):
            path = self._path = self.folder.index_path(generation)
            try:
                # Asked twice: another process may make it in between.
                if identity(path) is None and (path.is_symlink() or path.exists()) and identity(path) is None:
                    raise ForeignIndexError(f"{path.name} is no file")
                self._index = Index(path, self.bodies, self._lock.id, secrets.token_bytes(32))
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.folder.point_to(generation + 1)
                continue
            self._seen = self._look()
            self.opened = (self.opened[0] + 1 if self.opened is not None else 1, path)
            return
        raise ForeignIndexError(f"no index in {self.folder.path} can be used")

    def _look(self) -> object:
        return None if self._path is None else (identity(self._path), self.folder.pointer_identity())
