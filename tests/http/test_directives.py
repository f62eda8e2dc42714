"""What a request asks of caches: read from its fields, made stricter by a call's options, and written again."""

from __future__ import annotations

import math

import pytest

from imagecache.headers import Headers
from imagecache.http.directives import RequestDirectives

from .answers import Fields

NOTHING = RequestDirectives()


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        ("", NOTHING),
        ("nothing-to-see-here, s-maxage=5, must-revalidate", NOTHING),
        ("max-age=60", RequestDirectives(max_age=60)),
        ('MAX-Age="60"', RequestDirectives(max_age=60)),
        ("max-stale", RequestDirectives(max_stale=math.inf)),
        ("max-stale=60", RequestDirectives(max_stale=60)),
        ("min-fresh=60", RequestDirectives(min_fresh=60)),
        ("stale-if-error=60", RequestDirectives(stale_if_error=60)),
        ("no-cache", RequestDirectives(no_cache=True)),
        ("No-Cache=x", RequestDirectives(no_cache=True)),
        ("no-store", RequestDirectives(no_store=True)),
        ("only-if-cached", RequestDirectives(only_if_cached=True)),
        ('x="no-cache, max-age=1", max-age=60', RequestDirectives(max_age=60)),
        ("max-age=99999999999", RequestDirectives(max_age=2**31)),
        # What cannot be read asks for the most.
        ("max-age", RequestDirectives(max_age=0)),
        ("max-age=-1", RequestDirectives(max_age=0)),
        ("max-stale=", RequestDirectives(max_stale=0)),
        ("max-stale=any", RequestDirectives(max_stale=0)),
        ("min-fresh=x", RequestDirectives(min_fresh=math.inf)),
        ("stale-if-error", RequestDirectives(stale_if_error=0)),
        # So does the strictest of several.
        ("max-age=60, max-age=5", RequestDirectives(max_age=5)),
        ("max-stale=60, max-stale", RequestDirectives(max_stale=60)),
        ("min-fresh=5, min-fresh=60", RequestDirectives(min_fresh=60)),
        ("stale-if-error=60, stale-if-error=5", RequestDirectives(stale_if_error=5)),
    ],
)
def test_the_directives_of_a_request(value: str, directives: RequestDirectives) -> None:
    assert RequestDirectives.of(Headers({"Cache-Control": value})) == directives


@pytest.mark.parametrize(
    ("fields", "no_cache"),
    [
        ({}, False),
        ({"Pragma": "no-cache"}, True),
        ({"pragma": "foo, No-Cache"}, True),
        ([("Pragma", "foo"), ("Pragma", "no-cache")], True),
        ({"Pragma": "unrecognised-extension"}, False),
        ({"Pragma": "x-no-cache"}, False),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=60"}, False),
        ({"Pragma": "no-cache", "Cache-Control": ""}, False),
    ],
)
def test_pragma_speaks_only_where_there_is_no_cache_control(fields: Fields, no_cache: bool) -> None:
    assert RequestDirectives.of(Headers(fields)).no_cache is no_cache


def test_lines_of_cache_control_are_one_list() -> None:
    headers = Headers([("Cache-Control", "max-age=60"), ("cache-control", "no-store")])
    assert RequestDirectives.of(headers) == RequestDirectives(max_age=60, no_store=True)


def test_of_what_the_fields_and_the_options_say_the_stricter_counts() -> None:
    said = RequestDirectives(max_age=60, max_stale=60, min_fresh=60, stale_if_error=1, no_cache=True)
    assert said.tightened() == said
    assert said.tightened(max_age=5, max_stale=5, min_fresh=90) == RequestDirectives(5, 5, 90, 1, no_cache=True)
    assert said.tightened(max_age=90, max_stale=math.inf, min_fresh=5) == said
    assert NOTHING.tightened(max_age=0, max_stale=0, min_fresh=0) == RequestDirectives(0, 0, 0)


@pytest.mark.parametrize(
    ("directives", "value"),
    [
        (NOTHING, ""),
        (RequestDirectives(max_age=60.9), "max-age=60"),
        (RequestDirectives(max_age=0), "max-age=0"),
        (RequestDirectives(max_age=math.inf), ""),
        (RequestDirectives(max_stale=60.9), "max-stale=60"),
        (RequestDirectives(max_stale=math.inf), "max-stale"),
        (RequestDirectives(min_fresh=0.1), "min-fresh=1"),
        (RequestDirectives(min_fresh=math.inf), "min-fresh=2147483648"),
        (RequestDirectives(stale_if_error=math.inf), "stale-if-error=2147483648"),
        (RequestDirectives(1, 2, 3, 4, no_cache=True, no_store=True, only_if_cached=True),
         "no-cache, no-store, max-age=1, max-stale=2, min-fresh=3, stale-if-error=4, only-if-cached"),
    ],
)  # fmt: skip
def test_directives_are_written_in_whole_seconds_and_never_laxer(directives: RequestDirectives, value: str) -> None:
    assert directives.field_value() == value


def test_the_repr_names_what_is_said_and_nothing_else() -> None:
    assert repr(RequestDirectives(max_age=0, no_cache=True)) == "RequestDirectives(max_age=0, no_cache=True)"
