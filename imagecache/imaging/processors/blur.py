"""Blurring."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image, ImageFilter

from ..modes import to_simple
from .arguments import checked_number, give_name

_MOST = 1000.0


@dataclass(frozen=True, slots=True)
class Blur:
    """A Gaussian blur of this ``radius`` (the standard deviation, in pixels; 0 to 1000).

    Raises TypeError or ValueError for other radii. Kingfisher's ``BlurImageProcessor``.
    """

    radius: float
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checked_number("radius", self.radius, 0, _MOST))
        give_name(self, self.radius)

    def process(self, image: Image.Image) -> Image.Image:
        image = to_simple(image)
        blur = ImageFilter.GaussianBlur(self.radius)
        if image.mode in ("LA", "RGBA"):
            # With alpha multiplied in; else the colours that transparent pixels happen to have bleed out.
            blurred = image.convert("La" if image.mode == "LA" else "RGBa").filter(blur)
            return blurred.convert(image.mode)
        return image.filter(blur)
