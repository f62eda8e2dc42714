"""A cached image never changes, whatever is done with what was handed out; and what was handed out is an image."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import logging
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    ImageDraw,
    ImageEnhance,
    ImageFile,
    ImageFilter,
    ImageMath,
    ImageMorph,
    ImageOps,
    ImagePalette,
    ImageSequence,
    ImageStat,
    _imaging,
)
from PIL.Image import ImageTransformHandler
from PIL.PngImagePlugin import PngInfo, iTXt

from imagecache.imaging import view as view_module
from imagecache.imaging.shared import SharedImage, cost
from imagecache.imaging.view import ImageView, share_pixels, views_are_safe

from .samples import MODES, animated, decoded, pattern, sample, saved

if TYPE_CHECKING:
    from PIL._imaging import ImagingCore

SIZE = (20, 16)


class NotThisModeError(Exception):
    """Pillow does not do this with this mode, with a plain image either."""


def master_of(mode: str) -> tuple[Image.Image, SharedImage]:
    """What every view must look like for ever, and the shared image."""
    image = pattern(SIZE, mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    image.info.update(dpi=(72, 72), exif=exif.tobytes(), nested={"list": [1, 2]})
    if mode == "P":
        image.info["transparency"] = 5
    image.load()
    return copy.deepcopy(image), SharedImage(image)


def colour_of(image: Image.Image) -> object:
    """A colour for this mode that the picture does not have at (0, 0)."""
    bands = len(image.getbands())
    if image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16"):
        return 1 if image.getpixel((0, 0)) != 1 else 0
    return tuple([7] * bands)


# What changes an image. Each is done to one view; the next one must not notice.


def by_paste(image: Image.Image) -> None:
    image.paste(Image.new(image.mode, (5, 5)), (1, 1))


def by_paste_colour(image: Image.Image) -> None:
    image.paste(colour_of(image), (0, 0, 5, 5))  # type: ignore[arg-type]


def by_putpixel(image: Image.Image) -> None:
    image.putpixel((0, 0), colour_of(image))  # type: ignore[arg-type]


def by_palette_colour(image: Image.Image) -> None:
    if image.mode not in ("P", "PA"):
        raise NotThisModeError
    image.putpixel((0, 0), (3, 254, 7))


def by_access(image: Image.Image) -> None:
    access = image.load()
    assert access is not None
    before = access[0, 0]
    access[0, 0] = colour_of(image)  # type: ignore[assignment]
    assert access[0, 0] != before
    assert access[0, 0] == image.getpixel((0, 0))


def by_drawing(image: Image.Image) -> None:
    ImageDraw.Draw(image).line((0, 0, 19, 15), fill=colour_of(image), width=3)  # type: ignore[arg-type]


def by_drawing_palette_colours(image: Image.Image) -> None:
    if image.mode != "P":
        raise NotThisModeError
    ImageDraw.Draw(image).rectangle((0, 0, 9, 9), fill=(1, 250, 3))
    image.load()


def by_palette_object(image: Image.Image) -> None:
    if image.mode not in ("P", "PA") or image.palette is None:
        raise NotThisModeError
    image.palette.getcolor((9, 251, 13), image)
    image.load()


def by_palette_bytes(image: Image.Image) -> None:
    if image.mode not in ("P", "PA") or image.palette is None:
        raise NotThisModeError
    image.palette.palette = b"\x11" * 768
    image.palette.dirty = 1
    image.load()


def by_floodfill(image: Image.Image) -> None:
    ImageDraw.floodfill(image, (0, 0), colour_of(image))  # type: ignore[arg-type]


def by_thumbnail(image: Image.Image) -> None:
    image.thumbnail((7, 7))


def by_putalpha(image: Image.Image) -> None:
    image.putalpha(9)


def by_putalpha_image(image: Image.Image) -> None:
    image.putalpha(Image.new("L", image.size, 8))


def by_putdata(image: Image.Image) -> None:
    # Any: where NumPy is installed, Pillow's own types say otherwise than where it is not.
    colour: Any = colour_of(image)
    image.putdata([colour] * 50)


def by_putpalette(image: Image.Image) -> None:
    image.putpalette(bytes(range(255, -1, -1)) * 3)


def by_putpalette_object(image: Image.Image) -> None:
    image.putpalette(ImagePalette.ImagePalette("RGB", bytes(768)))


def by_frombytes(image: Image.Image) -> None:
    image.frombytes(bytes(len(image.tobytes())))


def by_apply_transparency(image: Image.Image) -> None:
    image.apply_transparency()
    image.load()


def by_alpha_composite(image: Image.Image) -> None:
    image.alpha_composite(Image.new(image.mode, (6, 6), tuple([99] * len(image.getbands()))), (2, 2))


def by_colour_profile(image: Image.Image) -> None:
    srgb = ImageCms.createProfile("sRGB")
    other = ImageCms.createProfile("LAB")
    if image.mode == "LAB":
        ImageCms.profileToProfile(image, other, other, inPlace=True)
    elif image.mode in ("RGB", "RGBA", "RGBX"):
        transform = ImageCms.buildTransform(srgb, ImageCms.createProfile("sRGB"), image.mode, image.mode)
        ImageCms.applyTransform(image, transform, inPlace=True)
        ImageCms.profileToProfile(image, srgb, srgb, outputMode=image.mode, inPlace=True)
    else:
        raise NotThisModeError


def by_pointer(image: Image.Image) -> None:
    """What an extension module would do: take the pointer, write through it."""
    pointer = image.getim()
    assert pointer
    image.im.paste(0 if image.im.bands == 1 else tuple([3] * image.im.bands), (0, 0, 4, 4))


def by_core(image: Image.Image) -> None:
    image.im.putpixel((0, 0), colour_of(image))


def by_core_in_another_mode(image: Image.Image) -> None:
    if image.mode != "RGBA":
        raise NotThisModeError
    image.im.setmode("RGB")
    image._mode = "RGB"


def by_sequence(image: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sequence = image.getdata()
    sequence.putpixel((0, 0), colour_of(image))


def by_saying_that_it_may(image: Image.Image) -> None:
    image.readonly = 0
    image.putpixel((0, 0), colour_of(image))  # type: ignore[arg-type]


def by_pixels_lent_to_another_library(image: Image.Image) -> None:
    lent = Image.fromarrow(image, image.mode, image.size)
    lent.frombytes(bytes(len(lent.tobytes())))


class Scribble(ImageFilter.Filter):
    """A user's own filter."""

    name = "Scribble"

    def filter(self, image: ImagingCore) -> ImagingCore:
        image.putpixel((0, 0), 1 if image.bands == 1 else (1,) * image.bands)
        made: ImagingCore = image.copy()
        return made


def by_a_filter_of_ones_own(image: Image.Image) -> None:
    if len(image.getbands()) > 1:
        # Such a filter gets a copy of each band in turn.
        raise NotThisModeError
    image.filter(Scribble())


class ScribbleOnAll(Scribble, ImageFilter.MultibandFilter):
    """One that gets all bands at once."""


def by_a_filter_of_all_bands(image: Image.Image) -> None:
    image.filter(ScribbleOnAll())


class Pen(ImageTransformHandler):
    """A user's own transformation."""

    def transform(
        self, size: tuple[int, int], image: Image.Image, **options: str | int | tuple[int, ...] | list[int]
    ) -> Image.Image:
        image.putpixel((0, 0), colour_of(image))  # type: ignore[arg-type]
        return image.copy()


def by_a_transformation_of_ones_own(image: Image.Image) -> None:
    image.transform(image.size, Pen())


def by_transparent_colours(image: Image.Image) -> None:
    if image.mode != "P":
        raise NotThisModeError
    for transparency in (3, b"\x07" * 40):
        image.info["transparency"] = transparency
        for mode in ("RGBA", "LA", "PA"):
            image.convert(mode)
    saved(image, "WEBP")


def by_state(image: Image.Image) -> None:
    image.__setstate__([{}, image.mode, image.size, image.getpalette(), bytes(len(image.tobytes()))])


def by_bands(image: Image.Image) -> None:
    for band in image.split():
        band.paste(1, (0, 0, 9, 9))


def by_what_was_made_of_it(image: Image.Image) -> None:
    """Nothing that Pillow makes of an image is around its pixels, even where nothing had to be done."""
    for made in (
        image.crop((0, 0, *image.size)), image.crop(), image.copy(), image.resize(image.size), image.rotate(0),
        image.convert(image.mode), ImageOps.exif_transpose(image), ImageOps.contain(image, image.size),
        ImageChops.duplicate(image), Image.composite(image, image, Image.new("1", image.size)), copy.copy(image),
    ):  # fmt: skip
        assert made is not None
        made.paste(colour_of(made), (0, 0, 9, 9))  # type: ignore[arg-type]
        access = made.load()
        assert access is not None
        access[1, 1] = colour_of(made)  # type: ignore[assignment]


def by_seeking(image: Image.Image) -> None:
    image.seek(0)
    for frame in ImageSequence.Iterator(image):
        frame.putpixel((0, 0), colour_of(frame))  # type: ignore[arg-type]


def by_saving(image: Image.Image) -> None:
    for file_format in ("GIF", "PNG", "WEBP", "JPEG", "TIFF", "BMP", "ICO", "PDF"):
        with contextlib.suppress(Exception):  # Many a format does not hold many a mode.
            image.save(io.BytesIO(), file_format)


def by_turning_upright(image: Image.Image) -> None:
    image.getexif()[ExifTags.Base.Orientation] = 6
    ImageOps.exif_transpose(image, in_place=True)


def by_info(image: Image.Image) -> None:
    image.info["nested"]["list"].append(3)
    image.info["dpi"] = (1, 1)
    del image.info["exif"]


def by_exif(image: Image.Image) -> None:
    exif = image.getexif()
    exif[ExifTags.Base.Artist] = "somebody else"
    image.info["exif"] = exif.tobytes()


def by_close(image: Image.Image) -> None:
    image.close()
    with pytest.raises(ValueError, match="closed"):
        image.load()


def by_attributes(image: Image.Image) -> None:
    image.format = "NONE"
    image.info = {}
    image.palette = None


def by_new_pixels(image: Image.Image) -> None:
    image.im = Image.new(image.mode, SIZE).im
    image.putpixel((0, 0), colour_of(image))  # type: ignore[arg-type]


CHANGES: list[Callable[[Image.Image], None]] = [value for name, value in globals().items() if name.startswith("by_")]


# What only reads. It must give what a plain image gives.

READS: dict[str, Callable[[Image.Image], object]] = {
    "tobytes": lambda image: image.tobytes(),
    "getdata": lambda image: image.getpixel((3, 4)),
    "getpalette": lambda image: image.getpalette(),
    "extrema": lambda image: image.getextrema(),
    "histogram": lambda image: image.histogram(),
    "getbbox": lambda image: image.getbbox(),
    "getcolors": lambda image: image.getcolors(100_000),
    "array": lambda image: image.__array_interface__,
    "png": lambda image: saved(image, "PNG"),
    "tiff": lambda image: saved(image, "TIFF"),
    "copy": lambda image: image.copy(),
    "resize": lambda image: image.resize((9, 7)),
    "reduce": lambda image: image.reduce(2),
    "crop": lambda image: image.crop((1, 2, 9, 9)),
    "rotate": lambda image: image.rotate(33, expand=True),
    "transpose": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "transform": lambda image: image.transform(SIZE, Image.Transform.AFFINE, (1, 0, 2, 0, 1, 1)),
    "convert L": lambda image: image.convert("L"),
    "convert RGB": lambda image: image.convert("RGB"),
    "convert RGBA": lambda image: image.convert("RGBA"),
    "point": lambda image: image.point(lambda value: value * 1),
    "filter": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "effect": lambda image: image.effect_spread(0),
    "split": lambda image: [band.tobytes() for band in image.split()],
    "quantize": lambda image: image.quantize(8),
    "remap_palette": lambda image: image.remap_palette(list(range(255, -1, -1))),
    "enhance": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "chops": ImageChops.invert,
    "add": lambda image: ImageChops.add(image, image),
    "blend": lambda image: Image.blend(image, Image.new(image.mode, image.size), 0.5),
    "composite": lambda image: Image.composite(image, image, Image.new("L", image.size, 9)),
    "alpha_composite": lambda image: Image.alpha_composite(image, image),
    "math": lambda image: ImageMath.lambda_eval(lambda args: args["a"] * 2, a=image),
    "morph": lambda image: ImageMorph.MorphOp(op_name="dilation4").apply(image)[1],
    "expand": lambda image: ImageOps.expand(image, 2),
    "autocontrast": ImageOps.autocontrast,
    "fit": lambda image: ImageOps.fit(image, (5, 5)),
    "exif_transpose": ImageOps.exif_transpose,
    "stat": lambda image: ImageStat.Stat(image).mean,
    "profile": lambda image: ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    ),
    "exif": lambda image: dict(image.getexif()),
    "has_transparency_data": lambda image: image.has_transparency_data,
    "repr": lambda image: repr(image).partition(" at ")[0],
    "class": lambda image: image.__class__,
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda image: pickle.loads(pickle.dumps(image)),
    "pickle 2": lambda image: pickle.loads(pickle.dumps(image, protocol=2)),
    "size": lambda image: (image.size, image.width, image.height, image.mode, image.format, image.info),
}


def outcome(read: Callable[[Image.Image], object], image: Image.Image) -> object:
    try:
        found = read(image)
    except Exception as error:  # Whatever a plain image raises, a view raises as well.
        return type(error)
    if not isinstance(found, Image.Image):
        return found
    # The profiles that Pillow makes for LAB carry the time of day.
    info = {key: value for key, value in found.info.items() if image.mode != "LAB" or key != "icc_profile"}
    return type(found), found.mode, found.size, found.getpalette(), found.tobytes(), info


def outcome_image(read: Callable[[Image.Image], object], image: Image.Image) -> Image.Image | None:
    try:
        found = read(image)
    except Exception:  # As above.
        return None
    return found if isinstance(found, Image.Image) else None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_one_view_is_not_seen_in_the_next(mode: str, change: Callable[[Image.Image], None]) -> None:
    plain, shared = master_of(mode)
    earlier = shared.view()
    changed, reference = shared.view(), copy.deepcopy(plain)
    reference.load()
    try:
        change(reference)
    except Exception:  # Not to be had with this mode.
        change_is_possible = False
    else:
        change_is_possible = True
    try:
        change(changed)
    except Exception:
        if change_is_possible:
            raise
    for view in (earlier, shared.view(), shared.image()):
        assert view == plain
        assert view.tobytes() == plain.tobytes()
        assert view.getpalette() == plain.getpalette()
        if mode == "P":
            assert view.getpalette(None) == plain.getpalette(None)
            assert view.convert("RGBA").tobytes() == plain.copy().convert("RGBA").tobytes()
            assert share_pixels(view, shared.view())
        assert view.info == plain.info
        assert view.getexif()[ExifTags.Base.Artist] == "somebody"
    if change_is_possible and change is not by_close:
        assert outcome(lambda i: i.tobytes(), changed) == outcome(lambda i: i.tobytes(), reference)
        assert outcome(lambda i: i.getpalette(), changed) == outcome(lambda i: i.getpalette(), reference)
        assert changed.size == reference.size
        assert changed.mode == reference.mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", READS)
def test_reading_gives_what_a_plain_image_gives(mode: str, name: str) -> None:
    if (mode, name) == ("LAB", "convert RGBA"):
        # Pillow leaves the alpha of this conversion as it finds it in memory.
        name = "convert RGB"
    plain, shared = master_of(mode)
    view = shared.view()
    assert outcome(READS[name], view) == outcome(READS[name], plain)
    made = outcome_image(READS[name], shared.view())
    assert made is None or not share_pixels(made, shared.view())
    assert view == plain
    assert shared.view() == plain


@pytest.mark.parametrize("mode", MODES)
def test_a_view_is_an_image_to_everybody(mode: str) -> None:
    plain, shared = master_of(mode)
    view = shared.view()
    assert isinstance(view, Image.Image)
    assert not isinstance(view, ImageFile.ImageFile)
    assert view == plain
    assert plain == view
    assert view == shared.view()
    assert view != Image.new("RGB", (1, 1))
    made = [view.copy(), view.crop((0, 0, 3, 3)), copy.deepcopy(view), pickle.loads(pickle.dumps(view))]
    assert {type(image) for image in made} == {Image.Image}


@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_shared_until_the_first_change(mode: str) -> None:
    _, shared = master_of(mode)
    one, other = shared.view(), shared.view()
    assert share_pixels(one, other)
    one.load()
    one.tobytes()
    one.getpixel((0, 0))
    one.copy()
    assert share_pixels(one, other)
    one.paste(other)
    assert not share_pixels(one, other)
    core = one.im
    one.paste(other)
    assert one.im is core  # copied once, not every time


def test_a_changed_view_hands_out_pillows_own_pixel_access() -> None:
    _, shared = master_of("RGB")
    view = shared.view()
    early = view.load()
    view.putpixel((0, 0), (1, 2, 3))
    access = view.load()
    assert type(access) is type(Image.new("RGB", (1, 1)).load())
    assert early is not None
    assert access is not None
    assert early[0, 0] == access[0, 0] == (1, 2, 3)


def test_drawing_goes_on_in_the_view_that_was_drawn_on() -> None:
    plain, shared = master_of("RGB")
    view = shared.view()
    draw = ImageDraw.Draw(view)
    draw.rectangle((0, 0, 3, 3), fill="red")
    draw.rectangle((4, 4, 6, 6), fill="blue")
    assert (view.getpixel((1, 1)), view.getpixel((5, 5))) == ((255, 0, 0), (0, 0, 255))
    assert shared.view() == plain


def test_whoever_holds_the_image_that_was_taken_over_cannot_change_it() -> None:
    image = pattern(SIZE)
    reference = image.copy()
    shared = SharedImage(image)
    image.putpixel((0, 0), (1, 2, 3))
    image.info["a"] = "b"
    assert shared.view() == reference


def test_a_view_can_be_taken_over_itself() -> None:
    plain, shared = master_of("RGB")
    view = shared.view()
    again = SharedImage(view)
    assert share_pixels(again.view(), shared.view())
    view.putpixel((0, 0), (1, 2, 3))
    assert again.view() == shared.view() == plain
    changed = SharedImage(view)
    view.putpixel((0, 0), (4, 5, 6))
    assert changed.view().getpixel((0, 0)) == (1, 2, 3)


def test_an_open_file_becomes_a_plain_image() -> None:
    opened = Image.open(io.BytesIO(sample("PNG")))
    shared = SharedImage(opened)
    view = shared.view()
    assert (view.format, view.size) == ("PNG", (64, 48))
    assert not {"fp", "tile", "png", "_fp"} & set(vars(view))
    opened.close()
    assert view == decoded(sample("PNG"), mode=None)


def test_texts_and_tuples_that_can_be_changed_are_each_views_own() -> None:
    image = pattern(SIZE)
    image.info.update(comment=iTXt("text", "en", "Kommentar"), extension=(b"XMP", [1, 2]))
    shared = SharedImage(image)
    image.info["extension"][1].append(3)
    image.info["comment"].lang = "de"
    changed = shared.view()
    changed.info["extension"][1].append(3)
    changed.info["comment"].lang = "fr"
    info = shared.view().info
    assert info["extension"] == (b"XMP", [1, 2])
    assert (info["comment"], info["comment"].lang, type(info["comment"])) == ("text", "en", iTXt)


class Anchor:
    """Anything that can be referred to weakly."""


UNSHARING: list[Callable[[Image.Image], None]] = [
    by_putpixel, by_paste, by_access, by_thumbnail, by_frombytes, by_close, by_drawing, by_pointer, by_putalpha,
    by_turning_upright, by_new_pixels,
]  # fmt: skip


@pytest.mark.parametrize("change", UNSHARING, ids=lambda change: change.__name__)
def test_an_anchor_lives_as_long_as_the_pixels_are_shared(change: Callable[[Image.Image], None]) -> None:
    _, shared = master_of("RGB")
    anchor = Anchor()
    gone = weakref.ref(anchor)
    view = shared.view(anchor)
    del anchor
    view.tobytes()
    gc.collect()
    assert gone() is not None
    change(view)
    gc.collect()
    assert gone() is None


def test_an_anchor_goes_with_its_view() -> None:
    _, shared = master_of("P")
    anchor = Anchor()
    gone = weakref.ref(anchor)
    view = shared.view(anchor)
    del anchor
    assert gone() is not None
    del view
    gc.collect()
    assert gone() is None


def test_a_view_outlives_the_shared_image() -> None:
    plain, shared = master_of("RGB")
    gone = weakref.ref(shared)
    view = shared.view()
    del shared
    gc.collect()
    assert gone() is None
    assert view == plain


@pytest.mark.parametrize(
    ("mode", "each"),
    [("1", 1), ("L", 1), ("I;16", 2), ("LA", 4), ("RGB", 4), ("RGBA", 4), ("CMYK", 4), ("I", 4), ("F", 4)],
)
def test_the_cost_is_what_pillow_holds(mode: str, each: int) -> None:
    image = pattern(SIZE, mode)
    assert cost(image) == 20 * 16 * each
    shared = SharedImage(image)
    assert (shared.cost, shared.size, shared.mode) == (20 * 16 * each, SIZE, mode)


@pytest.fixture
def small_blocks() -> Iterator[None]:
    """Pillow's storage in blocks of 4 KiB, which it counts."""
    before = _imaging.get_block_size()
    _imaging.set_block_size(4096)
    yield
    _imaging.set_block_size(before)


@pytest.mark.parametrize("mode", MODES)
def test_the_cost_is_what_pillow_says_it_allocated(mode: str, small_blocks: None) -> None:
    # A row of 1,024 pixels of four bytes is a block; of smaller ones, several share a block to the last byte.
    before = _imaging.get_stats()
    image = Image.new(mode, (1024, 64))
    after = _imaging.get_stats()
    blocks = sum(after[name] - before[name] for name in ("allocated_blocks", "reused_blocks"))
    palettes = 1024 + len(image.palette.palette or b"") if image.palette is not None else 0
    assert cost(image) == blocks * 4096 + palettes


@pytest.mark.parametrize("mode", ["P", "PA"])
def test_palettes_cost_too(mode: str) -> None:
    image = Image.new(mode, SIZE)
    image.putpalette(bytes(range(48)))
    assert cost(image) == 20 * 16 * (1 if mode == "P" else 4) + 1024 + 48
    # Of an L or RGB image there is none.
    assert cost(image.convert("RGB")) == 20 * 16 * 4


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["auto", None])
def test_an_animation_costs_the_one_frame_that_is_held(file_format: str, mode: str | None) -> None:
    data = animated(file_format, frames=4, size=(64, 48))
    image = decoded(data, mode=mode)
    shared = SharedImage(image)
    each = 1 if image.mode == "P" else 4
    assert 64 * 48 * each <= shared.cost <= 64 * 48 * each + 2048
    # Neither file, decoder nor other frames are held beside it.
    for plain in (shared._image, shared.view()):
        assert set(vars(plain)) <= {*vars(Image.new("RGB", (1, 1))), "format", "_anchor"}
        assert getattr(plain, "n_frames", 1) == 1


def test_what_is_kept_in_info_costs_too() -> None:
    image = pattern(SIZE)
    image.info.update(icc_profile=b"p" * 5000, comment="c" * 30, dpi=(72, 72), text={"Title": ["t" * 200, "ü"]})
    assert SharedImage(image).cost == 20 * 16 * 4 + 5000 + 30 + 200 + 4
    notes = PngInfo()
    notes.add_text("Description", "d" * 100_000, zip=True)
    small = SharedImage(decoded(saved(Image.new("L", (1, 1)), "PNG", pnginfo=notes)))
    assert small.cost == 100_001, "a picture of a pixel and a text of 100,000 letters"


# What processors of others give


def test_whoever_made_an_image_cannot_draw_on_it_any_more() -> None:
    _, shared = master_of("RGB")
    canvas = shared.image().convert("RGB")
    canvas.info["nested"] = {"list": [1]}
    canvas.format = "PNG"
    pen, access, core = ImageDraw.Draw(canvas), canvas.load(), canvas.im
    made = shared.made_elsewhere(canvas)
    before = made.view()
    original = copy.deepcopy(before)
    pen.rectangle((0, 0, 9, 9), fill="red")
    assert access is not None
    access[12, 12] = (1, 2, 3)
    core.putpixel((13, 13), (1, 2, 3))
    canvas.frombytes(bytes(len(canvas.tobytes())))
    canvas.info["nested"]["list"].append(2)
    assert made.view() == before == original
    assert (made.format, made.cost) == ("PNG", cost(original))


def test_what_is_given_back_as_it_came_is_shared_as_it_was() -> None:
    plain, shared = master_of("RGB")
    view = shared.image()
    made = shared.made_elsewhere(view)
    assert share_pixels(made.view(), shared.view())
    view.putpixel((0, 0), (1, 2, 3))
    assert made.view() == shared.view() == plain


@pytest.fixture
def forgotten_check() -> Iterator[None]:
    views_are_safe.cache_clear()
    yield
    views_are_safe.cache_clear()


def test_where_views_do_not_hold_copies_are_handed_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, forgotten_check: None
) -> None:
    # A Pillow whose putpixel forgot to ask whether the image is readonly.
    def putpixel(self: Image.Image, xy: tuple[int, int], value: object) -> None:
        view_module._CORE_OF(self).putpixel(xy, value)

    monkeypatch.setattr(Image.Image, "putpixel", putpixel)
    with caplog.at_level(logging.WARNING, logger="imagecache"):
        plain, shared = master_of("RGB")
        one, other = shared.view(), shared.view(Anchor())
        SharedImage(pattern(SIZE)).view()
    assert [type(one), type(other)] == [Image.Image, Image.Image]
    assert not share_pixels(one, other)
    one.putpixel((0, 0), (1, 2, 3))
    one.info["nested"]["list"].append(3)
    assert shared.view() == plain
    assert len([record for record in caplog.records if "copies" in record.message]) == 1


def test_a_pillow_of_another_make_is_noticed(monkeypatch: pytest.MonkeyPatch, forgotten_check: None) -> None:
    # As it was before Pillow 11: no _im behind im.
    monkeypatch.setattr(view_module, "state_of", lambda image: {"im": image.im})
    assert not views_are_safe()


def test_the_check_passes_here_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert views_are_safe()
    monkeypatch.setattr(view_module, "_keeps_apart", lambda mode: pytest.fail("checked again"))
    assert views_are_safe()
    assert type(SharedImage(pattern(SIZE)).view()) is ImageView
