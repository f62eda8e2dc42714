"""Processors do what Kingfisher's do, keep what an image carries, and have names that last."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import ExifTags, Image, ImageCms

from imagecache import (
    BlackWhite,
    Blur,
    Border,
    Circle,
    ColorControls,
    Crop,
    Custom,
    Downsample,
    Overlay,
    Resize,
    RoundCorners,
    Tint,
)
from imagecache.imaging.processors.chain import identifier_of, prefixes
from imagecache.imaging.shared import SharedImage
from imagecache.protocols import ImageProcessor

from .samples import MODES, difference, pattern

SIMPLE_MODES = ("L", "LA", "RGB", "RGBA")

PROCESSORS: list[ImageProcessor] = [
    Downsample(20, 20),
    Resize(30, 30),
    Resize(30, 30, "aspect_fit"),
    Resize(30, 30, "aspect_fill"),
    Crop(20, 20),
    RoundCorners(8),
    RoundCorners(8, ("top_left", "bottom_right"), "white"),
    RoundCorners(8, background=(10, 20, 30, 128)),
    Circle(),
    Circle("navy"),
    Blur(2),
    Border(3, "red", 6),
    Border(2, (0, 0, 0, 100)),
    Overlay("red", 0.3),
    Tint((0, 0, 255, 90)),
    ColorControls(0.1, 1.2, 0.5, 0.3),
    BlackWhite(),
    Custom("itself", lambda image: image),
]
by_name = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda processor: processor.identifier)


def pixel(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    found = image.convert("RGBA").getpixel(at)
    assert isinstance(found, tuple)
    return found


# For every processor


@by_name
@pytest.mark.parametrize("mode", SIMPLE_MODES)
def test_the_modes_stay_simple_and_alpha_is_kept(processor: ImageProcessor, mode: str) -> None:
    made = processor.process(pattern(mode=mode))
    assert made.mode in SIMPLE_MODES
    if mode in ("LA", "RGBA") and not (isinstance(processor, RoundCorners | Circle) and processor.background):
        assert made.mode in ("LA", "RGBA")
        assert made.getchannel("A").getextrema()[0] < 255  # type: ignore[operator]


@by_name
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_processed(processor: ImageProcessor, mode: str) -> None:
    processor.process(pattern(mode=mode)).tobytes()


@by_name
def test_the_shared_image_does_not_change(processor: ImageProcessor) -> None:
    shared, plain = SharedImage(pattern()), pattern()
    processor.process(shared.image())
    assert shared.view() == plain


@by_name
def test_profile_and_exif_are_kept(processor: ImageProcessor) -> None:
    image = pattern()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    image.info.update(icc_profile=profile, exif=exif.tobytes())
    made = processor.process(image)
    assert made.getexif()[ExifTags.Base.Artist] == "somebody"
    assert made.info.get("icc_profile") == (None if made.mode in ("L", "LA") else profile)


@by_name
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_the_smallest_images_are_processed(processor: ImageProcessor, size: tuple[int, int]) -> None:
    made = processor.process(Image.new("RGBA", size, "red"))
    assert min(made.size) >= 1


@by_name
def test_processors_are_values(processor: ImageProcessor) -> None:
    assert isinstance(processor, ImageProcessor)
    assert hash(processor) == hash(processor)
    assert processor.identifier == processor.identifier != ""


def test_no_two_processors_have_one_name() -> None:
    names = [processor.identifier for processor in PROCESSORS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        (Downsample(300, 200), "Downsample(300,200)"),
        (Resize(3, 2, "aspect_fill"), "Resize(3,2,aspect_fill)"),
        (Crop(3, 2, (0.1 + 0.2, 1)), "Crop(3,2,(0.3,1))"),
        (RoundCorners(20), "RoundCorners(20,all,None)"),
        (RoundCorners(20, ("top_right", "top_left"), "red"), "RoundCorners(20,top_left+top_right,(255,0,0,255))"),
        (Circle(), "Circle(None)"),
        (Blur(2), "Blur(2)"),
        (Blur(2.5), "Blur(2.5)"),
        (Border(), "Border(4,(0,0,0,255),0)"),
        (Overlay("#f00"), "Overlay((255,0,0,255),0.5)"),
        (Tint("rgb(0,0,255)"), "Tint((0,0,255,255))"),
        (ColorControls(contrast=2), "ColorControls(0,2,1,0)"),
        (BlackWhite(), "BlackWhite()"),
        (Custom("mine", lambda image: image), "mine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_last(processor: ImageProcessor, name: str) -> None:
    assert processor.identifier == name


@by_name
def test_a_copy_has_the_same_name(processor: ImageProcessor) -> None:
    assert copy.copy(processor).identifier == processor.identifier
    if not isinstance(processor, Custom):
        assert pickle.loads(pickle.dumps(processor)).identifier == processor.identifier


def test_what_is_replaced_has_another_name() -> None:
    assert replace(Blur(2), radius=3).identifier == "Blur(3)"


class Avatar(Downsample):
    """Of a program, which says by itself what it does."""

    @property
    def identifier(self) -> str:
        return f"Avatar of {self.width}"


class Small(Downsample):
    """Of a program."""


def test_a_subclass_has_a_name_of_its_own() -> None:
    assert Avatar(30, 20).identifier == "Avatar of 30"
    assert Small(30, 20).identifier == "Small(30,20)"


def test_one_colour_has_one_name() -> None:
    assert Tint("red") == Tint("#FF0000") == Tint((255, 0, 0)) == Tint((255, 0, 0, 255))
    assert Tint(0) == Tint("black")


WRONG: list[tuple[Callable[[], object], type[Exception]]] = [
    (lambda: Downsample(0, 5), ValueError),
    (lambda: Downsample(5.0, 5), TypeError),  # type: ignore[arg-type]
    (lambda: Resize(5, -1), ValueError),
    (lambda: Resize(5, 5, "fill"), ValueError),  # type: ignore[arg-type]
    (lambda: Crop(True, 5), TypeError),
    (lambda: Crop(5, 5, (0.5,)), TypeError),  # type: ignore[arg-type]
    (lambda: Crop(5, 5, (0.5, float("nan"))), ValueError),
    (lambda: RoundCorners(0), ValueError),
    (lambda: RoundCorners(5, ()), ValueError),
    (lambda: RoundCorners(5, ("left",)), ValueError),  # type: ignore[arg-type]
    (lambda: RoundCorners(5, background="no-colour"), ValueError),
    (lambda: Circle(object()), TypeError),  # type: ignore[arg-type]
    (lambda: Blur(-1), ValueError),
    (lambda: Blur("2"), TypeError),  # type: ignore[arg-type]
    (lambda: Blur(float("inf")), ValueError),
    (lambda: Border(0), ValueError),
    (lambda: Border(1, (1, 2)), ValueError),
    (lambda: Overlay((256, 0, 0)), ValueError),
    (lambda: Overlay("red", 1.5), ValueError),
    (lambda: Tint(None), TypeError),  # type: ignore[arg-type]
    (lambda: ColorControls(brightness=2), ValueError),
    (lambda: ColorControls(contrast=-1), ValueError),
    (lambda: Custom("", lambda image: image), ValueError),
    (lambda: Custom("a|>b", lambda image: image), ValueError),
    (lambda: Custom("a", None), TypeError),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "error"), WRONG)
def test_wrong_arguments_are_refused_when_they_are_given(make: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


# One by one


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("none", (100, 50), (100, 50)),
        ("aspect_fit", (100, 50), (50, 50)),
        ("aspect_fill", (100, 50), (100, 100)),
        ("none", (20, 20), (20, 20)),
        ("aspect_fit", (200, 300), (200, 200)),
        ("aspect_fill", (10, 30), (30, 30)),
    ],
)
def test_resize_as_kingfisher_does(mode: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Resize(*size, mode).process(pattern((64, 64))).size == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [(40, 40), (20, 60), (64, 64), (100, 100), (1, 1)])
def test_downsample_fits_and_never_enlarges(asked: tuple[int, int]) -> None:
    side = min(64, *asked)
    assert Downsample(*asked).process(pattern((64, 64))).size == (side, side)


def test_downsample_looks_like_a_fair_reduction() -> None:
    image = pattern((800, 600))
    fair = image.resize((100, 75), Image.Resampling.LANCZOS)
    assert difference(Downsample(100, 100).process(image), fair) < 1


ANCHORS = {0.0: 0, 0.5: 40, 1.0: 80, -1.0: 0, 2.0: 80}


@pytest.mark.parametrize(("x", "y"), list(itertools.product(ANCHORS, ANCHORS)))
def test_crop_is_anchored(x: float, y: float) -> None:
    left, top = ANCHORS[x], ANCHORS[y]
    assert Crop(20, 20, (x, y)).box_in((100, 100)) == (left, top, left + 20, top + 20)


@pytest.mark.parametrize(
    ("asked", "anchor", "box"),
    [
        ((120, 20), (0.5, 0.5), (0, 40, 100, 60)),
        ((20, 120), (0, 1), (0, 0, 20, 100)),
        ((120, 120), (0.5, 0.5), (0, 0, 100, 100)),
        ((100, 100), (1, 1), (0, 0, 100, 100)),
        ((100, 30), (0.3, 1), (0, 70, 100, 100)),
        ((33, 33), (0.25, 0.75), (17, 50, 50, 83)),
    ],
)
def test_crop_stays_inside(asked: tuple[int, int], anchor: tuple[float, float], box: tuple[int, int, int, int]) -> None:
    assert Crop(*asked, anchor).box_in((100, 100)) == box
    made = Crop(*asked, anchor).process(pattern((100, 100)))
    assert made == pattern((100, 100)).crop(box)


def test_corners_are_round_and_smooth() -> None:
    made = RoundCorners(20).process(Image.new("RGB", (100, 60), "red"))
    alpha = made.getchannel("A")
    assert made.mode == "RGBA"
    assert [alpha.getpixel(at) for at in ((0, 0), (99, 0), (0, 59), (99, 59))] == [0, 0, 0, 0]
    assert [alpha.getpixel(at) for at in ((50, 0), (0, 30), (20, 0), (50, 30))] == [255] * 4
    between = {level for level in alpha.tobytes() if 0 < level < 255}
    assert len(between) > 8
    covered = sum(alpha.tobytes()) / 255
    assert covered == pytest.approx(100 * 60 - (4 - 3.14159) * 20 * 20, rel=0.003)


def test_only_the_named_corners_are_round() -> None:
    made = RoundCorners(10, ("top_right", "bottom_left")).process(Image.new("L", (40, 40), 9))
    assert made.mode == "LA"
    alpha = made.getchannel("A")
    assert [alpha.getpixel(at) for at in ((0, 0), (39, 0), (39, 39), (0, 39))] == [255, 0, 255, 0]


def test_a_background_fills_what_is_cut_off() -> None:
    made = RoundCorners(20, background="blue").process(Image.new("RGB", (60, 60), "red"))
    assert made.mode == "RGB"
    assert (pixel(made, (0, 0)), pixel(made, (30, 30))) == ((0, 0, 255, 255), (255, 0, 0, 255))
    through = RoundCorners(1, background="blue").process(Image.new("RGBA", (60, 60), (255, 0, 0, 0)))
    assert pixel(through, (30, 30)) == (0, 0, 255, 255)


def test_the_largest_radius_makes_a_circle() -> None:
    square = Image.new("RGB", (64, 64), "red")
    assert difference(RoundCorners(1000).process(square), Circle().process(square)) < 1


def test_a_circle_is_cut_from_the_middle() -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("lime", (30, 0, 60, 30))
    made = Circle().process(wide)
    assert made.size == (30, 30)
    assert pixel(made, (15, 15)) == (0, 255, 0, 255)
    assert pixel(made, (0, 0))[3] == 0


def test_blur_evens_out_and_does_not_bleed_hidden_colours() -> None:
    assert Blur(0).process(pattern()) == pattern()
    half = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    half.paste((0, 255, 0, 255), (20, 0, 40, 40))
    made = Blur(4).process(half)
    red, green, _, alpha = pixel(made, (19, 20))
    assert 0 < alpha < 255
    assert red == 0
    assert green > 250


def test_a_border_is_inside_of_the_edges() -> None:
    made = Border(4, "red").process(Image.new("RGB", (40, 40), "white"))
    assert made.size == (40, 40)
    red, white = (255, 0, 0, 255), (255, 255, 255, 255)
    assert [pixel(made, at) for at in ((0, 0), (3, 20), (4, 20), (39, 39))] == [red, red, white, red]
    rounded = Border(4, "red", 15).process(Image.new("RGB", (40, 40), "white"))
    assert [pixel(rounded, at) for at in ((0, 0), (3, 20), (20, 20))] == [white, red, white]
    whole = Border(50, "red").process(Image.new("RGB", (40, 40), "white"))
    assert pixel(whole, (20, 20)) == red


def test_an_overlay_covers_at_0_and_vanishes_at_1() -> None:
    image = pattern(mode="RGBA")
    assert Overlay("red", 1).process(image) == image
    covered = Overlay("red", 0).process(image)
    assert covered.convert("RGB").getcolors() == [(64 * 48, (255, 0, 0))]
    assert covered.getchannel("A") == image.getchannel("A")


def test_a_tint_colours_the_transparent_parts_too() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert pixel(Tint((255, 0, 0, 128)).process(clear), (1, 1)) == (255, 0, 0, 128)
    white = Image.new("RGB", (4, 4), "white")
    assert pixel(Tint((255, 0, 0, 51)).process(white), (1, 1)) == (255, 204, 204, 255)
    assert Tint((9, 9, 9, 100)).process(Image.new("LA", (4, 4))).mode == "LA"


def test_controls_that_change_nothing_change_nothing() -> None:
    for mode in SIMPLE_MODES:
        assert ColorControls().process(pattern(mode=mode)) == pattern(mode=mode)


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (ColorControls(brightness=0.2), 151),
        (ColorControls(contrast=2), 73),
        (ColorControls(exposure=1), 200),
        (ColorControls(exposure=-1), 50),
        (ColorControls(brightness=1), 255),
        (ColorControls(brightness=-1), 0),
    ],
)
def test_controls_move_the_levels(controls: ColorControls, expected: int) -> None:
    assert controls.process(Image.new("L", (2, 2), 100)).getpixel((0, 0)) == pytest.approx(expected, abs=1)


def test_black_and_white_has_no_colour_and_more_light() -> None:
    made = BlackWhite().process(pattern(mode="RGBA"))
    assert made.mode == "LA"
    grey = pattern(mode="L")
    assert sum(made.getchannel("L").tobytes()) > sum(grey.tobytes())


def test_a_function_is_a_processor() -> None:
    flip = Custom("flip", lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert flip.process(pattern()) == pattern().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert flip == Custom("flip", lambda image: image)


def test_chains_have_names_and_beginnings() -> None:
    chain = (Downsample(30, 20), RoundCorners(5), Blur(2))
    assert identifier_of(chain) == "Downsample(30,20)|>RoundCorners(5,all,None)|>Blur(2)"
    assert identifier_of(()) == ""
    assert prefixes(chain) == ((), chain[:1], chain[:2], chain)


def test_three_processors_follow_each_other() -> None:
    image = pattern((100, 100))
    for processor in (Resize(50, 50), Crop(20, 20), RoundCorners(10)):
        image = processor.process(image)
    assert (image.size, image.mode) == ((20, 20), "RGBA")
