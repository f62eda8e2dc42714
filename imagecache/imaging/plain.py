"""The heads of the plainest JPEGs and WebPs, which are most images of the web, read without opening them.

Opening takes Pillow several times as long: it keeps every segment of a JPEG, and for a WebP it makes two canvases of
its size, outside of the decode budget. What is read here is all that would be looked at before decoding; whatever is
not as plain as that, or might be refused, is left to Pillow. Pure: no Pillow, no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

BASELINE, EXTENDED, PROGRESSIVE = FRAMES = (0xC0, 0xC1, 0xC2)
JFIF, PROFILE, ADOBE, COMMENT = 0xE0, 0xE2, 0xEE, 0xFE
_TABLES, _HUFFMAN, _RESTART, _SCAN = 0xDB, 0xC4, 0xDD, 0xDA
# What a segment of an application begins with, and the least bytes that Pillow reads of it.
_APPLICATIONS = {JFIF: (b"JFIF\0", 12), PROFILE: (b"ICC_PROFILE\0", 14), ADOBE: (b"Adobe", 12)}
_TELLING = frozenset({*FRAMES, *_APPLICATIONS, COMMENT})
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_MOST_SEGMENTS = 200


@dataclass(frozen=True, slots=True)
class PlainImage:
    """A still picture without EXIF, upright as it is stored. ``mode`` is Pillow's.

    ``coefficient_bytes`` is what the decoder of a progressive JPEG keeps until the last scan, else 0. ``segments`` are
    those of a JPEG that say something of it, its frame among them: their kinds, and where they begin and end.
    """

    width: int
    height: int
    mode: str
    coefficient_bytes: int = 0
    segments: tuple[tuple[int, int, int], ...] = ()


def plain_image(data: bytes, name: str | None) -> PlainImage | None:
    """The head of an image of the format of that name; None where only its decoder can tell."""
    if name == "JPEG":
        return _jpeg(data)
    return _webp(data) if name == "WEBP" else None


def _jpeg(data: bytes) -> PlainImage | None:
    """ITU-T T.81, B.2: segments that are whole, of the kinds that nothing can be hidden in, up to the first scan."""
    at, frame, segments = 2, None, list[tuple[int, int, int]]()
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return None
        kind, length = data[at + 1], (data[at + 2] << 8) + data[at + 3]
        start, at = at + 4, at + 2 + length
        if length < 2 or at > len(data):
            return None
        if kind == _SCAN:
            if frame is None or data.rfind(b"\xff\xd9", at) < 0:
                return None
            width, height, mode, kept = frame
            return PlainImage(width, height, mode, kept, tuple(segments))
        if kind in _APPLICATIONS:
            begins_with, least = _APPLICATIONS[kind]
            if at - start < least or not data.startswith(begins_with, start):
                return None
        elif kind == _TABLES:
            if not _are_tables(data, start, at):
                return None
        elif kind in FRAMES and frame is None:
            frame = _jpeg_frame(data, start, at, is_progressive=kind == PROGRESSIVE)
            if frame is None:
                return None
        elif kind not in (_HUFFMAN, _RESTART, COMMENT):
            return None
        if kind in _TELLING:
            segments.append((kind, start, at))
    return None


def _are_tables(data: bytes, start: int, stop: int) -> bool:
    """Whether a segment holds whole quantisation tables, of 8 or 16 bits (B.2.4.1)."""
    while start < stop:
        start += 65 if data[start] < 16 else 129
    return start == stop


def _jpeg_frame(data: bytes, start: int, stop: int, *, is_progressive: bool) -> tuple[int, int, str, int] | None:
    """What the frame header (B.2.2) says, if it is one of 8 bits: width, height, mode, bytes of coefficients."""
    if stop - start < 6:
        return None
    bits, height, width, count = struct.unpack_from(">BHHB", data, start)
    if bits != 8 or not (width and height) or count not in _JPEG_MODES or stop - start != 6 + 3 * count:
        return None
    factors = [divmod(data[at], 16) for at in range(start + 7, stop, 3)]
    if not all(1 <= horizontal <= 4 and 1 <= vertical <= 4 for horizontal, vertical in factors):
        return None
    kept = coefficient_bytes(width * height, factors) if is_progressive else 0
    return width, height, _JPEG_MODES[count], kept


def coefficient_bytes(pixels: int, factors: Sequence[tuple[int, int]]) -> int:
    """A progressive JPEG's coefficients, two bytes each, which libjpeg keeps all until the last scan; ``factors`` are
    the horizontal and vertical sampling of each component."""
    most = max(horizontal for horizontal, _ in factors) * max(vertical for _, vertical in factors)
    return sum(2 * pixels * horizontal * vertical // most for horizontal, vertical in factors)


def _webp(data: bytes) -> PlainImage | None:
    """RFC 9649, 2.5 and 2.6: one picture in one chunk, and nothing else, whose head libwebp is sure to take."""
    if len(data) < 30:
        return None
    riff_size, kind, length = struct.unpack_from("<I4x4sI", data, 4)
    if not riff_size + 8 == 20 + length + (length & 1) == len(data):
        return None
    if kind == b"VP8L":
        # 3.4: signature, sizes less 1, the alpha bit, version 0.
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F or bits >> 29:
            return None
        return PlainImage((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "RGBA" if bits >> 28 else "RGB")
    # RFC 6386, 9.1: a key frame, one of four profiles, to be shown, with its first partition inside.
    bits, width, height = int.from_bytes(data[20:23], "little"), *struct.unpack_from("<HH", data, 26)
    width, height = width & 0x3FFF, height & 0x3FFF
    is_key_frame = kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and not bits & 1
    if not is_key_frame or bits >> 1 & 7 > 3 or not bits >> 4 & 1 or bits >> 5 >= length or not (width and height):
        return None
    return PlainImage(width, height, "RGB")
