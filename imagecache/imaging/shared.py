"""One decoded image in many hands: what the memory tier keeps, and how it is handed out.

Nothing here decodes, evicts or knows a key.
"""

from __future__ import annotations

from PIL import Image

from .modes import bytes_per_pixel
from .view import ImageView, State, copied, is_flat, plain, share_pixels, state_of, view_of, views_are_safe

_new_object = object.__new__


_CORE_PALETTE = 1024
"""Bytes of the palette beside the pixels of P and PA: always 256 colours of four (libImaging/Palette.c)."""


def cost(image: Image.Image) -> int:
    """Bytes that the image takes, as Pillow holds it: RGB takes four a pixel, as RGBA does.

    Palettes are counted, and what is kept in ``info``: a colour profile or a PNG's text may be far larger than a
    small picture's pixels. Of an animation this is one frame, as that is all that an image holds.
    """
    palette = image.palette.palette if image.palette is not None else None
    palettes = _CORE_PALETTE + len(palette or b"") if image.mode in ("P", "PA") else 0
    return image.width * image.height * bytes_per_pixel(image.mode) + palettes + _weight(image.info)


def _weight(value: object) -> int:
    """Bytes of the texts and byte strings in what Pillow puts into ``info``; the rest is small."""
    match value:
        case bytes() | bytearray():
            return len(value)
        case str():
            return len(value) if value.isascii() else 4 * len(value)
        case dict():
            return sum(map(_weight, value.values()))
        case list() | tuple():
            return sum(map(_weight, value))
    return 0


class SharedImage:
    """A loaded image that is handed out as often as asked for, and never changes.

    Takes the image over: whoever still holds it gets a copy of its pixels on the first change; ``is_alone``: nobody
    does, nor anything of it, and it is kept as it is. ``cost`` is :func:`cost`; ``size``, ``mode`` and ``format`` are
    the image's. Can be referred to weakly.
    """

    __slots__ = ("__weakref__", "_image", "_is_simple", "_state", "cost")

    def __init__(self, image: Image.Image, *, is_alone: bool = False) -> None:
        self._image = image if is_alone and type(image) is Image.Image else plain(image)
        self._image.readonly = image.readonly = 1
        self.cost = cost(self._image)
        self._state: State | None = state_of(self._image) if views_are_safe() else None
        # Then a shallow copy of everything is copy enough: the case of nearly every image.
        self._is_simple = self._state is not None and self._image.palette is None and is_flat(self._image.info)

    @property
    def size(self) -> tuple[int, int]:
        return self._image.size

    @property
    def mode(self) -> str:
        return self._image.mode

    @property
    def format(self) -> str | None:
        return self._image.format

    def view(self, anchor: object = None) -> Image.Image:
        """An image to keep and to change: its pixels are shared with the others until it is first changed.

        Its ``info``, EXIF and palette are its own from the start. ``anchor`` is kept alive as long as the view
        shares pixels. Takes under a microsecond for an image without palette, so it may be called on the event loop.
        """
        state = self._state
        if self._is_simple and state is not None:
            # view_of(), unrolled: half of its time is the deep copy that is not needed here.
            view: ImageView = _new_object(ImageView)
            fields = state.copy()
            fields["info"] = fields["info"].copy()
            fields["_anchor"] = anchor
            view.__dict__ = fields
            return view
        if state is not None:
            return view_of(state, anchor)
        image = self._image.copy()
        image.format = self._image.format
        image.info = copied(image.info)
        return image

    def image(self) -> Image.Image:
        """A view for a processor in a worker thread; each gets one of its own."""
        return self.view()

    def made_elsewhere(self, image: Image.Image) -> SharedImage:
        """What somebody else's code made of a view, to be shared in turn.

        Copied, unless it still is around these pixels: whoever made it may have kept a way to write into it that asks
        nobody, such as an ``ImageDraw`` or what ``load()`` gave.
        """
        taken = plain(image)
        if not share_pixels(taken, self._image):
            taken = taken.copy()
            taken.format = image.format
        return SharedImage(taken)

    def __repr__(self) -> str:
        return f"SharedImage({self.format}, {self.mode}, {self.size[0]} x {self.size[1]})"
