"""Who is alive: each writer holds a locked file while it lives, and body names carry the writer's id.

So a sweep can tell the file that a crash left behind from the one that a living process is about to commit.
The lock goes with the process, however it ends. Nothing here looks at bodies or at the index.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from pathlib import Path

from .folder import READ_WRITE, is_file, list_folder

ID_LENGTH = 16
"""Hex digits of a writer's id."""
_SUFFIX = ".lock"
_NAME = re.compile(rf"([0-9a-f]{{{ID_LENGTH}}})\.lock", re.ASCII)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        # flock and not lockf: a POSIX lock would vanish as soon as this process closed any descriptor of the file.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class WriterLock:
    """The sign of life of this process in a folder; ``id`` is part of the name of every body it writes."""

    def __init__(self, folder: Path) -> None:
        """Take a new id; OSError if the folder cannot be written, or knows no locks."""
        for _ in range(8):
            self.id = secrets.token_hex(ID_LENGTH // 2)
            self._path = folder / f"{self.id}{_SUFFIX}"
            self._descriptor = os.open(self._path, READ_WRITE | os.O_CREAT | os.O_EXCL, 0o600)
            if sys.platform != "win32":
                # Whatever the umask: others must be able to try the lock.
                os.fchmod(self._descriptor, 0o600)
            # A sweep that came between the two calls may hold it, or have taken it for a dead one's.
            if _try_lock(self._descriptor) and self._path.exists():
                return
            self.release()
        raise OSError(f"no file in {folder} can be locked")

    @property
    def is_held(self) -> bool:
        """Whether others can still see the sign: the folder may have been deleted."""
        return self._descriptor >= 0 and self._path.exists()

    def forget(self) -> None:
        """In a child that came by a fork: let the lock go with the parent, whose file stays where it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def release(self) -> None:
        """Give the id up; safe to call again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self._path.unlink()


def living_writers(folder: Path, own: str) -> set[str]:
    """The ids of the other writers that live; the files of dead ones are removed, and foreign ones passed over."""
    living = set()
    for path in list_folder(folder):
        match = _NAME.fullmatch(path.name)
        if match and match[1] != own and not _is_dead(path):
            living.add(match[1])
    return living


def _is_dead(path: Path) -> bool:
    try:
        # What is no file, nor was, is nobody's sign of life.
        if not is_file(path):
            return True
        descriptor = os.open(path, READ_WRITE)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not _try_lock(descriptor):
            return False
        if sys.platform != "win32":
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    if sys.platform == "win32":
        # An open file cannot be removed there; a new writer that takes the name in between is impossible,
        # since ids are never used twice.
        with contextlib.suppress(OSError):
            path.unlink()
    return True
