"""Redirects are followed by hand: where to, with which headers, how often, and who may say no."""

from __future__ import annotations

from typing import Any

import pytest

from imagecache.errors import BadStatusError, RedirectError
from imagecache.headers import Headers
from imagecache.network.downloader import ImageDownloader
from imagecache.network.redirects import check_hop, next_request, safe_headers
from imagecache.network.settings import NetworkOptions
from imagecache.protocols import Redirect
from imagecache.request import DownloadRequest
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, RawServer


def redirect(server: RawServer, path: str, location: str, status: int = 302) -> str:
    return server.serve(path, b"moved", status=status, headers={"Location": location})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_and_told(server: RawServer, downloader: ImageDownloader, status: int) -> None:
    url, goal = redirect(server, "/a", "/b", status), server.serve("/b")
    download = await downloader.download(url)
    assert (download.body, download.url, download.final_url) == (PNG, url, goal)
    assert download.redirects == (Redirect(url, status, goal),)
    assert download.metrics.redirects == 1
    assert not download.modified
    # The connection of the redirect was given back.
    assert server.connections == 1


@pytest.mark.parametrize(
    ("base", "location", "result"),
    [
        ("http://a/b/c?d", "e", "http://a/b/e"),
        ("http://a/b/c?d", "/e?f=%2f", "http://a/e?f=%2f"),
        ("https://a/b", "//c/d", "https://c/d"),
        ("http://a/b?c", "?d", "http://a/b?d"),
        ("http://a/b#part", "/c", "http://a/c#part"),
        ("http://a/b#part", "/c#other", "http://a/c#other"),
        ("http://a/b", "HTTPS://C/d", "HTTPS://C/d"),
        ("http://a/b", "ü.png", "http://a/ü.png"),
    ],
)
def test_locations_are_resolved(base: str, location: str, result: str) -> None:
    hop, request = next_request(DownloadRequest(base), 302, location)
    assert hop.location == result
    assert request.url.lower() == result.lower()


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd", "ftp://a/b", "gopher://a/", "data:image/png;base64,AAAA", "javascript:1", "unix:/x",
        "http://", "http://[::1", "http://user:secret@a/b", "//user@a/b", "http://a:99999/", "https:x",
    ],
)  # fmt: skip
async def test_hops_that_lead_nowhere_are_refused(
    server: RawServer, downloader: ImageDownloader, location: str
) -> None:
    url = redirect(server, "/a", location)
    with pytest.raises(RedirectError) as caught:
        await downloader.download(url)
    assert caught.value.url == url
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def test_no_hop_leaves_https_for_http() -> None:
    with pytest.raises(RedirectError, match="leaves https"):
        check_hop(DownloadRequest("https://a/b"), DownloadRequest("http://a/b"))
    check_hop(DownloadRequest("http://a/b"), DownloadRequest("https://a/b"))


async def test_as_many_hops_as_allowed_and_no_more(server: RawServer, make: MakeDownloader) -> None:
    for hop in range(3):
        redirect(server, f"/{hop}", f"/{hop + 1}")
    server.serve("/3")
    download = await make(NetworkOptions(max_redirects=3)).download(server.base + "/0")
    assert len(download.redirects) == 3
    with pytest.raises(RedirectError, match="max_redirects"):
        await make(NetworkOptions(max_redirects=2)).download(server.base + "/0")
    with pytest.raises(RedirectError):
        await make(NetworkOptions(max_redirects=0)).download(server.base + "/2")


async def test_a_loop_is_found(server: RawServer, downloader: ImageDownloader) -> None:
    redirect(server, "/a", "/b")
    redirect(server, "/b", "/a")
    with pytest.raises(RedirectError, match="loop"):
        await downloader.download(server.base + "/a")
    assert server.paths() == ["/a", "/b"]
    with pytest.raises(RedirectError, match="loop"):
        await downloader.download(redirect(server, "/self", ""))


async def test_redirects_may_be_left_alone(server: RawServer, downloader: ImageDownloader) -> None:
    url = redirect(server, "/a", "/b")
    with pytest.raises(BadStatusError):
        await downloader.download(url, follow_redirects=False)
    download = await downloader.download(url, follow_redirects=False, any_status=True)
    assert (download.status, download.headers["location"]) == (302, "/b")


async def test_a_redirect_without_a_location_is_an_answer(server: RawServer, downloader: ImageDownloader) -> None:
    with pytest.raises(BadStatusError):
        await downloader.download(server.serve("/a", status=302))


FIELDS = Headers(
    {
        "Authorization": "Bearer secret", "Cookie": "secret", "Proxy-Authorization": "secret", "X-Api-Key": "secret",
        "Referer": "secret", "Accept": "image/png", "Accept-Language": "de", "If-None-Match": '"1"',
        "Range": "bytes=0-",
        "Cache-Control": "no-cache", "Pragma": "no-cache", "User-Agent": "bot",
    }
)  # fmt: skip


async def test_secrets_do_not_cross_origins_and_stay_within_one(
    server: RawServer, other_server: RawServer, downloader: ImageDownloader
) -> None:
    other_server.serve("/goal", b"", status=304)
    redirect(server, "/a", "/b")
    redirect(server, "/b", other_server.base + "/goal")
    download = await downloader.download(DownloadRequest(server.base + "/a", FIELDS))
    assert server.requests[1].headers["authorization"] == "Bearer secret"
    sent = other_server.requests[0].headers
    assert "secret" not in "".join(sent.values())
    kept = {"accept", "accept-language", "if-none-match", "range", "cache-control", "pragma", "user-agent"}
    assert kept <= set(sent)
    assert sent["accept-encoding"] == "identity"
    assert "secret" not in repr(download.request.headers.pairs)


@pytest.mark.parametrize(
    ("origin", "crosses"),
    [
        ("http://a/x", False), ("http://A:80/x", False), ("http://a:81/x", True), ("https://a/x", True),
        ("http://b/x", True), ("http://a./x", True), ("http://www.a/x", True),
    ],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port(origin: str, crosses: bool) -> None:
    _, request = next_request(DownloadRequest("http://a/", FIELDS), 302, origin)
    assert ("authorization" not in request.headers) is crosses
    assert (request.headers == safe_headers(FIELDS)) is crosses


async def test_modifiers_are_not_run_for_a_redirect(server: RawServer, downloader: ImageDownloader) -> None:
    redirect(server, "/a", "/b")
    server.serve("/b")
    runs: list[str] = []

    def modifier(request: DownloadRequest) -> DownloadRequest:
        runs.append(request.url)
        return request

    downloader.add_request_modifier(modifier)
    await downloader.download(server.base + "/a")
    assert runs == [server.base + "/a"]


class Handler:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[tuple[Redirect, DownloadRequest]] = []

    async def handle_redirect(self, redirect: Redirect, request: DownloadRequest) -> DownloadRequest | None:
        self.seen.append((redirect, request))
        answer: DownloadRequest | None = self.answer(request)
        return answer


async def test_a_handler_may_change_a_hop(server: RawServer, make: MakeDownloader) -> None:
    url = redirect(server, "/a", "/b")
    server.serve("/c")
    handler = Handler(lambda request: request.with_url(server.base + "/c").with_headers({"X-Hop": "1"}))
    download = await make(redirect_handler=handler).download(url)
    assert download.final_url == server.base + "/c"
    assert server.requests[1].headers["x-hop"] == "1"
    hop, proposed = handler.seen[0]
    assert (hop.status, hop.location, proposed.url) == (302, server.base + "/b", server.base + "/b")


@pytest.mark.parametrize(
    "answer",
    [lambda r: None, lambda r: 1 / 0, lambda r: "/b", lambda r: r.with_url("file:///x"), lambda r: r.with_url("")],
)
async def test_a_handler_may_refuse_a_hop_and_its_faults_are_refusals(
    server: RawServer, make: MakeDownloader, answer: Any
) -> None:
    url = redirect(server, "/a", "/b")
    with pytest.raises(RedirectError):
        await make(redirect_handler=Handler(answer)).download(url)
    assert server.paths() == ["/a"]
