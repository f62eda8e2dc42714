"""From a request to bytes: what is stored, the decision, and the network where it must be.

``Loader.load`` is a flight by the row and the policy; where it needs the network it joins a second one, by what
goes over the wire, so that two policies that ask the same question ask it once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..clock import TimerHandle
from ..entry import Entry, RowKey
from ..errors import (
    BadStatusError,
    ConnectionFailedError,
    ImageError,
    NotInCacheError,
    PreconditionFailedError,
    TimedOutError,
    TruncatedBodyError,
)
from ..http.decision import Decision, Load, Refuse, Serve, Validate, decide
from ..http.explanation import Explanation, explain
from ..http.freshness import current_age, fresh_until, may_serve_on_error
from ..http.storing import forbids_storing
from ..http.validators import not_modified_fits
from ..imaging.decode import decode_small, options_for
from ..imaging.header import ImageHeader, read_header
from ..imaging.shared import SharedImage
from ..imaging.warm_up import is_cold, warm_up
from ..keys import checksum_of, display_url, shown_url
from ..metrics import Metrics
from ..network.priority import PriorityTicket
from ..protocols import ImageProcessor
from ..request import CachePolicy, DownloadRequest, ImageMode, ImageRequest
from ..result import ServedFrom
from ..storage.stored import StoreStatus
from .answers import Answers
from .cached import Stamp
from .early import SMALL_BODY, SMALL_COST, EarlyDecodes
from .flight import Caller, Flight, Listener
from .loaded import Decoded, Loaded, UnusableError
from .partial import Keeping, StoredParts
from .parts import Parts
from .stored import NOTHING, Found, StoredAnswers, directives_of, preconditions_of, question
from .turns import Turns

if TYPE_CHECKING:
    from ..imaging.limits import ImageLimits
    from ..network.download import Download

logger = logging.getLogger("imagecache")

LEASE_PAUSE = 0.05
"""Seconds between two looks whether another process has stored what it loads …"""
LEASE_LOOKS = 40
"""… and how many there are: in two seconds, a lease has ended, whoever holds it."""

WARM_UP_AFTER = 0.01
"""Seconds from the first request to the warming up for what comes of it. Of a nearer server it is there by then."""

CARRIED = 2**20
"""For those who want pixels: a longer body than this does not wait in memory for its turn to be decoded, if it can be
read from the disk then."""
NO_BODY = -1.0
ANY_BODY = math.inf
"""For those who want no bytes, and for those who want nothing but the bytes."""

_MAY_WAIT = (CachePolicy.CACHE_ELSE_LOAD, CachePolicy.PROTOCOL, CachePolicy.STALE_WHILE_REVALIDATE)
_NEVER_STORED = (CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)
_SERVER_FAILED = (ConnectionFailedError, TimedOutError, TruncatedBodyError, BadStatusError)


class Loader:
    """The stage that finds bytes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stored = StoredAnswers(parts)
        self._answers = Answers(parts)
        self.early = EarlyDecodes(parts, self._stored)
        self._keeping = Keeping()
        self._questions = Turns()
        self._warming: TimerHandle | None = None

    def stop(self) -> None:
        """Begin nothing by itself any more."""
        if self._warming is not None:
            self._warming.cancel()

    async def drain(self) -> None:
        """Wait until what is kept of downloads that broke off is with the disk tier."""
        await self._keeping.drain()

    async def load(self, request: ImageRequest, caller: Caller, *, up_to: float = CARRIED) -> Loaded:
        """The answer to a request. ``up_to`` is a hint: the longest body, in bytes, that may come along from the disk.

        Raises PreconditionFailedError where the answer is not the one that the call expects.
        """
        way = self._way_of(request)
        try:
            work = partial(self._load, request, up_to, way)
            loaded = await self._parts.flights.join(("bytes", request.policy, way), work, caller, about=request.about)
        except _SERVER_FAILED as error:
            # Each caller's own affair: how stale a copy may stand in is its option, and so may the failure be.
            substitute = await self._instead_of(error, request, up_to)
            if substitute is None:
                raise
            loaded = substitute
        self._check_preconditions(loaded, request)
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

    async def read_stored(self, loaded: Loaded) -> bytes | None:
        """The bytes of an answer from the disk, as long as they are still the same ones."""
        return await self._stored.read(loaded.entry)

    async def replace_unusable(self, error: UnusableError, request: ImageRequest, listener: Listener) -> Loaded:
        """An answer in place of one whose stored bytes are of no use: a plain GET, with every condition removed."""
        if request.policy is CachePolicy.CACHE_ONLY or directives_of(request).only_if_cached:
            raise NotInCacheError(error.message, url=display_url(request.url)) from error.__cause__
        scope = await self._stored.scope(request)
        way, stamp = self._way_of(request), self._stamp(request)
        loaded = await self._ask(request, way, scope, Found(), Load(), stamp, listener, is_plain=True)
        self._check_preconditions(loaded, request)
        return replace(loaded, forward="miss")

    async def explain(self, request: ImageRequest) -> Explanation:
        """What is stored for the request, and what each policy would do with it now. Asks no server."""
        found = await self._find(request, await self._stored.scope(request), up_to=NO_BODY)
        rules = self._parts.rules
        return explain(
            found.entry,
            self._parts.clock.time(),
            directives=directives_of(request),
            revalidate_after=rules.revalidate_after,
            use_validators=rules.use_etags,
        )

    def decide(
        self,
        request: ImageRequest,
        entry: Entry | None,
        now: float,
        *,
        is_vary_miss: bool = False,
        since: float | None = None,
    ) -> Decision:
        """The decision of ``http`` under this manager's rules; ``since``: an answer that came after this will do."""
        rules, preconditions = self._parts.rules, preconditions_of(request)
        if since is not None and entry is not None and entry.validated_at >= since and not request.is_particular:
            return Serve()
        decision = decide(
            request.policy,
            entry,
            now,
            directives=directives_of(request),
            revalidate_after=rules.revalidate_after,
            use_validators=rules.use_etags,
            is_vary_miss=is_vary_miss,
        )
        if not (isinstance(decision, Serve) and entry is not None and preconditions is not None):
            return decision
        if request.policy is CachePolicy.CACHE_ONLY or preconditions.fails(entry) is None:
            return decision
        # The copy is not the one expected; its server may have that one.
        return Load(forward="request")

    def may_serve(self, request: ImageRequest, entry: Entry) -> bool:
        """Whether an image in memory, made of this answer, will do for a call that asks for something particular."""
        preconditions = preconditions_of(request)
        if preconditions is not None and preconditions.fails(entry):
            return False
        return isinstance(self.decide(request, entry, self._parts.clock.time()), Serve)

    def asks_behind(self, request: ImageRequest, entry: Entry) -> bool:
        """Whether the server is asked behind an image that is served from memory."""
        decision = self.decide(request, entry, self._parts.clock.time())
        return isinstance(decision, Serve) and decision.behind

    def _way_of(self, request: ImageRequest) -> Hashable:
        """What makes two requests the same on the wire: to whom, as whom, with what, changed by whom, how patiently."""
        return (
            request.about,
            request.key_hash,
            request.partition,
            # An empty tuple is hashed without a call of ours; a key is hashed often.
            request.headers.pairs and request.headers,
            request.demands,
            self._parts.downloader.modifiers_version,
            request.max_retry_after,
        )

    async def _load(self, request: ImageRequest, up_to: float, way: Hashable, flight: Flight[Loaded]) -> Loaded:
        parts = self._parts
        stamp = self._stamp(request)
        scope = await self._stored.scope(request)
        if self._keeping.is_under_way:
            await self._keeping.settled(request.key_hash)
        asked_at, started = parts.clock.time(), parts.clock.monotonic()
        found, decision = await self._look(request, scope, up_to)
        read_time = parts.clock.monotonic() - started
        if found.decoded is not None:
            read_time = max(0.0, read_time - found.decoded.seconds)
        if request.policy is CachePolicy.PROTOCOL:
            await self._heed_refusal(request, scope, found.entry)
        may_wait = found.entry is None and isinstance(decision, Load) and request.policy in _MAY_WAIT
        if may_wait and not parts.cache.disk.is_known_alone and await self._others_load(request, scope):
            # Somebody else had the lease, and has stored it by now, unless something went wrong there.
            found, decision = await self._look(request, scope, up_to)
        if isinstance(decision, Validate | Load) and (turn := self._questions.take()) is not None:
            # What is stored, or not, is often told of many at once.
            await turn
        if not isinstance(decision, Serve) and request.policy in _MAY_WAIT and not parts.currency.is_current(stamp):
            # Others brought it while we looked: as good an answer for us as if we had joined them.
            stamp = self._stamp(request)
            found, decision = await self._look(request, scope, up_to, since=asked_at)
        match decision:
            case Refuse(reason):
                who = "CACHE_ONLY" if request.policy is CachePolicy.CACHE_ONLY else "only-if-cached"
                message = f"{reason}, and {who} never asks the network"
                raise NotInCacheError(message, url=display_url(request.url))
            case Serve(stale, behind) if found.entry is not None:
                stamp.entry, stamp.sighting = found.entry, found.sighting
                parts.counters.disk_hits += 1
                parts.cache.disk.touch(found.entry.row, request.disk_extension)
                if behind:
                    parts.refresh_behind(request)
                metrics = Metrics(disk_read=read_time)
                return Loaded(
                    found.entry, found.body, ServedFrom.DISK, may_keep=True, stamp=stamp, stale=stale, metrics=metrics,
                    decoded=found.decoded,
                )  # fmt: skip
            case Validate(_, forward) | Load(_, forward):
                wants_pixels = up_to == CARRIED
                loaded = await self._ask(request, way, scope, found, decision, stamp, flight, wants_pixels=wants_pixels)
                self._give_back_lease(loaded)
                # A copy: who asks the same question under another policy has read the disk on its own.
                metrics = loaded.metrics.copy()
                metrics.disk_read = read_time
                return loaded.asked_for(forward, metrics)
        raise AssertionError("nothing stored cannot be served")

    async def _look(
        self, request: ImageRequest, scope: str, up_to: float, *, since: float | None = None
    ) -> tuple[Found, Decision]:
        """What is stored, and what is to be done with it; what came from its server ``since`` then will do."""
        decided: list[tuple[Entry, Decision]] = []
        found = await self._find(request, scope, up_to, since=since, decided=decided)
        for entry, decision in decided:
            if entry is found.entry:
                return found, decision
        now = self._parts.clock.time()
        return found, self.decide(request, found.entry, now, is_vary_miss=found.is_vary_miss, since=since)

    async def _find(
        self,
        request: ImageRequest,
        scope: str,
        up_to: float,
        *,
        since: float | None = None,
        decided: list[tuple[Entry, Decision]] | None = None,
    ) -> Found:
        """The stored answer that the request selects, with its bytes where they will be served.

        ``decided`` is filled with what was decided about an answer to find that out.
        """
        parts, disk = self._parts, self._parts.cache.disk
        if not disk.has_looked:
            # Whoever comes first does not know yet what is lacking, and needs nothing of what follows, either.
            await disk.look()
        if disk.is_available and self._stored.are_lacking(request):
            # Most misses: nothing else of what follows is needed.
            return NOTHING
        held, now = parts.held(request), parts.clock.time()
        if held is not None and self._stored.is_seen(held, request, scope):
            return Found(held.entry)

        def needs_body(entry: Entry) -> bool:
            if entry.byte_count > up_to or (held is not None and held.checksum == entry.checksum):
                return False
            decision = self.decide(request, entry, now, since=since)
            if decided is not None:
                decided.append((entry, decision))
            return isinstance(decision, Serve)

        if up_to == CARRIED and held is None and (seat := self.early.seat_for(request)) is not None:
            return await self.early.find(request, scope, with_body=needs_body, seat=seat)
        found = await self._stored.find(request, scope, with_body=needs_body)
        if found.entry is None and held is not None and not disk.is_available:
            # Memory only: the pixels are all there is, and their validators are as good as stored ones.
            return Found(held.entry)
        return found

    async def _heed_refusal(self, request: ImageRequest, scope: str, entry: Entry | None) -> None:
        """Raise what the server answered when it was asked last, if that was a 404 or 410 that HTTP lets count yet."""
        refusal = (await self._stored.find(request, scope, namespace="negative", with_body=lambda _: False)).entry
        if refusal is None or (entry is not None and entry.response_time >= refusal.response_time):
            return
        now = self._parts.clock.time()
        if self.decide(request, refusal, now) == Serve():
            age, left = current_age(refusal, now), fresh_until(refusal) - now
            raise BadStatusError(
                f"the server answered {refusal.status} {age:.0f} s ago, which counts for {left:.0f} s more",
                url=display_url(request.url),
                status=refusal.status,
                headers=refusal.headers,
            )

    async def _instead_of(
        self, error: ConnectionFailedError | TimedOutError | TruncatedBodyError | BadStatusError,
        request: ImageRequest, up_to: float,
    ) -> Loaded | None:  # fmt: skip
        """The stored copy in place of a server that fails, where it may be (RFC 5861, 4; RFC 9111, 4.2.4)."""
        parts = self._parts
        status = error.status if isinstance(error, BadStatusError) else None
        if (status is not None and status < 500) or request.policy in _NEVER_STORED:
            return None
        found = await self._find(request, await self._stored.scope(request), up_to=NO_BODY)
        if found.entry is None or found.entry.status >= 400:
            return None
        own = request.stale_if_error if request.stale_if_error is not None else parts.rules.stale_if_error
        if not may_serve_on_error(found.entry, parts.clock.time(), directives_of(request), own):
            return None
        body = None
        if up_to > NO_BODY:
            body = await self._stored.read(found.entry)
            held = parts.held(request)
            if body is None and (held is None or held.checksum != found.entry.checksum):
                return None
        logger.debug("serving a stale copy of %s: %s", shown_url(request.url), error)
        stamp = self._stamp(request)
        stamp.entry = found.entry
        return Loaded(
            found.entry,
            body,
            ServedFrom.DISK,
            may_keep=True,
            stamp=stamp,
            stale=True,
            forward="stale",
            forward_status=status,
        )

    def _check_preconditions(self, loaded: Loaded, request: ImageRequest) -> None:
        """Not every server heeds If-Match, and none is asked about a copy that is served."""
        preconditions = preconditions_of(request)
        if preconditions is None:
            return
        entry = loaded.entry
        if reason := preconditions.fails(entry):
            raise PreconditionFailedError(reason, url=display_url(request.url), status=412, headers=entry.headers)

    def _give_back_lease(self, loaded: Loaded) -> None:
        """Let others look again: at once if nothing is stored, else when it is. A failure's lease ends by itself."""
        disk = self._parts.cache.disk
        if not disk.has_company:
            return
        row = RowKey(loaded.entry.row.key_hash, scope=loaded.entry.row.scope)
        if loaded.stored is None:
            disk.release(row)
        else:
            loaded.stored.add_done_callback(lambda _: disk.release(row))

    async def _others_load(self, request: ImageRequest, scope: str) -> bool:
        """Wait a moment if another process loads the same image just now; whether it has come by that."""
        disk = self._parts.cache.disk
        row = RowKey(request.key_hash, scope=scope)
        clock = self._parts.clock
        deadline = clock.monotonic() + LEASE_PAUSE * LEASE_LOOKS
        for _ in range(LEASE_LOOKS):
            if await disk.lease(row):
                # Whoever had it before may have stored the image and given it back since we looked.
                is_there = disk.has_company and await self._is_there(request, scope)
                if is_there:
                    disk.release(row)
                return is_there
            if clock.monotonic() >= deadline:
                # Looking took its time, too.
                break
            await asyncio.sleep(LEASE_PAUSE)
            if await self._is_there(request, scope):
                return True
        return False

    async def _is_there(self, request: ImageRequest, scope: str) -> bool:
        return (await self._find(request, scope, up_to=NO_BODY)).entry is not None

    async def _ask(
        self,
        request: ImageRequest,
        way: Hashable,
        scope: str,
        found: Found,
        decision: Validate | Load,
        stamp: Stamp,
        listener: Listener,
        *,
        is_plain: bool = False,
        wants_pixels: bool = False,
    ) -> Loaded:
        asked, entry = question(request, decision.fields), found.entry
        basis = (entry.checksum, entry.etag) if entry is not None else None
        key = ("network", scope, asked.headers.pairs and asked.headers, basis, is_plain, way)
        work = partial(self._fetch, request, scope, found, asked, stamp, is_plain, wants_pixels)
        return await self._parts.flights.join(key, work, listener, about=request.about)

    async def _fetch(
        self,
        request: ImageRequest,
        scope: str,
        found: Found,
        asked: DownloadRequest,
        stamp: Stamp,
        is_plain: bool,
        wants_pixels: bool,
        flight: Flight[Loaded],
    ) -> Loaded:
        """One question to the server, and a second, plain one if a 304 speaks of nothing that is stored."""
        if wants_pixels and self._warming is None and is_cold():
            self._warming = self._warm_up_soon()
        entry = found.entry
        beginnings = StoredParts(self._parts, self._keeping, request, scope, stamp, found.beginnings)
        download = await self._download(request, scope, asked, flight, beginnings, strip_conditions=is_plain)
        if download.status == 304:
            sent, received = download.request.headers, download.headers
            # One that forbids from now on to keep what it speaks of leaves nothing to serve it from, either.
            fits = (
                entry is not None and not_modified_fits(entry, sent, received) and not forbids_storing(sent, received)
            )
            if entry is not None and fits:
                beginnings.finish()
                return self._answers.not_modified(request, entry, download, stamp)
            download = await self._download(request, scope, asked, flight, beginnings, strip_conditions=True)
        try:
            loaded = await self._received(request, scope, entry, download, beginnings, wants_pixels=wants_pixels)
        except ImageError:
            beginnings.forget()
            if not download.resumed_at:
                raise
            # Whoever vouched for it: beginning and rest make no image.
            download = await self._download(request, scope, asked, flight, beginnings, strip_conditions=True)
            loaded = await self._received(request, scope, entry, download, beginnings)
        # What replaces stored bytes that were of no use is not to be read from there again.
        return loaded if is_plain else await self._put_down(loaded)

    def _warm_up_soon(self) -> TimerHandle:
        parts = self._parts

        def warm_up_now() -> None:
            if is_cold():
                parts.flights.start(parts.workers.run(warm_up))

        return parts.deadlines.call_at(parts.clock.monotonic() + WARM_UP_AFTER, warm_up_now)

    async def _received(
        self,
        request: ImageRequest,
        scope: str,
        previous: Entry | None,
        download: Download,
        beginnings: StoredParts,
        *,
        wants_pixels: bool = False,
    ) -> Loaded:
        """A whole body, looked at; raises ImageError if it is no image that may be decoded."""
        parts, url, limits = self._parts, display_url(request.url), self._parts.rules.limits
        decoded = None
        try:
            is_light = len(download.body) <= SMALL_BODY
            is_small = is_light and wants_pixels and parts.workers.has_room(SMALL_COST)
            # Who has pixels already most likely has these.
            if is_small and parts.held(request) is None:
                checksum, header, decoded = await parts.workers.run(
                    _inspect_and_decode, download.body, limits, url, request.processors, request.mode, cost=SMALL_COST
                )
                if decoded is not None:
                    parts.counters.decodes += 1
                    parts.counters.spent("decode", decoded.seconds)
            else:
                # Nobody's pixels, and soon hashed: while others wait for a connection, more of its kind are on the way.
                may_wait = is_light and not wants_pixels and parts.downloader.waiting > 0
                checksum, header = await parts.workers.run(_inspect, download.body, limits, url, may_wait=may_wait)
            beginnings.finish()
            # Not before, and only if it is needed: the first download into a new folder goes on while that is made.
            secret = await parts.cache.disk.secret() if "vary" in download.headers else b""
            loaded = self._answers.received(
                request, scope, previous, download, checksum, header, decoded, secret=secret
            )
            if wants_pixels:
                # They are kept in memory, and asked about again.
                loaded.stamp.sighting = self._answers.sighting(loaded.entry, loaded.stored)
            return loaded
        finally:
            if download.spool is not None:
                # Unless it was handed over.
                download.spool.discard()

    async def _put_down(self, loaded: Loaded) -> Loaded:
        """The same answer without its bytes, if they are long, would have to wait, and are stored by now."""
        if loaded.stored is None or loaded.entry.byte_count <= CARRIED or not self._parts.workers.is_busy:
            return loaded
        # Not awaited itself: whoever leaves meanwhile must not cancel it for others.
        await asyncio.wait([loaded.stored])
        if loaded.stored.cancelled() or loaded.stored.result().status is not StoreStatus.STORED:
            return loaded
        return replace(loaded, body=None)

    async def _download(
        self,
        request: ImageRequest,
        scope: str,
        asked: DownloadRequest,
        flight: Flight[Loaded],
        beginnings: StoredParts,
        *,
        strip_conditions: bool,
    ) -> Download:
        parts, refused = self._parts, list["Download"]()
        parts.counters.requests += 1
        ticket = PriorityTicket()
        flight.follow_priority(lambda priority: setattr(ticket, "priority", priority))
        try:
            download = await parts.downloader.download(
                asked,
                strip_conditions=strip_conditions,
                priority=ticket,
                progress=flight.progress,
                on_start=flight.network_started,
                on_refused=refused.append,
                total=None,
                max_retry_after=request.max_retry_after,
                parts=beginnings,
            )
        except BadStatusError as error:
            if error.status == 412:
                message = "what the server has is not what the call expects (412)"
                raise PreconditionFailedError(message, url=error.url, status=412, headers=error.headers) from error
            if refused:
                self._answers.refused(request, scope, refused[-1], secret=await parts.cache.disk.secret())
            raise
        parts.counters.downloaded(download.metrics)
        return download

    def _stamp(self, request: ImageRequest) -> Stamp:
        return self._parts.currency.stamp(request.key_hash)

    def _with_longest_expiration(self, loaded: Loaded, request: ImageRequest) -> Loaded:
        """Of those who waited for the same bytes, whoever wants them kept longest has its way."""
        if not loaded.may_keep or loaded.stored is None:
            return loaded
        expiration = request.disk_expiration or self._parts.cache.disk_expiration
        until = expiration.stored_until(loaded.entry.validated_at)
        if until <= loaded.entry.stored_until:
            return loaded
        entry = replace(loaded.entry, stored_until=until, lifetime=expiration.seconds)
        self._parts.cache.disk.refresh(entry)
        return replace(loaded, entry=entry)


def _inspect(body: bytes, limits: ImageLimits, url: str) -> tuple[str, ImageHeader]:
    """In a worker: what the body is, refused if it is no image that may be decoded, and its checksum."""
    header = read_header(body, limits=limits, url=url)
    return checksum_of(body), header


def _inspect_and_decode(
    body: bytes, limits: ImageLimits, url: str, processors: Sequence[ImageProcessor], mode: ImageMode
) -> tuple[str, ImageHeader, Decoded | None]:
    """The same, and the pixels that a call with these options begins with, if they are few."""
    started = time.perf_counter()
    options = options_for(processors, mode)
    header, image = decode_small(body, options=options, most=SMALL_COST, limits=limits, url=url)
    checksum = checksum_of(body)
    if image is None:
        return checksum, header, None
    shared = SharedImage(image, is_alone=True)
    return checksum, header, Decoded(options.identifier, shared, time.perf_counter() - started)
