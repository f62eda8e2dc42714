"""What is read of an image without opening it is what Pillow would have told; where Pillow refuses, nothing is read."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageFile, WebPImagePlugin

from imagecache.errors import ImageError, ImageTooLargeError
from imagecache.imaging.header import ImageHeader, open_image, read_header
from imagecache.imaging.limits import ImageLimits
from imagecache.imaging.plain import plain_image

from .samples import LIMITS, URL, animated, pattern, sample, saved

PROFILE = b"profile" * 10


def with_exif(format_name: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(pattern(), format_name, exif=exif.tobytes())


PLAIN: dict[str, tuple[str, bytes]] = {
    "baseline": ("JPEG", sample("JPEG")),
    "grey": ("JPEG", saved(pattern(mode="L"), "JPEG")),
    "cmyk": ("JPEG", saved(pattern(mode="CMYK"), "JPEG")),
    "progressive": ("JPEG", saved(pattern((65, 47)), "JPEG", progressive=True)),
    "full colour": ("JPEG", saved(pattern(), "JPEG", subsampling=0, progressive=True)),
    "profile": ("JPEG", saved(pattern(), "JPEG", icc_profile=PROFILE)),
    "comment": ("JPEG", saved(pattern(), "JPEG", comment=b"made by nobody")),
    "restarts": ("JPEG", saved(pattern(), "JPEG", restart_marker_blocks=2)),
    "lossy": ("WEBP", sample("WEBP")),
    "odd": ("WEBP", saved(pattern((63, 47)), "WEBP", quality=30)),
    "lossless": ("WEBP", saved(pattern(), "WEBP", lossless=True)),
    "lossless with alpha": ("WEBP", saved(pattern(mode="RGBA"), "WEBP", lossless=True)),
}
"""What most images of the web are like."""

OTHERS: dict[str, tuple[str, bytes]] = {
    "exif": ("JPEG", with_exif("JPEG")),
    "xmp": ("JPEG", saved(pattern(), "JPEG", xmp=b"<x:xmpmeta/>")),
    "several pictures": ("JPEG", saved(pattern(), "MPO", save_all=True, append_images=[pattern()])),
    "lossy with alpha": ("WEBP", saved(pattern(mode="RGBA"), "WEBP")),
    "webp with exif": ("WEBP", with_exif("WEBP")),
    "animated": ("WEBP", animated("WEBP")),
    "another format": ("PNG", sample("PNG")),
}
"""What takes a closer look."""


def as_opened(data: bytes, limits: ImageLimits = LIMITS) -> ImageHeader:
    image, found = open_image(data, limits=limits, url=URL)
    image.close()
    return found


def outcome(read: Callable[[], ImageHeader]) -> ImageHeader | type[ImageError]:
    try:
        return read()
    except ImageError as error:
        return type(error)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_image_is_not_opened_and_told_of_as_if_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format_name, data = PLAIN[name]
    opened = as_opened(data)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    assert read_header(data, limits=LIMITS, url=URL) == opened
    assert opened.format == format_name


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_image_is_left_to_pillow(name: str) -> None:
    format_name, data = OTHERS[name]
    assert plain_image(data, format_name) is None
    assert read_header(data, limits=LIMITS, url=URL) == as_opened(data)


def changed(data: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """With some bytes others, most of them in the head, and perhaps without its end."""
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place**3 * (len(damaged) - 1))] = value
    return bytes(damaged[: len(damaged) - int(cut * 40)])


PLACES = st.floats(0, 1)
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=4)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from([*PLAIN.values(), *OTHERS.values()]), CHANGES, st.one_of(st.just(0.0), PLACES))
def test_whatever_is_damaged_pillow_takes_what_is_told_of(
    picture: tuple[str, bytes], changes: list[tuple[float, int]], cut: float
) -> None:
    format_name, data = picture[0], changed(picture[1], changes, cut)
    if plain_image(data, format_name) is not None:
        assert outcome(lambda: read_header(data, limits=LIMITS, url=URL)) == outcome(lambda: as_opened(data))


def cut_short(data: bytes) -> bytes:
    return data[:-3]


def with_more_behind(data: bytes) -> bytes:
    return data + b"more"


def with_its_first_bytes_only(data: bytes) -> bytes:
    return data[:24]


def with_a_segment_of_a_stranger(data: bytes) -> bytes:
    return data[:2] + b"\xff\xed\x00\x05abc" + data[2:]


def with_a_profile_that_is_too_short(data: bytes) -> bytes:
    # Pillow reads behind its name.
    return data[:2] + b"\xff\xe2\x00\x0eICC_PROFILE\0" + data[2:]


def with_a_second_frame(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[:at] + data[at : at + 19] + data[at:]


def with_two_components(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 9] + b"\x02" + data[at + 10 :]


def without_height(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + b"\0\0" + data[at + 7 :]


def with_half_a_table(data: bytes) -> bytes:
    at = data.index(b"\xff\xdb")
    return data[:at] + b"\xff\xdb\x00\x05\x00\x01\x02" + data[at:]


def with_deep_colour(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 4] + b"\x0c" + data[at + 5 :]


def with_half_a_component_more(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 3] + b"\x12" + data[at + 4 : at + 19] + b"\x04" + data[at + 19 :]


def with_sampling_of_nothing(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 11] + b"\x00" + data[at + 12 :]


def with_junk_between_segments(data: bytes) -> bytes:
    at = data.index(b"\xff\xdb")
    return data[:at] + b"\xfe" + data[at + 1 :]


def with_bits_of_its_frame(flipped: int) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        return data[:20] + bytes([data[20] ^ flipped]) + data[21:]

    return damage


def with_another_version(data: bytes) -> bytes:
    return data[:24] + bytes([data[24] | 0x20]) + data[25:]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("baseline", cut_short),
        ("baseline", with_its_first_bytes_only),
        ("baseline", with_a_segment_of_a_stranger),
        ("profile", with_a_profile_that_is_too_short),
        ("baseline", with_a_second_frame),
        ("baseline", with_two_components),
        ("baseline", without_height),
        ("baseline", with_half_a_table),
        ("baseline", with_deep_colour),
        ("baseline", with_half_a_component_more),
        ("baseline", with_sampling_of_nothing),
        ("baseline", with_junk_between_segments),
        ("lossy", with_bits_of_its_frame(0b1)),
        ("lossy", with_bits_of_its_frame(0b1000)),
        ("lossy", with_bits_of_its_frame(0b10000)),
        ("lossless", with_another_version),
        ("lossy", cut_short),
        ("lossy", with_more_behind),
        ("lossless", with_its_first_bytes_only),
    ],
)
def test_what_may_be_refused_is_left_to_pillow(name: str, damage: Callable[[bytes], bytes]) -> None:
    format_name, data = PLAIN[name]
    assert plain_image(damage(data), format_name) is None


def test_limits_hold_for_what_is_not_opened() -> None:
    data = saved(pattern((100, 100)), "JPEG")
    with pytest.raises(ImageTooLargeError, match="max_pixels"):
        read_header(data, limits=ImageLimits(max_pixels=9_999), url=URL)
    with pytest.raises(ImageTooLargeError, match="max_decoded_bytes"):
        read_header(data, limits=ImageLimits(max_decoded_bytes=39_999), url=URL)
    assert read_header(data, limits=ImageLimits(max_pixels=10_000, max_decoded_bytes=40_000), url=URL).width == 100


def test_what_pillow_would_warn_of_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 3)
    with pytest.raises(ImageError):
        read_header(sample("JPEG"), limits=ImageLimits(max_pixels=10**6), url=URL)


def test_where_pillow_knows_no_webp_none_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    def refuse(source: io.BytesIO, **_: object) -> ImageFile.ImageFile:
        opened.append(source)
        raise OSError("no such decoder")

    monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError):
        read_header(sample("WEBP"), limits=LIMITS, url=URL)
    assert opened
