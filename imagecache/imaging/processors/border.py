"""A frame along the edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image, ImageChops

from .arguments import Colour, checked_colour, checked_length, give_name
from .pixels import join, paint, rounded_mask, split


@dataclass(frozen=True, slots=True)
class Border:
    """Draw a frame of ``width`` pixels inside of the edges; the size stays.

    ``radius`` rounds its corners, as RoundCorners does with the image; ``color`` may be translucent. Raises
    TypeError or ValueError for sizes that are no whole numbers, a width below 1 and what is no colour.
    Kingfisher's ``BorderImageProcessor``.
    """

    width: int = 4
    color: Colour = (0, 0, 0, 255)
    radius: int = 0
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_length("width", self.width)
        if self.radius != 0:
            checked_length("radius", self.radius)
        object.__setattr__(self, "color", checked_colour("color", self.color))
        give_name(self, self.width, self.color, self.radius)

    def process(self, image: Image.Image) -> Image.Image:
        base, alpha = split(image)
        colour, ring = checked_colour("color", self.color), self._ring(image.size)
        painted = paint(base, colour, ring)
        if alpha is not None:
            # A frame is seen on a transparent picture too.
            alpha = ImageChops.lighter(alpha, ring.point([level * colour[3] // 255 for level in range(256)]))
        return join(painted, alpha, image)

    def _ring(self, size: tuple[int, int]) -> Image.Image:
        ring = rounded_mask(size, (self.radius,) * 4)
        inside = size[0] - 2 * self.width, size[1] - 2 * self.width
        if min(inside) > 0:
            hole = rounded_mask(inside, (max(0, self.radius - self.width),) * 4)
            ring.paste(0, (self.width, self.width), hole)
        return ring
