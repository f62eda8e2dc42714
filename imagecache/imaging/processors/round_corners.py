"""Rounding corners off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from PIL import Image

from .arguments import Colour, checked_colour, checked_length, give_name
from .pixels import join, multiplied, paint, rounded_mask, split

Corner = Literal["top_left", "top_right", "bottom_right", "bottom_left"]
ALL_CORNERS: tuple[Corner, ...] = get_args(Corner)


@dataclass(frozen=True, slots=True)
class RoundCorners:
    """Round the corners off, antialiased, with a ``radius`` in pixels (at most half of the shorter side).

    ``corners`` names the ones to round. What is cut off becomes transparent, or gets the ``background`` colour,
    which then also shows through where the image is transparent. Raises TypeError or ValueError for a radius
    that is no positive whole number, unknown corners and what is no colour. Kingfisher's
    ``RoundCornerImageProcessor``.
    """

    radius: int
    corners: tuple[Corner, ...] = ALL_CORNERS
    background: Colour | None = None
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_length("radius", self.radius)
        if not self.corners or not set(self.corners) <= set(ALL_CORNERS):
            raise ValueError(f"corners is a tuple of some of {', '.join(ALL_CORNERS)}, not {self.corners!r}")
        object.__setattr__(self, "corners", tuple(corner for corner in ALL_CORNERS if corner in self.corners))
        if self.background is not None:
            object.__setattr__(self, "background", checked_colour("background", self.background))
        corners = "all" if self.corners == ALL_CORNERS else "+".join(self.corners)
        give_name(self, self.radius, corners, self.background)

    def process(self, image: Image.Image) -> Image.Image:
        base, alpha = split(image)
        radii = [self.radius if corner in self.corners else 0 for corner in ALL_CORNERS]
        alpha = multiplied(alpha, rounded_mask(image.size, (radii[0], radii[1], radii[2], radii[3])))
        return on_background(base, alpha, self.background, image)


def on_background(base: Image.Image, alpha: Image.Image, background: Colour | None, like: Image.Image) -> Image.Image:
    """The image on a colour, where there is one: without alpha if the colour is opaque."""
    if background is None:
        return join(base, alpha, like)
    red, green, blue, opacity = checked_colour("background", background)
    if opacity == 255:
        # The colour is painted over what the alpha leaves free.
        inverse = alpha.point([255 - level for level in range(256)])
        return join(paint(base, (red, green, blue, 255), inverse), None, like)
    below = Image.new("RGBA", base.size, (red, green, blue, opacity))
    below.alpha_composite(join(base, alpha, like).convert("RGBA"))
    return join(below.convert("RGB"), below.getchannel("A"), like)
