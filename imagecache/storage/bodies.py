"""Bodies in files: named after their key hash and their writer, written once, whole before anything refers to them.

Blocking, for worker threads. This file knows names and bytes, not rows: whether a file is still wanted is the
caller's to say.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .folder import READ, is_file, is_folder, make_private, open_new, write_new
from .record import DamagedError
from .writer_lock import ID_LENGTH

_NAME = re.compile(rf"([0-9a-f]{{64}})-([0-9a-f]{{{ID_LENGTH}}})[0-9a-f]+\.[a-z0-9]{{1,8}}", re.ASCII)
_KEY_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHARD = re.compile(r"[0-9a-f]", re.ASCII)


class Bodies:
    """The body files of one folder, as one writer sees them."""

    def __init__(self, folder: Path, writer_id: str) -> None:
        self._folder = folder
        self._writer_id = writer_id
        self._numbers = itertools.count()
        # Of this writer, which nothing refers to and which could not be removed: no sweep would take them while it
        # lives.
        self._left: set[str] = set()

    def write(self, key_hash: str, body: bytes, format_name: str | None) -> str:
        """Write a new file and return its name; OSError, with nothing left behind, if that fails."""
        extension = (format_name or "").lower()
        if not (extension.isascii() and extension.isalnum() and len(extension) <= 8):
            extension = "body"
        name = self._new_name(key_hash, extension)
        path = self.path(name)
        try:
            if not is_folder(path.parent):
                make_private(path.parent)
            write_new(path, body)
        except OSError:
            self.drop(name)
            raise
        return name

    def begin(self, key_hash: str) -> tuple[str, int]:
        """Make a new, empty file; its name, and a descriptor to write and read. For any thread; OSError if it fails."""
        name = self._new_name(key_hash, "body")
        path = self.path(name)
        if not is_folder(path.parent):
            make_private(path.parent)
        return name, open_new(path)

    def leave(self, name: str) -> None:
        """Nobody wants that file any more: it goes when `drop_left` is called next. For any thread; never blocks."""
        self._left.add(name)

    def _new_name(self, key_hash: str, extension: str) -> str:
        if not _KEY_HASH.fullmatch(key_hash):
            raise ValueError(f"not the hash of a key: {key_hash!r}")
        return f"{key_hash}-{self._writer_id}{next(self._numbers):x}.{extension}"

    def drop(self, name: str) -> None:
        """Remove a file that nothing refers to, now or when `drop_left` is called next."""
        if not self.remove(name):
            self._left.add(name)

    def drop_left(self) -> None:
        """Try once more to remove what could not be removed."""
        for name in list(self._left):
            if self.remove(name):
                self._left.discard(name)

    def read(self, name: str, byte_count: int) -> bytes:
        """The bytes of a file. DamagedError if it is not there, not a file, or not of that length; else OSError."""
        path = self.path(name)
        if not is_folder(path.parent):
            raise DamagedError("the body's folder is none")
        if not hasattr(os, "O_NOFOLLOW") and not is_file(path):
            raise DamagedError("the body is no file")
        try:
            descriptor = os.open(path, READ)
        except OSError as error:
            # Gone, a link, a folder: all that cannot be what was written.
            if not self.is_intact(name, byte_count):
                raise DamagedError(f"the body cannot be opened: {error}") from error
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != byte_count:
                raise DamagedError(f"the body is no file of {byte_count} bytes")
            return _read_whole(descriptor, byte_count)
        finally:
            os.close(descriptor)

    def is_own(self, name: str) -> bool:
        """Whether this writer gave that name."""
        match = _NAME.fullmatch(name)
        return match is not None and match[2] == self._writer_id

    def is_intact(self, name: str, byte_count: int) -> bool:
        """Whether a file of that name and length is there; its content is not looked at."""
        try:
            path = self.path(name)
            found = path.lstat()
            if not is_folder(path.parent):
                return False
        except (OSError, DamagedError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == byte_count

    def remove(self, name: str) -> bool:
        """Remove a file; whether it is gone. On Windows one that is being read stays."""
        try:
            path = self.path(name)
            if is_folder(path.parent) and not is_folder(path):
                path.unlink(missing_ok=True)
        except DamagedError:
            # No name of ours, so no file of ours; nor is a folder, or what lies behind a link.
            return True
        except OSError:
            return False
        return True

    def path(self, name: str) -> Path:
        """Where a body of that name is; DamagedError for a name that none of ours has."""
        # A damaged row may hold anything.
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DamagedError(f"not the name of a body: {name!r}")
        # Sixteen sub-folders: each file that is the first of its own costs two to three times the next ones (a folder,
        # and on ext4 another part of the disk), and file systems find a name among ten thousands at once.
        return self._folder / name[0] / name

    def shards(self) -> list[Path]:
        """The sub-folders, 16 at most; what is foreign is passed over, and so is a link."""
        with contextlib.suppress(OSError):
            return [path for path in self._folder.iterdir() if _SHARD.fullmatch(path.name) and is_folder(path)]
        return []

    def names(self, shard: Path) -> Iterator[tuple[str, str, str]]:
        """Name, key hash and writer id of every body in a sub-folder; foreign files are passed over."""
        with contextlib.suppress(OSError):
            for path in shard.iterdir():
                if match := _NAME.fullmatch(path.name):
                    yield path.name, match[1], match[2]


def _read_whole(descriptor: int, byte_count: int) -> bytes:
    body = os.read(descriptor, byte_count)
    if len(body) == byte_count:
        return body
    parts = [body]
    while part := os.read(descriptor, byte_count):
        parts.append(part)
    return b"".join(parts)
