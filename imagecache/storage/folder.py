"""Our folder inside the given one: who may look into it, what lies where, and which index file is in use.

::

    <given>/imagecache-v1/       0700, ours alone
        current                  the number of the index in use
        index-<n>.sqlite         opened by nothing but SQLite, never renamed
        bodies/ab/<name>         bodies that are too large for the index
        writers/<id>.lock        one for each living writer
        held/<name>              copies handed out as files

Nothing here opens the index.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from .file_system import network_file_system

NAME = "imagecache-v1"
"""The layout's version is in the name: another layout lives beside it, and neither touches the other."""

_PRIVATE = 0o700


class FolderRefusedError(Exception):
    """The folder is not ours alone, so that what lies in it cannot be trusted."""


class Folder:
    """The paths of a cache folder, and what keeps them private."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self.bodies = self.path / "bodies"
        self.writers = self.path / "writers"
        self.held = self.path / "held"
        self._pointer = self.path / "current"

    def prepare(self) -> None:
        """Make what is missing. FolderRefusedError if it is another's or open to others, OSError if it cannot be."""
        self.path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if kind := network_file_system(self.path.parent):
            raise FolderRefusedError(f"{self.path.parent} lies on a network file system ({kind}); give a local folder")
        make_private(self.path)
        _check_private(self.path)
        for folder in (self.bodies, self.writers, self.held):
            make_private(folder)

    def index_path(self, generation: int) -> Path:
        """Where the index of that generation is."""
        return self.path / f"index-{generation}.sqlite"

    def generation(self) -> int:
        """The generation in use, 1 where nothing says otherwise; OSError if that cannot be read."""
        try:
            return max(1, int(self._pointer.read_bytes()[:20]))
        except (FileNotFoundError, ValueError):
            # No pointer, or a damaged one: the highest that was begun.
            return max(self._generations(), default=1)

    def pointer_identity(self) -> tuple[int, int] | None:
        """Changes whenever another index is pointed to."""
        try:
            found = self._pointer.lstat()
        except OSError:
            return None
        # The file is a new one each time, but its number may be an old one's.
        return found.st_ino, found.st_mtime_ns

    def point_to(self, generation: int) -> None:
        """Make all processes use that generation. Two that abandon the same one come to the same next."""
        new = self.path / f"current-{secrets.token_hex(8)}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"%d\n" % generation)
            new.replace(self._pointer)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def drop_old_indexes(self, current: int) -> None:
        """Remove abandoned generations. Only while no other process lives here: one may still hold them."""
        for generation in self._generations():
            if generation < current:
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(OSError):
                        Path(f"{self.index_path(generation)}{suffix}").unlink(missing_ok=True)

    def _generations(self) -> list[int]:
        numbers = (path.stem.partition("-")[2] for path in self.path.glob("index-*.sqlite"))
        return [int(number) for number in numbers if number.isascii() and number.isdecimal()]


def make_private(path: Path) -> None:
    """Make a folder for us alone; one that is there is left as it is. OSError if it cannot be made."""
    try:
        path.mkdir(mode=_PRIVATE)
    except FileExistsError:
        return
    # A umask can only have taken away, perhaps too much.
    path.chmod(_PRIVATE)


def _check_private(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FolderRefusedError(f"{path} is no folder")
    if sys.platform == "win32":
        # A user's profile is private there by its access list; the mode says nothing.
        return
    if found.st_uid != os.geteuid():
        raise FolderRefusedError(f"{path} belongs to another user")
    if found.st_mode & 0o077:
        raise FolderRefusedError(f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}, not 700)")


def identity(path: Path) -> tuple[int, int] | None:
    """Which file that is, or None if there is none: tells a folder that was deleted and made anew."""
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
