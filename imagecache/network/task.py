"""One network task, from the request modifiers to the checked body: tries, hops and all, in the order of events.

The order is here; the decisions are in retry, redirects, guard and body. Sessions are opened and closed elsewhere.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import aiohttp

from ..clock import Clock, Deadlines
from ..delegate import Delegates, call_in_empty_context
from ..errors import (
    AddressRefusedError,
    BadStatusError,
    DownloadCancelledError,
    ImageCacheError,
    ManagerClosedError,
    RedirectError,
    RequestModifierError,
    ResponseError,
    ResponseRefusedError,
    TruncatedBodyError,
)
from ..headers import Headers
from ..http.storing import forbids_storing
from ..keys import check_url, display_url, shown_url
from ..metrics import Metrics
from ..protocols import Redirect, RedirectHandler, RequestModifier, ResponseInfo, RetryContext, RetryStrategy
from ..request import DownloadRequest, ProgressCallback
from .answers import BODILESS, header_fields, status_refusal
from .body import Body, BodyCount, SpoolFile, decoded_headers, read_body
from .connector import MAX_FIELD, READ_BUFFER, literal_refusal
from .download import Download
from .faults import as_our_error, cause_of
from .guard import AddressGuard
from .hosts import HostLimiter, Slot
from .part import Part, PartStore, Resumption, is_worth_keeping
from .priority import PriorityTicket
from .redirects import check_hop, is_conditional, is_redirect, next_request, without_conditions
from .remembered import RememberedRedirects
from .retry import retry_after_seconds
from .settings import NetworkOptions
from .unauthorized import Refreshes
from .urls import split_userinfo, target_of
from .watch import Watch, sleep

logger = logging.getLogger("imagecache")

Check = Callable[[bytes], Awaitable[None] | None]
"""Looks at a whole body before it counts as a success; raises an ImageCacheError if it is of no use."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all tasks of a downloader share."""

    options: NetworkOptions
    clock: Clock
    deadlines: Deadlines
    delegates: Delegates
    limiter: HostLimiter
    guard: AddressGuard
    retry: RetryStrategy
    redirect_handler: RedirectHandler | None
    refreshes: Refreshes
    permanent: RememberedRedirects
    default_headers: Headers
    owns_session: bool


@dataclass(frozen=True, slots=True)
class Call:
    """What one call asked for besides the request."""

    ticket: PriorityTicket
    total: float | None
    max_retry_after: float
    strip_conditions: bool = False
    follow_redirects: bool = True
    any_status: bool = False
    retry: bool = True
    decode_body: bool = True
    progress: ProgressCallback | None = None
    on_start: Callable[[], None] | None = None
    on_refused: Callable[[Download], None] | None = None
    check: Check | None = None
    parts: PartStore | None = None


class NetworkTask:
    """A download under way. :meth:`run` is called once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tools: Tools,
        modifiers: list[RequestModifier],
        asked: DownloadRequest,
        call: Call,
    ) -> None:
        self._session = session
        self._tools = tools
        self._modifiers = modifiers
        self._asked = asked
        self._call = call
        self._shown = display_url(asked.url)
        self._metrics = Metrics()
        self._count = BodyCount()
        self._resumption = Resumption(tools.clock, call.parts)
        self._began = tools.clock.monotonic()
        self._slot: Slot | None = None
        self._slot_host = ""
        self._request_time = 0.0
        self._response_time = 0.0
        self._sent_at = 0
        self._unauthorized: tuple[DownloadRequest, ResponseInfo] | None = None
        self._granted: tuple[str, str, int] | None = None
        self._granted_fields = _NO_FIELDS
        self._refreshed = 0
        self.watch = Watch(tools.deadlines, tools.options.timeouts, call.total, self._shown)
        self.response: ResponseInfo | None = None
        self.was_announced = False

    async def run(self) -> Download:
        """Try until it is done or not worth another try. Raises what the last try ended with."""
        try:
            return await self._run()
        finally:
            self._resumption.broke_off()

    async def _run(self) -> Download:
        while True:
            self._metrics.tries += 1
            try:
                with self.watch:
                    return await self._try()
            except ImageCacheError as error:
                # A hop's error is about the URL asked for, too.
                error.url = self._shown
                with self.watch:
                    if await self._is_authorized_now(error):
                        continue
                    wait = self._wait_after(error)
                    if wait is None:
                        raise
                    await sleep(self._tools.clock, wait)

    @property
    def url(self) -> str:
        """The URL asked for, as it was given."""
        return self._asked.url

    def stop(self, error: ImageCacheError) -> None:
        """End it now, with this error."""
        self.watch.stop(error)

    async def _is_authorized_now(self, error: ImageCacheError) -> bool:
        """Whether the hook for 401s has done something about this one, so that it is worth another try."""
        unauthorized, self._unauthorized = self._unauthorized, None
        if unauthorized is None or self._refreshed or not self._call.retry or not self._tools.refreshes.may_help:
            return False
        self._refreshed = 1
        request, info = unauthorized
        outcome = await self._tools.refreshes.after(request, info, sent_at=self._sent_at)
        if outcome.error is not None:
            error.add_note(f"on_unauthorized raised {type(outcome.error).__name__}")
            raise error from outcome.error
        if outcome.fields is None:
            return False
        # A hop's token is that hop's: it is sent nowhere else, wherever the next try begins.
        self._granted, self._granted_fields = target_of(request.url).origin, outcome.fields
        return True

    def _authorized(self, request: DownloadRequest) -> DownloadRequest:
        if self._granted is None or target_of(request.url).origin != self._granted:
            return request
        return request.with_headers(self._granted_fields)

    async def _try(self) -> Download:
        request = first = await self._prepare()
        if not self.was_announced:
            self.was_announced = True
            if self._tools.delegates.listens("will_download_image"):
                await self._tools.delegates.ask("will_download_image", self._asked.url, request)
        redirects: list[Redirect] = []
        seen = [request]
        try:
            while True:
                while (known := self._recall(request, seen)) is not None:
                    redirect, request = await self._follow(seen, *known)
                    redirects.append(redirect)
                await self._take_slot(request)
                response, part = await self._ask(request)
                try:
                    headers = header_fields(response.headers.items())
                    if not (self._call.follow_redirects and is_redirect(response.status, headers)):
                        return await self._receive(request, response, headers, tuple(redirects), first, part)
                    # Gives a connection back whose small body came with the head, and closes any other.
                    response.release()
                    self._tools.permanent.note(
                        request, response.status, headers, self._request_time, self._response_time
                    )
                    redirect, request = await self._follow(seen, response.status, headers.get_all("location")[0])
                    redirects.append(redirect)
                except BaseException:
                    # At once, so that the server hears of a cancellation or refusal now.
                    response.close()
                    raise
        except ImageCacheError:
            # What led to nothing is asked about again.
            for sent in seen:
                self._tools.permanent.forget(sent.url)
            raise
        finally:
            self._leave_slot()

    def _recall(self, request: DownloadRequest, seen: list[DownloadRequest]) -> tuple[int, str] | None:
        """Where a request is known to be redirected to, for good; asked of nobody."""
        if not self._call.follow_redirects or self._call.any_status or len(seen) > self._tools.options.max_redirects:
            return None
        return self._tools.permanent.recall(request, self._tools.clock.time())

    async def _prepare(self) -> DownloadRequest:
        """The request to send, checked."""
        request = await prepared(self._asked, self._tools.default_headers, self._modifiers)
        if self._call.strip_conditions:
            request = DownloadRequest(request.url, without_conditions(request.headers), request.method)
        target_of(request.url)
        return self._authorized(request)

    async def _take_slot(self, request: DownloadRequest) -> None:
        host = target_of(request.url).host
        if self._slot is not None and host == self._slot_host and not self._tools.limiter.has_rate:
            return
        self._leave_slot()
        is_first = self.watch.started_at is None
        self.watch.queued()
        self._slot = await self._tools.limiter.acquire(host, self._call.ticket)
        self._slot_host = host
        self._metrics.queue += self.watch.granted()
        if is_first and self._call.on_start is not None:
            self._call.on_start()

    def _leave_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    async def _ask(self, request: DownloadRequest) -> tuple[aiohttp.ClientResponse, Part | None]:
        """The answer to a request; and if that is the rest of one that broke off, what is there of it."""
        part = await self._resumption.part_for(request)
        if part is None:
            return await self._send(request), None
        response = await self._send(part.rest_of(request))
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if part.length_with(header_fields(response.headers.items())) is not None:
                return response, part
        elif response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response, None
        # Ranges are not this server's strength, or the image is another: from the start, as if nothing had come.
        logger.debug("%s is not gone on with after %d bytes (%d)", self._shown, part.body.size, response.status)
        response.close()
        self._resumption.drop()
        self.watch.rest()
        return await self._send(request), None

    async def _send(self, request: DownloadRequest) -> aiohttp.ClientResponse:
        target = target_of(request.url)
        tools, watch = self._tools, self.watch
        if not tools.owns_session:
            refusal = literal_refusal(tools.guard, target.host)
            if refusal is not None:
                raise AddressRefusedError(refusal)
            watch.requested()
        self._request_time = tools.clock.time()
        self._sent_at = tools.refreshes.moment
        connected_before, resolved_before, secured_before = watch.connect_time, watch.dns_time, watch.tls_time
        try:
            response = await self._session.request(
                request.method,
                target.url,
                headers=request.headers.pairs,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=False,
                read_bufsize=READ_BUFFER,
                max_line_size=MAX_FIELD,
                max_field_size=MAX_FIELD,
                # Ours run on the replaceable clock; a session that is not ours tells nobody of its connecting.
                timeout=_NO_TIMEOUT if tools.owns_session else _connect_timeout(tools.options),
                ssl=tools.options.ssl,
            )
        except Exception as error:
            raise as_our_error(error, self._shown) from cause_of(error)
        finally:
            # What did not come to a connection is nobody's part.
            dns, tls = watch.dns_time - resolved_before, watch.tls_time - secured_before
            self._metrics.dns += dns
            self._metrics.tls += tls
            self._metrics.connect += max(0.0, watch.connect_time - connected_before - dns - tls)
        self._response_time = tools.clock.time()
        self._metrics.first_byte += tools.clock.monotonic() - watch.connected_at
        return response

    async def _follow(
        self, seen: list[DownloadRequest], status: int, location: str
    ) -> tuple[Redirect, DownloadRequest]:
        """The next request of a chain of redirects, ``seen`` being those sent; it is added to them."""
        limit = self._tools.options.max_redirects
        if len(seen) > limit:
            raise RedirectError(f"more than {limit} redirects (max_redirects)")
        self.watch.rest()
        redirect, request = next_request(seen[-1], status, location)
        if self._tools.redirect_handler is not None:
            request = await self._ask_handler(self._tools.redirect_handler, redirect, request)
        check_hop(seen[-1], request)
        request = self._authorized(_without_userinfo(request))
        if request in seen:
            raise RedirectError(f"a redirect loop, back to {shown_url(request.url)}")
        seen.append(request)
        self._metrics.redirects += 1
        return redirect, request

    async def _ask_handler(
        self, handler: RedirectHandler, redirect: Redirect, proposed: DownloadRequest
    ) -> DownloadRequest:
        try:
            chosen = await call_in_empty_context(handler.handle_redirect, redirect, proposed)
        except Exception as error:
            raise RedirectError(f"the redirect handler raised {type(error).__name__}") from error
        if chosen is None:
            raise RedirectError(f"the redirect handler refused {shown_url(redirect.location)}")
        if not isinstance(chosen, DownloadRequest):
            raise RedirectError(f"the redirect handler returned {type(chosen).__name__}, not a DownloadRequest or None")
        return chosen

    async def _receive(
        self,
        request: DownloadRequest,
        response: aiohttp.ClientResponse,
        headers: Headers,
        redirects: tuple[Redirect, ...],
        first: DownloadRequest,
        part: Part | None,
    ) -> Download:
        """Judge the head, ask the delegates, read and check the body."""
        call, delegates, status = self._call, self._tools.delegates, response.status
        self.watch.rest()
        resumed_at, rest = 0, headers
        if part is not None and (length := part.length_with(rest)) is not None:
            # The rest is this request's own affair: for everybody else the whole has come.
            resumed_at, status, headers = part.body.size, HTTPStatus.OK.value, part.headers_with(rest, length)
        info = ResponseInfo(request.url, status, headers)
        if not call.any_status:
            try:
                await self._judge(request, info)
            except BadStatusError:
                if call.on_refused is not None:
                    call.on_refused(self._brought(request, status, headers, b"", redirects, first))
                raise
        # Asking nobody costs a coroutine, and most downloads have no delegate.
        if delegates.listens("did_receive_response") and False in await delegates.ask("did_receive_response", info):
            raise ResponseRefusedError(f"a delegate refused the response ({status})")
        body, data_replaced, spool = b"", False, None
        if status in BODILESS or request.method == "HEAD":
            response.release()
        else:
            head = None
            if is_worth_keeping(headers):
                head = self._brought(request, status, headers, b"", redirects, first)
            body, spool = await self._read(response, rest, head, part)
            try:
                body, data_replaced = await self._checked(body)
            except BaseException:
                if spool is not None:
                    spool.discard()
                raise
            if data_replaced and spool is not None:
                spool.discard()
                spool = None
            if call.decode_body:
                headers = decoded_headers(headers)
        self.response = info
        return self._brought(
            request,
            status,
            headers,
            body,
            redirects,
            first,
            data_replaced=data_replaced,
            resumed_at=resumed_at,
            spool=spool,
        )

    def _brought(
        self,
        request: DownloadRequest,
        status: int,
        headers: Headers,
        body: bytes,
        redirects: tuple[Redirect, ...],
        first: DownloadRequest,
        *,
        data_replaced: bool = False,
        resumed_at: int = 0,
        spool: SpoolFile | None = None,
    ) -> Download:
        return Download(
            request=request,
            url=self._asked.url,
            final_url=request.url,
            status=status,
            headers=headers,
            body=body,
            request_time=self._request_time,
            response_time=self._response_time,
            redirects=redirects,
            bytes_received=self._count.received,
            metrics=self._finished_metrics(),
            modified=first.url != split_userinfo(self._asked.url)[0],
            data_replaced=data_replaced,
            resumed_at=resumed_at,
            spool=spool,
        )

    async def _judge(self, request: DownloadRequest, info: ResponseInfo) -> None:
        """Raise BadStatusError unless this status is a success."""
        status, answers = info.status, []
        if status != HTTPStatus.NOT_MODIFIED and self._tools.delegates.listens("is_valid_status_code"):
            answers = await self._tools.delegates.ask("is_valid_status_code", status, self._asked.url)
        refusal = status_refusal(status, is_conditional=is_conditional(request.headers), answers=answers)
        if refusal is None:
            return
        if status == HTTPStatus.UNAUTHORIZED:
            self._unauthorized = (request, info)
        retry_after = retry_after_seconds(info.headers.get("retry-after"), self._response_time)
        if retry_after is not None:
            refusal += f" and asks to come back in {retry_after:.0f} s"
        raise BadStatusError(refusal, status=status, headers=info.headers, retry_after=retry_after)

    async def _read(
        self, response: aiohttp.ClientResponse, headers: Headers, head: Download | None, part: Part | None
    ) -> tuple[bytes, SpoolFile | None]:
        """The body behind ``headers``, with what was there of it before; ``head`` is that of the whole, None for one
        that is too short to be gone on with."""
        began = self._tools.clock.monotonic()
        resumption = self._resumption
        if part is None or head is None:
            body = Body(self._tools.options.max_body, None if head is None else partial(self._open_spool, head))
            resumption.begin(head, body)
        else:
            body = part.body
            resumption.go_on(part, head)
        has_come = False
        try:
            await read_body(
                response,
                headers,
                body=body,
                watch=self.watch,
                count=self._count,
                progress=self._call.progress,
                decode=self._call.decode_body,
                checkpoint=resumption.checkpoint if resumption.part is not None else None,
            )
            resumption.check_end()
            whole = await _whole(body)
            has_come = True
        except ResponseError:
            resumption.drop()
            raise
        except ImageCacheError:
            raise
        except Exception as error:
            raise as_our_error(error, self._shown) from cause_of(error)
        finally:
            self._metrics.transfer += self._tools.clock.monotonic() - began
            if not (has_come or resumption.holds(body)):
                body.discard()
        self.watch.rest()
        # The connection is free again; what follows needs none.
        self._leave_slot()
        return whole, body.spool

    def _open_spool(self, head: Download) -> SpoolFile | None:
        parts = self._call.parts
        # What may not be stored is not written for a while, either (RFC 9111, 5.2.2.5).
        if parts is None or forbids_storing(head.request.headers, head.headers):
            return None
        return parts.open_spool()

    async def _checked(self, body: bytes) -> tuple[bytes, bool]:
        """The bytes as delegates and the call's own check let them through, and whether they are others now."""
        delegates, came = self._tools.delegates, body
        if delegates.listens("did_download_data"):
            replaced = await delegates.replace_data(body, self._asked.url)
            if replaced is None:
                raise ResponseRefusedError("a delegate rejected the bytes")
            body = replaced
        if self._call.check is not None:
            await self._check(self._call.check, body)
        return body, body != came

    async def _check(self, check: Check, body: bytes) -> None:
        try:
            answer = check(body)
            if inspect.isawaitable(answer):
                await answer
        except ImageCacheError:
            raise
        except Exception as error:
            raise ResponseRefusedError(f"the check of the body raised {type(error).__name__}") from error

    def _wait_after(self, error: ImageCacheError) -> float | None:
        """Seconds until the next try, None if this error is the last."""
        tools, watch = self._tools, self.watch
        retry_after = error.retry_after if isinstance(error, BadStatusError) else None
        if isinstance(error, (ManagerClosedError, DownloadCancelledError)) or not self._call.retry:
            return None
        if retry_after is not None and retry_after > self._call.max_retry_after:
            return None
        context = RetryContext(self._shown, self._metrics.tries - self._refreshed, error, watch.elapsed, retry_after)
        try:
            delay = tools.retry.retry_delay(context)
        except Exception:
            logger.exception("the retry strategy raised")
            return None
        if delay is None:
            return None
        wait = max(delay, retry_after or 0.0)
        # A wait that outlasts the total would only turn a telling error into a timeout.
        return wait if wait < watch.remaining else None

    def _finished_metrics(self) -> Metrics:
        self._metrics.bytes_received = self._count.received
        self._metrics.total = self._tools.clock.monotonic() - self._began
        return self._metrics


async def _whole(body: Body) -> bytes:
    try:
        return await body.whole()
    except OSError as error:
        # Another try will see that its file does not work, and do without.
        raise TruncatedBodyError(f"what came of the body cannot be read back: {error.strerror}") from error


async def prepared(asked: DownloadRequest, defaults: Headers, modifiers: Sequence[RequestModifier]) -> DownloadRequest:
    """The request as it will be sent: userinfo made a field, defaults filled in, then the modifiers in their order."""
    request = asked
    if defaults.pairs:
        request = DownloadRequest(asked.url, defaults.updated(asked.headers.pairs), asked.method)
    request = _without_userinfo(request)
    for modifier in modifiers:
        request = await _modified(modifier, request)
    if request.url != asked.url:
        check_url(request.url)
        request = _without_userinfo(request)
    return request


async def _modified(modifier: RequestModifier, request: DownloadRequest) -> DownloadRequest:
    try:
        modified = await call_in_empty_context(modifier, request)
    except Exception as error:
        raise RequestModifierError(f"a request modifier raised {type(error).__name__}") from error
    if modified is None:
        raise RequestModifierError("a request modifier refused the request by returning None")
    if not isinstance(modified, DownloadRequest):
        raise RequestModifierError(
            f"a request modifier returned {type(modified).__name__}; it returns a DownloadRequest or None"
        )
    return modified


_NO_FIELDS = Headers()
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)


def _connect_timeout(options: NetworkOptions) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=options.timeouts.connect)


def _without_userinfo(request: DownloadRequest) -> DownloadRequest:
    """The same request with its userinfo as Authorization, where it has none already."""
    if "@" not in request.url:
        return request
    url, authorization = split_userinfo(request.url)
    if url == request.url:
        return request
    request = request.with_url(url)
    if authorization is None or "authorization" in request.headers:
        return request
    return request.with_headers({"Authorization": authorization})
