"""Our folder inside the given one: who may look into it, what lies where, and which index file is in use.

::

    <given>/imagecache-v2/       0700, ours alone
        current                  the number of the index in use
        index-<n>.sqlite         opened by nothing but SQLite, never renamed
        bodies/a/<name>          bodies that are too large for the index
        writers/<id>.lock        one for each living writer
        held/<name>              copies handed out as files

Nothing here opens the index.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from .file_system import network_file_system

VERSION = 2
"""Of the layout and of the index's schema as one: whoever changes either adds one."""
NAME = f"imagecache-v{VERSION}"
"""The version is in the name: programs with two versions of the library on one folder live beside each other, and
neither touches the other. What older versions left is removed once nobody lives there."""

_PRIVATE = 0o700
_PRIVATE_FILE = 0o600

# O_BINARY is Windows', the others POSIX's; a flag that a system lacks has nothing to protect there.
_COMMON = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
# O_NONBLOCK: a pipe put in a file's place must not stop the thread that opens it.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _COMMON
READ_WRITE = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | _COMMON
"""How files are opened in here: never through a link, never one that others have begun, never to wait."""

SIDECARS = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database."""

_POINTER = re.compile(rb"([1-9][0-9]{0,8})\n")
_INDEX = re.compile(r"index-([1-9][0-9]{0,8})\.sqlite", re.ASCII)
_VERSIONED = re.compile(r"imagecache-v([1-9][0-9]{0,3})", re.ASCII)
_NEW_POINTER = re.compile(r"current-[0-9a-f]{16}", re.ASCII)


class FolderRefusedError(OSError):
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
        match = _POINTER.fullmatch(self._read_pointer())
        # No pointer, or a damaged one: the highest that was begun.
        return int(match[1]) if match else max(self._generations(), default=1)

    def _read_pointer(self) -> bytes:
        try:
            descriptor = os.open(self._pointer, READ)
        except OSError:
            if is_file(self._pointer):
                raise
            return b""
        try:
            # A folder can be opened, but not read.
            return os.read(descriptor, 32) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        finally:
            os.close(descriptor)

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
        write_new(new, b"%d\n" % generation)
        with contextlib.suppress(OSError):
            # In the way, if it is a folder; one that somebody has filled stays, and no pointer can be written.
            self._pointer.rmdir()
        try:
            new.replace(self._pointer)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def older(self) -> list[Path]:
        """The folders of older versions beside this one."""
        found = ((path, _VERSIONED.fullmatch(path.name)) for path in list_folder(self.path.parent))
        return [path for path, match in found if match and int(match[1]) < VERSION and is_folder(path)]

    def drop_old_indexes(self, current: int) -> None:
        """Remove abandoned generations. Only while no other process lives here: one may still hold them."""
        for generation in self._generations():
            if generation < current:
                # The index last: while it is there, the next sweep finds what this one could not remove.
                for suffix in (*SIDECARS, ""):
                    with contextlib.suppress(OSError):
                        Path(f"{self.index_path(generation)}{suffix}").unlink(missing_ok=True)
        for path in list_folder(self.path):
            if _NEW_POINTER.fullmatch(path.name):
                # Somebody died between writing it and putting it in place.
                with contextlib.suppress(OSError):
                    path.unlink()

    def _generations(self) -> list[int]:
        return [int(match[1]) for path in list_folder(self.path) if (match := _INDEX.fullmatch(path.name))]


def make_private(path: Path) -> None:
    """Make a folder for us alone; one that is there is left as it is. OSError if it cannot be made, and
    FolderRefusedError if something else is in its place: a link is not followed."""
    try:
        path.mkdir(mode=_PRIVATE)
    except FileExistsError:
        if not is_folder(path):
            raise FolderRefusedError(f"{path} is no folder") from None
        return
    # A umask can only have taken away, perhaps too much.
    path.chmod(_PRIVATE)


def write_new(path: Path, content: bytes, mode: int = _PRIVATE_FILE) -> None:
    """Write a file that must not exist yet, whole or not at all; OSError if it cannot be done."""
    descriptor = os.open(path, NEW, mode)
    try:
        try:
            if sys.platform != "win32":
                # A umask may have taken even our own rights away.
                os.fchmod(descriptor, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def open_new(path: Path) -> int:
    """Make a file that must not exist yet; a descriptor to write and read it. OSError if it cannot be done."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _COMMON, _PRIVATE_FILE)
    if sys.platform != "win32":
        os.fchmod(descriptor, _PRIVATE_FILE)
    return descriptor


def make_file_private(path: Path) -> None:
    """Give a file of ours the rights that it should have, if something has changed them."""
    if sys.platform != "win32" and stat.S_IMODE(path.lstat().st_mode) != _PRIVATE_FILE:
        path.chmod(_PRIVATE_FILE)


def is_folder(path: Path) -> bool:
    """Whether that is a folder, and no link to one. OSError if it cannot be looked at."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether that is a file, and no link to one. OSError if it cannot be looked at."""
    return stat.S_ISREG(_mode(path))


def list_folder(path: Path) -> list[Path]:
    """What lies in a folder, nothing if there is none; OSError if it cannot be looked at."""
    try:
        return list(path.iterdir())
    except FileNotFoundError:
        return []


def is_there(path: Path) -> bool:
    """Whether anything is there, be it a link to nothing. OSError if it cannot be looked at."""
    return _mode(path) != 0


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


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
        # Not the path's own method: before each use of an index, its three calls more are felt.
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
