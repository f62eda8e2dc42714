"""Validators and conditional requests (RFC 9110, 8.8 and 13.1; RFC 9111, 3.2 and 4.3)."""

from __future__ import annotations

import re
from typing import Literal

from ..entry import Entry
from ..headers import Headers
from .cache_control import CacheControl
from .dates import parse_date
from .freshness import date_of
from .storing import storable_headers, storable_pairs

MAX_ETAG_LENGTH = 1024
"""A longer one would make every conditional request larger than many an image."""

# RFC 9110, 8.8.3, less obs-text; and what servers send without the quotes. "*" is a condition, never a tag.
_QUOTED_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_USABLE_TAG = re.compile(_QUOTED_TAG.pattern + r"|(?!\*$)[\x21\x23-\x2b\x2d-\x7e]+")
_NOT_FROM_A_304 = frozenset({
    # 3.2: what tells of the stored bytes, without which their integrity is gone, stays as it is …
    "content-digest", "content-encoding", "content-length", "content-md5", "content-range",
    # … and what the stored answer depends upon: its row was chosen by this Vary.
    "vary",
})  # fmt: skip

_NOR_ITS_ETAG = _NOT_FROM_A_304 | {"etag"}

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
    return len(etag) <= MAX_ETAG_LENGTH and _USABLE_TAG.fullmatch(etag) is not None


def is_strong_etag(etag: str) -> bool:
    """Whether an entity tag can be sent back, has its quotes, and is not marked as weak (RFC 9110, 8.8.3)."""
    return etag.startswith('"') and is_usable_etag(etag)


def is_strong_date(modified: float, date: float) -> bool:
    """Whether a Last-Modified tells one version from every other, and not only one second from another.

    RFC 9110, 8.8.2.2: where the answer was made, by its Date, at least one second later. Wall seconds.
    """
    return date - modified >= 1.0


def known_etags(entry: Entry) -> list[str]:
    """The entity tags that a stored answer goes by: the one in the registry, and the one it came with."""
    told = (entry.etag, etag_of(entry.headers))
    return list(dict.fromkeys(etag for etag in told if etag and is_usable_etag(etag)))


def listed_etags(value: str) -> list[str]:
    """The entity tags of an If-None-Match or If-Match (RFC 9110, 13.1.1), byte for byte."""
    return _LISTED_TAG.findall(value)


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


def not_modified_fits(entry: Entry, sent: Headers, received: Headers) -> bool:
    """Whether a 304 speaks of this stored answer (4.3.4).

    The condition as sent counts, not the one we wrote: a modifier may have put its own in place.
    """
    if "if-none-match" not in sent and "if-modified-since" not in sent:
        return False
    known = known_etags(entry)
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
        asked = listed_etags(sent["if-none-match"])
        return bool(asked) and all(any(weak_match(tag, own) for own in known) for tag in asked)
    # Not modified since a moment: that is about our copy only if the copy is not from before it.
    since = parse_date(sent["if-modified-since"], now=entry.response_time)
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    return since is not None and since <= (date_of(entry) if modified is None else modified)


def weaker_etag(stored: str | None, received: str | None) -> str | None:
    """The entity tag of a stored answer after a 304 that came with ``received``.

    A weak one never turns strong: that the server's copy goes by a strong tag now says nothing of the very bytes
    that were found to be as good. None, which is no tag at all, is the weakest.
    """
    if stored is None or received is None:
        return stored
    if weak_match(stored, received):
        return stored if stored.startswith("W/") else received
    return received


def merged_headers(stored: Headers, received: Headers, *, received_at: float | None = None) -> Headers:
    """The stored fields, freshened by those of a 304, or of a HEAD's 200 (3.2).

    ``received_at``: wall seconds, written as the Date where the new answer has none.
    """
    stays = _NOT_FROM_A_304
    own, told = etag_of(stored), etag_of(received)
    if own is not None and told is not None and weaker_etag(own, told) == own:
        stays = _NOR_ITS_ETAG
    # Age and Date are of one message: a 304 without them was made when it came, not when the stored one was.
    new, gone = [], {"age", "date"}
    for pair in storable_pairs(received, received_at=received_at):
        name = pair[0].lower()
        if name not in stays:
            new.append(pair)
            gone.add(name)
    merged = Headers([*[pair for pair in stored.pairs if pair[0].lower() not in gone], *new])
    # What a no-cache="…" of the 304 lists may be stored already (5.2.2.4).
    control = CacheControl(received if "cache-control" in received else stored)
    return storable_headers(merged) if control.fields("no-cache") else merged


def head_effect(entry: Entry, status: int, received: Headers) -> Literal["freshen", "invalidate", "none"]:
    """What the answer to a HEAD does to the stored answer of a GET (4.3.5)."""
    if status != 200:
        return "none"
    # What a GET would bring now is a success, and may not be kept if this may not.
    if entry.status != 200 or CacheControl(received).forbids_storing(status):
        return "invalidate"
    return "freshen" if _validators_agree(entry, received) and _lengths_agree(entry, received) else "invalidate"


def _validators_agree(entry: Entry, received: Headers) -> bool:
    if "last-modified" in received and received.get_all("last-modified") != entry.headers.get_all("last-modified"):
        return False
    told = etag_of(received)
    if told is not None:
        return any(weak_match(told, own) for own in known_etags(entry))
    return "etag" not in received or received.get_all("etag") == entry.headers.get_all("etag")


def _lengths_agree(entry: Entry, received: Headers) -> bool:
    told = received.get("content-length")
    if told is None:
        return True
    known = entry.headers.get("content-length")
    if known is None:
        # Of encoded content we may keep the bytes decoded, and then know nothing of its length.
        known = None if "content-encoding" in entry.headers else str(entry.byte_count)
    return known is None or told == known
