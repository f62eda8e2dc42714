"""Generated pictures for tests and demonstrations: gradients, shapes and grain, the same for the same seed.

Nothing here reads a file or a clock. They look real where it matters to a cache and a codec: they do not
compress to nothing, no two seeds give the same bytes, and orientation can be seen.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import TypedDict, Unpack

from PIL import Image, ImageDraw

_GRAIN = 0.06
"""Share of noise: enough that a PNG is not tiny and a JPEG has something to lose."""

_QUICK: dict[str, dict[str, object]] = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
"""A test waits for its pictures; nobody minds some bytes more."""

_ORIENTATION = 0x0112
_MAKE_UNTURNED: dict[int, tuple[Image.Transpose, ...]] = {
    # The stored pixels are the upright picture, turned by the inverse of what the EXIF value asks for.
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


class SaveOptions(TypedDict, total=False):
    """What Pillow's writers take, as far as pictures here need it."""

    quality: int
    optimize: bool
    progressive: bool
    lossless: bool
    duration: int
    loop: int
    icc_profile: bytes
    compress_level: int
    method: int


def picture(
    width: int = 64,
    height: int = 48,
    *,
    seed: int = 0,
    mode: str = "RGB",
    format: str = "PNG",
    exif_orientation: int | None = None,
    frames: int = 1,
    **save: Unpack[SaveOptions],
) -> bytes:
    """The bytes of a generated image.

    ``width`` and ``height`` are those of the picture as it is meant to be seen: with an
    ``exif_orientation`` (1 to 8) the stored pixels are turned so that a reader who obeys it gets this very
    picture. ``mode`` is any mode of Pillow that ``format`` can hold; ``frames`` over 1 makes an animation
    (GIF, PNG, WEBP, TIFF) of 100 ms a frame unless ``duration`` says otherwise. ``save`` goes to
    ``Image.save``.

    Raises ValueError for an orientation that is none, OSError (Pillow's) for a mode the format cannot hold.

    >>> picture(8, 8, seed=1) == picture(8, 8, seed=1) != picture(8, 8, seed=2)
    True
    """
    # A GIF holds palettes only, and Pillow's own way to one is slow.
    drawn_mode = "P" if format.upper() == "GIF" and mode == "RGB" else mode
    images = [draw(width, height, seed=seed, mode=drawn_mode, frame=frame) for frame in range(frames)]
    options: dict[str, object] = {**_QUICK.get(format.upper(), {}), **save}
    if exif_orientation is not None:
        if exif_orientation not in _MAKE_UNTURNED:
            raise ValueError(f"an EXIF orientation is a number from 1 to 8, not {exif_orientation}")
        images = [_turned(image, exif_orientation) for image in images]
        exif = Image.Exif()
        exif[_ORIENTATION] = exif_orientation
        options["exif"] = exif.tobytes()
    if frames > 1:
        options = {"duration": 100, "loop": 0, **options, "save_all": True, "append_images": images[1:]}
    target = io.BytesIO()
    images[0].save(target, format, **options)
    return target.getvalue()


def draw(width: int, height: int, *, seed: int = 0, mode: str = "RGB", frame: int = 0) -> Image.Image:
    """The picture itself, before it is encoded; ``frame`` moves its shapes. Alpha, where there is any, fades
    towards one corner and is fully transparent there."""
    rng = random.Random(seed)
    image = _background(width, height, rng)
    _add_shapes(image, rng, frame)
    grain = Image.frombytes("L", image.size, rng.randbytes(width * height)).convert("RGB")
    image = Image.blend(image, grain, _GRAIN)
    if "A" in mode or mode in ("La", "RGBa"):
        image.putalpha(_fade(width, height))
    return _in_mode(image, mode)


def picture_set(count: int, seed: int = 0) -> dict[str, bytes]:
    """``count`` pictures of mixed sizes, formats and modes under paths with the fitting suffix.

    JPEG (some greyscale, CMYK, progressive or turned by EXIF), PNG (palette, alpha, 16 bit), WEBP, and
    animated GIF; most of them small, some of half a megapixel. The same for the same seed.
    """
    rng = random.Random(seed)
    pictures = {}
    for index in range(count):
        name, suffix, make = _KINDS[index % len(_KINDS)]
        long_side = rng.choice((96, 128, 160, 240, 320, 480, 800))
        short_side = max(48, round(long_side * rng.uniform(0.55, 1.0)))
        size = (long_side, short_side) if rng.random() < 0.6 else (short_side, long_side)
        pictures[f"/{name}/{index:04d}{suffix}"] = make(*size, rng.getrandbits(32))
    return pictures


_Maker = Callable[[int, int, int], bytes]

_KINDS: tuple[tuple[str, str, _Maker], ...] = (
    ("photos", ".jpg", lambda w, h, s: picture(w, h, seed=s, format="JPEG", quality=85)),
    ("drawings", ".png", lambda w, h, s: picture(w, h, seed=s, mode="P")),
    ("photos", ".webp", lambda w, h, s: picture(w, h, seed=s, format="WEBP", quality=80)),
    ("phone", ".jpg", lambda w, h, s: picture(w, h, seed=s, format="JPEG", exif_orientation=s % 8 + 1)),
    ("icons", ".png", lambda w, h, s: picture(w // 4, h // 4, seed=s, mode="RGBA")),
    ("photos", ".jpg", lambda w, h, s: picture(w, h, seed=s, format="JPEG", progressive=True)),
    ("scans", ".jpg", lambda w, h, s: picture(w, h, seed=s, mode="L", format="JPEG")),
    ("moving", ".gif", lambda w, h, s: picture(w // 3, h // 3, seed=s, format="GIF", frames=4)),
    ("print", ".jpg", lambda w, h, s: picture(w, h, seed=s, mode="CMYK", format="JPEG")),
    ("stickers", ".webp", lambda w, h, s: picture(w // 2, h // 2, seed=s, mode="RGBA", format="WEBP")),
    ("depth", ".png", lambda w, h, s: picture(w // 2, h // 2, seed=s, mode="I;16")),
)


def _background(width: int, height: int, rng: random.Random) -> Image.Image:
    """Three gradients, one a channel, each its own way round and with its own range."""
    channels = []
    for _ in range(3):
        gradient = Image.linear_gradient("L") if rng.random() < 0.6 else Image.radial_gradient("L")
        gradient = gradient.rotate(rng.choice((0, 90, 180, 270))).resize((width, height))
        low, high = sorted((rng.randrange(256), rng.randrange(256)))
        channels.append(gradient.point([low + (high - low) * value // 255 for value in range(256)]))
    return Image.merge("RGB", channels)


def _add_shapes(image: Image.Image, rng: random.Random, frame: int) -> None:
    pen = ImageDraw.Draw(image)
    width, height = image.size
    for index in range(6):
        x, y = rng.randrange(-width // 4, width), rng.randrange(-height // 4, height)
        w, h = rng.randint(1, max(1, width // 2)), rng.randint(1, max(1, height // 2))
        x += frame * (index + 1) * max(1, width // 24)
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        shape = rng.choice((pen.ellipse, pen.rectangle, pen.line))
        if shape == pen.line:
            pen.line((x, y, x + w, y + h), fill=colour, width=max(1, width // 40))
        else:
            shape((x, y, x + w, y + h), fill=colour)


def _fade(width: int, height: int) -> Image.Image:
    diagonal = Image.blend(Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90), 0.5)
    return diagonal.resize((width, height)).point([max(0, min(255, value * 3 // 2 - 40)) for value in range(256)])


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if mode in ("P", "PA"):
        # Median cut, Pillow's default, takes ten times as long.
        return image.convert("RGB").quantize(64, Image.Quantize.FASTOCTREE).convert(mode)
    if mode in ("LAB", "RGBa", "La"):
        base = {"RGBa": "RGBA", "La": "LA", "LAB": "RGB"}[mode]
        return image.convert(base).convert(mode)
    if mode.startswith("I;16"):
        deep = image.convert("L").point([value * 257 for value in range(256)], "I")
        return deep.convert("I;16").convert(mode)
    return image.convert(mode)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    for transpose in _MAKE_UNTURNED[orientation]:
        image = image.transpose(transpose)
    return image
