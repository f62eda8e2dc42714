"""A broken transfer is gone on with where it broke, if the server vouches for the rest; else it begins anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from imagecache.errors import BodyTooLargeError, ImageCacheError, NetworkError, TruncatedBodyError
from imagecache.headers import Headers
from imagecache.network.body import Body
from imagecache.network.download import Download
from imagecache.network.downloader import ImageDownloader
from imagecache.network.part import CHECKPOINT, MIN_PART, Part
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.protocols import ResponseInfo
from imagecache.request import DownloadRequest
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import Exchange, RawServer

BODY = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
CUT = 200_000
ETAG = '"v1"'
LAST_MODIFIED, DATE = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:10:00 GMT"
AT_ONCE = BackoffRetryStrategy(3, base=0)

Answers = Callable[[Exchange], Mapping[str, str]]


@dataclass
class Origin:
    """Cuts its first answer off after ``cut`` bytes and answers what comes then as ``rest`` says."""

    server: RawServer
    fields: dict[str, str] = field(default_factory=lambda: {"ETag": ETAG})
    body: bytes = BODY
    cut: int = CUT
    cuts: int = 1
    status: int | None = None
    rest: dict[str, str] = field(default_factory=dict)
    ignores_range: bool = False
    gone: tuple[str, ...] = ()
    is_chunked: bool = False

    @property
    def url(self) -> str:
        return self.server.on("/a", self)

    @property
    def asked(self) -> list[tuple[str | None, str | None]]:
        """Range and If-Range of each request."""
        return [(e.headers.get("range"), e.headers.get("if-range")) for e in self.server.requests]

    async def __call__(self, exchange: Exchange) -> None:
        start, body, status, fields = 0, self.body, 200, dict(self.fields)
        wanted = exchange.headers.get("range")
        if wanted is not None and not self.ignores_range:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), self.status or 206
            body = body[start:]
            fields |= {"Content-Range": f"bytes {start}-{len(self.body) - 1}/{len(self.body)}", **self.rest}
            fields = {name: value for name, value in fields.items() if name not in self.gone}
        self.cuts -= 1
        sent = body[: self.cut] if self.cuts >= 0 else body
        if self.is_chunked and status == 200:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
            await exchange.send(head + b"%x\r\n%b\r\n" % (len(sent), sent))
            if self.cuts < 0:
                await exchange.send(b"0\r\n\r\n")
        else:
            await exchange.reply(status, {"Content-Length": str(len(body)), **fields}, sent)
        if self.cuts >= 0:
            exchange.cut()


@pytest.fixture
def origin(server: RawServer) -> Origin:
    return Origin(server)


@pytest.fixture
def downloader(make: MakeDownloader) -> ImageDownloader:
    return make(retry=AT_ONCE)


async def test_the_next_try_asks_for_the_rest_and_the_whole_is_as_if_it_had_come_at_once(
    origin: Origin, downloader: ImageDownloader
) -> None:
    seen: list[tuple[int, int | None]] = []
    download = await downloader.download(origin.url, progress=lambda *told: seen.append(told))
    assert download.body == BODY
    assert origin.asked == [(None, None), (f"bytes={CUT}-", ETAG)]
    assert (download.status, download.headers["Content-Length"]) == (200, str(len(BODY)))
    assert "Content-Range" not in download.headers
    assert "range" not in download.request.headers
    assert (download.resumed_at, download.bytes_received, download.metrics.tries) == (CUT, len(BODY), 2)
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {len(BODY)}


async def test_it_is_gone_on_with_as_often_as_it_breaks(origin: Origin, downloader: ImageDownloader) -> None:
    origin.cut, origin.cuts = 100_000, 2
    download = await downloader.download(origin.url)
    assert download.body == BODY
    assert [wanted for wanted, _ in origin.asked] == [None, "bytes=100000-", "bytes=200000-"]
    assert download.bytes_received == len(BODY)


async def test_identity_is_asked_for_whatever_coding_was_wished_for(
    origin: Origin, downloader: ImageDownloader
) -> None:
    request = DownloadRequest(origin.url, Headers({"Accept-Encoding": "gzip"}))
    download = await downloader.download(request)
    assert download.body == BODY
    assert [e.headers["accept-encoding"] for e in origin.server.requests] == ["gzip", "identity"]
    assert download.request.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("fields", "if_range"),
    [
        ({"ETag": ETAG}, ETAG),
        ({"ETag": ETAG, "Last-Modified": LAST_MODIFIED}, ETAG),
        ({"Last-Modified": LAST_MODIFIED, "Date": DATE}, LAST_MODIFIED),
        ({"ETag": 'W/"v1"'}, None),
        ({"ETag": "v1"}, None),
        # RFC 9110, 13.1.5: no date where there is an entity tag.
        ({"ETag": 'W/"v1"', "Last-Modified": LAST_MODIFIED, "Date": DATE}, None),
        ({"Last-Modified": LAST_MODIFIED}, None),
        ({"Last-Modified": LAST_MODIFIED, "Date": LAST_MODIFIED}, None),
        ({"Last-Modified": "yesterday", "Date": DATE}, None),
        ({}, None),
        ({"ETag": ETAG, "Accept-Ranges": "none"}, None),
        ({"ETag": ETAG, "Vary": "*"}, None),
    ],
)
async def test_only_a_strong_validator_is_asked_with(
    origin: Origin, downloader: ImageDownloader, fields: dict[str, str], if_range: str | None
) -> None:
    origin.fields = fields
    download = await downloader.download(origin.url)
    assert download.body == BODY
    assert origin.asked[1] == ((f"bytes={CUT}-", if_range) if if_range else (None, None))


async def test_a_200_begins_anew_with_its_own_bytes(origin: Origin, downloader: ImageDownloader) -> None:
    url = origin.url

    async def changed(exchange: Exchange) -> None:
        await origin(exchange)
        origin.body, origin.fields, origin.ignores_range = OTHER, {"ETag": '"v2"'}, True

    origin.server.on("/a", changed)
    download = await downloader.download(url)
    assert download.body == OTHER
    assert (download.resumed_at, download.headers["ETag"]) == (0, '"v2"')
    assert download.bytes_received == CUT + len(OTHER)
    assert len(origin.asked) == 2


async def test_a_200_that_breaks_off_as_well_is_what_is_gone_on_with(
    origin: Origin, downloader: ImageDownloader
) -> None:
    url = origin.url

    async def changed(exchange: Exchange) -> None:
        origin.ignores_range = origin.cuts == 1
        if origin.ignores_range:
            origin.body, origin.fields = OTHER, {"ETag": '"v2"'}
        await origin(exchange)

    origin.cuts = 2
    origin.server.on("/a", changed)
    assert (await downloader.download(url)).body == OTHER
    assert origin.asked[1:] == [(f"bytes={CUT}-", ETAG), (f"bytes={CUT}-", '"v2"')]


LIES: dict[str, tuple[int | None, dict[str, str], tuple[str, ...]]] = {
    "416": (416, {"Content-Range": "bytes */300000"}, ()),
    "no Content-Range": (None, {}, ("Content-Range",)),
    "another start": (None, {"Content-Range": "bytes 0-299999/300000"}, ()),
    "one byte off": (None, {"Content-Range": "bytes 199999-299999/300000"}, ()),
    "another total": (None, {"Content-Range": "bytes 200000-299999/300001"}, ()),
    "no total": (None, {"Content-Range": "bytes 200000-299999/*"}, ()),
    "an end beyond the total": (None, {"Content-Range": "bytes 200000-300000/300000"}, ()),
    "another unit": (None, {"Content-Range": "items 200000-299999/300000"}, ()),
    "thousands of digits": (None, {"Content-Range": f"bytes 200000-{'9' * 5000}/300000"}, ()),
    "a length that is not the range's": (None, {"Content-Range": "bytes 200000-299998/300000"}, ()),
    "another ETag": (None, {"ETag": '"v2"'}, ()),
    "a weak ETag": (None, {"ETag": 'W/"v1"'}, ()),
    "no ETag": (None, {}, ("ETag",)),
    "multipart": (None, {"Content-Type": "multipart/byteranges; boundary=x"}, ()),
    "a coding": (None, {"Content-Encoding": "gzip"}, ()),
}


@pytest.mark.parametrize("what", LIES)
async def test_what_is_no_rest_of_it_is_answered_with_a_new_request_from_the_start(
    origin: Origin, downloader: ImageDownloader, what: str
) -> None:
    origin.status, origin.rest, origin.gone = LIES[what]
    download = await downloader.download(origin.url)
    assert download.body == BODY
    assert origin.asked == [(None, None), (f"bytes={CUT}-", ETAG), (None, None)]
    assert (download.resumed_at, download.metrics.tries) == (0, 2)


async def test_a_date_that_changed_is_another_version(origin: Origin, downloader: ImageDownloader) -> None:
    origin.fields = {"Last-Modified": LAST_MODIFIED, "Date": DATE}
    origin.rest = {"Last-Modified": DATE}
    assert (await downloader.download(origin.url)).resumed_at == 0
    assert len(origin.asked) == 3


async def test_a_rest_that_is_itself_a_part_is_followed_by_the_next_one(
    origin: Origin, downloader: ImageDownloader
) -> None:
    url = origin.url

    async def by_pieces(exchange: Exchange) -> None:
        wanted = exchange.headers.get("range")
        if wanted is None:
            await origin(exchange)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        piece = BODY[start : start + 60_000]
        place = f"bytes {start}-{start + len(piece) - 1}/{len(BODY)}"
        await exchange.reply(206, {"ETag": ETAG, "Content-Range": place}, piece)

    origin.server.on("/a", by_pieces)
    assert (await downloader.download(url)).body == BODY
    assert [wanted for wanted, _ in origin.asked] == [None, "bytes=200000-", "bytes=260000-"]


async def test_a_chunked_rest_that_is_longer_than_it_says_is_not_taken(
    origin: Origin, downloader: ImageDownloader
) -> None:
    url = origin.url

    async def more(exchange: Exchange) -> None:
        if "range" not in exchange.headers:
            await origin(exchange)
            return
        rest = BODY[CUT:] + b"more"
        head = "HTTP/1.1 206 Some\r\nTransfer-Encoding: chunked\r\nETag: " + ETAG
        place = f"Content-Range: bytes {CUT}-{len(BODY) - 1}/{len(BODY)}"
        await exchange.send(f"{head}\r\n{place}\r\n\r\n{len(rest):x}\r\n".encode() + rest + b"\r\n0\r\n\r\n")

    origin.server.on("/a", more)
    download = await downloader.download(url)
    assert (download.body, download.resumed_at) == (BODY, 0)
    assert [wanted for wanted, _ in origin.asked] == [None, f"bytes={CUT}-", None]


async def test_a_body_of_untold_length_is_gone_on_with_too(origin: Origin, downloader: ImageDownloader) -> None:
    origin.is_chunked = True
    download = await downloader.download(origin.url)
    assert (download.body, download.resumed_at) == (BODY, CUT)


async def test_little_is_not_worth_it(origin: Origin, downloader: ImageDownloader) -> None:
    origin.cut = MIN_PART - 1
    assert (await downloader.download(origin.url)).body == BODY
    assert origin.asked == [(None, None)] * 2


async def test_a_total_over_the_limit_is_refused_before_its_rest_is_read(origin: Origin, make: MakeDownloader) -> None:
    origin.is_chunked = True
    downloader = make(NetworkOptions(max_body=CUT + 50_000), retry=AT_ONCE)
    with pytest.raises(BodyTooLargeError):
        await downloader.download(origin.url)
    assert origin.asked == [(None, None), (f"bytes={CUT}-", ETAG)]


async def test_where_the_url_leads_elsewhere_by_then_everything_is_asked_for(
    origin: Origin, downloader: ImageDownloader
) -> None:
    server, places = origin.server, iter(["/one", "/two"])
    server.on("/one", origin)
    server.on("/two", origin)

    async def leads(exchange: Exchange) -> None:
        await exchange.reply(302, {"Location": next(places)})

    assert (await downloader.download(server.on("/start", leads))).body == BODY
    assert [(e.target, e.headers.get("range")) for e in server.requests] == [
        ("/start", None), ("/one", None), ("/start", None), ("/two", None),
    ]  # fmt: skip


async def test_behind_a_redirect_only_the_last_hop_is_asked_for_the_rest(
    origin: Origin, downloader: ImageDownloader
) -> None:
    server = origin.server
    url = server.serve("/start", b"", status=302, headers={"Location": origin.url})
    assert (await downloader.download(url)).resumed_at == CUT
    assert [(e.target, e.headers.get("range")) for e in server.requests] == [
        ("/start", None), ("/a", None), ("/start", None), ("/a", f"bytes={CUT}-"),
    ]  # fmt: skip


@pytest.mark.parametrize(("vary", "resumes"), [("X-Turn", False), ("Accept", True)])
async def test_a_request_that_the_answer_varies_on_is_another_one(
    origin: Origin, downloader: ImageDownloader, vary: str, resumes: bool
) -> None:
    turns = iter("123")

    async def count(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"X-Turn": next(turns)})

    downloader.add_request_modifier(count)
    origin.fields["Vary"] = vary
    download = await downloader.download(origin.url)
    assert (download.body, download.resumed_at) == (BODY, CUT if resumes else 0)


async def test_a_range_of_the_callers_own_is_left_alone(origin: Origin, downloader: ImageDownloader) -> None:
    request = DownloadRequest(origin.url, Headers({"Range": "bytes=5-"}))
    download = await downloader.download(request, any_status=True)
    assert (download.status, download.body) == (206, BODY[5:])
    assert [wanted for wanted, _ in origin.asked] == ["bytes=5-"] * 2


async def test_delegates_hear_of_a_whole_answer(origin: Origin, downloader: ImageDownloader) -> None:
    heard: list[ResponseInfo] = []

    class Delegate:
        def did_receive_response(self, response: ResponseInfo) -> bool:
            heard.append(response)
            return response.status == 200

    downloader.add_delegate(Delegate())
    assert (await downloader.download(origin.url)).resumed_at == CUT
    assert [(r.status, r.headers["Content-Length"]) for r in heard] == [(200, str(len(BODY)))] * 2


async def test_newer_fields_take_the_place_of_the_older_ones(origin: Origin, downloader: ImageDownloader) -> None:
    origin.fields |= {"Cache-Control": "max-age=60", "Age": "7", "Content-Type": "image/png"}
    origin.rest = {"Cache-Control": "no-store", "Content-Type": "application/octet-stream"}
    origin.gone = ("Age",)
    headers = (await downloader.download(origin.url)).headers
    assert (headers["Cache-Control"], headers["Content-Type"]) == ("no-store", "image/png")
    assert "Age" not in headers


# What is given to be kept


class Shelf:
    """A PartStore in memory, of one URL."""

    def __init__(self) -> None:
        self.part: Part | None = None
        self.kept: dict[int, bytes] = {}
        self.heads: list[Download] = []
        self.forgotten = 0

    async def find(self, request: DownloadRequest) -> Part | None:
        return self.part

    def keep(self, part: Part, start: int, read: Callable[[], bytes]) -> None:
        self.kept[start] = read()
        self.heads.append(part.head)

    def open_spool(self) -> None:
        return None

    def forget(self) -> None:
        self.forgotten += 1

    @property
    def body(self) -> bytes:
        assert list(self.kept) == sorted(self.kept)
        return b"".join(self.kept.values())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_what_came_is_given_to_be_kept_when_there_is_no_other_try(
    origin: Origin, make: MakeDownloader, shelf: Shelf
) -> None:
    with pytest.raises(TruncatedBodyError):
        await make().download(origin.url, parts=shelf)
    assert shelf.body == BODY[:CUT]
    (head,) = shelf.heads
    assert (head.status, head.headers["ETag"], head.body) == (200, ETAG, b"")


async def test_nothing_is_kept_of_what_came_to_its_end(
    origin: Origin, downloader: ImageDownloader, shelf: Shelf
) -> None:
    await downloader.download(origin.url, parts=shelf)
    assert shelf.kept == {}


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_what_came_is_given_to_be_kept_when_it_is_ended(
    origin: Origin, downloader: ImageDownloader, shelf: Shelf, way: str
) -> None:
    has_come = asyncio.Event()

    async def hangs(exchange: Exchange) -> None:
        await exchange.reply(200, {"ETag": ETAG, "Content-Length": str(len(BODY))}, BODY[:CUT])
        await exchange.is_gone()

    def progress(received: int, _: int | None) -> None:
        if received == CUT:
            has_come.set()

    url = origin.server.on("/a", hangs)
    task = asyncio.create_task(downloader.download(url, parts=shelf, progress=progress))
    await has_come.wait()
    if way == "cancelled":
        task.cancel()
    else:
        await downloader.aclose()
    with pytest.raises((asyncio.CancelledError, ImageCacheError)):
        await task
    assert shelf.body == BODY[:CUT]


async def test_a_slow_body_is_given_to_be_kept_while_it_comes_each_byte_once(
    server: RawServer, make: MakeDownloader, clock: FakeClock, shelf: Shelf
) -> None:
    steps, has_come = [asyncio.Event() for _ in range(2)], [asyncio.Event() for _ in range(3)]
    size = len(BODY) // 3

    async def slow(exchange: Exchange) -> None:
        await exchange.reply(200, {"ETag": ETAG, "Content-Length": str(len(BODY))}, BODY[:size])
        for number, step in enumerate(steps, 1):
            await step.wait()
            await exchange.send(BODY[number * size : (number + 1) * size])

    def progress(received: int, _: int | None) -> None:
        if received % size == 0:
            has_come[received // size - 1].set()

    downloader = make(NetworkOptions(timeouts=Timeouts(min_rate=0)), clock=clock)
    task = asyncio.create_task(downloader.download(server.on("/a", slow), parts=shelf, progress=progress))
    await has_come[0].wait()
    # It came within the first moment.
    assert shelf.kept == {}
    clock.advance(CHECKPOINT)
    steps[0].set()
    await has_come[1].wait()
    assert len(shelf.body) > size
    steps[1].set()
    assert (await task).body == BODY
    # In one go: no other moment has passed.
    assert list(shelf.kept) == [0]
    assert BODY.startswith(shelf.body)


async def test_what_is_kept_is_gone_on_with_and_only_what_is_new_is_kept_then(
    origin: Origin, make: MakeDownloader, shelf: Shelf
) -> None:
    class Taking(Shelf):
        def keep(self, part: Part, start: int, read: Callable[[], bytes]) -> None:
            super().keep(part, start, read)
            self.part = part

    shelf, downloader = Taking(), make()
    origin.cut, origin.cuts = 100_000, 2
    for _ in range(2):
        with pytest.raises(NetworkError):
            await downloader.download(origin.url, parts=shelf)
    assert {start: len(body) for start, body in shelf.kept.items()} == {0: 100_000, 100_000: 100_000}
    download = await downloader.download(origin.url, parts=shelf)
    assert (download.body, download.resumed_at, download.bytes_received) == (BODY, 200_000, 100_000)
    assert shelf.body == BODY[:200_000]
    assert shelf.forgotten == 0


async def test_it_is_told_that_what_is_kept_is_of_no_use(
    origin: Origin, make: MakeDownloader, downloader: ImageDownloader, shelf: Shelf
) -> None:
    origin.status = 416
    await downloader.download(origin.url, parts=shelf)
    assert shelf.forgotten == 1


@pytest.mark.parametrize("refusal", [{}, {"Content-Encoding": "gzip"}])
async def test_nothing_is_kept_of_what_cannot_be_gone_on_with(
    origin: Origin, make: MakeDownloader, shelf: Shelf, refusal: Any
) -> None:
    origin.fields = refusal
    with pytest.raises(ImageCacheError):
        await make().download(origin.url, parts=shelf)
    assert shelf.kept == {}


async def test_nothing_is_kept_of_a_body_that_is_refused(origin: Origin, make: MakeDownloader, shelf: Shelf) -> None:
    origin.is_chunked, origin.cuts = True, 0
    with pytest.raises(BodyTooLargeError):
        await make(NetworkOptions(max_body=CUT)).download(origin.url, parts=shelf)
    assert shelf.kept == {}


@pytest.mark.parametrize("start", range(7))
def test_what_came_since_a_position_begins_just_there(start: int) -> None:
    body = Body(100)
    for piece in (b"ab", b"cde", b"f"):
        body.add(piece)
    assert body.since(start)() == b"abcdef"[start:]
