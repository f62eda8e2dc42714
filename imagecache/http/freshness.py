"""Age and freshness (RFC 9111, 4.2). What HTTP calls fresh; how long *we* keep a thing is another matter."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ..entry import Entry
from .cache_control import DELTA_SECONDS_LIMIT, CacheControl, members, parse_delta_seconds
from .dates import parse_date
from .directives import RequestDirectives

HEURISTIC_FRACTION = 0.1
"""4.2.2: a typical fraction of the time since the last modification."""
HEURISTIC_LIMIT = 7 * 86_400.0
"""No guess is good for longer than a week."""
HEURISTIC_STATUSES = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""The statuses that are heuristically cacheable (RFC 9110, 15.1)."""

READ_FIELDS = frozenset({"age", "cache-control", "date", "etag", "expires", "last-modified", "pragma", "vary"})
"""What the rules of this room are read from: no answer can have one of these taken out of what is stored."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A freshness lifetime in seconds, and where it comes from, in words."""

    seconds: float
    source: str


def freshness_lifetime(entry: Entry) -> Lifetime:
    """How long the answer is fresh, counted from its making (4.2.1, 4.2.2). ``s-maxage`` is for shared caches."""
    control = CacheControl(entry.headers)
    max_age = control.seconds("max-age")
    if max_age is not None:
        return Lifetime(float(max_age), f"max-age={max_age}")
    date = date_of(entry)
    if "expires" in entry.headers:
        # 5.3: an invalid date, "0" above all, is a moment in the past. 4.2.1: of several the first counts.
        expires = parse_date(entry.headers.get_all("expires")[0], now=entry.response_time)
        seconds = 0.0 if expires is None else min(max(0.0, expires - date), float(DELTA_SECONDS_LIMIT))
        return Lifetime(seconds, f"Expires in {seconds:.0f} s")
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    if modified is not None and modified < date and _allows_heuristics(entry, control):
        seconds = min((date - modified) * HEURISTIC_FRACTION, HEURISTIC_LIMIT)
        return Lifetime(seconds, f"heuristic, 10 % of {(date - modified) / 86_400:.1f} days")
    return Lifetime(0.0, "nothing says")


def date_of(entry: Entry) -> float:
    """When the origin made the answer, wall seconds. Without a Date, when it came (RFC 9110, 6.6.1)."""
    # 4.2.1: of several the first counts.
    date = next(iter(entry.headers.get_all("date")), None)
    seconds = parse_date(date, now=entry.response_time)
    return entry.response_time if seconds is None else seconds


def current_age(entry: Entry, now: float) -> float:
    """The age of the stored answer, seconds (4.2.3). Never negative, whatever the clocks say."""
    # 5.1: of a list the first member counts, and one that is no number is ignored.
    age_value = parse_delta_seconds(entry.headers.get("age", "").partition(",")[0]) or 0
    apparent_age = max(0.0, entry.response_time - date_of(entry))
    response_delay = max(0.0, entry.response_time - entry.request_time)
    corrected_age_value = age_value + response_delay
    corrected_initial_age = max(apparent_age, corrected_age_value)
    resident_time = max(0.0, now - entry.response_time)
    return corrected_initial_age + resident_time


def fresh_until(entry: Entry) -> float:
    """The wall time at which the answer turns stale; 0 for one that never was fresh or always has to be asked about.

    Not a time in the past for the former: a clock that is set back must not make them fresh.
    """
    if needs_validation(entry):
        return 0.0
    remaining = freshness_lifetime(entry).seconds - current_age(entry, entry.response_time)
    return entry.response_time + remaining if remaining > 0 else 0.0


def fresh_for(entry: Entry, now: float) -> float:
    """The seconds for which the answer is fresh yet; 0 or less where it is stale, by its staleness (4.2).

    What always has to be asked about has no lifetime at all, whatever its max-age: it is as stale as it is old.
    """
    lifetime = 0.0 if needs_validation(entry) else freshness_lifetime(entry).seconds
    return lifetime - current_age(entry, now)


def is_fresh(entry: Entry, now: float) -> bool:
    """Whether HTTP allows the answer to be used without asking (4.2)."""
    return now < fresh_until(entry)


def needs_validation(entry: Entry) -> bool:
    """Whether HTTP never lets the answer be used without asking, however young it is."""
    control = CacheControl(entry.headers)
    # 5.2.2.5: one that was kept all the same, in memory or by a later 304 that says so, is no answer of its own.
    if control.forbids_storing(entry.status):
        return True
    # 5.2.2.4: a qualified no-cache is about the fields it lists, and those are not stored; but see READ_FIELDS.
    if "no-cache" in control:
        fields = control.fields("no-cache")
        return not fields or not fields.isdisjoint(READ_FIELDS)
    # 5.4: what Pragma means in an answer was never specified; those who send it alone mean no-cache.
    if "cache-control" not in entry.headers and "no-cache" in members(entry.headers, "pragma"):
        return True
    # 4.1: "*" matches no request.
    return "*" in members(entry.headers, "vary")


def forbids_stale(entry: Entry) -> bool:
    """Whether the answer may never be used once it is stale, not even where its server cannot be reached (4.2.4)."""
    # proxy-revalidate and s-maxage say so to shared caches only (5.2.2.8, 5.2.2.10).
    return "must-revalidate" in CacheControl(entry.headers) or needs_validation(entry)


def may_serve_while_revalidating(entry: Entry, now: float) -> bool:
    """Whether a stale-while-revalidate covers the answer, fresh or stale (RFC 5861, 3)."""
    window = CacheControl(entry.headers).seconds("stale-while-revalidate")
    if window is None or forbids_stale(entry):
        return False
    return current_age(entry, now) < freshness_lifetime(entry).seconds + window


def may_serve_on_error(entry: Entry, now: float, directives: RequestDirectives, own: float | None) -> bool:
    """Whether the stored answer may stand in where its server fails (RFC 5861, 4; RFC 9111, 4.2.4).

    Any one that covers the staleness suffices: the answer's stale-if-error, the request's, the request's max-stale,
    or ``own``, the seconds that a manager or a call allows (``inf``: however stale; None: says nothing).
    """
    if forbids_stale(entry):
        return False
    # RFC 5861, 4: "regardless of other freshness information", so that neither a max-age nor a no-cache of the
    # request, which are why the server was asked, stand against it.
    granted = CacheControl(entry.headers).seconds("stale-if-error")
    staleness = -fresh_for(entry, now)
    windows = (granted, directives.stale_if_error, directives.max_stale, own)
    return any(window is not None and staleness <= window for window in windows)


def is_immutable(entry: Entry) -> bool:
    """Whether the answer will not change while it is fresh (RFC 8246, 2), so that asking early is in vain.

    Only where it came over an authenticated connection (RFC 8246, 3): what somebody on the way put in its place
    would else stay for as long as they said. Loopback counts as one.
    """
    return "immutable" in CacheControl(entry.headers) and all(map(_is_authenticated, (entry.url, entry.final_url)))


def _is_authenticated(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    is_loopback = host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())
    return parts.scheme == "https" or is_loopback


def _allows_heuristics(entry: Entry, control: CacheControl) -> bool:
    # 4.2.2: by status, or marked as cacheable; for a private cache `private` does so too (5.2.2.7).
    return entry.status in HEURISTIC_STATUSES or "public" in control or "private" in control
