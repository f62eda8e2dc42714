"""Undoing the one content coding that a body may come in although none was asked for. Bounded slices, no I/O.

aiohttp could do it, and takes a gzip stream that is cut short for a whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..errors import ResponseRefusedError, TruncatedBodyError
from ..headers import Headers

SLICE = 256 * 1024
"""Decoded bytes made in one go: well under a millisecond of the event loop."""

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def content_coding(headers: Headers) -> str | None:
    """The one content coding of an answer (RFC 9110, 8.4), None for none.

    Raises ResponseRefusedError for a coding that is not undone, and for stacked ones.
    """
    if "content-encoding" not in headers:
        return None
    codings = [c.strip().lower() for c in headers["content-encoding"].split(",")]
    codings = [c for c in codings if c not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _WINDOW_BITS:
        raise ResponseRefusedError(
            f"the body comes in a content coding that is not undone: {', '.join(codings)[:80]}; identity was asked for"
        )
    return codings[0]


class Decoder:
    """One gzip or deflate stream, fed as it comes. What ends early, is damaged or goes on behind its end is refused."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inflater: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes that this piece brings, in slices. Raises TruncatedBodyError for a damaged stream."""
        if self._inflater is None:
            self._inflater = zlib.decompressobj(self._window_bits(data))
        while data:
            if self._inflater.eof:
                # Further members are legal (RFC 1952) and unused, but a way to burn time with a million empty ones.
                raise TruncatedBodyError(f"the body goes on behind the end of its {self._coding} stream")
            try:
                decoded = self._inflater.decompress(data, SLICE)
            except zlib.error as error:
                raise TruncatedBodyError(f"the body is no whole {self._coding} stream: {error}") from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            if decoded:
                yield decoded

    def finish(self) -> None:
        """The body has ended. Raises TruncatedBodyError if its stream has not."""
        if self._inflater is not None and not self._inflater.eof:
            raise TruncatedBodyError(f"the body ended before its {self._coding} stream")

    def _window_bits(self, data: bytes) -> int:
        # RFC 9110, 8.4.1.2: "deflate" is the zlib format, and some servers send it bare.
        if self._coding == "deflate" and data[0] & 0x0F != 8:
            return -zlib.MAX_WBITS
        return _WINDOW_BITS[self._coding]
