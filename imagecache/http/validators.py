"""Validators and conditional requests (RFC 9110, 8.8 and 13.1; RFC 9111, 3.2 and 4.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..entry import Entry
from ..headers import Headers
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


def merged_headers(stored: Headers, received: Headers) -> Headers:
    """The stored fields, freshened by those of a 304 (3.2)."""
    # Age and Date are of one message: a 304 without them was made when it came, not when the stored one was.
    kept = stored.without("age", "date")
    # Twice, because what a no-cache="…" of the 304 lists may be stored already (5.2.2.4).
    return storable_headers(kept.updated(storable_headers(received).without(*_NOT_FROM_A_304).pairs))
