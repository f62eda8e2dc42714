"""When the rest of an answer may be asked for, and which 206 is that rest (RFC 9110, 13.1.5 and 15.3.7)."""

from __future__ import annotations

import pytest

from imagecache.headers import Headers
from imagecache.http.resuming import rest_length, resume_fields, resume_validator, whole_headers

NOW = 1_800_000_000.0
ETAG = '"v1"'
MODIFIED, LATER = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:01 GMT"
REST = Headers({"Content-Range": "bytes 100-199/200", "Content-Length": "100", "ETag": ETAG})


def validator(received: dict[str, str], *, method: str = "GET", status: int = 200, sent: Headers = Headers()) -> object:
    return resume_validator(method, status, sent, Headers(received), now=NOW)


def test_a_strong_tag_comes_before_a_date_and_a_date_must_be_a_second_old() -> None:
    assert validator({"ETag": ETAG, "Last-Modified": MODIFIED, "Date": LATER}) == ETAG
    assert validator({"Last-Modified": MODIFIED, "Date": LATER}) == MODIFIED
    assert validator({"Last-Modified": MODIFIED, "Date": MODIFIED}) is None
    assert validator({"Last-Modified": LATER, "Date": MODIFIED}) is None
    assert validator({"ETag": 'W/"v1"', "Last-Modified": MODIFIED, "Date": LATER}) is None


def test_two_tags_are_none() -> None:
    received = Headers([("ETag", ETAG), ("ETag", '"v2"')])
    assert resume_validator("GET", 200, Headers(), received, now=NOW) is None


def test_only_a_whole_plain_answer_to_a_get_has_a_rest() -> None:
    assert validator({"ETag": ETAG}, method="HEAD") is None
    assert validator({"ETag": ETAG}, status=206) is None
    assert validator({"ETag": ETAG}, sent=Headers({"Range": "bytes=0-"})) is None
    assert validator({"ETag": ETAG, "Content-Encoding": "br"}) is None
    assert validator({"ETag": ETAG, "Content-Encoding": "Identity"}) == ETAG


def test_what_is_asked_for_the_rest() -> None:
    fields = {"Range": "bytes=100-", "If-Range": ETAG, "Accept-Encoding": "identity"}
    assert resume_fields(ETAG, 100) == fields


def test_the_rest_fits_by_start_total_and_validator() -> None:
    assert rest_length(REST, ETAG, 100, 200) == 200
    assert rest_length(REST, ETAG, 100, None) == 200
    assert rest_length(REST, ETAG, 99, 200) is None
    assert rest_length(REST, ETAG, 100, 201) is None
    assert rest_length(REST, '"v2"', 100, 200) is None
    assert rest_length(REST.without("ETag"), ETAG, 100, 200) is None
    assert rest_length(REST.updated({"Content-Length": "99"}), ETAG, 100, 200) is None


def test_a_date_need_not_come_again_but_must_be_the_same() -> None:
    dated = REST.without("ETag")
    assert rest_length(dated, MODIFIED, 100, 200) == 200
    assert rest_length(dated.updated({"Last-Modified": MODIFIED}), MODIFIED, 100, 200) == 200
    assert rest_length(dated.updated({"Last-Modified": LATER}), MODIFIED, 100, 200) is None
    assert rest_length(REST, MODIFIED, 100, 200) is None


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes */200",
        "bytes 100-199/*",
        "bytes 199-100/200",
        "bytes 100-200/200",
        "lines 100-199/200",
        "100-199/200",
    ],
)
def test_a_content_range_that_says_nothing_fits_nothing(content_range: str) -> None:
    received = Headers({"ETag": ETAG, "Content-Range": content_range})
    assert rest_length(received, ETAG, 100, 200) is None


def test_the_whole_has_the_newer_fields_and_its_own_length() -> None:
    beginning = Headers({"Content-Type": "image/png", "Content-Length": "200", "Age": "5", "Date": MODIFIED, "X": "1"})
    rest = REST.updated({"Content-Type": "text/plain", "Date": LATER, "X": "2"})
    whole = {"Content-Type": "image/png", "Content-Length": "200", "Date": LATER, "X": "2", "ETag": ETAG}
    assert whole_headers(beginning, rest, 200) == Headers(whole)
