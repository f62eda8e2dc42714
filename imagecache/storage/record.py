"""An entry's metadata as the text that is stored, and back; the seal over it. No I/O.

The text holds what is known of the *answer*. What is ours and changes with every access (stored until, lifetime,
last access) are columns outside the seal, so that an access rewrites a number and not a document.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from sys import intern
from typing import NamedTuple

from ..entry import Entry, Namespace, RowKey
from ..headers import Headers
from ..keys import checksum_of
from ..masking import without_signatures

# json.dumps would build an encoder at every call that asks for anything but its defaults.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class DamagedError(Exception):
    """What is stored is not what was written."""


class _Metadata(NamedTuple):
    """Written as a list in this order, without names: they would cost more than the values. Another order, or
    another field, is another schema version. None stands for what is most often the same as a field before it:
    ``url`` as ``key``, ``final_url`` as ``url``, ``source_checksum`` as ``checksum``."""

    key_hash: str
    scope: str
    vary: str
    processor: str
    namespace: Namespace
    key: str
    url: str | None
    final_url: str | None
    status: int
    headers: Sequence[tuple[str, str]]
    vary_fields: Sequence[tuple[str, str]]
    request_time: float
    response_time: float
    validated_at: float
    stored_at: float
    checksum: str
    source_checksum: str | None
    byte_count: int
    etag: str | None
    format: str | None
    width: int | None
    height: int | None
    asked_fields: Sequence[tuple[str, str]] | None


def encode(entry: Entry) -> str:
    """The metadata as JSON; ValueError where a number is none (RFC 8259 has no NaN)."""
    row = entry.row
    metadata = _Metadata(
        row.key_hash,
        row.scope,
        row.vary,
        row.processor,
        row.namespace,
        entry.key,
        # The key is what was chosen as the identity; signatures of any other URL are no business of the disk.
        None if entry.url == entry.key else without_signatures(entry.url),
        None if entry.final_url == entry.url else without_signatures(entry.final_url),
        entry.status,
        entry.headers.pairs,
        entry.vary_fields,
        entry.request_time,
        entry.response_time,
        entry.validated_at,
        entry.stored_at,
        entry.checksum,
        None if entry.source_checksum == entry.checksum else entry.source_checksum,
        entry.byte_count,
        entry.etag,
        entry.format,
        entry.width,
        entry.height,
        entry.asked_fields,
    )
    if not entry.stored_until > -math.inf:
        # SQLite would take it for NULL.
        raise ValueError("stored until is no number")
    return _encode(metadata)


def seal(metadata: str) -> bytes:
    """SHA-256 over the metadata, and so over the body, whose checksum is in it."""
    return hashlib.sha256(metadata.encode()).digest()


def decode(metadata: str, sealed: bytes, stored_until: float, lifetime: float | None) -> Entry:
    """The entry that was encoded; DamagedError if text and seal do not belong together."""
    try:
        if not hmac.compare_digest(seal(metadata), sealed):
            raise DamagedError("the metadata does not match its seal")
        if not isinstance(stored_until, float | int) or not isinstance(lifetime, float | int | None):
            raise DamagedError("stored until or the lifetime is no number")
        known = _Metadata._make(json.loads(metadata))
        url = known.key if known.url is None else known.url
        return Entry(
            row=RowKey(known.key_hash, known.scope, known.vary, known.processor, known.namespace),
            key=known.key,
            url=url,
            final_url=url if known.final_url is None else known.final_url,
            status=known.status,
            headers=Headers([(intern(name), value) for name, value in known.headers]),
            vary_fields=_fields(known.vary_fields),
            request_time=known.request_time,
            response_time=known.response_time,
            validated_at=known.validated_at,
            stored_at=known.stored_at,
            stored_until=stored_until,
            lifetime=lifetime,
            checksum=known.checksum,
            source_checksum=known.checksum if known.source_checksum is None else known.source_checksum,
            byte_count=known.byte_count,
            etag=known.etag,
            format=known.format,
            width=known.width,
            height=known.height,
            asked_fields=None if known.asked_fields is None else _fields(known.asked_fields),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DamagedError(f"the metadata cannot be read: {error}") from error


def _fields(known: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple([(name, value) for name, value in known])


def verify_body(entry: Entry, body: bytes) -> None:
    """DamagedError unless these are the very bytes that the entry was stored with."""
    if len(body) != entry.byte_count:
        raise DamagedError(f"the body has {len(body)} bytes instead of {entry.byte_count}")
    if checksum_of(body) != entry.checksum:
        raise DamagedError("the body does not match its checksum")
