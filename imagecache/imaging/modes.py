"""Pillow's modes: what a pixel costs, and how to come to L, LA, RGB or RGBA without losing what is seen."""

from __future__ import annotations

import math

from PIL import Image

SIMPLE_MODES = ("L", "LA", "RGB", "RGBA")
"""The modes that ``mode="auto"`` gives, and that the processors keep to."""

_ONE_BYTE = frozenset({"1", "L", "P"})
# Pillow stores every multi-band pixel in four bytes, LA included (libImaging/Storage.c).
_MULTI_BAND_BYTES = 4
_CONVERTED_DIRECTLY = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "CMYK": "RGB"}

_PROFILE_SPACES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
# Where an ICC profile names the colour space that it is for (ICC.1:2022, 7.2.6).
_PROFILE_SPACE = slice(16, 20)

_DEEPEST = 65_535


def bytes_per_pixel(mode: str) -> int:
    """Bytes that Pillow holds a pixel of this mode in."""
    if mode in _ONE_BYTE:
        return 1
    return 2 if mode.startswith("I;16") else _MULTI_BAND_BYTES


def simple_mode(mode: str, has_transparency: bool) -> str:
    """The mode of L, LA, RGB and RGBA that holds what an image of this mode shows."""
    if mode in SIMPLE_MODES:
        wanted = mode
    elif mode in ("P", *_CONVERTED_DIRECTLY):
        wanted = _CONVERTED_DIRECTLY.get(mode, "RGB")
    else:
        wanted = "L" if mode in ("I", "F") or mode.startswith("I;16") else "RGB"
    return {"L": "LA", "RGB": "RGBA"}.get(wanted, wanted) if has_transparency else wanted


def to_simple(image: Image.Image) -> Image.Image:
    """The image in L, LA, RGB or RGBA; itself if it is in one of them already and needs no alpha.

    A palette or a transparent colour becomes colours and alpha; grey of more than 8 bits is scaled, not cut off
    as Pillow's own ``convert("L")`` does; I and F, which say nothing of their range, by what they hold. CMYK
    is converted without colour management.
    """
    wanted = simple_mode(image.mode, image.has_transparency_data)
    if wanted == image.mode:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return with_fitting_info(image, _from_deep(image))
    if image.mode == "1" and wanted == "LA":
        image = with_fitting_info(image, image.convert("L"), keep_transparency=True)
    return with_fitting_info(image, image.convert(wanted))


def convert(image: Image.Image, mode: str) -> Image.Image:
    """The image in one of the simple modes; alpha is dropped where the mode has none, as Pillow does."""
    image = to_simple(image)
    return image if image.mode == mode else with_fitting_info(image, image.convert(mode))


def with_fitting_info(source: Image.Image, result: Image.Image, *, keep_transparency: bool = False) -> Image.Image:
    """Take from ``result.info`` what is no longer true: a colour profile for other colours, a transparent colour."""
    profile = result.info.get("icc_profile")
    if profile and _family(source.mode) != _family(result.mode):
        space = bytes(profile[_PROFILE_SPACE])
        if space != _PROFILE_SPACES.get(result.mode):
            del result.info["icc_profile"]
    if not keep_transparency:
        result.info.pop("transparency", None)
    return result


def _family(mode: str) -> str:
    if mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16"):
        return "grey"
    return "colour" if mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX") else mode


def _from_deep(image: Image.Image) -> Image.Image:
    low, high = _range(image)
    scale = 255 / (high - low)
    grey = image.convert("F").point(lambda value: value * scale - low * scale).convert("L")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        opaque = [0 if level == transparent else 255 for level in range(_DEEPEST + 1)]
        alpha = image.convert("I").point(opaque, "L")
        info, grey = grey.info, Image.merge("LA", (grey, alpha))
        grey.info = info
    return grey


def _range(image: Image.Image) -> tuple[float, float]:
    """The values that are black and white."""
    if image.mode.startswith("I;16"):
        return 0, _DEEPEST
    low, high = image.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple) or not (math.isfinite(low) and math.isfinite(high)):
        return 0, 1
    usual = (1, 255) if image.mode == "F" else (_DEEPEST,)
    if low >= 0:
        for white in usual:
            if high <= white:
                return 0, white
    return (low, high) if high > low else (low, low + 1)
