"""Going on with an answer that broke off (RFC 9110, 13.1.5, 14 and 15.3.7; RFC 9111, 3.3 and 3.4). Pure rules.

A rest is put behind a beginning only where the server vouches for it: by a strong validator in the question, and by a
Content-Range and the same validator in the answer.
"""

from __future__ import annotations

from ..headers import Headers
from .dates import parse_date
from .ranges import announced_part
from .validators import etag_of, is_strong_date, is_strong_etag

_OF_THE_REST = ("content-encoding", "content-length", "content-range", "content-type", "transfer-encoding")
"""Fields of a 206 that tell of the rest alone, not of the whole."""


def resume_validator(method: str, status: int, sent: Headers, received: Headers, *, now: float) -> str | None:
    """The If-Range that would ask for the rest of this answer; None where no rest may be asked for.

    A strong entity tag; the Last-Modified only where there is no entity tag at all, and where it is strong by the
    answer's own Date (13.1.5). ``now`` is wall seconds.
    """
    if method != "GET" or status != 200 or "range" in sent or "*" in received.get("vary", ""):
        return None
    # Of coded content we have decoded bytes, and count in others than the server.
    if received.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    if received.get("accept-ranges", "").strip().lower() == "none":
        return None
    if "etag" in received:
        etag = etag_of(received)
        return etag if etag is not None and is_strong_etag(etag) else None
    value = received.get("last-modified", "").strip(" \t")
    modified, date = parse_date(value, now=now), parse_date(received.get("date"), now=now)
    return value if modified is not None and date is not None and is_strong_date(modified, date) else None


def resume_fields(validator: str, start: int) -> dict[str, str]:
    """The request fields that ask for everything from ``start`` on, or for the whole if that is another by now.

    >>> resume_fields('"v1"', 70000)["Range"]
    'bytes=70000-'
    """
    # A coding would make other bytes of it, and count ranges in those (14.1).
    return {"Range": f"bytes={start}-", "If-Range": validator, "Accept-Encoding": "identity"}


def rest_length(received: Headers, validator: str, start: int, total: int | None) -> int | None:
    """How long the whole is whose rest a 206 brings; None if the 206 is no such rest.

    ``total`` is what the beginning said of it, None where it said nothing.
    """
    # multipart/byteranges has its ranges inside (15.3.7.2), and none in its head.
    part = announced_part(received.get("content-range"))
    if part is None or part[0] != start or part[2] is None or part[2] != (total or part[2]):
        return None
    length = received.get("content-length") if "transfer-encoding" not in received else None
    if length is not None and length != str(part[1] - start):
        return None
    if received.get("content-type", "").strip().lower().startswith("multipart/"):
        return None
    if received.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    return part[2] if _is_same_version(received, validator) else None


def _is_same_version(received: Headers, validator: str) -> bool:
    if validator.startswith('"'):
        # 15.3.7: whatever would have had an ETag as a 200 has it as a 206.
        return etag_of(received) == validator
    modified = received.get_all("last-modified")
    return "etag" not in received and all(value.strip(" \t") == validator for value in modified)


def whole_headers(beginning: Headers, rest: Headers, length: int) -> Headers:
    """The fields of the whole: the newer ones in place of their namesakes (RFC 9111, 3.4), with its own length."""
    # Age and Date are of one message.
    kept = beginning.without("age", "content-range", "date", "transfer-encoding")
    return kept.updated(rest.without(*_OF_THE_REST).pairs).updated({"Content-Length": str(length)})
