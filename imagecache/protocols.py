"""The parts a user may replace, each the smallest protocol that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .headers import Headers

if TYPE_CHECKING:
    from PIL import Image

    from .errors import ImageCacheError
    from .request import DownloadRequest

RequestModifier = Callable[["DownloadRequest"], "DownloadRequest | Awaitable[DownloadRequest | None] | None"]
"""Changes a request before it is sent; None refuses it. Sync or async. Run again for every try."""


UnauthorizedHook = Callable[
    ["DownloadRequest", "ResponseInfo"],
    "Mapping[str, str] | bool | Awaitable[Mapping[str, str] | bool | None] | None",
]
"""Asked what to do about a 401: gets the request that was refused, as it was sent, and the head of the answer.

Header fields are sent with the next try, to that origin alone; True is another try as well, through the request
modifiers, which may know a new token by now; None or False leaves it at the 401. Sync or async.
"""


@runtime_checkable
class ImageProcessor(Protocol):
    """Makes an image of an image, in a worker thread.

    ``identifier`` names what is done, arguments included: two processors with one identifier are the
    same processor to every cache and every flight. ``process`` gets an image of its own to change or
    replace, and returns the one that goes on.
    """

    @property
    def identifier(self) -> str: ...

    def process(self, image: Image.Image) -> Image.Image: ...


@runtime_checkable
class CacheSerializer(Protocol):
    """Turns processed images into the bytes that the disk keeps, and names their format.

    Originals never pass through it: they are kept byte for byte.
    """

    @property
    def identifier(self) -> str: ...

    def serialize(self, image: Image.Image) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RetryContext:
    """What a retry strategy decides on: ``attempt`` is 1 for the first failure; ``elapsed`` in seconds."""

    url: str
    attempt: int
    error: ImageCacheError
    elapsed: float
    retry_after: float | None = None


class RetryStrategy(Protocol):
    """Whether a failed try is followed by another (Kingfisher's ``RetryStrategy``)."""

    def retry_delay(self, context: RetryContext) -> float | None:
        """Seconds to wait before the next try, or None to give up."""
        ...


@dataclass(frozen=True, slots=True)
class Redirect:
    """One hop of a redirection."""

    url: str
    status: int
    location: str


class RedirectHandler(Protocol):
    """May change or refuse a redirect (Kingfisher's ``ImageDownloadRedirectHandler``)."""

    def handle_redirect(
        self, redirect: Redirect, request: DownloadRequest
    ) -> DownloadRequest | Awaitable[DownloadRequest | None] | None:
        """The request to go on with (as given, to follow), or None to refuse the hop."""
        ...


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """The head of an answer, as delegates see it."""

    url: str
    status: int
    headers: Headers


class Animation(Protocol):
    """An animated image, frame by frame, over bytes of its own. A still image has one frame."""

    @property
    def frame_count(self) -> int: ...

    @property
    def loop_count(self) -> int:
        """How often it plays; 0 is for ever."""
        ...

    def duration(self, index: int) -> float:
        """Seconds that a frame is shown; 0.1 where the file says nothing or an absurdly short time."""
        ...

    def frame(self, index: int) -> Image.Image:
        """A frame, composed, decoded now: call it in a worker thread."""
        ...

    def close(self) -> None: ...
