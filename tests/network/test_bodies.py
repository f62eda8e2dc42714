"""Bodies and answers that are too long, cut, coded, malformed or not asked for: an error, and the next one right."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest

from imagecache.errors import (
    BodyTooLargeError,
    ConnectionFailedError,
    ImageCacheError,
    NetworkError,
    ResponseError,
    ResponseRefusedError,
    TruncatedBodyError,
)
from imagecache.headers import Headers
from imagecache.network.downloader import ImageDownloader
from imagecache.network.settings import NetworkOptions
from imagecache.request import DownloadRequest
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, Handler, RawServer

MIB = 2**20


def writes(data: bytes, *, reset: bool = False) -> Handler:
    """A handler that writes just this and closes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)
        if reset:
            exchange.reset()
        exchange.cut()

    return handler


def ok(*fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"
TWO = gzip.compress(b"one") + gzip.compress(b"two")

BROKEN: dict[str, tuple[bytes, type[ImageCacheError]]] = {
    "short of its length": (ok("Content-Length: 100", body=b"short"), TruncatedBodyError),
    "no last chunk": (ok(CHUNKED, body=b"5\r\nhello\r\n"), TruncatedBodyError),
    "a cut chunk": (ok(CHUNKED, body=b"ff\r\nhello"), TruncatedBodyError),
    "a bad chunk size": (ok(CHUNKED, body=b"zz\r\nhello\r\n0\r\n\r\n"), ImageCacheError),
    "a negative chunk size": (ok(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"), ImageCacheError),
    "an overflowing chunk size": (ok(CHUNKED, body=b"f" * 20 + b"\r\nhello"), ImageCacheError),
    "damaged gzip": (ok("Content-Encoding: gzip", "Content-Length: 5", body=b"hello"), NetworkError),
    "data behind gzip": (
        ok("Content-Encoding: gzip", CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(TWO), TWO)), TruncatedBodyError
    ),
    "cut gzip": (
        ok("Content-Encoding: gzip", "Content-Length: 20", body=gzip.compress(PNG * 9)[:20]), TruncatedBodyError
    ),
    "nothing at all": (b"", ConnectionFailedError),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", ImageCacheError),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ResponseError),
    "HTTP/0.9": (b"\x89PNG just bytes\r\n\r\n", ResponseError),
    "a bad status": (b"HTTP/1.1 twohundred OK\r\n\r\n", ResponseError),
    "a negative length": (ok("Content-Length: -5", body=b"hello"), ImageCacheError),
    "a length of letters": (ok("Content-Length: five", body=b"hello"), ImageCacheError),
    "two lengths": (ok("Content-Length: 5", "Content-Length: 3", body=b"hello"), ImageCacheError),
    "a header without a name": (ok(": x", "Content-Length: 5", body=b"hello"), ImageCacheError),
    "a NUL in a header": (ok("X: a\0b", "Content-Length: 5", body=b"hello"), ImageCacheError),
    "a header too long": (ok("X: " + "a" * 70_000, "Content-Length: 0"), ResponseError),
    "too many headers": (ok(*[f"X-{n}: 1" for n in range(500)], "Content-Length: 0"), ResponseError),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_answer_is_an_error_and_the_next_one_is_right(
    server: RawServer, downloader: ImageDownloader, what: str
) -> None:
    data, kind = BROKEN[what]
    url, good = server.on("/broken", writes(data)), server.serve("/good")
    with pytest.raises(kind) as caught:
        await downloader.download(url)
    assert caught.value.url == url
    assert type(caught.value).__module__ == "imagecache.errors"
    assert (await downloader.download(good)).body == PNG


async def test_a_reset_is_an_error(server: RawServer, downloader: ImageDownloader) -> None:
    cut = server.on("/cut", writes(ok("Content-Length: 100", body=b"short"), reset=True))
    with pytest.raises(NetworkError):
        await downloader.download(cut)
    with pytest.raises(ConnectionFailedError):
        await downloader.download(server.on("/none", writes(b"", reset=True)))


async def test_a_refused_connection_and_an_unknown_host_say_so(
    other_server: RawServer, downloader: ImageDownloader
) -> None:
    url = other_server.base + "/a"
    await other_server.stop()
    with pytest.raises(ConnectionFailedError, match=r"no connection to 127\.0\.0\.1") as caught:
        await downloader.download(url)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ConnectionFailedError, match="cannot be resolved"):
        await downloader.download("http://no-such-host.invalid/a")


async def test_the_cause_does_not_show_the_requests_secrets(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.on("/a", writes(b"no http\r\n\r\n"))
    with pytest.raises(ResponseError) as caught:
        await downloader.download(DownloadRequest(url, Headers({"Authorization": "Bearer secret"})))
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


# Length


async def test_a_body_over_the_limit_is_refused_before_it_is_read(server: RawServer, make: MakeDownloader) -> None:
    gone = asyncio.Event()

    async def long(exchange: Exchange) -> None:
        await exchange.send(ok("Content-Length: 1001"))
        await exchange.is_gone()
        gone.set()

    downloader = make(NetworkOptions(max_body=1000))
    with pytest.raises(BodyTooLargeError, match="max_body") as caught:
        await downloader.download(server.on("/a", long))
    assert caught.value.limit == 1000
    await gone.wait()
    assert (await downloader.download(server.serve("/b", b"x" * 1000))).body == b"x" * 1000


async def test_an_endless_body_is_cut_at_the_limit(server: RawServer, make: MakeDownloader) -> None:
    gone = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        try:
            await exchange.send(ok(CHUNKED))
            while True:
                await exchange.send(b"10000\r\n" + bytes(65536) + b"\r\n")
        except ConnectionError:
            gone.set()
            raise

    downloader = make(NetworkOptions(max_body=MIB))
    with pytest.raises(BodyTooLargeError):
        await downloader.download(server.on("/a", endless))
    await gone.wait()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_decoded_bytes_are_counted(server: RawServer, make: MakeDownloader, coding: str) -> None:
    packed = (gzip.compress if coding == "gzip" else zlib.compress)(bytes(100 * MIB))
    url = server.serve("/bomb", packed, headers={"Content-Encoding": coding})
    downloader = make(NetworkOptions(max_body=8 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            await downloader.download(url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB


PACK = {
    "GZIP": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " Deflate": lambda data: zlib.compress(data, wbits=-15),
    "identity, gzip": gzip.compress,
}


@pytest.mark.parametrize("coding", PACK)
async def test_a_coded_body_is_decoded_and_its_headers_fit(
    server: RawServer, downloader: ImageDownloader, coding: str
) -> None:
    packed = PACK[coding](PNG)
    url = server.serve("/a", packed, headers={"Content-Encoding": coding, "ETag": '"1"'})
    seen: list[tuple[int, int | None]] = []
    download = await downloader.download(url, progress=lambda *p: seen.append(p))
    assert download.body == PNG
    assert download.bytes_received == len(packed)
    assert seen[-1] == (len(PNG), None)
    assert "content-encoding" not in download.headers
    assert "content-length" not in download.headers
    assert download.headers["etag"] == '"1"'


@pytest.mark.parametrize("coding", ["gzip, gzip", "compress", "x-secret", "gzip, identity, deflate"])
async def test_codings_that_are_not_undone_are_refused(
    server: RawServer, downloader: ImageDownloader, coding: str
) -> None:
    url = server.serve("/a", gzip.compress(gzip.compress(PNG)), headers={"Content-Encoding": coding})
    with pytest.raises(ImageCacheError) as caught:
        await downloader.download(url)
    assert isinstance(caught.value, ResponseRefusedError | NetworkError)


async def test_a_body_in_pieces_is_whole_with_and_without_a_length(
    server: RawServer, downloader: ImageDownloader
) -> None:
    gate = asyncio.Event()

    async def pieces(exchange: Exchange) -> None:
        await exchange.send(ok(CHUNKED, body=b"3\r\nabc\r\n"))
        await gate.wait()
        await exchange.send(b"3\r\ndef\r\n0\r\n\r\n")

    seen: list[tuple[int, int | None]] = []

    def progress(received: int, total: int | None) -> None:
        seen.append((received, total))
        gate.set()

    download = await downloader.download(server.on("/chunked", pieces), progress=progress)
    assert download.body == b"abcdef"
    assert seen == [(3, None), (6, None)]
    closes = server.on("/closes", writes(b"HTTP/1.0 200 OK\r\n\r\n" + PNG))
    assert (await downloader.download(closes)).body == PNG


async def test_an_empty_body_is_no_affair_of_the_network(server: RawServer, downloader: ImageDownloader) -> None:
    assert (await downloader.download(server.serve("/a", b""))).body == b""


async def test_early_hints_and_continues_are_passed_over(server: RawServer, downloader: ImageDownloader) -> None:
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    url = server.on("/a", writes(head + ok("Content-Length: 2", body=b"ab")))
    assert (await downloader.download(url)).body == b"ab"


async def test_header_bytes_of_any_alphabet_become_text_that_can_be_stored(
    server: RawServer, downloader: ImageDownloader
) -> None:
    latin, utf = "ü".encode("latin-1"), "ü".encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Latin: " + latin + b"\r\nX-Utf: " + utf + b"\r\n\r\n"
    download = await downloader.download(server.on("/a", writes(head)))
    assert (download.headers["x-latin"], download.headers["x-utf"]) == ("ü", "ü")


# Keep-alive

EVIL = ok("Content-Length: 4", body=b"evil")


async def test_bytes_that_came_while_a_connection_lay_idle_answer_nothing(
    server: RawServer, downloader: ImageDownloader
) -> None:
    # aiohttp 3.14.5 takes them for the next answer: response splitting.
    spoken, quiet = asyncio.Event(), asyncio.Event()

    async def splits(exchange: Exchange) -> None:
        await exchange.reply(body=b"first")
        await quiet.wait()
        await exchange.send(EVIL)
        spoken.set()

    await downloader.download(server.on("/splits", splits))
    quiet.set()
    await spoken.wait()
    assert (await downloader.download(server.serve("/good"))).body == PNG
    assert server.connections == 2


async def test_the_same_holds_for_bytes_that_the_loop_has_read_already(
    server: RawServer, downloader: ImageDownloader
) -> None:
    spoken, quiet = asyncio.Event(), asyncio.Event()

    async def splits(exchange: Exchange) -> None:
        await exchange.reply(body=b"first")
        await quiet.wait()
        await exchange.send(EVIL)
        spoken.set()

    await downloader.download(server.on("/splits", splits))
    quiet.set()
    await spoken.wait()
    # A connection to another port makes the loop go round until the idle one was surely read.
    other = RawServer()
    await other.start()
    try:
        await downloader.download(other.serve("/x"))
        await downloader.download(other.serve("/x"))
    finally:
        await other.stop()
    assert (await downloader.download(server.serve("/good"))).body == PNG


async def test_bytes_right_behind_an_answer_do_not_answer_the_next_request(
    server: RawServer, downloader: ImageDownloader
) -> None:
    await downloader.download(server.on("/a", _keeps(ok("Content-Length: 5", body=b"first") + EVIL)))
    assert (await downloader.download(server.serve("/good"))).body == PNG


async def test_a_connection_that_the_server_closed_is_replaced(server: RawServer, downloader: ImageDownloader) -> None:
    await downloader.download(server.on("/a", writes(ok("Content-Length: 5", body=b"first"))))
    await server.all_closed()
    download = await downloader.download(server.serve("/good"))
    assert (download.body, download.metrics.tries) == (PNG, 1)


def _keeps(data: bytes) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.send(data)

    return handler
