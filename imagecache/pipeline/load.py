"""From a request to bytes: what is stored, the decision, and the network where it must be.

``Loader.load`` is a flight by the row and the policy; where it needs the network it joins a second one, by what
goes over the wire, so that two policies that ask the same question ask it once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..entry import Entry, RowKey
from ..errors import ImageCacheError, NotInCacheError
from ..headers import Headers
from ..http.decision import Decision, Load, Refuse, Serve, Validate, decide
from ..http.storing import forbids_storing, select, storable_headers, vary_digest, vary_fields
from ..http.validators import etag_of, merged_headers, not_modified_fits
from ..keys import display_url, is_scoped, scope_for
from ..metrics import Metrics
from ..network.priority import PriorityTicket
from ..protocols import Redirect, ResponseInfo
from ..request import CachePolicy, DownloadRequest, ImageRequest
from ..result import ServedFrom
from .cached import Stamp
from .flight import Caller, Flight, Listener
from .parts import Parts

if TYPE_CHECKING:
    from ..imaging.header import ImageHeader
    from ..imaging.limits import ImageLimits
    from ..network.download import Download
    from ..storage.stored import StoreResult

LEASE_PAUSE = 0.05
"""Seconds between two looks whether another process has stored what it loads …"""
LEASE_LOOKS = 40
"""… and how many there are: in two seconds, a lease has ended, whoever holds it."""

_MAY_WAIT = (CachePolicy.CACHE_ELSE_LOAD, CachePolicy.PROTOCOL, CachePolicy.STALE_WHILE_REVALIDATE)


class UnusableError(ImageCacheError):
    """Between the stages only: stored bytes are gone or do not decode. Each who waited loads anew on its own behalf."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Bytes that are the answer to a request, and how they were come by.

    ``body`` is None where nobody has needed the bytes yet: :meth:`Loader.with_body` brings them.
    ``may_keep`` is False for a no-store answer. ``stored`` tells what became of storing it.
    """

    entry: Entry
    body: bytes | None
    served_from: ServedFrom
    may_keep: bool
    stamp: Stamp
    revalidated: bool = False
    changed: bool = False
    stale: bool = False
    redirects: tuple[Redirect, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    stored: asyncio.Future[StoreResult] | None = None

    @property
    def response(self) -> ResponseInfo:
        """The head of the answer, for delegates."""
        return ResponseInfo(self.entry.url, self.entry.status, self.entry.headers)


class Loader:
    """The stage that finds bytes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def load(self, request: ImageRequest, caller: Caller, *, wants_body: bool = True) -> Loaded:
        """The answer to a request. ``wants_body`` is a hint: False spares a disk read where it may."""
        key = ("bytes", request.policy, *self._way_of(request))
        loaded = await self._parts.flights.join(key, partial(self._load, request, wants_body), caller)
        return self._with_longest_expiration(loaded, request)

    async def with_body(self, loaded: Loaded, request: ImageRequest, listener: Listener) -> Loaded:
        """The same answer with its bytes; if they have gone meanwhile, from one plain GET."""
        if loaded.body is not None:
            return loaded
        body = await self.stored_body(loaded, listener)
        if body is not None:
            return replace(loaded, body=body)
        return await self.replace_unusable(UnusableError("the stored bytes have gone"), request, listener)

    async def stored_body(self, loaded: Loaded, listener: Listener) -> bytes | None:
        """The bytes of an answer from the disk, read once for all who ask; None if they have gone."""
        key = ("body", loaded.entry.row, loaded.entry.checksum)
        return await self._parts.flights.join(key, lambda _: self.read_stored(loaded), listener)

    async def replace_unusable(self, error: UnusableError, request: ImageRequest, listener: Listener) -> Loaded:
        """An answer in place of one whose stored bytes are of no use: a plain GET, with every condition removed."""
        if request.policy is CachePolicy.CACHE_ONLY:
            raise NotInCacheError(error.message, url=display_url(request.url)) from error.__cause__
        scope = await self.scope(request)
        return await self._ask(request, scope, None, {}, self._stamp(request), listener, is_plain=True)

    def _way_of(self, request: ImageRequest) -> tuple[Hashable, ...]:
        """What makes two requests the same on the wire: to whom, as whom, with what, changed by whom, how patiently."""
        modifiers = self._parts.downloader.modifiers_version
        return (
            request.url,
            request.key_hash,
            request.partition,
            request.headers,
            modifiers,
            request.max_retry_after,
        )

    async def scope(self, request: ImageRequest) -> str:
        """Whose copy the request may use; "" for everybody's."""
        if not is_scoped(request.url, request.headers, request.partition):
            return ""
        secret = await self._parts.cache.disk.secret()
        return scope_for(request.url, request.headers, request.partition, secret)

    async def read_stored(self, loaded: Loaded) -> bytes | None:
        """The bytes of an answer from the disk, as long as they are still the same ones."""
        row, checksum = loaded.entry.row, loaded.entry.checksum
        stored = await self._parts.cache.disk.load(
            row.key_hash,
            key=loaded.entry.key,
            scope=row.scope,
            choose=lambda entries: next((e for e in entries if e.row == row and e.checksum == checksum), None),
        )
        return stored.body if stored is not None else None

    def decide(self, request: ImageRequest, entry: Entry | None, now: float) -> Decision:
        """The decision of ``http`` under this manager's rules."""
        rules = self._parts.rules
        return decide(
            request.policy, entry, now, revalidate_after=rules.revalidate_after, use_validators=rules.use_etags
        )

    async def _load(self, request: ImageRequest, wants_body: bool, flight: Flight[Loaded]) -> Loaded:
        parts = self._parts
        stamp = self._stamp(request)
        scope = await self.scope(request)
        started = parts.clock.monotonic()
        entry, body = await self._stored(request, scope, wants_body)
        metrics = Metrics(disk_read=parts.clock.monotonic() - started)
        now = parts.clock.time()
        if entry is None and request.policy in _MAY_WAIT and await self._others_load(request, scope):
            # Somebody else had the lease, and has stored it by now, unless something went wrong there.
            entry, body = await self._stored(request, scope, wants_body)
        match self.decide(request, entry, now):
            case Refuse(reason):
                raise NotInCacheError(f"{reason}, and CACHE_ONLY never asks the network", url=display_url(request.url))
            case Serve(stale, behind) if entry is not None:
                stamp.entry = entry
                parts.counters.disk_hits += 1
                parts.cache.disk.touch(entry.row)
                if behind:
                    parts.refresh_behind(request)
                return Loaded(entry, body, ServedFrom.DISK, may_keep=True, stamp=stamp, stale=stale, metrics=metrics)
            case Validate(fields) | Load(fields):
                loaded = await self._ask(request, scope, entry, fields, stamp, flight)
                self._give_back_lease(loaded)
                return loaded
        raise AssertionError("nothing stored cannot be served")

    def _give_back_lease(self, loaded: Loaded) -> None:
        """Let others look again: at once if nothing is stored, else when it is. A failure's lease ends by itself."""
        disk, row = self._parts.cache.disk, RowKey(loaded.entry.row.key_hash, scope=loaded.entry.row.scope)
        if loaded.stored is None:
            disk.release(row)
        else:
            loaded.stored.add_done_callback(lambda _: disk.release(row))

    async def _others_load(self, request: ImageRequest, scope: str) -> bool:
        """Wait a moment if another process loads the same image just now; whether it has come by that."""
        disk = self._parts.cache.disk
        row = RowKey(request.key_hash, scope=scope)
        for _ in range(LEASE_LOOKS):
            if await disk.lease(row):
                return False
            await asyncio.sleep(LEASE_PAUSE)
            stored, _body = await self._stored(request, scope, wants_body=False)
            if stored is not None:
                return True
        return False

    async def _stored(self, request: ImageRequest, scope: str, wants_body: bool) -> tuple[Entry | None, bytes | None]:
        """The stored answer that the request selects, with its bytes where they will be served."""
        parts = self._parts
        sent = parts.rules.default_headers.updated(request.headers)
        held = parts.held(request)
        now = parts.clock.time()

        def needs_body(entry: Entry) -> bool:
            if not wants_body or (held is not None and held.checksum == entry.checksum):
                return False
            return isinstance(self.decide(request, entry, now), Serve)

        stored = await parts.cache.disk.load(
            request.key_hash,
            key=display_url(request.key),
            scope=scope,
            choose=lambda entries: select(entries, sent),
            with_body=needs_body,
        )
        if stored is not None:
            return stored.entry, stored.body
        if held is not None and not parts.cache.disk.is_available:
            # Memory only: the pixels are all there is, and their validators are as good as stored ones.
            return held.entry, None
        return None, None

    async def _ask(
        self,
        request: ImageRequest,
        scope: str,
        entry: Entry | None,
        fields: Mapping[str, str],
        stamp: Stamp,
        listener: Listener,
        *,
        is_plain: bool = False,
    ) -> Loaded:
        headers = Headers(fields).updated(request.headers)
        basis = (entry.checksum, entry.etag) if entry is not None else None
        key = ("network", scope, headers, basis, is_plain, *self._way_of(request))
        work = partial(self._fetch, request, scope, entry, headers, stamp, is_plain)
        return await self._parts.flights.join(key, work, listener)

    async def _fetch(
        self,
        request: ImageRequest,
        scope: str,
        entry: Entry | None,
        headers: Headers,
        stamp: Stamp,
        is_plain: bool,
        flight: Flight[Loaded],
    ) -> Loaded:
        """One question to the server, and a second, plain one if a 304 speaks of nothing that is stored."""
        parts = self._parts
        download = await self._download(request, headers, flight, strip_conditions=is_plain)
        if download.status == 304:
            sent, received = download.request.headers, download.headers
            # One that forbids from now on to keep what it speaks of leaves nothing to serve it from, either.
            fits = (
                entry is not None and not_modified_fits(entry, sent, received) and not forbids_storing(sent, received)
            )
            if entry is not None and fits:
                return self._not_modified(request, entry, download, stamp)
            download = await self._download(request, headers, flight, strip_conditions=True)
        checksum, header = await parts.workers.run(
            _inspect, download.body, parts.rules.limits, display_url(request.url)
        )
        return self._received(request, scope, entry, download, checksum, header)

    async def _download(
        self, request: ImageRequest, headers: Headers, flight: Flight[Loaded], *, strip_conditions: bool
    ) -> Download:
        parts = self._parts
        parts.counters.requests += 1
        ticket = PriorityTicket()
        flight.follow_priority(lambda priority: setattr(ticket, "priority", priority))
        download = await parts.downloader.download(
            DownloadRequest(request.url, headers),
            strip_conditions=strip_conditions,
            priority=ticket,
            progress=flight.progress,
            on_start=flight.network_started,
            total=None,
            max_retry_after=request.max_retry_after,
        )
        parts.counters.bytes_received += download.bytes_received
        return download

    def _not_modified(self, request: ImageRequest, entry: Entry, download: Download, stamp: Stamp) -> Loaded:
        """A 304: the headers are merged, freshness and storage expiration renewed; bytes and pixels stay."""
        parts = self._parts
        now = parts.clock.time()
        headers = merged_headers(entry.headers, download.headers)
        expiration = request.disk_expiration or parts.rules.disk_expiration
        renewed = replace(
            entry,
            headers=headers,
            etag=etag_of(download.headers) or entry.etag,
            request_time=download.request_time,
            response_time=download.response_time,
            validated_at=now,
            stored_until=expiration.stored_until(now),
            lifetime=expiration.seconds,
        )
        parts.counters.not_modified += 1
        stamp.entry = entry
        stored = parts.cache.disk.refresh(renewed)
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
            stored=stored,
        )

    def _received(
        self,
        request: ImageRequest,
        scope: str,
        previous: Entry | None,
        download: Download,
        checksum: str,
        header: ImageHeader,
    ) -> Loaded:
        """A whole body that is an image: stored, unless HTTP forbids it, and all of the old bytes dropped."""
        parts = self._parts
        entry = self._entry(request, scope, download, checksum, header)
        # Servers in a cluster give other ETags to the same bytes: what is made of them stays.
        is_unchanged = previous is not None and previous.checksum == checksum
        may_store = download.status == 200 and not forbids_storing(download.request.headers, download.headers)
        stored = None
        parts.counters.downloads += 1
        if may_store and parts.currency.is_outrun(entry):
            # A later question was answered sooner: this answer is its caller's, and older than what is stored.
            may_store = False
        elif may_store:
            parts.drop_made_of_others(entry, checksum)
            stored = parts.cache.put(entry, download.body, protection=request.protection)
            if is_unchanged:
                parts.renew_memory(entry)
        elif download.status == 200:
            # The server has another answer now, and it may not be kept: the old one is outdated all the same.
            parts.drop_made_of_others(entry, None)
            if previous is not None:
                parts.cache.disk.discard(previous)
        stamp = self._stamp(request)
        stamp.entry = entry
        return Loaded(
            entry,
            download.body,
            ServedFrom.NETWORK,
            may_keep=may_store or parts.rules.keep_no_store,
            stamp=stamp,
            changed=not is_unchanged,
            redirects=download.redirects,
            metrics=download.metrics,
            stored=stored,
        )

    def _entry(
        self, request: ImageRequest, scope: str, download: Download, checksum: str, header: ImageHeader
    ) -> Entry:
        now = self._parts.clock.time()
        expiration = request.disk_expiration or self._parts.rules.disk_expiration
        # As selection will see the next request: before the modifiers.
        sent = self._parts.rules.default_headers.updated(request.headers)
        fields = vary_fields(sent, download.headers)
        final_url = display_url(download.final_url)
        return Entry(
            row=RowKey(request.key_hash, scope=scope, vary=vary_digest(fields)),
            key=display_url(request.key),
            url=display_url(request.url),
            # What a modifier adds to a URL is a signature more often than not, and no business of the disk.
            final_url=final_url.partition("?")[0] if download.modified else final_url,
            status=download.status,
            headers=storable_headers(download.headers),
            vary_fields=fields,
            request_time=download.request_time,
            response_time=download.response_time,
            validated_at=now,
            stored_at=now,
            stored_until=expiration.stored_until(now),
            lifetime=expiration.seconds,
            checksum=checksum,
            source_checksum=checksum,
            byte_count=len(download.body),
            etag=etag_of(download.headers),
            format=header.format,
            width=header.width,
            height=header.height,
        )

    def _stamp(self, request: ImageRequest) -> Stamp:
        return self._parts.currency.stamp(request.key_hash)

    def _with_longest_expiration(self, loaded: Loaded, request: ImageRequest) -> Loaded:
        """Of those who waited for the same bytes, whoever wants them kept longest has its way."""
        if not loaded.may_keep or loaded.stored is None:
            return loaded
        expiration = request.disk_expiration or self._parts.rules.disk_expiration
        until = expiration.stored_until(loaded.entry.validated_at)
        if until <= loaded.entry.stored_until:
            return loaded
        entry = replace(loaded.entry, stored_until=until, lifetime=expiration.seconds)
        self._parts.cache.disk.refresh(entry)
        return replace(loaded, entry=entry)


def _inspect(body: bytes, limits: ImageLimits, url: str) -> tuple[str, ImageHeader]:
    """In a worker: what the body is, refused if it is no image that may be decoded, and its checksum."""
    from ..imaging.header import read_header

    header = read_header(body, limits=limits, url=url)
    return hashlib.sha256(body).hexdigest(), header
