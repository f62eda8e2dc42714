"""The stub answers for every downloader without a socket, and lets nothing pass that the test did not foresee."""

import asyncio
import contextlib
import io
import socket
from pathlib import Path

import pytest
from PIL import Image

import imagecache
from imagecache import (
    BadStatusError,
    ConnectionFailedError,
    DownloadRequest,
    ImageDownloader,
    ImageManager,
    NotAnImageError,
    ServedFrom,
    TimedOutError,
)
from imagecache.default import default_manager, is_default_overridden, override_default
from imagecache.network import downloader as network_downloader
from imagecache.testing import Answer, Gate, ImageServer, StubCall, StubError, picture, stub

CAT = "https://a.example/cat.png"
DOG = "https://a.example/dog.png"


@pytest.fixture(autouse=True)
def no_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    if "server" not in request.fixturenames:
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)


def files_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


class TestAnswers:
    async def test_bytes_images_and_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.gif").write_bytes(picture(20, 10, format="GIF"))
        with stub({
            "https://a.example/bytes": picture(32, 24),
            "https://a.example/image": Image.new("RGB", (5, 4), "red"),
            "https://a.example/file": tmp_path / "a.gif",
        }):  # fmt: skip
            assert (await imagecache.fetch_image("https://a.example/bytes")).size == (32, 24)
            assert (await imagecache.fetch_image("https://a.example/image")).getpixel((0, 0)) == (255, 0, 0)
            assert (await imagecache.fetch_image("https://a.example/file")).size == (20, 10)

    async def test_exceptions_come_as_the_library_raises_them_and_are_not_tried_again(self) -> None:
        given = TimedOutError("slow", limit="idle")
        with stub({CAT: ConnectionResetError("reset"), DOG: given}) as calls:
            with pytest.raises(ConnectionFailedError) as reset:
                await imagecache.fetch_image(CAT)
            with pytest.raises(TimedOutError) as timed_out:
                await imagecache.fetch_image(DOG)
        assert reset.value.url == CAT
        assert (timed_out.value.url, timed_out.value.limit) == (DOG, "idle")
        assert timed_out.value is not given
        assert given.url == ""
        assert len(calls) == 2

    async def test_a_status_with_fields(self) -> None:
        answer = Answer(status=429, headers={"Retry-After": "7"})
        with stub({CAT: answer}), pytest.raises(BadStatusError) as caught:
            await imagecache.fetch_image(CAT)
        assert (caught.value.status, caught.value.retry_after) == (429, 7.0)

    async def test_what_is_no_image_is_told_by_the_library_itself(self) -> None:
        with stub({CAT: b"<html>sorry</html>"}), pytest.raises(NotAnImageError):
            await imagecache.fetch_image(CAT)

    async def test_a_function_of_the_request_plain_or_async(self) -> None:
        async def later(request: DownloadRequest) -> bytes:
            await asyncio.sleep(0)
            return picture(int(request.headers["X-Width"]), 10)

        with stub({CAT: later, DOG: lambda request: picture(7, len(request.url))}):
            assert (await imagecache.fetch_image(CAT, headers={"X-Width": "9"})).size == (9, 10)
            assert (await imagecache.fetch_image(DOG)).size == (7, len(DOG))

    async def test_a_gate_holds_the_answer(self) -> None:
        gate = Gate()
        with stub({CAT: Answer(content=picture(), gate=gate)}) as calls:
            fetching = asyncio.gather(*(imagecache.fetch_image(CAT) for _ in range(5)))
            await gate.arrived()
            assert not fetching.done()
            gate.open()
            assert len(await fetching) == 5
        assert len(calls) == 1

    async def test_changing_the_mapping_changes_the_server(self) -> None:
        images = {CAT: picture(seed=1)}
        with stub(images) as calls:
            first = await imagecache.fetch(CAT)
            again = await imagecache.fetch(CAT, force_refresh=True)
            images[CAT] = picture(seed=2)
            second = await imagecache.fetch(CAT, force_refresh=True)
        assert (again.revalidated, again.changed) == (True, False)
        assert (second.revalidated, second.changed) == (False, True)
        assert first.etag != second.etag
        assert [call.headers.get("If-None-Match") for call in calls] == [None, first.etag, first.etag]

    async def test_redirects_are_followed_by_the_library(self) -> None:
        with stub({CAT: Answer.redirect("/dog.png"), DOG: picture()}) as calls:
            result = await imagecache.fetch(CAT)
        assert result.final_url == DOG
        assert [call.url for call in calls] == [CAT, DOG]

    async def test_headers_of_the_answer(self) -> None:
        body = picture()
        with stub({CAT: body}):
            response = await imagecache.fetch_response(CAT)
        assert response.body == body
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Length"] == str(len(body))
        assert {"ETag", "Date"} <= set(response.headers)
        assert "Last-Modified" not in response.headers


class TestThePartsAroundIt:
    async def test_modifiers_run_and_a_signed_url_is_known_by_the_one_that_was_asked_for(self) -> None:
        with stub({CAT: picture()}) as calls:
            async with ImageManager("test", disk_limit=0) as images:
                images.add_request_modifier(lambda request: request.with_url(f"{request.url}?sig=1"))
                images.add_request_modifier(lambda request: request.with_headers({"Authorization": "Bearer t"}))
                await images.fetch_image(CAT)
        assert calls == [StubCall(f"{CAT}?sig=1", calls[0].headers)]
        assert calls[0].headers["Authorization"] == "Bearer t"

    async def test_delegates_and_progress_hear_of_it(self) -> None:
        heard: list[object] = []

        class Delegate:
            def will_download_image(self, url: str, request: DownloadRequest) -> None:
                heard.append(url)

        body = picture()
        with stub({CAT: body}):
            async with ImageManager("test", disk_limit=0) as images:
                images.add_delegate(Delegate())
                await images.fetch_image(CAT, progress=lambda received, total: heard.append((received, total)))
        assert heard == [CAT, (len(body), len(body))]

    async def test_a_downloader_alone_and_one_used_after_the_block(self, server: ImageServer) -> None:
        downloader = ImageDownloader()
        with stub({CAT: picture(seed=3)}):
            assert (await downloader.download(CAT)).body == picture(seed=3)
        url = server.add("/real.png")
        assert (await downloader.download(url)).body == server.body("/real.png")
        with stub({url: picture(seed=4)}):
            assert (await downloader.download(url)).body == picture(seed=4)
        assert server.count() == 1
        await downloader.aclose()

    async def test_a_fragment_is_not_part_of_what_is_asked_for(self) -> None:
        with stub({CAT: picture()}):
            await imagecache.fetch_image(f"{CAT}#top")


class TestUnforeseen:
    async def test_an_unknown_url_is_named_with_the_known_ones(self) -> None:
        at_the_call = pytest.raises(StubError, match=r"cat\.png.*cow\.png")
        at_the_end = pytest.raises(StubError, match=r"cow\.png.*cat\.png")
        with at_the_end, stub({CAT: picture()}), at_the_call:
            await imagecache.fetch_image("https://a.example/cow.png")

    async def test_it_is_an_error_of_the_library_and_of_the_test(self) -> None:
        with pytest.raises(AssertionError), stub({}):
            await imagecache.fetch_image(CAT)
        assert issubclass(StubError, imagecache.ImageCacheError)

    async def test_one_that_the_program_swallowed_is_told_at_the_end(self) -> None:
        async def program() -> None:
            with contextlib.suppress(imagecache.ImageCacheError):
                await imagecache.fetch_image(CAT)

        with pytest.raises(StubError, match=r"cat\.png; answered are: none"), stub({}):
            await program()

    async def test_userinfo_is_not_shown(self) -> None:
        with pytest.raises(StubError) as caught, stub({}):
            await imagecache.fetch_image("https://me:secret@a.example/cat.png")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(content=b"x", cut_at=0),
            Answer(content=b"x", is_endless=True),
            Answer(raw=b""),
            Answer(content=b"x", body_gate=Gate()),
        ],
    )
    async def test_what_needs_a_connection_is_refused(self, answer: Answer) -> None:
        with stub({CAT: answer}), pytest.raises(StubError, match="ImageServer"):
            await imagecache.fetch_image(CAT)


class TestTheDefaultManager:
    async def test_no_folder_of_the_user_is_touched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path))
        with stub({CAT: picture()}):
            await imagecache.fetch_image(CAT)
        assert files_in(tmp_path) == []

    async def test_each_block_begins_with_nothing_cached(self) -> None:
        for _ in range(2):
            with stub({CAT: picture()}) as calls:
                await imagecache.fetch_image(CAT)
                await imagecache.fetch_image(CAT)
            assert len(calls) == 1

    async def test_one_given_by_the_test_is_kept(self, image_cache: ImageManager) -> None:
        with stub({CAT: picture()}):
            assert default_manager() is image_cache
            result = await imagecache.fetch(CAT)
            assert result.served_from is ServedFrom.NETWORK
            image_cache.cache.clear_memory()
            assert (await imagecache.fetch(CAT)).served_from is ServedFrom.DISK

    async def test_afterwards_everything_is_as_it_was(self) -> None:
        before = vars(network_downloader).copy(), ImageDownloader._open
        with stub({}):
            assert is_default_overridden()
        assert not is_default_overridden()
        assert (vars(network_downloader), ImageDownloader._open) == before

    def test_two_loops_have_managers_of_their_own(self) -> None:
        async def fetch() -> bytes:
            image = await imagecache.fetch_image(CAT)
            return image.tobytes()

        with stub({CAT: picture()}):
            assert asyncio.run(fetch()) == asyncio.run(fetch()) == Image.open(io.BytesIO(picture())).tobytes()

    async def test_a_manager_given_inside_the_block_is_used(self, tmp_path: Path) -> None:
        with stub({CAT: picture()}):
            async with ImageManager("test", directory=tmp_path) as images:
                with override_default(images):
                    await imagecache.fetch_image(CAT)
                assert images.counters.downloads == 1
