"""A plain JPEG decoded as it lies there is what Pillow opens and loads, to the last pixel and the last word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageFile

from imagecache.errors import ImageError, ImageTooLargeError
from imagecache.imaging.decode import DecodeOptions, decode, decode_small, decoded_cost, finish
from imagecache.imaging.foreign import decoding
from imagecache.imaging.header import open_image
from imagecache.imaging.limits import ImageLimits
from imagecache.imaging.processors.downsample import ORIGINAL_SIZE
from imagecache.request import ImageMode

from .samples import LIMITS, URL, pattern, sample, saved

SEVERAL_PARTS = bytes(range(256)) * 300
AUTO = DecodeOptions()
MODES: list[ImageMode] = ["auto", None, "L", "LA", "RGB", "RGBA"]


def with_segment(data: bytes, kind: int, content: bytes, *, before: bytes = b"\xff\xdb") -> bytes:
    at = data.index(before)
    segment = bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content
    return data[:at] + segment + data[at:]


def with_density(unit: int) -> bytes:
    """As JFIF says it: 72 and 36 to nothing, an inch or a centimetre."""
    data = sample("JPEG")
    at = data.index(b"JFIF\0")
    return data[: at + 7] + bytes([unit, 0, 72, 0, 36]) + data[at + 12 :]


def without_jfif() -> bytes:
    data = sample("JPEG")
    return data[:2] + data[data.index(b"\xff\xdb") :]


def part(number: int, count: int, content: bytes) -> bytes:
    return b"ICC_PROFILE\0" + bytes([number, count]) + content


BLOCK = ImageFile.MAXBLOCK
"""Bytes of a file that Pillow gives to a decoder at a time."""

PLAIN: dict[str, bytes] = {
    "baseline": sample("JPEG"),
    "grey": saved(pattern(mode="L"), "JPEG"),
    "odd size": saved(pattern((61, 3)), "JPEG"),
    "one pixel": saved(pattern((1, 1)), "JPEG"),
    "progressive": saved(pattern((65, 47)), "JPEG", progressive=True),
    "full colour": saved(pattern(), "JPEG", subsampling=0),
    "stored as RGB": saved(pattern(), "JPEG", keep_rgb=True),
    "profile": saved(pattern(), "JPEG", icc_profile=b"profile" * 10),
    "profile in parts": saved(pattern(), "JPEG", icc_profile=SEVERAL_PARTS),
    "parts in disorder": with_segment(with_segment(sample("JPEG"), 0xE2, part(2, 2, b"b")), 0xE2, part(1, 2, b"a")),
    "a part lacks": with_segment(sample("JPEG"), 0xE2, part(1, 2, b"a")),
    "a profile too late": with_segment(sample("JPEG"), 0xE2, part(1, 1, b"a"), before=b"\xff\xda"),
    "parts too late": with_segment(
        with_segment(sample("JPEG"), 0xE2, part(1, 2, b"a")), 0xE2, part(2, 2, b"b"), before=b"\xff\xda"
    ),
    "comments": with_segment(saved(pattern(), "JPEG", comment=b"one"), 0xFE, b"two", before=b"\xff\xda"),
    "restarts": saved(pattern(), "JPEG", restart_marker_blocks=2),
    "adobe": with_segment(sample("JPEG"), 0xEE, b"Adobe\0\x65\0\0\0\0\x01"),
    "dots per inch": with_density(1),
    "dots per centimetre": with_density(2),
    "an unknown unit": with_density(7),
    "no JFIF": without_jfif(),
    "several blocks": saved(pattern((1800, 1400)), "JPEG", quality=100),
}
assert len(PLAIN["several blocks"]) > 2 * BLOCK


def as_opened(data: bytes, options: DecodeOptions = AUTO) -> Image.Image:
    """The long way, as all other images go."""
    image, _ = open_image(data, limits=LIMITS, url=URL)
    image.load()
    return finish(image, options.mode)


def told(image: Image.Image) -> dict[str, Any]:
    """Everything that is known of an image."""
    return {**vars(image), "_im": image.tobytes()}


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))

    return forbid


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_jpeg_is_decoded_without_opening_it_and_as_if_it_was(
    name: str, never_opened: Callable[[], None]
) -> None:
    opened = as_opened(PLAIN[name])
    never_opened()
    image = decode(PLAIN[name], options=AUTO, limits=LIMITS, url=URL)
    assert told(image) == told(opened)
    assert type(image) is Image.Image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["baseline", "grey", "profile"])
def test_it_is_converted_as_others_are(name: str, mode: ImageMode) -> None:
    options = DecodeOptions(mode)
    opened = as_opened(PLAIN[name], options)
    assert told(decode(PLAIN[name], options=options, limits=LIMITS, url=URL)) == told(opened)
    assert opened.mode == mode or mode in ("auto", None)


@pytest.mark.parametrize(("name", "mode"), [("baseline", None), ("baseline", "RGB"), ("grey", None), ("grey", "L")])
def test_one_that_is_wanted_as_it_is_is_not_opened(
    name: str, mode: ImageMode, never_opened: Callable[[], None]
) -> None:
    never_opened()
    decode(PLAIN[name], options=DecodeOptions(mode), limits=LIMITS, url=URL)


def test_a_small_one_is_decoded_as_it_is_looked_at(never_opened: Callable[[], None]) -> None:
    data, options = sample("JPEG"), AUTO
    image, header = open_image(data, limits=LIMITS, url=URL)
    image.close()
    opened, cost = as_opened(data), decoded_cost(header, options)
    never_opened()
    assert decode_small(data, options=options, most=cost - 1, limits=LIMITS, url=URL) == (header, None)
    found, small = decode_small(data, options=options, most=cost, limits=LIMITS, url=URL)
    assert small is not None
    assert (found, told(small)) == (header, told(opened))


def test_one_that_is_wanted_smaller_is_decoded_smaller() -> None:
    data = saved(pattern((640, 480)), "JPEG")
    image = decode(data, options=DecodeOptions(draft=(100, 100)), limits=LIMITS, url=URL)
    assert (image.size, image.info[ORIGINAL_SIZE]) == ((160, 120), (640, 480))


def test_one_that_is_wanted_as_large_as_it_is_is_not_opened_either(never_opened: Callable[[], None]) -> None:
    never_opened()
    assert decode(sample("JPEG"), options=DecodeOptions(draft=(60, 60)), limits=LIMITS, url=URL).size == (64, 48)


def test_cmyk_is_left_to_pillow() -> None:
    data = saved(pattern(mode="CMYK"), "JPEG")
    image = decode(data, options=DecodeOptions(mode=None), limits=LIMITS, url=URL)
    assert told(image) == told(as_opened(data, DecodeOptions(mode=None)))
    assert image.mode == "CMYK"


@pytest.mark.parametrize("place", ["PIL.Image.new", "PIL.Image.Image.frombytes"])
def test_what_its_decoder_does_not_take_is_opened_for_the_reason(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    opened = as_opened(sample("JPEG"))
    monkeypatch.setattr(place, fail)
    assert told(decode(sample("JPEG"), options=AUTO, limits=LIMITS, url=URL)) == told(opened)
    found, small = decode_small(sample("JPEG"), options=AUTO, most=2**20, limits=LIMITS, url=URL)
    assert found.format == "JPEG"
    assert small is not None
    assert told(small) == told(opened)


def test_what_pillow_was_told_of_cut_images_does_not_change_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = sample("JPEG")
    assert told(decode(data, options=AUTO, limits=LIMITS, url=URL)) == told(as_opened(data))


def test_what_pillow_would_refuse_is_opened_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 3)
    with pytest.raises(ImageTooLargeError, match="Pillow"):
        decode(sample("JPEG"), options=AUTO, limits=ImageLimits(max_pixels=10**6), url=URL)


def outcome(decoded: Callable[[], Image.Image]) -> object:
    try:
        return told(decoded())
    except ImageError as error:
        return type(error), str(error)


def by_pillow(data: bytes) -> Image.Image:
    """As `decode` goes about what is not plain."""
    image, header = open_image(data, limits=LIMITS, url=URL)
    with decoding(URL, header.format):
        image.load()
        return finish(image, "auto")


PLACES = st.floats(0, 1)
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=4)
SMALL = [data for data in PLAIN.values() if len(data) < 20_000]


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(SMALL), CHANGES, st.sampled_from([1, 3]), st.one_of(st.just(0.0), PLACES))
def test_whatever_is_damaged_comes_out_as_pillow_has_it(
    data: bytes, changes: list[tuple[float, int]], power: int, cut: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place**power * (len(damaged) - 1))] = value
    body = bytes(damaged[: len(damaged) - int(cut * 40)])
    straight = outcome(lambda: decode(body, options=AUTO, limits=LIMITS, url=URL))
    assert straight == outcome(lambda: by_pillow(body))
