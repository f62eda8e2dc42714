"""Where an image comes from, call after call, and what a result tells of it."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import ImageManager, NotInCacheError, Resize, ServedFrom
from imagecache.pipeline.early import SMALL_BODY
from imagecache.pipeline.workers import Workers
from imagecache.storage.folder import Folder
from imagecache.testing import Answer, ImageServer, picture


async def test_network_then_memory_then_disk_then_network_again(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    seen = [(await images.fetch(url)).served_from, (await images.fetch(url)).served_from]
    images.clear_memory()
    seen.append((await images.fetch(url)).served_from)
    await images.clear()
    seen.append((await images.fetch(url)).served_from)
    assert seen == [ServedFrom.NETWORK, ServedFrom.MEMORY, ServedFrom.DISK, ServedFrom.NETWORK]
    assert server.count() == 2


async def test_the_first_image_does_not_wait_for_a_new_folder_to_be_made(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, prepare = threading.Event(), Folder.prepare

    def held(self: Folder) -> None:
        may_go.wait(30)
        prepare(self)

    monkeypatch.setattr(Folder, "prepare", held)
    url = server.add("/a.png", headers={"Vary": "Accept-Language"})
    plain = server.add("/b.png")
    async with ImageManager(directory=tmp_path) as images:
        try:
            assert (await images.fetch(plain)).served_from is ServedFrom.NETWORK
            # What an answer varies on is kept as a digest, and the key to that lies in the folder.
            varying = asyncio.create_task(images.fetch(url))
            await server.wait_for_requests(1, "/a.png")
            assert not varying.done()
        finally:
            may_go.set()
        await varying
        await images.cache.flush()
        images.clear_memory()
        for each in (plain, url):
            assert (await images.fetch(each)).served_from is ServedFrom.DISK
    assert server.count() == 2


async def test_the_disk_outlives_its_manager(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", picture(640, 480, format="PNG"))
    async with ImageManager(directory=tmp_path) as first:
        await first.fetch_image(url)
    async with ImageManager(directory=tmp_path) as second:
        result = await second.fetch(url)
    assert result.served_from is ServedFrom.DISK
    assert server.count() == 1


async def test_a_result_tells_all_that_is_known(server: ImageServer, images: ImageManager) -> None:
    body = picture(80, 60, format="JPEG")
    target = server.add("/a.jpg", body, etag='"v1"', headers={"Cache-Control": "max-age=60", "X-Mine": "1"})
    server.script("/start", Answer.redirect("/a.jpg"))
    result = await images.fetch(server.url("/start"))
    assert result.url == server.url("/start")
    assert result.final_url == target
    assert [hop.status for hop in result.redirects] == [302]
    assert (result.status, result.etag, result.format, result.byte_count) == (200, '"v1"', "JPEG", len(body))
    assert result.headers["x-mine"] == "1"
    assert (result.revalidated, result.changed, result.stale) == (False, True, False)
    assert result.image.size == (80, 60)
    assert await result.data() == body
    assert result.metrics.bytes_received == len(body)
    assert result.metrics.total >= result.metrics.decode > 0
    assert "total" in str(result.metrics)


async def test_the_exact_bytes_can_be_had_from_every_tier(server: ImageServer, images: ImageManager) -> None:
    body = picture(300, 200, format="JPEG")
    url = server.add("/a.jpg", body)
    from_network = await images.fetch(url)
    from_memory = await images.fetch(url)
    images.clear_memory()
    from_disk = await images.fetch(url)
    assert [await result.data() for result in (from_network, from_memory, from_disk)] == [body] * 3
    await images.clear_disk()
    with pytest.raises(NotInCacheError, match="no longer stored"):
        await from_memory.data()


async def test_an_animation_is_opened_over_the_bytes(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.gif", picture(40, 30, format="GIF", frames=3))
    result = await images.fetch(url)
    animation = await result.animation()
    assert animation.frame_count == 3
    assert result.image.size == (40, 30)
    animation.close()


async def test_a_memory_hit_suspends_nothing(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    for call in (images.fetch_image(url), images.fetch(url), images.fetch_image(url, timeout=5)):
        with pytest.raises(StopIteration):
            # Run by hand: the first step ends it, so nothing was awaited that was not there.
            call.send(None)


async def test_a_memory_hit_starts_no_task(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    before = asyncio.all_tasks()
    await images.fetch_image(url)
    assert asyncio.all_tasks() == before


async def test_an_image_is_loaded_upright_and_in_a_simple_mode(server: ImageServer, images: ImageManager) -> None:
    turned = picture(40, 20, format="JPEG", exif_orientation=6)
    with Image.open(io.BytesIO(turned)) as lying:
        assert lying.size == (20, 40)
    image = await images.fetch_image(server.add("/turned.jpg", turned))
    assert image.size == (40, 20)
    assert type(image.copy()) is Image.Image
    palette = io.BytesIO()
    Image.new("P", (4, 4)).save(palette, "PNG")
    url = server.add("/palette.png", palette.getvalue())
    assert (await images.fetch_image(url)).mode == "RGB"
    assert (await images.fetch_image(url, mode=None)).mode == "P"
    assert (await images.fetch_image(url, mode="L")).mode == "L"


async def test_a_fragment_is_no_part_of_the_identity(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url + "#top")
    await images.fetch_image(url)
    assert (await images.fetch(url + "#bottom")).served_from is ServedFrom.MEMORY
    assert server.count() == 1


async def test_metadata_is_kept_with_the_image(server: ImageServer, images: ImageManager) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    image = await images.fetch_image(server.add("/a.jpg", file.getvalue()))
    assert image.format == "JPEG"
    assert image.getexif()[0x010E] == "a description"


@pytest.mark.parametrize("size", [(64, 48), (900, 700)])
async def test_small_and_large_bodies_come_back_byte_for_byte(
    server: ImageServer, images: ImageManager, size: tuple[int, int]
) -> None:
    body = picture(*size, format="PNG")
    url = server.add("/a.png", body)
    assert await images.fetch_data(url) == body
    assert await images.fetch_data(url) == body
    assert server.count() == 1


async def test_a_small_image_is_decoded_in_the_turn_of_a_worker_that_looks_at_its_header(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    run = Workers.run

    async def counted(workers: Workers, function: Callable[..., object], *args: object, **options: Any) -> object:
        turns.append(getattr(function, "__name__", "?"))
        return await run(workers, function, *args, **options)

    monkeypatch.setattr(Workers, "run", counted)
    url = server.add("/small.png", picture(40, 30))
    calls = [images.fetch_image(url), images.fetch_image(url), images.fetch_image(url, processors=[Resize(4, 3)])]
    await asyncio.gather(*calls)
    assert sorted(turns) == ["_apply", "_inspect_and_decode"]
    assert (images.counters.decodes, server.count()) == (1, 1)


async def test_a_small_file_with_many_pixels_waits_for_its_share_of_the_budget(
    server: ImageServer, images: ImageManager
) -> None:
    flat = io.BytesIO()
    Image.new("RGB", (2000, 1500), "red").save(flat, "PNG")
    assert len(flat.getvalue()) < SMALL_BODY
    url = server.add("/flat.png", flat.getvalue())
    assert (await images.fetch_image(url)).size == (2000, 1500)
    assert images.counters.decodes == 1
