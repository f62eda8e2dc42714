"""A colour laid over the picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from .arguments import Colour, checked_colour, checked_number, give_name
from .pixels import join, paint, split


@dataclass(frozen=True, slots=True)
class Overlay:
    """Lay a colour over the picture: at ``fraction`` 0 it covers all, at 1 nothing is seen of it.

    Transparency stays as it is. Raises TypeError or ValueError for a fraction outside of 0 to 1 and what is no
    colour. Kingfisher's ``OverlayImageProcessor``.
    """

    color: Colour
    fraction: float = 0.5
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "color", checked_colour("color", self.color))
        object.__setattr__(self, "fraction", checked_number("fraction", self.fraction, 0, 1))
        give_name(self, self.color, self.fraction)

    def process(self, image: Image.Image) -> Image.Image:
        base, alpha = split(image)
        red, green, blue, opacity = checked_colour("color", self.color)
        strength = round(opacity * (1 - self.fraction))
        return join(paint(base, (red, green, blue, strength), None), alpha, image)
