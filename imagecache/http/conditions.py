"""Conditions that callers put (RFC 9110, 13): on the answer they want, and for a copy that they have already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..entry import Entry
from ..headers import Headers
from .dates import format_date, parse_date
from .freshness import date_of
from .validators import known_etags, listed_etags, strong_match, weak_match

# RFC 9110, 15.4.5: metadata of the representation, which a 304 leaves out, but for what it has to carry.
_REPRESENTATION = re.compile(r"content-(?!location$|security-policy)|(?:repr-)?digest$")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What has to hold of an answer for the caller to want it.

    ``expected_etag`` is a strong entity tag with its quotes, or ``"*"`` for any that exists (If-Match, 13.1.1);
    ``unmodified_since`` wall seconds (If-Unmodified-Since, 13.1.4), which says nothing beside the former.
    """

    expected_etag: str | None = None
    unmodified_since: float | None = None

    def fields(self) -> dict[str, str]:
        """The request fields that put these conditions to the origin.

        >>> Preconditions('"a"', 0.0).fields()
        {'If-Match': '"a"', 'If-Unmodified-Since': 'Thu, 01 Jan 1970 00:00:00 GMT'}
        """
        fields = {}
        if self.expected_etag is not None:
            fields["If-Match"] = self.expected_etag
        if self.unmodified_since is not None:
            # 13.1.4 knows servers without If-Match, for which both are sent.
            fields["If-Unmodified-Since"] = format_date(self.unmodified_since)
        return fields

    def fails(self, entry: Entry) -> str | None:
        """Why the answer is not the one wanted, in words; None where it is."""
        # 13.2.2: If-Unmodified-Since is looked at only where there is no If-Match.
        if self.expected_etag is not None:
            return _match_fails(self.expected_etag, entry)
        if self.unmodified_since is not None:
            return _unmodified_fails(self.unmodified_since, entry)
        return None


def _match_fails(expected: str, entry: Entry) -> str | None:
    if not 200 <= entry.status < 300:
        return f"there is no image: the server answered {entry.status}"
    if expected == "*":
        return None
    known = known_etags(entry)
    if any(strong_match(expected, etag) for etag in known):
        return None
    if not known:
        return f"the entity tag {expected} was expected, and there is none"
    weakly = "only weakly " if any(weak_match(expected, etag) for etag in known) else ""
    return f"the entity tag {expected} was expected, and it is {weakly}{' or '.join(known)}"


def _unmodified_fails(since: float, entry: Entry) -> str | None:
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    if modified is None:
        return "it does not tell when it was modified"
    if modified > since:
        return f"it was modified {format_date(modified)}, which is after {format_date(since)}"
    return None


def answer_condition(request: Headers, entry: Entry) -> Literal[304, 200]:
    """What a caller's If-None-Match, or If-Modified-Since without one, makes of a stored answer (RFC 9111, 4.3.2).

    If-Match and If-Unmodified-Since are for the origin alone, and no cache evaluates them.
    """
    # RFC 9110, 13.2.1: a condition counts only where the answer without it would be a success.
    if not 200 <= entry.status < 300:
        return 200
    if "if-none-match" in request:
        # 13.1.3: and then If-Modified-Since says nothing.
        value = request["if-none-match"].strip(" \t")
        held = value == "*" or any(weak_match(tag, own) for tag in listed_etags(value) for own in known_etags(entry))
        return 304 if held else 200
    since = parse_date(request.get("if-modified-since"), now=entry.response_time)
    if since is None:
        return 200
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    # RFC 9111, 4.3.2: the Date, or when it came, in place of a Last-Modified that is not there.
    return 304 if (date_of(entry) if modified is None else modified) <= since else 200


def not_modified_response_headers(headers: Headers) -> Headers:
    """Of the fields of a stored answer, those that a 304 in its place carries (RFC 9110, 15.4.5)."""
    # Last-Modified is of use to whoever has no entity tag to compare.
    left_out = {"last-modified"} if "etag" in headers else set[str]()
    left_out.update(name for name in map(str.lower, headers) if _REPRESENTATION.match(name))
    return headers.without(*left_out)
