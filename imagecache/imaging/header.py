"""From bytes to an opened, checked, not yet decoded image. Everything that can be refused is refused here.

The order matters: magic bytes, then the container's own account, then Pillow with exactly that one format.
So no decoder sees what is not allowed, and none has allocated or counted anything before the limits are checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, ImageFile

# Importing a plugin registers it; without this the first image would make Pillow import all of its plugins.
from PIL import (  # isort: skip
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    IcoImagePlugin,  # noqa: F401
    JpegImagePlugin,
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,
)

from ..errors import DecodeError, ImageTooLargeError, NotAnImageError
from ..units import format_size
from .foreign import decoding
from .limits import DEFAULT_FORMATS, ImageLimits
from .modes import bytes_per_pixel, simple_mode
from .plain import PlainImage, coefficient_bytes, plain_image
from .quiet import hear_pillow
from .sniff import SNIFFED_FORMATS, sniff
from .structure import Structure, structure_of

hear_pillow()

_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_TURNED_BY_90_DEGREES = 5
_ORIENTATIONS = range(1, 9)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known of an image before it is decoded.

    ``width`` and ``height`` are those of the upright picture; ``orientation`` is EXIF's (1 to 8) that leads there.
    ``mode`` is Pillow's for the stored pixels. ``frame_count`` is 1 unless the image is animated.
    ``decoded_bytes`` is what one frame takes in L, LA, RGB or RGBA, or in its own mode where that is more;
    ``working_bytes`` what the decoder holds beside the pixels while it works.
    """

    format: str
    width: int
    height: int
    mode: str
    frame_count: int
    decoded_bytes: int
    orientation: int = 1
    working_bytes: int = 0


def read_header(data: bytes, *, limits: ImageLimits, url: str = "") -> ImageHeader:
    """Check an image without decoding it: its format, its limits, and that the container reaches its end.

    Raises NotAnImageError for what is empty, no image, or of a format that ``limits.formats`` leaves out;
    ImageTooLargeError; DecodeError for what is damaged or cut as far as that shows without decoding.
    """
    formats = _formats_for(data, limits, url)
    with decoding(url, _only(formats)):
        if (head := _plain_head(data, formats, limits, url)) is not None:
            return head[1]
        structure = _structure(data, formats, limits, url)
        if formats == ("ICO",):
            # Pillow decodes an icon as it opens it, and that is for those who have a share of the decode budget.
            return _icon_header(structure, url)
        image, header = _opened(data, formats, structure, limits, url)
        image.close()
        return header


def plain_jpeg_head(data: bytes, *, limits: ImageLimits, url: str = "") -> tuple[PlainImage, ImageHeader] | None:
    """What is known of a JPEG that need not be opened; None for whatever else it is. Raises as :func:`read_header`."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    return _plain_head(data, _formats_for(data, limits, url), limits, url)


def _plain_head(
    data: bytes, formats: tuple[str, ...], limits: ImageLimits, url: str
) -> tuple[PlainImage, ImageHeader] | None:
    plain = plain_image(data, _only(formats))
    if plain is None or _has_to_be_opened(plain, formats):
        return None
    return plain, _plain_header(plain, formats[0], limits, url, len(data))


def open_image(data: bytes, *, limits: ImageLimits, url: str = "") -> tuple[ImageFile.ImageFile, ImageHeader]:
    """The opened image, not decoded yet, and its header. Raises as :func:`read_header` does."""
    formats = _formats_for(data, limits, url)
    with decoding(url, _only(formats)):
        return _opened(data, formats, _structure(data, formats, limits, url), limits, url)


def _structure(data: bytes, formats: tuple[str, ...], limits: ImageLimits, url: str) -> Structure:
    """What the container says of itself, which is within the limits."""
    sniffed = _only(formats)
    structure = structure_of(data, sniffed)
    # An icon is decoded as it is opened: there, the mode will not be known in time.
    decoded_bytes = structure.width * structure.height * bytes_per_pixel("RGBA") if sniffed == "ICO" else 0
    check_size(structure.width, structure.height, limits, url, decoded_bytes=decoded_bytes)
    check_frames(structure.frame_count, limits, url)
    if not structure.is_complete:
        raise DecodeError(f"the {sniffed} data is cut short: its end is missing", url=url)
    return structure


def _opened(
    data: bytes, formats: tuple[str, ...], structure: Structure, limits: ImageLimits, url: str
) -> tuple[ImageFile.ImageFile, ImageHeader]:
    if _only(formats) not in DEFAULT_FORMATS:
        # Allowed by name: its plugin may have been loaded since.
        hear_pillow()
    image = Image.open(BytesIO(data), formats=formats)
    header = _header(image, structure, len(data))
    check_size(header.width, header.height, limits, url, decoded_bytes=header.decoded_bytes)
    check_frames(header.frame_count, limits, url)
    return image, header


def check_size(width: int, height: int, limits: ImageLimits, url: str, *, decoded_bytes: int = 0) -> None:
    """Raise ImageTooLargeError for more pixels or bytes than the limits allow."""
    # Where nothing else was said, what Pillow only warns about is refused: its setting is read, never written.
    most = limits.max_pixels if limits.max_pixels is not None else Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise ImageTooLargeError(f"{width} x {height} pixels are more than max_pixels allows ({most})", url=url)
    # One byte a pixel is the least there is; the mode is known only once Pillow has opened it.
    if max(decoded_bytes, width * height) > limits.max_decoded_bytes:
        size, limit = format_size(max(decoded_bytes, width * height)), format_size(limits.max_decoded_bytes)
        raise ImageTooLargeError(
            f"{width} x {height} pixels take {size} decoded, more than max_decoded_bytes allows ({limit})", url=url
        )


def check_frames(frame_count: int, limits: ImageLimits, url: str) -> None:
    """Raise ImageTooLargeError for more frames than the limits allow."""
    if frame_count > limits.max_frames:
        raise ImageTooLargeError(f"{frame_count} frames are more than max_frames allows ({limits.max_frames})", url=url)


def _formats_for(data: bytes, limits: ImageLimits, url: str) -> tuple[str, ...]:
    """The formats that Pillow may try on these bytes: one, but for allowed formats that have no magic bytes."""
    if not data:
        raise NotAnImageError("the body is empty", url=url)
    name = sniff(data)
    if name is not None:
        # An MPO begins as a JPEG and is one, with more pictures behind it: either name allows both.
        if name not in limits.formats and not (name == "JPEG" and "MPO" in limits.formats):
            raise _refused(name, limits, url)
        return (name,)
    others = tuple(name for name in limits.formats if name not in SNIFFED_FORMATS)
    if not others:
        raise NotAnImageError("the bytes begin like no known image format", url=url)
    return others


def _only(formats: tuple[str, ...]) -> str | None:
    return formats[0] if len(formats) == 1 else None


def _refused(name: str, limits: ImageLimits, url: str) -> NotAnImageError:
    allowed = ", ".join(limits.formats)
    if name in SNIFFED_FORMATS:
        return NotAnImageError(f"{name} is not among the allowed formats (ImageLimits.formats: {allowed})", url=url)
    return NotAnImageError(f"the body is {name}, no image of an allowed format ({allowed})", url=url)


def _header(image: ImageFile.ImageFile, structure: Structure, byte_count: int) -> ImageHeader:
    width, height = image.size
    orientation = orientation_of(image)
    if orientation >= _TURNED_BY_90_DEGREES:
        width, height = height, width
    # The several pictures of an MPO, a TIFF or an ICO are pages and versions, no frames.
    frame_count = getattr(image, "n_frames", 1) if image.format == "AVIF" else structure.frame_count
    shown = simple_mode(image.mode, image.has_transparency_data)
    pixels = width * height
    return ImageHeader(
        format=image.format or "",
        width=width,
        height=height,
        mode=image.mode,
        frame_count=frame_count,
        decoded_bytes=pixels * max(bytes_per_pixel(shown), bytes_per_pixel(image.mode)),
        orientation=orientation,
        working_bytes=_working_bytes(image, pixels, byte_count),
    )


def _icon_header(structure: Structure, url: str) -> ImageHeader:
    """An icon's header by its container alone: that of the largest picture inside, in the richest mode it may have."""
    pixels = structure.width * structure.height
    if not pixels:
        raise DecodeError("the ICO data is damaged: there is no picture inside", url=url)
    decoded_bytes = pixels * bytes_per_pixel("RGBA")
    # Its colours are put together with its mask, in a second picture.
    return ImageHeader("ICO", structure.width, structure.height, "RGBA", 1, decoded_bytes, working_bytes=decoded_bytes)


def _has_to_be_opened(plain: PlainImage, formats: tuple[str, ...]) -> bool:
    """Whether Pillow may refuse, or warn of, an image that nothing is wrong with."""
    # It may have been built without libwebp.
    lacks_plugin = formats == ("WEBP",) and not WebPImagePlugin.SUPPORTED
    most = Image.MAX_IMAGE_PIXELS
    return lacks_plugin or (most is not None and plain.width * plain.height > most)


def _plain_header(plain: PlainImage, name: str, limits: ImageLimits, url: str, byte_count: int) -> ImageHeader:
    """The header of what need not be opened for it."""
    pixels = plain.width * plain.height
    shown = simple_mode(plain.mode, has_transparency=False)
    decoded_bytes = pixels * max(bytes_per_pixel(shown), bytes_per_pixel(plain.mode))
    check_size(plain.width, plain.height, limits, url, decoded_bytes=decoded_bytes)
    check_frames(1, limits, url)
    working_bytes = _webp_working_bytes(pixels, byte_count) if name == "WEBP" else plain.coefficient_bytes
    return ImageHeader(name, plain.width, plain.height, plain.mode, 1, decoded_bytes, working_bytes=working_bytes)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where nothing or nonsense is said. Does not decode.

    EXIF that cannot be read is dropped: the picture is none the worse without.
    """
    if not any(key in image.info for key in _EXIF_KEYS):
        return 1
    if image._exif is not None and len(image._exif) == 0:
        # Pillow's JPEG reader looks for a resolution in it; where that fails it keeps an empty one and no error.
        image._exif = None
    try:
        # Not image.getexif(): a PNG's decodes the whole image to look behind the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Any of struct.error, SyntaxError, ValueError, TypeError … by what is damaged.
        drop_exif(image)
        return 1
    return int(orientation) if orientation in _ORIENTATIONS else 1


def drop_exif(image: Image.Image) -> None:
    """Forget the EXIF of an image, and that it was looked for."""
    image.info.pop("exif", None)
    image._exif = None


def _working_bytes(image: ImageFile.ImageFile, pixels: int, byte_count: int) -> int:
    """What the decoder holds beside the pixels. Measured with Pillow 13; an estimate, for the decode budget."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        sampling = [(layer[1], layer[2]) for layer in image.layer]
        return coefficient_bytes(pixels, sampling) if "progressive" in image.info else 0
    if image.format == "WEBP":
        return _webp_working_bytes(pixels, byte_count)
    if image.format == "AVIF":
        # The planes, and the interleaved copy as bytes.
        return 7 * pixels
    return 0


def _webp_working_bytes(pixels: int, byte_count: int) -> int:
    # The animation decoder, which Pillow uses for still images too: two canvases, one more as bytes, and a copy of the
    # file.
    return 12 * pixels + byte_count
