"""Processed images as bytes: made in a worker, joined by whoever asks for the same, kept on disk as a variant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..imaging.encode import Encoding
from ..imaging.shared import SharedImage
from ..keys import checksum_of, display_url
from ..request import ImageRequest
from .flight import Flight, Listener
from .load import Loader
from .loaded import Loaded, UnusableError
from .parts import Parts
from .pixels import PixelStage
from .variants import keep_variant, read_variant, variant_of

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class LikeSource:
    """The encoding of a processed image for which no format was asked: as its source, or PNG where that cannot be.

    JPEG holds no alpha, a GIF's 256 colours are a loss, and some formats are only read: those become PNG.
    """

    source: str | None
    quality: int | None = None

    @property
    def identifier(self) -> str:
        """A stable text, as :class:`Encoding` has one."""
        return f"like {self.source}" if self.quality is None else f"like {self.source}({self.quality})"

    def chosen_for(self, image: Image.Image) -> Encoding:
        """The encoding for an image that was made from such a source."""
        if self.source not in ("JPEG", "WEBP", "AVIF") or (self.source == "JPEG" and image.has_transparency_data):
            return Encoding("PNG")
        return Encoding(self.source, self.quality)


AnyEncoding = Encoding | LikeSource


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded bytes, their checksum (SHA-256 hex), and Pillow's name of their format."""

    body: bytes
    checksum: str
    format: str


class EncodeStage:
    """The stage that encodes."""

    def __init__(self, parts: Parts, loader: Loader, pixels: PixelStage) -> None:
        self._parts = parts
        self._loader = loader
        self._pixels = pixels

    async def make(
        self, loaded: Loaded, request: ImageRequest, encoding: AnyEncoding, listener: Listener
    ) -> tuple[Encoded, Loaded]:
        """The bytes in that encoding, and the answer they were made of, which is loaded again where that must be."""
        try:
            return await self._attempt(loaded, request, encoding, listener), loaded
        except UnusableError as error:
            loaded = await self._loader.replace_unusable(error, request, listener)
        return await self._attempt(loaded, request, encoding, listener), loaded

    async def _attempt(
        self, loaded: Loaded, request: ImageRequest, encoding: AnyEncoding, listener: Listener
    ) -> Encoded:
        key = ("encoded", loaded.entry.row, loaded.entry.checksum, variant_of(request, encoding.identifier))
        return await self._parts.flights.join(key, partial(self._encode, loaded, request, encoding), listener)

    async def _encode(
        self, loaded: Loaded, request: ImageRequest, encoding: AnyEncoding, flight: Flight[Encoded]
    ) -> Encoded:
        """From the disk if they were made before of the same body, else made now."""
        parts = self._parts
        variant = variant_of(request, encoding.identifier)
        stored = await read_variant(parts, loaded.entry, variant, request)
        if stored is not None and stored.body is not None:
            return Encoded(stored.body, stored.entry.checksum, stored.entry.format or "")
        made = await self._pixels.attempt(loaded, request, flight)
        pixels, url = made.cached.pixels, display_url(request.url)
        encoded = await parts.workers.run(_encode, pixels, encoding, url, cost=pixels.cost)
        parts.counters.encodes += 1
        keep_variant(parts, loaded, variant, encoded.body, encoded.checksum, encoded.format)
        return encoded


def _encode(pixels: SharedImage, encoding: AnyEncoding, url: str) -> Encoded:
    image = pixels.image()
    chosen = encoding.chosen_for(image) if isinstance(encoding, LikeSource) else encoding
    body = chosen.encode(image, url=url)
    return Encoded(body, checksum_of(body), chosen.format)
