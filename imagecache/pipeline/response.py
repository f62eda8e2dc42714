"""``fetch_response``: the HTTP cache itself. Any status, any media type, no decoding; rows of their own namespace."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from ..cache_status import CacheStatus, Forward
from ..entry import Entry, Namespace, RowKey
from ..errors import ConnectionFailedError, ImageCacheError, NotInCacheError, TimedOutError, TruncatedBodyError
from ..headers import Headers
from ..http.conditions import answer_condition, not_modified_response_headers
from ..http.decision import Load, Refuse, Serve, Validate, decide
from ..http.freshness import current_age, fresh_for, may_serve_on_error
from ..http.ranges import content_range, if_range_holds, part_of, single_range, within_part
from ..http.storing import forbids_storing, may_store_part, may_store_response
from ..http.validators import head_effect, not_modified_fits
from ..keys import checksum_of, display_url, shown_url
from ..network.download import Download
from ..network.priority import PriorityTicket
from ..request import CachePolicy, FetchOptions, ImageRequest, ResponseOptions
from ..result import CachedResponse, ServedFrom
from .answers import Answers
from .flight import Caller, Flight
from .parts import Parts
from .results import whole_seconds
from .stored import Found, StoredAnswers, directives_of, question

logger = logging.getLogger("imagecache")

REMEMBERED_COOKIES = 1024
"""Answers whose Set-Cookie lines are remembered."""

_OWN_CONDITIONS = ("if-none-match", "if-modified-since")
_FOR_THE_ORIGIN = ("if-match", "if-unmodified-since")
"""Conditions on what the origin has now, which no stored copy can answer (RFC 9110, 13.1.1 and 13.1.4)."""
_SERVER_FAILED = (ConnectionFailedError, TimedOutError, TruncatedBodyError)


@dataclass(frozen=True, slots=True)
class Question:
    """One call of ``fetch_response``, checked."""

    request: ImageRequest
    method: Literal["GET", "HEAD"]
    follow_redirects: bool
    retry: bool
    scope: str = ""


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
        self._stored = StoredAnswers(parts)
        self._answers = Answers(parts)
        self._cookies: OrderedDict[RowKey, list[str]] = OrderedDict()
        """The Set-Cookie lines of stored answers (3.1 has a cache keep them): in memory only, never on disk."""

    async def fetch(self, asked: Question, caller: Caller) -> CachedResponse:
        """The answer, from the cache where the policy allows it."""
        request = asked.request
        scope = await self._stored.scope(request)
        if asked.follow_redirects:
            # What stands at the end of redirects is not the answer of the URL itself.
            scope += "+redirects"
        asked = replace(asked, scope=scope)
        way = (asked.method, asked.follow_redirects, asked.retry, self._parts.downloader.modifiers_version)
        key = ("response", *way, request.url, request.partition, request.headers, request.policy)
        work = partial(self._answer, asked)
        answer: CachedResponse = await self._parts.flights.join(key, work, caller, about=request.about)
        if caller.has_joined_others:
            answer = replace(answer, cache_status=replace(answer.cache_status, collapsed=not answer.cache_status.hit))
        return answer

    async def _answer(self, asked: Question, flight: Flight[CachedResponse]) -> CachedResponse:
        parts, request = self._parts, asked.request
        if any(name in request.headers for name in _FOR_THE_ORIGIN):
            return await self._ask(asked, Found(), Load(forward="bypass"), flight)
        found = await self._stored.find(
            request, asked.scope, namespace="response", with_body=lambda _: asked.method == "GET"
        )
        now, directives = parts.clock.time(), directives_of(request)
        decision = decide(
            request.policy,
            found.entry,
            now,
            directives=directives,
            use_validators=parts.rules.use_etags,
            is_vary_miss=found.is_vary_miss,
        )
        match decision:
            case Refuse(reason):
                if directives.only_if_cached:
                    return _gateway_timeout(request, reason)
                raise NotInCacheError(reason, url=display_url(request.url))
            case Serve(stale, behind) if found.entry is not None:
                served = self._serve(asked, found.entry, found.body or b"", stale=stale)
                if served is not None:
                    parts.cache.disk.touch(found.entry.row)
                    if behind:
                        parts.flights.start(self._refresh(asked))
                    return served
                return await self._ask(asked, found, Load(forward="partial"), flight)
            case Validate() | Load():
                part = await self._part(asked) if found.entry is None else None
                return part or await self._ask(asked, found, decision, flight)
        raise AssertionError("nothing stored cannot be served")

    async def _part(self, asked: Question) -> CachedResponse | None:
        """A part of an answer from a stored part that holds it; parts are never put together."""
        parts, request = self._parts, asked.request
        wanted = request.headers.get("range")
        if asked.method != "GET" or wanted is None or any(name in request.headers for name in _OWN_CONDITIONS):
            return None
        found = await self._stored.find(request, asked.scope, namespace="partial", with_body=lambda _: True)
        entry, body = found.entry, found.body
        if entry is None or body is None:
            return None
        decision = decide(request.policy, entry, parts.clock.time(), directives=directives_of(request))
        stored = part_of(entry.headers.get("content-range"), len(body))
        if decision != Serve() or stored is None:
            return None
        inner = within_part(wanted, stored)
        if inner is None or ("if-range" in request.headers and not if_range_holds(request.headers["if-range"], entry)):
            return None
        parts.cache.disk.touch(entry.row)
        first, (start, stop) = stored[0], inner
        fields = {"Content-Range": content_range(start, stop, stored[2]), "Content-Length": str(stop - start)}
        status = CacheStatus(hit=True, ttl=self._ttl(entry))
        headers = self._with_age(entry).updated(fields)
        return self._whole(entry, body[start - first : stop - first], status=status, headers=headers)

    async def _ask(
        self, asked: Question, found: Found, decision: Validate | Load, flight: Flight[CachedResponse]
    ) -> CachedResponse:
        """Over the network; a stored answer is validated, freshened or replaced by what comes."""
        forward = decision.forward
        if asked.method == "HEAD":
            return await self._ask_head(asked, found, forward, flight)
        try:
            download = await self._download(asked, decision, flight)
            if download.status == 304 and isinstance(decision, Validate) and found.entry is not None:
                if not_modified_fits(found.entry, download.request.headers, download.headers):
                    return self._not_modified(asked, found.entry, found.body or b"", download, forward)
                download = await self._download(asked, Load(), flight, strip_conditions=True)
        except _SERVER_FAILED as error:
            stale = self._instead(asked, found, forward, status=None)
            if stale is None:
                raise
            logger.debug("serving a stale answer of %s: %s", shown_url(asked.request.url), error)
            return stale
        if download.status >= 500:
            stale = self._instead(asked, found, forward, status=download.status)
            if stale is not None:
                return stale
        return await self._received(asked, found.entry, decision, download)

    async def _ask_head(
        self, asked: Question, found: Found, forward: Forward, flight: Flight[CachedResponse]
    ) -> CachedResponse:
        """A HEAD at the origin, and what it says of the stored GET (4.3.5)."""
        download = await self._download(asked, Load(), flight)
        effect = "none"
        if found.entry is not None:
            effect = head_effect(found.entry, download.status, download.headers)
            if effect == "freshen":
                self._parts.cache.disk.refresh(self._answers.renewed(asked.request, found.entry, download))
            elif effect == "invalidate":
                self._parts.cache.disk.discard(found.entry)
        return _passed_on(download, CacheStatus(forward=forward, forward_status=download.status))

    async def _refresh(self, asked: Question) -> None:
        request = replace(
            asked.request,
            policy=CachePolicy.REVALIDATE,
            headers=asked.request.headers.without("cache-control", "pragma", "range", "if-range", *_OWN_CONDITIONS),
        )
        behind, url = replace(asked, request=request, method="GET"), display_url(request.url)
        caller = Caller(self._parts.deadlines, timeout=request.timeout, url=url)
        key = ("response behind", request.url, request.headers, asked.scope, self._parts.downloader.modifiers_version)
        try:
            await self._parts.flights.join(key, partial(self._answer, behind), caller, about=request.about)
        except ImageCacheError as error:
            logger.debug("revalidating %s behind failed: %s", shown_url(url), error)

    async def _download(
        self,
        asked: Question,
        decision: Validate | Load,
        flight: Flight[CachedResponse],
        *,
        strip_conditions: bool = False,
    ) -> Download:
        request = asked.request
        if isinstance(decision, Validate):
            # Our validators ask in place of the caller's: theirs, and a range, are answered from what we have then.
            request = replace(request, headers=request.headers.without("range", "if-range", *_OWN_CONDITIONS))
        self._parts.counters.requests += 1
        ticket = PriorityTicket()
        flight.follow_priority(lambda priority: setattr(ticket, "priority", priority))
        download = await self._parts.downloader.download(
            question(request, decision.fields, method=asked.method),
            strip_conditions=strip_conditions,
            follow_redirects=asked.follow_redirects,
            any_status=True,
            retry=asked.retry,
            decode_body=False,
            priority=ticket,
            on_start=flight.network_started,
            total=None,
        )
        self._parts.counters.downloaded(download.metrics)
        return download

    def _not_modified(
        self, asked: Question, entry: Entry, body: bytes, download: Download, forward: Forward
    ) -> CachedResponse:
        renewed = self._answers.renewed(asked.request, entry, download)
        self._parts.counters.not_modified += 1
        may_keep = not forbids_storing(download.request.headers, download.headers)
        if may_keep:
            self._parts.cache.disk.refresh(renewed)
            self._keep_cookies(renewed, download.headers)
        else:
            self._parts.cache.disk.discard(entry)
        status = CacheStatus(forward=forward, forward_status=304, stored=may_keep)
        served = self._serve(asked, renewed, body, status=status, revalidated=True)
        return served or self._whole(renewed, body, status=status, revalidated=True)

    async def _received(
        self, asked: Question, previous: Entry | None, decision: Validate | Load, download: Download
    ) -> CachedResponse:
        parts, request = self._parts, asked.request
        status = CacheStatus(forward=decision.forward, forward_status=download.status)
        checksum = await parts.workers.run(checksum_of, download.body)
        is_part = download.status == 206
        namespace: Namespace = "partial" if is_part else "response"
        secret = await parts.cache.disk.secret()
        entry = self._answers.entry(request, asked.scope, download, checksum, secret=secret, namespace=namespace)
        if is_part and part_of(download.headers.get("content-range"), len(download.body)) is None:
            return _passed_on(download, status)
        if parts.currency.is_outrun(entry):
            # A later question was answered sooner.
            return _passed_on(download, status)
        sent, received = download.request.headers, download.headers
        if is_part:
            may_store = may_store_part(sent, received)
        else:
            may_store = may_store_response(asked.method, download.status, sent, received, entry)
        if may_store:
            parts.currency.answered(entry, checksum)
            parts.cache.put(entry, download.body)
            self._cookies.pop(entry.row, None)
            self._keep_cookies(entry, download.headers)
            status = replace(status, stored=True, ttl=self._ttl(entry))
        elif previous is not None and forbids_storing(sent, received, status=download.status):
            parts.currency.answered(entry, None)
            parts.cache.disk.discard(previous)
        if isinstance(decision, Validate) and download.status == 200:
            # The caller's own condition or range waited for the whole.
            answered = self._answered(asked, entry, download.body, status)
            if answered is not None:
                return replace(answered, served_from=ServedFrom.NETWORK)
        return _passed_on(download, status)

    def _instead(self, asked: Question, found: Found, forward: Forward, *, status: int | None) -> CachedResponse | None:
        """The stored answer in place of a server that fails, where it may be (RFC 5861, 4)."""
        rules, request = self._parts.rules, asked.request
        if found.entry is None or request.policy in (CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END):
            return None
        now = self._parts.clock.time()
        if not may_serve_on_error(found.entry, now, directives_of(request), rules.stale_if_error):
            return None
        told = CacheStatus(forward=forward, forward_status=status, ttl=self._ttl(found.entry))
        return self._serve(asked, found.entry, found.body or b"", stale=True, status=told)

    def _serve(
        self,
        asked: Question,
        entry: Entry,
        body: bytes,
        *,
        stale: bool = False,
        revalidated: bool = False,
        status: CacheStatus | None = None,
    ) -> CachedResponse | None:
        """A stored answer as the call wants it; None where only the origin can do that (several ranges)."""
        status = status or CacheStatus(hit=True, ttl=self._ttl(entry))
        answered = self._answered(asked, entry, body, status)
        if answered is not None:
            return replace(answered, stale=stale, revalidated=revalidated)
        if asked.method == "GET" and "range" in asked.request.headers and entry.status == 200:
            return None
        return self._whole(entry, body, status=status, stale=stale, revalidated=revalidated)

    def _answered(self, asked: Question, entry: Entry, body: bytes, status: CacheStatus) -> CachedResponse | None:
        """A whole answer as the caller's own condition or range wants it; None where neither applies."""
        sent = asked.request.headers
        if any(name in sent for name in _OWN_CONDITIONS) and answer_condition(sent, entry) == 304:
            headers = not_modified_response_headers(self._with_age(entry))
            return self._whole(entry, b"", status=status, as_status=304, headers=headers)
        wanted = sent.get("range")
        if asked.method != "GET" or wanted is None or entry.status != 200:
            return None
        if "if-range" in sent and not if_range_holds(sent["if-range"], entry):
            return self._whole(entry, body, status=status)
        part = single_range(wanted, len(body))
        if part is None:
            return None
        headers = self._with_age(entry)
        if part == "unsatisfiable":
            headers = headers.updated({"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return self._whole(entry, b"", status=status, as_status=416, headers=headers)
        start, stop = part
        fields = {"Content-Range": content_range(start, stop, len(body)), "Content-Length": str(stop - start)}
        return self._whole(entry, body[start:stop], status=status, as_status=206, headers=headers.updated(fields))

    def _whole(
        self,
        entry: Entry,
        body: bytes,
        *,
        status: CacheStatus,
        as_status: int | None = None,
        headers: Headers | None = None,
        stale: bool = False,
        revalidated: bool = False,
    ) -> CachedResponse:
        return CachedResponse(
            url=entry.url,
            final_url=entry.final_url,
            status=as_status or entry.status,
            headers=headers if headers is not None else self._with_age(entry),
            body=body,
            served_from=ServedFrom.DISK,
            revalidated=revalidated,
            stale=stale,
            cache_status=status,
        )

    def _with_age(self, entry: Entry) -> Headers:
        # RFC 9111, 4: an answer from a cache tells its age.
        headers = entry.headers.updated({"Age": str(int(current_age(entry, self._parts.clock.time())))})
        cookies = self._cookies.get(entry.row, [])
        return Headers([*headers.pairs, *(("Set-Cookie", cookie) for cookie in cookies)]) if cookies else headers

    def _keep_cookies(self, entry: Entry, received: Headers) -> None:
        cookies = received.get_all("set-cookie")
        if cookies:
            self._cookies[entry.row] = list(cookies)
            self._cookies.move_to_end(entry.row)
            if len(self._cookies) > REMEMBERED_COOKIES:
                self._cookies.popitem(last=False)

    def _ttl(self, entry: Entry) -> int:
        return whole_seconds(fresh_for(entry, self._parts.clock.time()))


def _gateway_timeout(request: ImageRequest, reason: str) -> CachedResponse:
    """What a cache says where only-if-cached forbids it to ask (5.2.1.7)."""
    url = display_url(request.url)
    return CachedResponse(
        url=url,
        final_url=url,
        status=504,
        headers=Headers(),
        body=b"",
        served_from=ServedFrom.DISK,
        cache_status=CacheStatus(detail=reason),
    )


def _passed_on(download: Download, status: CacheStatus) -> CachedResponse:
    return CachedResponse(
        url=display_url(download.url),
        final_url=display_url(download.final_url),
        status=download.status,
        headers=download.headers,
        body=download.body,
        served_from=ServedFrom.NETWORK,
        cache_status=status,
    )
