"""Preconditions of a call, and a caller's own conditions answered from what is stored (RFC 9110, 13)."""

from __future__ import annotations

import pytest

from imagecache.headers import Headers
from imagecache.http.conditions import Preconditions, answer_condition, not_modified_response_headers

from .answers import NOW, date, stored


@pytest.mark.parametrize(
    ("conditions", "fields", "reason"),
    [
        (Preconditions('"a"'), {"ETag": '"a"'}, None),
        (Preconditions('"a"'), {"ETag": '"b"'}, "not the expected"),
        # 13.1.1: If-Match compares strongly.
        (Preconditions('"a"'), {"ETag": 'W/"a"'}, "not the expected"),
        (Preconditions('"a"'), {"ETag": "a"}, "not the expected"),
        (Preconditions('"a"'), {}, "no entity tag"),
        (Preconditions("*"), {}, None),
        (Preconditions(unmodified_since=NOW), {"Last-Modified": date()}, None),
        (Preconditions(unmodified_since=NOW + 0.7), {"Last-Modified": date()}, None),
        (Preconditions(unmodified_since=NOW - 1), {"Last-Modified": date()}, "was modified"),
        (Preconditions(unmodified_since=NOW), {}, "does not say when"),
        # 13.2.2: where there is an If-Match, If-Unmodified-Since is not looked at.
        (Preconditions('"a"', NOW - 1), {"ETag": '"a"', "Last-Modified": date()}, None),
    ],
)
def test_preconditions_hold_or_say_why_not(
    conditions: Preconditions, fields: dict[str, str], reason: str | None
) -> None:
    told = conditions.fails(stored(fields))
    assert told is None if reason is None else told is not None and reason in told


def test_preconditions_as_fields() -> None:
    assert Preconditions('"a"', NOW).fields() == {"If-Match": '"a"', "If-Unmodified-Since": date()}
    assert Preconditions().fields() == {}


@pytest.mark.parametrize(
    ("asked", "fields", "status"),
    [
        ({"If-None-Match": '"a"'}, {"ETag": '"a"'}, 304),
        ({"If-None-Match": 'W/"a"'}, {"ETag": '"a"'}, 304),
        ({"If-None-Match": '"x", W/"a,b" , "c"'}, {"ETag": '"a,b"'}, 304),
        ({"If-None-Match": "*"}, {}, 304),
        ({"If-None-Match": '"b"'}, {"ETag": '"a"'}, 200),
        ({"If-None-Match": '"a"'}, {}, 200),
        ({"If-Modified-Since": date()}, {"Last-Modified": date()}, 304),
        ({"If-Modified-Since": date(5)}, {"Last-Modified": date()}, 304),
        ({"If-Modified-Since": date(-1)}, {"Last-Modified": date()}, 200),
        ({"If-Modified-Since": "yesterday"}, {"Last-Modified": date()}, 200),
        # RFC 9111, 4.3.2: without a Last-Modified, the Date stands in for it.
        ({"If-Modified-Since": date()}, {"Date": date()}, 304),
        ({"If-Modified-Since": date(-1)}, {"Date": date()}, 200),
        # 13.1.3: beside an If-None-Match, If-Modified-Since is not looked at.
        ({"If-None-Match": '"b"', "If-Modified-Since": date()}, {"ETag": '"a"', "Last-Modified": date()}, 200),
    ],
)
def test_a_callers_own_condition(asked: dict[str, str], fields: dict[str, str], status: int) -> None:
    assert answer_condition(Headers(asked), stored(fields)) == status


def test_what_is_no_success_is_never_unmodified() -> None:
    assert answer_condition(Headers({"If-None-Match": '"a"'}), stored({"ETag": '"a"'}, status=404)) == 200


def test_a_304_carries_nothing_that_tells_of_a_body() -> None:
    fields = {"ETag": '"a"', "Vary": "Accept", "Content-Length": "5", "Content-Type": "image/png", "Age": "1"}
    assert dict(not_modified_response_headers(Headers(fields)).pairs) == {
        "ETag": '"a"', "Vary": "Accept", "Age": "1",
    }  # fmt: skip
