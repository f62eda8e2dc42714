"""Decoding: from checked bytes to a plain image, whole, upright, in a mode that everything can work with.

Nothing is decided about limits here (header.py does that) and nothing is shared (shared.py does that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageOps

from ..errors import ImageError, ImageTooLargeError
from ..protocols import ImageProcessor
from ..request import ImageMode
from .foreign import decoding
from .header import ImageHeader, drop_exif, open_image, orientation_of, plain_jpeg_head, read_header
from .limits import ImageLimits
from .modes import SIMPLE_MODES, bytes_per_pixel, convert, to_simple
from .plain import PlainImage
from .plain_jpeg import decode_plain_jpeg
from .processors.downsample import ORIGINAL_SIZE, Downsample, fit_within
from .sniff import sniff
from .view import plain

_DRAFT_FORMATS = frozenset({"JPEG", "MPO"})
_DRAFT_SCALES = (8, 4, 2)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode: two decodes of the same bytes with equal options give the same pixels.

    ``mode`` is as in :data:`ImageMode`. ``draft`` is a box (width, height) that the upright picture will be fitted
    into afterwards: a JPEG is then decoded at a half, a quarter or an eighth, as long as that is not below it.
    """

    mode: ImageMode = "auto"
    draft: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.mode not in (None, "auto", *SIMPLE_MODES):
            raise ValueError(f"mode is 'auto', one of {', '.join(SIMPLE_MODES)}, or None, not {self.mode!r}")
        if self.draft is not None and min(self.draft) < 1:
            raise ValueError(f"draft is at least 1 x 1, not {self.draft}")

    @property
    def identifier(self) -> str:
        """A stable text for these options; "" for the usual ones."""
        parts = [] if self.mode == "auto" else [f"mode={self.mode or 'file'}"]
        if self.draft is not None:
            parts.append(f"draft={self.draft[0]}x{self.draft[1]}")
        return ",".join(parts)


def options_for(processors: Sequence[ImageProcessor], mode: ImageMode) -> DecodeOptions:
    """How to decode for these processors: a leading Downsample lets a JPEG be decoded small."""
    first = processors[0] if processors else None
    return DecodeOptions(mode, (first.width, first.height) if isinstance(first, Downsample) else None)


def decode(data: bytes, *, options: DecodeOptions, limits: ImageLimits, url: str = "") -> Image.Image:
    """The first frame: fully loaded, upright, its ``format``, ICC profile and EXIF kept, in ``options.mode``.

    A plain image: no file, no decoder, nothing lazy. A draft that came out smaller than the file's picture leaves the
    full size in ``info["original_size"]``. Blocks; meant for a worker thread.

    Raises NotAnImageError, ImageTooLargeError, DecodeError (a cut image is damaged, never half an image).
    """
    if (head := plain_jpeg_head(data, limits=limits, url=url)) is not None:
        image = _decoded_plainly(data, *head, options)
        if image is not None:
            return image
    opened, header = open_image(data, limits=limits, url=url)
    return _decoded(opened, header, options, limits, url)


def _decoded_plainly(data: bytes, head: PlainImage, header: ImageHeader, options: DecodeOptions) -> Image.Image | None:
    """A plain JPEG as it is stored, which is upright; None where it takes more, or does not decode."""
    is_whole = options.draft is None or draft_scale(header, options.draft) == 1
    return decode_plain_jpeg(data, head) if is_whole and options.mode in ("auto", None, head.mode) else None


def _decoded(
    image: ImageFile.ImageFile, header: ImageHeader, options: DecodeOptions, limits: ImageLimits, url: str
) -> Image.Image:
    with decoding(url, header.format):
        if options.draft is not None:
            _draft(image, header, options.draft)
        image.load()
        check_decoded(image, limits, url)
        return finish(image, options.mode)


def decode_small(
    data: bytes, *, options: DecodeOptions, most: int, limits: ImageLimits, url: str = ""
) -> tuple[ImageHeader, Image.Image | None]:
    """The header, and the image, too, if decoding it holds no more than ``most`` bytes at one time.

    None for an image also where it does not decode: :func:`decode` says why. Raises as `read_header` does.
    """
    if sniff(data) == "ICO":
        # Pillow decodes an icon as it opens it, however much that is.
        return read_header(data, limits=limits, url=url), None
    if (head := plain_jpeg_head(data, limits=limits, url=url)) is not None:
        if decoded_cost(head[1], options) > most:
            return head[1], None
        image = _decoded_plainly(data, *head, options)
        if image is not None:
            return head[1], image
    opened, header = open_image(data, limits=limits, url=url)
    if decoded_cost(header, options) > most:
        opened.close()
        return header, None
    try:
        return header, _decoded(opened, header, options, limits, url)
    except ImageError:
        return header, None


def decoded_cost(header: ImageHeader, options: DecodeOptions) -> int:
    """The most bytes that :func:`decode` will hold at one time for this image, by estimate; for a decode budget."""
    pixels = header.width * header.height
    scale = 1 if options.draft is None else draft_scale(header, options.draft)
    stored = pixels * bytes_per_pixel(header.mode)
    result = header.decoded_bytes if options.mode is not None else stored
    if options.mode == "auto":
        is_converted = header.mode not in SIMPLE_MODES or result != stored
    else:
        is_converted = options.mode not in (None, header.mode)
    # Turning and converting both make a second picture from the first; the decoder has let go by then.
    second = result if is_converted or header.orientation != 1 else 0
    return max((stored + second) // scale**2, stored // scale**2 + header.working_bytes)


def draft_scale(header: ImageHeader, box: tuple[int, int]) -> int:
    """By what a JPEG can be divided while decoding and still not be below the box it is to be fitted into."""
    if header.format not in _DRAFT_FORMATS:
        return 1
    width, height = fit_within((header.width, header.height), box)
    most = min(header.width // width, header.height // height)
    return next((scale for scale in _DRAFT_SCALES if scale <= most), 1)


def finish(image: Image.Image, mode: ImageMode) -> Image.Image:
    """A plain image of a loaded one: upright, converted, without file or decoder. May take the given one apart."""
    name = image.format
    _turn_upright(image)
    if mode == "auto":
        result = to_simple(image)
    elif mode is None:
        result = image
    else:
        result = convert(image, mode)
    if type(result) is not Image.Image:
        result = plain(result)
    result.format = name
    return result


def check_decoded(image: Image.Image, limits: ImageLimits, url: str) -> None:
    """Raise ImageTooLargeError where the pixels that came are more than the header announced, and too many."""
    if image.width * image.height * bytes_per_pixel(image.mode) > limits.max_decoded_bytes:
        raise ImageTooLargeError(f"the image turned out to be {image.width} x {image.height} pixels", url=url)


def _draft(image: ImageFile.ImageFile, header: ImageHeader, box: tuple[int, int]) -> None:
    scale = draft_scale(header, box)
    if scale == 1:
        return
    width, height = image.size
    # Pillow rounds the scale down itself; asked for exactly this size, it takes exactly this scale.
    image.draft(None, (width // scale, height // scale))
    if image.size != (width, height):
        image.info[ORIGINAL_SIZE] = (header.width, header.height)


def _turn_upright(image: Image.Image) -> None:
    """Apply and remove EXIF's orientation, if EXIF can be read and written."""
    if orientation_of(image) == 1:
        return
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # The pixels are turned by then: what fails is writing the rest of damaged EXIF again.
        drop_exif(image)
