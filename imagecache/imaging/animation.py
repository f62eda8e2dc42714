"""Animated images, frame by frame, each over bytes and with a decoder of its own.

Nothing is kept but the decoder's canvas: an animation is never expanded at once, so its memory is that of one frame.
"""

from __future__ import annotations

import threading

from PIL import Image, ImageFile

from .decode import check_decoded, finish
from .foreign import decoding
from .header import ImageHeader, open_image
from .limits import ImageLimits
from .structure import structure_of

DEFAULT_DURATION = 0.1
"""Seconds of a frame of which the file says nothing, or something absurd; what browsers and Kingfisher do."""

_ABSURDLY_SHORT_MS = 11.0


def open_animation(data: bytes, limits: ImageLimits, url: str = "") -> PillowAnimation:
    """The animation in these bytes; a still image has one frame. Blocks for the header only.

    Raises NotAnImageError, ImageTooLargeError, DecodeError.
    """
    return PillowAnimation(data, limits, url)


class PillowAnimation:
    """An animated image: GIF, APNG, WebP or AVIF; every other image is one still frame.

    Frames come composed, upright, in L, LA, RGB or RGBA, each an image of its own. Decoding forwards is cheap; going
    back starts again from the first frame. May be used from several threads, one at a time gets to decode.
    """

    def __init__(self, data: bytes, limits: ImageLimits, url: str = "") -> None:
        image, header = open_image(data, limits=limits, url=url)
        self._image: ImageFile.ImageFile | None = image
        self._limits, self._url = limits, url
        self._header: ImageHeader = header
        self._lock = threading.Lock()
        with decoding(url, header.format):
            structure = structure_of(data, header.format)
        self._durations, self._loop_count = structure.durations, structure.loop_count
        # An APNG may begin with a picture for those who do not know APNG; it is no frame.
        self._first = 1 if header.frame_count > 1 and getattr(image, "default_image", False) else 0

    @property
    def frame_count(self) -> int:
        """The number of frames; 1 for a still image."""
        return self._header.frame_count

    @property
    def loop_count(self) -> int:
        """How often it plays; 0 is for ever, as every AVIF does."""
        return self._loop_count

    def duration(self, index: int) -> float:
        """Seconds that a frame is shown; 0.1 where the file says nothing or an absurdly short time (11 ms or less).

        Does not decode. Raises IndexError.
        """
        self._check(index)
        milliseconds = self._durations[index] if index < len(self._durations) else 0.0
        return milliseconds / 1000 if milliseconds > _ABSURDLY_SHORT_MS else DEFAULT_DURATION

    def frame(self, index: int) -> Image.Image:
        """A frame, composed, decoded now. Blocks; meant for a worker thread.

        Raises IndexError for a frame that there is not, ValueError after :meth:`close`, DecodeError for a damaged one,
        ImageTooLargeError for one over the limits.
        """
        self._check(index)
        with self._lock:
            image = self._opened()
            with decoding(self._url, self._header.format):
                if self.frame_count > 1:
                    image.seek(index + self._first)
                image.load()
                check_decoded(image, self._limits, self._url)
                # The decoder composes the next frame on this one's pixels, so they are not given away.
                frame = image.copy()
                frame.format = self._header.format
                return finish(frame, "auto")

    def close(self) -> None:
        """Let go of the decoder and the bytes; a second call does nothing."""
        with self._lock:
            image, self._image = self._image, None
            if image is not None:
                image.close()

    def __enter__(self) -> PillowAnimation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> ImageFile.ImageFile:
        if self._image is None:
            raise ValueError("the animation is closed")
        return self._image

    def _check(self, index: int) -> None:
        if not 0 <= index < self.frame_count:
            raise IndexError(f"there are {self.frame_count} frames, and no frame {index}")
