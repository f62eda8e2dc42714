"""What is refused, and that it is refused before a pixel is made."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Literal

import pytest
from PIL import Image, ImageFile

from imagecache.errors import DecodeError, ImageError, ImageTooLargeError, NotAnImageError
from imagecache.imaging.decode import DecodeOptions, decode
from imagecache.imaging.header import ImageHeader, read_header
from imagecache.imaging.limits import DEFAULT_FORMATS, MIB, ImageLimits

from .samples import ANIMATED_FORMATS, FORMATS, LIMITS, URL, animated, pattern, sample, saved


def header(data: bytes, limits: ImageLimits = LIMITS) -> ImageHeader:
    return read_header(data, limits=limits, url=URL)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width: int, height: int, *, depth: int = 8, colour: int = 6) -> bytes:
    """A small PNG that announces any size: its pixels are a few bytes of nothing."""
    start = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def gif_claiming(width: int, height: int) -> bytes:
    """A GIF of a pixel, whose frame reaches far over its screen."""
    data = bytearray(saved(Image.new("P", (1, 1)), "GIF"))
    at = data.index(b",", 13)
    data[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_image_has_a_header(name: str) -> None:
    found = header(sample(name))
    assert (found.format, found.width, found.height, found.frame_count) == (name, 64, 48, 1)
    assert found.decoded_bytes == 64 * 48 * 4


def test_reading_a_header_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("pixels were made")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    for name in FORMATS:  # an ICO too, which Pillow decodes as it opens it
        header(sample(name))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = header(saved(pattern((40, 30)), "JPEG", exif=exif))
    assert (found.width, found.height) == ((30, 40) if orientation >= 5 else (40, 30))
    assert found.orientation == orientation


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_frames_are_counted(name: str) -> None:
    assert header(animated(name)).frame_count == 4


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_too_many_frames_are_refused(name: str) -> None:
    with pytest.raises(ImageTooLargeError, match="max_frames") as caught:
        header(animated(name), ImageLimits(max_frames=3))
    assert caught.value.url == URL


def test_pages_are_no_frames() -> None:
    pages = saved(pattern(), "TIFF", save_all=True, append_images=[pattern()] * 9)
    assert header(pages, ImageLimits(max_frames=1, formats=("TIFF",))).frame_count == 1


@pytest.mark.parametrize("name", FORMATS)
def test_decoded_bytes_are_limited(name: str) -> None:
    with pytest.raises(ImageTooLargeError, match="max_decoded_bytes"):
        header(sample(name), ImageLimits(max_decoded_bytes=64 * 48 * 4 - 1))
    header(sample(name), ImageLimits(max_decoded_bytes=64 * 48 * 4))


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_limited(name: str) -> None:
    with pytest.raises(ImageTooLargeError, match="max_pixels"):
        header(sample(name), ImageLimits(max_pixels=64 * 48 - 1))


def test_pixels_that_pillow_lets_pass_are_counted_as_bytes() -> None:
    # 88 megapixels are under Pillow's own limit, and take 352 MB.
    with pytest.raises(ImageTooLargeError):
        header(png_claiming(11_000, 8_000, depth=16))


def test_a_palette_counts_as_the_colours_it_becomes() -> None:
    assert header(saved(pattern(mode="P"), "PNG")).decoded_bytes == 64 * 48 * 4
    assert header(saved(pattern(mode="L"), "PNG")).decoded_bytes == 64 * 48


@pytest.mark.parametrize(
    "bomb",
    [
        png_claiming(60_000, 60_000),
        png_claiming(2**31 - 1, 2**31 - 1),
        gif_claiming(65_535, 65_535),
        b"RIFF"
        + struct.pack("<I", 40)
        + b"WEBPVP8X"
        + struct.pack("<IB3x", 10, 2)
        + b"\xff\x3f\0\xff\x3f\0"
        + bytes(18),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
)
def test_bombs_are_refused_without_memory(bomb: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ImageTooLargeError):
        header(bomb)
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_an_icon_is_measured_by_what_is_inside() -> None:
    # The directory says 16 x 16, the PNG inside is a bomb, and Pillow would decode it in Image.open.
    inner = png_claiming(12_000, 12_000)
    with pytest.raises(ImageTooLargeError):
        header(icon_around(inner))


def icon_around(inner: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def test_an_icon_is_refused_before_it_is_opened_by_what_it_takes_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pixel less than a fourth of the limit would pass as grey; Pillow would have made four bytes of each by then.
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("the icon was decoded"))
    for look in (header, decode_it):
        with pytest.raises(ImageTooLargeError):
            look(sample("ICO"), ImageLimits(max_decoded_bytes=64 * 48 * 4 - 1))


def test_an_icon_without_a_picture_is_damaged() -> None:
    with pytest.raises(DecodeError):
        header(struct.pack("<HHH", 0, 1, 0) + bytes(40))


def decode_it(data: bytes, limits: ImageLimits = LIMITS) -> Image.Image:
    return decode(data, options=DecodeOptions(), limits=limits, url=URL)


def two_headers(small: tuple[int, int], large: tuple[int, int]) -> bytes:
    """A PNG with two headers, of which Pillow obeys the second."""
    first, second = (png_claiming(*size) for size in (small, large))
    return first[:33] + second[8:]


def hidden_header(small: tuple[int, int], large: tuple[int, int]) -> bytes:
    """A PNG whose first chunk is a text that reads like a header."""
    data = png_claiming(*large)
    return data[:8] + chunk(b"tEXt", struct.pack(">IIBBBBB", *small, 8, 6, 0, 0, 0)) + data[8:]


@pytest.mark.parametrize("make", [two_headers, hidden_header])
@pytest.mark.parametrize("wrap", [bytes, icon_around])
def test_a_png_does_not_hide_its_size_behind_another(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[tuple[int, int], tuple[int, int]], bytes],
    wrap: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow saw it"))
    bomb = wrap(make((16, 16), (13_000, 13_000)))
    for look in (header, decode_it):
        with pytest.raises(ImageError):
            look(bomb)


def test_what_pillow_warns_about_is_refused_and_its_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name in FORMATS:
        with pytest.raises(ImageTooLargeError):
            header(sample(name))
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"hello", "no known image format"),
        (b"<!doctype html><title>404</title>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b"%PDF-1.4", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b'{"a": 1}', "JSON"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(data: bytes, told: str) -> None:
    with pytest.raises(NotAnImageError, match=told):
        header(data)


def test_only_allowed_formats_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = Image.open

    def spy(fp: io.BytesIO, mode: Literal["r"] = "r", formats: tuple[str, ...] | None = None) -> ImageFile.ImageFile:
        opened.append(formats)
        return real(fp, mode, formats)

    monkeypatch.setattr(Image, "open", spy)
    for name in ("TIFF", "PPM", "TGA", "EPS", "PCX"):
        with pytest.raises(NotAnImageError):
            header(saved(pattern(), name))
    assert opened == []
    header(sample("PNG"))
    assert opened == [("PNG",)]


def test_other_formats_can_be_allowed() -> None:
    assert header(saved(pattern(), "TIFF"), ImageLimits(formats=(*DEFAULT_FORMATS, "tiff"))).format == "TIFF"
    assert header(saved(pattern(), "PPM"), ImageLimits(formats=("PNG", "PPM"))).format == "PPM"
    with pytest.raises(NotAnImageError, match="JPEG is not among"):
        header(sample("JPEG"), ImageLimits(formats=("PNG", "PPM")))


BOMB = zlib.compress(bytes(64 * MIB), 9)
TEXT = zlib.compress(b"x" * (MIB - 1), 9)
METADATA_BOMBS = {
    "zTXt": chunk(b"zTXt", b"a\0\0" + BOMB),
    "iTXt": chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "iCCP": chunk(b"iCCP", b"a\0\0" + BOMB),
    "a crowd of them": b"".join(chunk(b"zTXt", b"%d\0\0" % number + TEXT) for number in range(80)),
    "plain text": chunk(b"tEXt", b"a\0" + b"x" * 66 * MIB),
}


@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
@pytest.mark.parametrize("bomb", METADATA_BOMBS)
def test_metadata_bombs_end_in_our_error_with_its_cause(bomb: str, place: str) -> None:
    data = sample("PNG")
    at = 33 if place == "before the pixels" else len(data) - 12
    look = header if place == "before the pixels" else decode_it
    with pytest.raises(DecodeError) as caught:
        look(data[:at] + METADATA_BOMBS[bomb] + data[at:])
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_metadata_bomb_costs_no_memory() -> None:
    data = sample("PNG")
    bomb = data[:33] + METADATA_BOMBS["iCCP"] + data[33:]
    tracemalloc.start()
    with pytest.raises(DecodeError):
        header(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    tracemalloc.stop()


def test_a_gif_of_endless_blocks_is_given_up() -> None:
    data = sample("GIF")[:-1]
    with pytest.raises(ImageError, match="absurd"):
        header(data + b"!\xfe" + b"\1a" * 600_000 + b"\0;")


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_shows_before_decoding(name: str) -> None:
    data = sample(name)
    with pytest.raises(ImageError):
        header(data[: len(data) // 2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_decoded_bytes": 0},
        {"max_pixels": -1},
        {"max_frames": 0},
        {"formats": ()},
        {"formats": ("PNG", "NO-SUCH")},
    ],
)
def test_impossible_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least|Pillow reads no"):
        ImageLimits(**wrong)  # type: ignore[arg-type]


def test_limits_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError):
        ImageLimits(formats="PNG")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ImageLimits(max_frames=1.5)  # type: ignore[arg-type]
