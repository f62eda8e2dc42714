"""Every example runs, and does what it says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from examples import batch_prefetch, delegates_and_progress, etag_by_hand, quick_start, web_handler
from imagecache import ImageManager, PrefetchStatus, ServedFrom, hash_for_key
from imagecache.testing import Answer, FakeClock, ImageServer, picture

EXAMPLES = Path(__file__).parents[2] / "examples"


async def test_quick_start(image_server: ImageServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = image_server.add("/a.jpg", picture(400, 300, format="JPEG"))
    await quick_start.main(url, tmp_path)
    told = capsys.readouterr().out
    assert "JPEG of 400 x 300, mode RGB" in told
    assert "the same again came from memory" in told
    assert "a thumbnail of 96 x 72" in told
    assert "nothing was sent again" in told
    assert [request.status for request in image_server.requests] == [200, 304]


class TestETagByHand:
    async def test_the_apps_own_header_brings_a_304_and_the_cached_image(
        self, image_server: ImageServer, tmp_path: Path
    ) -> None:
        url = image_server.add("/a.png", etag='"v1"')
        first, second = await etag_by_hand.main(url, tmp_path)
        assert [request.status for request in image_server.requests] == [200, 304]
        assert "If-None-Match" not in image_server.requests[0].headers
        assert image_server.requests[1].headers["If-None-Match"] == '"v1"'
        assert (second.served_from, second.revalidated, second.changed) == (ServedFrom.MEMORY, True, False)
        assert second.image == first.image

    async def test_without_the_app_nothing_conditional_is_sent(self, image_server: ImageServer, tmp_path: Path) -> None:
        url = image_server.add("/a.png", etag='"v1"')
        async with ImageManager("plain", directory=tmp_path, etags=False) as images:
            await images.fetch(url)
            await images.fetch(url, force_refresh=True)
        assert [request.status for request in image_server.requests] == [200, 200]

    async def test_what_cleaning_takes_from_the_disk_is_asked_for_without_a_condition(
        self, image_server: ImageServer, tmp_path: Path
    ) -> None:
        url = image_server.add("/a.png")
        keeper, clock = etag_by_hand.ETagKeeper(), FakeClock()
        async with ImageManager("clean", directory=tmp_path, etags=False, disk_expiration=60, clock=clock) as images:
            images.add_delegate(keeper)
            images.add_request_modifier(keeper.add_condition)
            await images.fetch(url)
            assert keeper.etags == {hash_for_key(url): image_server.etag("/a.png")}
            clock.advance(61)
            assert await images.clean_expired() == [hash_for_key(url)]
            await clock.elapse(0)  # the news is delivered on a task of its own
            assert keeper.etags == {}
            await images.fetch(url, force_refresh=True)
        assert [request.status for request in image_server.requests] == [200, 200]


async def test_batch_prefetch(image_server: ImageServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [image_server.add(f"/{index}.png") for index in range(3)]
    report = await batch_prefetch.main([*urls, image_server.url("/none.png")], tmp_path)
    assert report.counts == {PrefetchStatus.STORED: 3, PrefetchStatus.FAILED: 1}
    told = capsys.readouterr().out
    assert "404" in told
    assert "3 stored, 1 failed" in told


async def test_delegates_and_progress(image_server: ImageServer, tmp_path: Path) -> None:
    good = image_server.add("/good.png", picture(300, 200))
    large = image_server.add("/large.png")
    image_server.always("/large.png", Answer(headers={"Content-Length": "30000000"}, cut_at=0))
    log, board = await delegates_and_progress.main([good, good, large], tmp_path)
    assert log.counts == {"started": 2, "finished": 1, "failed": 1}
    assert board.received == {good: len(image_server.body("/good.png"))}


class TestWebHandler:
    def make_manager(self, tmp_path: Path) -> ImageManager:
        # The test's own server is on loopback, which strangers may not ask for.
        return ImageManager.untrusted("service", directory=tmp_path, allow_addresses=("127.0.0.1",))

    async def test_a_thumbnail_is_made_and_cached(self, image_server: ImageServer, tmp_path: Path) -> None:
        url = image_server.add("/a.jpg", picture(400, 300, format="JPEG"))
        app = web_handler.make_app(lambda: self.make_manager(tmp_path))
        async with TestClient(TestServer(app)) as client:
            for _ in range(2):
                answer = await client.get("/thumbnail", params={"url": url, "size": "100"})
                assert (answer.status, answer.content_type) == (200, "image/webp")
                with Image.open(io.BytesIO(await answer.read())) as thumbnail:
                    assert thumbnail.size == (100, 75)
        assert image_server.count() == 1

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({}, 400),
            ({"url": "file:///etc/passwd"}, 400),
            ({"url": "{origin}/a.png", "size": "0"}, 400),
            ({"url": "http://169.254.169.254/latest/meta-data"}, 403),
            ({"url": "{origin}/page.html"}, 422),
            ({"url": "{origin}/none.png"}, 502),
        ],
    )
    async def test_a_visitor_is_told_why_there_is_none(
        self, image_server: ImageServer, tmp_path: Path, query: dict[str, str], status: int
    ) -> None:
        image_server.add("/page.html", b"<!doctype html><p>no image")
        asked = {name: value.format(origin=image_server.origin) for name, value in query.items()}
        app = web_handler.make_app(lambda: self.make_manager(tmp_path))
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/thumbnail", params=asked)
            assert answer.status == status

    async def test_a_private_address_is_refused(self, image_server: ImageServer, tmp_path: Path) -> None:
        app = web_handler.make_app(lambda: ImageManager.untrusted("service", directory=tmp_path))
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/thumbnail", params={"url": image_server.add("/a.png")})
            assert (answer.status, image_server.count()) == (403, 0)
            assert "127.0.0.1" not in await answer.text()

    async def test_the_service_itself_is_for_strangers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path))
        async with web_handler.untrusted_manager() as images:
            options = images.downloader.options
            assert (options.block_private, options.max_body, options.max_redirects) == (True, 10 * 2**20, 3)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_that_serves_strangers_uses_the_manager_for_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    serves = re.search(
        r"^(?:from|import) (?:aiohttp|fastapi|starlette|flask|django|discord|telegram)\b", text, re.MULTILINE
    )
    assert not serves or ("ImageManager.untrusted(" in text and not re.search(r"[ (]ImageManager\(", text))
