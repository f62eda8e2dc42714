"""The downloader: who may have a say in a download, the session it goes over, and the end of both.

What happens within one download is in task.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import EllipsisType

import aiohttp

from ..clock import Clock, Deadlines, SystemClock
from ..delegate import Delegates, Handle
from ..errors import DownloadCancelledError, ManagerClosedError
from ..keys import display_url, key_for_url
from ..protocols import RedirectHandler, RequestModifier, RetryStrategy, UnauthorizedHook
from ..request import DownloadRequest, Priority, ProgressCallback
from .body import safely
from .connector import GuardedResolver, open_session
from .download import Download
from .faults import as_our_error
from .guard import AddressGuard
from .hosts import HostLimiter, as_ticket
from .part import PartStore
from .priority import PriorityTicket
from .remembered import RememberedRedirects
from .retry import BackoffRetryStrategy
from .settings import NetworkOptions
from .task import Call, Check, NetworkTask, Tools, prepared
from .unauthorized import Refreshes
from .urls import checked_url

logger = logging.getLogger("imagecache")


class ImageDownloader:
    """Fetches bytes over HTTP within bounds (Kingfisher's ``ImageDownloader``). It knows no cache and no image.

    The session is made at the first download and belongs to the loop that runs then. An injected ``session`` keeps
    its own connections: addresses of names are not guarded over it, its cookies are its own, and it is never closed
    from here. ``on_unauthorized`` may refresh a token after a 401: an :data:`UnauthorizedHook`, asked once for all
    who are refused with the same credentials, and at most once a download.
    """

    def __init__(
        self,
        options: NetworkOptions | None = None,
        *,
        session: aiohttp.ClientSession | None = None,
        clock: Clock | None = None,
        delegates: Delegates | None = None,
        retry: RetryStrategy | None = None,
        redirect_handler: RedirectHandler | None = None,
        on_unauthorized: UnauthorizedHook | None = None,
    ) -> None:
        self.options = options or NetworkOptions()
        self.delegates = delegates if delegates is not None else Delegates()
        clock = clock or SystemClock()
        self._tools = Tools(
            options=self.options,
            clock=clock,
            deadlines=Deadlines(clock),
            delegates=self.delegates,
            limiter=HostLimiter(
                clock,
                per_host=self.options.per_host,
                connections=self.options.connections,
                host_limits=self.options.host_limits,
                requests_per_second=self.options.requests_per_second,
                newest_first=self.options.newest_first,
            ),
            guard=AddressGuard(block_private=self.options.block_private, allow=self.options.allow_addresses),
            retry=retry or BackoffRetryStrategy(),
            redirect_handler=redirect_handler,
            refreshes=Refreshes(on_unauthorized),
            permanent=RememberedRedirects(),
            default_headers=self.options.default_headers,
            owns_session=session is None,
        )
        self._session = session
        self._resolver: GuardedResolver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._modifiers: list[tuple[RequestModifier]] = []
        self.modifiers_version = 0
        """Another number after each change of the modifiers: downloads under one number go through the same ones."""
        self._running: set[NetworkTask] = set()
        self._all_ended: asyncio.Event | None = None
        self._is_closed = False
        self._tell_what_is_lost()

    def forget_redirects(self) -> None:
        """Ask again where permanent redirects lead, which are else remembered as long as HTTP allows."""
        self._tools.permanent.forget()

    def add_request_modifier(self, modifier: RequestModifier) -> Handle:
        """Let ``modifier`` change every request, after those added before. Raises TypeError if it is not callable."""
        if not callable(modifier):
            raise TypeError(f"a request modifier is called with a request; {modifier!r} cannot be called")
        # An entry of its own, so that the handle of a modifier added twice takes away the right one; and never in
        # place: a download that runs keeps the modifiers it began with.
        entry = (modifier,)
        self._modifiers = [*self._modifiers, entry]
        self.modifiers_version += 1

        def remove() -> None:
            self._modifiers = [e for e in self._modifiers if e is not entry]
            self.modifiers_version += 1

        return Handle(remove)

    def add_delegate(self, delegate: object) -> Handle:
        """Let ``delegate`` hear of downloads. Raises TypeError if it has none of the callbacks."""
        return self.delegates.add(delegate)

    def cancel(self, url: str) -> None:
        """End every download of this URL, queued ones included; whoever waits gets DownloadCancelledError.

        The URL is the one asked for, its fragment aside. One asked for again from now on is a new download.
        """
        key = key_for_url(url)
        for task in self._running:
            if key_for_url(task.url) == key:
                task.stop(_cancelled(task.url))

    def cancel_all(self) -> None:
        """End every download; whoever waits gets DownloadCancelledError. Those asked for from now on are new."""
        for task in self._running:
            task.stop(_cancelled(task.url))

    @property
    def waiting(self) -> int:
        """Downloads that wait for a connection."""
        return self._tools.limiter.waiting

    @property
    def active(self) -> int:
        """Connections in use now."""
        return self._tools.limiter.active

    async def download(
        self,
        url: str | DownloadRequest,
        *,
        strip_conditions: bool = False,
        follow_redirects: bool = True,
        any_status: bool = False,
        priority: Priority | PriorityTicket = Priority.NORMAL,
        progress: ProgressCallback | None = None,
        on_start: Callable[[], None] | None = None,
        on_refused: Callable[[Download], None] | None = None,
        total: float | EllipsisType | None = ...,
        max_retry_after: float | None = None,
        retry: bool = True,
        decode_body: bool = True,
        check: Check | None = None,
        parts: PartStore | None = None,
    ) -> Download:
        """The answer to one request, read whole.

        A 304 is a success, with an empty body, if the request as sent was conditional; else exactly 200 is, unless
        delegates say otherwise. ``strip_conditions`` removes If-* and Range after the modifiers have run;
        ``any_status`` judges no status. ``priority`` may be a :class:`PriorityTicket` that changes while waiting.
        ``on_start`` is called when the first connection slot is granted, from which ``total`` counts (seconds, None
        for no limit, absent for the options'). ``max_retry_after`` is in seconds, too (``inf``: whatever fits the
        total). ``retry=False`` is one try, whatever the strategy says; ``decode_body=False`` leaves a content coding
        as it came. ``on_refused`` is given the head of an answer whose status is no success, before that is raised.
        ``check`` looks at the whole body, sync or async; what it raises is the download's error. ``parts`` is where
        the beginning of an answer that breaks off is kept, and looked for before anything is sent; a try of this very
        call goes on from where the one before broke off in any case.

        Raises RequestError, NetworkError and ResponseError with all their kinds, and ManagerClosedError if the
        downloader is closed.
        """
        asked = url if isinstance(url, DownloadRequest) else DownloadRequest(checked_url(url))
        if asked is url:
            checked_url(asked.url)
        call = Call(
            ticket=as_ticket(priority),
            total=self.options.timeouts.total if isinstance(total, EllipsisType) else total,
            max_retry_after=self.options.max_retry_after if max_retry_after is None else max_retry_after,
            strip_conditions=strip_conditions,
            follow_redirects=follow_redirects,
            any_status=any_status,
            retry=retry,
            decode_body=decode_body,
            progress=safely(progress),
            on_start=on_start,
            on_refused=on_refused,
            check=check,
            parts=parts,
        )
        task = NetworkTask(self._open(asked.url), self._tools, [m for (m,) in self._modifiers], asked, call)
        self._running.add(task)
        try:
            return await self._run(task, asked.url)
        finally:
            self._running.discard(task)
            if self._all_ended is not None and not self._running:
                self._all_ended.set()

    async def as_sent(self, request: DownloadRequest) -> DownloadRequest:
        """The request that a download of this one would begin with: defaults filled in, the modifiers run."""
        return await prepared(request, self._tools.default_headers, [m for (m,) in self._modifiers])

    @property
    def has_modifiers(self) -> bool:
        """Whether what is sent may be other than what was asked for."""
        return bool(self._modifiers)

    def _tell_what_is_lost(self) -> None:
        is_theirs = self._session is not None
        if self.options.block_private and (is_theirs or self.options.trust_env):
            who = "a session of your own" if is_theirs else "a proxy (trust_env)"
            logger.warning("block_private is on, but %s resolves names by itself: addresses are not guarded", who)
        if is_theirs:
            logger.warning(
                "over a session of your own the addresses of names are not looked at (link-local ones neither), "
                "cookies are as the session keeps them, and bytes that come while a connection lies idle may be taken "
                "for the next answer"
            )

    async def _run(self, task: NetworkTask, url: str) -> Download:
        """Run the task, and tell the delegates of its end exactly once."""
        try:
            download = await task.run()
        except asyncio.CancelledError:
            if task.was_announced:
                # Told without waiting: whoever cancels must not be held up by somebody's callback.
                self.delegates.notify("did_finish_downloading_image", url, None, _cancelled(url))
            raise
        except Exception as error:
            if task.was_announced:
                told = as_our_error(error, display_url(url))
                await self.delegates.ask("did_finish_downloading_image", url, None, told)
            raise
        if self.delegates.listens("did_finish_downloading_image"):
            await self.delegates.ask("did_finish_downloading_image", url, task.response, None)
        return download

    def _open(self, url: str) -> aiohttp.ClientSession:
        if self._is_closed:
            raise ManagerClosedError("the downloader is closed", url=display_url(url))
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this downloader belongs to another event loop; make one for each")
        if self._session is None:
            self._session, self._resolver = open_session(self.options, self._tools.guard)
        return self._session

    async def aclose(self) -> None:
        """End all downloads, whose callers get ManagerClosedError, and close what was opened here."""
        self._is_closed = True
        if self._running:
            # One event for everybody who closes at the same time.
            self._all_ended = self._all_ended or asyncio.Event()
            for task in self._running:
                task.stop(ManagerClosedError("the downloader was closed", url=display_url(task.url)))
            await self._all_ended.wait()
        await self._tools.refreshes.aclose()
        session, resolver = self._session, self._resolver
        self._session = self._resolver = None
        if resolver is not None and session is not None:
            await session.close()
            await resolver.close()
            # Transports close in the loop's next turns; a program that ends here would warn of open ones.
            await asyncio.sleep(0)


def _cancelled(url: str) -> DownloadCancelledError:
    return DownloadCancelledError("the download was cancelled", url=display_url(url))
