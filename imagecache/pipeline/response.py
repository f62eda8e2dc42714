"""``fetch_response``: the HTTP cache itself. Any status, any media type, no decoding; rows of their own namespace."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from ..entry import Entry, RowKey
from ..errors import ImageCacheError, NotInCacheError
from ..headers import Headers
from ..http.decision import Load, Refuse, Serve, Validate, decide
from ..http.freshness import current_age, is_fresh
from ..http.storing import forbids_storing, may_store_response, select, storable_headers, vary_digest, vary_fields
from ..http.validators import etag_of, is_conditional, merged_headers, not_modified_fits
from ..keys import display_url, is_scoped, scope_for
from ..network.download import Download
from ..network.priority import PriorityTicket
from ..request import CachePolicy, DownloadRequest, FetchOptions, ImageRequest, ResponseOptions
from ..result import CachedResponse, ServedFrom
from .flight import Caller, Flight
from .parts import Parts

logger = logging.getLogger("imagecache")


@dataclass(frozen=True, slots=True)
class Question:
    """One call of ``fetch_response``, checked."""

    request: ImageRequest
    method: Literal["GET", "HEAD"]
    follow_redirects: bool
    retry: bool
    scope: str = ""

    def row(self, vary: str) -> RowKey:
        """Where the answer is stored."""
        return RowKey(self.request.key_hash, self.scope, vary, namespace="response")


def question_for(
    url: str, options: ResponseOptions, request_for: Callable[[str, FetchOptions], ImageRequest]
) -> Question:
    """The question that a call means. Raises as :func:`.options.request_for` does."""
    if unknown := options.keys() - ResponseOptions.__annotations__.keys():
        known = ", ".join(sorted(ResponseOptions.__annotations__))
        raise TypeError(f"fetch_response has no option {', '.join(sorted(unknown))}; there are {known}")
    method = options.get("method", "GET")
    if method not in ("GET", "HEAD"):
        raise ValueError(f"fetch_response sends GET or HEAD, not {method!r}")
    fetch = FetchOptions(
        policy=options.get("policy", CachePolicy.PROTOCOL),
        headers=options.get("headers") or {},
        partition=options.get("partition", ""),
    )
    if "timeout" in options:
        fetch["timeout"] = options["timeout"]
    request = request_for(url, fetch)
    return Question(request, method, options.get("follow_redirects", False), options.get("retry", False))


class ResponseStage:
    """The stage behind ``ImageManager.fetch_response``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def fetch(self, question: Question, caller: Caller) -> CachedResponse:
        """The answer, from the cache where the policy allows it. HEAD and requests with conditions pass through."""
        request = question.request
        scope = await self._scope(request)
        if question.follow_redirects:
            # What stands at the end of redirects is not the answer of the URL itself.
            scope += "+redirects"
        question = replace(question, scope=scope)
        way = (question.method, question.follow_redirects, question.retry)
        key = ("response", *way, request.url, request.partition, request.headers, request.policy)
        return await self._parts.flights.join(key, partial(self._answer, question), caller)

    async def _scope(self, request: ImageRequest) -> str:
        if not is_scoped(request.url, request.headers, request.partition):
            return ""
        return scope_for(request.url, request.headers, request.partition, await self._parts.cache.disk.secret())

    async def _answer(self, question: Question, flight: Flight[CachedResponse]) -> CachedResponse:
        parts, request = self._parts, question.request
        if question.method != "GET" or is_conditional(request.headers) or "range" in request.headers:
            # The caller's own condition or range is answered by the origin, and its answer is not the whole one.
            download = await self._download(question, {}, flight)
            return _response(download.status, download.headers, download.body, download, ServedFrom.NETWORK)
        sent = parts.rules.default_headers.updated(request.headers)
        stored = await parts.cache.disk.load(
            request.key_hash,
            key=display_url(request.key),
            scope=question.scope,
            namespace="response",
            choose=lambda entries: select(entries, sent),
        )
        entry = stored.entry if stored is not None else None
        now = parts.clock.time()
        match decide(request.policy, entry, now, use_validators=parts.rules.use_etags):
            case Refuse(reason):
                raise NotInCacheError(reason, url=display_url(request.url))
            case Serve(stale, behind) if stored is not None and stored.body is not None:
                parts.cache.disk.touch(stored.entry.row)
                if behind:
                    parts.flights.start(self._refresh(question))
                return self._from_cache(stored.entry, stored.body, now, stale=stale)
            case Validate(fields) | Load(fields):
                download = await self._download(question, fields, flight)
                if download.status == 304 and stored is not None and stored.body is not None:
                    if not_modified_fits(stored.entry, download.request.headers, download.headers):
                        return self._not_modified(stored.entry, stored.body, download)
                    download = await self._download(question, {}, flight, strip_conditions=True)
                return await self._received(question, entry, download)
        raise NotInCacheError("what was stored has gone", url=display_url(request.url))

    async def _refresh(self, question: Question) -> None:
        behind = replace(question, request=replace(question.request, policy=CachePolicy.REVALIDATE))
        url = display_url(question.request.url)
        caller = Caller(self._parts.clock, timeout=question.request.timeout, url=url)
        key = ("response behind", question.request.url, question.request.headers, question.scope)
        try:
            await self._parts.flights.join(key, partial(self._answer, behind), caller)
        except ImageCacheError as error:
            logger.debug("revalidating %s behind failed: %s", url, error)

    async def _download(
        self,
        question: Question,
        fields: Mapping[str, str],
        flight: Flight[CachedResponse],
        *,
        strip_conditions: bool = False,
    ) -> Download:
        request = question.request
        self._parts.counters.requests += 1
        ticket = PriorityTicket()
        flight.follow_priority(lambda priority: setattr(ticket, "priority", priority))
        return await self._parts.downloader.download(
            DownloadRequest(request.url, Headers(fields).updated(request.headers), question.method),
            strip_conditions=strip_conditions,
            follow_redirects=question.follow_redirects,
            any_status=True,
            retry=question.retry,
            decode_body=False,
            priority=ticket,
            on_start=flight.network_started,
            total=None,
        )

    def _not_modified(self, entry: Entry, body: bytes, download: Download) -> CachedResponse:
        now = self._parts.clock.time()
        headers = merged_headers(entry.headers, download.headers)
        expiration = self._parts.rules.disk_expiration
        renewed = replace(
            entry,
            headers=headers,
            etag=etag_of(headers),
            request_time=download.request_time,
            response_time=download.response_time,
            validated_at=now,
            stored_until=expiration.stored_until(now),
        )
        self._parts.cache.disk.refresh(renewed)
        return self._from_cache(renewed, body, now, revalidated=True)

    async def _received(self, question: Question, previous: Entry | None, download: Download) -> CachedResponse:
        parts, request = self._parts, question.request
        checksum = await parts.workers.run(_checksum, download.body)
        now = parts.clock.time()
        expiration = parts.rules.disk_expiration
        fields = vary_fields(download.request.headers, download.headers)
        entry = Entry(
            row=question.row(vary_digest(fields)),
            key=display_url(request.key),
            url=display_url(request.url),
            final_url=display_url(download.final_url),
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
        )
        if may_store_response(question.method, download.status, download.request.headers, download.headers, entry):
            parts.cache.put(entry, download.body)
        elif previous is not None and forbids_storing(download.request.headers, download.headers):
            parts.cache.disk.discard(previous)
        return _response(download.status, download.headers, download.body, download, ServedFrom.NETWORK)

    def _from_cache(
        self, entry: Entry, body: bytes, now: float, *, stale: bool = False, revalidated: bool = False
    ) -> CachedResponse:
        # RFC 9111, 4: an answer from a cache tells its age.
        headers = entry.headers.updated({"Age": str(int(current_age(entry, now)))})
        return CachedResponse(
            url=entry.url,
            final_url=entry.final_url,
            status=entry.status,
            headers=headers,
            body=body,
            served_from=ServedFrom.DISK,
            revalidated=revalidated,
            stale=stale and not is_fresh(entry, now),
        )


def _response(status: int, headers: Headers, body: bytes, download: Download, source: ServedFrom) -> CachedResponse:
    return CachedResponse(
        url=display_url(download.url),
        final_url=display_url(download.final_url),
        status=status,
        headers=headers,
        body=body,
        served_from=source,
    )


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
