"""Copy-on-write views of one decoded image, and the check that the installed Pillow bears them.

A view is an ``Image.Image`` around the same core image (the C object that holds the pixels), marked
``readonly`` as Pillow marks what it mapped from a file. Pillow then copies the core before it changes pixels:
that is its own mechanism. This file closes its holes, and is the only one that relies on how Pillow is made
inside; :func:`views_are_safe` finds out whether it is still made that way.
"""

from __future__ import annotations

import copy
import copyreg
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from PIL._imaging import ImagingCore, PixelAccess
    from PIL._typing import CapsuleType

logger = logging.getLogger("imagecache")

State = dict[str, Any]
"""The ``__dict__`` of an image: its attributes are Pillow's, of any type."""

_CORE_OF = cast("Callable[[Image.Image], ImagingCore]", cast("property", Image.Image.im).fget)
_READONLY_OF = cast("Callable[[Image.Image], int]", cast("property", Image.Image.readonly).fget)
# The very types: Pillow's texts of PNG files are a str with attributes that can be changed.
_IMMUTABLE = frozenset({bytes, str, int, float, bool, complex, type(None)})
_PILLOW = Image.__name__.partition(".")[0]


class ImageView(Image.Image):
    """A plain image to everybody who looks, whose pixels are shared until it is changed.

    Whatever changes pixels or palette gives the view a core of its own first. ``_anchor`` is what the view keeps
    alive while it shares.
    """

    _anchor: object

    # type() tells the truth; asked through __class__, as Image.__eq__ and isinstance ask, a view is what it stands for.
    @property  # type: ignore[misc]  # object's can be assigned to; assigning to this one is nobody's business
    def __class__(self) -> type[Image.Image]:  # type: ignore[override]  # that it names another type is the point
        return Image.Image

    @property
    def im(self) -> ImagingCore:
        # Pillow itself asks before it writes (but for the holes below). Whoever else asks for the core can write into
        # it as he likes, with its putpixel, paste, setmode …
        if self._readonly and not _is_pillows(sys._getframe(1).f_globals.get("__name__")):
            self._unshare()
        return _CORE_OF(self)

    @im.setter
    def im(self, core: ImagingCore) -> None:
        # Every way to another core comes through here (_copy, thumbnail, exif_transpose …): from now on the
        # pixels are the view's own.
        self._im = core
        self._readonly = 0
        self._anchor = None

    @property
    def readonly(self) -> int:
        return _READONLY_OF(self)

    @readonly.setter
    def readonly(self, readonly: int) -> None:
        # Told that it may be written to, Pillow writes without asking again.
        if not readonly and self._im is not None:
            self._unshare()
        self._readonly = readonly

    def _unshare(self) -> None:
        if self._readonly:
            self.im = _CORE_OF(self).copy()

    def load(self) -> PixelAccess | None:
        if self._readonly:
            if self.palette is None or not self.palette.dirty:
                return cast("PixelAccess", _SharedPixels(self))
            # Pillow is about to write the changed palette into the core: where putpalette, apply_transparency and
            # drawing with new colours end, whoever reads next.
            self._unshare()
        return super().load()

    # The other holes: these write into the core, or let others write, and do not ask _ensure_mutable first.

    def frombytes(self, data: Any, decoder_name: str = "raw", *args: Any) -> None:
        self._unshare()
        super().frombytes(data, decoder_name, *args)

    def getim(self) -> CapsuleType:
        # A pointer to the pixels: ImageCms in place writes through it. Who only reads pays for a copy, too.
        self._unshare()
        return super().getim()

    def __arrow_c_array__(self, requested_schema: CapsuleType | None = None) -> tuple[CapsuleType, CapsuleType]:
        # The pixels themselves, for others to keep: Image.fromarrow makes an image of them that frombytes fills.
        self._unshare()
        return super().__arrow_c_array__(requested_schema)

    def getdata(self, band: int | None = None) -> ImagingCore:
        # Without a band, it is the core that Pillow gives; "could be abused", says a comment there.
        self._unshare()
        return super().getdata(band)

    def filter(self, filter: ImageFilter.Filter | type[ImageFilter.Filter]) -> Image.Image:  # noqa: A002  # Pillow's
        # A filter gets the core, and may be anybody's.
        if not _is_pillows((filter if isinstance(filter, type) else type(filter)).__module__):
            self._unshare()
        return super().filter(filter)

    def convert(self, *args: Any, **options: Any) -> Image.Image:
        # On its way to alpha, Pillow writes the transparent colours that info names into the core's palette.
        if self._readonly and self.mode == "P" and "transparency" in self.info:
            return self.copy().convert(*args, **options)
        return super().convert(*args, **options)

    def close(self) -> None:
        super().close()
        self._readonly = 0
        self._anchor = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # Pickled and deep-copied as the plain image that it stands for.
        return copyreg.__newobj__, (Image.Image,), self.__getstate__()  # type: ignore[attr-defined]


class _SharedPixels:
    """What ``load()`` of a sharing view returns: reads go to the shared core, the first assignment copies."""

    __slots__ = ("_access", "_core", "_view")

    def __init__(self, view: ImageView) -> None:
        self._view = view
        self._core: ImagingCore | None = None
        self._access: PixelAccess | None = None

    def _current(self) -> PixelAccess:
        core = _CORE_OF(self._view)
        if self._access is None or core is not self._core:
            access: PixelAccess = core.pixel_access(0)
            self._core, self._access = core, access
        return self._access

    def __getitem__(self, xy: tuple[int, int]) -> float | tuple[int, ...]:
        return self._current()[xy]

    def __setitem__(self, xy: tuple[int, int], value: float | tuple[int, ...]) -> None:
        self._view._unshare()
        self._current()[xy] = value


def plain(image: Image.Image) -> Image.Image:
    """The plain image of any loaded one: the same pixels, no file, tile or decoder; ``info`` and palette its own."""
    image.load()
    result = image._new(_CORE_OF(image))
    result.format = image.format
    result.info = copied(image.info)
    return result


def state_of(image: Image.Image) -> State:
    """What views of this plain image begin with."""
    return {**image.__dict__, "_readonly": 1, "_exif": None, "_anchor": None}


def share_pixels(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images are around the same pixels. Looking at ``im`` would give a view its own."""
    return _CORE_OF(one) is _CORE_OF(other)


def is_flat(info: dict[str | tuple[int, int], Any]) -> bool:
    """Whether a shallow copy of this ``info`` shares nothing that can be changed."""
    return all(map(_is_immutable, info.values()))


def copied(value: Any) -> Any:
    """A copy that shares nothing changeable. For what Pillow puts into ``info``, much quicker than deepcopy."""
    if _is_immutable(value):
        return value
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    if type(value) is list:
        return [copied(part) for part in value]
    return copy.deepcopy(value)


def _is_immutable(value: Any) -> bool:
    return type(value) in _IMMUTABLE or (type(value) is tuple and all(map(_is_immutable, value)))


def _is_pillows(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == _PILLOW


def view_of(state: State, anchor: object = None) -> ImageView:
    """A view with an ``info``, an EXIF and a palette of its own."""
    fields = state.copy()
    fields["info"] = copied(state["info"])
    if state["palette"] is not None:
        fields["palette"] = state["palette"].copy()
    fields["_anchor"] = anchor
    view: ImageView = object.__new__(ImageView)
    view.__dict__ = fields
    return view


@cache
def views_are_safe() -> bool:
    """Whether views of the installed Pillow keep apart; checked once a process, in a few milliseconds.

    Where they do not, images are handed out as copies, and a warning is logged.
    """
    try:
        is_safe = all(_keeps_apart(mode) for mode in ("RGB", "P"))
    except Exception:  # Whatever it is that Pillow does otherwise, a copy is right.
        logger.debug("the check of image views failed", exc_info=True)
        is_safe = False
    if not is_safe:
        logger.warning("this version of Pillow does not bear image views; images are handed out as copies")
    return is_safe


def _keeps_apart(mode: str) -> bool:
    image = Image.new(mode, (2, 2))
    if mode == "P":
        image.putpalette(bytes(range(6)))
        image.load()
    original, state = image.copy(), state_of(image)
    for change in (_by_method, _by_access, _by_bytes, _by_drawing, _by_palette, _by_pointer, _by_core, _by_arrow):
        changed = view_of(state)
        change(changed)
        if view_of(state) != original or share_pixels(changed, image):
            return False
    untouched = view_of(state)
    return type(untouched.copy()) is Image.Image and share_pixels(untouched, image)


def _by_method(image: Image.Image) -> None:
    image.putpixel((0, 0), 1 if image.mode == "P" else (1, 1, 1))


def _by_access(image: Image.Image) -> None:
    access = image.load()
    if access is not None:
        access[0, 0] = 1 if image.mode == "P" else (1, 1, 1)


def _by_bytes(image: Image.Image) -> None:
    image.frombytes(b"\1" * len(image.tobytes()))


def _by_drawing(image: Image.Image) -> None:
    ImageDraw.Draw(image).point((0, 0), fill=(9, 9, 9))
    image.load()


def _by_palette(image: Image.Image) -> None:
    if image.mode == "P":
        image.putpalette(b"\7" * 6)
        image.load()
    else:
        image.putalpha(1)


def _by_pointer(image: Image.Image) -> None:
    image.getim()


def _by_core(image: Image.Image) -> None:
    image.im.putpixel((0, 0), 1 if image.mode == "P" else (1, 1, 1))


def _by_arrow(image: Image.Image) -> None:
    image.__arrow_c_array__()
