"""The one border where Pillow's exceptions become ours. No decision about images is made here.

On damaged bytes Pillow and its codecs raise what they like: OSError, ValueError, SyntaxError, struct.error,
zlib.error, OverflowError, AssertionError, MemoryError. So this catches Exception, which is right nowhere else.
What Pillow only warns of is no error: quiet.py keeps it to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from PIL import Image, UnidentifiedImageError

from ..errors import DecodeError, EncodeError, ImageCacheError, ImageTooLargeError, NotAnImageError
from .quiet import Quiet

_TOLD_AT_MOST = 200


class Border(Quiet):
    """Raises what ``ours`` makes of whatever Pillow raises within, its cause kept; our own errors pass."""

    __slots__ = ("_ours",)

    def __init__(self, ours: Callable[[Exception], ImageCacheError]) -> None:
        self._ours = ours

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, Exception) and not isinstance(error, ImageCacheError):
            raise self._ours(error) from error


def decoding(url: str, name: str | None = None) -> Border:
    """Turn what a decoder raises into NotAnImageError, ImageTooLargeError or DecodeError."""
    return Border(partial(_not_decoded, name=name, url=url))


def encoding(url: str, name: str) -> Border:
    """Turn what an encoder raises into EncodeError."""
    return Border(lambda error: EncodeError(f"the image cannot be written as {name}: {_told(error)}", url=url))


def _not_decoded(error: Exception, *, name: str | None, url: str) -> ImageCacheError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageTooLargeError(f"the image is over Pillow's own limit: {_told(error)}", url=url)
    if isinstance(error, MemoryError):
        return ImageTooLargeError("there is not enough memory to decode the image", url=url)
    if not isinstance(error, UnidentifiedImageError):
        return DecodeError(f"the {name or 'image'} data is damaged or cut short: {_told(error)}", url=url)
    if name is None:
        return NotAnImageError("the bytes are no image of an allowed format", url=url)
    return DecodeError(f"the bytes begin like {name}, but are damaged, or this Pillow cannot read {name}", url=url)


def _told(error: Exception) -> str:
    # A codec's message may quote the bytes it choked on, at any length.
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= _TOLD_AT_MOST else text[:_TOLD_AT_MOST] + "…"
