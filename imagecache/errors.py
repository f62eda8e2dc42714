"""Every error a caller can see, and nothing else.

    ImageCacheError
    ├── RequestError                what was asked cannot be sent
    │   ├── InvalidURLError         no URL, no host, a scheme other than http(s)
    │   ├── RequestModifierError    a request modifier raised, or returned None
    │   └── AddressRefusedError     the host resolves to an address that is not to be visited
    ├── NetworkError                the server could not be heard, or not to the end
    │   ├── ConnectionFailedError   no name, no route, refused, reset, TLS
    │   ├── TimedOutError           which of the limits: connect, idle, rate, total
    │   ├── TruncatedBodyError      the body ended before its announced length
    │   └── RedirectError           too many, a loop, a downgrade, a refused hop
    ├── ResponseError               an answer came, and it is of no use
    │   ├── BadStatusError          status, headers, retry_after
    │   ├── ResponseRefusedError    a delegate said no to the response or its bytes
    │   └── BodyTooLargeError       over the limit, announced or counted
    ├── ImageError                  the bytes came, and are no image that may be made
    │   ├── NotAnImageError         empty, HTML, an unknown or a refused format
    │   ├── DecodeError             damaged or cut
    │   ├── ImageTooLargeError      more pixels or frames than the limits allow
    │   ├── ProcessorError          an image processor raised
    │   └── EncodeError             the image cannot be written in that format
    ├── DownloadCancelledError      somebody called cancel(url) or cancel_all()
    └── CacheError
        ├── NotInCacheError         CACHE_ONLY, or bytes that are no longer stored
        ├── StorageError            disk or index fault, only where storing was the very thing asked
        ├── WrongLoopError          a manager used on another event loop than its own
        └── ManagerClosedError      the manager was closed before or during the call

Each carries the URL it is about (without userinfo), says what to do where there is something to do,
and has the foreign exception, if there was one, as its ``__cause__``. Cancellation is not among them:
it is ``asyncio.CancelledError``, untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeVar

from .masking import without_signatures

if TYPE_CHECKING:
    from .headers import Headers


E = TypeVar("E", bound=Exception)


def _blank(cls: type[E], args: tuple[object, ...]) -> E:
    error = cls.__new__(cls)
    error.args = args
    return error


class ImageCacheError(Exception):
    """The base of all errors of this library.

    ``url`` is the URL asked for, without userinfo, or "" where none is known; ``str()`` shows it without signatures.
    ``errors`` are those of the URLs that were tried before this one, where a call had ``alternatives``; each is a note
    of this error, too.
    """

    errors: tuple[ImageCacheError, ...] = ()

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.url = url

    def __str__(self) -> str:
        return f"{self.message} [{without_signatures(self.url)}]" if self.url else self.message

    def __reduce__(
        self,
    ) -> tuple[Callable[..., ImageCacheError], tuple[type[Self], tuple[object, ...]], dict[str, object]]:
        # The constructors take keywords, which an exception does not keep for copying and for other processes.
        return _blank, (type(self), self.args), self.__dict__

    def fresh(self) -> Self:
        """A new exception of the same content.

        Every waiter of one flight raises its own: a shared exception object would collect the
        tracebacks and contexts of strangers.
        """
        again = _blank(type(self), self.args)
        again.__dict__.update(self.__dict__)
        again.__cause__ = self.__cause__
        if notes := self.__dict__.get("__notes__"):
            # A note of one waiter's is no other's.
            again.__notes__ = list(notes)
        return again


class RequestError(ImageCacheError):
    """What was asked cannot be sent; nothing went over the network."""


class InvalidURLError(RequestError, ValueError):
    """No URL, no host, or a scheme other than http and https."""


class RequestModifierError(RequestError):
    """A request modifier raised (see ``__cause__``) or returned None."""


class AddressRefusedError(RequestError):
    """The host's address is one that this manager does not visit; the message names the option."""


class NetworkError(ImageCacheError):
    """The server could not be heard, or not to the end. Worth another try later."""


class ConnectionFailedError(NetworkError):
    """No such name, no route, refused, reset, or TLS failed."""


class TimedOutError(NetworkError, TimeoutError):
    """A limit of time ran out. ``limit`` is "connect", "idle", "rate" or "total"."""

    def __init__(self, message: str, *, url: str = "", limit: str = "total") -> None:
        super().__init__(message, url=url)
        self.limit = limit


class TruncatedBodyError(NetworkError):
    """The body ended before the length or last chunk that was announced."""


class RedirectError(NetworkError):
    """Too many redirects, a loop, a downgrade to http, or a hop that was refused."""


class ResponseError(ImageCacheError):
    """An answer came, and it is of no use."""


class BadStatusError(ResponseError):
    """A status that is no image. ``retry_after`` is the server's wish in seconds, if it told one."""

    def __init__(
        self,
        message: str,
        *,
        url: str = "",
        status: int,
        headers: Headers,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, url=url)
        self.status = status
        self.headers = headers
        self.retry_after = retry_after


class PreconditionFailedError(BadStatusError):
    """What is there is not what the call asked for (``expected_etag``, ``unmodified_since``): a 412, the server's or
    our own finding. What is stored stays."""


class ResponseRefusedError(ResponseError):
    """A delegate refused the response, or rejected its bytes."""


class BodyTooLargeError(ResponseError):
    """The body is over the limit. ``limit`` is that limit in bytes."""

    def __init__(self, message: str, *, url: str = "", limit: int) -> None:
        super().__init__(message, url=url)
        self.limit = limit


class ImageError(ImageCacheError):
    """The bytes came, and no image may or can be made of them."""


class NotAnImageError(ImageError):
    """Empty, HTML, or a format that is unknown or not allowed."""


class DecodeError(ImageError):
    """The image is damaged or cut short."""


class ImageTooLargeError(ImageError):
    """More decoded bytes, pixels or frames than the limits allow; found before decoding."""


class ProcessorError(ImageError):
    """An image processor raised (see ``__cause__``). ``processor`` is its identifier."""

    def __init__(self, message: str, *, url: str = "", processor: str) -> None:
        super().__init__(message, url=url)
        self.processor = processor


class EncodeError(ImageError):
    """The image cannot be written in the format asked for."""


class DownloadCancelledError(ImageCacheError):
    """``cancel(url)`` or ``cancel_all()`` ended it (Kingfisher's ``taskCancelled``); never tried again.

    Not ``asyncio.CancelledError``: the task that waited was not cancelled, what it waited for was.
    """


class CacheError(ImageCacheError):
    """The cache could not do what it alone was asked to do."""


class NotInCacheError(CacheError, LookupError):
    """Nothing is stored, and the call forbade the network; or the stored bytes are gone."""


class StorageError(CacheError):
    """A disk or index fault. A fetch never raises it: there the image still comes."""


class ManagerClosedError(CacheError):
    """The manager was closed before the call, or while it waited."""


class WrongLoopError(CacheError, RuntimeError):
    """A manager belongs to the event loop it was first used on, and was used on another one."""
