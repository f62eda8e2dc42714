"""What a body is, it says itself: neither its label nor its name makes an image of it, or takes an image from it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from imagecache import (
    CacheType,
    DecodeError,
    ImageLimits,
    ImageManager,
    ImageTooLargeError,
    NotAnImageError,
    PrefetchStatus,
)
from imagecache.testing import Answer, ImageServer, picture

LABELS = ("image/png", "image/jpeg", "image/svg+xml", "text/html", "application/octet-stream", "", "nonsense")

NO_IMAGES = {
    "HTML": b"<!doctype html><title>Sign in</title>",
    "HTML behind white space": b"\r\n\t <html><img src=x>",
    "HTML behind a comment": b"<!-- GIF89a --><html>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "SVG behind a prologue": b"<?xml version='1.0'?><!DOCTYPE svg><svg/>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "XML in UTF-16": "\ufeff<?xml version='1.0'?><a/>".encode("utf-16-le"),
    "JSON": b'{"error": "no such image"}',
    "PDF": b"%PDF-1.7\n1 0 obj",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "EPS for DOS": b"\xc5\xd0\xd3\xc6" + bytes(30) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "ZIP": b"PK\3\4" + bytes(60),
    "GZIP": b"\x1f\x8b\x08" + bytes(60),
    "text": b"upstream connect error",
    "nothing": b"",
}


async def test_an_image_is_one_whatever_it_is_called(images: ImageManager, server: ImageServer) -> None:
    body = picture(format="GIF")
    for label in LABELS:
        for name in ("a.png", "a.jpg", "a.svg", "a.html", "a"):
            path = f"/{LABELS.index(label)}/{name}"
            url = server.add(path, body)
            server.always(path, Answer(headers={"Content-Type": label}))
            result = await images.fetch(url)
            assert (result.format, result.image.format) == ("GIF", "GIF"), (label, name)


@pytest.mark.parametrize("what", NO_IMAGES)
async def test_what_is_no_image_is_none_whatever_it_is_called_and_is_not_stored(
    images: ImageManager, server: ImageServer, what: str
) -> None:
    for label in LABELS:
        url = server.add("/a.png", NO_IMAGES[what])
        server.always("/a.png", Answer(headers={"Content-Type": label}))
        for fetch in (images.fetch_image, images.fetch_data):
            with pytest.raises(NotAnImageError) as caught:
                await fetch(url)
            assert caught.value.url == url
        report = await images.prefetch([url])
        assert report.counts == {PrefetchStatus.FAILED: 1}
    assert await images.cache.is_cached(url) is CacheType.NONE


async def test_formats_that_were_not_allowed_are_refused_before_pillow_sees_them(
    images: ImageManager, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow saw it"))
    for name in ("TIFF", "EPS", "PPM", "TGA", "PCX", "SGI", "ICNS", "JPEG2000", "DDS"):
        url = server.add(f"/{name}.png", picture(format=name))
        with pytest.raises(NotAnImageError):
            await images.fetch_image(url)
        assert await images.cache.is_cached(url) is CacheType.NONE


@pytest.mark.parametrize(
    "limits", [ImageLimits(max_pixels=99), ImageLimits(max_decoded_bytes=400), ImageLimits(max_frames=3)], ids=repr
)
async def test_what_is_over_a_limit_is_refused_by_its_header_and_not_stored(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: ImageLimits
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were made"))
    url = server.add("/a.gif", picture(20, 20, format="GIF", frames=4))
    async with ImageManager(directory=tmp_path, limits=limits) as images:
        for fetch in (images.fetch_image, images.fetch_data):
            with pytest.raises(ImageTooLargeError):
                await fetch(url)
        assert await images.cache.is_cached(url) is CacheType.NONE


async def test_a_stranger_gets_no_more_than_forty_megapixels(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", bomb := png_of(6400, 6300))
    assert len(bomb) < 100_000
    async with ImageManager.untrusted(directory=tmp_path, allow_addresses=("127.0.0.1",)) as images:
        with pytest.raises(ImageTooLargeError, match="max_pixels"):
            await images.fetch_image(url)


def png_of(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


async def test_a_damaged_image_is_told_with_what_pillow_said_and_does_not_stay(
    images: ImageManager, server: ImageServer
) -> None:
    good = picture(200, 150)
    at = good.index(b"IDAT") + 60
    url = server.add("/a.png", good[:at] + bytes(200) + good[at + 200 :])
    with pytest.raises(DecodeError) as caught:
        await images.fetch_image(url)
    assert isinstance(caught.value.__cause__, OSError)
    await images.cache.flush()
    assert await images.cache.is_cached(url) is CacheType.NONE
    server.add("/a.png", good)
    assert (await images.fetch_image(url)).size == (200, 150)
