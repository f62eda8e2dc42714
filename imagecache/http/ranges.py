"""Ranges of bytes, answered from a whole stored answer (RFC 9110, 14 and 13.1.5)."""

from __future__ import annotations

import re
from typing import Literal

from ..entry import Entry
from .dates import parse_date
from .freshness import date_of
from .validators import is_strong_date, strong_match

_ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t,]*(?P<first>[0-9]*)[ \t]*-[ \t]*(?P<last>[0-9]*)[ \t,]*", re.IGNORECASE)

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?P<first>[0-9]+)-(?P<last>[0-9]+)/(?P<length>[0-9]+|\*)", re.IGNORECASE)


def single_range(value: str, length: int) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """The bytes that a Range field asks for, as ``(start, stop)`` within a body of ``length`` bytes.

    None where it asks for several ranges, for another unit, or for nothing that can be read: the origin may know.
    """
    found = _ONE_RANGE.fullmatch(value.strip(" \t"))
    if found is None or not (found["first"] or found["last"]):
        return None
    first, last = _number(found["first"]), _number(found["last"])
    if first is None:
        # 14.1.2: the last so many bytes.
        return (max(0, length - (last or 0)), length) if last and length else "unsatisfiable"
    if last is not None and last < first:
        return None
    return (first, min(length, length if last is None else last + 1)) if first < length else "unsatisfiable"


def part_of(content_range: str | None, byte_count: int) -> tuple[int, int, int | None] | None:
    """Which bytes a 206 brought: ``(start, stop, length)``, the length of the whole None where it is not told (14.4).

    None for what cannot be read, for several parts, and where the body is not as long as that says.
    """
    found = _CONTENT_RANGE.fullmatch((content_range or "").strip(" \t"))
    if found is None:
        return None
    first, last, length = _number(found["first"]), _number(found["last"]), _number(found["length"].strip("*"))
    if first is None or last is None or last < first or (length is not None and last >= length):
        return None
    return (first, last + 1, length) if last + 1 - first == byte_count else None


def within_part(value: str, part: tuple[int, int, int | None]) -> tuple[int, int] | None:
    """The bytes that a Range asks for, ``(start, stop)`` in the whole, if a part that is stored holds all of them."""
    start, stop, length = part
    # Of a whole whose length nobody knows, only what is bounded at both ends can be told.
    wanted = single_range(value, length if length is not None else stop)
    found = _ONE_RANGE.fullmatch(value.strip(" \t"))
    if not isinstance(wanted, tuple) or found is None:
        return None
    is_bounded = bool(found["first"] and found["last"])
    if length is None and (not is_bounded or (_number(found["last"]) or 0) >= stop):
        return None
    return wanted if start <= wanted[0] and wanted[1] <= stop else None


def if_range_holds(value: str, entry: Entry) -> bool:
    """Whether the stored answer is the one that an If-Range speaks of: by a strong tag, or its exact date (13.1.5)."""
    value = value.strip(" \t")
    if value.startswith(('"', "W/")):
        return entry.etag is not None and strong_match(value, entry.etag)
    modified = entry.headers.get("last-modified", "").strip(" \t")
    seconds = parse_date(modified, now=entry.response_time)
    return seconds is not None and value == modified and is_strong_date(seconds, date_of(entry))


def content_range(start: int, stop: int, length: int | None) -> str:
    """The Content-Range of a part (14.4); ``length`` None where that of the whole is not known."""
    return f"bytes {start}-{stop - 1}/{'*' if length is None else length}"


def _number(digits: str) -> int | None:
    if not digits:
        return None
    significant = digits.lstrip("0") or "0"
    # No body is longer, and Python refuses to read integers of thousands of digits.
    return int(significant) if len(significant) <= 18 else 10**18
