"""A function as a processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, slots=True)
class Custom:
    """Any function of an image as a processor, run in a worker thread.

    ``identifier`` must name everything that the result depends on: two functions under one identifier are the same
    to the cache, on disk too. ``function`` gets an image of its own and returns one. Raises TypeError or
    ValueError for an identifier that is no text, empty, or contains "|>", and for what cannot be called. Kingfisher's
    ``CIImageProcessor`` and Nuke's ``Anonymous``.

    >>> flip = Custom("flip", lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    >>> flip.process(Image.new("L", (3, 2))).size
    (3, 2)
    """

    identifier: str
    function: Callable[[Image.Image], Image.Image] = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.identifier, str) or not callable(self.function):
            raise TypeError("a Custom processor is made of an identifier (str) and a function of an image")
        if not self.identifier.strip() or "|>" in self.identifier:
            raise ValueError(f"an identifier is not empty and does not contain '|>': {self.identifier!r}")

    def process(self, image: Image.Image) -> Image.Image:
        return self.function(image)
