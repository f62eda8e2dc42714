"""The body of an answer, read within bounds: by its announced length, and again as it comes, on decoded bytes."""

from __future__ import annotations

import asyncio
import logging
import re
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
    max_body: int,
    watch: Watch,
    count: BodyCount,
    progress: ProgressCallback | None,
    decode: bool = True,
) -> bytes:
    """The whole body, decoded unless it is to stay as it came.

    Raises BodyTooLargeError before anything is read over the limit, ResponseRefusedError for an unknown coding,
    TruncatedBodyError for a coded stream that is not whole, and what aiohttp raises for a body that ends early.
    """
    coding = content_coding(headers) if decode else None
    length = announced_length(headers)
    if length is not None and length > max_body:
        raise _too_large(f"the body is {format_size(length)} long", max_body)
    body = _Body(max_body)
    watch.reading()
    # Never read() or readline(): neither can be bounded.
    if coding is None:
        while chunk := await response.content.readany():
            _arrived(chunk, count, watch)
            body.add(chunk)
            if progress is not None:
                progress(body.size, length)
        return body.whole()
    decoder, coded = Decoder(coding), 0
    while chunk := await response.content.readany():
        _arrived(chunk, count, watch)
        # Blocks of nothing and a name without an end decode to no byte at all.
        coded += len(chunk)
        if coded > max_body:
            raise _too_large("the coded body goes on", max_body)
        for piece in decoder.feed(chunk):
            body.add(piece)
            await asyncio.sleep(0)
        if progress is not None:
            progress(body.size, None)
    decoder.finish()
    return body.whole()


class _Body:
    """The pieces of a body, within the limit."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            raise _too_large("the body goes on", self._limit)
        self._pieces.append(piece)

    def whole(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


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
