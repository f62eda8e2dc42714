"""A real HTTP server on loopback for tests and demonstrations.

Here requests are received, held and logged; what is answered is decided in ``reply.py``, how that goes out
stands in ``sending.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from aiohttp import web
from yarl import URL

from imagecache.clock import Clock, SystemClock
from imagecache.headers import Headers

from .answer import Answer, AnswerSource
from .bell import Bell
from .gate import Gate
from .log import LoggedRequest
from .pictures import picture
from .reply import Resource, decide_reply, encode, normal_etag
from .sending import prepare, send_body, send_raw, set_exact_fields

if TYPE_CHECKING:
    import ssl as ssl_module

    from .answer import Content

_SHUTDOWN_SECONDS = 10.0
"""Never waited for: stopping cuts the connections first. Only the library's own minute would be too long."""
_T = TypeVar("_T")


class ImageServer:
    """Serves images on 127.0.0.1 as an origin server does, or as a test wants it to misbehave.

    >>> async with ImageServer() as server:
    ...     url = server.add("/cat.png")  # a generated picture
    ...     image = await imagecache.fetch_image(url)
    ...     image = await imagecache.fetch_image(url, force_refresh=True)
    ...     server.replace("/cat.png")  # another picture, another ETag
    ...     image = await imagecache.fetch_image(url, force_refresh=True)
    ...     print([request.status for request in server.requests])
    [200, 304, 200]

    ETags and Last-Modified are sent, conditional requests (RFC 9110, 13.2.2), HEAD and single ranges are
    answered, without any scripting. What is scripted is an :class:`Answer`, for the next requests
    (:meth:`script`) or for all (:meth:`always`). Nothing is random and nothing sleeps unless told to.

    ``port`` 0 takes a free one, and keeps it over :meth:`stop` and :meth:`start`; ``ssl`` serves https;
    ``clock`` gives the ``Date`` field and the log's times. Paths may have a query: one that was added with
    it comes before the one without. All methods that are not coroutines may be called from any thread,
    and the ``wait_for_…`` ones awaited on any loop.
    """

    def __init__(self, *, port: int = 0, clock: Clock | None = None, ssl: ssl_module.SSLContext | None = None) -> None:
        self.requests: list[LoggedRequest] = []
        """Every request since the last :meth:`reset`, in the order they came."""
        self.in_flight = 0
        """How many requests have come and are not answered to the end yet."""
        self.peak_in_flight = 0
        """The highest that :attr:`in_flight` has been since the last :meth:`reset`."""
        self._port = port
        self._clock = clock or SystemClock()
        self._ssl = ssl
        self._resources: dict[str, Resource] = {}
        self._scripts: dict[str, list[AnswerSource]] = {}
        self._standing: dict[str, AnswerSource] = {}
        self._bell = Bell()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()
        self._is_stopping = False

    # Lifetime

    async def start(self) -> None:
        """Listen; on the same port as before, if it ran before. Raises OSError if the port is taken."""
        self._is_stopping = False
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(set_exact_fields)
        # Cancellation of the handler is how a client that left is noticed while the request is held.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                _protocol_factory(runner), "127.0.0.1", self._port, ssl=self._ssl
            )
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections, at once, and stop listening; resources, scripts and log stay."""
        runner, self._runner = self._runner, None
        listener, self._listener = self._listener, None
        if runner is None or listener is None:
            return
        self._is_stopping = True
        await _stop_accepting(listener)
        for transport in self._transports:
            transport.abort()
        listener.close()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @classmethod
    @contextlib.contextmanager
    def in_thread(
        cls, *, port: int = 0, clock: Clock | None = None, ssl: ssl_module.SSLContext | None = None
    ) -> Iterator[Self]:
        """The same server on a loop and thread of its own, for programs and tests that are not async.

        >>> with ImageServer.in_thread() as server:
        ...     data = urllib.request.urlopen(server.add("/cat.png")).read()
        """
        server = cls(port=port, clock=clock, ssl=ssl)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="imagecache-test-server", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result()
            try:
                yield server
            finally:
                asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # What is served

    @property
    def origin(self) -> str:
        """Scheme, host and port. Raises RuntimeError before the server has ever been started."""
        if not self._port:
            raise RuntimeError("the server has no port yet: use it in `async with ImageServer() as server:`")
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self._port}"

    def url(self, path: str) -> str:
        """The URL of a path, whether anything is there or not."""
        return self.origin + _normal(path)

    def add(
        self,
        path: str,
        content: Content | None = None,
        *,
        format: str = "PNG",
        etag: str | bool = True,
        last_modified: float | bool = True,
        status: int = 200,
        headers: Mapping[str, str | None] | None = None,
    ) -> str:
        """Serve ``content`` at ``path``; returns its URL.

        ``content`` is bytes, a file (read now), an image (written in ``format``) or None: a generated
        picture, another one for each path. ``etag`` and ``last_modified`` (epoch seconds) are made up where
        True and absent where False. ``headers`` are sent with every answer; None takes one away that
        would be sent by itself (``Date``, ``Content-Type``).
        """
        path = _normal(path)
        body = encode(content, format) if content is not None else _generated(path, 1, format)
        self._resources[path] = Resource(path, body, status, dict(headers or {}), normal_etag(etag), last_modified)
        return self.url(path)

    def add_all(self, contents: Mapping[str, Content]) -> list[str]:
        """:meth:`add` for each path of a mapping, such as ``picture_set`` makes; returns the URLs in its order."""
        return [self.add(path, content) for path, content in contents.items()]

    def replace(self, path: str, content: Content | None = None, *, format: str = "PNG") -> None:
        """A new version with other bytes (None: another generated picture): new ETag, later Last-Modified."""
        resource = self._resource(path)
        body = encode(content, format) if content is not None else None
        if body is None:
            body = _generated(resource.path, resource.version + 1, format)
        self._resources[resource.path] = resource.next_version(body)

    def touch(self, path: str) -> None:
        """A new version with the same bytes: new ETag, later Last-Modified."""
        resource = self._resource(path)
        self._resources[resource.path] = resource.next_version(resource.body)

    def remove(self, path: str) -> None:
        """Answer 404 from now on."""
        del self._resources[self._resource(path).path]

    def body(self, path: str) -> bytes:
        """The bytes served at a path now."""
        return self._resource(path).body

    def etag(self, path: str) -> str | None:
        """The ETag sent for a path now."""
        return self._resource(path).etag

    # Scripts

    def script(self, path: str, *answers: AnswerSource) -> str:
        """Answer the next requests for ``path`` so, one each, then in the usual way again; returns its URL."""
        path = _normal(path)
        self._scripts.setdefault(path, []).extend(answers)
        return self.url(path)

    def always(self, path: str, answer: AnswerSource | None) -> str:
        """Answer every request for ``path`` so, once its script is used up; None: in the plain way again."""
        path = _normal(path)
        if answer is None:
            self._standing.pop(path, None)
        else:
            self._standing[path] = answer
        return self.url(path)

    def hold(self, path: str) -> Gate:
        """Hold every request for ``path`` at a gate, before anything is sent; returns the gate."""
        gate = Gate()
        self.always(path, Answer(gate=gate))
        return gate

    def hold_body(self, path: str, *, at: int | None = None) -> Gate:
        """Hold every answer for ``path`` after ``at`` bytes of its body (None: half of them); returns the gate."""
        gate = Gate()
        self.always(path, Answer(body_gate=gate, body_gate_at=at))
        return gate

    # What came

    def requests_for(self, path: str) -> list[LoggedRequest]:
        """The logged requests for a path; without a query it stands for every query."""
        path = _normal(path)
        is_whole = "?" in path
        return [r for r in self.requests if _normal(r.target if is_whole else r.path) == path]

    def count(self, path: str | None = None) -> int:
        """How many requests have come, for a path or in all."""
        return len(self.requests if path is None else self.requests_for(path))

    @property
    def bytes_sent(self) -> int:
        """Body bytes sent since the last :meth:`reset`."""
        return sum(logged.body_bytes_sent for logged in self.requests)

    def reset(self) -> None:
        """Forget the requests; what is served and scripted stays."""
        self.requests = []
        self.peak_in_flight = self.in_flight

    async def wait_for_requests(self, count: int, path: str | None = None, *, timeout: float = 10.0) -> None:
        """Wait until ``count`` requests have come. Raises TimeoutError after ``timeout`` seconds."""
        await self._until(lambda: self.count(path) >= count, timeout, f"{count} requests")

    async def wait_for_disconnect(self, path: str | None = None, count: int = 1, *, timeout: float = 10.0) -> None:
        """Wait until ``count`` clients have left before their answer was complete. Raises TimeoutError."""

        def have_left() -> bool:
            asked = self.requests if path is None else self.requests_for(path)
            return sum(logged.disconnected for logged in asked) >= count

        await self._until(have_left, timeout, f"{count} disconnects")

    async def wait_until_idle(self, *, timeout: float = 10.0) -> None:
        """Wait until no request is in flight. Raises TimeoutError."""
        await self._until(lambda: self.in_flight == 0, timeout, "the last answer")

    async def _until(self, is_so: Callable[[], bool], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._bell.until(is_so)
        except TimeoutError:
            seen = ", ".join(f"{r.method} {r.target} {r.status or 'unanswered'}" for r in self.requests)
            raise TimeoutError(f"waited {timeout} s for {what}; seen: {seen or 'nothing'}") from None

    # The way of a request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        logged = self._log(request)
        transport = request.transport
        if transport is not None:
            self._transports.add(transport)
        try:
            return await self._answer(request, logged)
        except (asyncio.CancelledError, ConnectionError):
            logged.disconnected = not self._is_stopping
            raise
        finally:
            if transport is not None:
                self._transports.discard(transport)
            logged.is_done = True
            self.in_flight -= 1
            self._bell.ring()

    def _log(self, request: web.Request) -> LoggedRequest:
        headers = Headers(request.headers.items())
        port = request.get_extra_info("peername", (None, 0))[1]
        logged = LoggedRequest(request.method, request.raw_path, headers, self._clock.time(), port)
        self.requests.append(logged)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._bell.ring()
        return logged

    async def _answer(self, request: web.Request, logged: LoggedRequest) -> web.StreamResponse:
        answer = self._next_answer(logged)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.gate is not None:
            await answer.gate.wait()
        if answer.raw is not None and request.transport is not None:
            send_raw(request.transport, answer.raw, logged)
            return web.Response()
        # Decided only now: what was replaced while the request was held is what it gets.
        reply = decide_reply(self._find(self._resources, logged), answer, request.method, logged.headers)
        response = prepare(reply, answer, now=self._clock.time())
        await response.prepare(request)
        logged.status = reply.status
        self._bell.ring()
        if request.method != "HEAD" and reply.status not in (204, 304):
            await send_body(response, reply.body, answer, logged)
            if answer.cut_at is not None and request.transport is not None:
                request.transport.close()
        return response

    def _next_answer(self, logged: LoggedRequest) -> Answer:
        script = self._find(self._scripts, logged)
        source = script.pop(0) if script else self._find(self._standing, logged)
        if source is None:
            return Answer()
        return source if isinstance(source, Answer) else source(logged)

    @staticmethod
    def _find(table: Mapping[str, _T], logged: LoggedRequest) -> _T | None:
        target = _normal(logged.target)
        return table.get(target) or table.get(target.partition("?")[0])

    def _resource(self, path: str) -> Resource:
        try:
            return self._resources[_normal(path)]
        except KeyError:
            raise LookupError(f"nothing was added at {path!r}") from None


def _protocol_factory(runner: web.AppRunner) -> web.Server:
    factory = runner.server
    if factory is None:
        raise RuntimeError("the runner has not been set up")
    return factory


async def _stop_accepting(listener: asyncio.Server) -> None:
    # A connection accepted in the very turn in which the listener is closed is dropped with an error log by
    # asyncio before Python 3.13; a client that retries while its server goes down makes one. So: first no
    # more, then one turn for those that were accepted. Proactor loops and uvloop have no readers here, and no such gap.
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError):
        for listening in listener.sockets:
            loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)


def _normal(path: str) -> str:
    """The path and query as a client sends them; a whole URL stands for its path."""
    url = URL(path if "://" in path.partition("?")[0] else f"http://localhost/{path.removeprefix('/')}")
    return url.raw_path_qs


def _generated(path: str, version: int, format: str) -> bytes:
    return picture(seed=zlib.crc32(f"{path} {version}".encode()), format=format)
