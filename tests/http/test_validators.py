"""ETags and dates as validators: what is sent back, what a 304 proves, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from imagecache.headers import Headers
from imagecache.http.validators import (
    condition_fields,
    etag_of,
    head_effect,
    is_strong_date,
    is_strong_etag,
    is_usable_etag,
    known_etags,
    merged_headers,
    not_modified_fits,
    strong_match,
    weak_match,
    weaker_etag,
)

from .answers import DAY, NOW, Fields, date, stored


@pytest.mark.parametrize(
    "etag", ['"a"', 'W/"a"', '""', '"a,b"', '"\\"', "a", "W/a", "abc-def:1", "'a'", '"' + "x" * 1022 + '"']
)
def test_a_tag_that_can_be_sent_back_is_kept_byte_for_byte(etag: str) -> None:
    assert is_usable_etag(etag)
    assert etag_of(Headers({"ETag": f" {etag}\t"})) == etag


@pytest.mark.parametrize(
    "etag",
    ["", "*", '"a" ', '"a', 'a"', '"a"b"', 'w/"a"', 'W/ "a"', '"a","b"', '"a", "b"', "a,b", "a b", '"a b"', '"ä"', "ä",
     '"\x7f"', '"a\n"', '"' + "x" * 1023 + '"'],
)  # fmt: skip
def test_what_is_no_single_tag_of_visible_ascii_is_not_used(etag: str) -> None:
    assert not is_usable_etag(etag)


@pytest.mark.parametrize(
    "fields", [[], [("ETag", '"a"'), ("ETag", '"b"')], [("ETag", '"a"'), ("etag", '"a"')], [("ETag", '"a", "b"')]]
)
def test_no_tag_is_taken_from_none_or_two(fields: list[tuple[str, str]]) -> None:
    assert etag_of(Headers(fields)) is None


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        # The four rows of RFC 9110, 8.8.3.2
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        # Without quotes: alike only to itself, and never strongly
        ("1", "1", False, True),
        ("1", '"1"', False, False),
        ('"a"', '"A"', False, False),
    ],
)
def test_tags_are_compared_weakly_and_strongly(one: str, other: str, strong: bool, weak: bool) -> None:
    assert (strong_match(one, other), strong_match(other, one)) == (strong, strong)
    assert (weak_match(one, other), weak_match(other, one)) == (weak, weak)


@pytest.mark.parametrize(
    ("fields", "conditions"),
    [
        ({}, {}),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}),
        ({"ETag": 'W/"a"'}, {"If-None-Match": 'W/"a"'}),
        ({"ETag": "bare"}, {"If-None-Match": "bare"}),
        ({"ETag": "*"}, {}),
        ({"Last-Modified": date(-DAY)}, {"If-Modified-Since": date(-DAY)}),
        (
            {"ETag": '"a"', "Last-Modified": date(-DAY)},
            {"If-None-Match": '"a"', "If-Modified-Since": date(-DAY)},
        ),
        # As it came, though we would write it otherwise
        ({"Last-Modified": "Sunday, 06-Nov-94 08:49:37 GMT"}, {"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}),
        ({"Last-Modified": "long ago"}, {}),
        ([("Last-Modified", date(-DAY)), ("Last-Modified", date())], {}),
        ({"ETag": '"ä"', "Last-Modified": date(-DAY)}, {"If-Modified-Since": date(-DAY)}),
    ],
)
def test_both_validators_are_sent_where_there_are_both(fields: Fields, conditions: dict[str, str]) -> None:
    assert condition_fields(stored(fields)) == conditions


def test_a_tag_set_by_hand_is_sent_if_it_can_be() -> None:
    assert condition_fields(replace(stored(), etag='"mine"')) == {"If-None-Match": '"mine"'}
    assert condition_fields(replace(stored(), etag='"mine"\r\nX: y')) == {}


LM, OTHER_LM = date(-DAY), date(-2 * DAY)
BOTH = {"ETag": '"a"', "Last-Modified": LM}


@pytest.mark.parametrize(
    ("fields", "sent", "received", "fits"),
    [
        # The 304's own tag decides.
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {"ETag": '"a"'}, True),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {"ETag": 'W/"a"'}, True),
        ({"ETag": 'W/"a"'}, {"If-None-Match": 'W/"a"'}, {"ETag": '"a"'}, True),
        ({"ETag": "a"}, {"If-None-Match": "a"}, {"ETag": "a"}, True),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {"ETag": '"b"'}, False),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {"ETag": "a"}, False),
        ({"ETag": '"a"'}, {"If-None-Match": '"a", "b"'}, {"ETag": '"a"'}, True),
        ({"ETag": '"a"'}, {"If-None-Match": '"a", "b"'}, {"ETag": '"b"'}, False),
        (BOTH, {"If-None-Match": '"a"'}, {"ETag": '"a"', "Last-Modified": OTHER_LM}, True),
        ({"Last-Modified": LM}, {"If-Modified-Since": LM}, {"ETag": '"new"'}, False),
        # Malformed or doubled, it proves nothing.
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {"ETag": '"a", "b"'}, False),
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, [("ETag", '"a"'), ("ETag", '"a"')], False),
        ({"ETag": '"ä"', "Last-Modified": LM}, {"If-Modified-Since": LM}, {"ETag": '"ä"'}, True),
        # Without one, all that was asked about has to be ours.
        ({"ETag": '"a"'}, {"If-None-Match": '"a"'}, {}, True),
        ({"ETag": 'W/"a,b"'}, {"If-None-Match": '"a,b"'}, {}, True),
        ({"ETag": '"a"'}, {"If-None-Match": '"b"'}, {}, False),
        ({"ETag": '"a"'}, {"If-None-Match": '"a", "b"'}, {}, False),
        ({"ETag": '"a"'}, {"If-None-Match": "*"}, {}, False),
        ({"ETag": '"a"'}, {"If-None-Match": ""}, {}, False),
        ({}, {"If-None-Match": '"a"'}, {}, False),
        (BOTH, {"If-None-Match": '"a"', "If-Modified-Since": LM}, {}, True),
        (BOTH, {"If-None-Match": '"a"'}, {"Last-Modified": OTHER_LM}, False),
        # Dates, where no tag was asked about.
        ({"Last-Modified": LM}, {"If-Modified-Since": LM}, {}, True),
        ({"Last-Modified": LM}, {"If-Modified-Since": LM}, {"Last-Modified": LM}, True),
        ({"Last-Modified": LM}, {"If-Modified-Since": LM}, {"Last-Modified": OTHER_LM}, False),
        ({"Last-Modified": OTHER_LM}, {"If-Modified-Since": LM}, {}, False),
        ({"Last-Modified": LM}, {"If-Modified-Since": OTHER_LM}, {}, True),
        ({"Date": LM}, {"If-Modified-Since": LM}, {}, True),
        ({"Date": OTHER_LM}, {"If-Modified-Since": LM}, {}, False),
        ({}, {"If-Modified-Since": LM}, {"Last-Modified": LM}, False),
        ({"Last-Modified": LM}, {"If-Modified-Since": "nonsense"}, {}, False),
        # Nothing was asked at all.
        ({"ETag": '"a"'}, {}, {"ETag": '"a"'}, False),
        ({"ETag": '"a"'}, {"If-Match": '"a"'}, {"ETag": '"a"'}, False),
    ],
)  # fmt: skip
def test_a_304_fits_only_what_it_speaks_of(
    fields: Fields, sent: Mapping[str, str], received: Fields, fits: bool
) -> None:
    assert not_modified_fits(stored(fields), Headers(sent), Headers(received)) is fits


def test_a_304_to_a_tag_set_by_hand_fits() -> None:
    entry = replace(stored({"ETag": '"theirs"'}), etag='"mine"')
    assert not_modified_fits(entry, Headers({"If-None-Match": '"mine"'}), Headers())
    assert not_modified_fits(entry, Headers({"If-None-Match": '"theirs"'}), Headers())


STORED = {
    "Date": date(-DAY),
    "Age": "100",
    "Cache-Control": "max-age=60",
    "Content-Type": "image/png",
    "Content-Length": "5",
    "Content-Encoding": "br",
    "Content-MD5": "old",
    "ETag": '"a"',
    "Vary": "Accept",
    "X-Test": "old",
    "X-Kept": "kept",
}


@pytest.mark.parametrize(
    ("name", "value", "merged"),
    [
        ("X-Test", "new", "new"),
        ("x-test", "new", "new"),
        ("X-New", "new", "new"),
        ("Cache-Control", "max-age=3600", "max-age=3600"),
        ("Expires", date(DAY), date(DAY)),
        ("Date", date(), date()),
        ("Age", "3", "3"),
        ("ETag", 'W/"a"', 'W/"a"'),
        # Content-* is no sign of anything (3.2): only what tells of the stored bytes stays.
        ("Content-Type", "image/webp", "image/webp"),
        ("Content-Location", "/b", "/b"),
        ("Content-Foo", "new", "new"),
        ("Content-Length", "0", "5"),
        ("Content-Encoding", "gzip", "br"),
        ("Content-MD5", "new", "old"),
        ("Content-Range", "bytes 0-1/2", None),
        ("Content-Digest", "sha-256=:new:", None),
        ("Vary", "*", "Accept"),
        # 3.1: not stored, so not updated either
        ("Set-Cookie", "a=b", None),
        ("Keep-Alive", "timeout=5", None),
        ("Proxy-Authenticate", "Basic", None),
        ("Transfer-Encoding", "chunked", None),
        ("Connection", "x-kept", None),
    ],
)
def test_a_304_updates_what_3_2_says(name: str, value: str, merged: str | None) -> None:
    headers = merged_headers(Headers(STORED), Headers({name: value}))
    assert headers.get(name) == merged
    assert headers["x-kept"] == "kept"


def test_a_304_without_age_and_date_starts_anew() -> None:
    headers = merged_headers(Headers(STORED), Headers({"ETag": '"a"'}))
    assert "age" not in headers
    assert "date" not in headers


def test_a_repeated_field_takes_the_place_of_all_its_old_lines() -> None:
    old = Headers([("Link", "<1>"), ("Link", "<2>"), ("Link", "<3>")])
    assert merged_headers(old, Headers([("Link", "<4>"), ("Link", "<5>")])).get_all("link") == ("<4>", "<5>")


def test_what_the_connection_of_a_304_names_is_not_stored() -> None:
    headers = merged_headers(Headers(STORED), Headers({"Connection": "X-Hop", "X-Hop": "1", "X-Test": "new"}))
    assert "x-hop" not in headers
    assert headers["x-test"] == "new"


def test_what_a_304_lists_under_no_cache_is_stored_no_longer() -> None:
    headers = merged_headers(Headers(STORED), Headers({"Cache-Control": 'max-age=60, no-cache="x-test"'}))
    assert "x-test" not in headers


def test_nor_is_what_the_stored_answer_listed_and_a_304_brings() -> None:
    stored = Headers({"Cache-Control": 'no-cache="x-test"', "X-Kept": "1"})
    assert dict(merged_headers(stored, Headers({"X-Test": "new", "X-Kept": "2"}))) == {
        "Cache-Control": 'no-cache="x-test"', "X-Kept": "2",
    }  # fmt: skip
    # Unless it says otherwise.
    assert "x-test" in merged_headers(stored, Headers({"X-Test": "new", "Cache-Control": "max-age=60"}))


@pytest.mark.parametrize(
    ("received", "at", "written"),
    [
        ({}, None, None),
        ({}, NOW + 0.9, date()),
        ({"Date": date(-5)}, NOW, date(-5)),
        ({"Date": "nonsense"}, NOW, "nonsense"),
    ],
)
def test_a_304_without_a_date_was_made_when_it_came(received: Fields, at: float | None, written: str | None) -> None:
    headers = merged_headers(Headers(STORED), Headers(received), received_at=at)
    assert headers.get("date") == written


@pytest.mark.parametrize(
    ("stored_tag", "received_tag", "kept"),
    [
        ('"a"', '"a"', '"a"'),
        ('"a"', 'W/"a"', 'W/"a"'),
        ('W/"a"', '"a"', 'W/"a"'),
        ('W/"a"', 'W/"a"', 'W/"a"'),
        ("a", "a", "a"),
        # A 304 without one leaves it; a copy without one has not earned any.
        ('"a"', None, '"a"'),
        ('W/"a"', None, 'W/"a"'),
        (None, '"a"', None),
        (None, None, None),
        # Where a tag was set by hand, the server's own takes its place.
        ('"mine"', '"a"', '"a"'),
    ],
)
def test_a_304_never_makes_a_tag_stronger(stored_tag: str | None, received_tag: str | None, kept: str | None) -> None:
    assert weaker_etag(stored_tag, received_tag) == kept


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ('W/"a"', '"a"', 'W/"a"'),
        ('"a"', 'W/"a"', 'W/"a"'),
        ('"a"', '"a"', '"a"'),
        ('"a"', '"b"', '"b"'),
    ],
)
def test_the_field_of_a_weak_tag_does_not_turn_strong_either(old: str, new: str, merged: str) -> None:
    assert merged_headers(Headers({"ETag": old}), Headers({"ETag": new}))["etag"] == merged


@pytest.mark.parametrize(
    ("etag", "strong"),
    [('"a"', True), ('""', True), ('W/"a"', False), ("a", False), ("", False), ("*", False), ('"a', False),
     ('"a", "b"', False), ('"ä"', False), ('"' + "x" * 1023 + '"', False)],
)  # fmt: skip
def test_a_strong_tag_has_its_quotes_and_no_mark(etag: str, strong: bool) -> None:
    assert is_strong_etag(etag) is strong


@pytest.mark.parametrize(("later", "strong"), [(0.0, False), (0.9, False), (1.0, True), (DAY, True), (-DAY, False)])
def test_a_date_is_strong_where_the_answer_was_made_a_second_later(later: float, strong: bool) -> None:
    assert is_strong_date(NOW, NOW + later) is strong


def test_an_answer_is_known_by_the_tag_set_by_hand_and_by_its_own() -> None:
    assert known_etags(stored()) == []
    assert known_etags(stored({"ETag": '"a"'})) == ['"a"']
    assert known_etags(replace(stored({"ETag": '"theirs"'}), etag='"mine"')) == ['"mine"', '"theirs"']
    assert known_etags(replace(stored({"ETag": '"a", "b"'}), etag='"ä"')) == []


@pytest.mark.parametrize(
    ("fields", "status", "received", "effect"),
    [
        # 200: all of what it says agrees, or the stored answer is out of date (RFC 9111, 4.3.5).
        (BOTH, 200, BOTH, "freshen"),
        (BOTH, 200, {}, "freshen"),
        ({}, 200, {}, "freshen"),
        (BOTH, 200, {"ETag": 'W/"a"'}, "freshen"),
        (BOTH, 200, {"ETag": '"b"'}, "invalidate"),
        (BOTH, 200, {"ETag": '"a"', "Last-Modified": OTHER_LM}, "invalidate"),
        (BOTH, 200, {"Last-Modified": LM}, "freshen"),
        (BOTH, 200, {"Last-Modified": OTHER_LM}, "invalidate"),
        ({}, 200, {"ETag": '"a"'}, "invalidate"),
        ({}, 200, {"Last-Modified": LM}, "invalidate"),
        ({"ETag": '"a", "b"'}, 200, {"ETag": '"a", "b"'}, "freshen"),
        ({"ETag": '"a", "b"'}, 200, {"ETag": '"a", "c"'}, "invalidate"),
        ({"Content-Length": "5"}, 200, {"Content-Length": "5"}, "freshen"),
        ({"Content-Length": "5"}, 200, {"Content-Length": "6"}, "invalidate"),
        ({**BOTH, "Content-Length": "5"}, 200, {**BOTH, "Content-Length": "6"}, "invalidate"),
        ({"Content-Length": "5"}, 200, {"Content-Length": "five"}, "invalidate"),
        # Sent without a length: that of the bytes, unless they were decoded.
        ({}, 200, {"Content-Length": "7"}, "freshen"),
        ({}, 200, {"Content-Length": "8"}, "invalidate"),
        ({"Content-Encoding": "br"}, 200, {"Content-Length": "8"}, "freshen"),
        # What may not be kept is not kept in pieces.
        (BOTH, 200, {**BOTH, "Cache-Control": "no-store"}, "invalidate"),
        # Any other status says nothing of the stored answer.
        (BOTH, 304, BOTH, "none"),
        (BOTH, 206, BOTH, "none"),
        (BOTH, 404, {"ETag": '"b"'}, "none"),
        (BOTH, 410, {}, "none"),
        (BOTH, 500, {}, "none"),
    ],
)
def test_a_head_freshens_or_invalidates_the_answer_to_a_get(
    fields: Fields, status: int, received: Fields, effect: str
) -> None:
    assert head_effect(stored(fields, byte_count=7), status, Headers(received)) == effect


def test_a_head_that_succeeds_puts_a_stored_error_out_of_date() -> None:
    assert head_effect(stored(BOTH, status=404), 200, Headers(BOTH)) == "invalidate"
