"""An image that was handed out is its caller's own: whatever is done to it, the next caller gets the original."""

from __future__ import annotations

import asyncio
import gc
import io
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageDraw, ImageSequence

from imagecache import Custom, ImageManager, ServedFrom
from imagecache.imaging.view import share_pixels
from imagecache.testing import ImageServer, picture


def assign(image: Image.Image) -> None:
    pixels = image.load()
    assert pixels is not None
    pixels[1, 1] = 0 if len(image.getbands()) == 1 else (0,) * len(image.getbands())


def draw(image: Image.Image) -> None:
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill="black")


def manage_colours(image: Image.Image) -> None:
    if image.mode == "RGB":
        profile = ImageCms.createProfile("sRGB")
        ImageCms.profileToProfile(image, profile, profile, inPlace=True)
        draw(image)
    else:
        draw(image)


def colour_of(image: Image.Image) -> int | tuple[int, ...]:
    return 1 if len(image.getbands()) == 1 else (1,) * len(image.getbands())


def data_for(image: Image.Image) -> Any:
    """Any: where NumPy is installed, Pillow's own types say otherwise than where it is not."""
    return [colour_of(image)] * (image.width * image.height)


def write_anyway(image: Image.Image) -> None:
    image.readonly = 0
    image.putpixel((0, 0), colour_of(image))


def write_into_the_sequence(image: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        image.getdata().putpixel((0, 0), colour_of(image))


def fill_what_was_lent(image: Image.Image) -> None:
    lent = Image.fromarrow(image, image.mode, image.size)
    lent.frombytes(bytes(len(lent.tobytes())))


def change_what_was_made_of_it(image: Image.Image) -> None:
    for made in (image.crop(), image.copy(), image.convert(image.mode), image.resize(image.size), image.rotate(0)):
        assign(made)
        made.info.update(mine=1)


def change_frames(image: Image.Image) -> None:
    for frame in ImageSequence.Iterator(image):
        assign(frame)


CHANGES: dict[str, Callable[[Image.Image], object]] = {
    "paste": lambda image: image.paste(image.resize((5, 5)), (2, 2)),
    "putpixel": lambda image: image.putpixel((0, 0), colour_of(image)),
    "item assignment": assign,
    "draw": draw,
    "thumbnail": lambda image: image.thumbnail((4, 4)),
    "putalpha": lambda image: image.putalpha(7),
    "putdata": lambda image: image.putdata(data_for(image)),
    "putpalette": lambda image: image.putpalette(range(256)) if image.mode in ("L", "P") else draw(image),
    "frombytes": lambda image: image.frombytes(bytes(len(image.tobytes()))),
    "apply_transparency": lambda image: image.apply_transparency(),
    "colour management": manage_colours,
    "close": lambda image: image.close(),
    "info": lambda image: image.info.update(mine=1),
    "the core": lambda image: image.im.putpixel((0, 0), colour_of(image)),
    "the core's sequence": write_into_the_sequence,
    "readonly": write_anyway,
    "arrow": fill_what_was_lent,
    "the pointer": lambda image: (image.getim(), image.im.paste(colour_of(image), (0, 0, 9, 9))),
    "crop": change_what_was_made_of_it,
    "frames": change_frames,
    "exif": lambda image: image.getexif().update({0x010E: "mine"}),
}


def states(image: Image.Image) -> tuple[object, ...]:
    return image.mode, image.size, image.tobytes(), image.getpalette(), dict(image.info), dict(image.getexif())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
async def test_no_change_reaches_the_next_caller(
    server: ImageServer, images: ImageManager, mode: str, change: Callable[[Image.Image], object]
) -> None:
    with Image.open(io.BytesIO(picture(16, 16, format="PNG"))) as opened:
        source = opened.convert("L").convert(mode) if mode == "I;16" else opened.convert(mode)
    file = io.BytesIO()
    source.save(file, "PNG")
    url = server.add("/a.png", file.getvalue())
    earlier = await images.fetch_image(url, mode=None)
    original = states(earlier)
    changed = await images.fetch_image(url, mode=None)
    try:
        change(changed)
    except (ValueError, OSError):
        # What Pillow cannot do in this mode it refuses for every image, cached or not.
        with pytest.raises((ValueError, OSError)):
            change(source.copy())
    assert states(await images.fetch_image(url, mode=None)) == states(earlier) == original
    assert images.counters.decodes == 1


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
async def test_no_change_of_an_animations_picture_reaches_the_next_caller(
    server: ImageServer, images: ImageManager, file_format: str
) -> None:
    url = server.add("/moving", picture(32, 32, format=file_format, frames=4))
    original = states(await images.fetch_image(url))
    changed = await images.fetch_image(url)
    change_frames(changed)
    changed.seek(0)
    with pytest.raises(EOFError):
        changed.seek(1)
    assert states(await images.fetch_image(url)) == original != states(changed)
    assert images.counters.decodes == 1


async def test_a_processor_that_keeps_its_canvas_does_not_draw_on_the_caches(
    server: ImageServer, images: ImageManager
) -> None:
    canvas = Image.new("RGB", (16, 16))
    pen, access = ImageDraw.Draw(canvas), canvas.load()
    assert access is not None

    def paint(image: Image.Image) -> Image.Image:
        canvas.paste(image.resize(canvas.size))
        return canvas

    url, processors = server.add("/a.png"), [Custom("paint", paint)]
    original = states(await images.fetch_image(url, processors=processors))
    pen.rectangle((0, 0, 9, 9), fill="red")
    access[12, 12] = (1, 2, 3)
    canvas.frombytes(bytes(16 * 16 * 3))
    assert states(await images.fetch_image(url, processors=processors)) == original
    assert images.counters.processes == 1


async def test_hits_share_pixels_until_one_is_changed(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    one, other = await images.fetch_image(url), await images.fetch_image(url)
    assert one is not other
    assert share_pixels(one, other)
    one.putpixel((0, 0), (1, 2, 3))
    assert not share_pixels(one, other)


async def test_an_evicted_image_that_somebody_holds_comes_back_without_a_decode(
    server: ImageServer, tmp_path: Path
) -> None:
    async with ImageManager(directory=tmp_path, memory_limit=10_000) as images:
        urls = [server.add(f"/{n}.png", picture(32, 32, seed=n)) for n in range(5)]
        held = await images.fetch_image(urls[0])
        for url in urls[1:]:
            await images.fetch_image(url)
        decodes = images.counters.decodes
        again = await images.fetch(urls[0])
        assert again.served_from is ServedFrom.MEMORY
        assert share_pixels(again.image, held)
        assert images.counters.decodes == decodes


async def test_what_nobody_holds_any_more_is_gone_at_once(server: ImageServer, images: ImageManager) -> None:
    image = await images.fetch_image(server.add("/a.png"))
    core = weakref.ref(images.cache.memory.group(next(iter(images.cache.memory._groups)))[0])
    images.clear_memory()
    # The loop still has the last result in hand until its next turn.
    await asyncio.sleep(0)
    gc.disable()
    try:
        assert core() is not None
        del image
        assert core() is None
    finally:
        gc.enable()


async def test_an_image_over_half_the_limit_is_served_and_not_kept(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path, memory_limit=1000) as images:
        url = server.add("/a.png", picture(64, 64))
        await images.fetch_image(url)
        assert len(images.cache.memory) == 0
        await asyncio.sleep(0)
        assert (await images.fetch(url)).served_from is ServedFrom.DISK


async def test_the_item_limit_holds(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path, memory_items=2) as images:
        for number in range(4):
            await images.fetch_image(server.add(f"/{number}.png"))
        assert len(images.cache.memory) == 2
