"""What control groups leave this process of the machine's memory: v1, v2, both at once, nested, or inside a container.

Everything is read below a given root, so that tests can lay out any machine. Nothing here raises: what cannot be
read limits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 2**60
"""v1 writes "unlimited" as a number beyond any machine."""

_OCTAL = re.compile(r"\\([0-7]{3})")
_HIERARCHICAL = re.compile(r"^hierarchical_memory_limit (\d+)$", re.MULTILINE)
_LIMIT_FILES = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
# Where distributions mount them, for where mountinfo tells nothing. Hybrid machines have both versions.
_USUAL_MOUNTS = (
    (2, "/sys/fs/cgroup"),
    (2, "/sys/fs/cgroup/unified"),
    (1, "/sys/fs/cgroup/memory"),
)


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where the tree of one version can be seen, and which of its groups (``top``) is seen there."""

    version: int
    top: str
    point: str


def memory_limits(root: Path = Path("/")) -> list[int]:
    """The bytes that each control group above this process allows it; empty where none does. The smallest counts."""
    groups = dict(_own_groups(_read(root / "proc/self/cgroup")))
    mounts = list(_mounts(_read(root / "proc/self/mountinfo")))
    known = {mount.version for mount in mounts}
    mounts += [_Mount(version, "/", point) for version, point in _USUAL_MOUNTS if version not in known]
    found: list[int] = []
    for mount in mounts:
        top = root / mount.point.lstrip("/")
        for folder in _lineage(groups.get(mount.version, "/"), mount.top):
            found += _limits(top / folder, mount.version)
    return found


def _own_groups(text: str) -> Iterator[tuple[int, str]]:
    """The version and path of the groups of this process that can limit memory (cgroups(7), /proc/pid/cgroup)."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) == ("0", ""):
            yield 2, path
        elif "memory" in controllers.split(","):
            yield 1, path


def _mounts(text: str) -> Iterator[_Mount]:
    """The mounts of cgroup2 and of v1's memory controller (proc_pid_mountinfo(5))."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        is_v1 = kind[0] == "cgroup" and "memory" in kind[2].split(",")
        if is_v1 or kind[0] == "cgroup2":
            yield _Mount(1 if is_v1 else 2, _unescaped(fields[3]), _unescaped(fields[4]))


def _lineage(path: str, top: str) -> Iterator[PurePosixPath]:
    """The folders of a group and of all above it, as far as a mount that shows ``top`` shows them."""
    group = PurePosixPath(path)
    try:
        group = group.relative_to(top)
    except ValueError:
        # The path is the host's and the mount is the container's, or the other way round.
        group = PurePosixPath()
    if ".." in group.parts:
        # Outside this process's namespace: nothing below the mount is above it.
        group = PurePosixPath()
    yield group
    yield from group.parents


def _limits(folder: Path, version: int) -> Iterator[int]:
    texts = [_read(folder / name).strip() for name in _LIMIT_FILES[version]]
    if version == 1:
        # What those above allow that a container cannot see.
        texts += _HIERARCHICAL.findall(_read(folder / "memory.stat"))
    for text in texts:
        if text.isascii() and text.isdigit() and 0 < int(text) < UNLIMITED:
            yield int(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):
        return ""


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
