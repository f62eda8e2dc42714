"""What holds for any header value at all, and for any answer that can be described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import assume, example, given, strategies as st

from imagecache.entry import Entry
from imagecache.headers import Headers
from imagecache.http.cache_control import CacheControl
from imagecache.http.conditions import Preconditions, answer_condition, not_modified_response_headers
from imagecache.http.dates import format_date, parse_date
from imagecache.http.decision import Serve, decide
from imagecache.http.directives import RequestDirectives
from imagecache.http.explanation import explain
from imagecache.http.freshness import (
    current_age,
    forbids_stale,
    fresh_for,
    fresh_until,
    freshness_lifetime,
    is_fresh,
    may_serve_on_error,
    may_serve_while_revalidating,
    needs_validation,
)
from imagecache.http.ranges import if_range_holds
from imagecache.http.storing import (
    forbids_storing,
    may_store_negative,
    may_store_response,
    select,
    storable_headers,
    vary_digest,
    vary_fields,
)
from imagecache.http.validators import (
    condition_fields,
    etag_of,
    head_effect,
    is_strong_etag,
    is_usable_etag,
    merged_headers,
    not_modified_fits,
    weaker_etag,
)
from imagecache.request import CachePolicy

from .answers import DAY, NOW, date, stored

NAMES = st.sampled_from(
    ["Age", "Cache-Control", "Connection", "Content-Length", "Date", "ETag", "Expires", "If-Modified-Since",
     "If-None-Match", "Last-Modified", "Pragma", "Set-Cookie", "Vary", "X-Any", "Accept-Language"]
)  # fmt: skip
PIECES = st.sampled_from(
    ["max-age", "no-cache", "no-store", "must-understand", "stale-while-revalidate", "stale-if-error", "max-stale",
     "min-fresh", "only-if-cached", "immutable", "must-revalidate", ";q=0.5", "=", ",", ";", '"', "\\", " ", "*",
     "0", "9" * 30, "-1", "W/", '"a"', date(), date(DAY), "GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "\x00", "é",
     "\ud800"]
)  # fmt: skip
VALUES = st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(Headers)
TIMES = st.floats(NOW - 10 * DAY, NOW + 10 * DAY)
STATUSES = st.sampled_from([200, 203, 206, 301, 302, 404, 500, 599])


@st.composite
def any_entries(draw: st.DrawFn) -> Entry:
    """An answer with fields of any kind, received at any time."""
    return stored(
        draw(FIELDS),
        status=draw(STATUSES),
        request=draw(FIELDS),
        request_time=draw(TIMES),
        response_time=draw(TIMES),
        validated_at=draw(TIMES),
        stored_until=draw(TIMES),
        url=draw(st.sampled_from(["https://a.example/x", "http://a.example/x", "http://[", ""])),
    )


SECONDS = st.none() | st.floats(0, 20 * DAY) | st.just(float("inf"))
DIRECTIVES = st.builds(
    RequestDirectives, SECONDS, SECONDS, SECONDS, SECONDS, no_cache=st.booleans(), only_if_cached=st.booleans()
)


@given(any_entries(), FIELDS, FIELDS, TIMES)
def test_no_header_value_makes_anything_raise(entry: Entry, sent: Headers, received: Headers, now: float) -> None:
    directives = RequestDirectives.of(sent)
    for policy in CachePolicy:
        decide(policy, entry, now, directives=directives, revalidate_after=60, is_vary_miss=True)
    str(explain(entry, now, directives=directives))
    freshness_lifetime(entry)
    forbids_stale(entry)
    may_serve_on_error(entry, now, directives, None)
    not_modified_fits(entry, sent, received)
    merged_headers(entry.headers, received, received_at=now)
    head_effect(entry, 200, received)
    answer_condition(sent, entry)
    not_modified_response_headers(entry.headers)
    may_store_negative(404, sent, received, entry)
    select([entry, entry], sent)
    vary_digest(vary_fields(sent, received))
    forbids_storing(sent, received)
    may_store_response("GET", entry.status, sent, received, entry)
    CacheControl(received).fields("no-cache")


@given(any_entries(), VALUES)
def test_no_value_of_a_callers_own_makes_anything_raise(entry: Entry, value: str) -> None:
    Preconditions(value).fails(entry)
    if_range_holds(value, entry)
    weaker_etag(value, etag_of(entry.headers))
    is_strong_etag(value)


@given(any_entries(), TIMES, TIMES)
def test_freshness_never_grows_as_time_passes(entry: Entry, one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert current_age(entry, early) <= current_age(entry, late)
    assert is_fresh(entry, early) or not is_fresh(entry, late)
    assert may_serve_while_revalidating(entry, early) or not may_serve_while_revalidating(entry, late)
    assert fresh_for(entry, early) >= fresh_for(entry, late)


@given(any_entries(), DIRECTIVES, SECONDS, TIMES, TIMES)
@example(stored({"Cache-Control": "max-age=60, immutable"}, url="https://a.example/"),
         RequestDirectives(max_age=0), None, NOW, NOW + 50)  # fmt: skip
def test_what_is_no_longer_served_is_not_served_again_later(
    entry: Entry, directives: RequestDirectives, own: float | None, one: float, other: float
) -> None:
    early, late = sorted((one, other))
    for policy in CachePolicy:
        if isinstance(decide(policy, entry, late, directives=directives), Serve):
            assert isinstance(decide(policy, entry, early, directives=directives), Serve)
    if may_serve_on_error(entry, late, directives, own):
        assert may_serve_on_error(entry, early, directives, own)


@given(any_entries(), DIRECTIVES, SECONDS, TIMES)
def test_nothing_a_call_asks_for_has_a_forbidden_answer_served_under_protocol(
    entry: Entry, directives: RequestDirectives, own: float | None, now: float
) -> None:
    # RFC 9111, 4.2.4
    if not is_fresh(entry, now) and forbids_stale(entry):
        assert not isinstance(decide(CachePolicy.PROTOCOL, entry, now, directives=directives), Serve)
        assert not may_serve_on_error(entry, now, directives, own)


@given(any_entries(), DIRECTIVES, TIMES)
def test_a_served_copy_is_what_the_call_asked_for(entry: Entry, directives: RequestDirectives, now: float) -> None:
    for policy in CachePolicy:
        if isinstance(decide(policy, entry, now, directives=directives), Serve):
            left, unchanging = fresh_for(entry, now), "immutable" in CacheControl(entry.headers)
            assert not directives.no_cache
            assert directives.max_age is None or current_age(entry, now) <= directives.max_age or unchanging
            assert directives.min_fresh is None or left >= directives.min_fresh
            assert directives.max_stale is None or -left <= directives.max_stale


WHOLE = st.none() | st.integers(0, 2**31).map(float)


@given(st.builds(RequestDirectives, WHOLE, WHOLE | st.just(float("inf")), WHOLE, WHOLE,
                 st.booleans(), st.booleans(), st.booleans()))  # fmt: skip
def test_directives_that_were_written_are_read_as_the_same(directives: RequestDirectives) -> None:
    assert RequestDirectives.of(Headers({"Cache-Control": directives.field_value()})) == directives


@given(any_entries(), TIMES)
def test_lifetime_and_age_are_never_negative(entry: Entry, now: float) -> None:
    assert freshness_lifetime(entry).seconds >= 0
    assert current_age(entry, now) >= 0


@given(any_entries(), TIMES)
def test_fresh_until_is_where_the_age_reaches_the_lifetime(entry: Entry, now: float) -> None:
    assume(now >= entry.response_time)
    # Of times around 2 * 10^9, a float tells microseconds apart and no less.
    assume(abs(now - fresh_until(entry)) > 1e-3)
    by_the_book = freshness_lifetime(entry).seconds > current_age(entry, now) and not needs_validation(entry)
    assert is_fresh(entry, now) is by_the_book


LIFETIMES = st.integers(0, 10**6)
GRANTS = st.one_of(
    LIFETIMES.map(lambda seconds: {"Cache-Control": f"max-age={seconds}"}),
    LIFETIMES.map(lambda seconds: {"Cache-Control": "public", "Expires": date(seconds), "Date": date()}),
)
CIRCUMSTANCES = st.fixed_dictionaries({}, optional={"Age": st.integers(0, 10**5).map(str), "Date": st.just(date())})


@given(any_entries(), GRANTS, CIRCUMSTANCES)
@example(stored({"Age": "999999"}), {"Cache-Control": "max-age=60"}, {})
@example(stored({"Date": date(-DAY)}), {"Cache-Control": "max-age=60"}, {})
@example(stored({"Pragma": "no-cache"}), {"Cache-Control": "max-age=60"}, {})
@example(stored({"Cache-Control": "max-age=1, no-cache"}), {"Cache-Control": "max-age=60"}, {})
def test_a_304_never_shortens_what_its_headers_grant(
    entry: Entry, grant: Mapping[str, str], circumstances: Mapping[str, str]
) -> None:
    # A 304 cannot take back a Vary: it is what the row was chosen by.
    assume("*" not in entry.headers.get("vary", ""))
    received = Headers({**grant, **circumstances})
    renewed = replace(
        entry, headers=merged_headers(entry.headers, received), request_time=NOW, response_time=NOW, status=200
    )
    assert fresh_until(renewed) >= fresh_until(stored(received))


@given(FIELDS, FIELDS)
def test_merging_a_304_twice_changes_no_more_than_once(headers: Headers, received: Headers) -> None:
    once = merged_headers(headers, received)
    assert merged_headers(once, received) == once


@given(FIELDS, FIELDS)
def test_no_304_makes_a_weak_tag_strong(headers: Headers, received: Headers) -> None:
    own, merged = etag_of(headers), etag_of(merged_headers(headers, received))
    if own is not None and not is_strong_etag(own) and merged is not None and is_strong_etag(merged):
        assert own.removeprefix("W/") != merged


@given(FIELDS)
def test_what_is_stored_is_storable(headers: Headers) -> None:
    once = storable_headers(headers)
    assert storable_headers(once) == once


@st.composite
def described(draw: st.DrawFn) -> tuple[Entry, float, bool]:
    """An answer written from known facts, a moment, and whether RFC 9111 forbids its use then without asking."""
    max_age = draw(st.integers(0, 1000))
    age = draw(st.none() | st.integers(0, 1000))
    made_before = draw(st.none() | st.integers(0, 1000))
    delay, resident = draw(st.integers(0, 100)), draw(st.integers(0, 1000))
    forbidding = draw(st.sets(st.sampled_from(["no-cache", "no-store", 'no-cache=""', "must-understand"])))
    harmless = draw(
        st.sets(
            st.sampled_from(['foo="no-store, no-cache"', "s-maxage=99999", "public", "immutable", "must-revalidate",
                             "stale-if-error=9999", 'x="max-age=99999"', "no-transform", "=", ""])
        )
    )  # fmt: skip
    directives = draw(st.permutations([f"max-age={max_age}", *forbidding, *harmless]))
    shape = draw(st.sampled_from(["as it is", "UPPER", "Title"]))
    varies = draw(st.sampled_from(["", "Accept", "*", "Accept, *"]))
    one_line = draw(st.booleans())
    lines = [", ".join(directives)] if one_line else directives
    shaped = {"as it is": lines, "UPPER": [s.upper() for s in lines], "Title": [s.title() for s in lines]}[shape]
    fields = [("Cache-Control", line) for line in shaped] + [("Vary", varies)]
    if age is not None:
        fields.append(("Age", str(age)))
    if made_before is not None:
        fields.append(("Date", format_date(NOW - made_before)))
    entry = stored(fields, status=599, request_time=NOW - delay)
    # RFC 9111, 4.2.3, in whole seconds
    actual_age = max(made_before or 0, (age or 0) + delay) + resident
    return entry, NOW + resident, bool(forbidding) or "*" in varies or actual_age >= max_age


@given(described())
def test_protocol_serves_what_rfc_9111_allows_and_never_what_it_forbids(case: tuple[Entry, float, bool]) -> None:
    entry, now, is_forbidden = case
    assert (decide(CachePolicy.PROTOCOL, entry, now) == Serve()) is not is_forbidden


@given(VALUES, st.sampled_from(["no-store", "no-cache", "max-age=0"]))
def test_no_other_line_talks_a_prohibition_away(value: str, prohibition: str) -> None:
    # These are meant to: an earlier max-age counts, must-understand overrides no-store, RFC 5861 extends a max-age.
    assume(not any(name in value.lower() for name in ("max-age", "must-understand", "stale-while-revalidate")))
    for lines in ([value, prohibition], [prohibition, value]):
        entry = stored([("Cache-Control", line) for line in lines])
        assert not isinstance(decide(CachePolicy.PROTOCOL, entry, NOW), Serve)


@given(VALUES)
def test_what_is_sent_back_is_visible_ascii_and_short(value: str) -> None:
    for sent in condition_fields(replace(stored({"ETag": value, "Last-Modified": value}), etag=value)).values():
        assert len(sent) <= 1024
        assert sent.isascii()
        assert sent.isprintable()


OPAQUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), max_size=60)
TAGS = st.one_of(
    OPAQUE.map('"{}"'.format),
    OPAQUE.map('W/"{}"'.format),
    OPAQUE.map(lambda text: text.replace(",", "") + "x"),
)


@given(TAGS)
def test_a_304_with_the_very_tag_that_was_sent_fits(value: str) -> None:
    assert is_usable_etag(value)
    entry, sent = stored({"ETag": value}), Headers({"If-None-Match": value})
    assert not_modified_fits(entry, sent, Headers({"ETag": value}))
    assert not_modified_fits(entry, sent, Headers())
    assert etag_of(entry.headers) == value


@given(FIELDS, st.lists(NAMES, max_size=4).map(", ".join))
def test_an_answer_is_selected_by_the_request_it_was_given_to(request: Headers, vary: str) -> None:
    entry = stored({"Vary": vary}, request=request)
    assert select([entry], request) is entry


@given(st.integers(-60_000_000_000, 250_000_000_000))
def test_a_date_that_was_written_is_read_as_the_same(seconds: int) -> None:
    assert parse_date(format_date(seconds), now=NOW) == seconds
