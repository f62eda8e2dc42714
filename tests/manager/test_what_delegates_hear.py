"""What delegates hear of each kind of network task, of the caches' doings, and in whose context."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from imagecache import (
    BackoffRetryStrategy,
    CachePolicy,
    DownloadRequest,
    ImageCacheError,
    ImageManager,
    NotAnImageError,
    RequestModifierError,
    Resize,
    ResponseInfo,
    ServedFrom,
    StorageError,
    hash_for_key,
)
from imagecache.delegate import CALLBACKS
from imagecache.testing import Answer, FakeClock, FaultyDisk, ImageServer, picture

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Recorder:
    """Every callback; notes into a common list who was asked, and in whose context."""

    def __init__(self, heard: list[tuple[str, str]], name: str = "") -> None:
        self.heard = heard
        self.name = name
        self.users: dict[str, str] = {}
        self.errors: list[ImageCacheError | None] = []
        self.finished = asyncio.Event()

    def note(self, callback: str) -> None:
        self.heard.append((self.name, callback))
        self.users[callback] = user.get()

    def will_download_image(self, url: str, request: DownloadRequest) -> None:
        self.note("will_download_image")

    async def is_valid_status_code(self, status: int, url: str) -> bool | None:
        self.note("is_valid_status_code")
        return None

    async def did_receive_response(self, response: ResponseInfo) -> bool | None:
        self.note("did_receive_response")
        return None

    async def did_download_data(self, data: bytes, url: str) -> bytes:
        self.note("did_download_data")
        return data

    def did_finish_downloading_image(
        self, url: str, response: ResponseInfo | None, error: ImageCacheError | None
    ) -> None:
        self.note("did_finish_downloading_image")
        self.errors.append(error)
        self.finished.set()

    async def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> None:
        self.note("did_download_image")

    def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
        self.note("did_clean_disk_cache")

    def did_evict(self, hashes: Sequence[str]) -> None:
        self.note("did_evict")

    def did_fail_on_disk(self, operation: str, error: Exception) -> None:
        self.note("did_fail_on_disk")

    async def did_fail_to_store(self, url: str, error: Exception) -> None:
        self.note("did_fail_to_store")

    async def did_refresh_image(self, url: str, changed: bool) -> None:
        self.note("did_refresh_image")


WHOLE = [
    "will_download_image",
    "is_valid_status_code",
    "did_receive_response",
    "did_download_data",
    "did_finish_downloading_image",
    "did_download_image",
]


@pytest.fixture
def recorder(images: ImageManager) -> Recorder:
    made = Recorder([])
    images.add_delegate(made)
    return made


def callbacks(recorder: Recorder) -> list[str]:
    return [callback for _, callback in recorder.heard]


async def test_each_callback_asks_all_delegates_before_the_next_one_does(
    server: ImageServer, images: ImageManager
) -> None:
    heard: list[tuple[str, str]] = []
    for name in ("first", "second", "third"):
        images.add_delegate(Recorder(heard, name))
    await images.fetch_image(server.add("/a.png"))
    assert heard == [(name, callback) for callback in WHOLE for name in ("first", "second", "third")]


async def test_a_304_brings_neither_bytes_nor_an_image(
    server: ImageServer, images: ImageManager, recorder: Recorder
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    recorder.heard.clear()
    assert (await images.fetch(url, force_refresh=True)).revalidated
    assert callbacks(recorder) == ["will_download_image", "did_receive_response", "did_finish_downloading_image"]
    assert recorder.errors == [None, None]


async def test_redirects_are_hops_of_one_task(server: ImageServer, images: ImageManager, recorder: Recorder) -> None:
    server.add("/a.png")
    server.always("/b", Answer.redirect("/a.png"))
    await images.fetch_image(server.always("/c", Answer.redirect("/b")))
    assert callbacks(recorder) == WHOLE
    assert server.count() == 3


async def test_further_tries_are_the_same_task(server: ImageServer, tmp_path: Path) -> None:
    strategy = BackoffRetryStrategy(base=0.0)
    async with ImageManager(directory=tmp_path, retry=strategy) as images:
        recorder = Recorder([])
        images.add_delegate(recorder)
        url = server.add("/a.png")
        server.script("/a.png", Answer(status=503), Answer(cut_at=10))
        await images.fetch_image(url)
    assert server.count() == 3
    for once in ("will_download_image", "did_finish_downloading_image", "did_download_image"):
        assert callbacks(recorder).count(once) == 1
    assert callbacks(recorder)[-2:] == WHOLE[-2:]
    assert recorder.errors == [None]


async def test_a_download_that_all_have_left_ends_once_with_an_error(
    server: ImageServer, images: ImageManager, recorder: Recorder
) -> None:
    url = server.add("/a.png")
    gate = server.hold_body("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(3)]
    await gate.arrived(1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await asyncio.wait_for(recorder.finished.wait(), 10)
    await images._flights.idle()
    await images._delegates.drain()
    assert callbacks(recorder).count("did_finish_downloading_image") == 1
    assert isinstance(recorder.errors[0], ImageCacheError)
    assert "did_download_image" not in callbacks(recorder)


async def test_closing_ends_a_download_once_too(server: ImageServer, images: ImageManager, recorder: Recorder) -> None:
    url = server.add("/a.png")
    gate = server.hold_body("/a.png")
    call = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    await images.aclose()
    await asyncio.wait([call])
    assert callbacks(recorder).count("did_finish_downloading_image") == 1
    assert isinstance(recorder.errors[0], ImageCacheError)


async def test_what_is_refused_before_the_network_is_no_task(
    server: ImageServer, images: ImageManager, recorder: Recorder
) -> None:
    def refuse(request: DownloadRequest) -> None:
        return None

    images.add_request_modifier(refuse)
    with pytest.raises(RequestModifierError):
        await images.fetch_image(server.add("/a.png"))
    assert recorder.heard == []


async def test_bytes_that_are_no_image_are_downloaded_and_no_image_is(
    server: ImageServer, images: ImageManager, recorder: Recorder
) -> None:
    with pytest.raises(NotAnImageError):
        await images.fetch_image(server.add("/a.png", b"<html>"))
    assert callbacks(recorder) == WHOLE[:-1]


@pytest.mark.parametrize("policy", [CachePolicy.CACHE_ELSE_LOAD, CachePolicy.CACHE_ONLY, CachePolicy.PROTOCOL])
async def test_what_the_cache_has_is_no_download(
    server: ImageServer, images: ImageManager, recorder: Recorder, policy: CachePolicy
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=600"})
    await images.fetch_image(url)
    recorder.heard.clear()
    await images.fetch_image(url, policy=policy)
    images.clear_memory()
    await images.fetch_image(url, policy=policy)
    assert recorder.heard == []


async def test_each_caller_of_processed_images_counts_and_gets_what_it_asked_for(
    server: ImageServer, images: ImageManager
) -> None:
    sizes: list[tuple[int, int]] = []

    class Sizes:
        def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> None:
            sizes.append(image.size)

    images.add_delegate(Sizes())
    url = server.add("/a.png", picture(64, 64))
    gate = server.hold("/a.png")
    calls = [
        asyncio.create_task(images.fetch_image(url)),
        asyncio.create_task(images.fetch_image(url, processors=[Resize(16, 16)])),
        asyncio.create_task(images.fetch(url, processors=[Resize(16, 16)])),
    ]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert sorted(sizes) == [(16, 16), (16, 16), (64, 64)]
    assert server.count() == 1


async def test_what_a_delegate_does_to_its_image_nobody_else_sees(server: ImageServer, images: ImageManager) -> None:
    class Painter:
        def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> None:
            image.paste("red", (0, 0, *image.size))
            image.info["painted"] = "yes"

    url = server.add("/a.png", picture(16, 16))
    images.add_delegate(Painter())
    first, again = await images.fetch_image(url), await images.fetch_image(url)
    images.clear_memory()
    stored = await images.fetch_image(url)
    assert first.tobytes() == again.tobytes() == stored.tobytes()
    assert "painted" not in first.info


async def test_no_callback_of_any_kind_sees_a_callers_context(server: ImageServer, tmp_path: Path) -> None:
    clock, recorder = FakeClock(), Recorder([])
    user.set("alice")
    async with ImageManager(directory=tmp_path, clock=clock, memory_limit=10_000, disk_limit=200_000) as images:
        images.add_delegate(recorder)
        urls = [server.add(f"/{number}.png", picture(32, 32, seed=number)) for number in range(4)]
        for url in urls:
            await images.fetch_image(url)
        await images.fetch_image(urls[0], policy=CachePolicy.STALE_WHILE_REVALIDATE)
        await images._flights.idle()
        await images.fetch_image(server.add("/large.png", picture(600, 500)))
        await images.cache.disk.flush()
        clock.advance(8 * 86_400)
        await images.clean_expired()
        with FaultyDisk(tmp_path) as disk:
            disk.fail("open", "EIO", name="*.png")
            await images.fetch_image(server.add("/noise.png", picture(400, 300, seed=9)))
            await images.cache.flush()
        await images._delegates.drain()
    assert recorder.users == dict.fromkeys(CALLBACKS, "nobody")


async def test_what_cannot_be_kept_is_told_and_the_image_comes(server: ImageServer, tmp_path: Path) -> None:
    told: list[tuple[str, Exception]] = []

    class Listener:
        def did_fail_to_store(self, url: str, error: Exception) -> None:
            told.append((url, error))

    async with ImageManager(directory=tmp_path, disk_limit=10_000) as images:
        images.add_delegate(Listener())
        url = server.add("/large.png", picture(200, 200))
        assert (await images.fetch(url)).served_from is ServedFrom.NETWORK
        await images.cache.disk.flush()
        await images._delegates.drain()
        assert [of for of, _ in told] == [url]
        assert isinstance(told[0][1], StorageError)
        assert (await images.fetch(url)).served_from is ServedFrom.MEMORY


def clear_all(images: ImageManager, url: str) -> object:
    return images.clear()


def clear_disk(images: ImageManager, url: str) -> object:
    return images.clear_disk()


def remove(images: ImageManager, url: str) -> object:
    return images.remove(url)


def clear_the_cache_itself(images: ImageManager, url: str) -> object:
    return images.cache.clear()


@pytest.mark.parametrize("by_hand", [clear_all, clear_disk, remove, clear_the_cache_itself])
async def test_what_is_cleared_by_hand_takes_its_etag_along_and_is_no_cleaning(
    server: ImageServer, images: ImageManager, recorder: Recorder, by_hand: Callable[[ImageManager, str], object]
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    await images.fetch_data(url, format="WEBP")
    await by_hand(images, url)  # type: ignore[misc]  # each of them is awaitable
    await images._delegates.drain()
    assert "did_clean_disk_cache" not in callbacks(recorder)
    assert await images.etags.get(url) is None
    assert [pair async for pair in images.etags] == []
    await images.fetch_image(url, force_refresh=True)
    assert "if-none-match" not in server.requests[-1].headers


async def test_cleaning_tells_of_an_image_once_however_many_rows_it_has(server: ImageServer, tmp_path: Path) -> None:
    clock, told = FakeClock(), list[str]()

    class Listener:
        def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
            told.extend(hashes)

    async with ImageManager(directory=tmp_path, clock=clock, disk_expiration=60.0) as images:
        images.add_delegate(Listener())
        url = server.add("/a.png")
        await images.fetch_image(url)
        for format in ("WEBP", "JPEG"):
            await images.fetch_data(url, processors=[Resize(8, 8)], format=format)
        assert await images.cache.disk.count() == 3
        clock.advance(61)
        assert await images.clean_expired() == [hash_for_key(url)]
        await images._delegates.drain()
        assert await images.cache.disk.count() == 0
    assert told == [hash_for_key(url)]


async def test_those_told_of_as_cleaned_are_exactly_those_that_went(server: ImageServer, tmp_path: Path) -> None:
    told: list[str] = []

    class Listener:
        def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
            told.extend(hashes)

    async with ImageManager(directory=tmp_path, disk_limit=300_000) as images:
        images.add_delegate(Listener())
        urls = [server.add(f"/{number}.png", picture(160, 120, seed=number)) for number in range(30)]
        for url in urls:
            await images.fetch_data(url)
        await images.cache.disk.flush()
        # Over the limit by a lower one, as in a program's next version.
        images.cache.disk.limit = 100_000
        await images.clean_expired()
        await images._delegates.drain()
        gone = [url for url in urls if await images.etags.get(url) is None]
        kept = [url for url in urls if url not in gone]
        assert kept
        assert sorted(told) == sorted(hash_for_key(url) for url in gone)
        assert {url async for url, _ in images.etags} == set(kept)
        assert await images.cache.disk.size() <= 50_000
