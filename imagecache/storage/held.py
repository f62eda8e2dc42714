"""Copies of stored bodies that are handed out as files: read-only, with a true suffix, for an hour and a little.

A name says when the file may go, so that nobody's clock but ours and no file time is asked. Blocking, for worker
threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from ..clock import Clock
from ..entry import Entry
from .folder import READ, is_file, make_private, write_new

KEPT_SECONDS = 3_600.0
"""The least time that a held file stays."""
SLOT_SECONDS = 1_800.0
"""Files handed out within one slot of time are one file; it stays for the hour after the slot's end."""

_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}-([0-9a-f]+)(\.[A-Za-z0-9]{1,16}){0,2}", re.ASCII)
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,10})?", re.ASCII)


class HeldFiles:
    """The files that one storage hands out, in the cache's folder or, where there is none, in a temporary one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._elsewhere: Path | None = None
        # For who never closes: once, then or when the interpreter ends.
        self._remove_temporary: Callable[[], object] | None = None

    def hold(self, entry: Entry, body: bytes, suffix: str, folder: Path | None = None) -> Path:
        """Write the bytes to a read-only file and return its path; one that is there already is handed out again.

        ``suffix`` is as in ``".png"`` or "". ValueError for another kind, OSError if the file cannot be written.
        """
        if not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"a suffix is a point and up to 10 letters or digits, not {suffix!r}")
        folder, now = folder or self._temporary(), self._clock.time()
        path = folder / f"{entry.row.key_hash}-{entry.checksum[:16]}-{int(now // SLOT_SECONDS):x}{suffix}"
        # First: what lies behind a link is not ours to hand out.
        make_private(folder)
        if _is_copy(path, body):
            return path
        sweep_held(folder, now)
        new = folder / f"{path.stem}.{secrets.token_hex(8)}.new"
        write_new(new, body, 0o400)
        try:
            # Written elsewhere first: whoever is handed the same path must find it whole.
            new.rename(path)
        except FileExistsError:
            # Windows does not rename over a file: another caller was first, with the same bytes.
            _remove(new)
        except OSError:
            _remove(new)
            raise
        return path

    @property
    def has_temporary(self) -> bool:
        """Whether a temporary folder was made."""
        return self._elsewhere is not None

    def close(self) -> None:
        """Remove the temporary folder, if there is one; what lies in the cache's own stays its hour."""
        if self._remove_temporary is not None:
            self._remove_temporary()

    def _temporary(self) -> Path:
        with self._lock:
            if self._elsewhere is None:
                self._elsewhere = Path(tempfile.mkdtemp(prefix="imagecache-"))
                self._remove_temporary = weakref.finalize(self, _remove_folder, self._elsewhere, os.getpid())
            return self._elsewhere


def sweep_held(folder: Path, now: float) -> None:
    """Remove the held files whose hour has passed."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match and (int(match[1], 16) + 1) * SLOT_SECONDS + KEPT_SECONDS <= now:
                _remove(path)


def _is_copy(path: Path, body: bytes) -> bool:
    """Whether that file has these bytes. What has others in its place is removed where Windows needs it."""
    try:
        if not is_file(path):
            return False
        descriptor = os.open(path, READ)
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size == len(body) and file.read() == body:
                return True
    except OSError:
        return False
    if sys.platform == "win32":
        # Nothing is renamed over a file there.
        _remove(path)
    return False


def _remove_folder(folder: Path, pid: int) -> None:
    # A process that came by a fork ends, too, and its parent's files are not its own.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            # Nothing that is read-only is removed there.
            path.chmod(0o600)
        path.unlink()
