"""Cutting a part out of an image."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from .arguments import checked_length, checked_number, give_name


@dataclass(frozen=True, slots=True)
class Crop:
    """Cut ``width`` by ``height`` pixels out of the image, at most what there is.

    ``anchor`` says where, as fractions of what is left over: (0, 0) keeps the top left, (0.5, 0.5) the middle,
    (1, 1) the bottom right; values outside of 0 to 1 count as the nearer of them. Raises TypeError or ValueError
    for sizes that are no positive whole numbers. Kingfisher's ``CroppingImageProcessor``.

    >>> Crop(20, 20).box_in((100, 100))
    (40, 40, 60, 60)
    """

    width: int
    height: int
    anchor: tuple[float, float] = (0.5, 0.5)
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_length("width", self.width)
        checked_length("height", self.height)
        if not isinstance(self.anchor, tuple | list) or len(self.anchor) != 2:
            raise TypeError(f"anchor is a pair of numbers, not {self.anchor!r}")
        anchor = tuple(min(1.0, max(0.0, checked_number("anchor", value))) for value in self.anchor)
        object.__setattr__(self, "anchor", anchor)
        give_name(self, self.width, self.height, self.anchor)

    def process(self, image: Image.Image) -> Image.Image:
        box = self.box_in(image.size)
        return image if box == (0, 0, *image.size) else image.crop(box)

    def box_in(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part (left, top, right, bottom) that is kept of an image of this size."""
        width, height = min(self.width, size[0]), min(self.height, size[1])
        left = round(self.anchor[0] * (size[0] - width))
        top = round(self.anchor[1] * (size[1] - height))
        return left, top, left + width, top + height
