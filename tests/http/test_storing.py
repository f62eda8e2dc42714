"""What may be stored, which fields of it, and which stored answer a request selects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from imagecache.headers import Headers
from imagecache.http.storing import (
    forbids_storing,
    may_store_negative,
    may_store_response,
    select,
    storable_headers,
    vary_digest,
    vary_fields,
    vary_matches,
)

from .answers import DAY, NOW, Fields, date, stored


@pytest.mark.parametrize(
    ("request_control", "response_control", "forbidden"),
    [
        ("", "", False),
        ("no-store", "", True),
        ("", "no-store", True),
        ("", "max-age=60, No-Store", True),
        ("", "private, no-cache, max-age=0", False),
        ("", "must-understand, no-store", False),
        ("no-store", "must-understand", True),
    ],
)
def test_no_store_on_either_side_forbids(request_control: str, response_control: str, forbidden: bool) -> None:
    request, response = Headers({"Cache-Control": request_control}), Headers({"Cache-Control": response_control})
    assert forbids_storing(request, response) is forbidden


def test_an_answer_that_varies_on_everything_may_be_stored_and_asked_about() -> None:
    assert not forbids_storing(Headers(), Headers({"Vary": "*"}))


VALIDATED: Fields = {"ETag": '"a"'}


@pytest.mark.parametrize(
    ("method", "status", "fields", "may"),
    [
        ("GET", 200, {}, True),
        ("GET", 200, {"Cache-Control": "max-age=60"}, True),
        ("GET", 200, {"Cache-Control": "max-age=0"}, True),
        ("GET", 200, {"Cache-Control": "no-store"}, False),
        # 3: by status, or by what says so; a validator says nothing of the kind.
        ("GET", 201, VALIDATED, False),
        ("GET", 302, VALIDATED, False),
        ("GET", 500, VALIDATED, False),
        ("GET", 599, {"Last-Modified": date(-DAY)}, False),
        ("GET", 302, {"Cache-Control": "max-age=60"}, True),
        ("GET", 302, {"Expires": date(60)}, True),
        ("GET", 302, {"Cache-Control": "private"}, True),
        ("GET", 302, {"Cache-Control": "s-maxage=60"}, False),
        ("GET", 500, {"Cache-Control": "max-age=60"}, True),
        ("GET", 599, {"Cache-Control": "max-age=60"}, True),
        ("GET", 599, {"Cache-Control": "public", "Last-Modified": date(-DAY)}, True),
        ("GET", 599, {"Cache-Control": "max-age=60, must-understand"}, False),
        ("GET", 404, {"Cache-Control": "max-age=60"}, True),
        ("GET", 410, VALIDATED, True),
        # An error that is of no use afterwards
        ("GET", 404, {}, False),
        ("GET", 500, {"Cache-Control": "max-age=0"}, False),
        # RFC 6585: about this one request, whatever they say
        *[("GET", status, {"Cache-Control": "max-age=60"}, False) for status in (428, 429, 431, 511)],
        # Not whole, not final, not GET
        ("GET", 206, {"Cache-Control": "max-age=60"}, False),
        ("GET", 304, {"Cache-Control": "max-age=60"}, False),
        ("GET", 103, {"Cache-Control": "max-age=60"}, False),
        ("HEAD", 200, {"Cache-Control": "max-age=60"}, False),
        ("POST", 200, {"Cache-Control": "max-age=60"}, False),
    ],
)
def test_an_answer_is_stored_where_section_3_allows_it(method: str, status: int, fields: Fields, may: bool) -> None:
    entry = stored(fields, status=status)
    assert may_store_response(method, status, Headers(), entry.headers, entry) is may


def test_nothing_is_stored_that_the_request_forbids() -> None:
    entry = stored({"Cache-Control": "max-age=60"})
    assert not may_store_response("GET", 200, Headers({"Cache-Control": "no-store"}), entry.headers, entry)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"X-A": "1", "Content-Type": "image/png", "Unknown": "2"}, {"X-A", "Content-Type", "Unknown"}),
        ({"Keep-Alive": "5", "TE": "x", "Trailer": "x", "Transfer-Encoding": "chunked", "Upgrade": "h2c"}, set()),
        ({"Proxy-Authenticate": "x", "Proxy-Authentication-Info": "x", "Proxy-Authorization": "x"}, set()),
        ({"Proxy-Connection": "close", "Connection": "close"}, set()),
        ({"Connection": "a, B", "A": "1", "b": "2", "c": "3"}, {"c"}),
        ([("Connection", "a"), ("Connection", "b"), ("A", "1"), ("B", "2")], set()),
        ([("Set-Cookie", "a=b"), ("set-COOKIE", "c=d"), ("Set-Cookie2", "e=f")], {"Set-Cookie2"}),
        ({"Cache-Control": 'no-cache="a"', "A": "1", "B": "2"}, {"Cache-Control", "B"}),
        ({"Cache-Control": 'no-cache="a"', "Connection": "b", "A": "1", "B": "2", "C": "3"}, {"Cache-Control", "C"}),
        ({"Cache-Control": "no-cache", "A": "1"}, {"Cache-Control", "A"}),
        ({"Cache-Control": 'private="a"', "A": "1"}, {"Cache-Control", "A"}),
        # RFC 9110, 7.6.1: Cache-Control is never appropriate as a connection option.
        ({"Connection": "Cache-Control, Date", "Cache-Control": "no-store", "Date": "x"}, {"Cache-Control", "Date"}),
        ({"Cache-Control": 'no-cache="cache-control, vary"', "Vary": "a"}, {"Cache-Control", "Vary"}),
    ],
)  # fmt: skip
def test_the_fields_that_are_kept(fields: Fields, kept: set[str]) -> None:
    assert set(storable_headers(Headers(fields))) == kept


@pytest.mark.parametrize(
    ("status", "fields", "may"),
    [
        # Explicitly fresh
        (404, {"Cache-Control": "max-age=60"}, True),
        (410, {"Expires": date(60)}, True),
        (403, {"Cache-Control": "max-age=60"}, True),
        (451, {"Cache-Control": "max-age=60"}, True),
        (499, {"Cache-Control": "max-age=60"}, True),
        # By a guess, where the status allows one
        (404, {"Last-Modified": date(-DAY)}, True),
        (410, {"Last-Modified": date(-DAY)}, True),
        (414, {"Last-Modified": date(-DAY)}, True),
        (403, {"Last-Modified": date(-DAY)}, False),
        (403, {"Last-Modified": date(-DAY), "Cache-Control": "public"}, True),
        # Nothing makes it fresh, or it is so no longer.
        (404, {}, False),
        (404, {"ETag": '"a"'}, False),
        (404, {"Cache-Control": "max-age=0"}, False),
        (404, {"Cache-Control": "max-age=60", "Age": "60"}, False),
        (404, {"Cache-Control": "max-age=60, no-cache"}, False),
        (404, {"Cache-Control": "max-age=60", "Vary": "*"}, False),
        (404, {"Cache-Control": "max-age=60, no-store"}, False),
        (404, {"Cache-Control": "s-maxage=60"}, False),
        (499, {"Cache-Control": "max-age=60, must-understand"}, False),
        # Not of the image: of the server, of who asked and how, or no error at all
        *[(status, {"Cache-Control": "max-age=60"}, False)
          for status in (500, 501, 503, 599, 401, 407, 408, 412, 416, 417, 425, 428, 429, 431, 511, 200, 301, 304)],
    ],
)  # fmt: skip
def test_the_head_of_an_error_is_kept_where_http_lets_it_count(status: int, fields: Fields, may: bool) -> None:
    entry = stored(fields, status=status)
    assert may_store_negative(status, Headers(), Headers(fields), entry) is may
    assert not may_store_negative(status, Headers({"Cache-Control": "no-store"}), Headers(fields), entry)


@pytest.mark.parametrize(
    ("fields", "received_at", "written"),
    [
        ({}, None, None),
        ({}, NOW + 0.9, date()),
        ({"Date": date(-5)}, NOW, date(-5)),
        ({"date": "nonsense"}, NOW, "nonsense"),
    ],
)
def test_an_answer_without_a_date_is_dated_when_it_came(
    fields: Fields, received_at: float | None, written: str | None
) -> None:
    assert storable_headers(Headers(fields), received_at=received_at).get("date") == written


def test_repeated_fields_and_their_order_are_kept() -> None:
    pairs = (("Link", "<1>"), ("X", "y"), ("Link", "<2>"))
    assert storable_headers(Headers(pairs)).pairs == pairs


@pytest.mark.parametrize(
    ("vary", "first", "second", "matches"),
    [
        ("", {"Foo": "1"}, {"Foo": "2"}, True),
        ("Foo", {"Foo": "1"}, {"Foo": "1"}, True),
        ("Foo", {"Foo": "1"}, {"fOO": "1"}, True),
        ("fOO", {"Foo": "1"}, {"Foo": "1", "Other": "2"}, True),
        ("Foo", {"Foo": "1"}, {"Foo": "2"}, False),
        ("Foo", {"Foo": "a"}, {"Foo": "A"}, False),
        # Absent matches absent, and not the empty value (4.1).
        ("Foo", {}, {}, True),
        ("Foo", {}, {"Foo": "1"}, False),
        ("Foo", {"Foo": "1"}, {}, False),
        ("Foo", {}, {"Foo": ""}, False),
        ("Foo", {"Foo": ""}, {}, False),
        ("Foo, Bar", {"Foo": "1", "Bar": "2"}, {"Bar": "2", "Foo": "1"}, True),
        ("Foo, Bar", {"Foo": "1", "Bar": "2"}, {"Foo": "1", "Bar": "3"}, False),
        ("Foo, Bar, Baz", {"Foo": "1", "Baz": "3"}, {"Foo": "1", "Baz": "3"}, True),
        # White space around the members of a list, and case where it has no meaning
        ("Foo", {"Foo": "1,2"}, {"Foo": " 1 ,  2 "}, True),
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "EN,De"}, True),
        ("Accept-Encoding", {"Accept-Encoding": "GZIP"}, {"Accept-Encoding": "gzip"}, True),
        # Order and the way that a weight is written have none either, for preferences.
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "de,en"}, True),
        ("Accept-Language", {"Accept-Language": "en;q=0.50, de"}, {"Accept-Language": "de;q=1.0, en ; q=0.5"}, True),
        ("Accept-Language", {"Accept-Language": "en;q=0.5, de"}, {"Accept-Language": "de;q=0.5, en"}, False),
        ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "fr;q=0.5, de;q=1.0"}, False),
        ("Accept-Language", {"Accept-Language": "en"}, {"Accept-Language": "en;q=1;x=2"}, False),
        ("Accept-Language", {"Accept-Language": "en"}, {"Accept-Language": "en;q=nan"}, False),
        ("Accept-Encoding", {"Accept-Encoding": "br, gzip"}, {"Accept-Encoding": "gzip, br"}, True),
        ("Accept", {"Accept": "image/png, image/webp"}, {"Accept": "image/webp, image/png"}, False),
        ("Foo", {"Foo": "1, 2"}, {"Foo": "2, 1"}, False),
        ("X-Api-Key", {"X-Api-Key": "one"}, {"X-Api-Key": "one"}, True),
        ("X-Api-Key", {"X-Api-Key": "one"}, {"X-Api-Key": "two"}, False),
        ("X-Api-Key", {"X-Api-Key": "one"}, {}, False),
        ("Foo", {"Foo": '"a, b"'}, {"Foo": '"a,b"'}, False),
        ("User-Agent", {"User-Agent": "x (a, b)"}, {"User-Agent": "x (a,b)"}, False),
        # Told apart by the row's scope, and never written down
        ("Authorization, Cookie", {"Authorization": "a", "Cookie": "a"}, {"Authorization": "b"}, False),
        ("Authorization", {"Authorization": "a"}, {"Authorization": "a", "Cookie": "c"}, True),
        # Selected, to be asked about
        ("*", {"Foo": "1"}, {"Foo": "2"}, True),
        ("*, Foo", {"Foo": "1"}, {"Foo": "2"}, False),
    ],
)
def test_a_request_matches_where_all_that_is_nominated_is_the_same(
    vary: str, first: Mapping[str, str], second: Mapping[str, str], matches: bool
) -> None:
    assert vary_matches(stored({"Vary": vary}, request=first), second) is matches


def test_lines_of_one_field_are_one_list() -> None:
    entry = stored({"Vary": "Foo"}, request=Headers([("Foo", "1"), ("foo", "2")]))
    assert vary_matches(entry, {"Foo": "1, 2"})


def test_secrets_are_told_apart_and_are_not_among_what_is_kept() -> None:
    request = {"Authorization": "Bearer t", "Cookie": "c=hunter2", "Proxy-Authorization": "p", "Accept": "image/*"}
    response = Headers({"Vary": "Authorization, cookie, Proxy-Authorization, Accept"})
    kept = dict(vary_fields(request, response, secret=b"secret"))
    assert kept.pop("accept") == "image/*"
    assert kept.keys() == {"authorization", "cookie", "proxy-authorization"}
    for value in kept.values():
        assert value.startswith("hmac:")
        assert "hunter2" not in value
    # Under another secret, no list of guesses leads to the same digests.
    assert dict(vary_fields(request, response, secret=b"other")).items().isdisjoint(kept.items())
    others = {**request, "Authorization": "Bearer u"}
    assert vary_fields(others, response, secret=b"secret") != vary_fields(request, response, secret=b"secret")


@pytest.mark.parametrize(
    "name", ["Accept", "Accept-Language", "accept-ch", "DPR", "Width", "Viewport-Width", "Save-Data", "Origin",
             "User-Agent", "Sec-CH-UA-Platform", "Sec-Fetch-Dest"]
)  # fmt: skip
def test_what_says_nothing_of_who_asks_is_kept_as_it_was_sent(name: str) -> None:
    assert vary_fields({name: "abc"}, Headers({"Vary": name})) == ((name.lower(), "abc"),)


@pytest.mark.parametrize("name", ["X-Api-Key", "X-Auth-Token", "Referer", "Acceptance", "X-Accept", "Width-Key"])
def test_of_what_may_be_a_secret_a_digest_is_kept(name: str) -> None:
    ((kept_name, kept),) = vary_fields({name: "s3cret"}, Headers({"Vary": name}))
    assert kept_name == name.lower()
    assert kept == "sha256:1ec1c26b50d5d3c58d9583181af80766"


def test_a_request_as_asked_for_is_compared_with_what_was_asked_for() -> None:
    sent, asked = {"Accept": "image/webp"}, {"Accept": "image/png"}
    entry = stored({"Vary": "Accept"}, request=sent)
    changed = replace(entry, asked_fields=vary_fields(asked, entry.headers))
    for request, as_sent, selected in (
        (sent, True, True), (asked, True, False), (sent, False, False), (asked, False, True)
    ):  # fmt: skip
        assert (select([changed], request, as_sent=as_sent) is changed) is selected
    # Where modifiers changed nothing of it, one is the other.
    assert select([entry], sent, as_sent=False) is entry
    assert select([entry], asked, as_sent=False) is None


def test_the_digest_tells_fields_apart_and_not_their_order() -> None:
    def digest(vary: str, request: Mapping[str, str]) -> str:
        return vary_digest(vary_fields(request, Headers({"Vary": vary})))

    assert digest("", {"A": "1"}) == digest("A", {}) == ""
    assert digest("A, B", {"A": "1", "B": "2"}) == digest("b,a", {"b": "2", "a": "1"})
    digests = {digest("A", {"A": "1"}), digest("A", {"A": "2"}), digest("A", {"A": ""}), digest("B", {"B": "1"})}
    digests |= {digest("A, B", {"A": "1b", "B": "2"}), digest("A, B", {"A": "1", "B": "b2"})}
    assert len(digests) == 6
    assert vary_digest((("a", "\udcff"),))


def test_the_most_recent_of_those_that_match_is_selected() -> None:
    png = stored({"Vary": "Accept", "Date": date(1)}, request={"Accept": "image/png"})
    webp = stored({"Vary": "Accept", "Date": date(2)}, request={"Accept": "image/webp"})
    plain = stored({"Date": date(0)})
    assert select([png, webp, plain], {"Accept": "image/png"}) is png
    assert select([png, webp, plain], {"Accept": "image/webp"}) is webp
    assert select([png, webp, plain], {"Accept": "text/html"}) is plain
    assert select([png, webp], {}) is None
    assert select([], {}) is None


def test_of_two_of_one_date_the_later_to_come_is_selected() -> None:
    early = stored({"Date": date()})
    late = replace(early, response_time=NOW + 0.5)
    assert select([late, early], {}) is late
    assert select([early, late], {}) is late
