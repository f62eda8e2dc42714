"""Validators and conditional requests (RFC 9110, 8.8 and 13.1; RFC 9111, 3.2 and 4.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from ..entry import Entry
from ..headers import Headers
from .cache_control import parse_delta_seconds
from .dates import parse_date
from .freshness import date_of
from .storing import storable_headers

MAX_ETAG_LENGTH = 1024
"""A longer one would make every conditional request larger than many an image."""

CONDITION_FIELDS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})
"""The fields that make a request conditional (RFC 9110, 13.1)."""

# RFC 9110, 8.8.3, less obs-text; and what servers send without the quotes. "*" is a condition, never a tag.
_QUOTED_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_BARE_TAG = re.compile(r"(?!\*$)[\x21\x23-\x2b\x2d-\x7e]+")
_NOT_FROM_A_304 = frozenset({
    # 3.2: what tells of the stored bytes, without which their integrity is gone, stays as it is …
    "content-digest", "content-encoding", "content-length", "content-md5", "content-range",
    # … and what the stored answer depends upon: its row was chosen by this Vary.
    "vary",
})  # fmt: skip

# A comma may stand inside a quoted tag, so quoted ones are taken first.
_LISTED_TAG = re.compile(r'(?:W/)?"[^"]*"|[^\s,]+')


def etag_of(headers: Headers) -> str | None:
    """The entity tag that may be sent back, byte for byte; None where there is none, two, or none to be trusted."""
    values = headers.get_all("etag")
    if len(values) != 1:
        return None
    etag = values[0].strip(" \t")
    return etag if is_usable_etag(etag) else None


def is_usable_etag(etag: str) -> bool:
    """Whether an entity tag can be sent back: visible ASCII, at most 1 KiB, and one tag, be it without its quotes."""
    return len(etag) <= MAX_ETAG_LENGTH and any(tag.fullmatch(etag) for tag in (_QUOTED_TAG, _BARE_TAG))


def weak_match(one: str, other: str) -> bool:
    """The weak comparison (RFC 9110, 8.8.3.2): opaque tags alike, whichever is weak."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def strong_match(one: str, other: str) -> bool:
    """The strong comparison (RFC 9110, 8.8.3.2): alike, and neither is weak. A tag without quotes is not strong."""
    return one == other and one.startswith('"') and _QUOTED_TAG.fullmatch(one) is not None


def is_strong_etag(etag: str) -> bool:
    """Whether an entity tag may be compared strongly: quoted, and not marked as weak."""
    return etag.startswith('"') and is_usable_etag(etag)


def weaker_etag(stored: str | None, received: str | None) -> str | None:
    """The tag to keep after a 304: the received one, but what was stored under a weak tag never turns strong.

    The server compared weakly (RFC 9110, 8.8.3.2), so that the bytes may be others than those of its strong tag.
    """
    if received is None or (stored is not None and stored.startswith("W/") and stored[2:] == received):
        return stored
    return received


def is_strong_date(modified: float, date: float) -> bool:
    """Whether a Last-Modified tells the bytes apart: made a second or more before the answer (RFC 9110, 8.8.2.2)."""
    return date - modified >= 1


def head_effect(entry: Entry, status: int, received: Headers) -> Literal["freshen", "invalidate", "none"]:
    """What the answer to a HEAD says of a stored GET: it is still the same one, it no longer is, or nothing (4.3.5)."""
    if status != entry.status:
        # A resource that has gone has no stored answer that still holds, either.
        return "invalidate" if status in (404, 410) else "none"
    for field in ("etag", "last-modified"):
        if field in received and received.get_all(field) != entry.headers.get_all(field):
            return "invalidate"
    length = parse_delta_seconds(received.get("content-length"))
    return "freshen" if length is None or length == entry.byte_count else "invalidate"


def condition_fields(entry: Entry) -> dict[str, str]:
    """The fields that ask whether the stored answer still holds: both validators where there are both (4.3.1)."""
    fields = {}
    if entry.etag and is_usable_etag(entry.etag):
        fields["If-None-Match"] = entry.etag
    modified = entry.headers.get("last-modified", "").strip(" \t")
    if parse_date(modified, now=entry.response_time) is not None:
        # Byte for byte: RFC 9110, 13.1.3, knows servers that honour nothing but what they sent.
        fields["If-Modified-Since"] = modified
    return fields


def is_conditional(headers: Mapping[str, str]) -> bool:
    """Whether the answer to a request may be something else than the whole (RFC 9110, 13.1)."""
    return any(name.lower() in CONDITION_FIELDS for name in headers)


def not_modified_fits(entry: Entry, sent: Headers, received: Headers) -> bool:
    """Whether a 304 speaks of this stored answer (4.3.4).

    The condition as sent counts, not the one we wrote: a modifier may have put its own in place.
    """
    if "if-none-match" not in sent and "if-modified-since" not in sent:
        return False
    known = {tag for tag in (entry.etag, etag_of(entry.headers)) if tag and is_usable_etag(tag)}
    # A validator that came with the 304 has to be the stored one. Weakly: the server's own comparison was weak, and
    # some answer the W/ of a body that they compressed with the strong tag of the file.
    told = etag_of(received)
    if told is not None:
        return any(weak_match(told, tag) for tag in known)
    for field in ("etag", "last-modified"):
        if field in received and received.get_all(field) != entry.headers.get_all(field):
            return False
    # Without an ETag in it, a 304 says that *one* of the tags asked about holds: all of them have to be ours.
    if "if-none-match" in sent:
        asked = _LISTED_TAG.findall(sent["if-none-match"])
        return bool(asked) and all(any(weak_match(tag, own) for own in known) for tag in asked)
    # Not modified since a moment: that is about our copy only if the copy is not from before it.
    since = parse_date(sent["if-modified-since"], now=entry.response_time)
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    return since is not None and since <= (date_of(entry) if modified is None else modified)


def merged_headers(stored: Headers, received: Headers, *, received_at: float | None = None) -> Headers:
    """The stored fields, freshened by those of a 304 (3.2) that came at ``received_at``, wall seconds."""
    # Age and Date are of one message: a 304 without them was made when it came, not when the stored one was.
    kept = stored.without("age", "date")
    # Twice, because what a no-cache="…" of the 304 lists may be stored already (5.2.2.4).
    fresh = storable_headers(received, received_at=received_at).without(*_NOT_FROM_A_304)
    return storable_headers(kept.updated(fresh.pairs))
