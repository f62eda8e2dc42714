"""Sizes as people write them. 1 KiB is 1,024 bytes, 1 kB is 1,000."""

from __future__ import annotations

import re

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def parse_size(size: int | str, *, name: str = "size") -> int:
    """A number of bytes from an integer or a text such as ``"256 MiB"``.

    Raises ValueError for what is no size or negative, TypeError for other types; ``name`` is the
    argument's name in the message.

    >>> parse_size("1.5 KiB")
    1536
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(f"{name} is an integer of bytes or a text such as '256 MiB', not {size!r}")
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"{name} cannot be negative: {size}")
        return size
    match = _SIZE.fullmatch(size)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{name} is no size: {size!r}; write for example '256 MiB' or '1 GiB'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def format_size(byte_count: float) -> str:
    """A size for people, in binary units: ``format_size(1536)`` is ``'1.5 KiB'``."""
    size = float(byte_count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
