"""What the machine offers this process: processors, memory, a folder for caches. Read once, at a manager's start."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from ..errors import StorageError
from ..units import parse_size
from .cgroup import memory_limits

logger = logging.getLogger("imagecache")

MEMORY_FRACTION = 8
"""The memory tier takes at most an eighth of what the process may use …"""
MEMORY_CAP = 256 * 2**20
"""… and never more than this: many programs share one machine."""

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def usable_cpus() -> int:
    """The processors that this process may use, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def usable_memory(root: Path = Path("/")) -> int:
    """The bytes of memory that this process may use: the machine's, or the least that a control group above it allows.

    ``root`` is where the files of the kernel are looked for.
    """
    limits = [limit for limit in (_physical_memory(), *memory_limits(root)) if limit]
    return min(limits, default=MEMORY_CAP * MEMORY_FRACTION)


def default_memory_limit(root: Path = Path("/")) -> int:
    """The memory tier's limit where none is given, bytes."""
    return min(usable_memory(root) // MEMORY_FRACTION, MEMORY_CAP)


def size_limit(given: int | str | None, variable: str, name: str, default: int) -> int:
    """A limit in bytes: the one given, else that of the environment's variable, else the default."""
    if given is not None:
        return parse_size(given, name=name)
    text = os.environ.get(variable)
    return parse_size(text, name=variable) if text else default


def cache_folder(name: str, directory: str | os.PathLike[str] | None) -> Path | None:
    """The folder to keep a cache in: the one given, or one by name where the system keeps caches.

    ``IMAGECACHE_DIR`` stands in for the system's place. None, with a warning, where there is none to be had.
    """
    if not isinstance(name, str) or _FOLDER_NAME.fullmatch(name) is None:
        raise ValueError(f"a cache name is 1 to 64 letters, digits, dots, dashes or underscores, not {name!r}")
    if directory is not None:
        return Path(directory).expanduser()
    if base := os.environ.get("IMAGECACHE_DIR"):
        return Path(base).expanduser() / name
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_path("imagecache", appauthor=False)) / name
        if folder.is_absolute():
            return folder
        # A "~" that nobody could expand, in a container without a user: it would lie in the working directory.
        error: Exception = StorageError(f"the system names {folder} for it")
    except (RuntimeError, KeyError, OSError) as unknown:
        # No home directory, as in many a container: Path.home() says so with a RuntimeError.
        error = unknown
    logger.warning("no folder for the cache %r: %s; keeping images in memory only", name, error)
    return None


def _physical_memory() -> int | None:
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _windows_memory() -> int | None:  # pragma: no cover - Windows only
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
        )  # fmt: skip

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    windll = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.total)
