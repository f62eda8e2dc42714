"""Images as files: the right bytes for each encoding, in the right place, and nothing where nothing may be kept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import ImageManager, Resize, StorageError
from imagecache.testing import ImageServer, picture

ENCODINGS: list[dict[str, Any]] = [
    {},
    {"format": "JPEG", "quality": 20},
    {"format": "JPEG", "quality": 95},
    {"format": "PNG"},
    {"format": "WEBP"},
    {"processors": [Resize(8, 8)]},
    {"processors": [Resize(9, 9)]},
    {"processors": [Resize(9, 9)], "format": "PNG"},
]


async def test_each_encoding_is_a_file_of_its_own(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.jpg", picture(64, 48, format="JPEG"))
    paths = [await images.fetch_file(url, **options) for options in ENCODINGS]
    assert len(set(paths)) == len(ENCODINGS)
    for path, options in zip(paths, ENCODINGS, strict=True):
        body = await images.fetch_data(url, **options)
        assert path.read_bytes() == body
        assert hashlib.sha256(body).hexdigest()[:16] in path.name
        with Image.open(io.BytesIO(body)) as image:
            assert path.suffix == {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}[image.format or ""]
        assert await images.fetch_file(url, **options) == path


@pytest.mark.parametrize("options", [{}, {"format": "WEBP"}, {"processors": [Resize(8, 8)]}])
async def test_what_may_not_be_stored_is_no_file_in_the_caches_folder(
    server: ImageServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    async with ImageManager(directory=tmp_path / "cache") as images:
        url = server.add("/a.png", headers={"Cache-Control": "no-store"})
        path = await images.fetch_file(url, **options)
        with Image.open(path) as image:
            image.load()
        assert not path.is_relative_to(tmp_path / "cache")
        body = path.read_bytes()
    assert not path.exists()
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert stored
    assert body not in stored


async def test_a_name_may_be_as_long_as_names_can_be(server: ImageServer, images: ImageManager, tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    assert await images.fetch_file(server.add("/a.png"), to=target) == target
    assert target.read_bytes() == server.body("/a.png")


@pytest.mark.parametrize(("to", "error"), [(b"a.png", TypeError), ("", ValueError), ("/", ValueError), (7, TypeError)])
async def test_what_names_no_file_is_told_before_any_network(
    server: ImageServer, images: ImageManager, to: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await images.fetch_file(server.add("/a.png"), to=to)
    assert server.count() == 0


async def test_a_file_that_cannot_be_written_is_an_error_about_its_url(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url = server.add("/a.png")
    with pytest.raises(StorageError) as caught:
        await images.fetch_file(url, to=tmp_path / "absent" / "a.png")
    assert caught.value.url == url
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_quality_that_makes_no_sense_is_told_before_any_network(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    for call in (images.fetch_data(url, quality=0), images.fetch_file(url, quality=101)):
        with pytest.raises(ValueError, match="quality"):
            await call
    assert server.count() == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_a_link_stays_one_and_a_device_is_written_to(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url, real, link = server.add("/a.png"), tmp_path / "real.png", tmp_path / "link.png"
    link.symlink_to(real)
    await images.fetch_file(url, to=link)
    assert link.is_symlink()
    assert real.read_bytes() == server.body("/a.png")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    await images.fetch_file(url, to=pipe)
    assert await reading == server.body("/a.png")
    assert pipe.is_fifo()
