"""Entries for tests: as the pipeline makes them, with everything a test does not care about filled in."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from imagecache.clock import Clock
from imagecache.entry import Entry, Namespace, RowKey
from imagecache.expiration import StorageExpiration
from imagecache.headers import Headers
from imagecache.keys import hash_for_key

URL = "http://a.example/x.png"
WEEK = StorageExpiration.after_days(7)


def entry_for(
    clock: Clock,
    body: bytes,
    url: str = URL,
    *,
    etag: str | None = '"1"',
    scope: str = "",
    vary: str = "",
    namespace: Namespace = "image",
    expiration: StorageExpiration = WEEK,
    format_name: str | None = "PNG",
) -> Entry:
    """The entry of an original."""
    now = clock.time()
    checksum = hashlib.sha256(body).hexdigest()
    return Entry(
        row=RowKey(hash_for_key(url), scope=scope, vary=vary, namespace=namespace),
        key=url,
        url=url,
        final_url=url,
        status=200,
        headers=Headers([("Content-Type", "image/png"), ("Cache-Control", "max-age=60")]),
        vary_fields=(("accept", vary),) if vary else (),
        request_time=now,
        response_time=now,
        validated_at=now,
        stored_at=now,
        stored_until=expiration.stored_until(now),
        lifetime=expiration.seconds,
        checksum=checksum,
        source_checksum=checksum,
        byte_count=len(body),
        etag=etag,
        format=format_name,
        width=4,
        height=3,
    )


def variant_of(original: Entry, body: bytes, processor: str = "round(20)") -> Entry:
    """The entry of what a processor made of an original."""
    checksum = hashlib.sha256(body).hexdigest()
    row = replace(original.row, processor=processor)
    return replace(original, row=row, checksum=checksum, byte_count=len(body), etag=None)
