"""Ranges of bytes (RFC 9110, 14) and If-Range (13.1.5), answered from a whole stored copy or a part of one."""

from __future__ import annotations

import re
from typing import Literal

from ..entry import Entry
from .dates import parse_date
from .validators import is_strong_date, known_etags, strong_match

_SPECIFIER = re.compile(r"[ \t]*bytes=(?P<ranges>.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(?P<first>[0-9]*)-(?P<last>[0-9]*)")
_BOUNDED = re.compile(r"bytes=[ \t,]*[0-9]+-[0-9]+[ \t,]*", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(
    r"bytes[ \t]+(?P<first>[0-9]+)-(?P<last>[0-9]+)/(?P<length>[0-9]+|\*)", re.ASCII | re.IGNORECASE
)
_BEYOND_ANY_LENGTH = 10**18


def single_range(range_value: str, length: int) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """The part of ``length`` bytes that a Range asks for: its start, and the position behind its end.

    None is for what is left to the origin, or ignored: another unit, several ranges, or what is no range at all.

    >>> single_range("bytes=0-4", 10), single_range("bytes=-4", 10), single_range("bytes=10-", 10)
    ((0, 5), (6, 10), 'unsatisfiable')
    """
    specifier = _SPECIFIER.fullmatch(range_value)
    if specifier is None:
        return None
    # RFC 9110, 5.6.1.2: empty members of a list are ignored.
    asked = [part for part in (part.strip(" \t") for part in specifier["ranges"].split(",")) if part]
    found = _RANGE.fullmatch(asked[0]) if len(asked) == 1 else None
    if found is None or not (found["first"] or found["last"]):
        return None
    if not found["first"]:
        return _suffix(_position(found["last"]), length)
    first = _position(found["first"])
    stop = _position(found["last"]) + 1 if found["last"] else length
    # 14.1.1: a last position before the first makes the range invalid, which is not the same as unsatisfiable.
    if found["last"] and stop <= first:
        return None
    return (first, min(stop, length)) if first < length else "unsatisfiable"


def _suffix(wanted: int, length: int) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    if wanted == 0:
        return "unsatisfiable"
    # The last bytes of nothing are all of it, and no Content-Range can say so: the whole is the answer.
    return (max(0, length - wanted), length) if length else None


def _position(digits: str) -> int:
    # Python refuses to read integers of thousands of digits, and none of them would say more.
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= 18 else _BEYOND_ANY_LENGTH


def part_of(content_range: str | None, byte_count: int) -> tuple[int, int, int | None] | None:
    """Which bytes a 206 brought: start, position behind the end, and length of the whole, None if untold (14.4).

    None for what cannot be read, for several parts, and where the body is not as long as that says.
    """
    part = announced_part(content_range)
    return part if part is not None and part[1] - part[0] == byte_count else None


def announced_part(content_range: str | None) -> tuple[int, int, int | None] | None:
    """What a Content-Range says: start, position behind the end, and length of the whole; None for what cannot be."""
    found = _CONTENT_RANGE.fullmatch((content_range or "").strip(" \t"))
    if found is None:
        return None
    first, last = _position(found["first"]), _position(found["last"])
    length = None if found["length"] == "*" else _position(found["length"])
    if last < first or (length is not None and last >= length):
        return None
    return first, last + 1, length


def within_part(range_value: str, part: tuple[int, int, int | None]) -> tuple[int, int] | None:
    """The bytes of the whole that a Range asks for, if a part that is stored holds all of them."""
    start, stop, length = part
    # Of a whole whose length nobody knows, only what is bounded at both ends, and ends within the part, can be told.
    wanted = single_range(range_value, stop + 1 if length is None else length)
    if not isinstance(wanted, tuple) or (length is None and not _BOUNDED.fullmatch(range_value.strip(" \t"))):
        return None
    return wanted if start <= wanted[0] and wanted[1] <= stop else None


def content_range(start: int, stop: int, length: int | None) -> str:
    """The Content-Range of a part (14.4); ``stop`` is the position behind its end, ``length`` None where it is unknown.

    >>> content_range(0, 5, 10)
    'bytes 0-4/10'
    """
    return f"bytes {start}-{stop - 1}/{'*' if length is None else length}"


def if_range_holds(value: str, entry: Entry) -> bool:
    """Whether the stored answer is the one that a caller has a part of (13.1.5).

    By a strong entity tag, or by the exact Last-Modified where that is strong too: a part of one copy beside a part
    of another would be no image at all.
    """
    condition = value.strip(" \t")
    if condition.startswith(('"', "W/")):
        return any(strong_match(condition, etag) for etag in known_etags(entry))
    asked = parse_date(condition, now=entry.response_time)
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    date = parse_date(entry.headers.get("date"), now=entry.response_time)
    if asked is None or modified is None or date is None:
        return False
    return asked == modified and is_strong_date(modified, date)
