"""Preconditions and ranges are judged as RFC 9110, 13.2.2 and 14.2 say."""

import pytest
from hypothesis import given, strategies as st

from imagecache.headers import Headers
from imagecache.testing.conditions import http_date, judge_conditions, judge_range, parse_http_date

NOW = 1_700_000_000.0
BEFORE, AFTER = http_date(NOW - 60), http_date(NOW + 60)


def judge(
    method: str = "GET", *, etag: str | None = '"a"', last_modified: float | None = NOW, **fields: str
) -> int | None:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return judge_conditions(method, Headers(named), etag=etag, last_modified=last_modified)


@pytest.mark.parametrize(
    "field",
    ['"a"', 'W/"a"', '"x", "a"', '"x" , W/"a","y"', "*", ' "a" ', '"with, comma", "a"'],
)
def test_if_none_match_compares_weakly_over_a_list(field: str) -> None:
    assert judge(If_None_Match=field) == 304


@pytest.mark.parametrize("field", ['"b"', '"A"', "a", "", '"a', 'W/"b", "ab"', "'a'"])
def test_another_tag_gets_the_whole_answer(field: str) -> None:
    assert judge(If_None_Match=field) is None


def test_a_weak_tag_of_the_resource_matches_too() -> None:
    assert judge(etag='W/"a"', If_None_Match='"a"') == 304


def test_without_a_tag_nothing_matches_but_a_star() -> None:
    assert judge(etag=None, If_None_Match='"a"') is None
    assert judge(etag=None, If_None_Match="*") == 304


def test_if_none_match_wins_over_if_modified_since() -> None:
    assert judge(If_None_Match='"b"', If_Modified_Since=AFTER) is None
    assert judge(If_None_Match='"a"', If_Modified_Since=BEFORE) == 304


@pytest.mark.parametrize(("field", "status"), [(BEFORE, None), (http_date(NOW), 304), (AFTER, 304), ("soon", None)])
def test_if_modified_since(field: str, status: int | None) -> None:
    assert judge(If_Modified_Since=field) == status


def test_if_modified_since_needs_a_date_to_compare_with() -> None:
    assert judge(last_modified=None, If_Modified_Since=AFTER) is None


def test_fractions_of_a_second_do_not_count_as_a_change() -> None:
    assert judge(last_modified=NOW + 0.7, If_Modified_Since=http_date(NOW)) == 304


def test_other_methods_than_get_and_head() -> None:
    assert judge("HEAD", If_None_Match="*") == 304
    assert judge("PUT", If_None_Match="*") == 412
    assert judge("PUT", If_Modified_Since=AFTER) is None


def test_if_match_compares_strongly_and_wins_over_if_unmodified_since() -> None:
    assert judge(If_Match='"a"', If_Unmodified_Since=BEFORE) is None
    assert judge(If_Match='W/"a"') == 412
    assert judge(etag='W/"a"', If_Match='W/"a"') == 412
    assert judge(If_Match='"b"') == 412
    assert judge(If_Match="*") is None
    assert judge(If_Unmodified_Since=BEFORE) == 412
    assert judge(If_Unmodified_Since=AFTER) is None


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("bytes=0-9", range(10)),
        ("bytes=90-", range(90, 100)),
        ("bytes=90-500", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-500", range(100)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("pixels=0-9", None),
    ],
)
def test_one_range_of_bytes(field: str, wanted: range | None) -> None:
    assert judge_range(Headers({"Range": field}), 100, etag='"a"', last_modified=NOW) == wanted


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=-0", "bytes=200-300"])
def test_a_range_outside_the_body_is_empty(field: str) -> None:
    wanted = judge_range(Headers({"Range": field}), 100, etag='"a"', last_modified=NOW)
    assert wanted is not None
    assert not wanted


@pytest.mark.parametrize(
    ("condition", "is_range"),
    [('"a"', True), ('W/"a"', False), ('"b"', False), (http_date(NOW), True), (AFTER, False), (BEFORE, False)],
)
def test_if_range_lets_a_range_through_for_the_same_version_only(condition: str, is_range: bool) -> None:
    fields = Headers({"Range": "bytes=0-9", "If-Range": condition})
    assert (judge_range(fields, 100, etag='"a"', last_modified=NOW) is not None) == is_range


@given(st.integers(0, 4_000_000_000))
def test_dates_come_back_as_they_went(seconds: int) -> None:
    assert parse_http_date(http_date(seconds)) == seconds


@given(st.text(max_size=60))
def test_no_field_value_makes_the_server_fail(text: str) -> None:
    fields = Headers(dict.fromkeys(("If-None-Match", "If-Match", "If-Modified-Since", "If-Range", "Range"), text))
    judge_conditions("GET", fields, etag='"a"', last_modified=NOW)
    judge_range(fields, 100, etag='"a"', last_modified=NOW)
