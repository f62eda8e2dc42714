"""Lifetime, age and staleness, each by the paragraph of RFC 9111, 4.2, that says so."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from imagecache.entry import Entry
from imagecache.http.directives import RequestDirectives
from imagecache.http.freshness import (
    HEURISTIC_STATUSES,
    current_age,
    forbids_stale,
    fresh_for,
    fresh_until,
    freshness_lifetime,
    is_fresh,
    is_immutable,
    may_serve_on_error,
    may_serve_while_revalidating,
    needs_validation,
)

from .answers import DAY, NOW, Fields, date, stored


@pytest.mark.parametrize(
    ("fields", "seconds", "source"),
    [
        ({"Cache-Control": "max-age=60"}, 60, "max-age=60"),
        ({"Cache-Control": "max-age=60", "Expires": date(-DAY)}, 60, "max-age=60"),
        ({"Cache-Control": "max-age=60", "Expires": "0"}, 60, "max-age=60"),
        ({"Cache-Control": "max-age=0", "Expires": date(DAY)}, 0, "max-age=0"),
        ({"Cache-Control": "s-maxage=600, max-age=60"}, 60, "max-age=60"),
        ({"Cache-Control": "s-maxage=600"}, 0, "nothing says"),
        ({"Expires": date(60)}, 60, "Expires in 60 s"),
        ({"Expires": date(60), "Date": date(50)}, 10, "Expires in 10 s"),
        ({"Expires": date(60), "Date": date(-50)}, 110, "Expires in 110 s"),
        ({"Expires": date(60), "Date": "yesterday"}, 60, "Expires in 60 s"),
        ([("Expires", date(60)), ("Date", date(50)), ("Date", date(-50))], 10, "Expires in 10 s"),
        ({"Expires": date(300), "Date": date(400)}, 0, "Expires in 0 s"),
        ({"Expires": "0"}, 0, "Expires in 0 s"),
        ({"Expires": "-1"}, 0, "Expires in 0 s"),
        ({"Expires": ""}, 0, "Expires in 0 s"),
        ({"Expires": "nonsense"}, 0, "Expires in 0 s"),
        ([("Expires", date(60)), ("Expires", date(600))], 60, "Expires in 60 s"),
        ([("Expires", "0"), ("Expires", date(600))], 0, "Expires in 0 s"),
        # An explicit lifetime, be it one that cannot be read, leaves no room for a guess.
        ({"Expires": "0", "Last-Modified": date(-10 * DAY)}, 0, "Expires in 0 s"),
        ({"Cache-Control": "max-age=x", "Last-Modified": date(-10 * DAY)}, 0, "max-age=0"),
        ({"Last-Modified": date(-DAY)}, DAY / 10, "heuristic, 10 % of 1.0 days"),
        ({"Last-Modified": date(-DAY), "Date": date(-DAY / 2)}, DAY / 20, "heuristic, 10 % of 0.5 days"),
        ({"Last-Modified": date(-365 * DAY)}, 7 * DAY, "heuristic, 10 % of 365.0 days"),
        ({"Last-Modified": date(DAY)}, 0, "nothing says"),
        ({"Last-Modified": "long ago"}, 0, "nothing says"),
        ({}, 0, "nothing says"),
    ],
)
def test_the_lifetime_and_where_it_comes_from(fields: Fields, seconds: float, source: str) -> None:
    lifetime = freshness_lifetime(stored(fields))
    assert lifetime.seconds == pytest.approx(seconds)
    assert lifetime.source == source


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_a_lifetime_is_guessed_for_statuses_that_allow_it(status: int) -> None:
    assert freshness_lifetime(stored({"Last-Modified": date(-DAY)}, status=status)).seconds > 0


@pytest.mark.parametrize("status", [201, 202, 302, 307, 400, 403, 500, 502, 503, 504, 599])
def test_a_lifetime_is_not_guessed_for_others_unless_marked_as_cacheable(status: int) -> None:
    assert status not in HEURISTIC_STATUSES
    modified = {"Last-Modified": date(-DAY)}
    assert freshness_lifetime(stored(modified, status=status)).seconds == 0
    for mark in ("public", "private"):
        assert freshness_lifetime(stored({**modified, "Cache-Control": mark}, status=status)).seconds > 0


@pytest.mark.parametrize(
    ("fields", "request_time", "response_time", "now", "age"),
    [
        ({}, 0, 0, 10, 10),
        # age_value, corrected by the delay of the answer
        ({"Age": "30"}, 0, 0, 0, 30),
        ({"Age": "30"}, 0, 0, 10, 40),
        ({"Age": "30"}, -5, 0, 10, 45),
        # apparent_age
        ({"Date": date(-100)}, 0, 0, 0, 100),
        ({"Date": date(-100), "Age": "30"}, 0, 0, 10, 110),
        ({"Date": date(-100), "Age": "300"}, 0, 0, 10, 310),
        # An origin whose clock is fast, and our own clock set back
        ({"Date": date(100)}, 0, 0, 10, 10),
        ({}, 0, 0, -1000, 0),
        ({"Age": "30"}, 0, -1000, 0, 1030),
        # 5.1: of a list the first counts; what is no number is ignored
        ({"Age": "30, 5"}, 0, 0, 0, 30),
        ([("Age", "30"), ("Age", "5")], 0, 0, 0, 30),
        ({"Age": "-30"}, 0, 0, 0, 0),
        ({"Age": "30.5"}, 0, 0, 0, 0),
        ({"Age": "old"}, 0, 0, 0, 0),
        ({"Age": ""}, 0, 0, 0, 0),
        ({"Age": "9" * 5000}, 0, 0, 0, 2**31),
        ({"Date": "nonsense"}, 0, 0, 10, 10),
    ],
)
def test_the_age_is_computed_as_in_4_2_3(
    fields: Fields, request_time: float, response_time: float, now: float, age: float
) -> None:
    entry = stored(fields, request_time=NOW + request_time, response_time=NOW + response_time)
    assert current_age(entry, NOW + now) == pytest.approx(age)


def test_an_answer_is_fresh_while_its_age_is_less_than_its_lifetime() -> None:
    entry = stored({"Cache-Control": "max-age=60", "Age": "10"})
    assert fresh_until(entry) == NOW + 50
    assert [is_fresh(entry, NOW + seconds) for seconds in (0, 49, 50, 51)] == [True, True, False, False]


@pytest.mark.parametrize("fields", [{"Cache-Control": "max-age=0"}, {"Cache-Control": "max-age=60", "Age": "60"}, {}])
def test_a_clock_set_back_freshens_nothing_that_never_was_fresh(fields: Fields) -> None:
    assert not is_fresh(stored(fields), NOW - DAY)


ALWAYS_ASKED: list[Fields] = [
    {"Cache-Control": "max-age=60, no-cache"},
    {"Cache-Control": "max-age=60, No-Cache"},
    {"Cache-Control": "max-age=60, no-store"},
    {"Cache-Control": 'max-age=60, no-cache="a", no-cache'},
    # What the rules are read from cannot be taken out of what is stored, so it is as if the list were not there.
    {"Cache-Control": 'max-age=60, no-cache="cache-control"'},
    {"Cache-Control": "max-age=60", "Vary": "*"},
    {"Cache-Control": "max-age=60", "Vary": "Accept, *"},
    [("Cache-Control", "max-age=60"), ("Vary", ""), ("Vary", "*")],
    {"Expires": date(60), "Pragma": "no-cache"},
    {"Last-Modified": date(-DAY), "Pragma": "foo, No-Cache"},
]


@pytest.mark.parametrize("fields", ALWAYS_ASKED)
def test_what_must_be_asked_about_is_neither_fresh_nor_served_stale(fields: Fields) -> None:
    entry = stored(fields)
    assert needs_validation(entry)
    assert fresh_until(entry) == 0
    assert forbids_stale(entry)


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache-Control": "max-age=60"},
        {"Cache-Control": 'max-age=60, no-cache="set-cookie"'},
        {"Cache-Control": 'max-age=60, private="a"'},
        {"Cache-Control": "max-age=60, no-store, must-understand"},
        {"Cache-Control": "max-age=60", "Pragma": "no-cache"},
        {"Expires": date(60), "Pragma": "x-no-cache"},
        {"Cache-Control": "max-age=60", "Vary": "Accept"},
        {"Cache-Control": "max-age=60, proxy-revalidate, s-maxage=0"},
    ],
)
def test_what_only_looks_like_it_is_fresh_and_may_be_served_stale(fields: Fields) -> None:
    entry = stored(fields)
    assert is_fresh(entry, NOW)
    assert not forbids_stale(entry)


def test_must_revalidate_forbids_stale_and_nothing_else() -> None:
    entry = stored({"Cache-Control": "max-age=60, must-revalidate"})
    assert is_fresh(entry, NOW)
    assert forbids_stale(entry)


@pytest.mark.parametrize(
    ("control", "age", "covered"),
    [
        ("max-age=60, stale-while-revalidate=30", 59, True),
        ("max-age=60, stale-while-revalidate=30", 89, True),
        ("max-age=60, stale-while-revalidate=30", 90, False),
        ("max-age=0, stale-while-revalidate=30", 29, True),
        ("max-age=60, stale-while-revalidate=x", 60, False),
        ("max-age=60, stale-while-revalidate", 60, False),
        ("max-age=60", 60, False),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", 61, False),
        ("max-age=60, stale-while-revalidate=30, no-cache", 61, False),
        ('max-age=60, stale-while-revalidate=30, no-cache="a"', 61, True),
    ],
)
def test_stale_while_revalidate_covers_its_window_and_no_more(control: str, age: float, covered: bool) -> None:
    assert may_serve_while_revalidating(stored({"Cache-Control": control}), NOW + age) is covered


def test_the_rest_of_a_lifetime_turns_into_staleness() -> None:
    entry = stored({"Cache-Control": "max-age=60", "Age": "10"})
    assert [fresh_for(entry, NOW + seconds) for seconds in (0, 49, 50, 90)] == [50, 1, 0, -40]
    # One that never was fresh, too; and what is always asked about has no lifetime.
    assert fresh_for(stored({"Cache-Control": "max-age=5", "Age": "10"}), NOW + 1) == -6
    assert fresh_for(stored({"Cache-Control": "max-age=60, no-cache", "Age": "10"}), NOW + 1) == -11


STALE_40 = "max-age=10"


@pytest.mark.parametrize(
    ("control", "directives", "own", "may"),
    [
        # Nobody says so.
        (STALE_40, RequestDirectives(), None, False),
        ("max-age=9999", RequestDirectives(), None, False),
        # Any one suffices.
        (f"{STALE_40}, stale-if-error=40", RequestDirectives(), None, True),
        (f"{STALE_40}, stale-if-error=39", RequestDirectives(), None, False),
        (STALE_40, RequestDirectives(stale_if_error=40), None, True),
        (STALE_40, RequestDirectives(stale_if_error=39), None, False),
        (STALE_40, RequestDirectives(max_stale=40), None, True),
        (STALE_40, RequestDirectives(max_stale=39), None, False),
        (STALE_40, RequestDirectives(max_stale=math.inf), None, True),
        (STALE_40, RequestDirectives(), 40, True),
        (STALE_40, RequestDirectives(), 39, False),
        (STALE_40, RequestDirectives(), math.inf, True),
        (f"{STALE_40}, stale-if-error=1", RequestDirectives(stale_if_error=1, max_stale=1), 40, True),
        ("max-age=9999, stale-if-error=0", RequestDirectives(), None, True),
        # What the call asked of a copy is why the server was asked, and nothing more.
        (STALE_40, RequestDirectives(no_cache=True, max_age=0, min_fresh=60), 40, True),
        # An argument that cannot be read allows nothing.
        (f"{STALE_40}, stale-if-error", RequestDirectives(), None, False),
        (f"{STALE_40}, stale-if-error=x", RequestDirectives(), None, False),
        # Never against what the answer forbids
        (f"{STALE_40}, must-revalidate, stale-if-error=99", RequestDirectives(max_stale=math.inf), math.inf, False),
        (f"{STALE_40}, no-cache, stale-if-error=99", RequestDirectives(max_stale=math.inf), math.inf, False),
        (f"{STALE_40}, no-store, stale-if-error=99", RequestDirectives(max_stale=math.inf), math.inf, False),
        (f'{STALE_40}, no-cache="x", proxy-revalidate, s-maxage=1', RequestDirectives(), 40, True),
    ],
)
def test_a_copy_stands_in_for_a_server_that_fails_where_any_one_allows_it(
    control: str, directives: RequestDirectives, own: float | None, may: bool
) -> None:
    assert may_serve_on_error(stored({"Cache-Control": control}), NOW + 50, directives, own) is may


@pytest.mark.parametrize(
    ("control", "url", "immutable"),
    [
        ("max-age=60, immutable", "https://a.example/x.png", True),
        ("Immutable", "https://a.example:8443/x.png", True),
        ("immutable", "http://localhost:8080/x.png", True),
        ("immutable", "http://127.0.0.1:8080/x.png", True),
        ("immutable", "http://[::1]:8080/x.png", True),
        ("max-age=60", "https://a.example/x.png", False),
        ('x="immutable"', "https://a.example/x.png", False),
        # RFC 8246, 3: only over an authenticated connection
        ("immutable", "http://a.example/x.png", False),
        ("immutable", "http://127.evil.example/x.png", False),
        ("immutable", "http://localhost.evil.example/x.png", False),
        ("immutable", "http://[a", False),
        ("immutable", "", False),
    ],
)
def test_immutable_counts_where_nobody_on_the_way_can_have_written_it(control: str, url: str, immutable: bool) -> None:
    entry = stored({"Cache-Control": control}, url=url)
    assert is_immutable(entry) is immutable
    assert not is_immutable(replace(entry, final_url="http://a.example/x.png"))


def test_a_304_renews_freshness() -> None:
    entry: Entry = stored({"Cache-Control": "max-age=60", "Date": date()})
    renewed = replace(entry, headers=entry.headers.without("date"), request_time=NOW + 99, response_time=NOW + 100)
    assert not is_fresh(entry, NOW + 100)
    assert fresh_until(renewed) == NOW + 100 - 1 + 60
