"""How large an image may be, and which formats it may have. Values only; header.py and decode.py obey them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIB = 2**20

DEFAULT_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "AVIF", "BMP", "ICO")
"""What browsers show, as far as Pillow decodes it.

TIFF, PSD, EPS and the rest stay out: no page needs them, and most of what was ever wrong in image decoders
was wrong in theirs (plain ``Image.open`` runs Ghostscript on an EPS). An MPO is the JPEG of a phone with a
second picture behind it.
"""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before a pixel is made.

    ``max_decoded_bytes``: bytes of one decoded picture, 4 a pixel for colour, 1 for grey; an animation is never
    expanded at once, so it counts with one frame. ``max_pixels``: width times height; None leaves Pillow's own
    ``Image.MAX_IMAGE_PIXELS``, which nothing here changes. ``max_frames``: of an animation. ``formats``:
    Pillow's names of the formats that may be opened, no others are even tried.

    Raises ValueError for a limit that is not positive and for a format that Pillow does not read.
    """

    max_decoded_bytes: int = 256 * MIB
    max_pixels: int | None = None
    max_frames: int = 512
    formats: tuple[str, ...] = DEFAULT_FORMATS

    def __post_init__(self) -> None:
        for name in ("max_decoded_bytes", "max_pixels", "max_frames"):
            value = getattr(self, name)
            if value is None and name == "max_pixels":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} is at least 1, not {value}")
        object.__setattr__(self, "formats", _checked_formats(self.formats))


def _checked_formats(formats: Iterable[str]) -> tuple[str, ...]:
    if isinstance(formats, str):
        raise TypeError(f"formats is a tuple of names such as ('PNG', 'JPEG'), not {formats!r}")
    names = tuple(dict.fromkeys(name.upper() for name in formats))
    if not names:
        raise ValueError("formats names at least one format")
    others = [name for name in names if name not in DEFAULT_FORMATS]
    if others:
        from PIL import Image  # the usual limits are made without loading Pillow

        Image.init()
        unknown = [name for name in others if name not in Image.OPEN]
        if unknown:
            raise ValueError(f"Pillow reads no format {', '.join(unknown)}; it reads {', '.join(sorted(Image.OPEN))}")
    return names
