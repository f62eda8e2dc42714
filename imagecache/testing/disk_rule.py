"""One fault of a :class:`~imagecache.testing.FaultyDisk`: which calls it meets, and what it does to them."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

Fault = Literal["ENOSPC", "EIO", "EACCES", "EROFS", "ENOENT", "EMFILE", "locked", "corrupt"]

Action = Literal["fail", "hold", "delay", "cut", "kill"]

# Windows knows no SIGKILL, and ends a process at once for any signal but two.
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

# The errno of a file operation; class, code and words of SQLite's for the same trouble.
_FAULTS: dict[str, tuple[int, type[sqlite3.Error], int, str]] = {
    "ENOSPC": (errno.ENOSPC, sqlite3.OperationalError, 13, "database or disk is full"),
    "EIO": (errno.EIO, sqlite3.OperationalError, 10, "disk I/O error"),
    "EACCES": (errno.EACCES, sqlite3.OperationalError, 14, "unable to open database file"),
    "EROFS": (errno.EROFS, sqlite3.OperationalError, 8, "attempt to write a readonly database"),
    "ENOENT": (errno.ENOENT, sqlite3.OperationalError, 14, "unable to open database file"),
    "EMFILE": (errno.EMFILE, sqlite3.OperationalError, 14, "unable to open database file"),
    "locked": (errno.EBUSY, sqlite3.OperationalError, 5, "database is locked"),
    "corrupt": (errno.EIO, sqlite3.DatabaseError, 11, "database disk image is malformed"),
}

_SQLITE_NAMES = {
    5: "SQLITE_BUSY", 8: "SQLITE_READONLY", 10: "SQLITE_IOERR", 11: "SQLITE_CORRUPT", 13: "SQLITE_FULL",
    14: "SQLITE_CANTOPEN",
}  # fmt: skip


class DiskCall(NamedTuple):
    """One operation that was tried under the folder."""

    operation: str
    path: str


class DiskRule:
    """What happens to the operations that match it. :meth:`remove` ends it; ``calls`` counts those it met."""

    def __init__(
        self,
        operation: str,
        action: Action,
        *,
        name: str = "*",
        fault: Fault = "EIO",
        seconds: float = 0.0,
        after: int = 0,
        times: int | None = None,
    ) -> None:
        if fault not in _FAULTS:
            raise ValueError(f"{fault!r} is none of {', '.join(_FAULTS)}")
        self.action = action
        self.calls = 0
        self._operation = operation
        self._name = name
        self._fault = fault
        self._seconds = seconds
        self._last = None if times is None else after + times
        self._after = after
        self._gate = threading.Event()
        self._arrived = threading.Condition()
        self._is_removed = False
        self._spared: tuple[str, ...] = ()

    def spare(self, *operations: str) -> None:
        """Leave operations alone that the pattern matches."""
        self._spared = operations

    def matches(self, call: DiskCall) -> bool:
        """Whether it is about this call at all, fired or not."""
        is_named = fnmatchcase(call.operation, self._operation) and fnmatchcase(Path(call.path).name, self._name)
        return is_named and call.operation not in self._spared and not self._is_removed

    def meet(self, call: DiskCall) -> bool:
        """Do to the call what the rule says, if its turn has come; whether it is to be cut short."""
        with self._arrived:
            number, self.calls = self.calls, self.calls + 1
            self._arrived.notify_all()
        if number < self._after or (self._last is not None and number >= self._last):
            return False
        match self.action:
            case "hold":
                self._gate.wait()
            case "delay":
                time.sleep(self._seconds)
            case "kill":
                os.kill(os.getpid(), _KILL)
            case "fail" if call.operation.startswith("sqlite."):
                raise _sqlite_error(self._fault)
            case "fail":
                code = _FAULTS[self._fault][0]
                raise OSError(code, os.strerror(code), call.path)
            case "cut":
                return True
        return False

    def wait_until_met(self, calls: int = 1, timeout: float = 10.0) -> None:
        """Block this thread until so many calls have come. Raises TimeoutError after ``timeout`` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.calls >= calls, timeout):
                raise TimeoutError(f"{self.calls} of {calls} {self._operation!r} calls came in {timeout} s")

    def remove(self) -> None:
        """The disk works again, as far as this rule goes; what it holds goes on."""
        self._is_removed = True
        self._gate.set()


def _sqlite_error(fault: Fault) -> sqlite3.Error:
    _, kind, code, words = _FAULTS[fault]
    error = kind(words)
    # As the module itself sets them on an error of the library.
    error.sqlite_errorcode = code
    error.sqlite_errorname = _SQLITE_NAMES[code]
    return error
