"""What several processors need: colour and alpha apart and together again, and antialiased rounded masks."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from ..modes import to_simple, with_fitting_info

# Pillow draws without antialiasing, so a corner is drawn this much larger and reduced. Large corners need less:
# their steps are as fine, and the drawing grows with the square.
_FINE, _COARSE = 4, 2
_FINE_UP_TO_RADIUS = 512
_OPAQUE = 255


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The image as L or RGB, and its alpha channel if it has one."""
    image = to_simple(image)
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.mode == "RGBA":
        return image.convert("RGB"), image.getchannel("A")
    return image, None


def join(base: Image.Image, alpha: Image.Image | None, like: Image.Image) -> Image.Image:
    """L or RGB with this alpha, and with the ``info`` (colour profile, EXIF) of the image that it was made from."""
    if alpha is None:
        result = base
    elif base.mode == "L":
        result = Image.merge("LA", (base, alpha))
    else:
        result = base.convert("RGBA")
        result.putalpha(alpha)
    result.info = dict(like.info)
    return with_fitting_info(like, result)


def has_colour(colour: tuple[int, int, int, int]) -> bool:
    """Whether grey pixels must become colour ones to show this colour."""
    return not colour[0] == colour[1] == colour[2]


def in_mode_for(base: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    """L or RGB, RGB if the colour needs it."""
    return base.convert("RGB") if base.mode == "L" and has_colour(colour) else base


def paint(base: Image.Image, colour: tuple[int, int, int, int], mask: Image.Image | None) -> Image.Image:
    """A copy of an L or RGB image with the colour laid over it where the mask is, by the colour's own alpha."""
    base = in_mode_for(base, colour).copy()
    if mask is None:
        mask = Image.new("L", base.size, _OPAQUE)
    if colour[3] != _OPAQUE:
        mask = mask.point([level * colour[3] // _OPAQUE for level in range(256)])
    base.paste(colour[0] if base.mode == "L" else colour[:3], (0, 0, *base.size), mask)
    return base


def rounded_mask(size: tuple[int, int], radii: tuple[int, int, int, int]) -> Image.Image:
    """255 inside a rectangle with rounded corners, 0 outside, antialiased between.

    The radii are those of the corners top left, top right, bottom right, bottom left, in pixels; none is taken larger
    than half of the shorter side.
    """
    width, height = size
    mask = Image.new("L", size, _OPAQUE)
    most = min(width, height) // 2 if min(width, height) > 1 else 0
    for index, radius in enumerate(min(radius, most) for radius in radii):
        if radius < 1:
            continue
        corner = _quarter(radius)
        if index in (1, 2):
            corner = corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if index in (2, 3):
            corner = corner.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        left = width - radius if index in (1, 2) else 0
        top = height - radius if index in (2, 3) else 0
        mask.paste(corner, (left, top))
    return mask


def ellipse_mask(side: int) -> Image.Image:
    """255 inside the circle that fills a square of this side, antialiased."""
    scale = _FINE if side <= 2 * _FINE_UP_TO_RADIUS else _COARSE
    large = Image.new("L", (side * scale, side * scale), 0)
    ImageDraw.Draw(large).ellipse((0, 0, side * scale - 1, side * scale - 1), fill=_OPAQUE)
    return large.reduce(scale)


def multiplied(alpha: Image.Image | None, mask: Image.Image) -> Image.Image:
    """The alpha that is left inside the mask."""
    return mask if alpha is None else ImageChops.multiply(alpha, mask)


@lru_cache(maxsize=8)
def _quarter(radius: int) -> Image.Image:
    """The top left quarter of a circle. Kept: a list of avatars asks for the same corner a thousand times."""
    scale = _FINE if radius <= _FINE_UP_TO_RADIUS else _COARSE
    large = Image.new("L", (radius * scale, radius * scale), 0)
    ImageDraw.Draw(large).ellipse((0, 0, 2 * radius * scale - 1, 2 * radius * scale - 1), fill=_OPAQUE)
    return large.reduce(scale)
