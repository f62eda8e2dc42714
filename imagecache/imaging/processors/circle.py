"""The circle in the middle of an image."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from .arguments import Colour, checked_colour, give_name
from .crop import Crop
from .pixels import ellipse_mask, multiplied, split
from .round_corners import on_background


@dataclass(frozen=True, slots=True)
class Circle:
    """Cut the largest circle out of the middle, antialiased: an avatar. The result is square.

    Outside of it is transparent, or has the ``background`` colour. Raises TypeError or ValueError for what is
    no colour. Nuke's ``Circle``.
    """

    background: Colour | None = None
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.background is not None:
            object.__setattr__(self, "background", checked_colour("background", self.background))
        give_name(self, self.background)

    def process(self, image: Image.Image) -> Image.Image:
        side = min(image.size)
        square = Crop(side, side).process(image)
        base, alpha = split(square)
        return on_background(base, multiplied(alpha, ellipse_mask(side)), self.background, image)
