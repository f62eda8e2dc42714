"""Resizing to a given size, larger or smaller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from PIL import Image

from ..modes import to_simple
from .arguments import checked_length, give_name

ContentMode = Literal["none", "aspect_fit", "aspect_fill"]

# See Downsample; it only takes effect on reductions by more than four.
_REDUCING_GAP = 2.0


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize to ``width`` by ``height`` pixels.

    ``mode``: ``"none"`` stretches to exactly that size; ``"aspect_fit"`` keeps the shape and fits within it;
    ``"aspect_fill"`` keeps the shape and covers it (nothing is cut off; see Crop). Enlarges where need be. Raises
    TypeError or ValueError for sizes that are no positive whole numbers and for other modes. Kingfisher's
    ``ResizingImageProcessor``.

    >>> Resize(100, 50, "aspect_fill").process(Image.new("L", (64, 64))).size
    (100, 100)
    """

    width: int
    height: int
    mode: ContentMode = "none"
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_length("width", self.width)
        checked_length("height", self.height)
        if self.mode not in get_args(ContentMode):
            raise ValueError(f"mode is one of {', '.join(get_args(ContentMode))}, not {self.mode!r}")
        give_name(self, self.width, self.height, self.mode)

    def process(self, image: Image.Image) -> Image.Image:
        target = self.target_of(image.size)
        if target == image.size:
            return image
        return to_simple(image).resize(target, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)

    def target_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size that an image of this size gets."""
        if self.mode == "none":
            return self.width, self.height
        scales = self.width / size[0], self.height / size[1]
        scale = min(scales) if self.mode == "aspect_fit" else max(scales)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
