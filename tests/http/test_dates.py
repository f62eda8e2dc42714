"""HTTP dates: what RFC 9110, 5.6.7, calls one is read, and nothing else."""

from __future__ import annotations

import pytest

from imagecache.http.dates import format_date, parse_date

from .answers import NOW

MOMENT = 784_111_777.0
"""The moment of the RFC's own samples: Sun, 06 Nov 1994 08:49:37 GMT."""


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        "SUN, 06 nov 1994 08:49:37 gmt",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
        # A wrong name of the day is nobody's doubt about the date.
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_the_three_formats_are_read_whatever_their_case(text: str) -> None:
    assert parse_date(text, now=NOW) == MOMENT


@pytest.mark.parametrize(
    "text",
    [
        None, "", "0", "-1", "now", "1994-11-06T08:49:37Z", "784111777",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_anything_else_is_no_date(text: str | None) -> None:
    assert parse_date(text, now=NOW) is None


def test_a_leap_second_is_a_date() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", now=NOW) == parse_date("Sun, 01 Jan 2017 00:00:00 GMT", now=NOW)


@pytest.mark.parametrize(
    ("day", "year"),
    [
        ("Sunday, 06-Nov-94", 1994),
        ("Thursday, 18-Aug-50", 2050),
        ("Friday, 15-Jan-27", 2027),
        ("Thursday, 31-Dec-76", 2076),
        ("Friday, 01-Jan-77", 2077),
        # NOW is in January 2027: by the end of that year, 2077 is more than 50 years ahead.
        ("Friday, 31-Dec-77", 1977),
        ("Saturday, 01-Jan-78", 1978),
        ("Saturday, 01-Jan-00", 2000),
    ],
)
def test_two_digits_of_a_year_are_at_most_50_years_ahead(day: str, year: int) -> None:
    seconds = parse_date(f"{day} 12:00:00 GMT", now=NOW)
    assert seconds is not None
    assert format_date(seconds)[12:16] == str(year)


@pytest.mark.parametrize("now", [float("inf"), float("nan"), -1e300, 1e300])
def test_a_now_that_is_no_time_does_not_raise(now: float) -> None:
    assert parse_date("Sunday, 06-Nov-94 08:49:37 GMT", now=now) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (MOMENT + 0.9, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (-1.0, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (1e300, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (float("inf"), "Fri, 31 Dec 9999 23:59:59 GMT"),
        (-1e300, "Mon, 01 Jan 0001 00:00:00 GMT"),
    ],
)
def test_a_date_is_written_as_imf_fixdate(seconds: float, text: str) -> None:
    assert format_date(seconds) == text
