"""Answers without a socket: every downloader of the process asks a mapping instead of a server.

Only the sending is replaced. Modifiers, delegates, slots, redirects, limits, conditions and errors are the
library's own, so that what a test sees is what the program would have seen.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from unittest.mock import patch
from urllib.parse import urlsplit

from imagecache import default
from imagecache.errors import ImageCacheError, RequestError
from imagecache.headers import Headers
from imagecache.keys import display_url, key_for_url
from imagecache.manager import ImageManager
from imagecache.network import downloader
from imagecache.network.faults import as_our_error
from imagecache.network.task import NetworkTask

from .answer import Answer
from .conditions import http_date
from .reply import Reply, Resource, decide_reply, encode

if TYPE_CHECKING:
    import aiohttp

    from imagecache.request import DownloadRequest

    from .answer import Content

    StubAnswer = Content | Answer | Exception
    StubValue = StubAnswer | Callable[[DownloadRequest], StubAnswer | Awaitable[StubAnswer]]

_NEEDS_A_SOCKET = ("body_gate", "cut_at", "is_endless", "raw")


class StubError(RequestError, AssertionError):
    """The program asked for a URL that the test did not foresee, or the test gave what cannot be an answer."""


@dataclass(frozen=True, slots=True)
class StubCall:
    """A request that would have been sent: after modifiers and redirects, with all its header fields."""

    url: str
    headers: Headers
    method: str = "GET"


@contextmanager
def stub(answers: Mapping[str, StubValue]) -> Iterator[list[StubCall]]:
    """Answer every request of every ImageDownloader in the process from ``answers``, without a socket.

    A value is an image (sent as PNG), bytes, a file's Path, an exception (raised as the library would raise it,
    and never tried again), an :class:`Answer` (status, header fields, delay, gate …), or a function from the
    :class:`~imagecache.DownloadRequest` to one of these, sync or async. The mapping is looked at for each request,
    so changing it changes the server. Every 200 has an ETag made of its bytes, and If-None-Match is answered.

    Yields the list of calls. A URL that is not in the mapping raises :class:`StubError` where it is asked for, and
    once more at the end of the block, in case the program swallowed it.

    The module's own functions use a manager in memory only, made for the block, unless ``override_default`` (or
    the ``image_cache`` fixture) has given them one: no user's cache is read or written.

    >>> with stub({"https://a.example/cat.png": picture(32, 24)}) as calls:
    ...     image = await imagecache.fetch_image("https://a.example/cat.png")
    >>> image.size, [call.url for call in calls]
    ((32, 24), ['https://a.example/cat.png'])
    """
    server = _StubServer(answers)
    with ExitStack() as stack:
        stack.enter_context(patch.object(downloader, "NetworkTask", server.make_task))
        stack.enter_context(patch.object(downloader, "open_session", lambda *_: (_Unused(), _Unused())))
        stack.enter_context(patch.object(downloader.ImageDownloader, "_open", _open_for_now))
        if not default.is_default_overridden():
            stack.enter_context(default.override_default(_managers_in_memory()))
        yield server.calls
    if server.unknown:
        raise StubError(f"asked for what no stub answers: {', '.join(server.unknown)}; {server.known}")


class _StubServer:
    """The mapping as a server: what it was asked, and what it says."""

    def __init__(self, answers: Mapping[str, StubValue]) -> None:
        self._answers = answers
        self.calls: list[StubCall] = []
        self.unknown: list[str] = []

    @property
    def known(self) -> str:
        """The URLs that are answered, for a message."""
        return "answered are: " + (", ".join(map(display_url, self._answers)) or "none")

    def make_task(self, *args: object) -> NetworkTask:
        """A network task that asks here; called in place of its class."""
        return _StubbedTask(self, *args)

    async def answer(self, request: DownloadRequest, asked: str, now: float) -> Reply:
        """The reply to a request; raises StubError, or what the test gave as an exception."""
        self.calls.append(StubCall(request.url, request.headers, request.method))
        value = self._value_for(request.url, asked)
        if not isinstance(value, Answer | Exception) and callable(value):
            made = value(request)
            value = await made if inspect.isawaitable(made) else made
        if isinstance(value, ImageCacheError):
            # The same one may be asked for again: an exception object is raised once.
            raise value.fresh()
        if isinstance(value, Exception):
            raise value
        answer = value if isinstance(value, Answer) else Answer(content=value)
        _check(answer, request.url)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.gate is not None:
            await answer.gate.wait()
        resource = None
        if answer.content is not None:
            body = await asyncio.to_thread(encode, answer.content, "PNG")
            resource = Resource(urlsplit(request.url).path, body, fixed_last_modified=False)
        reply = decide_reply(resource, answer, request.method, request.headers)
        return _with_date(reply, now)

    def _value_for(self, url: str, asked: str) -> StubValue:
        # A modifier may have signed the URL: then the one that was asked for will do.
        for known in (url, key_for_url(url), asked, key_for_url(asked)):
            if known in self._answers:
                return self._answers[known]
        shown = display_url(url)
        self.unknown.append(shown)
        raise StubError(f"no stub answers this URL; {self.known}", url=shown)


class _StubbedTask(NetworkTask):
    """A network task that is the library's own in everything but the sending, and that never tries again."""

    def __init__(self, server: _StubServer, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # whatever the downloader gives its tasks
        self._server = server

    async def _send(self, request: DownloadRequest) -> aiohttp.ClientResponse:
        asked = self._asked.url if self._metrics.redirects == 0 else request.url
        self._request_time = self._tools.clock.time()
        try:
            reply = await self._server.answer(request, asked, self._request_time)
        except Exception as error:
            ours = as_our_error(error, self._shown)
            raise ours from ours.__cause__
        self._response_time = self._tools.clock.time()
        return cast("aiohttp.ClientResponse", _StubbedResponse(reply))

    def _wait_after(self, error: ImageCacheError) -> float | None:
        # The waits between tries are real ones, and a test that gives an error wants to see it.
        return None


class _StubbedResponse:
    """As much of a response as a network task uses: its head, and a body that comes in one piece."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.content = self
        self._body = reply.body

    async def readany(self) -> bytes:
        """The whole body, then nothing."""
        body, self._body = self._body, b""
        return body

    def release(self) -> None:
        """There is no connection to give back."""

    def close(self) -> None:
        """There is no connection to close."""


class _Unused:
    """Stands for the session and the resolver, which nobody asks for anything but their end."""

    async def close(self) -> None:
        """Nothing was opened."""


_open = downloader.ImageDownloader._open


def _open_for_now(self: downloader.ImageDownloader, url: str) -> object:
    # All checks, and a session that stands for one; a downloader used after the block opens its own.
    session = _open(self, url)
    if isinstance(session, _Unused):
        self._session = self._resolver = None
    return session


def _check(answer: Answer, url: str) -> None:
    for name in _NEEDS_A_SOCKET:
        value: object = getattr(answer, name)
        if value is not None and value is not False:
            raise StubError(f"Answer({name}=…) needs a real connection: use an ImageServer", url=display_url(url))


def _with_date(reply: Reply, now: float) -> Reply:
    fields = dict(reply.headers.pairs)
    if "date" not in reply.headers and "date" not in reply.removed:
        fields["Date"] = http_date(now)
    if reply.status not in (204, 304) and "content-length" not in reply.removed:
        fields.setdefault("Content-Length", str(len(reply.body)))
    return Reply(reply.status, Headers(fields), reply.body)


def _managers_in_memory() -> Callable[[], ImageManager]:
    """A manager for each running loop, as the module's own functions have them, but without a folder."""
    managers: dict[asyncio.AbstractEventLoop, ImageManager] = {}

    def manager() -> ImageManager:
        loop = asyncio.get_running_loop()
        if loop not in managers:
            managers[loop] = ImageManager("stub", disk_limit=0)
        return managers[loop]

    return manager
