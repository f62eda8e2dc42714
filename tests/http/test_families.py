"""What a private cache does with the second request, family by family as the public HTTP cache test suite has them.

An answer comes, is stored if it may be, and some seconds later the same URL is asked for under ``PROTOCOL``. No server:
storing, selecting and deciding are functions. Where a verdict of the suite is another, the section that decides is
named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from imagecache.entry import Entry
from imagecache.headers import Headers
from imagecache.http.decision import Load, Refuse, Serve, Validate, decide
from imagecache.http.directives import RequestDirectives
from imagecache.http.freshness import current_age, may_serve_on_error
from imagecache.http.storing import forbids_storing, may_store_response, select, storable_headers
from imagecache.http.validators import etag_of, merged_headers, not_modified_fits
from imagecache.request import CachePolicy

from .answers import DAY, NOW, Fields, date, stored

PAUSE = 3.0
CACHED, ASKED, STALE = "cached", "asked", "stale, asked behind"
BY_ETAG, BY_DATE = "asked with If-None-Match", "asked with If-Modified-Since"
LOCAL = "http://localhost:8000/x"
NOTHING: Mapping[str, str] = {}


def kept(fields: Fields, *, status: int = 200, request: Mapping[str, str] = NOTHING) -> Entry | None:
    """The answer as it is stored, if it is."""
    entry = stored(storable_headers(Headers(fields), received_at=NOW).pairs, status=status, request=request, url=LOCAL)
    return entry if may_store_response("GET", status, Headers(request), Headers(fields), entry) else None


def second(
    fields: Fields,
    *,
    status: int = 200,
    first: Mapping[str, str] = NOTHING,
    then: Mapping[str, str] = NOTHING,
    after: float = PAUSE,
) -> str:
    """What becomes of the second request; ``first`` and ``then`` are the request fields."""
    entry = kept(fields, status=status, request=first)
    chosen = select([entry] if entry is not None else [], then)
    decision = decide(CachePolicy.PROTOCOL, chosen, NOW + after, directives=RequestDirectives.of(Headers(then)))
    match decision:
        case Serve(stale, _):
            return STALE if stale else CACHED
        case Validate(sent):
            return f"asked with {', '.join(sorted(sent, reverse=True))}"
        case Load():
            return ASKED
        case Refuse():
            return "refused"


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, ASKED),
        ({"Cache-Control": "max-age=3600"}, CACHED),
        ({"Cache-Control": "max-age=0"}, ASKED),
        *[({"Cache-Control": f"max-age={age}"}, CACHED) for age in (2**31 - 1, 2**31, 2**31 + 1, 99999999999)],
        ({"Cache-Control": "max-age=3600", "Date": date(), "Age": "7200"}, ASKED),
        ({"Cache-Control": "max-age=3600", "Date": date(-7200)}, ASKED),
        ({"Cache-Control": "max-age=3600", "Expires": date(-7200), "Date": date()}, CACHED),
        ({"Cache-Control": "max-age=3600", "Expires": "0", "Date": date()}, CACHED),
        ({"Cache-Control": "max-age=0", "Expires": date(3600), "Date": date()}, ASKED),
        ({"Cache-Control": "foobar, max-age=3600"}, CACHED),
        ({"Cache-Control": "MaX-aGe=3600"}, CACHED),
        ({"Cache-Control": "max-age=-3600"}, ASKED),
        # s-maxage is not for us, neither shorter nor longer.
        ({"Cache-Control": "s-maxage=3600, max-age=1"}, ASKED),
        ([("Cache-Control", "s-maxage=3600"), ("Cache-Control", "max-age=1")], ASKED),
        ({"Cache-Control": "s-maxage=1, max-age=3600"}, CACHED),
        ({"Cache-Control": "s-maxage=3600"}, ASKED),
        # Quoted, in quotes of another, malformed, several
        ({"Cache-Control": 'max-age="3600"'}, CACHED),
        ({"Cache-Control": "max-age='3600'"}, ASKED),
        ({"Cache-Control": 'extension="max-age=3600", max-age=1'}, ASKED),
        ({"Cache-Control": 'max-age=1, extension="max-age=3600"'}, ASKED),
        ({"Cache-Control": 'extension="max-age=3600", max-age="1"'}, ASKED),
        ({"Cache-Control": 'max-age="1", extension="max-age=3600"'}, ASKED),
        ({"Cache-Control": "max-age=003600"}, CACHED),
        ({"Cache-Control": "max-age=3600.0"}, ASKED),
        ({"Cache-Control": "max-age=3600.5"}, ASKED),
        ({"Cache-Control": "max-age=a3600"}, ASKED),
        ({"Cache-Control": "max-age=3600a"}, ASKED),
        ([("Cache-Control", "max-age=3600"), ("Cache-Control", "max-age=1")], CACHED),
        ({"Cache-Control": "max-age=1, max-age=1800"}, ASKED),
        # Surrogate-Control is for caches in front of a server; this one is behind a client.
        ({"Surrogate-Control": "max-age=3600"}, ASKED),
        ({"Surrogate-Control": "no-store", "Cache-Control": "max-age=3600"}, CACHED),
        ({"Surrogate-Control": "max-age=3600", "Cache-Control": "no-store"}, ASKED),
    ],
)
def test_freshness_by_cache_control(fields: Fields, outcome: str) -> None:
    assert second(fields) == outcome


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        (["7200"], ASKED),
        # 5.1: of a list "a cache encountering a message with a list-based Age field value SHOULD use the first member
        # of the field value, discarding subsequent ones", on one line or on several (RFC 9110, 5.3).
        (["7200,0"], ASKED),
        (["0,7200"], CACHED),
        (["7200", "0"], ASKED),
        (["0", "7200"], CACHED),
        (["0, 0"], CACHED),
        (["0", "0"], CACHED),
        (["1800, 1800"], CACHED),
        # 5.1: "If the field value (after discarding additional members, per above) is invalid (e.g., it contains
        # something other than a non-negative integer), a cache SHOULD ignore the field."
        (["abc"], CACHED),
        (["-7200"], CACHED),
        (["7200.0"], CACHED),
        (["7200;foo=bar"], CACHED),
        (["7200;foo=111"], CACHED),
    ],
)
def test_age_is_read_as_5_1_says(values: list[str], outcome: str) -> None:
    fields = [("Date", date()), ("Cache-Control", "max-age=3600"), *(("Age", value) for value in values)]
    assert second(fields) == outcome


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"Expires": date(30 * DAY), "Date": date()}, CACHED),
        ({"Expires": date(-30 * DAY), "Date": date()}, ASKED),
        ({"Expires": date(), "Date": date()}, ASKED),
        ({"Expires": date(300), "Date": date(400)}, ASKED),
        ({"Expires": "0", "Date": date()}, ASKED),
        ({"Expires": date(10), "Date": "foo"}, CACHED),
        ({"Expires": date(10), "Date": date(-10), "Age": "25"}, ASKED),
        ({"Expires": date(20), "Date": date(10), "Age": "15"}, ASKED),
        ({"Expires": "Thursday, 18-Aug-50 02:01:18 GMT", "Date": date()}, CACHED),
        ({"Expires": "Thu Aug  8 02:01:18 2050", "Date": date()}, CACHED),
        ({"Expires": "THU, 18 AUG 2050 02:01:18 gMT", "Date": date()}, CACHED),
        *[({"Expires": malformed, "Date": date()}, ASKED) for malformed in (
            "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 18 Aug 2050 02:01:18 AEST", "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT", "Thu, 18  Aug  2050 02:01:18 GMT", "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT", "Thu, 18 Aug 2050 2:01:18 GMT",
        )],
    ],
)  # fmt: skip
def test_freshness_by_expires(fields: Fields, outcome: str) -> None:
    assert second(fields, after=0) == outcome


TAG = {"ETag": '"abcd"'}


@pytest.mark.parametrize(
    ("control", "more", "outcome"),
    [
        ("private, max-age=3600", {}, CACHED),
        ("no-store", {}, ASKED),
        ("No-StOrE", {}, ASKED),
        ("max-age=10000, no-store", {"Expires": date(10000), "Date": date()}, ASKED),
        ("no-cache", {}, ASKED),
        ("No-CaChE", {}, ASKED),
        ("no-cache", TAG, BY_ETAG),
        ("max-age=10000, no-cache", {**TAG, "Expires": date(10000), "Date": date()}, BY_ETAG),
        ("max-age=10000, must-revalidate", TAG, CACHED),
        ("max-age=2, must-revalidate", TAG, BY_ETAG),
        ("max-age=10000, immutable", TAG, CACHED),
        ("max-age=2, stale-while-revalidate=60", TAG, STALE),
        ("max-age=2, stale-while-revalidate=1", TAG, BY_ETAG),
    ],
)
def test_directives_of_the_answer(control: str, more: Mapping[str, str], outcome: str) -> None:
    assert second({"Cache-Control": control, **more}) == outcome


def test_a_reload_of_what_is_immutable_asks_only_once_it_is_stale() -> None:
    for max_age, outcome in ((10000, CACHED), (2, BY_ETAG)):
        fields = {**TAG, "Cache-Control": f"max-age={max_age}, immutable"}
        assert second(fields, then={"Cache-Control": "max-age=0"}) == outcome


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ([("Cache-Control", 'no-cache="a"'), ("Cache-Control", "max-age=3600")], {"a"}),
        ([("Cache-Control", 'no-cache="a, b"'), ("Cache-Control", "max-age=3600")], {"a", "b"}),
        ([("Connection", "a, b"), ("Cache-Control", "max-age=3600")], {"a", "b"}),
    ],
)
def test_listed_fields_are_not_stored_and_the_rest_is_fresh(fields: list[tuple[str, str]], left_out: set[str]) -> None:
    fields = [*fields, ("a", "1"), ("b", "2"), ("c", "3")]
    entry = kept(fields)
    assert entry is not None
    assert {name for name in "abc" if name in entry.headers} == set("abc") - left_out
    assert second(fields) == CACHED


@pytest.mark.parametrize(
    ("control", "allowed_by_us", "stands_in"),
    [
        ("max-age=2", None, False),
        ("max-age=2", 60.0, True),
        ("max-age=2, stale-if-error=60", None, True),
        ("max-age=2, must-revalidate", 60.0, False),
        ("max-age=2, no-cache", 60.0, False),
        ("max-age=2, proxy-revalidate, s-maxage=2", 60.0, True),
    ],
)
def test_a_stale_answer_where_the_server_is_gone(control: str, allowed_by_us: float | None, stands_in: bool) -> None:
    entry = kept({"Cache-Control": control})
    assert entry is not None
    assert may_serve_on_error(entry, NOW + PAUSE, RequestDirectives(), allowed_by_us) is stands_in


@pytest.mark.parametrize(
    ("status", "control", "outcome"),
    [
        *[(status, "", CACHED) for status in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)],
        *[(status, "", ASKED) for status in (201, 202, 302, 303, 307, 403, 500, 502, 503, 504, 599)],
        *[(status, "public", CACHED) for status in (201, 302, 403, 500, 599)],
    ],
)
def test_a_lifetime_is_guessed_from_last_modified(status: int, control: str, outcome: str) -> None:
    fields = {"Last-Modified": date(-DAY), "Date": date(), **({"Cache-Control": control} if control else {})}
    assert second(fields, status=status) == outcome


@pytest.mark.parametrize(
    ("delta", "outcome"), [(5, BY_DATE), (10, BY_DATE), (30, BY_DATE), (31, CACHED), (60, CACHED), (3600, CACHED)]
)
def test_the_guess_is_a_tenth_of_the_time_since(delta: float, outcome: str) -> None:
    assert second({"Last-Modified": date(-delta), "Date": date()}) == outcome


@pytest.mark.parametrize(
    "status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599]
)
def test_any_final_status_is_reused_while_explicitly_fresh_and_not_longer(status: int) -> None:
    fresh = {"Expires": date(100_000), "Last-Modified": date(), "Date": date()}
    stale = {"Expires": date(-5000), "Last-Modified": date(-100_000), "Date": date()}
    assert second(fresh, status=status) == CACHED
    assert second(stale, status=status) == BY_DATE


def test_must_understand_keeps_out_what_is_not_understood() -> None:
    assert second({"Cache-Control": "max-age=3600, must-understand"}, status=599) == ASKED
    assert second({"Cache-Control": "max-age=3600, must-understand, no-store"}) == CACHED


FRESH = {"Cache-Control": "max-age=3600"}


@pytest.mark.parametrize(
    ("fields", "asked", "outcome"),
    [
        ({"Expires": date(100_000), "Date": date()}, "max-age=0", ASKED),
        ({"Expires": date(100_000), "Date": date()}, "max-age=1", ASKED),
        ({**FRESH, "Age": "1800"}, "max-age=600", ASKED),
        ({"Cache-Control": "max-age=1"}, "max-stale=1000", STALE),
        ({"Cache-Control": "max-age=1500", "Age": "2000"}, "max-stale=1000", STALE),
        ({"Cache-Control": "max-age=1500", "Age": "2600"}, "max-stale=1000", ASKED),
        ({"Cache-Control": "max-age=1, must-revalidate"}, "max-stale", ASKED),
        ({"Cache-Control": "max-age=1500"}, "min-fresh=2000", ASKED),
        ({"Cache-Control": "max-age=1500", "Age": "1000"}, "min-fresh=1000", ASKED),
        ({"Cache-Control": "max-age=1500"}, "min-fresh=1000", CACHED),
        (FRESH, "no-cache", ASKED),
        ({**FRESH, **TAG}, "no-cache", BY_ETAG),
        ({**FRESH, "Last-Modified": date(-10_000)}, "no-cache", BY_DATE),
        ({}, "only-if-cached", "refused"),
        (FRESH, "only-if-cached", CACHED),
        (FRESH, "nothing-to-see-here", CACHED),
    ],
)
def test_directives_of_the_request(fields: Fields, asked: str, outcome: str) -> None:
    assert second(fields, then={"Cache-Control": asked}) == outcome


def test_a_request_with_no_store_keeps_its_answer_out() -> None:
    assert second(FRESH, first={"Cache-Control": "no-store"}) == ASKED
    assert forbids_storing(Headers({"Cache-Control": "no-store"}), Headers(FRESH))


@pytest.mark.parametrize(
    ("fields", "then", "outcome"),
    [
        (FRESH, {"Pragma": "no-cache"}, ASKED),
        (FRESH, {"Pragma": "no-cache", "Cache-Control": "x"}, CACHED),
        (FRESH, {"Pragma": "unrecognised-extension"}, CACHED),
        ({**FRESH, "Pragma": "no-cache"}, {}, CACHED),
        ({"Last-Modified": date(-10_000), "Pragma": "no-cache"}, {}, BY_DATE),
        ({**FRESH, "Pragma": "unrecognised-extension"}, {}, CACHED),
    ],
)
def test_pragma(fields: Fields, then: Mapping[str, str], outcome: str) -> None:
    assert second(fields, then=then) == outcome


FOO, THREE = {"Foo": "1"}, {"Foo": "1", "Bar": "abc", "Baz": "789"}


@pytest.mark.parametrize(
    ("vary", "first", "then", "outcome"),
    [
        ("Foo", FOO, FOO, CACHED),
        ("Foo", FOO, {"Foo": "2"}, ASKED),
        ("Foo", {}, FOO, ASKED),
        ("Foo", FOO, {}, ASKED),
        ("Foo", {**FOO, "Other": "2"}, {**FOO, "Other": "3"}, CACHED),
        ("Foo, Bar", THREE, THREE, CACHED),
        ("Foo, Bar", THREE, {**THREE, "Foo": "2"}, ASKED),
        ("Foo, Bar", FOO, {}, ASKED),
        ("Foo, Bar, Baz", THREE, THREE, CACHED),
        ("Foo, Bar, Baz", THREE, {**THREE, "Bar": "abcd"}, ASKED),
        ("Foo, Bar, Baz", {"Foo": "1", "Baz": "789"}, {"Baz": "789", "Foo": "1"}, CACHED),
        *[(star, FOO, FOO, ASKED) for star in ("*", "*, *", ", *", "*, Foo", "Foo, *")],
        ("Foo", {"Foo": "1,2"}, {"Foo": " 1, 2 "}, CACHED),
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "de, en"}, CACHED),
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "eN, De"}, CACHED),
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": " en ,   de"}, CACHED),
        # 4.1: a match is of what is sent, "known to have identical semantics"; that a German answer would be this
        # client's choice, too, is for the server to say.
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "fr;q=0.5, de;q=1.0"}, ASKED),
    ],
)
def test_vary(vary: str, first: Mapping[str, str], then: Mapping[str, str], outcome: str) -> None:
    fields = {"Expires": date(5000), "Date": date(), "Content-Language": "de", "Vary": vary}
    assert second(fields, first=first, then=then) == outcome


def test_lines_of_vary_and_of_what_it_names_are_lists() -> None:
    lines = [("Expires", date(5000)), ("Vary", ""), ("Vary", "*")]
    assert second(lines, first=FOO, then=FOO) == ASKED
    combined = Headers([("Foo", "1"), ("Foo", "2")])
    assert second({**FRESH, "Vary": "Foo"}, first={"Foo": "1, 2"}, then=combined) == CACHED


def test_two_variants_are_kept_apart() -> None:
    one, two = (kept({**FRESH, "Vary": "Foo"}, request={"Foo": value}) for value in "12")
    assert one is not None
    assert two is not None
    assert one.row != two.row
    assert select([one, two], {"Foo": "1"}) is one
    assert select([one, two], {"Foo": "2"}) is two


@pytest.mark.parametrize(
    ("etag", "outcome"),
    [('"abcdef"', BY_ETAG), ('W/"abcdef"', BY_ETAG), ("abcdef", BY_ETAG), ('"abc', ASKED), ('w/"abc"', ASKED)],
)
def test_a_stale_answer_is_asked_about_by_its_tag(etag: str, outcome: str) -> None:
    assert second({"Expires": date(1), "Date": date(), "ETag": etag}) == outcome


@pytest.mark.parametrize(
    "name", ["Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Cache-Control", "Content-Encoding",
             "Content-Length", "Content-Location", "Content-MD5", "Content-Range", "Content-Security-Policy",
             "Content-Type", "Clear-Site-Data", "ETag", "Expires", "Public-Key-Pins", "Set-Cookie2",
             "X-Frame-Options", "X-XSS-Protection"]
)  # fmt: skip
def test_fields_that_are_stored_as_they_came(name: str) -> None:
    assert storable_headers(Headers({name: "any"}))[name] == "any"


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
             "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade"]
)  # fmt: skip
def test_fields_of_the_connection_are_not_stored(name: str) -> None:
    assert name not in storable_headers(Headers({name: "any"}))


@pytest.mark.parametrize(
    ("name", "is_updated"),
    [
        *[(name, True) for name in (
            "Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Cache-Control", "Content-Location",
            "Content-Security-Policy", "Content-Type", "Clear-Site-Data", "Expires", "Public-Key-Pins",
            "Set-Cookie2", "X-Frame-Options", "X-XSS-Protection",
        )],
        *[(name, False) for name in ("Content-Encoding", "Content-Length", "Content-MD5", "Content-Range")],
    ],
)  # fmt: skip
def test_what_a_304_updates(name: str, is_updated: bool) -> None:
    old, new = Headers({**TAG, name: "old"}), Headers({**TAG, name: "new"})
    assert merged_headers(old, new)[name] == ("new" if is_updated else "old")


def test_a_304_that_renews_makes_fresh_again() -> None:
    entry = kept({**TAG, "Cache-Control": "max-age=1", "Test-Header": "a"})
    assert entry is not None
    received = Headers({**TAG, "Cache-Control": "max-age=3600", "Date": date(PAUSE)})
    assert not_modified_fits(entry, Headers({"If-None-Match": '"abcd"'}), received)
    headers = merged_headers(entry.headers, received)
    renewed = replace(entry, headers=headers, request_time=NOW + PAUSE, response_time=NOW + PAUSE)
    assert decide(CachePolicy.PROTOCOL, renewed, NOW + 2 * PAUSE) == Serve()
    assert renewed.headers["test-header"] == "a"


def test_a_304_with_another_strong_tag_updates_nothing() -> None:
    # 4.3.4: where no stored answer has "one of the same strong validators", "the cache MUST NOT use the new response
    # to update any stored responses".
    entry = kept({"ETag": '"abcdef"', "Cache-Control": "max-age=2"})
    assert entry is not None
    assert not not_modified_fits(entry, Headers({"If-None-Match": '"abcdef"'}), Headers({"ETag": '"ghijkl"'}))


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "get", ""])
def test_only_the_answer_to_a_get_is_stored(method: str) -> None:
    entry = stored(FRESH)
    assert not may_store_response(method, 200, Headers(), Headers(FRESH), entry)
    assert etag_of(entry.headers) is None


def test_a_part_is_never_taken_for_the_whole() -> None:
    fields = {**FRESH, "Content-Range": "bytes 4-9/10"}
    assert second(fields, status=206, first={"Range": "bytes=-5"}) == ASKED


@pytest.mark.parametrize(
    ("fields", "age"),
    [
        ({"Expires": date(30 * DAY), "Date": date()}, PAUSE),
        ({"Expires": date(30 * DAY), "Date": date(), "Age": "30"}, 30 + PAUSE),
        ({"Cache-Control": "max-age=600", "Date": date(), "Age": "30"}, 30 + PAUSE),
    ],
)
def test_an_answer_from_the_cache_has_an_age_and_keeps_its_date(fields: Mapping[str, str], age: float) -> None:
    entry = kept(fields)
    assert entry is not None
    assert current_age(entry, NOW + PAUSE) == age
    assert entry.headers["date"] == fields["Date"]


def test_cookies_hinder_no_reuse() -> None:
    assert second({**FRESH, "Set-Cookie": "a=b"}) == CACHED
    assert second(FRESH, then={"Cookie": "a=b"}) == CACHED
