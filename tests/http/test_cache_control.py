"""Cache-Control: quoted, malformed, doubled, in any case; what cannot be read never makes an answer fresher."""

from __future__ import annotations

import time

import pytest

from imagecache.headers import Headers
from imagecache.http.cache_control import CacheControl, parse_delta_seconds


def control(*values: str) -> CacheControl:
    return CacheControl(Headers([("Cache-Control", value) for value in values]))


@pytest.mark.parametrize(
    ("values", "max_age"),
    [
        (["max-age=60"], 60),
        (["MaX-aGe=60"], 60),
        (['max-age="60"'], 60),
        ([r'max-age="6\0"'], 60),
        (["max-age=0060"], 60),
        (["max-age = 60"], 60),
        (["public , max-age=60 , foo"], 60),
        ([",, ,max-age=60,"], 60),
        (["foo=bar, max-age=60"], 60),
        (['foo="max-age=5", max-age=60'], 60),
        (['foo="a,max-age=5", max-age=60'], 60),
        ([r'foo="\",max-age=5", max-age=60'], 60),
        (["max-age=60", "max-age=5"], 60),
        (["max-age=60, max-age=5"], 60),
        (["public", "max-age=60"], 60),
        (["max-age=99999999999"], 2**31),
        (["max-age=" + "9" * 10_000], 2**31),
        (["max-age=0"], 0),
        # Invalid freshness information makes stale (RFC 9111, 4.2.1).
        (["max-age"], 0),
        (["max-age="], 0),
        (["max-age=-60"], 0),
        (["max-age=60.5"], 0),
        (["max-age='60'"], 0),
        (["max-age=60s"], 0),
        (["max-age=60;foo"], 0),
        (["max-age=60 30"], 0),
        (['max-age="60"30'], 0),
        (['max-age="60'], 0),
        (["max-age=٦٠"], 0),
        (["max-age=abc, max-age=60"], 0),
        # Not the directive at all.
        ([], None),
        ([""], None),
        (["s-maxage=60"], None),
        (["xmax-age=60"], None),
        (['foo="max-age=60"'], None),
        (['"max-age=60"'], None),
        (["=60, ;"], None),
    ],
)
def test_max_age_is_read_as_seconds(values: list[str], max_age: int | None) -> None:
    assert control(*values).seconds("max-age") == max_age


@pytest.mark.parametrize(
    "value",
    [
        "no-store",
        "NO-STORE",
        "foo,no-store",
        'foo="bar, no-store',
        "no-store=foo",
        "no-store;",
        "=,no-store",
        '"",no-store',
    ],
)
def test_what_forbids_is_found_in_whatever_surrounds_it(value: str) -> None:
    assert "no-store" in control(value)


@pytest.mark.parametrize("value", ['foo="no-store"', 'foo="a, no-store, b"', "x-no-store", "no", ""])
def test_what_is_not_said_is_not_found(value: str) -> None:
    assert "no-store" not in control(value)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        (['no-cache="Set-Cookie"'], {"set-cookie"}),
        (['no-cache="a, B ,, c"'], {"a", "b", "c"}),
        (["no-cache=a"], {"a"}),
        (['no-cache="a"', 'no-cache="b"'], {"a", "b"}),
        # All of these are about the whole answer.
        (["no-cache"], set()),
        (["no-cache="], set()),
        (['no-cache=""'], set()),
        (['no-cache="a", no-cache'], set()),
        (['no-cache, no-cache="a"'], set()),
        (['no-cache="a b"'], set()),
        (['no-cache="a'], set()),
        (["private"], set()),
    ],
)
def test_a_qualified_no_cache_lists_fields_and_anything_unclear_does_not(values: list[str], fields: set[str]) -> None:
    assert control(*values).fields("no-cache") == fields


@pytest.mark.parametrize(
    ("value", "status", "forbidden"),
    [
        ("no-store", 200, True),
        ("max-age=60", 200, False),
        ("must-understand, no-store", 200, False),
        ("must-understand, no-store", 404, False),
        ("must-understand, no-store", 599, True),
        ("must-understand, max-age=60", 599, True),
        ("must-understand, max-age=60", 206, True),
    ],
)
def test_must_understand_overrides_no_store_where_the_status_is_understood(
    value: str, status: int, forbidden: bool
) -> None:
    assert control(value).forbids_storing(status) is forbidden


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 7 ", 7), ("007", 7), (str(2**31), 2**31), (str(2**31 + 1), 2**31), ("0" * 9000 + "5", 5),
     (None, None), ("", None), ("-1", None), ("+1", None), ("1.0", None), ("1e3", None), ("²", None), ("1_000", None)],
)  # fmt: skip
def test_delta_seconds(text: str | None, seconds: int | None) -> None:
    assert parse_delta_seconds(text) == seconds


@pytest.mark.parametrize("piece", [",", " ", '"', 'a="', 'a="x', 'a="\\', 'a=",', "=,", "a ", '\\"', 'a="b"c,'])
def test_reading_takes_time_in_proportion_to_the_length(piece: str) -> None:
    # The square of this length would be some 10^10 steps: minutes, where one pass takes milliseconds.
    started = time.process_time()
    control(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 5
