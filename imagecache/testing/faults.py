"""A disk that fails on purpose: file and SQLite operations under one folder, chosen by name.

The operations are Python's own (``os``, ``open``, ``sqlite3``), patched for the time of a ``with`` block; what
is outside the folder goes through untouched. What SQLite itself reads and writes cannot be seen from here: it
fails by its statements (``faulty_sqlite.py``).
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .disk_rule import DiskCall, DiskRule, Fault
from .faulty_sqlite import faulty_connection

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The functions of `os` behind each operation; an argument's number says which path it is about.
_OS_FUNCTIONS = {
    "open": ("open", 0), "write": ("write", 0), "read": ("read", 0), "fsync": ("fsync", 0), "replace": ("replace", 1),
    "rename": ("rename", 1), "link": ("link", 1), "mkdir": ("mkdir", 0), "rmdir": ("rmdir", 0),
    "unlink": ("unlink", 0), "remove": ("unlink", 0), "chmod": ("chmod", 0), "fchmod": ("chmod", 0),
    "stat": ("stat", 0), "lstat": ("stat", 0), "fstat": ("stat", 0), "listdir": ("list", 0), "scandir": ("list", 0),
    "truncate": ("truncate", 0), "ftruncate": ("truncate", 0), "utime": ("utime", 0),
}  # fmt: skip

_FILE_METHODS = {
    "read": "read", "readinto": "read", "readline": "read", "readlines": "read", "write": "write",
    "writelines": "write", "truncate": "truncate",
}  # fmt: skip


class FaultyDisk:
    """Makes file and SQLite operations under ``folder`` fail, for the time of a ``with`` block.

    >>> with FaultyDisk(folder) as disk:
    ...     rule = disk.fail("write", "ENOSPC")  # from now on
    ...     rule = disk.fail("sqlite.insert", "locked", times=1)
    ...     image = await images.fetch_image(url)  # the image still comes
    ...     disk.heal()  # and caching goes on

    Operations are ``open``, ``read``, ``write``, ``fsync``, ``replace``, ``rename``, ``link``, ``mkdir``, ``rmdir``,
    ``unlink``, ``chmod``, ``stat``, ``list``, ``truncate``, ``utime``, ``sqlite.connect``, ``sqlite.close`` and
    ``sqlite.`` with the first word of a statement (``sqlite.insert``, ``sqlite.begin``, ``sqlite.commit`` …).
    Patterns work: ``"sqlite.*"``, ``"*"``. To fail every operation in turn, run once, count :attr:`calls`, and run
    again with ``fail("*", …, after=n, times=1)``.

    SQLite connections and files opened before the block are not seen. One block at a time in a process.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        # Both: a caller may name the folder by another way than its owner did.
        roots = {str(Path(folder).absolute()), str(Path(folder).resolve())}
        self._roots = tuple(root.rstrip(os.sep) + os.sep for root in roots)
        self._rules: list[DiskRule] = []
        self._paths_of: dict[int, str] = {}
        self._undo: list[tuple[object, str, object]] = []
        self.calls: list[DiskCall] = []
        """Every operation under the folder since the block began, those that failed included."""

    def fail(
        self, operation: str, fault: Fault = "EIO", *, name: str = "*", after: int = 0, times: int | None = None
    ) -> DiskRule:
        """Make an operation fail: ``times`` times (None: always), after letting ``after`` calls through.

        ``name`` is a pattern for the file's name. ``"locked"`` and ``"corrupt"`` are SQLite's; of a file they are
        EBUSY and EIO. Raises ValueError for a fault that is none.
        """
        return self._add(DiskRule(operation, "fail", name=name, fault=fault, after=after, times=times))

    def hold(self, operation: str, *, name: str = "*", after: int = 0, times: int | None = None) -> DiskRule:
        """Make an operation wait, in its thread, until the rule is removed: a disk that hangs."""
        return self._add(DiskRule(operation, "hold", name=name, after=after, times=times))

    def delay(self, operation: str, seconds: float, *, name: str = "*", times: int | None = None) -> DiskRule:
        """Make an operation take that much longer, in its thread: a slow disk."""
        return self._add(DiskRule(operation, "delay", name=name, seconds=seconds, times=times))

    def cut(self, *, name: str = "*", after: int = 0, times: int | None = None) -> DiskRule:
        """Let ``os.write`` take half of what it is given, as it may near the end of a disk."""
        return self._add(DiskRule("write", "cut", name=name, after=after, times=times))

    def kill(self, operation: str, *, name: str = "*", after: int = 0) -> DiskRule:
        """Kill this very process (SIGKILL) as it comes to an operation: for a child that a test has made."""
        return self._add(DiskRule(operation, "kill", name=name, after=after))

    def heal(self) -> None:
        """Remove every rule: the disk works again."""
        rules, self._rules = self._rules, []
        for rule in rules:
            rule.remove()

    def _add(self, rule: DiskRule) -> DiskRule:
        self._rules = [*self._rules, rule]
        return rule

    def meet(self, operation: str, path: str) -> bool:
        """Note a call and let the rules have it; whether it is to be cut short."""
        call = DiskCall(operation, path)
        self.calls.append(call)
        # Every rule that matches counts the call, whatever another one does to it.
        is_cut = [rule.meet(call) for rule in self._rules if rule.matches(call)]
        return any(is_cut)

    def path_of(self, target: object) -> str | None:
        """The path under the folder that an argument (a path, or a descriptor opened there) is about, or None."""
        if isinstance(target, int):
            return self._paths_of.get(target)
        if not isinstance(target, str | bytes | os.PathLike):
            return None
        # Not Path.resolve(): that looks at the disk, which is to be met by nobody but the caller.
        path = os.path.abspath(os.fsdecode(target))  # noqa: PTH100
        return path if (path + os.sep).startswith(self._roots) else None

    # Patching

    def __enter__(self) -> Self:
        for function, (operation, position) in _OS_FUNCTIONS.items():
            if hasattr(os, function):
                self._patch(os, function, self._wrap_os(getattr(os, function), operation, position))
        self._patch(os, "close", self._wrap_close(os.close))
        opened = self._wrap_open(io.open)
        self._patch(io, "open", opened)
        self._patch(builtins, "open", opened)
        self._patch(sqlite3, "connect", self._wrap_connect(sqlite3.connect))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        while self._undo:
            setattr(*self._undo.pop())

    def _patch(self, owner: object, name: str, wrapper: object) -> None:
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, wrapper)

    def _wrap_os(self, original: Callable[_P, _R], operation: str, position: int) -> Callable[_P, _R]:
        @functools.wraps(original)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            path = self.path_of(args[position]) if len(args) > position else None
            if path is None:
                return original(*args, **kwargs)
            if self.meet(operation, path) and operation == "write":
                return original(*_cut(args), **kwargs)  # type: ignore[arg-type]  # the arguments of os.write
            result = original(*args, **kwargs)
            if operation == "open" and isinstance(result, int):
                self._paths_of[result] = path
            return result

        return wrapper

    def _wrap_close(self, original: Callable[[int], None]) -> Callable[[int], None]:
        def close(fd: int) -> None:
            # Forgotten first: the number may be another file's as soon as it is closed.
            self._paths_of.pop(fd, None)
            original(fd)

        return close

    def _wrap_open(self, original: Callable[_P, IO[Any]]) -> Callable[_P, object]:
        @functools.wraps(original)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> object:
            path = self.path_of(args[0]) if args else None
            if path is None:
                return original(*args, **kwargs)
            # A descriptor has been opened before, and was met then.
            if not isinstance(args[0], int):
                self.meet("open", path)
            return _FaultyFile(original(*args, **kwargs), self, path)

        return wrapper

    def _wrap_connect(self, original: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        @functools.wraps(original)
        def connect(
            database: object, *args: object, factory: type[sqlite3.Connection] = sqlite3.Connection, **kwargs: object
        ) -> sqlite3.Connection:
            target = database
            if isinstance(database, str) and database.startswith("file:"):
                target = url2pathname(urlsplit(database).path)
            path = self.path_of(target)
            if path is None:
                return original(database, *args, factory=factory, **kwargs)
            self.meet("sqlite.connect", path)
            return original(database, *args, factory=faulty_connection(factory, self.meet, path), **kwargs)

        return connect


def _cut(args: tuple[object, ...]) -> tuple[object, ...]:
    descriptor, body, *_ = args
    assert isinstance(body, bytes | bytearray | memoryview)
    return descriptor, body[: max(1, len(body) // 2)]


class _FaultyFile:
    """A file object whose reads and writes are met first; everything else is the file's own."""

    def __init__(self, file: IO[Any], disk: FaultyDisk, path: str) -> None:
        self._file = file
        self._disk = disk
        self._path = path

    def __getattr__(self, name: str) -> object:
        operation = _FILE_METHODS.get(name)
        method: object = getattr(self._file, name)
        if operation is None or not callable(method):
            return method

        def met(*args: object) -> object:
            self._disk.meet(operation, self._path)
            return method(*args)

        return met

    def __iter__(self) -> Iterator[Any]:
        self._disk.meet("read", self._path)
        return iter(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
