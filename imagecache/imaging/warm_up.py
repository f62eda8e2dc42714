"""What only the first decode of a process takes, a thumbnail's own time twice over, done while nobody waits for it."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

from PIL import Image

from .decode import DecodeOptions, decode
from .limits import ImageLimits
from .shared import SharedImage
from .view import views_are_safe


def is_cold() -> bool:
    """Whether nothing was decoded in this process yet."""
    return not views_are_safe.cache_info().currsize


def warm_up() -> None:
    """Decode a picture, and let nobody know. Blocks; meant for a worker thread."""
    body = BytesIO()
    # Whatever fails here fails again where somebody hears of it.
    with suppress(Exception):
        Image.new("RGB", (8, 8)).save(body, "JPEG")
        SharedImage(decode(body.getvalue(), options=DecodeOptions(), limits=ImageLimits()), is_alone=True)
