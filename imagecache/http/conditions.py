"""Conditions on an answer (RFC 9110, 13): a call's own preconditions, and a caller's validators asked of the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..entry import Entry
from ..headers import Headers
from .dates import format_date, parse_date
from .freshness import date_of
from .validators import strong_match, weak_match

_LISTED_TAG = re.compile(r'(?:W/)?"[^"]*"|[^\s,]+')
_NOT_IN_A_304 = ("content-length", "content-type", "content-encoding", "content-language", "content-range")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What has to hold of the answer: its entity tag (If-Match), or that it was not modified since (13.1.1, 13.1.4).

    ``expected_etag`` is one strong tag, quotes included, or "*" for whatever there is; ``unmodified_since`` is in wall
    seconds.
    """

    expected_etag: str | None = None
    unmodified_since: float | None = None

    def fields(self) -> dict[str, str]:
        """The header fields that ask the server to see to it."""
        fields = {}
        if self.expected_etag is not None:
            fields["If-Match"] = self.expected_etag
        if self.unmodified_since is not None:
            fields["If-Unmodified-Since"] = format_date(self.unmodified_since)
        return fields

    def fails(self, entry: Entry) -> str | None:
        """Why an answer is not the one that was asked for, in words; None if it is."""
        if self.expected_etag not in (None, "*"):
            if entry.etag is None:
                return f"the image has no entity tag, and {self.expected_etag} is expected"
            if not strong_match(self.expected_etag or "", entry.etag):
                return f"the image's entity tag is {entry.etag}, not the expected {self.expected_etag}"
        # 13.2.2: If-Match goes over If-Unmodified-Since.
        if self.unmodified_since is not None and self.expected_etag is None:
            modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
            if modified is None:
                return "the image does not say when it was modified"
            # Dates have whole seconds.
            if modified > int(self.unmodified_since):
                return f"the image was modified {format_date(modified)}, after {format_date(self.unmodified_since)}"
        return None


def answer_condition(request: Headers, entry: Entry) -> Literal[200, 304]:
    """What a stored answer says to a caller's own If-None-Match or, without one, If-Modified-Since (13.1.2, 13.1.3)."""
    if entry.status not in (200, 203, 206):
        return 200
    if "if-none-match" in request:
        asked = request["if-none-match"].strip(" \t")
        if asked == "*":
            return 304
        tags = _LISTED_TAG.findall(asked)
        return 304 if entry.etag and any(weak_match(tag, entry.etag) for tag in tags) else 200
    since = parse_date(request.get("if-modified-since"), now=entry.response_time)
    if since is None:
        return 200
    modified = parse_date(entry.headers.get("last-modified"), now=entry.response_time)
    # RFC 9111, 4.3.2: without a Last-Modified, the Date stands in for it.
    return 304 if (date_of(entry) if modified is None else modified) <= since else 200


def not_modified_response_headers(headers: Headers) -> Headers:
    """The fields of a stored answer that a 304 carries: not those that tell of a body (RFC 9110, 15.4.5)."""
    return headers.without(*_NOT_IN_A_304)
