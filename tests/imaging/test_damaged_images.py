"""Whatever the bytes are, there is an image or one of our errors: never another exception, never half an image."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import example, given, settings, strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from imagecache.errors import DecodeError, ImageError, ImageTooLargeError
from imagecache.imaging.animation import open_animation
from imagecache.imaging.decode import DecodeOptions, decode
from imagecache.imaging.header import read_header
from imagecache.imaging.limits import ImageLimits

from .samples import ANIMATED_FORMATS, FORMATS, LIMITS, URL, animated, decoded, pattern, sample, saved

MAGICS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x40\0\0\0WEBP", b"\0\0\0\x20ftypavif\0\0\0\0", b"BM",
    b"\0\0\1\0", b"II*\0", b"<svg", b"%!PS",
)  # fmt: skip
ALL_FORMATS = ImageLimits(formats=("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "ICO", "TIFF", "PPM", "QOI", "TGA"))


def with_metadata(name: str) -> bytes:
    """A picture with EXIF, a profile and texts: most of what is read of a file is not its pixels."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x829A] = 6, "a camera", 0.5
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, object] = {"exif": exif, "icc_profile": profile}
    if name == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("a", "b" * 99, zip=True)
        info.add_itxt("c", "d" * 99, zip=True)
        options["pnginfo"] = info
    if name == "MPO":
        options |= {"save_all": True, "append_images": [pattern()]}
    return saved(pattern(), name, **options)


FUZZED = {
    **{name: sample(name) for name in FORMATS},
    **{f"animated {name}": animated(name) for name in ANIMATED_FORMATS},
    **{f"{name} with metadata": with_metadata(name) for name in ("PNG", "JPEG", "WEBP", "AVIF", "MPO")},
    "progressive JPEG": saved(pattern(), "JPEG", progressive=True),
    "interlaced GIF": saved(pattern(mode="P"), "GIF", interlace=1),
    "palette PNG": saved(pattern(mode="P"), "PNG", transparency=3),
    "deep PNG": saved(pattern(mode="I;16"), "PNG"),
    "lossless WEBP": saved(pattern(mode="RGBA"), "WEBP", lossless=True),
    "bitmap ICO": saved(pattern(), "ICO", sizes=[(64, 48)], bitmap_format="bmp"),
    "CMYK JPEG": saved(pattern(mode="CMYK"), "JPEG"),
}


def survives(data: bytes, limits: ImageLimits = LIMITS) -> bool:
    """Whether an image came of it; anything but an image or our error goes through."""
    failed: ImageError | None = None
    try:
        read_header(data, limits=limits, url=URL)
        decode(data, options=DecodeOptions(), limits=limits, url=URL)
        with open_animation(data, limits, URL) as animation:
            for index in range(min(animation.frame_count, 5)):
                animation.duration(index)
                animation.frame(index)
    except ImageError as error:
        failed = error
    assert failed is None or failed.url == URL
    return failed is None


@settings(deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=300))
@example(magic=b"GIF89a", rest=b"")
@example(magic=b"\0\0\1\0", rest=b"\xff\xff")
@example(magic=b"\xff\xd8\xff\xe0", rest=b"\xff" * 200)
def test_any_bytes_give_an_image_or_our_error(magic: bytes, rest: bytes) -> None:
    survives(magic + rest)
    survives(magic + rest, ALL_FORMATS)


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_without_magic_give_our_error(data: bytes) -> None:
    survives(data)
    survives(data, ALL_FORMATS)


@settings(max_examples=300)
@given(data=st.data())
def test_bytes_cut_out_put_in_and_written_over_give_an_image_or_our_error(data: st.DataObject) -> None:
    original = FUZZED[data.draw(st.sampled_from(sorted(FUZZED)))]
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 64)))
    survives(original[:start] + data.draw(st.binary(max_size=64)) + original[end:])


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_image_is_damaged_wherever_it_is_cut(name: str) -> None:
    data = sample(name)
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 24, len(data))}):
        with pytest.raises(ImageError):
            decoded(data[:length])


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_a_cut_animation_is_damaged_even_if_its_first_frame_is_whole(name: str) -> None:
    data = animated(name)
    for length in (len(data) - 1, len(data) - 20, len(data) * 2 // 3):
        with pytest.raises(ImageError):
            decoded(data[:length])


def test_a_cut_progressive_jpeg_is_damaged_though_its_first_scans_are_whole() -> None:
    data = saved(pattern((200, 150)), "JPEG", progressive=True)
    with pytest.raises(DecodeError) as caught:
        decoded(data[: len(data) * 3 // 4])
    assert "cut short" in str(caught.value)


def test_the_end_of_an_exif_thumbnail_is_not_the_end_of_the_image() -> None:
    thumbnail = saved(pattern((16, 12)), "JPEG")
    data = saved(pattern((200, 150)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" + thumbnail)
    assert decoded(data).size == (200, 150)
    with pytest.raises(DecodeError):
        read_header(data[:-100], limits=LIMITS, url=URL)


def test_bytes_behind_the_end_do_no_harm() -> None:
    for name in FORMATS:
        assert decoded(sample(name) + b"\0\r\n" * 5).size == (64, 48)


@pytest.mark.parametrize("name", FUZZED)
def test_what_is_fuzzed_is_an_image_before(name: str) -> None:
    assert survives(FUZZED[name])


@pytest.mark.parametrize("name", FUZZED)
def test_flipped_bits_give_an_image_or_our_error(name: str) -> None:
    data = FUZZED[name]
    chance = random.Random(name)
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            # Mostly in the header, where it matters.
            at = chance.randrange(min(len(data), chance.choice((40, 200, len(data)))))
            damaged[at] ^= 1 << chance.randrange(8)
        survives(bytes(damaged))


FOREIGN = (
    ValueError("x" * 1000),
    AssertionError(),
    OverflowError("o"),
    SyntaxError("s"),
    RecursionError(),
    zlib.error("z"),
    struct.error("s"),
    EOFError("e"),
    KeyError(1),
    IndexError("i"),
    TypeError("t"),
    AttributeError("a"),
    OSError(5, "o"),
    NotImplementedError("n"),
    ZeroDivisionError("z"),
    UnicodeDecodeError("ascii", b"", 0, 1, "u"),
    UserWarning("w"),
    DeprecationWarning("w"),
)
"""What Pillow and its codecs were seen to raise, and what Python raises where nobody thought of it."""


@pytest.mark.parametrize("raised", FOREIGN, ids=lambda raised: type(raised).__name__)
@pytest.mark.parametrize(
    "place",
    ["PIL.Image.open", "PIL.ImageFile.ImageFile.load", "imagecache.imaging.header.structure_of",
     "imagecache.imaging.decode.to_simple"],
)  # fmt: skip
def test_every_foreign_exception_is_the_cause_of_ours(
    monkeypatch: pytest.MonkeyPatch, place: str, raised: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    # Plain JPEGs are not opened.
    data = sample("PNG")
    monkeypatch.setattr(place, fail)
    with pytest.raises(DecodeError) as caught:
        decoded(data)
    assert caught.value.__cause__ is raised
    assert caught.value.url == URL
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("raised", FOREIGN, ids=lambda raised: type(raised).__name__)
@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_every_foreign_exception_in_a_later_frame_is_the_cause_of_ours(
    monkeypatch: pytest.MonkeyPatch, name: str, raised: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    with open_animation(animated(name), LIMITS, URL) as animation:
        animation.frame(0)
        monkeypatch.setattr(type(vars(animation)["_image"]), "seek", fail)
        with pytest.raises(DecodeError) as caught:
            animation.frame(1)
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_no_damaged_image(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(raised):
        decoded(sample("PNG"))


@pytest.mark.parametrize(
    "raised", [MemoryError(), Image.DecompressionBombError("b"), Image.DecompressionBombWarning("w")]
)
def test_what_is_too_large_for_pillow_is_too_large(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageTooLargeError) as caught:
        decoded(sample("PNG"))
    assert caught.value.__cause__ is raised
