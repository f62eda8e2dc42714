"""Permanent redirects are remembered as long as HTTP allows, and no longer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from imagecache.errors import BadStatusError, ConnectionFailedError, RedirectError
from imagecache.headers import Headers
from imagecache.network.downloader import ImageDownloader
from imagecache.network.remembered import HEURISTIC_SECONDS, REMEMBERED, RememberedRedirects
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.protocols import Redirect
from imagecache.request import DownloadRequest
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer


def moved(
    server: RawServer, path: str, location: str, status: int = 301, fields: Mapping[str, str] | None = None
) -> str:
    return server.serve(path, b"moved", status=status, headers={"Location": location, **(fields or {})})


@pytest.mark.parametrize("status", [301, 308])
async def test_a_permanent_redirect_is_asked_about_once(
    server: RawServer, downloader: ImageDownloader, status: int
) -> None:
    url, goal = moved(server, "/a", "/b", status), server.serve("/b")
    for _ in range(3):
        download = await downloader.download(url)
        assert (download.body, download.url, download.final_url) == (PNG, url, goal)
        assert download.redirects == (Redirect(url, status, goal),), "told all the same"
    assert server.paths() == ["/a", "/b", "/b", "/b"]


async def test_whole_chains_are_remembered(server: RawServer, downloader: ImageDownloader) -> None:
    url = moved(server, "/a", "/b")
    moved(server, "/b", "/c", 302)
    moved(server, "/c", "/d", 308)
    server.serve("/d")
    await downloader.download(url)
    assert len((await downloader.download(url)).redirects) == 3
    assert server.paths() == ["/a", "/b", "/c", "/d", "/b", "/d"], "but for what is not permanent"


NOT_REMEMBERED: dict[str, Mapping[str, str]] = {
    "no-store": {"Cache-Control": "no-store"},
    "no-cache": {"Cache-Control": "no-cache"},
    "max-age=0": {"Cache-Control": "max-age=0"},
    "Expires in the past": {"Expires": "0"},
    "Vary": {"Vary": "Accept"},
    "Vary *": {"Vary": "*"},
}


@pytest.mark.parametrize("what", NOT_REMEMBERED)
async def test_what_http_does_not_allow_is_not_remembered(
    server: RawServer, downloader: ImageDownloader, what: str
) -> None:
    url = server.serve("/a", b"", status=301, headers={"Location": "/b", **NOT_REMEMBERED[what]})
    server.serve("/b")
    await downloader.download(url)
    await downloader.download(url)
    assert server.paths() == ["/a", "/b"] * 2


@pytest.mark.parametrize(
    "fields", [{"Authorization": "Bearer a"}, {"Cookie": "a=b"}, {"X-Api-Key": "a"}, {"Cache-Control": "no-cache"}]
)
async def test_who_says_who_he_is_or_wants_the_origins_word_gets_it(
    server: RawServer, downloader: ImageDownloader, fields: dict[str, str]
) -> None:
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    await downloader.download(DownloadRequest(url, Headers(fields)))
    assert server.paths() == ["/a", "/b"] * 2
    await downloader.download(url)
    assert server.paths()[-1] == "/b"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [({}, HEURISTIC_SECONDS), ({"Cache-Control": "max-age=60"}, 60),
     ({"Cache-Control": "max-age=60", "Age": "20"}, 40)],
)  # fmt: skip
async def test_it_counts_as_long_as_it_is_fresh(
    server: RawServer, make: MakeDownloader, clock: FakeClock, fields: dict[str, str], seconds: float
) -> None:
    downloader = make(clock=clock)
    url = moved(server, "/a", "/b", fields=fields)
    server.serve("/b")
    await downloader.download(url)
    clock.advance(seconds - 1)
    await downloader.download(url)
    assert server.paths() == ["/a", "/b", "/b"]
    clock.advance(1)
    await downloader.download(url)
    assert server.paths() == ["/a", "/b", "/b", "/a", "/b"]


async def test_a_redirect_that_leads_to_nothing_is_asked_about_again(
    server: RawServer, downloader: ImageDownloader
) -> None:
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    server.serve("/b", b"", status=404)
    with pytest.raises(BadStatusError):
        await downloader.download(url)
    moved(server, "/a", "/c")
    goal = server.serve("/c")
    assert (await downloader.download(url)).final_url == goal


async def test_so_it_is_by_the_next_try(server: RawServer, make: MakeDownloader) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.reset()

    downloader = make(retry=BackoffRetryStrategy(2, base=0))
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    server.on("/b", cut)
    moved(server, "/a", "/c")
    goal = server.serve("/c")
    assert (await downloader.download(url)).final_url == goal
    server.on("/c", cut)
    with pytest.raises(ConnectionFailedError):
        await downloader.download(url)


async def test_a_loop_that_is_remembered_ends(server: RawServer, downloader: ImageDownloader) -> None:
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    moved(server, "/b", "/a")
    with pytest.raises(RedirectError):
        await downloader.download(url)
    server.serve("/b")
    assert (await downloader.download(url)).body == PNG


async def test_the_handler_is_asked_about_what_is_remembered_too(server: RawServer, make: MakeDownloader) -> None:
    class Handler:
        refuses = False

        def handle_redirect(self, redirect: Redirect, request: DownloadRequest) -> DownloadRequest | None:
            return None if self.refuses else request

    handler = Handler()
    downloader = make(redirect_handler=handler)
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    handler.refuses = True
    with pytest.raises(RedirectError, match="refused"):
        await downloader.download(url)
    assert server.paths() == ["/a", "/b"]


async def test_all_can_be_forgotten(server: RawServer, downloader: ImageDownloader) -> None:
    url = moved(server, "/a", "/b")
    server.serve("/b")
    await downloader.download(url)
    downloader.forget_redirects()
    await downloader.download(url)
    assert server.paths() == ["/a", "/b"] * 2


def test_there_is_an_end_to_what_is_remembered() -> None:
    known = RememberedRedirects()
    requests = [DownloadRequest(f"http://a.example/{number}") for number in range(REMEMBERED + 1)]
    for request in requests:
        known.note(request, 301, Headers({"Location": "/b"}), 0.0, 0.0)
    assert known.recall(requests[0], 1.0) is None
    assert known.recall(requests[1], 1.0) == (301, "/b")
