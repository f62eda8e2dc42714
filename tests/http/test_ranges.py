"""Ranges of bytes from whole answers and from parts (RFC 9110, 14)."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, strategies as st

from imagecache.http.ranges import content_range, if_range_holds, part_of, single_range, within_part

from .answers import date, stored


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("bytes=0-4", (0, 5)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=0-99", (0, 10)),
        ("bytes=9-9", (9, 10)),
        ("Bytes = 1-2 ,", (1, 3)),
        ("bytes=10-", "unsatisfiable"),
        ("bytes=-0", "unsatisfiable"),
        (f"bytes={'9' * 6000}-", "unsatisfiable"),
        (f"bytes=0-{'9' * 6000}", (0, 10)),
        # Several, another unit, or nothing that can be read.
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=3-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=\u0661-\u0662", None),
        ("", None),
    ],
)
def test_the_bytes_that_a_range_asks_for(value: str, answer: tuple[int, int] | Literal["unsatisfiable"] | None) -> None:
    assert single_range(value, 10) == answer


def test_no_range_of_nothing_can_be_satisfied() -> None:
    assert single_range("bytes=0-", 0) == single_range("bytes=-5", 0) == "unsatisfiable"


@given(st.text(max_size=30) | st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True), st.integers(0, 2000))
def test_whatever_is_asked_the_answer_lies_within_the_body(value: str, length: int) -> None:
    answer = single_range(value, length)
    if isinstance(answer, tuple):
        assert 0 <= answer[0] < answer[1] <= length


@pytest.mark.parametrize(
    ("value", "fields", "holds"),
    [
        ('"a"', {"ETag": '"a"'}, True),
        ('"b"', {"ETag": '"a"'}, False),
        # 13.1.5: strongly, or not at all; and a tag without quotes is never used here.
        ('W/"a"', {"ETag": 'W/"a"'}, False),
        ("a", {"ETag": "a"}, False),
        (date(-1), {"Last-Modified": date(-1), "Date": date()}, True),
        (date(-2), {"Last-Modified": date(-1), "Date": date()}, False),
        # 8.8.2.2: modified within the second in which it was answered, a date does not tell the bytes apart.
        (date(), {"Last-Modified": date(), "Date": date()}, False),
        ("", {}, False),
    ],
)
def test_if_range(value: str, fields: dict[str, str], holds: bool) -> None:
    assert if_range_holds(value, stored(fields)) is holds


@pytest.mark.parametrize(
    ("value", "size", "part"),
    [
        ("bytes 0-4/10", 5, (0, 5, 10)),
        ("bytes 2-4/*", 3, (2, 5, None)),
        # The body is not as long as it says, or the part lies outside of the whole.
        ("bytes 0-4/10", 4, None),
        ("bytes 5-10/10", 6, None),
        ("bytes 4-2/10", 1, None),
        ("bytes */10", 0, None),
        ("lines 0-4/10", 5, None),
        (None, 5, None),
    ],
)
def test_the_part_that_a_206_brought(value: str | None, size: int, part: tuple[int, int, int | None] | None) -> None:
    assert part_of(value, size) == part


@pytest.mark.parametrize(
    ("value", "part", "inner"),
    [
        ("bytes=3-5", (2, 8, 10), (3, 6)),
        ("bytes=-2", (8, 10, 10), (8, 10)),
        ("bytes=8-", (8, 10, 10), (8, 10)),
        ("bytes=-3", (8, 10, 10), None),
        ("bytes=1-5", (2, 8, 10), None),
        ("bytes=7-", (2, 8, 10), None),
        # Nobody knows how long the whole is: only what is bounded at both ends can be told.
        ("bytes=3-5", (2, 8, None), (3, 6)),
        ("bytes=3-", (2, 8, None), None),
        ("bytes=-2", (2, 8, None), None),
        ("bytes=3-9", (2, 8, None), None),
        ("bytes=10-", (2, 10, 10), None),
    ],
)
def test_a_range_within_a_stored_part(
    value: str, part: tuple[int, int, int | None], inner: tuple[int, int] | None
) -> None:
    assert within_part(value, part) == inner


def test_content_range() -> None:
    assert content_range(2, 5, 10) == "bytes 2-4/10"
    assert content_range(2, 5, None) == "bytes 2-4/*"
