"""HTTP dates: the three formats of RFC 9110, 5.6.7, in and one of them out. Nonsense is None, never an error."""

from __future__ import annotations

import functools
import re
from calendar import timegm
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMATS = tuple(
    # RFC 9111, 4.2: a cache matches dates whatever their case, and takes no zone but GMT.
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        # IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
        rf"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} gmt",
        # RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        rf"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} gmt",
        # asctime: Sun Nov  6 08:49:37 1994
        rf"(?:mon|tue|wed|thu|fri|sat|sun) {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})",
    )
)

_FIXDATE_LENGTH = len("Sun, 06 Nov 1994 08:49:37 GMT")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()
_LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds()


def parse_date(value: str | None, *, now: float) -> float | None:
    """Seconds since the epoch for an IMF-fixdate, RFC 850 or asctime date; None for anything else.

    ``now``, wall seconds, tells the century of an RFC 850 date: one that appears to be more than 50 years
    ahead is of the past.

    >>> parse_date("Sunday, 06-Nov-94 08:49:37 GMT", now=1.8e9) == parse_date("Sun Nov  6 08:49:37 1994", now=1.8e9)
    True
    """
    if not value:
        return None
    if len(value) == _FIXDATE_LENGTH and (usual := _parse_fixdate(value)) is not None:
        return usual
    text = value.strip(" \t")
    found = next((match for pattern in _FORMATS if (match := pattern.fullmatch(text))), None)
    if found is None:
        return None
    return _moment(found, now)


@functools.lru_cache(maxsize=1024)
def _parse_fixdate(value: str) -> float | None:
    # What nearly every server sends, and the same for all that it sends within a second. It tells its century itself.
    found = _FORMATS[0].fullmatch(value)
    return None if found is None else _moment(found, 0.0)


def _moment(found: re.Match[str], now: float) -> float | None:
    month = _MONTHS.index(found["month"].lower()) + 1
    day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
    # 60 is a leap second; timegm counts it on as the next minute's first.
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        if len(found["year"]) == 4:
            return _seconds(int(found["year"]), month, day, hour, minute, second)
        today = _EPOCH + timedelta(seconds=now)
        year = today.year + (int(found["year"]) - today.year) % 100
        fifty_years_ahead = _seconds(today.year + 50, today.month, min(today.day, 28), 0, 0, 0)
        if _seconds(year, month, day, hour, minute, second) > fifty_years_ahead:
            year -= 100
        return _seconds(year, month, day, hour, minute, second)
    except (ValueError, OverflowError):
        # A day that its month does not have, or a `now` that is no time.
        return None


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    datetime(year, month, day, tzinfo=UTC)  # Raises ValueError for the 31st of February; timegm would count on.
    return float(timegm((year, month, day, hour, minute, second)))


def format_date(seconds: float) -> str:
    """The IMF-fixdate of a moment; one beyond the years 1 to 9999 is the nearest that has a date.

    >>> format_date(0)
    'Thu, 01 Jan 1970 00:00:00 GMT'
    """
    within = min(max(seconds, _FIRST), _LAST)
    return format_datetime(_EPOCH + timedelta(seconds=int(within)), usegmt=True)
