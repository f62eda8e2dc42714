"""Who may have a say in a download and who hears of it: in which order, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from imagecache import (
    BadStatusError,
    DownloadRequest,
    ImageCacheError,
    ImageManager,
    RequestModifierError,
    ResponseInfo,
    ResponseRefusedError,
    ServedFrom,
    StorageExpiration,
    hash_for_key,
)  # fmt: skip
from imagecache.testing import Answer, FakeClock, ImageServer, picture


class Recorder:
    """Every callback, half of them async; notes the order they come in."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: list[ImageCacheError | None] = []
        self.cleaned: list[str] = []
        self.evicted: list[str] = []

    async def will_download_image(self, url: str, request: DownloadRequest) -> None:
        self.calls.append("will_download_image")

    def is_valid_status_code(self, status: int, url: str) -> bool | None:
        self.calls.append("is_valid_status_code")
        return None

    async def did_receive_response(self, response: ResponseInfo) -> bool:
        self.calls.append("did_receive_response")
        return True

    def did_download_data(self, data: bytes, url: str) -> bytes:
        self.calls.append("did_download_data")
        return data

    async def did_finish_downloading_image(
        self, url: str, response: ResponseInfo | None, error: ImageCacheError | None
    ) -> None:
        self.calls.append("did_finish_downloading_image")
        self.errors.append(error)

    def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> None:
        self.calls.append("did_download_image")

    def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
        self.cleaned.extend(hashes)

    async def did_evict(self, hashes: Sequence[str]) -> None:
        self.evicted.extend(hashes)


ORDER = [
    "will_download_image",
    "is_valid_status_code",
    "did_receive_response",
    "did_download_data",
    "did_finish_downloading_image",
]


async def test_callbacks_come_in_order_once_a_task_and_once_a_caller(server: ImageServer, images: ImageManager) -> None:
    recorder = Recorder()
    images.add_delegate(recorder)
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(3)]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert recorder.calls == [*ORDER, *["did_download_image"] * 3]
    assert recorder.errors == [None]
    await images.fetch_image(url)
    assert len(recorder.calls) == len(ORDER) + 3


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(cut_at=10), Answer.not_modified()])
async def test_the_end_is_told_exactly_once_when_it_fails(
    server: ImageServer, images: ImageManager, answer: Answer
) -> None:
    recorder = Recorder()
    images.add_delegate(recorder)
    url = server.add("/a.png")
    server.always("/a.png", answer)
    with pytest.raises(ImageCacheError) as caught:
        await images.fetch_image(url)
    assert recorder.calls.count("did_finish_downloading_image") == 1
    assert type(recorder.errors[0]) is type(caught.value)
    assert "did_download_image" not in recorder.calls


async def test_several_delegates_are_asked_in_the_order_they_were_added(
    server: ImageServer, images: ImageManager
) -> None:
    asked: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def will_download_image(self, url: str, request: DownloadRequest) -> None:
            asked.append(self.name)

    first, second = images.add_delegate(Named("first")), images.add_delegate(Named("second"))
    await images.fetch_image(server.add("/a.png"))
    first.remove()
    first.remove()
    await images.fetch_image(server.add("/b.png"))
    with second:
        pass
    await images.fetch_image(server.add("/c.png"))
    assert asked == ["first", "second", "second"]


async def test_a_response_can_be_refused_before_its_body(server: ImageServer, images: ImageManager) -> None:
    class Refuser:
        async def did_receive_response(self, response: ResponseInfo) -> bool:
            return response.headers["content-type"] != "image/png"

    images.add_delegate(Refuser())
    with pytest.raises(ResponseRefusedError):
        await images.fetch_image(server.add("/a.png"))
    assert (await images.fetch_image(server.add("/a.jpg", format="JPEG"))).format == "JPEG"


async def test_bytes_can_be_replaced_and_are_stored_as_replaced(server: ImageServer, images: ImageManager) -> None:
    key = 0x5A
    real = picture(30, 20)

    class Decrypter:
        def did_download_data(self, data: bytes, url: str) -> bytes:
            return bytes(byte ^ key for byte in data)

    url = server.add("/a.enc", bytes(byte ^ key for byte in real))
    with images.add_delegate(Decrypter()):
        assert (await images.fetch_image(url)).size == (30, 20)
    images.clear_memory()
    assert await images.fetch_data(url) == real


async def test_bytes_can_be_rejected(server: ImageServer, images: ImageManager) -> None:
    class Rejecter:
        def did_download_data(self, data: bytes, url: str) -> None:
            return None

    recorder = Recorder()
    images.add_delegate(Rejecter())
    images.add_delegate(recorder)
    with pytest.raises(ResponseRefusedError):
        await images.fetch_image(server.add("/a.png"))
    assert isinstance(recorder.errors[0], ResponseRefusedError)
    assert len(recorder.errors) == 1


async def test_another_status_can_be_accepted_but_never_becomes_a_cached_image(
    server: ImageServer, images: ImageManager
) -> None:
    class Lenient:
        def is_valid_status_code(self, status: int, url: str) -> bool:
            return status in (200, 404)

    url = server.add("/missing.png", picture(12, 12), status=404)
    images.add_delegate(Lenient())
    assert (await images.fetch_image(url)).size == (12, 12)
    images.clear_memory()
    assert (await images.fetch(url)).served_from is ServedFrom.NETWORK


async def test_a_status_can_be_refused(server: ImageServer, images: ImageManager) -> None:
    class Strict:
        def is_valid_status_code(self, status: int, url: str) -> bool:
            return False

    images.add_delegate(Strict())
    with pytest.raises(BadStatusError):
        await images.fetch_image(server.add("/a.png"))


async def test_a_delegate_that_raises_is_reported_and_breaks_nothing(
    server: ImageServer, images: ImageManager, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            if name.startswith("_"):
                raise AttributeError(name)

            async def fail(*args: object) -> None:
                raise RuntimeError(f"broken {name}")

            return fail

    images.add_delegate(Broken())
    image = await images.fetch_image(server.add("/a.png"))
    assert image.size
    for name in (*ORDER, "did_download_image"):
        assert f"the delegate method {name} raised" in caplog.text


def test_a_delegate_without_any_callback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="did_download_data"):
        ImageManager(directory=tmp_path).add_delegate(object())


async def test_modifiers_run_in_order_sync_and_async_and_may_change_the_url(
    server: ImageServer, images: ImageManager
) -> None:
    url, other = server.add("/a.png", picture(10, 10)), server.add("/b.png", picture(20, 20))

    async def sign(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"X-Steps": request.headers.get("x-steps", "") + "1"})

    def redirect(request: DownloadRequest) -> DownloadRequest:
        return request.with_url(other + "?token=secret").with_headers({"X-Steps": request.headers["x-steps"] + "2"})

    images.add_request_modifier(sign)
    images.add_request_modifier(redirect)
    result = await images.fetch(url)
    assert result.image.size == (20, 20)
    assert server.requests[0].headers["x-steps"] == "12"
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
    assert "secret" not in result.final_url


@pytest.mark.parametrize("problem", ["none", "raises"])
async def test_a_modifier_that_refuses_or_raises_is_told_before_any_network(
    server: ImageServer, images: ImageManager, problem: str
) -> None:
    def modify(request: DownloadRequest) -> DownloadRequest | None:
        if problem == "raises":
            raise KeyError("token")
        return None

    url = server.add("/a.png")
    with images.add_request_modifier(modify), pytest.raises(RequestModifierError) as caught:
        await images.fetch_image(url)
    assert caught.value.url == url
    assert (caught.value.__cause__ is not None) == (problem == "raises")
    assert server.count() == 0
    assert (await images.fetch_image(url)).size


async def test_cleaning_tells_the_hashes_that_went_and_their_etags_are_gone(
    server: ImageServer, tmp_path: Path
) -> None:
    clock, recorder = FakeClock(), Recorder()
    async with ImageManager(directory=tmp_path, clock=clock) as images:
        images.add_delegate(recorder)
        short, long = server.add("/short.png"), server.add("/long.png")
        await images.fetch_image(short, disk_expiration=10.0)
        await images.fetch_data(short, format="WEBP")
        await images.fetch_image(long, disk_expiration=StorageExpiration.never())
        clock.advance(60)
        await images.clean_expired()
        await images._delegates.drain()
        assert recorder.cleaned == [hash_for_key(short)]
        assert await images.etags.get(short) is None
        assert await images.etags.get(long) == server.etag("/long.png")
        recorder.cleaned.clear()
        await images.clear_disk()
        await images._delegates.drain()
        assert recorder.cleaned == []
        assert await images.etags.get(long) is None


async def test_going_over_the_disk_limit_cleans_down_to_half_and_tells(server: ImageServer, tmp_path: Path) -> None:
    recorder = Recorder()
    limit = 400_000
    async with ImageManager(directory=tmp_path, disk_limit=limit) as images:
        images.add_delegate(recorder)
        urls = [server.add(f"/{n}.png", picture(160, 120, seed=n)) for n in range(30)]
        for url in urls:
            await images.fetch_data(url)
            await images.cache.disk.flush()
            assert await images.cache.disk.size() <= limit
        await images._delegates.drain()
        assert recorder.cleaned
        assert set(recorder.cleaned) < {hash_for_key(url) for url in urls}
        assert await images.etags.get(urls[0]) is None
        assert await images.etags.get(urls[-1]) is not None


async def test_memory_evictions_are_told(server: ImageServer, tmp_path: Path) -> None:
    recorder = Recorder()
    async with ImageManager(directory=tmp_path, memory_limit=10_000) as images:
        images.add_delegate(recorder)
        urls = [server.add(f"/{n}.png", picture(32, 32, seed=n)) for n in range(4)]
        for url in urls:
            await images.fetch_image(url)
        await images._delegates.drain()
        assert recorder.evicted == [hash_for_key(url) for url in urls[:2]]
