"""Conditional and range requests as an origin server judges them (RFC 9110, sections 13.2.2 and 14.2).

Pure functions over header values. Written apart from the client's side on purpose: the two must agree
because the standard says so, not because they share a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_ONE_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


def http_date(seconds: float) -> str:
    """IMF-fixdate of an epoch time (RFC 9110, 5.6.7)."""
    return formatdate(int(seconds), usegmt=True)


def parse_http_date(text: str) -> float | None:
    """Epoch seconds of an HTTP date; None for what is none."""
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def judge_conditions(
    method: str, fields: Mapping[str, str], *, etag: str | None, last_modified: float | None
) -> int | None:
    """The status that the preconditions call for: 304, 412, or None to answer as if there were none.

    ``fields`` is looked up by field name whatever its case; ``etag`` is a whole entity-tag, quotes and all.
    """
    # 13.2.2: 1 If-Match, else 2 If-Unmodified-Since; then 3 If-None-Match, else 4 If-Modified-Since.
    if "If-Match" in fields:
        if not _matches(fields["If-Match"], etag, weak=False):
            return 412
    elif _is_after(last_modified, fields.get("If-Unmodified-Since")) is True:
        return 412
    is_read = method in ("GET", "HEAD")
    if "If-None-Match" in fields:
        if _matches(fields["If-None-Match"], etag, weak=True):
            return 304 if is_read else 412
        return None
    # 13.1.3: a date that is none, or a method other than GET and HEAD, is ignored.
    if is_read and _is_after(last_modified, fields.get("If-Modified-Since")) is False:
        return 304
    return None


def judge_range(
    fields: Mapping[str, str], length: int, *, etag: str | None, last_modified: float | None
) -> range | None:
    """The bytes that a GET asks for: None for all of them, an empty range for what cannot be satisfied (416).

    One range only; several are answered with everything, as a server may (RFC 9110, 14.2).
    """
    match = _ONE_RANGE.fullmatch(fields.get("Range", "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    if "If-Range" in fields and not _is_same_version(fields["If-Range"], etag, last_modified):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, length - int(last)), length)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1 if last else length, length))


def _matches(field: str, etag: str | None, *, weak: bool) -> bool:
    if field.strip() == "*":
        return True
    if etag is None:
        return False
    tags = _ENTITY_TAG.findall(field)
    # 8.8.3.2: the weak comparison looks past W/, the strong one accepts no weak tag on either side.
    if weak:
        return etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in tags]
    return not etag.startswith("W/") and etag in tags


def _is_after(last_modified: float | None, field: str | None) -> bool | None:
    """Whether the resource changed after the field's date; None where either is unknown."""
    date = parse_http_date(field) if field is not None else None
    if date is None or last_modified is None:
        return None
    return int(last_modified) > int(date)


def _is_same_version(field: str, etag: str | None, last_modified: float | None) -> bool:
    # 13.1.5: a strong tag, or exactly the date of the last modification.
    if '"' in field:
        return _matches(field, etag, weak=False)
    return last_modified is not None and parse_http_date(field) == float(int(last_modified))
