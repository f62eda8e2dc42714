"""One network task: what is sent, what counts as a success, and what is told of it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from imagecache.errors import (
    BadStatusError,
    DownloadCancelledError,
    ImageCacheError,
    InvalidURLError,
    NotAnImageError,
    RequestModifierError,
    ResponseRefusedError,
)
from imagecache.headers import Headers
from imagecache.network.downloader import ImageDownloader
from imagecache.network.settings import NetworkOptions
from imagecache.protocols import ResponseInfo
from imagecache.request import DownloadRequest
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer


class Recorder:
    """A delegate that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.error: ImageCacheError | None = None
        self.response: ResponseInfo | None = None
        self.finished = asyncio.Event()

    def will_download_image(self, url: str, request: DownloadRequest) -> None:
        self.heard.append("will_download_image")

    async def is_valid_status_code(self, status: int, url: str) -> bool | None:
        self.heard.append(f"is_valid_status_code {status}")
        return None

    def did_receive_response(self, response: ResponseInfo) -> bool | None:
        self.heard.append(f"did_receive_response {response.status}")
        return None

    async def did_download_data(self, data: bytes, url: str) -> bytes | None:
        self.heard.append("did_download_data")
        return data

    def did_finish_downloading_image(
        self, url: str, response: ResponseInfo | None, error: ImageCacheError | None
    ) -> None:
        self.heard.append("did_finish_downloading_image")
        self.response, self.error = response, error
        self.finished.set()


async def test_a_download_has_the_exact_bytes_and_says_how_it_came(
    server: RawServer, downloader: ImageDownloader
) -> None:
    url = server.serve("/a.png", headers={"ETag": '"1"', "Set-Cookie": "a=b"})
    seen: list[tuple[int, int | None]] = []
    download = await downloader.download(url, progress=lambda *p: seen.append(p))
    assert download.body == PNG
    assert (download.status, download.url, download.final_url) == (200, url, url)
    assert download.headers["etag"] == '"1"'
    assert not download.modified
    assert not download.data_replaced
    assert download.bytes_received == download.metrics.bytes_received == len(PNG)
    assert download.metrics.tries == 1
    assert 0 < download.metrics.connect < download.metrics.total
    assert download.request_time <= download.response_time
    assert seen[-1] == (len(PNG), len(PNG))


async def test_what_is_sent_is_what_the_request_says_and_nothing_else(
    server: RawServer, downloader: ImageDownloader
) -> None:
    url = server.serve("/a.png")
    download = await downloader.download(DownloadRequest(url, Headers({"X-Mine": "1", "Accept": "image/png"})))
    sent = dict(server.requests[0].headers)
    assert sent.pop("host")
    assert sent == {name.lower(): value for name, value in download.request.headers.items()}
    assert sent["accept-encoding"] == "identity"
    assert sent["accept"] == "image/png"
    assert sent["user-agent"].startswith("imagecache/")


async def test_options_name_the_client_and_add_headers_under_the_requests_own(
    server: RawServer, make: MakeDownloader
) -> None:
    downloader = make(NetworkOptions(user_agent="bot/1", headers={"X-All": "a", "X-Both": "a"}))
    await downloader.download(DownloadRequest(server.serve("/a"), Headers({"x-both": "b"})))
    sent = server.requests[0].headers
    assert (sent["user-agent"], sent["x-all"], sent["x-both"]) == ("bot/1", "a", "b")


async def test_cookies_are_not_kept(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.serve("/a", headers={"Set-Cookie": "session=1; Path=/"})
    await downloader.download(url)
    await downloader.download(url)
    assert "cookie" not in server.requests[1].headers


async def test_a_connection_is_used_again(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.serve("/a")
    for _ in range(3):
        await downloader.download(url)
    assert server.connections == 1


async def test_userinfo_travels_as_authorization_and_is_shown_nowhere(
    server: RawServer, downloader: ImageDownloader
) -> None:
    bare = server.serve("/a")
    download = await downloader.download(bare.replace("//", "//us%40er:p%20w@"))
    assert server.requests[0].headers["authorization"] == "Basic dXNAZXI6cCB3"
    assert download.final_url == download.request.url == bare
    assert "dXNA" not in repr(download)
    assert "p%20w" not in repr(download.request)


@pytest.mark.parametrize(
    "target", ["/a%2Fb%7E.png", "/a.png?sig=%2b/=&x[]=1&q=a+b", "/a/../b.png", "/100%25.jpg", "//a.png"]
)
async def test_a_url_is_sent_as_spelled(server: RawServer, downloader: ImageDownloader, target: str) -> None:
    server.serve(target.partition("?")[0])
    await downloader.download(server.base + target)
    assert server.paths() == [target]


async def test_what_cannot_be_sent_is_quoted(server: RawServer, downloader: ImageDownloader) -> None:
    server.serve("/%C3%BC%20x.png")
    await downloader.download(server.base + "/ü x.png#part")
    assert server.paths() == ["/%C3%BC%20x.png"]


@pytest.mark.parametrize(
    "url",
    ["", "  ", "ftp://a/b", "/a.png", "http://", "http:///a", "http://a:99999/", "http://[::1", "http://a/\udc80", 5],
)
async def test_no_url_is_an_error_before_anything_happens(downloader: ImageDownloader, url: Any) -> None:
    recorder = Recorder()
    downloader.add_delegate(recorder)
    with pytest.raises(InvalidURLError):
        await downloader.download(url)
    assert recorder.heard == []


async def test_an_invalid_url_does_not_show_its_password(downloader: ImageDownloader) -> None:
    with pytest.raises(InvalidURLError) as caught:
        await downloader.download("http://user:secret@[bad/")
    assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


# Status codes


@pytest.mark.parametrize("status", [201, 204, 206, 300, 305, 404, 410, 500, 999])
async def test_only_a_200_is_a_success(server: RawServer, downloader: ImageDownloader, status: int) -> None:
    url = server.serve("/a", b"" if status == 204 else b"body", status=status, headers={"X-Why": "so"})
    with pytest.raises(BadStatusError) as caught:
        await downloader.download(url)
    assert caught.value.status == status
    assert caught.value.headers["x-why"] == "so"
    assert caught.value.url == url


async def test_a_304_answers_a_conditional_request(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.serve("/a", b"", status=304, headers={"ETag": '"1"', "Content-Length": "500"})
    for name, value in (("If-None-Match", '"1"'), ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")):
        download = await downloader.download(DownloadRequest(url, Headers({name: value})))
        assert (download.status, download.body, download.bytes_received) == (304, b"", 0)
    assert server.connections == 1


async def test_a_304_to_a_plain_request_is_an_error_whatever_delegates_say(
    server: RawServer, downloader: ImageDownloader
) -> None:
    class AcceptsAll:
        def is_valid_status_code(self, status: int, url: str) -> bool:
            return True

    downloader.add_delegate(AcceptsAll())
    with pytest.raises(BadStatusError, match="without validators"):
        await downloader.download(server.serve("/a", b"", status=304))


async def test_a_modifiers_validator_wins_and_makes_the_request_conditional(
    server: RawServer, downloader: ImageDownloader
) -> None:
    url = server.serve("/a", b"", status=304)
    downloader.add_request_modifier(lambda request: request.with_headers({"If-None-Match": '"theirs"'}))
    download = await downloader.download(DownloadRequest(url, Headers({"If-None-Match": '"ours"'})))
    assert download.status == 304
    assert server.requests[0].headers["if-none-match"] == '"theirs"'


async def test_conditions_are_stripped_after_the_modifiers(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.serve("/a")
    fields = {"If-None-Match": '"1"', "if-range": '"1"', "Range": "bytes=5-", "If-Modified-Since": "x"}
    downloader.add_request_modifier(lambda request: request.with_headers(fields))
    await downloader.download(url, strip_conditions=True)
    assert not {name.lower() for name in fields} & set(server.requests[0].headers)


@pytest.mark.parametrize("status", [200, 204, 206, 302, 304, 404, 503])
async def test_any_status_is_returned_when_asked_for(
    server: RawServer, downloader: ImageDownloader, status: int
) -> None:
    url = server.serve("/a", b"" if status in {204, 304} else b"body", status=status)
    download = await downloader.download(url, any_status=True)
    assert download.status == status
    assert download.body == (b"" if status in {204, 304} else b"body")
    assert len(server.requests) == 1


# Modifiers


async def test_modifiers_run_in_order_sync_or_async_and_may_change_the_url(
    server: RawServer, downloader: ImageDownloader
) -> None:
    server.serve("/b")

    async def second(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"X-Order": request.headers["x-order"] + "2"})

    downloader.add_request_modifier(lambda request: request.with_url(server.base + "/b").with_headers({"X-Order": "1"}))
    downloader.add_request_modifier(second)
    download = await downloader.download(server.base + "/a")
    assert server.requests[0].headers["x-order"] == "12"
    assert download.modified
    assert (download.url, download.final_url) == (server.base + "/a", server.base + "/b")


async def test_a_removed_modifier_is_gone_and_its_twin_stays(server: RawServer, downloader: ImageDownloader) -> None:
    url = server.serve("/a")

    def count(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"X-Count": str(int(request.headers.get("x-count", "0")) + 1)})

    downloader.add_request_modifier(count)
    with downloader.add_request_modifier(count):
        await downloader.download(url)
    await downloader.download(url)
    assert [exchange.headers["x-count"] for exchange in server.requests] == ["2", "1"]


async def test_what_cannot_be_called_is_no_modifier(downloader: ImageDownloader) -> None:
    with pytest.raises(TypeError):
        downloader.add_request_modifier(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        downloader.add_delegate(object())


@pytest.mark.parametrize(
    "modifier", [lambda request: None, lambda request: 1 / 0, lambda request: "http://a/", lambda request: request[0]]
)
async def test_a_modifier_that_refuses_or_fails_ends_it_before_any_network(
    server: RawServer, downloader: ImageDownloader, modifier: Any
) -> None:
    recorder = Recorder()
    downloader.add_delegate(recorder)
    downloader.add_request_modifier(modifier)
    url = server.serve("/a")
    with pytest.raises(RequestModifierError) as caught:
        await downloader.download(url)
    assert caught.value.url == url
    assert not server.connections
    assert recorder.heard == []


async def test_a_modified_url_is_validated(server: RawServer, downloader: ImageDownloader) -> None:
    for url in ("file:///etc/passwd", "", "http://[bad"):
        handle = downloader.add_request_modifier(lambda request, url=url: request.with_url(url))  # type: ignore[misc]
        with handle, pytest.raises(InvalidURLError):
            await downloader.download(server.serve("/a"))
    assert not server.connections


async def test_a_header_that_would_split_the_request_is_an_error(
    server: RawServer, downloader: ImageDownloader
) -> None:
    with pytest.raises(ImageCacheError) as caught:
        await downloader.download(DownloadRequest(server.serve("/a"), Headers({"X": "secret\r\nEvil: 1"})))
    assert "secret" not in str(caught.value)
    assert not server.requests


async def test_nobody_sees_the_callers_context_variables(server: RawServer, downloader: ImageDownloader) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    class Spy:
        def will_download_image(self, url: str, request: DownloadRequest) -> None:
            seen.append(user.get())

    async def modifier(request: DownloadRequest) -> DownloadRequest:
        seen.append(user.get())
        return request

    downloader.add_delegate(Spy())
    downloader.add_request_modifier(modifier)
    user.set("alice")
    await downloader.download(server.serve("/a"))
    assert seen == ["nobody", "nobody"]


# Delegates


async def test_delegates_are_called_in_order(server: RawServer, downloader: ImageDownloader) -> None:
    recorder = Recorder()
    downloader.add_delegate(recorder)
    await downloader.download(server.serve("/a"))
    assert recorder.heard == [
        "will_download_image",
        "is_valid_status_code 200",
        "did_receive_response 200",
        "did_download_data",
        "did_finish_downloading_image",
    ]
    assert recorder.error is None
    assert recorder.response is not None
    assert recorder.response.status == 200


async def test_a_304_has_no_data_to_ask_about(server: RawServer, downloader: ImageDownloader) -> None:
    recorder = Recorder()
    downloader.add_delegate(recorder)
    url = server.serve("/a", b"", status=304)
    await downloader.download(DownloadRequest(url, Headers({"If-None-Match": '"1"'})))
    assert recorder.heard == ["will_download_image", "did_receive_response 304", "did_finish_downloading_image"]


@pytest.mark.parametrize(
    ("answers", "is_accepted"), [((True,), True), ((True, False), False), ((None,), False), ((False, True), False)]
)
async def test_a_delegate_may_accept_or_refuse_a_status(
    server: RawServer, downloader: ImageDownloader, answers: tuple[bool | None, ...], is_accepted: bool
) -> None:
    class Judge:
        def __init__(self, answer: bool | None) -> None:
            self.answer = answer

        def is_valid_status_code(self, status: int, url: str) -> bool | None:
            return self.answer

    for answer in answers:
        downloader.add_delegate(Judge(answer))
    url = server.serve("/a", status=203)
    if is_accepted:
        assert (await downloader.download(url)).body == PNG
    else:
        with pytest.raises(BadStatusError):
            await downloader.download(url)


async def test_a_refused_response_has_its_body_left_unread(server: RawServer, downloader: ImageDownloader) -> None:
    class Refuses(Recorder):
        def did_receive_response(self, response: ResponseInfo) -> bool | None:
            return False

    gone = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nstart")
        await exchange.is_gone()
        gone.set()

    refuses = Refuses()
    downloader.add_delegate(refuses)
    with pytest.raises(ResponseRefusedError):
        await downloader.download(server.on("/a", endless))
    await gone.wait()
    assert isinstance(refuses.error, ResponseRefusedError)
    assert refuses.heard.count("did_finish_downloading_image") == 1


async def test_a_delegate_may_replace_or_reject_the_bytes(server: RawServer, downloader: ImageDownloader) -> None:
    class Rewrites:
        answer: bytes | None = b"other"

        async def did_download_data(self, data: bytes, url: str) -> bytes | None:
            return self.answer

    rewrites = Rewrites()
    downloader.add_delegate(rewrites)
    download = await downloader.download(server.serve("/a"))
    assert (download.body, download.data_replaced, download.bytes_received) == (b"other", True, len(PNG))
    rewrites.answer = None
    with pytest.raises(ResponseRefusedError, match="rejected the bytes"):
        await downloader.download(server.serve("/a"))


async def test_a_delegate_that_raises_breaks_nothing(
    server: RawServer, downloader: ImageDownloader, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fail(*args: object) -> None:
                raise RuntimeError(name)

            return fail

    downloader.add_delegate(Broken())
    assert (await downloader.download(server.serve("/a"))).body == PNG
    assert "did_finish_downloading_image" in caplog.text


@pytest.mark.parametrize("path", ["/missing", "/cut"])
async def test_the_end_is_told_exactly_once_on_failure(
    server: RawServer, downloader: ImageDownloader, path: str
) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        exchange.cut()

    recorder = Recorder()
    downloader.add_delegate(recorder)
    server.on("/cut", cut)
    with pytest.raises(ImageCacheError) as caught:
        await downloader.download(server.base + path)
    assert recorder.heard.count("did_finish_downloading_image") == 1
    assert recorder.error is caught.value
    assert recorder.response is None


async def test_the_end_is_told_exactly_once_on_cancellation(server: RawServer, downloader: ImageDownloader) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        arrived.set()
        await exchange.is_gone()
        gone.set()

    recorder = Recorder()
    downloader.add_delegate(recorder)
    download = asyncio.create_task(downloader.download(server.on("/a", hang)))
    await arrived.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    await gone.wait()
    await recorder.finished.wait()
    assert recorder.heard == ["will_download_image", "did_finish_downloading_image"]
    assert isinstance(recorder.error, DownloadCancelledError)


# The check


async def test_a_check_is_part_of_the_download(server: RawServer, downloader: ImageDownloader) -> None:
    recorder = Recorder()
    downloader.add_delegate(recorder)
    checked: list[bytes] = []

    async def check(body: bytes) -> None:
        checked.append(body)
        raise NotAnImageError("no image")

    url = server.serve("/a")
    with pytest.raises(NotAnImageError) as caught:
        await downloader.download(url, check=check)
    assert checked == [PNG]
    assert caught.value.url == url
    assert recorder.error is caught.value
    with pytest.raises(ResponseRefusedError):
        await downloader.download(url, check=lambda body: 1 / 0)  # type: ignore[arg-type, return-value]


async def test_a_progress_callback_that_raises_breaks_nothing(
    server: RawServer, downloader: ImageDownloader, caplog: pytest.LogCaptureFixture
) -> None:
    download = await downloader.download(server.serve("/a"), progress=lambda received, total: 1 / 0)
    assert download.body == PNG
    assert "progress" in caplog.text
