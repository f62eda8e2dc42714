"""What the containers say of themselves, read without a decoder: sizes, frames, durations, and where they end.

Pillow tells some of this only after it has allocated or decoded: an ICO is decoded by ``Image.open``, a WebP
gets its canvases, the frames of a GIF are counted by walking all of them. And a PNG or GIF that lacks its end
decodes without a word. No pixel is made here; every walk is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_BLOCKS = 500_000
"""Blocks (PNG chunks, GIF sub-blocks, …) walked at most: twice what a 64 MiB GIF has, under a second of walking."""


_BMP_UNCOMPRESSED = (0, 3)  # BI_RGB, BI_BITFIELDS


@dataclass(frozen=True, slots=True)
class Structure:
    """A container's own account. ``width`` and ``height`` are 0 where only the decoder can tell.

    ``durations`` are milliseconds, one a frame; empty for a still image. ``loop_count`` is how often the
    animation plays, 0 for ever. ``is_complete`` is False if the container ends before its end.
    """

    width: int = 0
    height: int = 0
    frame_count: int = 1
    durations: tuple[float, ...] = ()
    loop_count: int = 0
    is_complete: bool = True


def structure_of(data: bytes, name: str | None) -> Structure:
    """Walk the container of the format of that name.

    Raises IndexError or struct.error where it is cut inside of a block, ValueError where it has over
    MAX_BLOCKS of them.
    """
    walk = _WALKS.get(name or "")
    return Structure() if walk is None else walk(data)


def _png(data: bytes) -> Structure:
    """PNG third edition, 5 (chunks) and 11.3.5 (APNG)."""
    width, height = _png_size(data, 0)
    plays, durations, is_complete, is_animated = 1, [], False, False
    for kind, start, length in _chunks(data, 8, ">I4s", checksum=4):
        if kind == b"IEND":
            is_complete = start + length + 4 <= len(data)
            break
        if kind == b"acTL":
            is_animated, plays = True, struct.unpack_from(">I", data, start + 4)[0]
        elif kind == b"fcTL" and is_animated:
            numerator, denominator = struct.unpack_from(">HH", data, start + 20)
            durations.append(1000 * numerator / (denominator or 100))
    if len(durations) < 2:
        return Structure(width, height, is_complete=is_complete)
    return Structure(width, height, len(durations), tuple(durations), plays, is_complete)


def _png_size(data: bytes, at: int) -> tuple[int, int]:
    """The size in the header of a PNG that begins there, wherever it is; the largest, where there are several.

    Pillow obeys the last, so that one that is only looked for in its place may tell of another picture.
    """
    largest = (0, 0)
    for kind, start, _ in _chunks(data, at + 8, ">I4s", checksum=4):
        if kind == b"IDAT":
            break
        if kind == b"IHDR":
            largest = max(largest, struct.unpack_from(">II", data, start), key=lambda size: size[0] * size[1])
    return largest


def _webp(data: bytes) -> Structure:
    """WebP container specification (RFC 9649), 2.4 to 2.7."""
    riff_size = struct.unpack_from("<I", data, 4)[0]
    is_complete = riff_size + 8 <= len(data)
    width = height = plays = 0
    durations = []
    for kind, start, length in _chunks(data, 12, "<4sI"):
        if kind == b"VP8X" and not width:
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (start + 4, start + 7))
        elif kind == b"VP8 " and not width:
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, start + 6))
        elif kind == b"VP8L" and not width:
            bits = struct.unpack_from("<I", data, start + 1)[0]
            width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        elif kind == b"ANIM":
            plays = struct.unpack_from("<H", data, start + 4)[0]
        elif kind == b"ANMF":
            durations.append(float(int.from_bytes(data[start + 12 : start + 15], "little")))
        if start + length > len(data):
            break
    if len(durations) < 2:
        return Structure(width, height, is_complete=is_complete)
    return Structure(width, height, len(durations), tuple(durations), plays, is_complete)


def _chunks(data: bytes, at: int, head: str, *, checksum: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """The (kind, start, length) of each chunk of a PNG or RIFF file; RIFF pads to even lengths, PNG adds a checksum."""
    is_png = head == ">I4s"
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            return
        first, second = struct.unpack_from(head, data, at)
        kind, length = (second, first) if is_png else (first, second)
        yield kind, at + 8, length
        at += 8 + length + (checksum if is_png else length & 1)
    raise ValueError("an absurd number of chunks")


def _gif(data: bytes) -> Structure:
    """GIF89a specification, 17 to 27; the loop extension is Netscape's."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + ((6 << (flags & 7)) if flags & 0x80 else 0)
    plays, delay, durations, is_complete, blocks = 1, 0, [], False, 0
    while at < len(data):
        introducer = data[at]
        if introducer == 0x3B:
            is_complete = True
            break
        if introducer == 0x21:
            label = data[at + 1]
            if label == 0xF9:
                delay = struct.unpack_from("<H", data, at + 4)[0]
            elif label == 0xFF and data[at + 3 : at + 14] == b"NETSCAPE2.0" and data[at + 14] >= 3:
                again = struct.unpack_from("<H", data, at + 16)[0]
                # It counts the repetitions after the first showing; 0 is for ever.
                plays = again + 1 if again else 0
            at += 2
        elif introducer == 0x2C:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            # A frame may reach over the screen that the header announces; decoders then enlarge the canvas.
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            durations.append(10.0 * delay)
            delay = 0
            at += 11 + ((6 << (flags & 7)) if flags & 0x80 else 0)
        else:
            # Decoders skip stray bytes between blocks, so a file with some is not refused.
            at += 1
            blocks = _counted(blocks)
            continue
        while data[at]:
            at += 1 + data[at]
            blocks = _counted(blocks)
        at += 1
        blocks = _counted(blocks)
    if len(durations) < 2:
        return Structure(width, height, is_complete=is_complete)
    return Structure(width, height, len(durations), tuple(durations), plays, is_complete)


def _counted(blocks: int) -> int:
    if blocks >= MAX_BLOCKS:
        raise ValueError("an absurd number of blocks")
    return blocks + 1


def _jpeg(data: bytes) -> Structure:
    """ITU-T T.81, B.1 and B.2: the segments up to the first scan, then the end of the image after it."""
    at, width, height = 2, 0, 0
    for _ in range(MAX_BLOCKS):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0xDA:
            # Inside a scan FF is always followed by 00 or a restart marker. Looking from the scan on keeps the
            # end of an EXIF thumbnail from being taken for the end of the image.
            return Structure(width, height, is_complete=data.rfind(b"\xff\xd9", at) >= 0)
        elif marker in (0x00, 0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and not width:
                height, width = struct.unpack_from(">HH", data, at + 5)
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    raise ValueError("an absurd number of segments")


def _ico(data: bytes) -> Structure:
    """The largest picture inside: its own header counts, as the directory can say nothing over 256."""
    width = height = 0
    for index in range(struct.unpack_from("<H", data, 4)[0]):
        entry_width, entry_height, size, start = struct.unpack_from("<BB6xII", data, 6 + 16 * index)
        inner = (entry_width or 256, entry_height or 256)
        if data[start : start + 8] == b"\x89PNG\r\n\x1a\n":
            inner = _png_size(data, start)
        elif start + 16 <= len(data):
            # A bitmap's height counts the picture and its mask (BITMAPINFOHEADER.biHeight).
            columns, rows = struct.unpack_from("<ii", data, start + 4)
            inner = (abs(columns), abs(rows) // 2)
        if inner[0] * inner[1] > width * height:
            width, height = inner
        if start + size > len(data):
            return Structure(width, height, is_complete=False)
    return Structure(width, height)


def _bmp(data: bytes) -> Structure:
    """BITMAPFILEHEADER, and BITMAPINFOHEADER or one of its successors; OS/2's own is left to the decoder."""
    pixels_at, header_size = struct.unpack_from("<II", data, 10)
    if header_size < 40:
        return Structure()
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    if compression not in _BMP_UNCOMPRESSED:
        return Structure(width, height)
    # Rows are padded to four bytes; of the last one some writers leave that out.
    row = (width * depth + 31) // 32 * 4
    last = (width * depth + 7) // 8
    return Structure(width, height, is_complete=pixels_at + row * (height - 1) + last <= len(data))


def _avif(data: bytes) -> Structure:
    """The durations of the first track (ISO/IEC 14496-12, 8.4.2 and 8.6.1.2); the decoder tells the rest."""
    moov = _box(data, b"moov", 0, len(data))
    mdia = moov and (trak := _box(data, b"trak", *moov)) and _box(data, b"mdia", *trak)
    mdhd = mdia and _box(data, b"mdhd", *mdia)
    minf = mdia and _box(data, b"minf", *mdia)
    stts = minf and (stbl := _box(data, b"stbl", *minf)) and _box(data, b"stts", *stbl)
    if not mdhd or not stts:
        return Structure()
    timescale = struct.unpack_from(">I", data, mdhd[0] + (20 if data[mdhd[0]] else 12))[0] or 1
    durations: list[float] = []
    for index in range(min(struct.unpack_from(">I", data, stts[0] + 4)[0], (stts[1] - stts[0]) // 8)):
        count, delta = struct.unpack_from(">II", data, stts[0] + 8 + 8 * index)
        if len(durations) + count > MAX_BLOCKS:
            raise ValueError("an absurd number of frames")
        durations += [1000 * delta / timescale] * count
    return Structure(durations=tuple(durations))


def _box(data: bytes, wanted: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Where the contents of the first box of this kind begin and end; None if there is none."""
    for _ in range(MAX_BLOCKS):
        if start + 8 > end:
            return None
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        stop = start + size if size else end
        if kind == wanted:
            return start + head, min(stop, end)
        if stop < start + head:
            return None
        start = stop
    raise ValueError("an absurd number of boxes")


_WALKS: dict[str, Callable[[bytes], Structure]] = {
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "JPEG": _jpeg,
    "ICO": _ico,
    "AVIF": _avif,
    "BMP": _bmp,
}
