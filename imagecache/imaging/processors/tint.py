"""A translucent colour over everything, the transparent parts too."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from .arguments import Colour, checked_colour, give_name
from .pixels import has_colour, join, paint, split


@dataclass(frozen=True, slots=True)
class Tint:
    """Compose a colour over the image, by the colour's own alpha (source over; an opaque one covers all).

    Unlike Overlay it also colours what is transparent. Raises TypeError or ValueError for what is no colour.
    Kingfisher's ``TintImageProcessor``.
    """

    color: Colour
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "color", checked_colour("color", self.color))
        give_name(self, self.color)

    def process(self, image: Image.Image) -> Image.Image:
        base, alpha = split(image)
        colour = checked_colour("color", self.color)
        if alpha is None:
            return join(paint(base, colour, None), None, image)
        below = join(base, alpha, image).convert("RGBA")
        below.alpha_composite(Image.new("RGBA", below.size, colour))
        mode = "LA" if base.mode == "L" and not has_colour(colour) else "RGBA"
        result = below.convert(mode)
        return join(*split(result), image)
