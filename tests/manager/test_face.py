"""The face of the library: every line of the sample in the design, and what users of it expect."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

import imagecache
from imagecache import (
    Blur,
    CachePolicy,
    Downsample,
    FormatCacheSerializer,
    ImageManager,
    InvalidURLError,
    PrefetchStatus,
    Resize,
    RoundCorners,
    ServedFrom,
    StorageError,
)  # fmt: skip
from imagecache.testing import ImageServer, picture


async def test_every_line_of_the_sample(server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = server.add("/a.png", picture(600, 400))
    told: list[object] = []

    class MyDelegate(imagecache.ImageDownloaderDelegate):
        def will_download_image(self, url: str, request: imagecache.DownloadRequest) -> None:
            told.append(url)

    async with ImageManager("mybot", directory=tmp_path / "cache", disk_limit="1 GiB") as images:
        with images.add_request_modifier(lambda request: request.with_headers({"X-Signed": "yes"})):
            handle = images.add_delegate(MyDelegate())
            image = await images.fetch_image(url, processors=[Downsample(300, 300), RoundCorners(20)])
            assert image.size == (300, 200)
            image = await images.fetch_image(url, force_refresh=True)
            assert image.size == (600, 400)
        assert server.requests[0].headers["x-signed"] == "yes"
        assert told == [url, url]
        handle.remove()
        result = await images.fetch(url)
        assert result.served_from is ServedFrom.MEMORY
        assert await images.fetch_data(url) == server.body("/a.png")
        webp = await images.fetch_data(url, processors=[Downsample(300, 300)], format="WEBP", quality=80)
        with Image.open(io.BytesIO(webp)) as opened:
            assert (opened.format, opened.size) == ("WEBP", (300, 200))
        path = await images.fetch_file(url, to="a.jpg")
        assert path.read_bytes() == server.body("/a.png")
        answer = await images.fetch_response(url)
        assert (answer.status, answer.body) == (200, server.body("/a.png"))
        urls = [url, server.add("/b.png"), server.url("/nothing")]
        report = await images.prefetch(urls)
        assert {outcome.url: outcome.status for outcome in report} == {
            urls[0]: PrefetchStatus.ALREADY_THERE,
            urls[1]: PrefetchStatus.STORED,
            urls[2]: PrefetchStatus.FAILED,
        }
        async for outcome in images.prefetch(urls[:2]):
            assert outcome.status is PrefetchStatus.ALREADY_THERE
        assert await images.etags.get(url) == server.etag("/a.png")
    assert len(told) == 2


async def test_encoded_bytes_are_made_once_and_kept_as_a_variant(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    options = {"processors": [Resize(20, 20)], "format": "WEBP"}
    first = await images.fetch_data(url, processors=[Resize(20, 20)], format="WEBP")
    images.clear_memory()
    again = await images.fetch_data(url, processors=[Resize(20, 20)], format="WEBP")
    assert first == again
    assert images.counters.encodes == images.counters.decodes == 1
    assert options
    assert server.count() == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "1", "L", "I;16"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
async def test_every_mode_can_be_had_in_every_format(
    server: ImageServer, images: ImageManager, mode: str, format: str
) -> None:
    file = io.BytesIO()
    Image.new(mode, (16, 16)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    url = server.add("/a", file.getvalue())
    with Image.open(io.BytesIO(await images.fetch_data(url, format=format))) as opened:
        assert opened.format == format
        opened.load()


async def test_a_processed_image_is_written_like_its_source_or_as_png(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.jpg", picture(60, 40, format="JPEG"))
    plain = await images.fetch_data(url, processors=[Resize(30, 20)])
    round_ = await images.fetch_data(url, processors=[RoundCorners(5)])
    assert [Image.open(io.BytesIO(data)).format for data in (plain, round_)] == ["JPEG", "PNG"]


async def test_wrong_formats_are_told_at_the_call(images: ImageManager) -> None:
    for call in (
        images.fetch_data("http://a.example/", format="nonsense"),
        images.fetch_data("http://a.example/", format="WEBP", quality=101),
    ):
        with pytest.raises(ValueError, match=r"written as|1 to 100"):
            await call


async def test_a_held_file_is_read_only_and_has_the_true_suffix(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/misnamed.gif", picture(20, 20, format="JPEG"))
    path = await images.fetch_file(url)
    assert path.suffix == ".jpg"
    assert path.read_bytes() == server.body("/misnamed.gif")
    assert not stat.S_IMODE(path.stat().st_mode) & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    webp = await images.fetch_file(url, format="WEBP")
    assert webp.suffix == ".webp"
    assert webp != path


async def test_a_copy_that_cannot_be_written_is_our_error_and_leaves_nothing(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url = server.add("/a.png")
    with pytest.raises(StorageError, match="cannot write") as caught:
        await images.fetch_file(url, to=tmp_path / "absent" / "a.png")
    assert isinstance(caught.value.__cause__, OSError)
    target = tmp_path / "a.png"
    assert await images.fetch_file(url, to=target) == target
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["a.png"]


async def test_signed_urls_of_one_avatar_are_one_entry(server: ImageServer, tmp_path: Path) -> None:
    server.add("/avatar.png")
    urls = [f"{server.url('/avatar.png')}?signature={n}" for n in range(3)]
    async with ImageManager(directory=tmp_path, key_for_url=lambda url: url.partition("?")[0]) as images:
        sources = [(await images.fetch(url)).served_from for url in urls]
        assert sources == [ServedFrom.NETWORK, ServedFrom.MEMORY, ServedFrom.MEMORY]
        assert await images.cache.disk.count() == 1
        assert await images.remove(urls[2]) == 1
    async with ImageManager(directory=tmp_path) as images:
        sources = [(await images.fetch(url, cache_key="avatar-7")).served_from for url in urls]
        assert sources == [ServedFrom.NETWORK, ServedFrom.MEMORY, ServedFrom.MEMORY]
    assert server.count() == 2


async def test_keys_of_ones_own_are_never_mixed_up_with_urls(server: ImageServer, tmp_path: Path) -> None:
    one, two = server.add("/one.png", picture(10, 10)), server.add("/two.png", picture(20, 20))
    async with ImageManager(directory=tmp_path, key_for_url=lambda url: two if url == one else "else") as images:
        assert (await images.fetch_image(one)).size == (10, 10)
        assert (await images.fetch_image(two)).size == (20, 20)


async def test_an_injected_session_is_used_and_left_open(server: ImageServer, tmp_path: Path) -> None:
    async with aiohttp.ClientSession(headers={"X-From": "my session"}) as session:
        async with ImageManager(directory=tmp_path, session=session) as images:
            await images.fetch_image(server.add("/a.png"))
        assert not session.closed
    assert server.requests[0].headers["x-from"] == "my session"


async def test_a_serializer_keeps_processed_images_on_disk(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png")
    async with ImageManager(directory=tmp_path, serializer=FormatCacheSerializer("PNG")) as images:
        before = await images.fetch_image(url, processors=[Blur(2)])
        images.clear_memory()
        after = await images.fetch(url, processors=[Blur(2)])
        assert after.image.tobytes() == before.tobytes()
        assert after.served_from is ServedFrom.DISK
        assert images.counters.processes == images.counters.decodes == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"force_refresh": True, "policy": CachePolicy.CACHE_ONLY}, "contradicts"),
        ({"force_refresh": True, "policy": CachePolicy.RELOAD}, "contradicts"),
        ({"mode": "XYZ"}, "mode is one of"),
        ({"timeout": -1}, "over 0 seconds"),
        ({"cache_key": ""}, "cache key"),
        ({"headers": {"X": "a\r\nb"}}, "line break"),
        ({"policy": "protocol"}, "CachePolicy"),
        ({"processors": [Blur]}, "image processor"),
        ({"processors": Blur(1)}, "list of image processors"),
        ({"proccessors": []}, "no such option"),
        ({"headers": ["X"]}, "mapping"),
        ({"memory_expiration": "soon"}, "memory_expiration"),
    ],
)
async def test_options_that_make_no_sense_are_refused_at_the_call(
    server: ImageServer, images: ImageManager, options: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        await images.fetch_image(server.add("/a.png"), **options)  # type: ignore[arg-type]  # wrong on purpose
    assert server.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a/b"}, {"name": ""}, {"memory_limit": "lots"}, {"disk_limit": -1}, {"policy": "protocol"},
        {"key_for_url": "x"}, {"timeout": 0}, {"max_body": "x"}, {"memory_expiration": object()},
    ],
)  # fmt: skip
def test_managers_that_make_no_sense_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        ImageManager(**options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "url", ["", "   ", None, 7, "ftp://a.example/x.png", "/x.png", "http://", "http://[", b"http://a"]
)
async def test_what_is_no_url_is_told_before_any_network(images: ImageManager, url: str) -> None:
    with pytest.raises(InvalidURLError):
        await images.fetch_image(url)


async def test_an_unhashable_url_is_told_as_what_it_is(images: ImageManager) -> None:
    with pytest.raises(InvalidURLError, match="list"):
        await images.fetch_image([])  # type: ignore[arg-type]  # wrong on purpose


async def test_untrusted_visits_no_private_address_and_takes_less(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager.untrusted(directory=tmp_path) as images:
        with pytest.raises(imagecache.AddressRefusedError):
            await images.fetch_image(server.add("/a.png"))
        assert images.downloader.options.max_body == 10 * 2**20
    assert server.count() == 0


def test_the_environment_sets_limits_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGECACHE_DIR", os.fspath(tmp_path))
    monkeypatch.setenv("IMAGECACHE_DISK_LIMIT", "5 MiB")
    monkeypatch.setenv("IMAGECACHE_MEMORY_LIMIT", "3 MiB")
    manager = ImageManager("mine")
    assert manager.cache.disk.directory == tmp_path / "mine"
    assert manager.cache.disk.limit == 5 * 2**20
    assert manager.cache.memory.limit == 3 * 2**20
    assert ImageManager("mine", memory_limit=7).cache.memory.limit == 7
