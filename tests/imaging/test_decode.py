"""Bytes become a plain, whole, upright image in a mode that everything works with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageCms, ImageOps

from imagecache import Blur, Downsample
from imagecache.errors import ImageTooLargeError
from imagecache.imaging.decode import DecodeOptions, check_decoded, decode, decoded_cost, options_for
from imagecache.imaging.header import read_header
from imagecache.imaging.limits import ImageLimits
from imagecache.imaging.processors.downsample import fit_within

from .samples import FORMATS, LIMITS, URL, animated, decoded, difference, pattern, sample, saved

ORIENTATION = 0x0112


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_decodes_to_a_plain_loaded_image(name: str) -> None:
    image = decoded(sample(name))
    assert type(image) is Image.Image
    assert (image.format, image.size) == (name, (64, 48))
    assert image.mode in ("RGB", "RGBA")
    assert not {"fp", "tile", "_fp", "map"} & set(vars(image))
    assert difference(image, pattern()) < 6


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("1", {}, "L"),
        ("1", {"transparency": 0}, "LA"),
        ("L", {}, "L"),
        ("L", {"transparency": 83}, "LA"),
        ("LA", {}, "LA"),
        ("P", {}, "RGB"),
        ("P", {"transparency": 3}, "RGBA"),
        ("P", {"transparency": bytes(range(64))}, "RGBA"),
        ("RGB", {}, "RGB"),
        ("RGB", {"transparency": (200, 40, 10)}, "RGBA"),
        ("RGBA", {}, "RGBA"),
        ("I;16", {}, "L"),
    ],
)
def test_every_png_becomes_one_of_the_four_modes(mode: str, options: dict[str, object], expected: str) -> None:
    data = saved(pattern(mode=mode), "PNG", **options)
    image = decoded(data)
    assert image.mode == expected
    assert "transparency" not in image.info
    if expected in ("LA", "RGBA"):
        low = image.getchannel("A").getextrema()[0]
        assert low == 0 or mode in ("LA", "RGBA")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F"])
def test_every_tiff_becomes_one_of_the_four_modes(mode: str) -> None:
    data = saved(pattern(mode=mode), "TIFF")
    image = decode(data, options=DecodeOptions(), limits=ImageLimits(formats=("TIFF",)), url=URL)
    assert image.mode == {"1": "L", "L": "L", "RGBA": "RGBA", "I;16": "L", "I": "L", "F": "L"}.get(mode, "RGB")
    own = decode(data, options=DecodeOptions(mode=None), limits=ImageLimits(formats=("TIFF",)), url=URL)
    assert own.mode == mode


def test_sixteen_bit_grey_is_scaled_not_cut_off() -> None:
    deep = Image.new("I;16", (5, 1))
    deep.putdata([0, 257, 32_896, 65_278, 65_535])
    assert list(decoded(saved(deep, "PNG")).tobytes()) in ([0, 1, 128, 254, 255], [0, 1, 127, 253, 255])


def test_sixteen_bit_grey_keeps_its_transparent_level() -> None:
    deep = Image.new("I;16", (3, 1))
    deep.putdata([0, 300, 65_535])
    deep.info["transparency"] = 300
    data = saved(deep, "PNG", transparency=300)
    image = decoded(data)
    if image.mode == "LA":  # Pillow's PNG writer keeps the level for this mode in some versions only
        assert list(image.getchannel("A").tobytes()) == [255, 0, 255]


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", [0, 65_535, 32_768], [0, 255, 127]),
        ("I", [-100, 100, 0], [0, 255, 127]),
        ("F", [0.0, 1.0, 0.5], [0, 255, 127]),
        ("F", [0.0, 200.0, 100.0], [0, 200, 100]),
        ("F", [-2.0, 2.0, 0.0], [0, 255, 127]),
        ("F", [float("inf"), 0.0, 1.0], None),
        ("F", [7.0, 7.0, 7.0], [7, 7, 7]),
    ],
)
def test_deep_pixels_are_scaled_by_what_they_hold(mode: str, values: list[float], expected: list[int] | None) -> None:
    deep = Image.new(mode, (3, 1))
    deep.putdata(values)
    limits = ImageLimits(formats=("TIFF",))
    image = decode(saved(deep, "TIFF"), options=DecodeOptions(), limits=limits, url=URL)
    assert image.mode == "L"
    if expected is not None:
        assert list(image.tobytes()) == expected


def test_cmyk_becomes_colours() -> None:
    image = decoded(saved(pattern(mode="CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert difference(image, pattern()) < 12
    assert decoded(saved(pattern(mode="CMYK"), "JPEG"), mode=None).mode == "CMYK"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("name", ["PNG", "GIF", "JPEG"])
def test_a_mode_can_be_asked_for(mode: str, name: str) -> None:
    assert decoded(sample(name), mode=mode).mode == mode


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_the_picture_is_upright_and_says_so(orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010E] = "a description"
    stored = pattern((40, 24))
    lossless: dict[str, object] = {"lossless": True} if name == "WEBP" else {}
    data = saved(stored, name, exif=exif, **lossless)
    image = decoded(data)
    tagged = stored.copy()
    tagged.getexif()[ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(tagged)
    assert image.size == upright.size
    assert difference(image, upright) < 4
    assert image.getexif().get(ORIENTATION, 1) == 1
    assert image.getexif()[0x010E] == "a description"
    assert ImageOps.exif_transpose(image).size == image.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_dropped_and_the_picture_stays() -> None:
    for junk in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0junk", b"Exif\0\0", b"\0" * 40):
        image = decoded(saved(pattern(), "JPEG", exif=junk))
        assert image.size == (64, 48)
        image.getexif()


def test_the_colour_profile_stays_as_long_as_it_fits() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decoded(saved(pattern(), "JPEG", icc_profile=profile)).info["icc_profile"] == profile
    assert decoded(saved(pattern(mode="P"), "PNG", icc_profile=profile)).info["icc_profile"] == profile
    for_paint = profile[:16] + b"CMYK" + profile[20:]
    assert "icc_profile" not in decoded(saved(pattern(mode="CMYK"), "JPEG", icc_profile=for_paint)).info
    assert "icc_profile" not in decoded(saved(pattern(), "PNG", icc_profile=profile), mode="L").info


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_gives_its_first_frame(name: str) -> None:
    image = decoded(animated(name))
    assert image.convert("RGB").getpixel((30, 20)) == pytest.approx((0, 255, 30), abs=8)


def test_the_master_shares_nothing_with_the_file() -> None:
    data = sample("PNG")
    one, other = decoded(data), decoded(data)
    one.putpixel((0, 0), (1, 2, 3))
    one.info["a"] = 1
    assert other != one
    assert "a" not in other.info


def test_a_draft_is_small_and_never_below_what_is_asked() -> None:
    data = saved(pattern((1600, 1200)), "JPEG", quality=90)
    small = decoded(data, draft=(300, 300))
    assert small.size == (400, 300)
    assert small.info["original_size"] == (1600, 1200)
    assert decoded(data, draft=(1000, 1000)).size == (1600, 1200)
    assert decoded(saved(pattern((640, 480)), "PNG"), draft=(100, 100)).size == (640, 480)


@settings(deadline=None)
@given(
    width=st.integers(16, 300),
    height=st.integers(16, 300),
    box=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    orientation=st.sampled_from([1, 3, 6, 8]),
)
def test_a_draft_gives_the_size_of_a_full_decode(
    width: int, height: int, box: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(Image.new("RGB", (width, height), "navy"), "JPEG", exif=exif)
    downsample = Downsample(*box)
    drafted = decoded(data, draft=box)
    fitted = fit_within(decoded(data).size, box)
    assert drafted.width >= fitted[0]
    assert drafted.height >= fitted[1]
    assert downsample.process(drafted).size == downsample.process(decoded(data)).size == fitted


def test_options_follow_the_processors() -> None:
    assert options_for((), "auto") == DecodeOptions()
    assert options_for((Downsample(30, 20), Blur(2)), "L") == DecodeOptions("L", (30, 20))
    assert options_for((Blur(2), Downsample(30, 20)), None) == DecodeOptions(None)


def test_options_have_stable_names() -> None:
    assert DecodeOptions().identifier == ""
    assert DecodeOptions("L").identifier == "mode=L"
    assert DecodeOptions(None, (30, 20)).identifier == "mode=file,draft=30x20"


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="mode is"):
        DecodeOptions("CMYK")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draft"):
        DecodeOptions(draft=(0, 5))


def test_the_cost_covers_what_decoding_holds() -> None:
    def cost(data: bytes, options: DecodeOptions | None = None) -> int:
        return decoded_cost(read_header(data, limits=LIMITS, url=URL), options or DecodeOptions())

    size = (160, 120)
    pixels = 160 * 120
    assert cost(saved(pattern(size), "JPEG")) == 4 * pixels
    assert cost(saved(pattern(size), "JPEG"), DecodeOptions(draft=(20, 20))) == 4 * pixels // 64
    assert cost(saved(pattern(size), "JPEG", progressive=True)) > 4 * pixels
    assert cost(saved(pattern(size, "L"), "PNG")) == pixels
    assert cost(saved(pattern(size, "P"), "PNG")) == 5 * pixels
    assert cost(saved(pattern(size, "P"), "PNG"), DecodeOptions(mode=None)) == pixels
    assert cost(saved(pattern(size, "L"), "PNG"), DecodeOptions("RGB")) > pixels
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert cost(saved(pattern(size), "JPEG", exif=exif)) == 8 * pixels


def test_pixels_beyond_the_announced_are_refused() -> None:
    with pytest.raises(ImageTooLargeError):
        check_decoded(Image.new("RGB", (10, 10)), ImageLimits(max_decoded_bytes=399), URL)
    check_decoded(Image.new("RGB", (10, 10)), ImageLimits(max_decoded_bytes=400), URL)
