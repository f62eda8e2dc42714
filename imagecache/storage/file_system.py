"""Whether a folder lies on another machine, where SQLite's write-ahead log cannot be shared and locks may be none.

Asked once when a folder is opened. What cannot be found out is taken for local: SQLite says by itself if it is not.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "smb2", "afs", "auristorfs", "ceph", "lustre", "beegfs", "gpfs", "panfs",
    "ncpfs", "glusterfs", "orangefs", "pvfs2", "davfs", "coda", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph",
    "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.davfs2", "fuse.smbnetfs", "fuse.juicefs", "fuse.goofys",
    "fuse.mount-s3",
})  # fmt: skip
"""File systems that several machines write to. What a virtual machine shares with its host (9p, virtiofs) is not among
them: SQLite works there, or says that it does not."""

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_DRIVE_REMOTE = 4


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of network file system that an absolute path lies on, or None if it lies on none that is known."""
    if sys.platform == "win32":
        return _windows_share(path)
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = kind_at(path, text)
    return kind if kind in NETWORK else None


def kind_at(path: Path, mountinfo: str) -> str | None:
    """The file system that a path lies on, by the table of mounts as Linux writes it (proc_pid_mountinfo(5)).

    >>> kind_at(Path("/home/me/x"), "36 25 0:32 / /home rw,noatime shared:1 - nfs4 server:/home rw")
    'nfs4'
    """
    found, longest = None, -1
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or not kinds[0]:
            continue
        # Spaces in names are written as octal numbers.
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # A later line covers an earlier one at the same point.
        if len(point.parts) >= longest and path.is_relative_to(point):
            found, longest = kinds[0], len(point.parts)
    return found


def _windows_share(path: Path) -> str | None:  # pragma: no cover - Windows only
    import ctypes

    if path.drive.startswith("\\\\"):
        return "a share"
    windll = getattr(ctypes, "windll", None)
    is_remote = windll is not None and windll.kernel32.GetDriveTypeW(f"{path.drive}\\") == _DRIVE_REMOTE
    return "a network drive" if is_remote else None
