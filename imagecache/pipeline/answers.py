"""What an answer from the network is kept as, and what it makes out of date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..entry import Entry, Namespace, RowKey
from ..http.storing import (
    VaryFields,
    forbids_storing,
    may_store_negative,
    storable_headers,
    vary_digest,
    vary_fields,
)
from ..http.validators import etag_of, merged_headers, weaker_etag
from ..keys import display_url
from ..request import ImageRequest
from ..result import ServedFrom
from ..storage.stored import StoreResult
from .cached import Stamp
from .loaded import Decoded, Loaded
from .parts import Parts

if TYPE_CHECKING:
    import asyncio

    from ..imaging.header import ImageHeader
    from ..network.download import Download
    from ..storage.sightings import Sighting

_NO_FIELDS: VaryFields = ()
_NO_BODY = hashlib.sha256(b"").hexdigest()


class Answers:
    """Keeps answers in the tiers. Both stages of bytes, for images and for any response, make their entries here."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def entry(
        self,
        request: ImageRequest,
        scope: str,
        download: Download,
        checksum: str,
        *,
        secret: bytes,
        namespace: Namespace = "image",
        header: ImageHeader | None = None,
    ) -> Entry:
        """What is known of an answer. ``checksum`` is that of its body, ``secret`` the index's."""
        parts, received = self._parts, download.headers
        now = parts.clock.time()
        expiration = request.disk_expiration or parts.cache.disk_expiration
        sent = asked = _NO_FIELDS
        if "vary" in received:
            sent = vary_fields(download.request.headers, received, secret=secret)
            asked = vary_fields(parts.asked_headers(request), received, secret=secret)
        final_url = display_url(download.final_url)
        return Entry(
            row=RowKey(request.key_hash, scope=scope, vary=vary_digest(sent), namespace=namespace),
            key=display_url(request.key),
            url=display_url(request.url),
            # What a modifier adds to a URL is a signature more often than not, and no business of the disk.
            final_url=final_url.partition("?")[0] if download.modified else final_url,
            status=download.status,
            headers=storable_headers(received, received_at=download.response_time),
            vary_fields=sent,
            asked_fields=asked if asked != sent else None,
            request_time=download.request_time,
            response_time=download.response_time,
            validated_at=now,
            stored_at=now,
            stored_until=expiration.stored_until(now),
            lifetime=expiration.seconds,
            checksum=checksum,
            source_checksum=checksum,
            byte_count=len(download.body),
            etag=etag_of(received),
            format=header.format if header is not None else None,
            width=header.width if header is not None else None,
            height=header.height if header is not None else None,
        )

    def renewed(self, request: ImageRequest, entry: Entry, download: Download) -> Entry:
        """A stored answer after a 304, or a HEAD that speaks of it: headers merged, freshness renewed, both kinds."""
        now = self._parts.clock.time()
        expiration = request.disk_expiration or self._parts.cache.disk_expiration
        return replace(
            entry,
            headers=merged_headers(entry.headers, download.headers, received_at=download.response_time),
            etag=weaker_etag(entry.etag, etag_of(download.headers)),
            request_time=download.request_time,
            response_time=download.response_time,
            validated_at=now,
            stored_until=expiration.stored_until(now),
            lifetime=expiration.seconds,
        )

    def not_modified(self, request: ImageRequest, entry: Entry, download: Download, stamp: Stamp) -> Loaded:
        """A 304 about a stored image: bytes and pixels stay."""
        parts = self._parts
        renewed = self.renewed(request, entry, download)
        parts.counters.not_modified += 1
        stamp.entry = entry
        stored = parts.cache.disk.refresh(renewed, told=self._timed(download))
        stamp.sighting = self.sighting(renewed, stored)
        parts.renew_memory(renewed)
        return Loaded(
            renewed,
            None,
            ServedFrom.DISK,
            may_keep=True,
            stamp=stamp,
            revalidated=True,
            redirects=download.redirects,
            metrics=download.metrics,
            measured=download.metrics,
            stored=stored,
            forward_status=304,
        )

    def received(
        self,
        request: ImageRequest,
        scope: str,
        previous: Entry | None,
        download: Download,
        checksum: str,
        header: ImageHeader,
        decoded: Decoded | None,
        *,
        secret: bytes,
    ) -> Loaded:
        """A whole body that is an image: stored, unless HTTP forbids it, and all of the old bytes dropped."""
        parts = self._parts
        entry = self.entry(request, scope, download, checksum, header=header, secret=secret)
        # Servers in a cluster give other ETags to the same bytes: what is made of them stays.
        is_unchanged = previous is not None and previous.checksum == checksum
        parts.counters.downloads += 1
        # An answer to an earlier question than what is stored is its caller's, and changes nothing; nor does a
        # status that only a delegate calls a success.
        is_answer = download.status == 200 and not parts.currency.is_outrun(entry)
        may_store = is_answer and not forbids_storing(download.request.headers, download.headers)
        stored = None
        if may_store:
            parts.drop_made_of_others(entry, checksum)
            written = None if download.spool is None else download.spool.hand_over()
            stored = parts.cache.put(
                entry, download.body, protection=request.protection, written=written, told=self._timed(download)
            )
            if is_unchanged:
                parts.renew_memory(entry)
        elif is_answer:
            # The server has another answer now, and it may not be kept: the old one is outdated all the same.
            parts.drop_made_of_others(entry, None)
            if previous is not None:
                parts.cache.disk.discard(previous)
        stamp = parts.currency.stamp(request.key_hash)
        stamp.entry = entry
        return Loaded(
            entry,
            download.body,
            ServedFrom.NETWORK,
            may_keep=may_store or (is_answer and parts.rules.keep_no_store),
            stamp=stamp,
            changed=not is_unchanged,
            redirects=download.redirects,
            metrics=download.metrics,
            measured=download.metrics,
            stored=stored,
            forward_status=download.status,
            was_resumed=download.resumed_at > 0,
            decoded=decoded,
        )

    def sighting(self, entry: Entry, stored: asyncio.Future[StoreResult] | None) -> Sighting | None:
        """That of a row which was just queued; if that fails, it ceases to hold. None where it cannot be stored."""
        return None if stored is None or stored.done() else self._parts.cache.disk.sighting(entry.row.key_hash)

    def _timed(self, download: Download) -> Callable[[StoreResult], None]:
        """What measures how long storing takes, which nobody waits for: from now until it is told the end."""
        clock, counters, began = self._parts.clock, self._parts.counters, self._parts.clock.monotonic()

        def ended(_: StoreResult) -> None:
            download.metrics.store = clock.monotonic() - began
            counters.spent("store", download.metrics.store)

        return ended

    def refused(self, request: ImageRequest, scope: str, download: Download, *, secret: bytes) -> None:
        """An answer whose status is no image: its head is kept where HTTP lets it count for a while; images stay."""
        parts = self._parts
        entry = self.entry(request, scope, download, _NO_BODY, namespace="negative", secret=secret)
        if may_store_negative(download.status, download.request.headers, download.headers, entry):
            parts.cache.disk.put(entry, b"")
            for cached in parts.cache.memory.group(request.key_hash):
                if cached.entry.row.scope == scope:
                    # By HTTP, this answer stands in its place now.
                    cached.fresh_until = 0.0
