"""Ranges of bytes from a whole copy: which part, when it may be given, and how it is labelled."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from imagecache.http.ranges import content_range, if_range_holds, part_of, single_range, within_part

from .answers import DAY, Fields, date, stored


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-4", (0, 5)),
        ("bytes=9-9", (9, 10)),
        ("bytes=1-", (1, 10)),
        ("bytes=0-", (0, 10)),
        ("bytes=-1", (9, 10)),
        ("bytes=-10", (0, 10)),
        # Clamped to what there is
        ("bytes=5-99", (5, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=0-" + "9" * 5000, (0, 10)),
        ("bytes=-" + "9" * 5000, (0, 10)),
        ("bytes=000000000000000000000001-000000000000000000000002", (1, 3)),
        # Case and white space do not matter, nor do empty members of the list.
        ("BYTES=0-4", (0, 5)),
        (" bytes= 0-4 ", (0, 5)),
        ("bytes=,0-4, ,", (0, 5)),
        # Nothing of it is there.
        ("bytes=10-", "unsatisfiable"),
        ("bytes=10-20", "unsatisfiable"),
        ("bytes=" + "9" * 5000 + "-", "unsatisfiable"),
        ("bytes=-0", "unsatisfiable"),
        # Several, another unit, or no range
        ("bytes=0-1,3-4", None),
        ("bytes=0-1, bytes=3-4", None),
        ("items=0-4", None),
        ("", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=--1", None),
        ("bytes=0", None),
        ("bytes=4-3", None),
        ("bytes=" + "9" * 25 + "-4", None),
        ("bytes=a-b", None),
        ("bytes=0 - 4", None),
        ("bytes=0-4x", None),
        ("bytes=+0-4", None),
        ("bytes=\u0660-\u0664", None),
        ("bytes 0-4/10", None),
    ],
)
def test_the_part_of_ten_bytes(value: str, part: tuple[int, int] | Literal["unsatisfiable"] | None) -> None:
    assert single_range(value, 10) == part


def test_of_nothing_there_is_no_part() -> None:
    assert single_range("bytes=0-", 0) == "unsatisfiable"
    assert single_range("bytes=-0", 0) == "unsatisfiable"
    # Satisfiable, since it asks for the last bytes there are, and no Content-Range could say which they were.
    assert single_range("bytes=-5", 0) is None


@given(st.text(max_size=30) | st.lists(st.sampled_from(["bytes", "=", "-", ",", "0", "7", "99", " "])).map("".join),
       st.integers(0, 50))  # fmt: skip
def test_any_part_lies_within_the_whole(value: str, length: int) -> None:
    part = single_range(value, length)
    if isinstance(part, tuple):
        assert 0 <= part[0] < part[1] <= length


def test_a_part_is_labelled_by_its_first_and_last_byte() -> None:
    assert content_range(0, 1, 1) == "bytes 0-0/1"
    assert content_range(6, 10, 10) == "bytes 6-9/10"


LM = {"Last-Modified": date(-DAY)}


@pytest.mark.parametrize(
    ("fields", "value", "holds"),
    [
        ({"ETag": '"a"'}, '"a"', True),
        ({"ETag": '"a"'}, ' "a" ', True),
        ({"ETag": '"a"'}, '"b"', False),
        ({}, '"a"', False),
        # The strong comparison, which a bare token never passes
        ({"ETag": 'W/"a"'}, 'W/"a"', False),
        ({"ETag": 'W/"a"'}, '"a"', False),
        ({"ETag": '"a"'}, 'W/"a"', False),
        ({"ETag": "a"}, "a", False),
        ({"ETag": '"a"'}, '"a", "b"', False),
        ({"ETag": '"a"'}, "*", False),
        ({"ETag": '"a"'}, "", False),
        # A date: the very one, and strong (RFC 9110, 8.8.2.2)
        ({**LM, "Date": date()}, date(-DAY), True),
        ({**LM, "Date": date(-DAY + 1)}, date(-DAY), True),
        ({**LM, "Date": date(-DAY)}, date(-DAY), False),
        ({**LM, "Date": date(-DAY - 1)}, date(-DAY), False),
        (LM, date(-DAY), False),
        ({**LM, "Date": "today"}, date(-DAY), False),
        ({**LM, "Date": date()}, date(-DAY + 1), False),
        ({**LM, "Date": date()}, date(-DAY - 1), False),
        ({"Date": date()}, date(), False),
        ({"Last-Modified": "x", "Date": date()}, "x", False),
    ],
)
def test_a_part_is_given_only_of_the_very_copy_that_the_caller_has(fields: Fields, value: str, holds: bool) -> None:
    assert if_range_holds(value, stored(fields)) is holds


def test_a_strong_tag_set_by_hand_counts() -> None:
    assert if_range_holds('"mine"', replace(stored(), etag='"mine"'))


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
        (f"bytes 0-{'9' * 6000}/*", 5, None),
        (None, 5, None),
    ],
)
def test_the_part_that_a_206_brought(value: str | None, size: int, part: tuple[int, int, int | None] | None) -> None:
    assert part_of(value, size) == part


@pytest.mark.parametrize(
    ("value", "part", "inner"),
    [
        ("bytes=3-5", (2, 8, 10), (3, 6)),
        ("bytes=2-7", (2, 8, 10), (2, 8)),
        ("bytes=-2", (8, 10, 10), (8, 10)),
        ("bytes=8-", (8, 10, 10), (8, 10)),
        ("bytes=-3", (8, 10, 10), None),
        ("bytes=1-5", (2, 8, 10), None),
        ("bytes=3-8", (2, 8, 10), None),
        ("bytes=7-", (2, 8, 10), None),
        # Nobody knows how long the whole is: only what is bounded at both ends can be told.
        ("bytes=3-5", (2, 8, None), (3, 6)),
        ("bytes=2-7", (2, 8, None), (2, 8)),
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
