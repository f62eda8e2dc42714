"""The one border where Pillow's exceptions become ours. No decision about images is made here.

On damaged bytes Pillow and its codecs raise what they like: OSError, ValueError, SyntaxError, struct.error,
zlib.error, OverflowError, AssertionError, MemoryError. So this catches Exception, which is right nowhere else.
What Pillow only warns of is no error: quiet.py keeps it to itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ..errors import DecodeError, EncodeError, ImageCacheError, ImageTooLargeError, NotAnImageError
from .quiet import quiet

_TOLD_AT_MOST = 200


@contextmanager
def decoding(url: str, name: str | None = None) -> Iterator[None]:
    """Turn what a decoder raises into NotAnImageError, ImageTooLargeError or DecodeError, its cause kept."""
    try:
        with quiet():
            yield
    except ImageCacheError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"the image is over Pillow's own limit: {_told(error)}", url=url) from error
    except MemoryError as error:
        raise ImageTooLargeError("there is not enough memory to decode the image", url=url) from error
    except UnidentifiedImageError as error:
        if name is None:
            raise NotAnImageError("the bytes are no image of an allowed format", url=url) from error
        raise DecodeError(
            f"the bytes begin like {name}, but are damaged, or this Pillow cannot read {name}", url=url
        ) from error
    except Exception as error:
        raise DecodeError(f"the {name or 'image'} data is damaged or cut short: {_told(error)}", url=url) from error


@contextmanager
def encoding(url: str, name: str) -> Iterator[None]:
    """Turn what an encoder raises into EncodeError, its cause kept."""
    try:
        with quiet():
            yield
    except ImageCacheError:
        raise
    except Exception as error:
        raise EncodeError(f"the image cannot be written as {name}: {_told(error)}", url=url) from error


def _told(error: Exception) -> str:
    # A codec's message may quote the bytes it choked on, at any length.
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= _TOLD_AT_MOST else text[:_TOLD_AT_MOST] + "…"
