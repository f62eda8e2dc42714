"""What a request asks of caches (RFC 9111, 5.2.1 and 5.4), read and written."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from imagecache.headers import Headers
from imagecache.http.directives import NO_DIRECTIVES, RequestDirectives


@pytest.mark.parametrize(
    ("fields", "directives"),
    [
        ({}, RequestDirectives()),
        ({"Cache-Control": "max-age=60"}, RequestDirectives(max_age=60)),
        ({"Cache-Control": "Max-Age=0, ONLY-IF-CACHED"}, RequestDirectives(max_age=0, only_if_cached=True)),
        ({"Cache-Control": "max-stale"}, RequestDirectives(max_stale=inf)),
        ({"Cache-Control": 'max-stale="30"'}, RequestDirectives(max_stale=30)),
        # What cannot be read asks for the most, and allows the least.
        ({"Cache-Control": "max-stale=soon"}, RequestDirectives(max_stale=0)),
        ({"Cache-Control": "max-age=soon"}, RequestDirectives(max_age=0)),
        ({"Cache-Control": "min-fresh=soon"}, RequestDirectives(min_fresh=inf)),
        ({"Cache-Control": "stale-if-error=soon"}, RequestDirectives(stale_if_error=0)),
        ({"Cache-Control": "min-fresh=5, stale-if-error=9"}, RequestDirectives(min_fresh=5, stale_if_error=9)),
        ({"Cache-Control": "no-cache, no-store"}, RequestDirectives(no_cache=True, no_store=True)),
        ({"Cache-Control": "community=UCI"}, RequestDirectives()),
        ({"Pragma": "no-cache"}, RequestDirectives(no_cache=True)),
        ({"Pragma": "x, No-Cache"}, RequestDirectives(no_cache=True)),
        # 5.4: Pragma counts only where Cache-Control is silent.
        ({"Pragma": "no-cache", "Cache-Control": "max-stale=1"}, RequestDirectives(max_stale=1)),
    ],
)
def test_what_a_request_asks(fields: dict[str, str], directives: RequestDirectives) -> None:
    assert RequestDirectives.of(Headers(fields)) == directives


def test_of_a_header_and_an_option_the_stricter_counts() -> None:
    asked = RequestDirectives(max_age=60, max_stale=10, min_fresh=5)
    assert asked.tightened(max_age=30, max_stale=20, min_fresh=9) == RequestDirectives(30, 10, 9)
    assert asked.tightened() == asked
    assert NO_DIRECTIVES.tightened(max_age=1, max_stale=inf, min_fresh=2) == RequestDirectives(1, inf, 2)


@given(
    st.builds(
        RequestDirectives,
        max_age=st.none() | st.integers(0, 2**31 - 1),
        max_stale=st.none() | st.just(inf) | st.integers(0, 2**31 - 1),
        min_fresh=st.none() | st.integers(0, 2**31),
        stale_if_error=st.none() | st.integers(0, 2**31),
        no_cache=st.booleans(),
        no_store=st.booleans(),
        only_if_cached=st.booleans(),
    )
)
def test_what_is_written_reads_the_same(directives: RequestDirectives) -> None:
    value = directives.field_value()
    assert RequestDirectives.of(Headers({"Cache-Control": value} if value else {})) == directives


@pytest.mark.parametrize(
    ("directives", "value"),
    [
        (RequestDirectives(), ""),
        # Rounded so that no more is allowed than was asked for.
        (RequestDirectives(max_age=0.9, max_stale=1.9, min_fresh=1.1), "max-age=0, max-stale=1, min-fresh=2"),
        (RequestDirectives(max_age=inf), ""),
        (RequestDirectives(max_stale=inf, min_fresh=inf, stale_if_error=inf),
         "max-stale, min-fresh=2147483648, stale-if-error=2147483648"),
    ],
)  # fmt: skip
def test_the_field_value(directives: RequestDirectives, value: str) -> None:
    assert directives.field_value() == value
