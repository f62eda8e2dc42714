"""The main job on real input: photographs of the scikit-image wheel, served by nginx with ETags of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps

from imagecache import ImageManager, PrefetchStatus, ServedFrom
from imagecache.result import ImageResult

from .nginx import Nginx

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nginx on Windows takes no inherited socket")


def as_promised(path: Path) -> Image.Image:
    """Pillow's own reading of a file: its first frame, upright, in the one of the four modes that holds it."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            assert image.mode == "P", f"{path.name} is {image.mode}: say here what it becomes"
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return image


def assert_same_pixels(image: Image.Image, expected: Image.Image) -> None:
    assert (image.mode, image.size) == (expected.mode, expected.size)
    assert ImageChops.difference(image, expected).getbbox(alpha_only=False) is None


async def fetch_all(images: ImageManager, urls: list[str], *, force_refresh: bool = False) -> list[ImageResult]:
    return await asyncio.gather(*(images.fetch(url, force_refresh=force_refresh) for url in urls))


def statuses(nginx: Nginx) -> Counter[int]:
    return Counter(access.status for access in nginx.accesses())


async def test_photographs_are_prefetched_decoded_as_pillow_does_and_then_asked_about_without_a_body(
    nginx: Nginx, photographs: list[Path], tmp_path: Path
) -> None:
    assert len(photographs) >= 25
    urls = [nginx.url(path.name) for path in photographs]
    async with ImageManager("real", directory=tmp_path / "cache") as images:
        report = await images.prefetch(urls)
        assert report.counts == {PrefetchStatus.STORED: len(urls)}
        assert statuses(nginx) == {200: len(urls)}
        assert report.bytes_received == sum(path.stat().st_size for path in photographs)

        for path, result in zip(photographs, await fetch_all(images, urls), strict=True):
            assert result.served_from is ServedFrom.DISK, path.name
            assert_same_pixels(result.image, as_promised(path))
            assert await result.data() == path.read_bytes()
        assert not nginx.accesses()

        for result in await fetch_all(images, urls, force_refresh=True):
            assert (result.served_from, result.revalidated, result.changed) == (ServedFrom.MEMORY, True, False)
        asked = nginx.accesses()
        assert Counter(access.status for access in asked) == {304: len(urls)}
        assert sum(access.body_bytes for access in asked) == 0


async def test_a_photograph_that_is_replaced_on_the_server_is_the_only_one_sent_again(
    nginx: Nginx, photographs: list[Path], tmp_path: Path
) -> None:
    urls = {path.name: nginx.url(path.name) for path in photographs}
    async with ImageManager("real", directory=tmp_path / "cache") as images:
        await fetch_all(images, list(urls.values()))
        nginx.accesses()

        replaced = nginx.folder / "camera.png"
        shutil.copyfile(nginx.folder / "coins.png", replaced)
        results = dict(zip(urls, await fetch_all(images, list(urls.values()), force_refresh=True), strict=True))

        assert [name for name, result in results.items() if result.changed] == ["camera.png"]
        assert statuses(nginx) == {200: 1, 304: len(urls) - 1}
        assert_same_pixels(results["camera.png"].image, as_promised(replaced))
        assert_same_pixels(await images.fetch_image(urls["camera.png"]), as_promised(replaced))


async def test_a_photograph_that_is_only_touched_is_sent_again_and_counts_as_unchanged(
    nginx: Nginx, tmp_path: Path
) -> None:
    async with ImageManager("real", directory=tmp_path / "cache") as images:
        first = await images.fetch(nginx.url("rocket.jpg"))
        os.utime(nginx.folder / "rocket.jpg", (0, 0))
        touched = await images.fetch(nginx.url("rocket.jpg"), force_refresh=True)
        assert touched.etag != first.etag
        assert not touched.changed
        assert (await images.fetch(nginx.url("rocket.jpg"), force_refresh=True)).revalidated
        assert [access.status for access in nginx.accesses()] == [200, 200, 304]


def test_the_command_line_prefetches_photographs_and_a_second_run_asks_about_each(
    nginx: Nginx, photographs: list[Path], tmp_path: Path
) -> None:
    lines = "\n".join(nginx.url(path.name) for path in photographs)

    def prefetch(*options: str) -> str:
        command = [sys.executable, "-m", "imagecache.cli.main", "prefetch", "-", "--allow-private", *options]
        done = subprocess.run(
            [*command, "--directory", str(tmp_path)],
            input=lines,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"stored         {len(photographs):>9}" in prefetch()
    assert statuses(nginx) == {200: len(photographs)}
    assert f"unchanged      {len(photographs):>9}" in prefetch("--force-refresh")
    assert statuses(nginx) == {304: len(photographs)}
