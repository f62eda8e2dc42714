"""The body of an answer, read within bounds: by its announced length, and again as it comes, on decoded bytes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from ..errors import BodyTooLargeError
from ..headers import Headers
from ..request import ProgressCallback
from ..units import format_size
from .coding import Decoder, content_coding
from .watch import Watch

logger = logging.getLogger("imagecache")

SPOOL_OVER = 2**20
"""Bytes of a body in memory from which on it goes to a file, so much at a time: a thumbnail never sees one, and a turn
of a worker thread is nothing beside the time that a MiB takes to come."""

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
            if body.is_heavy:
                await body.relieve()
        return
    decoder, coded = Decoder(coding), 0
    while chunk := await response.content.readany():
        _arrived(chunk, count, watch)
        # Blocks of nothing and a name without an end decode to no byte at all.
        coded += len(chunk)
        if coded > body.limit:
            raise _too_large("the coded body goes on", body.limit)
        for piece in decoder.feed(chunk):
            body.add(piece)
            await asyncio.sleep(0)
        if body.is_heavy:
            await body.relieve()
        if progress is not None:
            progress(body.size, None)
    decoder.finish()


class SpoolFile(Protocol):
    """A file that a long body is written to while it comes; used in worker threads."""

    def write(self, position: int, pieces: Sequence[bytes]) -> None:
        """Write there. OSError if that fails."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """What was written there. OSError if that fails."""
        ...

    def close(self) -> None:
        """Nothing more is written or read."""
        ...

    def hand_over(self) -> str | None:
        """Its name, for whoever stores it in place of the bytes."""
        ...

    def discard(self) -> None:
        """Nobody wants it, unless it was handed over. On the loop, too."""


class Body:
    """The pieces of a body, within the limit in bytes; those of a long one in a file, if there is one for it."""

    def __init__(self, limit: int, open_spool: Callable[[], SpoolFile | None] | None = None) -> None:
        self.size = 0
        self.limit = limit
        self.spool: SpoolFile | None = None
        self._open_spool = open_spool
        # The bytes in the file; the pieces are those behind.
        self._spooled = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Put a piece behind the others. Raises BodyTooLargeError over the limit."""
        if self.size + len(piece) > self.limit:
            raise _too_large("the body goes on", self.limit)
        self.size += len(piece)
        self._pieces.append(piece)

    @property
    def is_heavy(self) -> bool:
        """Whether so much is held in memory that `relieve` is due."""
        return self.size - self._spooled >= SPOOL_OVER and self._open_spool is not None

    async def relieve(self) -> None:
        """Bring what is held in memory to the file. If that fails, all of it stays in memory."""
        if self.spool is None and self._open_spool is not None:
            self.spool = self._open_spool()
        if self.spool is None:
            self._open_spool = None
            return
        count, size = len(self._pieces), self.size
        try:
            await asyncio.to_thread(self.spool.write, self._spooled, self._pieces[:count])
        except OSError as error:
            logger.debug("a body is held in memory, since its file cannot be written: %s", error)
            self._pieces.insert(0, await asyncio.to_thread(self._take_back, self.spool, self._spooled))
            self.discard()
            self._spooled, self.spool, self._open_spool = 0, None, None
            return
        del self._pieces[:count]
        self._spooled = size

    async def whole(self) -> bytes:
        """All of it, to which nothing is added any more."""
        if self.spool is not None and self._pieces:
            await self.relieve()
        if self.spool is not None:
            return await asyncio.to_thread(self._read_whole, self.spool)
        if len(self._pieces) == 1:
            return self._pieces[0]
        if self.size > SPOOL_OVER:
            # Without a file for it. Milliseconds, in which joining lets go of the GIL.
            return await asyncio.to_thread(b"".join, self._pieces)
        return b"".join(self._pieces)

    def since(self, start: int) -> Callable[[], bytes]:
        """What reads, in a worker thread, what is there now from a position on."""
        spool, spooled, pieces = self.spool, self._spooled, list(self._pieces)
        skipped = max(0, start - spooled)
        while skipped and len(pieces[0]) <= skipped:
            skipped -= len(pieces.pop(0))
        if skipped:
            pieces[0] = pieces[0][skipped:]

        def read() -> bytes:
            first = spool.read(start, spooled) if spool is not None and start < spooled else b""
            return b"".join([first, *pieces]) if pieces else first

        return read

    def discard(self) -> None:
        """Nobody wants it any more."""
        if self.spool is not None:
            self.spool.discard()

    def _read_whole(self, spool: SpoolFile) -> bytes:
        body = spool.read(0, self.size)
        spool.close()
        return body

    def _take_back(self, spool: SpoolFile, size: int) -> bytes:
        return spool.read(0, size) if size else b""


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
