"""Lists of URLs, a line each, from a file or standard input: read as they are wanted, off the event loop.

What a line means is decided here; whether it is a URL is not, so that a bad line is one failed outcome among
good ones instead of the end of the job.
"""

from __future__ import annotations

import asyncio
import codecs
import errno
import io
import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BLOCK = 1 << 16
"""Bytes a read: some 600 URLs, and a pipe gives what it has at once, so that a slow producer is followed closely."""

LONGEST_LINE = 1 << 20
"""Characters. No URL is so long; a file that has such a line is something else, and would be read into memory whole."""

_BLOCKS_AHEAD = 2


class URLListError(Exception):
    """The list cannot be read, or is none; the message says which list and why."""


def parse_urls(stream: io.RawIOBase) -> Iterator[list[str]]:
    """The URLs of each block of a binary stream, in order.

    Lines are stripped; empty ones and those that begin with ``#`` are left out. Line ends may be those of
    any system, a byte order mark is understood (PowerShell's ``>`` writes UTF-16), and bytes that are no
    UTF-8 show as ``\\xNN``. Raises URLListError for a line of over 1 MiB, OSError as the stream does.
    """
    decoder: io.IncrementalNewlineDecoder | None = None
    rest = ""
    while block := stream.read(BLOCK):
        decoder = decoder or _decoder_for(block)
        *lines, rest = (rest + decoder.decode(block)).split("\n")
        if len(rest) > LONGEST_LINE:
            raise URLListError(f"a line is over {LONGEST_LINE:,} characters long: this is no list of URLs")
        yield _urls_of(lines)
    if decoder is not None:
        yield _urls_of((rest + decoder.decode(b"", final=True)).split("\n"))


def count_urls(path: Path) -> int:
    """How many URLs a file lists; blocking. Raises URLListError as :func:`read_urls` does."""
    with _readable(path), io.FileIO(path) as stream:
        return sum(map(len, parse_urls(stream)))


async def read_urls(path: Path | None) -> AsyncGenerator[str, None]:
    """The URLs of a file, or of standard input where ``path`` is None, a few blocks ahead of whoever asks.

    Raises URLListError if it cannot be read, or is no list of URLs.
    """
    reader = _Reader(path)
    try:
        while (urls := await reader.next_block()) is not None:
            for url in urls:
                yield url
    finally:
        reader.stop()


@contextmanager
def _readable(path: Path | None) -> Iterator[None]:
    name = "standard input" if path is None else path
    try:
        yield
    except OSError as error:
        raise URLListError(f"cannot read {name}: {error.strerror or error}") from error
    except URLListError as error:
        raise URLListError(f"{name}: {error}") from error


def _decoder_for(start: bytes) -> io.IncrementalNewlineDecoder:
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if is_utf16 else "utf-8-sig")("backslashreplace")
    return io.IncrementalNewlineDecoder(decoder, translate=True)


def _urls_of(lines: list[str]) -> list[str]:
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def _stdin() -> io.FileIO:
    # Unbuffered, and not sys.stdin: a daemon thread that waits inside a buffered reader holds its lock,
    # and the interpreter aborts at exit when it wants that lock.
    if sys.stdin is None:  # closed by whoever started the program
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return io.FileIO(sys.stdin.fileno(), "rb", closefd=False)


class _Reader:
    """A daemon thread that reads ahead: a pipe that says nothing must not keep the program from ending."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._blocks: asyncio.Queue[list[str] | URLListError | None] = asyncio.Queue()
        self._room = threading.Semaphore(_BLOCKS_AHEAD)
        self._is_stopped = False
        threading.Thread(target=self._run, name="imagecache-urls", daemon=True).start()

    async def next_block(self) -> list[str] | None:
        """The next URLs; None at the end. Raises what reading raised."""
        block = await self._blocks.get()
        self._room.release()
        if isinstance(block, URLListError):
            raise block
        return block

    def stop(self) -> None:
        """Let the thread end with the block that it is reading."""
        self._is_stopped = True
        self._room.release()

    def _run(self) -> None:
        try:
            with _readable(self._path), _stdin() if self._path is None else io.FileIO(self._path) as stream:
                for urls in parse_urls(stream):
                    self._hand_over(urls)
                    self._room.acquire()
                    if self._is_stopped:
                        return
            self._hand_over(None)
        except URLListError as error:
            self._hand_over(error)

    def _hand_over(self, block: list[str] | URLListError | None) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody is left to read for.
            self._loop.call_soon_threadsafe(self._blocks.put_nowait, block)
