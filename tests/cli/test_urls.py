"""Lists of URLs: what a line means, and how the list is read."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from imagecache.batch.urls import BLOCK, LONGEST_LINE, URLListError, count_urls, parse_urls, read_urls


def parse(data: bytes) -> list[str]:
    class Stream(io.BytesIO, io.RawIOBase):
        """Bytes that arrive in small pieces, as from a pipe."""

        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(7)

    return [url for block in parse_urls(Stream(data)) for url in block]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_are_stripped_and_comments_left_out_whatever_the_system(end: str, encoding: str) -> None:
    lines = ["http://a/1", "", "  http://a/2\t", "# http://a/no", "   # nor this", "http://a/ü", "http://a/3#part"]
    assert parse(end.join(lines).encode(encoding)) == ["http://a/1", "http://a/2", "http://a/ü", "http://a/3#part"]


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="#"), min_size=1)))
def test_every_line_comes_once_and_in_order(lines: list[str]) -> None:
    assert parse("\n".join(lines).encode()) == lines


def test_bytes_that_are_no_utf8_are_shown() -> None:
    assert parse(b"http://a/\xe9.png") == ["http://a/\\xe9.png"]


def test_a_file_that_is_no_list_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"x" * (LONGEST_LINE + 2 * BLOCK))
    with pytest.raises(URLListError, match=r"video\.mp4"):
        count_urls(path)


async def test_a_file_is_read_as_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("".join(f"http://a.example/{index}\n" for index in range(20_000)))
    assert await asyncio.to_thread(count_urls, path) == 20_000
    assert [url async for url in read_urls(path)] == [f"http://a.example/{index}" for index in range(20_000)]


@pytest.mark.parametrize("name", ["none.txt", "."])
async def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(URLListError, match="cannot read"):
        _ = [url async for url in read_urls(tmp_path / name)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_only_a_few_blocks_are_read_ahead_and_leaving_early_ends_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    written = 0

    def feed() -> None:
        nonlocal written
        try:
            with path.open("wb", buffering=0) as pipe:
                while True:
                    written += pipe.write(b"http://a.example/\n" * 1000)
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    urls = read_urls(path)
    for _ in range(10):
        await anext(urls)
    await urls.aclose()
    await asyncio.to_thread(feeder.join, 10)
    assert not feeder.is_alive()
    # What was read, what the pipe holds, and what was being written when the reader left.
    assert written < 16 * BLOCK
