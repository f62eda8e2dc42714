"""Generated pictures are what they say, quick to make, and the same for the same seed."""

import io
from collections import Counter

import pytest
from PIL import Image, ImageOps

from imagecache.testing import picture, picture_set
from imagecache.testing.pictures import draw


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    assert picture(seed=5) == picture(seed=5)
    assert len({picture(seed=seed) for seed in range(20)}) == 20


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_mode_it_holds(mode: str) -> None:
    image = opened(picture(40, 30, mode=mode))
    assert (image.format, image.mode, image.size) == ("PNG", mode, (40, 30))


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16B"],
)
def test_drawn_in_any_mode_of_pillow(mode: str) -> None:
    assert draw(20, 10, mode=mode).mode == mode


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (300, 1), (3, 2)])
def test_tiny_and_odd_sizes(width: int, height: int) -> None:
    assert opened(picture(width, height)).size == (width, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright_every_orientation_shows_the_same_picture(orientation: int) -> None:
    stored = opened(picture(40, 30, exif_orientation=orientation))
    assert stored.size == ((30, 40) if orientation >= 5 else (40, 30))
    assert ImageOps.exif_transpose(stored).tobytes() == draw(40, 30).tobytes()


def test_an_orientation_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        picture(exif_orientation=9)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_animations_move(format: str) -> None:
    image = opened(picture(60, 40, format=format, frames=3))
    assert getattr(image, "n_frames", 1) == 3
    shown = []
    for index in range(3):
        image.seek(index)
        shown.append(image.convert("RGB").tobytes())
    assert len(set(shown)) == 3


def test_alpha_runs_from_clear_to_solid() -> None:
    alpha = opened(picture(mode="RGBA")).getchannel("A").tobytes()
    assert min(alpha) == 0
    assert max(alpha) > 250


def test_options_go_to_the_writer() -> None:
    assert len(picture(200, 200, format="JPEG", quality=20)) < len(picture(200, 200, format="JPEG", quality=95))


def test_a_set_is_mixed_and_decodes() -> None:
    pictures = picture_set(33, seed=7)
    assert pictures == picture_set(33, seed=7)
    assert len(set(pictures.values())) == 33
    images = [opened(data) for data in pictures.values()]
    assert {image.format for image in images} == {"JPEG", "PNG", "WEBP", "GIF"}
    assert {"RGB", "RGBA", "L", "CMYK", "P"} <= {image.mode for image in images}
    assert any(image.getexif().get(0x0112, 1) > 1 for image in images)
    assert any(getattr(image, "n_frames", 1) > 1 for image in images)
    assert max(Counter(image.size for image in images).values()) < 10
    suffixes = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
    for path, image in zip(pictures, images, strict=True):
        assert path.endswith(suffixes[image.format or ""])
