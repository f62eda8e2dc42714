"""What a hostile server says and how: heads, chunks and ways of sending, all bytes written out."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Iterable

from imagecache.testing import picture
from tests.network.server import Exchange, Handler

PICTURE = picture(8, 6, format="PNG")
"""What the misbehaving answer is about."""
NEXT = picture(9, 7, format="PNG")
"""What the next request to the same host is answered with."""
EVIL = picture(7, 5, format="PNG")
"""What nobody asked for."""

KIB, MIB = 2**10, 2**20
PAUSE = 0.02
"""Seconds between two bytes of a drip: many of them within the smallest limit of the tests."""


def head(*fields: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    """The head of an answer, with these field lines."""
    return "".join(f"{line}\r\n" for line in (f"{version} {status}", *fields, "")).encode("latin-1")


def sized(body: bytes = PICTURE, *fields: str, status: str = "200 OK") -> bytes:
    """A whole answer with its true length."""
    return head(f"Content-Length: {len(body)}", *fields, status=status) + body


CHUNKED = "Transfer-Encoding: chunked"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def chunks(data: bytes, size: int = 32) -> bytes:
    """The data in chunks, without the last, empty one."""
    return b"".join(chunk(data[start : start + size]) for start in range(0, len(data), size))


LAST = b"0\r\n\r\n"


def says(data: bytes) -> Handler:
    """Send this, and go on with the next request."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)

    return handler


def closes(data: bytes = b"") -> Handler:
    """Send this and close."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.cut()

    return handler


def resets(data: bytes = b"") -> Handler:
    """Send this and reset the connection."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)
        # A close with SO_LINGER 0 sends RST.
        exchange.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if _IS_WINDOWS else "ii", 1, 0)
        )
        exchange.reset()

    return handler


_IS_WINDOWS = not hasattr(socket, "AF_UNIX")


def hangs(data: bytes = b"") -> Handler:
    """Send this, and nothing more until the client goes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.is_gone()

    return handler


def drips(data: bytes, then: Iterable[bytes], *, size: int = 1) -> Handler:
    """Send the first part at once, then what follows a few bytes at a time, until the client goes."""

    async def handler(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.send(data)
        gone = asyncio.create_task(exchange.is_gone())
        try:
            for piece in then:
                for start in range(0, len(piece), size):
                    if gone.done():
                        return
                    await exchange.send(piece[start : start + size])
                    await asyncio.wait({gone}, timeout=PAUSE)
            await gone
        finally:
            gone.cancel()

    return handler


def floods(data: bytes, then: bytes) -> Handler:
    """Send the first part, then the second again and again as fast as it goes, until the client goes."""

    async def handler(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.send(data)
        try:
            while not exchange.writer.is_closing():
                await exchange.send(then)
                await asyncio.sleep(0)
        except ConnectionError:
            return

    return handler


def for_ever(data: bytes) -> Iterable[bytes]:
    return itertools.repeat(data)


def splits(answer: bytes, late: bytes, *, spoken: asyncio.Event, quiet: asyncio.Event) -> Handler:
    """Answer, and while the connection lies idle (``quiet`` is set) say something more; then ``spoken``."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(answer)
        await quiet.wait()
        await exchange.send(late)
        spoken.set()

    return handler
