"""How processed images lie on disk. Originals never come here: they are kept byte for byte."""

from __future__ import annotations

from PIL import Image

from .encode import Encoding


class FormatCacheSerializer:
    """Keeps processed images in one format: PNG, unless another is named, as it loses nothing.

    ``format`` and ``quality`` are :class:`Encoding`'s. Raises ValueError for those that do not exist. Kingfisher's
    ``FormatIndicatedCacheSerializer``.
    """

    def __init__(
        self,
        format: str = "PNG",
        quality: int | None = None,
    ) -> None:
        self._encoding = Encoding(format, quality)

    @property
    def identifier(self) -> str:
        """Stable, and other for every format and quality."""
        return self._encoding.identifier

    def serialize(self, image: Image.Image) -> bytes:
        """The bytes to keep. Blocks; raises EncodeError."""
        return self._encoding.encode(image)

    def __repr__(self) -> str:
        return f"FormatCacheSerializer({self.identifier})"
