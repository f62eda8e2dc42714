"""The body of an answer, read within bounds: by its announced length, and again as it comes, on decoded bytes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from ..errors import BodyTooLargeError
from ..headers import Headers
from ..request import ProgressCallback
from ..units import format_size
from .coding import Decoder, content_coding
from .watch import Watch

logger = logging.getLogger("imagecache")

_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(slots=True)
class BodyCount:
    """``received`` bytes off the wire, counted while they come, so that a failed try is counted too."""

    received: int = 0


def announced_length(headers: Headers) -> int | None:
    """The Content-Length, None where there is none to count on."""
    value = headers.get("content-length", "")
    return int(value) if _LENGTH.fullmatch(value) and "transfer-encoding" not in headers else None


async def read_body(
    response: aiohttp.ClientResponse,
    headers: Headers,
    *,
    body: Body,
    watch: Watch,
    count: BodyCount,
    progress: ProgressCallback | None,
    decode: bool = True,
    checkpoint: Callable[[], None] | None = None,
) -> None:
    """Read to the end into ``body``, behind what is there; decoded unless it is to stay as it came.

    ``checkpoint`` is called now and then with what came being in ``body``.

    Raises BodyTooLargeError before anything is read over the limit, ResponseRefusedError for an unknown coding,
    TruncatedBodyError for a coded stream that is not whole, and what aiohttp raises for a body that ends early.
    """
    coding = content_coding(headers) if decode else None
    length = announced_length(headers)
    if length is not None:
        length += body.size
        if length > body.limit:
            raise _too_large(f"the body is {format_size(length)} long", body.limit)
    watch.reading()
    # Never read() or readline(): neither can be bounded.
    if coding is None:
        while chunk := await response.content.readany():
            _arrived(chunk, count, watch)
            body.add(chunk)
            if progress is not None:
                progress(body.size, length)
            if checkpoint is not None:
                checkpoint()
        return
    decoder = Decoder(coding)
    while chunk := await response.content.readany():
        _arrived(chunk, count, watch)
        for piece in decoder.feed(chunk):
            body.add(piece)
            await asyncio.sleep(0)
        if progress is not None:
            progress(body.size, None)
    decoder.finish()


class Body:
    """The pieces of a body, within the limit in bytes."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.limit = limit
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Put a piece behind the others. Raises BodyTooLargeError over the limit."""
        if self.size + len(piece) > self.limit:
            raise _too_large("the body goes on", self.limit)
        self.size += len(piece)
        self._pieces.append(piece)

    def whole(self) -> bytes:
        """All of it."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def since(self, start: int) -> list[bytes]:
        """The pieces from a position on, at which one of them begins."""
        position, count = self.size, len(self._pieces)
        while position > start:
            count -= 1
            position -= len(self._pieces[count])
        return self._pieces[count:]


def _arrived(chunk: bytes, count: BodyCount, watch: Watch) -> None:
    count.received += len(chunk)
    watch.received(len(chunk))


def decoded_headers(headers: Headers) -> Headers:
    """The header fields that fit the body as it was read."""
    return headers.without("Content-Encoding", "Content-Length") if content_coding(headers) else headers


def safely(progress: ProgressCallback | None) -> ProgressCallback | None:
    """A caller's progress callback, whose faults are logged and harm nobody."""
    if progress is None:
        return None

    def report(received: int, total: int | None) -> None:
        try:
            progress(received, total)
        except Exception:
            logger.exception("a progress callback raised")

    return report


def _too_large(what: str, max_body: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"{what}, over the limit of {format_size(max_body)} (max_body)", limit=max_body)
