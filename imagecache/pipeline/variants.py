"""Variants: what was made of a body and is kept on disk beside it, under a name that says how it was made.

A variant belongs to the very bytes it was made of: it is read only for them, and stored only while they are
still the ones that are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..entry import Entry
from ..errors import EncodeError, ImageCacheError
from ..imaging.shared import SharedImage
from ..keys import checksum_of
from ..protocols import CacheSerializer
from ..request import ImageRequest
from ..storage.stored import Stored
from .loaded import Loaded
from .parts import Parts


def variant_of(request: ImageRequest, encoding: str) -> str:
    """The name of a variant: the mode and the processors, in order, and how the result is written."""
    mode = "" if request.mode == "auto" else f"mode={request.mode}|>"
    return mode + "|>".join([*(processor.identifier for processor in request.processors), encoding])


async def read_variant(parts: Parts, entry: Entry, variant: str, request: ImageRequest) -> Stored | None:
    """A stored variant with its bytes, if it was made of the very body of ``entry``."""

    def of_this_body(entries: Sequence[Entry]) -> Entry | None:
        same = (e for e in entries if e.source_checksum == entry.checksum and e.row.vary == entry.row.vary)
        return next(same, None)

    row = entry.row
    stored = await parts.cache.disk.load(
        row.key_hash, key=entry.key, scope=row.scope, processor=variant, choose=of_this_body
    )
    if stored is not None:
        parts.cache.disk.touch(stored.entry.row, request.disk_extension)
    return stored


def keep_variant(parts: Parts, loaded: Loaded, variant: str, body: bytes, checksum: str, format: str | None) -> None:
    """Store a variant beside its original; the index refuses it if the original is another one by then."""
    if not loaded.may_keep or not parts.currency.is_current(loaded.stamp):
        return
    entry = loaded.entry
    variant_entry = replace(
        entry,
        row=replace(entry.row, processor=variant),
        checksum=checksum,
        source_checksum=entry.checksum,
        byte_count=len(body),
        etag=None,
        format=format,
        width=None,
        height=None,
    )
    parts.cache.put(variant_entry, body)


def serialize(pixels: SharedImage, serializer: CacheSerializer, url: str) -> tuple[bytes, str]:
    """In a worker: the bytes that a user's serializer makes of an image, and their checksum."""
    try:
        body = serializer.serialize(pixels.image())
    except ImageCacheError:
        raise
    except Exception as error:  # The border of a user's code.
        raise EncodeError(f"the cache serializer {serializer.identifier} raised: {error}", url=url) from error
    return body, checksum_of(body)
