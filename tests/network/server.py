"""A server of raw sockets on loopback, whose handlers write the very bytes that go over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
"""Stands for an image; nobody in this room decodes."""


@dataclass(slots=True)
class Exchange:
    """One request, and the means to answer it."""

    method: str
    target: str
    headers: Mapping[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    keep_alive: bool = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body)

    async def is_gone(self) -> None:
        """Returns when the client has closed the connection."""
        self.keep_alive = False
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def cut(self) -> None:
        """Close after this answer."""
        self.keep_alive = False

    def reset(self) -> None:
        """Close without a goodbye."""
        self.keep_alive = False
        self.writer.transport.abort()


Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class RawServer:
    """Serves what handlers write; notes every request."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    was_reached: asyncio.Event = field(default_factory=asyncio.Event)
    base: str = ""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _some_closed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=2**20)
        port = self._server.sockets[0].getsockname()[1]
        self.base = f"{'https' if context else 'http'}://127.0.0.1:{port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def on(self, path: str, handler: Handler) -> str:
        """Answer this path so; the URL of it."""
        self.handlers[path] = handler
        return self.base + path

    def serve(
        self, path: str, body: bytes = PNG, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> str:
        """Answer this path with this; the URL of it."""

        async def reply(exchange: Exchange) -> None:
            await exchange.reply(status, headers, body)

        return self.on(path, reply)

    def paths(self) -> list[str]:
        return [exchange.target for exchange in self.requests]

    async def all_closed(self) -> None:
        """Returns when no connection is open."""
        async with self._some_closed:
            await self._some_closed.wait_for(lambda: not self.open_connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.was_reached.set()
        self.open_connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip().split("\r\n")
                method, target, _ = first.split(" ")
                pairs = (line.partition(": ") for line in lines)
                headers = {name.lower(): value for name, _, value in pairs}
                exchange = Exchange(method, target, headers, reader, writer, number)
                self.requests.append(exchange)
                handler = self.handlers.get(target.partition("?")[0])
                if handler is None:
                    await exchange.reply(404)
                    continue
                await handler(exchange)
                if not exchange.keep_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.close()
            # A client's reset may come as late as this.
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)
            self.open_connections -= 1
            async with self._some_closed:
                self._some_closed.notify_all()
