"""Whatever the bytes are, there is an image or one of our errors: never another exception, never half an image."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings, strategies as st
from PIL import Image

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


@pytest.mark.parametrize("name", [*FORMATS, *(f"animated {n}" for n in ANIMATED_FORMATS)])
def test_flipped_bits_give_an_image_or_our_error(name: str) -> None:
    data = animated(name.removeprefix("animated ")) if name.startswith("animated") else sample(name)
    chance = random.Random(name)
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            # Mostly in the header, where it matters.
            at = chance.randrange(min(len(data), chance.choice((40, 200, len(data)))))
            damaged[at] ^= 1 << chance.randrange(8)
        survives(bytes(damaged))


def test_the_foreign_exception_is_kept_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample("JPEG")
    for raised in (ValueError("x" * 1000), AssertionError(), OverflowError("o"), SyntaxError("s"), RecursionError()):

        def fail(*_: object, raised: Exception = raised, **__: object) -> None:
            raise raised

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(DecodeError) as caught:
            decoded(data)
        assert caught.value.__cause__ is raised
        assert len(str(caught.value)) < 400


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
