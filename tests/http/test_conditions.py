"""Conditions that a caller puts on an answer, and those that a stored answer can be measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from imagecache.headers import Headers
from imagecache.http.conditions import Preconditions, answer_condition, not_modified_response_headers

from .answers import DAY, NOW, Fields, date, stored


@pytest.mark.parametrize(
    ("preconditions", "fields"),
    [
        (Preconditions(), {}),
        (Preconditions('"a"'), {"If-Match": '"a"'}),
        (Preconditions("*"), {"If-Match": "*"}),
        (Preconditions(unmodified_since=NOW + 0.9), {"If-Unmodified-Since": date()}),
        (Preconditions('"a"', NOW), {"If-Match": '"a"', "If-Unmodified-Since": date()}),
    ],
)
def test_preconditions_go_to_the_origin(preconditions: Preconditions, fields: dict[str, str]) -> None:
    assert preconditions.fields() == fields


@pytest.mark.parametrize(
    ("preconditions", "fields", "status", "holds"),
    [
        (Preconditions(), {}, 404, True),
        # If-Match: the strong comparison, "*" for whatever there is
        (Preconditions('"a"'), {"ETag": '"a"'}, 200, True),
        (Preconditions('"a"'), {"ETag": '"b"'}, 200, False),
        (Preconditions('"a"'), {"ETag": 'W/"a"'}, 200, False),
        (Preconditions('W/"a"'), {"ETag": 'W/"a"'}, 200, False),
        (Preconditions("a"), {"ETag": "a"}, 200, False),
        (Preconditions('"a"'), {"ETag": "a"}, 200, False),
        (Preconditions('"a"'), {}, 200, False),
        (Preconditions('"a"'), [("ETag", '"a"'), ("ETag", '"a"')], 200, False),
        (Preconditions('"a"'), {"ETag": '"a"'}, 404, False),
        (Preconditions("*"), {}, 200, True),
        (Preconditions("*"), {}, 404, False),
        # If-Unmodified-Since
        (Preconditions(unmodified_since=NOW), {"Last-Modified": date(-DAY)}, 200, True),
        (Preconditions(unmodified_since=NOW), {"Last-Modified": date()}, 200, True),
        (Preconditions(unmodified_since=NOW), {"Last-Modified": date(1)}, 200, False),
        (Preconditions(unmodified_since=NOW), {"Last-Modified": "long ago"}, 200, False),
        (Preconditions(unmodified_since=NOW), {"Date": date(-DAY)}, 200, False),
        # 13.2.2: the tag is looked at first, and the date not at all then
        (Preconditions('"a"', NOW), {"ETag": '"a"', "Last-Modified": date(1)}, 200, True),
        (Preconditions('"a"', NOW), {"ETag": '"b"', "Last-Modified": date(-1)}, 200, False),
    ],
)
def test_a_precondition_holds_of_what_it_describes(
    preconditions: Preconditions, fields: Fields, status: int, holds: bool
) -> None:
    assert (preconditions.fails(stored(fields, status=status)) is None) is holds


@pytest.mark.parametrize(
    ("preconditions", "fields", "reason"),
    [
        (Preconditions('"a"'), {"ETag": '"b"'}, 'the entity tag "a" was expected, and it is "b"'),
        (Preconditions('"a"'), {"ETag": 'W/"a"'}, 'the entity tag "a" was expected, and it is only weakly W/"a"'),
        (Preconditions('"a"'), {}, 'the entity tag "a" was expected, and there is none'),
        (Preconditions(None, NOW), {"Last-Modified": date(1)},
         f"it was modified {date(1)}, which is after {date()}"),
        (Preconditions(None, NOW), {}, "it does not tell when it was modified"),
    ],
)  # fmt: skip
def test_a_failure_says_why(preconditions: Preconditions, fields: Fields, reason: str) -> None:
    assert preconditions.fails(stored(fields)) == reason


def test_a_precondition_on_an_error_says_that_there_is_no_image() -> None:
    assert Preconditions("*").fails(stored(status=404)) == "there is no image: the server answered 404"


def test_a_tag_set_by_hand_meets_a_precondition() -> None:
    assert Preconditions('"mine"').fails(replace(stored({"ETag": '"theirs"'}), etag='"mine"')) is None


LM = {"Last-Modified": date(-DAY)}


@pytest.mark.parametrize(
    ("fields", "request_fields", "status"),
    [
        ({"ETag": '"a"'}, {}, 200),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, 304),
        ({"ETag": '"a"'}, {"if-none-match": ' "a" '}, 304),
        ({"ETag": 'W/"a"'}, {"If-None-Match": 'W/"a"'}, 304),
        # The weak comparison
        ({"ETag": '"a"'}, {"If-None-Match": 'W/"a"'}, 304),
        ({"ETag": 'W/"a"'}, {"If-None-Match": '"a"'}, 304),
        ({"ETag": '"a"'}, {"If-None-Match": '"b"'}, 200),
        ({"ETag": '"a"'}, {"If-None-Match": "a"}, 200),
        ({"ETag": "a"}, {"If-None-Match": "a"}, 304),
        # Lists
        ({"ETag": '"a"'}, {"If-None-Match": '"a", "b", "c"'}, 304),
        ({"ETag": '"a"'}, {"If-None-Match": '"b" ,W/"a","c"'}, 304),
        ({"ETag": '"a"'}, {"If-None-Match": '"b", "c", "a"'}, 304),
        ({"ETag": '"a,b"'}, {"If-None-Match": '"x", "a,b"'}, 304),
        ({"ETag": '"a"'}, {"If-None-Match": '"a,b"'}, 200),
        ({"ETag": '"a"'}, {"If-None-Match": ""}, 200),
        ({"ETag": '"a"'}, {"If-None-Match": '"a'}, 200),
        # "*": anything that exists
        ({}, {"If-None-Match": "*"}, 304),
        ({"ETag": '"a"'}, {"If-None-Match": '"*"'}, 200),
        ({}, {"If-None-Match": '"a"'}, 200),
        ([("ETag", '"a"'), ("ETag", '"a"')], {"If-None-Match": '"a"'}, 200),
        # If-None-Match alone counts where there is one.
        ({"ETag": '"a"', **LM}, {"If-None-Match": '"a"', "If-Modified-Since": date(-2 * DAY)}, 304),
        ({"ETag": '"a"', **LM}, {"If-None-Match": '"b"', "If-Modified-Since": date(-DAY)}, 200),
        (LM, {"If-None-Match": '"b"', "If-Modified-Since": date(-DAY)}, 200),
        # Dates
        (LM, {"If-Modified-Since": date(-DAY)}, 304),
        (LM, {"If-Modified-Since": date(-DAY + 1)}, 304),
        (LM, {"If-Modified-Since": date(-DAY - 1)}, 200),
        (LM, {"If-Modified-Since": "nonsense"}, 200),
        (LM, {"If-Modified-Since": f"{date(-DAY)}, {date(-DAY)}"}, 200),
        ({"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, {"If-Modified-Since": "Sun Nov  6 08:49:37 1994"}, 304),
        (LM, {"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 200),
        # RFC 9111, 4.3.2: without Last-Modified, the Date, and without that, when it came
        ({"Date": date(-DAY)}, {"If-Modified-Since": date(-DAY)}, 304),
        ({"Date": date(-DAY)}, {"If-Modified-Since": date(-DAY - 1)}, 200),
        ({}, {"If-Modified-Since": date()}, 304),
        ({}, {"If-Modified-Since": date(-1)}, 200),
        # For the origin alone
        ({"ETag": '"a"', **LM}, {"If-Match": '"b"', "If-Unmodified-Since": date(-2 * DAY)}, 200),
    ],
)  # fmt: skip
def test_a_callers_condition_is_answered_from_the_stored_copy(
    fields: Fields, request_fields: Mapping[str, str], status: int
) -> None:
    assert answer_condition(Headers(request_fields), stored(fields)) == status


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_condition_counts_only_where_the_answer_would_be_a_success(status: int) -> None:
    entry = stored({"ETag": '"a"', **LM}, status=status)
    for request in ({"If-None-Match": '"a"'}, {"If-None-Match": "*"}, {"If-Modified-Since": date()}):
        assert answer_condition(Headers(request), entry) == 200


def test_a_304_carries_what_it_has_to_and_no_metadata_of_a_body() -> None:
    carried = {
        "Age": "5", "Cache-Control": "max-age=60", "Content-Location": "/b", "Content-Security-Policy": "x",
        "Date": date(), "ETag": '"a"', "Expires": date(60), "Vary": "Accept", "X-Any": "1",
    }  # fmt: skip
    left_out = {
        "Content-Disposition": "inline", "Content-Encoding": "br", "Content-Language": "de", "Content-Length": "5",
        "Content-Range": "bytes 0-1/2", "Content-Type": "image/png", "Digest": "x", "Last-Modified": date(-DAY),
        "Repr-Digest": "x",
    }  # fmt: skip
    assert not_modified_response_headers(Headers({**left_out, **carried})) == Headers(carried)
    assert "last-modified" in not_modified_response_headers(Headers(LM))
