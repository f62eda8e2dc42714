"""Plain JPEGs, which most images of the web are, decoded as they lie there, with no file and no reader around them.

Pillow's way through ``Image.open`` takes a thumbnail a fifth more, nearly all of it with the interpreter's lock held.
"""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image

from .plain import ADOBE, COMMENT, FRAMES, JFIF, PROFILE, PROGRESSIVE, PlainImage

_PARTS, _PROFILE_HEAD = 13, 14
"""Where a part of a profile says how many there are, and where it begins (ICC.1:2022, B.4)."""
_CENTIMETRES = 2
_INCH = 2.54


def decode_plain_jpeg(data: bytes, plain: PlainImage) -> Image.Image | None:
    """The picture that ``plain_image`` told of, as Pillow would open and load it; None where that will not do."""
    if plain.mode == "CMYK":
        # Turned over or not by what is said elsewhere.
        return None
    try:
        image = Image.new(plain.mode, (plain.width, plain.height), None)
        image.frombytes(data, "jpeg", plain.mode, "")
    except Exception:  # The border to Pillow's decoders; it tells by itself what is wrong, when it opens the file.
        return None
    image.format = "JPEG"
    image.info = _info(data, plain)
    return image


def _info(data: bytes, plain: PlainImage) -> dict[str | tuple[int, int], Any]:
    """What Pillow keeps in ``info`` of the same segments."""
    info: dict[str | tuple[int, int], Any] = {}
    parts: list[bytes] = []
    for kind, start, stop in plain.segments:
        if kind == JFIF:
            version, unit, across, down = struct.unpack_from(">HBHH", data, start + 5)
            info["jfif"], info["jfif_version"] = version, divmod(version, 256)
            info["jfif_unit"], info["jfif_density"] = unit, (across, down)
            if unit == 1:
                info["dpi"] = (across, down)
            elif unit == _CENTIMETRES:
                info["dpi"] = (across * _INCH, down * _INCH)
        elif kind == PROFILE:
            parts.append(data[start:stop])
        elif kind in FRAMES:
            if kind == PROGRESSIVE:
                info["progressive"] = info["progression"] = 1
            if parts:
                # What comes behind the frame is not looked at.
                parts.sort()
                is_whole = parts[0][_PARTS] == len(parts)
                info["icc_profile"] = b"".join(part[_PROFILE_HEAD:] for part in parts) if is_whole else None
        elif kind == ADOBE:
            (info["adobe"],) = struct.unpack_from(">H", data, start + 5)
            info["adobe_transform"] = data[start + 11]
        elif kind == COMMENT:
            info["comment"] = data[start:stop]
    return info
