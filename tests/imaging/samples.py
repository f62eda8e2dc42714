"""Image files made on the spot, for the tests of this folder."""

from __future__ import annotations

import io

from PIL import Image, ImageChops, ImageDraw

from imagecache.imaging.decode import DecodeOptions, decode
from imagecache.imaging.limits import ImageLimits

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "ICO")
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP", "AVIF")
LIMITS = ImageLimits()
URL = "http://a.example/picture"

# Every mode that Pillow decodes to or converts to.
MODES = (
    "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F",
    "I;16", "I;16L", "I;16B",
)  # fmt: skip


def pattern(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """A picture whose corners all differ, in any mode."""
    width, height = size
    red = Image.linear_gradient("L").resize(size)
    green = Image.linear_gradient("L").rotate(90).resize(size)
    blue = Image.radial_gradient("L").resize(size)
    image = Image.merge("RGB", (red, green, blue))
    ImageDraw.Draw(image).rectangle((0, 0, width // 3, height // 4), fill=(200, 40, 10))
    return in_mode(image, mode)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode in ("La", "RGBa"):
        return in_mode(image, {"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    if mode in ("LA", "RGBA", "PA"):
        alpha = image.getchannel("G")
        image = image.convert({"LA": "L", "RGBA": "RGB", "PA": "P"}[mode])
        image.putalpha(alpha)
        return image
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if mode.startswith("I;16"):
        deep = image.convert("L").convert("I").point(lambda value: value * 257)
        return deep.convert("I;16") if mode == "I;16" else deep.convert("I;16").convert("I").convert(mode)
    if mode == "P":
        return image.quantize(64)
    return image.convert(mode)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The image as a file of that format."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def sample(file_format: str, size: tuple[int, int] = (64, 48)) -> bytes:
    # An icon's usual sizes are square.
    return saved(pattern(size), file_format, **({"sizes": [size]} if file_format == "ICO" else {}))


def animated(file_format: str, *, frames: int = 4, size: tuple[int, int] = (32, 24), **options: object) -> bytes:
    """An animation of plain colours, each frame another."""
    images = [Image.new("RGB", size, (60 * index, 255 - 60 * index, 30)) for index in range(frames)]
    for index, image in enumerate(images):
        # GIF writers drop frames that equal the one before; a moving dot keeps every one.
        ImageDraw.Draw(image).rectangle((index, index, index + 3, index + 3), fill="white")
    defaults: dict[str, object] = {"duration": [100, 250, 40, 500][:frames], "loop": 0}
    return saved(images[0], file_format, save_all=True, append_images=images[1:], **{**defaults, **options})


def decoded(data: bytes, **options: object) -> Image.Image:
    return decode(data, options=DecodeOptions(**options), limits=LIMITS, url=URL)  # type: ignore[arg-type]


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two images of one size, 0 to 255 a band."""
    assert one.size == other.size
    histogram = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA")).histogram()
    total = sum(count * (index % 256) for index, count in enumerate(histogram))
    return total / (4 * one.width * one.height)
