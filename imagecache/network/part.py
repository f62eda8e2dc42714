"""The beginning of an answer that broke off: what it takes to go on with it, and where it is kept. No I/O here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..clock import Clock
from ..errors import TruncatedBodyError
from ..headers import Headers
from ..http.resuming import rest_length, resume_fields, resume_validator, whole_headers
from ..http.storing import vary_fields
from ..request import DownloadRequest
from .body import Body, SpoolFile, announced_length
from .download import Download

MIN_PART = 64 * 1024
"""Bytes from which on a beginning is worth keeping: fewer come as fast again as they are asked for."""
CHECKPOINT = 2.0
"""Seconds between two times that what came is given to be kept: so much of it, at most, is lost in a crash."""


@dataclass(slots=True)
class Part:
    """What came of an answer: its head, and the body so far. ``total`` is None where its length was not told.

    ``kept`` is how many of its bytes are kept elsewhere already.
    """

    head: Download
    validator: str
    total: int | None
    body: Body
    kept: int = 0

    def belongs_to(self, request: DownloadRequest) -> bool:
        """Whether the rest of it can be an answer to this request, of the same kind to the same URL."""
        own, received = self.head.request, self.head.headers
        if (request.method, request.url) != ("GET", own.url) or "range" in request.headers:
            return False
        return vary_fields(request.headers, received) == vary_fields(own.headers, received)

    @property
    def is_worth_it(self) -> bool:
        """Whether there is enough of it to ask for the rest alone."""
        return self.body.size >= MIN_PART

    def rest_of(self, request: DownloadRequest) -> DownloadRequest:
        """The request for the rest, as it goes over the wire."""
        return request.with_headers(resume_fields(self.validator, self.body.size))

    def length_with(self, rest: Headers) -> int | None:
        """How long it is with the rest that a 206 brings; None if that is no rest of this."""
        return rest_length(rest, self.validator, self.body.size, self.total)

    def headers_with(self, rest: Headers, length: int) -> Headers:
        """The header fields of the whole, of that length."""
        return whole_headers(self.head.headers, rest, length)


def is_worth_keeping(headers: Headers) -> bool:
    """Whether an answer is so long that a beginning of it may be worth keeping: nearly all images are not."""
    length = announced_length(headers)
    return length is None or length >= MIN_PART


class PartStore(Protocol):
    """Where beginnings are kept over the end of a download, those of one call."""

    async def find(self, request: DownloadRequest) -> Part | None:
        """The beginning that is kept of the answer to this request, which is about to be sent."""
        ...

    def keep(self, part: Part, start: int, read: Callable[[], bytes]) -> None:
        """Keep what came from ``start`` on; ``read`` gives it, and may be called in a worker thread."""
        ...

    def open_spool(self) -> SpoolFile | None:
        """A file for a long body, to be written while it comes."""
        ...

    def forget(self) -> None:
        """What is kept is of no use: the server has another version by now, or none to go on with."""


class Resumption:
    """What one download has of an answer so far, over its tries."""

    def __init__(self, clock: Clock, store: PartStore | None) -> None:
        self.part: Part | None = None
        self._clock = clock
        self._store = store
        self._kept_at = 0.0

    async def part_for(self, request: DownloadRequest) -> Part | None:
        """The beginning with which to ask for the rest only: one of an earlier try, or one that was kept."""
        if self.part is None and self._store is not None:
            self.part = await self._store.find(request)
        part = self.part
        return part if part is not None and part.is_worth_it and part.belongs_to(request) else None

    def begin(self, head: Download | None, body: Body) -> None:
        """A whole answer begins to come; ``head`` is None for one that is not worth keeping."""
        if self.part is not None:
            self.drop()
        if head is None:
            return
        sent, received = head.request, head.headers
        validator = resume_validator(sent.method, head.status, sent.headers, received, now=head.response_time)
        if validator is not None:
            self.part = Part(head, validator, announced_length(received), body)
        self._kept_at = self._clock.monotonic()

    def go_on(self, part: Part, head: Download) -> None:
        """The rest of it begins to come."""
        part.head = head
        part.total = announced_length(head.headers)
        self._kept_at = self._clock.monotonic()

    def checkpoint(self) -> None:
        """Something came: give it to be kept, if the last time is long ago."""
        part = self.part
        if part is None or self._store is None or part.body.size - part.kept < MIN_PART:
            return
        now = self._clock.monotonic()
        if now - self._kept_at >= CHECKPOINT:
            self._kept_at = now
            self._keep(part, self._store)

    def broke_off(self) -> None:
        """There is no other try: give what came to be kept."""
        part, self.part = self.part, None
        if part is None:
            return
        if self._store is not None and part.is_worth_it and part.body.size > part.kept:
            self._keep(part, self._store, is_last=True)
        else:
            part.body.discard()

    def holds(self, body: Body) -> bool:
        """Whether that is gone on with, by another try or call."""
        return self.part is not None and self.part.body is body

    def check_end(self) -> None:
        """The answer has ended. Raises TruncatedBodyError if what is there now is not as long as was told."""
        part, size = self.part, 0 if self.part is None else self.part.body.size
        if part is not None and part.total is not None and size != part.total:
            if size > part.total:
                self.drop()
            raise TruncatedBodyError(f"the body has {size} bytes instead of {part.total}")
        self.part = None

    def drop(self) -> None:
        """What came is no beginning of what the server has, or of nothing that may be used."""
        part, self.part = self.part, None
        if part is not None:
            part.body.discard()
        if self._store is not None:
            self._store.forget()

    def _keep(self, part: Part, store: PartStore, *, is_last: bool = False) -> None:
        start, part.kept = part.kept, part.body.size
        read = part.body.since(start)

        def read_last() -> bytes:
            try:
                return read()
            finally:
                part.body.discard()

        store.keep(part, start, read_last if is_last else read)
