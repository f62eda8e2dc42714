"""What is known of a stored answer: its row, and its metadata. Values only; bytes and pixels live elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .expiration import StorageExpiration
from .headers import Headers
from .keys import checksum_of, display_url, hash_for_key, key_for_url

Namespace = Literal["image", "response", "partial", "negative"]
"""Answers of ``fetch_response`` are rows of their own, so that an image call never meets an HTML page, and parts of
them are never mistaken for whole ones; and so are the heads of a 404 or 410 to an image call, so that they never take
the place of an image that was good."""


@dataclass(frozen=True, slots=True)
class RowKey:
    """The identity of one stored thing.

    ``key_hash`` is ``hash_for_key(key)``; ``scope`` keeps users apart ("" is everybody's); ``vary`` is a
    digest of the request fields that the answer's Vary nominates ("" where it nominates none);
    ``processor`` names a processed or encoded variant ("" is the bytes as they came).
    """

    key_hash: str
    scope: str = ""
    vary: str = ""
    processor: str = ""
    namespace: Namespace = "image"

    @property
    def is_original_image(self) -> bool:
        """Whether these are the bytes of an image as they came: what decoded images are made of."""
        return self.namespace == "image" and not self.processor


@dataclass(frozen=True, slots=True)
class Entry:
    """The metadata of a stored answer; written and read as JSON, covered by a checksum.

    Times are wall seconds. ``stored_until`` is ours, what HTTP calls fresh is computed from
    ``headers``, ``request_time`` and ``response_time`` when it is asked for, and never stored.
    ``checksum`` is the SHA-256 hex of the stored bytes; ``source_checksum`` that of the original body
    that a variant was made from (of an original: its own). ``lifetime`` is what an access extends
    ``stored_until`` by: seconds, ``inf`` for never, None where the date is fixed. ``vary_fields`` are the request's
    fields that the answer's Vary nominates, as they were sent; ``asked_fields`` the same as they were asked for, before
    request modifiers changed them, and None where that made no difference.
    """

    row: RowKey
    key: str
    url: str
    final_url: str
    status: int
    headers: Headers
    vary_fields: tuple[tuple[str, str], ...]
    request_time: float
    response_time: float
    validated_at: float
    stored_at: float
    stored_until: float
    lifetime: float | None
    checksum: str
    source_checksum: str
    byte_count: int
    etag: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    asked_fields: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def of(
        cls,
        url: str,
        data: bytes,
        *,
        now: float,
        expiration: StorageExpiration,
        key: str | None = None,
        etag: str | None = None,
        format: str | None = None,
    ) -> Entry:
        """The entry of bytes that came by another way than HTTP; hashes them, so large ones in a worker thread.

        ``key`` is the identity to store them under, that of the URL where it is not given.
        """
        key = key_for_url(url) if key is None else key
        checksum = checksum_of(data)
        return cls(
            row=RowKey(hash_for_key(key)),
            key=display_url(key),
            url=display_url(url),
            final_url=display_url(url),
            status=200,
            headers=Headers({} if etag is None else {"ETag": etag}),
            vary_fields=(),
            request_time=now,
            response_time=now,
            validated_at=now,
            stored_at=now,
            stored_until=expiration.stored_until(now),
            lifetime=expiration.seconds,
            checksum=checksum,
            source_checksum=checksum,
            byte_count=len(data),
            etag=etag,
            format=format,
        )


class Protection:
    """The rows of one job, which its own later rows may not push out of the disk.

    A prefetch larger than the disk limit would else end with its last half stored and every URL reported as
    stored. Other callers' rows evict by least recent use as ever. Adding is safe from any thread.
    """

    def __init__(self) -> None:
        self._rows: set[RowKey] = set()

    def add(self, row: RowKey) -> None:
        """Protect a row; the store adds what is put under this protection by itself."""
        self._rows.add(row)

    def __contains__(self, row: RowKey) -> bool:
        return row in self._rows

    def __len__(self) -> int:
        return len(self._rows)
