"""Stored answers for the tests of the HTTP rules: made at NOW, with the fields that a test is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imagecache.entry import Entry, Namespace, RowKey
from imagecache.headers import Headers
from imagecache.http.dates import format_date
from imagecache.http.storing import vary_digest, vary_fields
from imagecache.http.validators import etag_of

NOW = 1_800_000_000.0
"""A moment in January 2027, as wall seconds."""
DAY = 86_400.0

Fields = Mapping[str, str] | Iterable[tuple[str, str]]


def stored(
    fields: Fields = (),
    *,
    status: int = 200,
    request: Mapping[str, str] = Headers(),
    request_time: float = NOW,
    response_time: float = NOW,
    validated_at: float = NOW,
    stored_until: float = NOW + 7 * DAY,
    url: str = "http://a.example/x.png",
    namespace: Namespace = "image",
    byte_count: int = 1,
) -> Entry:
    """The metadata of an answer with these header fields."""
    headers = Headers(fields)
    sent = vary_fields(request, headers)
    return Entry(
        row=RowKey("0" * 64, vary=vary_digest(sent), namespace=namespace),
        key=url,
        url=url,
        final_url=url,
        status=status,
        headers=headers,
        vary_fields=sent,
        request_time=request_time,
        response_time=response_time,
        validated_at=validated_at,
        stored_at=response_time,
        stored_until=stored_until,
        lifetime=7 * DAY,
        checksum="1" * 64,
        source_checksum="1" * 64,
        byte_count=byte_count,
        etag=etag_of(headers),
    )


def date(offset: float = 0.0) -> str:
    """The IMF-fixdate of so many seconds after NOW."""
    return format_date(NOW + offset)
