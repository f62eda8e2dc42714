"""What may be stored, under which fields, and which stored answer a request selects (RFC 9111, 3 and 4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ..entry import Entry
from ..headers import Headers
from .cache_control import CacheControl
from .dates import format_date
from .freshness import HEURISTIC_STATUSES, READ_FIELDS, date_of, freshness_lifetime, is_fresh

_PER_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_SECRETS = frozenset({"authorization", "cookie", "proxy-authorization"})
_CASELESS = frozenset({"accept-charset", "accept-encoding", "accept-language"})
_HARMLESS = _CASELESS | {
    "accept", "device-memory", "downlink", "dpr", "ect", "origin", "rtt", "save-data", "user-agent", "viewport-width",
    "width",
}  # fmt: skip
"""Fields whose values are kept as they are, to be looked at; any other may hold a secret."""

VaryFields = tuple[tuple[str, str], ...]
"""The request fields that a Vary nominates and that were sent: names in lower case, sorted; values normalised."""


def forbids_storing(request: Headers, response: Headers, *, status: int = 200) -> bool:
    """Whether ``no-store`` on either side keeps the answer out of every tier (5.2.1.5, 5.2.2.5)."""
    return "no-store" in CacheControl(request) or CacheControl(response).forbids_storing(status)


def may_store_response(method: str, status: int, request: Headers, response: Headers, entry: Entry) -> bool:
    """Whether an answer of any kind may be stored by a private cache (3), and is worth it.

    Only GET. A partial answer (206) may be stored, as what it is (3.3); what answers a condition or a range of one
    request (304, 412, 416) is no answer to another. An error that is stale at once and cannot be asked about is not
    worth its row; anything else takes the place of what it made out of date.
    """
    if (
        method != "GET"
        or status < 200
        or status in (304, 412, 416)
        or forbids_storing(request, response, status=status)
    ):
        return False
    control = CacheControl(response)
    is_marked = "expires" in response or any(name in control for name in ("max-age", "public", "private"))
    if status not in HEURISTIC_STATUSES and not is_marked:
        return False
    has_validator = bool(entry.etag) or "last-modified" in response
    return status < 400 or has_validator or freshness_lifetime(entry).seconds > 0


def may_store_negative(status: int, request: Headers, response: Headers, entry: Entry) -> bool:
    """Whether the head of a 404 or 410 counts for later calls, too: while HTTP calls it fresh, and not beyond."""
    if status not in (404, 410) or forbids_storing(request, response, status=status):
        return False
    return is_fresh(entry, entry.response_time)


def storable_headers(headers: Headers, *, received_at: float | None = None) -> Headers:
    """The fields that are kept (3.1): none that belongs to the connection, and never a Set-Cookie.

    RFC 9110, 6.6.1: an answer without a Date is given that of the moment it came, ``received_at``, wall seconds.
    """
    nominated = _names(headers, "connection") | CacheControl(headers).fields("no-cache")
    # RFC 9110, 7.6.1: "Cache-Control is never appropriate as a connection option", and neither is what else we read.
    dropped = _PER_CONNECTION | {"set-cookie"} | (nominated - READ_FIELDS)
    kept = [(name, value) for name, value in headers.pairs if name.lower() not in dropped]
    if received_at is not None and "date" not in headers:
        kept.append(("Date", format_date(received_at)))
    return Headers(kept)


def vary_fields(request: Mapping[str, str], response: Headers) -> VaryFields:
    """What the answer's Vary nominates, as the request had it; a field that was not sent is not there."""
    sent = {name.lower(): value for name, value in request.items()}
    # Secrets are told apart by the row's scope; their values have no business on disk. "*" names no field.
    nominated = _names(response, "vary") - _SECRETS - {"*"}
    return tuple((name, _kept_value(name, sent[name])) for name in sorted(nominated) if name in sent)


def vary_digest(fields: VaryFields) -> str:
    """The vary part of a row's identity; "" where the answer varies on nothing that was sent."""
    if not fields:
        return ""
    text = "".join(f"{len(part)}:{part}" for pair in fields for part in pair)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def vary_matches(entry: Entry, request: Mapping[str, str], *, as_sent: bool = True) -> bool:
    """Whether a request selects this stored answer (4.1): what its Vary nominates is the same, or absent in both.

    ``as_sent`` tells that these are the fields as they would be sent, else they are as asked for, before any request
    modifier. An answer that varies on ``*`` is selected to be asked about; it is never fresh.
    """
    kept = entry.vary_fields if as_sent or entry.asked_fields is None else entry.asked_fields
    return vary_fields(request, entry.headers) == kept


def select(entries: Sequence[Entry], request: Mapping[str, str], *, as_sent: bool = True) -> Entry | None:
    """The stored answer for a request: of those that match, the most recent one as determined by Date (4).

    4.1 would prefer one that has a Vary to a newer one that has none. We do not: a server that gave up its Vary
    would have what was just loaded hidden behind an older copy.
    """
    matching = [entry for entry in entries if vary_matches(entry, request, as_sent=as_sent)]
    return max(matching, key=lambda entry: (date_of(entry), entry.response_time), default=None)


def _names(headers: Headers, field: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in headers.get(field, "").split(",") if name.strip())


def _kept_value(name: str, value: str) -> str:
    normalised = _normalised(name, value)
    if name in _HARMLESS or name.startswith("sec-ch-"):
        return normalised
    # X-Api-Key and its like: told apart as well by a digest, which gives nothing away.
    return f"sha256:{hashlib.sha256(normalised.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _normalised(name: str, value: str) -> str:
    # 4.1 allows to fold what cannot change the meaning: white space around the members of a list (but inside a
    # quoted string or a comment it is content), and case and order where they have none (RFC 9110, 12.5.2 to 12.5.4).
    if '"' not in value and "(" not in value:
        members = [part.strip() for part in value.split(",")]
        value = ", ".join(sorted(member.lower() for member in members) if name in _CASELESS else members)
    return value.strip().lower() if name in _CASELESS else value.strip()
