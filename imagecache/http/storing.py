"""What may be stored, under which fields, and which stored answer a request selects (RFC 9111, 3 and 4.1)."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from ..entry import Entry
from ..headers import Headers
from .cache_control import CacheControl
from .dates import format_date
from .freshness import HEURISTIC_STATUSES, READ_FIELDS, date_of, fresh_until, freshness_lifetime

_PER_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NEVER_KEPT = _PER_CONNECTION | {"set-cookie"}
_PREFERENCES = frozenset({"accept-charset", "accept-encoding", "accept-language"})
_WEIGHT = re.compile(r"q=(0|1|0\.\d{0,3}|1\.0{0,3})", re.ASCII)
_IN_CLEAR = re.compile(
    r"accept(-.+)?|user-agent|origin|save-data|prefer|x-requested-with|upgrade-insecure-requests|"
    r"dpr|width|viewport-(width|height)|device-memory|ect|rtt|downlink|sec-(ch|fetch|gpc).*"
)
"""What says how a program likes its images, and nothing of who asks."""
_DIGEST_LENGTH = 32

UNSTORABLE_STATUSES = frozenset({428, 429, 431, 511})
"""What "MUST NOT be stored by a cache" (RFC 6585, 3 to 6): these are about this one request."""
_NOT_ABOUT_THE_IMAGE = frozenset({401, 407, 408, 412, 416, 417, 425})
"""Who asked, when, or on which condition: another call may well be answered otherwise."""

_NO_NAMES: frozenset[str] = frozenset()

VaryFields = tuple[tuple[str, str], ...]
"""The request fields that a Vary nominates and that were sent: names in lower case, sorted; values normalised."""


def forbids_storing(request: Headers, response: Headers, *, status: int = 200) -> bool:
    """Whether ``no-store`` on either side keeps the answer out of every tier (5.2.1.5, 5.2.2.5)."""
    return "no-store" in CacheControl(request) or CacheControl(response).forbids_storing(status)


def may_store_response(method: str, status: int, request: Headers, response: Headers, entry: Entry) -> bool:
    """Whether an answer of any kind may be stored by a private cache (3), and is worth it.

    Only GET, and whole ones; see :func:`may_store_part`. An error that is stale at once and cannot be asked about is
    not worth its row; anything else takes the place of what it made out of date.
    """
    if method != "GET" or status == 206 or not _may_store(status, request, response):
        return False
    has_validator = bool(entry.etag) or "last-modified" in response
    return status < 400 or has_validator or freshness_lifetime(entry).seconds > 0


def may_store_part(request: Headers, response: Headers) -> bool:
    """Whether a partial answer (206) to a GET may be stored, as the part that it is (3.3)."""
    return _may_store(206, request, response)


def may_store_negative(status: int, request: Headers, response: Headers, entry: Entry) -> bool:
    """Whether the head of an error is kept in place of an image, since HTTP lets it count for a while (4.2).

    A 404 or 410 above all, and what else speaks of the image and is fresh: explicitly, or by its Last-Modified where
    its status allows that. Not a 5xx: it speaks of the server, and a stored image may stand in for that.
    """
    if not 400 <= status < 500 or status in _NOT_ABOUT_THE_IMAGE or not _may_store(status, request, response):
        return False
    return fresh_until(entry) > entry.response_time


def _may_store(status: int, request: Headers, response: Headers) -> bool:
    # What answers the condition or the range of one request is no answer to another.
    if not 200 <= status <= 999 or status in (304, 412, 416) or status in UNSTORABLE_STATUSES:
        return False
    if forbids_storing(request, response, status=status):
        return False
    control = CacheControl(response)
    is_marked = "expires" in response or any(name in control for name in ("max-age", "public", "private"))
    return is_marked or status in HEURISTIC_STATUSES


def storable_headers(headers: Headers, *, received_at: float | None = None) -> Headers:
    """The fields that are kept (3.1): none that belongs to the connection, and never a Set-Cookie.

    ``received_at``: wall seconds, written as the Date of an answer that has none (RFC 9110, 6.6.1).
    """
    return Headers(storable_pairs(headers, received_at=received_at))


def storable_pairs(headers: Headers, *, received_at: float | None = None) -> list[tuple[str, str]]:
    """The same as a list."""
    dropped = _dropped(headers.get("connection"), CacheControl(headers).fields("no-cache"))
    kept = [pair for pair in headers.pairs if pair[0].lower() not in dropped]
    if received_at is not None and "date" not in headers:
        kept.append(("Date", format_date(received_at)))
    return kept


@functools.lru_cache(maxsize=64)
def _dropped(connection: str | None, listed: frozenset[str]) -> frozenset[str]:
    """The names of what is not kept, by what Connection and no-cache nominate."""
    nominated = listed if connection is None else listed | _names_in(connection)
    # RFC 9110, 7.6.1: "Cache-Control is never appropriate as a connection option", and neither is what else we read.
    return _NEVER_KEPT if nominated <= _NEVER_KEPT else _NEVER_KEPT | (nominated - READ_FIELDS)


def vary_fields(request: Mapping[str, str], response: Headers, *, secret: bytes = b"") -> VaryFields:
    """What the answer's Vary nominates, as the request had it; a field that was not sent is not there.

    Of a field that may be anything, an ``X-Api-Key`` or an Authorization, only a digest is kept: enough to tell it from
    another, and with a ``secret`` (the random key kept with the index) not enough to try guesses on.
    """
    if "vary" not in response:
        return ()
    sent = {name.lower(): value for name, value in request.items()}
    # "*" names no field.
    nominated = _names(response, "vary") - {"*"}
    return tuple(
        (name, _kept(name, _normalised(name, sent[name]), secret)) for name in sorted(nominated) if name in sent
    )


def vary_digest(fields: VaryFields) -> str:
    """The vary part of a row's identity; "" where the answer varies on nothing that was sent."""
    if not fields:
        return ""
    text = "".join(f"{len(part)}:{part}" for pair in fields for part in pair)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def vary_matches(entry: Entry, request: Mapping[str, str], *, as_sent: bool = True, secret: bytes = b"") -> bool:
    """Whether a request selects this stored answer (4.1): what its Vary nominates is the same, or absent in both.

    ``as_sent=False``: the request is as asked for, before request modifiers changed it, and is compared with the
    stored one's as it was then; ``secret`` is that of :func:`vary_fields`. An answer that varies on ``*`` is selected
    to be asked about; it is never fresh.
    """
    known = entry.vary_fields if as_sent or entry.asked_fields is None else entry.asked_fields
    return vary_fields(request, entry.headers, secret=secret) == known


def select(
    entries: Sequence[Entry], request: Mapping[str, str], *, as_sent: bool = True, secret: bytes = b""
) -> Entry | None:
    """The stored answer for a request: of those that match, the most recent one as determined by Date (4).

    ``as_sent`` and ``secret`` as in :func:`vary_matches`. 4.1 would prefer one that has a Vary to a newer one that has
    none. We do not: a server that gave up its Vary would have what was just loaded hidden behind an older copy.
    """
    matching = [e for e in entries if vary_matches(e, request, as_sent=as_sent, secret=secret)]
    return max(matching, key=lambda entry: (date_of(entry), entry.response_time), default=None)


def _names(headers: Headers, field: str) -> frozenset[str]:
    value = headers.get(field)
    return _NO_NAMES if value is None else _names_in(value)


def _names_in(value: str) -> frozenset[str]:
    return frozenset([name.strip().lower() for name in value.split(",") if name.strip()])


def _normalised(name: str, value: str) -> str:
    # 4.1 allows to fold what cannot change the meaning: white space around the members of a list (but inside a
    # quoted string or a comment it is content), and for preferences case and order, which have none (RFC 9110,
    # 12.4.2 and 12.5.2 to 12.5.4; that some servers go by the order "cannot be relied upon").
    if '"' in value or "(" in value:
        return value.strip()
    parts = [part.strip() for part in value.split(",")]
    return ", ".join(sorted(map(_preference, filter(None, parts))) if name in _PREFERENCES else parts)


def _preference(member: str) -> str:
    """One preference with its weight as short as it can be written; a weight of 1 is none."""
    value, *parameters = [part.strip() for part in member.lower().split(";")]
    weight = _WEIGHT.fullmatch(parameters[0]) if len(parameters) == 1 else None
    if weight is None:
        return ";".join([value, *parameters])
    return value if float(weight[1]) == 1 else f"{value};q={float(weight[1]):g}"


def _kept(name: str, value: str, secret: bytes) -> str:
    if _IN_CLEAR.fullmatch(name):
        return value
    text = value.encode("utf-8", "surrogatepass")
    if secret:
        return "hmac:" + hmac.new(secret, text, hashlib.sha256).hexdigest()[:_DIGEST_LENGTH]
    return "sha256:" + hashlib.sha256(text).hexdigest()[:_DIGEST_LENGTH]
