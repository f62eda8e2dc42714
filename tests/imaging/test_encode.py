"""Every image can be written in every format, looking as before as far as the format can."""

from __future__ import annotations

import io

import pytest
from PIL import ExifTags, Image, ImageCms

from imagecache.errors import EncodeError
from imagecache.imaging.encode import Encoding, check_format, encode
from imagecache.imaging.serializer import FormatCacheSerializer
from imagecache.imaging.shared import SharedImage
from imagecache.imaging.sniff import sniff
from imagecache.protocols import CacheSerializer

from .samples import MODES, URL, difference, pattern

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")


def reopened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_written_in_every_format(name: str, mode: str) -> None:
    image = pattern((24, 20), mode)
    shared = SharedImage(image)
    data = encode(shared.view(), format=name)
    assert sniff(data) == name
    assert reopened(data).size == (24, 20)
    assert shared.view() == image


@pytest.mark.parametrize("name", ["PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_alpha_is_kept_where_there_is_room_for_it(name: str, mode: str) -> None:
    image = pattern((24, 20), mode)
    alpha = reopened(encode(image, format=name)).convert("RGBA").getchannel("A")
    assert difference(alpha, image.convert("RGBA").getchannel("A")) < 3


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA"])
@pytest.mark.parametrize("name", ["jpg", "bmp"])
def test_what_knows_no_transparency_is_laid_on_white(name: str, mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (16, 16), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.info["transparency"] = 1
    else:
        image = image.convert(mode)
    written = reopened(encode(image, format=name)).convert("RGB")
    assert min(low for low, _ in written.getextrema()) > 250  # type: ignore[misc]


def test_grey_stays_grey() -> None:
    assert reopened(encode(pattern(mode="LA"), format="JPEG")).mode == "L"
    assert reopened(encode(pattern(mode="I;16"), format="JPEG")).mode == "L"
    assert reopened(encode(pattern(mode="I;16"), format="PNG")).mode == "I;16"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_profile_and_exif_are_kept(name: str) -> None:
    image = pattern()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    image.info.update(icc_profile=profile, exif=exif.tobytes())
    written = reopened(encode(image, format=name))
    assert written.info["icc_profile"] == profile
    assert written.getexif()[ExifTags.Base.Artist] == "somebody"


def test_exif_that_no_jpeg_can_hold_is_left_out() -> None:
    image = pattern()
    image.info["exif"] = b"Exif\0\0" + bytes(70_000)
    assert reopened(encode(image, format="JPEG")).size == (64, 48)


def test_a_better_quality_is_nearer_and_larger() -> None:
    image = pattern((128, 96))
    for name in ("JPEG", "WEBP", "AVIF"):
        low, high = encode(image, format=name, quality=20), encode(image, format=name, quality=95)
        assert len(low) < len(high)
        assert difference(reopened(low), image) > difference(reopened(high), image)


@pytest.mark.parametrize(("said", "name"), [("jpg", "JPEG"), (".Jpeg", "JPEG"), ("tif", "TIFF"), (" webp ", "WEBP")])
def test_formats_go_by_their_usual_names(said: str, name: str) -> None:
    assert check_format(said) == name
    assert sniff(encode(pattern(), format=said)) == name


@pytest.mark.parametrize("wrong", ["", "exe", "PDF", "EPS", "SVG", "HTML"])
def test_unknown_formats_are_refused_at_the_call(wrong: str) -> None:
    for call in (check_format, Encoding, FormatCacheSerializer):
        with pytest.raises(ValueError, match="can be written as"):
            call(wrong)
    with pytest.raises(ValueError, match="can be written as"):
        encode(pattern(), format=wrong)
    with pytest.raises(TypeError):
        check_format(3)  # type: ignore[arg-type]


def test_impossible_qualities_are_refused_at_the_call() -> None:
    for name, quality in (("JPEG", 0), ("JPEG", 101), ("PNG", 80), ("GIF", 1)):
        with pytest.raises(ValueError, match="quality"):
            Encoding(name, quality)
    with pytest.raises(TypeError):
        Encoding("JPEG", 80.5)  # type: ignore[arg-type]


def test_a_format_that_this_pillow_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecache.imaging.encode.features.check", lambda name: False)
    with pytest.raises(ValueError, match="built without AVIF"):
        check_format("avif")
    assert check_format("PNG") == "PNG"


def test_what_cannot_be_written_is_our_error_with_its_cause() -> None:
    with pytest.raises(EncodeError) as caught:
        encode(Image.new("RGB", (20_000, 1)), format="WEBP", url=URL)  # 16,383 is the most a WebP has
    assert caught.value.url == URL
    assert caught.value.__cause__ is not None


def test_encodings_are_values_with_stable_names() -> None:
    assert Encoding("jpg") == Encoding("JPEG", 90)
    assert Encoding("webp", 80).identifier == "WEBP(80)"
    assert Encoding("PNG").identifier == "PNG"
    assert Encoding("PNG").encode(pattern()) == encode(pattern(), format="PNG")


def test_the_serializer_is_lossless_unless_told_otherwise() -> None:
    serializer: CacheSerializer = FormatCacheSerializer()
    assert isinstance(serializer, CacheSerializer)
    assert serializer.identifier == "PNG"
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = pattern(mode=mode)
        assert reopened(serializer.serialize(image)).tobytes() == image.tobytes()
    assert FormatCacheSerializer("jpg", 80).identifier == "JPEG(80)"
    assert sniff(FormatCacheSerializer("jpg", 80).serialize(pattern(mode="RGBA"))) == "JPEG"
