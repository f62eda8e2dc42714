"""From pixels to the bytes of a file, whatever mode the pixels are in.

Pillow refuses a mode that a format does not know; here it is brought to the nearest one that the format does
know. What cannot be kept is said in :func:`encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

from PIL import Image, features

from .foreign import encoding
from .modes import convert, to_simple

_ALIASES: Mapping[str, str] = MappingProxyType(
    {"JPG": "JPEG", "JPE": "JPEG", "MPO": "JPEG", "TIF": "TIFF", "APNG": "PNG"}
)

# What each format holds without loss or misunderstanding; anything else goes through to_simple() first.
_MODES: Mapping[str, frozenset[str]] = MappingProxyType({
    "PNG": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    "JPEG": frozenset({"L", "RGB", "CMYK"}),
    "WEBP": frozenset({"RGB", "RGBA"}),
    "AVIF": frozenset({"RGB", "RGBA"}),
    "GIF": frozenset({"1", "L", "P", "RGB", "RGBA"}),
    "BMP": frozenset({"1", "L", "P", "RGB"}),
    "TIFF": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"}),
})  # fmt: skip

_DEFAULT_QUALITY: Mapping[str, int] = MappingProxyType({"JPEG": 90, "WEBP": 85, "AVIF": 75})
"""Where no difference is seen at normal size; and the formats that have a quality at all."""

# A BMP can have an alpha channel, but few read it, Pillow among those who do not.
_OPAQUE_FORMATS = frozenset({"JPEG", "BMP"})
_WITH_METADATA = frozenset({"PNG", "JPEG", "WEBP", "AVIF", "TIFF"})
# One JPEG segment (ITU-T T.81, B.1.1.4), less its length field.
_LONGEST_JPEG_EXIF = 65_533
_BEST_QUALITY = 100


def check_format(name: str) -> str:
    """Pillow's name of a format that can be written: "jpg", ".webp" and "PNG" are understood.

    Raises TypeError for what is no text, ValueError for an unknown format and one that this Pillow was built without.
    """
    if not isinstance(name, str):
        raise TypeError(f"a format is a text such as 'WEBP', not {name!r}")
    known = name.strip().removeprefix(".").upper()
    known = _ALIASES.get(known, known)
    if known not in _MODES:
        raise ValueError(f"images can be written as {', '.join(_MODES)}, not as {name!r}")
    if known in ("WEBP", "AVIF") and not features.check(known.lower()):
        raise ValueError(f"this Pillow was built without {known}")
    return known


def check_quality(name: str, quality: int | None) -> int | None:
    """The quality to write with, None where the format has none.

    Raises TypeError for what is no whole number, ValueError outside of 1 to 100, or for a format without loss.
    """
    if quality is None:
        return _DEFAULT_QUALITY.get(name)
    if isinstance(quality, bool) or not isinstance(quality, int):
        raise TypeError(f"quality is a whole number from 1 to 100, not {quality!r}")
    if name not in _DEFAULT_QUALITY:
        raise ValueError(f"{name} has no quality; {', '.join(_DEFAULT_QUALITY)} have")
    if not 1 <= quality <= _BEST_QUALITY:
        raise ValueError(f"quality is from 1 to 100, not {quality}")
    return quality


def encode(
    image: Image.Image,
    *,
    format: str,
    quality: int | None = None,
    url: str = "",
) -> bytes:
    """The bytes of the image in this format; the image itself is not changed. Blocks; meant for a worker thread.

    ``quality`` is 1 to 100 for JPEG (90 by default), WEBP (85) and AVIF (75). ICC profile and EXIF are kept where the
    format has room for them. JPEG and BMP have no transparency: it is laid on white. Palettes, CMYK and grey of
    more than 8 bits become colour or 8-bit grey where the format knows no such thing; GIF keeps 256 colours.

    Raises ValueError for an unknown format or quality, EncodeError, with its cause, where the image cannot be written.
    """
    name = check_format(format)
    quality = check_quality(name, quality)
    with encoding(url, name):
        fitting = _fitting(image, name)
        options: dict[str, object] = {} if quality is None else {"quality": quality}
        if name in _WITH_METADATA:
            options |= _metadata(fitting, name)
        buffer = BytesIO()
        fitting.save(buffer, name, **options)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Encoding:
    """A format and a quality; see :func:`encode` for what they mean.

    Raises TypeError or ValueError for an unknown format, and for a quality that the format does not have.

    >>> Encoding("jpg").identifier
    'JPEG(90)'
    """

    format: str
    quality: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", check_format(self.format))
        object.__setattr__(self, "quality", check_quality(self.format, self.quality))

    @property
    def identifier(self) -> str:
        """A stable text: two encodings of one identifier make the same bytes of the same pixels."""
        return self.format if self.quality is None else f"{self.format}({self.quality})"

    def encode(self, image: Image.Image, *, url: str = "") -> bytes:
        """The bytes of the image. Blocks; raises EncodeError."""
        return encode(image, format=self.format, quality=self.quality, url=url)


def _fitting(image: Image.Image, name: str) -> Image.Image:
    """The image in a mode that the format holds, looking as before."""
    if name in _OPAQUE_FORMATS and image.has_transparency_data:
        image = _on_white(image)
    if image.mode in _MODES[name]:
        return image
    image = to_simple(image)
    if image.mode in _MODES[name]:
        return image
    return convert(image, "RGBA" if image.mode == "LA" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = to_simple(image)
    opaque = "L" if image.mode == "LA" else "RGB"
    white = Image.new(opaque, image.size, "white")
    white.paste(image.convert(opaque), mask=image.getchannel("A"))
    white.info = dict(image.info)
    return white


def _metadata(image: Image.Image, name: str) -> dict[str, object]:
    found: dict[str, object] = {}
    profile, exif = image.info.get("icc_profile"), image.info.get("exif")
    if profile:
        found["icc_profile"] = profile
    if exif and not (name == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF):
        found["exif"] = exif
    return found
