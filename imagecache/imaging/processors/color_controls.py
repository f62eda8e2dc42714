"""Brightness, contrast, saturation and exposure."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image, ImageEnhance

from .arguments import checked_number, give_name
from .pixels import join, split

_LARGEST_EXPOSURE = 16.0


@dataclass(frozen=True, slots=True)
class ColorControls:
    """Change brightness (added, -1 to 1), contrast (a factor around the middle grey), saturation (a factor, 0 is
    grey), and exposure (in stops: each doubles the light).

    The defaults change nothing. Raises TypeError or ValueError for what is no finite number, for a brightness outside
    of -1 to 1, factors below 0 and exposures beyond 16 stops. Kingfisher's ``ColorControlsProcessor``.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    exposure: float = 0.0
    identifier: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "brightness", checked_number("brightness", self.brightness, -1, 1))
        object.__setattr__(self, "contrast", checked_number("contrast", self.contrast, 0, 100))
        object.__setattr__(self, "saturation", checked_number("saturation", self.saturation, 0, 100))
        exposure = checked_number("exposure", self.exposure, -_LARGEST_EXPOSURE, _LARGEST_EXPOSURE)
        object.__setattr__(self, "exposure", exposure)
        give_name(self, self.brightness, self.contrast, self.saturation, self.exposure)

    def process(self, image: Image.Image) -> Image.Image:
        base, alpha = split(image)
        if self.saturation != 1.0 and base.mode == "RGB":
            base = base.convert("L") if self.saturation == 0 else ImageEnhance.Color(base).enhance(self.saturation)
        return join(base.point(self._curve() * len(base.getbands())), alpha, image)

    def _curve(self) -> list[int]:
        """What each level becomes. Light is multiplied after contrast, as Core Image's filters are chained."""
        gain = 2.0**self.exposure
        levels = (((level / 255 - 0.5 + self.brightness) * self.contrast + 0.5) * gain for level in range(256))
        return [min(255, max(0, round(255 * level))) for level in levels]
