"""Asking the server, and what a 304 saves."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from imagecache import (
    BadStatusError,
    Blur,
    CachePolicy,
    Custom,
    ImageManager,
    ImageProcessor,
    Resize,
    ServedFrom,
    hash_for_key,
)
from imagecache.imaging.view import share_pixels
from imagecache.testing import Answer, FakeClock, ImageServer, picture


async def test_a_304_gives_the_decoded_image_that_is_in_memory(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag='"v1"')
    before = await images.fetch_image(url)
    result = await images.fetch(url, force_refresh=True)
    sent = server.requests[-1].headers
    assert sent["if-none-match"] == '"v1"'
    assert "if-modified-since" in sent
    assert server.requests[-1].status == 304
    assert (result.revalidated, result.changed, result.served_from) == (True, False, ServedFrom.MEMORY)
    assert share_pixels(result.image, before)
    assert images.counters.decodes == 1
    assert images.counters.not_modified == 1


async def test_a_304_decodes_from_disk_if_only_the_bytes_are_there(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    before = await images.fetch_image(url)
    images.clear_memory()
    result = await images.fetch(url, force_refresh=True)
    assert (result.revalidated, result.served_from) == (True, ServedFrom.DISK)
    assert result.image.tobytes() == before.tobytes()
    assert images.counters.decodes == 2
    assert server.bytes_sent == len(server.body("/a.png"))


async def test_a_304_renews_headers_and_both_times_and_is_persisted(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with ImageManager(directory=tmp_path, clock=clock, disk_expiration=1000.0) as images:
        url = server.add("/a.png", headers={"Cache-Control": "max-age=10"})
        await images.fetch_image(url)
        clock.advance(900)
        server.script("/a.png", Answer(headers={"Cache-Control": "max-age=500", "X-Round": "2"}))
        result = await images.fetch(url, force_refresh=True)
        assert result.headers["x-round"] == "2"
    clock.advance(400)
    async with ImageManager(directory=tmp_path, clock=clock, disk_expiration=1000.0) as images:
        result = await images.fetch(url, policy=CachePolicy.PROTOCOL)
        assert (result.served_from, result.stale) == (ServedFrom.DISK, False)
        assert result.headers["x-round"] == "2"
        clock.advance(300)
        assert (await images.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is not ServedFrom.NETWORK
    assert server.count() == 2


async def test_a_200_replaces_everything_of_the_old_bytes(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    small = [Resize(8, 8)]
    old = await images.fetch_image(url)
    old_small = await images.fetch_image(url, processors=small)
    old_webp = await images.fetch_data(url, format="WEBP")
    server.replace("/a.png", picture(70, 50, seed=99))
    result = await images.fetch(url, force_refresh=True)
    assert (result.changed, result.revalidated) == (True, False)
    assert result.image.tobytes() != old.tobytes()
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
    new_small = await images.fetch(url, processors=small)
    assert new_small.served_from is ServedFrom.DISK
    assert new_small.image.tobytes() != old_small.tobytes()
    assert await images.fetch_data(url, format="WEBP") != old_webp
    images.clear_memory()
    assert (await images.fetch_image(url)).size == (70, 50)
    assert await images.etags.get(url) == server.etag("/a.png")


async def test_a_200_with_the_same_bytes_keeps_pixels_and_variants(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag='"node-1"')
    before = await images.fetch_image(url)
    await images.fetch_data(url, format="WEBP")
    server.script("/a.png", Answer(etag='"node-2"', ignores_conditions=True))
    result = await images.fetch(url, force_refresh=True)
    assert (result.changed, result.revalidated) == (False, False)
    assert share_pixels(result.image, before)
    assert result.etag == '"node-2"'
    assert await images.etags.get(url) == '"node-2"'
    await images.fetch_data(url, format="WEBP")
    assert images.counters.encodes == 1
    assert images.counters.decodes == 1


async def test_the_image_in_memory_is_not_asked_about_where_a_modifier_now_selects_another(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing has happened to its row: a look has to choose among what varies."""
    monkeypatch.setattr("imagecache.storage.leases.JUST_NOW", 3600.0)
    await images.fetch_image(server.add("/first.png"))
    await images.cache.flush()
    url = server.add("/a.png", headers={"Vary": "Accept-Language"})
    language = ["de"]
    images.add_request_modifier(lambda request: request.with_headers({"Accept-Language": language[0]}))
    for _ in range(2):
        await images.fetch_image(url, force_refresh=True)
    assert "if-none-match" in server.requests[-1].headers
    language[0] = "fr"
    await images.fetch_image(url, force_refresh=True)
    assert "if-none-match" not in server.requests[-1].headers


async def test_another_process_with_a_newer_version_is_never_answered_with_the_old_pixels(
    server: ImageServer, tmp_path: Path
) -> None:
    url = server.add("/a.png", picture(30, 30, seed=1))
    async with (
        ImageManager(directory=tmp_path) as ours,
        ImageManager("other", directory=tmp_path) as theirs,
    ):
        old = await ours.fetch_image(url)
        server.replace("/a.png", picture(31, 31, seed=2))
        assert (await theirs.fetch_image(url, policy=CachePolicy.RELOAD)).size == (31, 31)
        await theirs.cache.disk.flush()
        result = await ours.fetch(url, force_refresh=True)
        assert server.requests[-1].status == 304
        assert result.image.size == (31, 31)
        assert result.image.tobytes() != old.tobytes()


async def test_a_real_second_process_with_a_newer_version_is_seen_by_identity(
    server: ImageServer, tmp_path: Path
) -> None:
    program = """
import asyncio, sys, imagecache
async def main():
    async with imagecache.ImageManager(directory=sys.argv[2]) as images:
        print((await images.fetch_image(sys.argv[1], policy=imagecache.CachePolicy.RELOAD)).size)
asyncio.run(main())
"""
    url = server.add("/a.png", picture(30, 30, seed=1))
    async with ImageManager(directory=tmp_path) as ours:
        old = await ours.fetch_image(url)
        server.replace("/a.png", picture(31, 31, seed=2))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, url, tmp_path, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert (await process.communicate())[0].strip() == b"(31, 31)"
        # Memory still has the old pixels; the row whose ETag is sent is the new one.
        result = await ours.fetch(url, force_refresh=True)
        assert server.requests[-1].status == 304
        assert result.image.size == (31, 31)
        assert result.image.tobytes() != old.tobytes()


async def test_a_slow_processor_is_not_cached_for_a_version_it_was_not_made_of(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", picture(30, 30, seed=1))
    entered, release = threading.Event(), threading.Event()

    def slow(image: Image.Image) -> Image.Image:
        entered.set()
        assert release.wait(10)
        return image.rotate(90)

    turned = [Custom("slow-turn", slow)]
    call = asyncio.create_task(images.fetch(url, processors=turned))
    assert await asyncio.to_thread(entered.wait, 10)
    server.replace("/a.png", picture(40, 40, seed=2))
    await images.fetch_image(url, force_refresh=True)
    release.set()
    assert (await call).image.size == (30, 30)
    result = await images.fetch(url, processors=turned)
    assert result.image.size == (40, 40)
    assert result.served_from is not ServedFrom.MEMORY


async def test_an_entry_that_vanishes_before_its_304_costs_exactly_one_plain_get(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    images.clear_memory()
    gate = server.hold("/a.png")
    call = asyncio.create_task(images.fetch(url, force_refresh=True))
    await gate.arrived(1)
    await images.clear_disk()
    gate.open()
    result = await call
    assert result.image.size
    assert [request.status for request in server.requests] == [200, 304, 200]
    assert not [name for name in server.requests[-1].headers if name.lower().startswith("if-")]
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY


async def test_a_304_to_a_plain_get_is_an_error(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    server.always("/a.png", Answer.not_modified())
    with pytest.raises(BadStatusError, match="304") as caught:
        await images.fetch_image(url)
    assert caught.value.status == 304
    assert await images.cache.disk.count() == 0


async def test_a_304_that_fits_nothing_stored_leads_to_one_plain_get(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag='"v1"')
    await images.fetch_image(url)
    server.script("/a.png", Answer.not_modified(etag='"v7"'))
    result = await images.fetch(url, force_refresh=True)
    assert [request.status for request in server.requests] == [200, 304, 200]
    assert "if-none-match" not in server.requests[-1].headers
    assert not result.revalidated


async def test_force_refresh_holds_for_bytes_and_files(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    body = server.body("/a.png")
    assert await images.fetch_data(url) == body
    assert await images.fetch_data(url, force_refresh=True) == body
    path = await images.fetch_file(url, force_refresh=True)
    assert path.read_bytes() == body
    assert [request.status for request in server.requests] == [200, 304, 304]
    server.replace("/a.png")
    assert await images.fetch_data(url, force_refresh=True) == server.body("/a.png")


async def test_without_stored_bytes_no_condition_is_sent(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    await images.clear_disk()
    assert await images.etags.get(url) is None
    result = await images.fetch(url, force_refresh=True)
    assert "if-none-match" not in server.requests[-1].headers
    assert result.served_from is ServedFrom.NETWORK


async def test_the_registry_is_what_is_sent(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag='"v1"')
    await images.fetch_image(url)
    await images.etags.set(hash_for_key(url), '"other"')
    await images.fetch_image(url, force_refresh=True)
    assert server.requests[-1].headers["if-none-match"] == '"other"'
    await images.etags.remove(url)
    await images.fetch_image(url, force_refresh=True)


async def test_memory_alone_revalidates_the_pixels_it_has(server: ImageServer) -> None:
    async with ImageManager(disk_limit=0) as images:
        url = server.add("/a.png")
        before = await images.fetch_image(url)
        result = await images.fetch(url, force_refresh=True)
        assert server.requests[-1].status == 304
        assert (result.revalidated, result.served_from) == (True, ServedFrom.MEMORY)
        assert share_pixels(result.image, before)
        assert await images.fetch_data(url) == server.body("/a.png")


async def test_processed_images_stay_after_a_304(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    processors: list[ImageProcessor] = [Resize(8, 8), Blur(1)]
    await images.fetch_image(url, processors=processors)
    result = await images.fetch(url, processors=processors, force_refresh=True)
    assert (result.revalidated, result.served_from) == (True, ServedFrom.MEMORY)
    assert images.counters.processes == 2
    assert images.counters.decodes == 1
