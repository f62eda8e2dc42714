"""Whoever listens: the callbacks of a download and of the cache, and how they are called.

A delegate is any object with any subset of these methods, each sync or async; there may be several, called
in the order they were added. They run in an empty context: no caller's context variables are seen while
work is done for another. One that raises is logged and otherwise as if it were not there.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from .errors import ImageCacheError
    from .metrics import FetchReport
    from .protocols import ResponseInfo
    from .request import DownloadRequest

logger = logging.getLogger("imagecache")
# Silent unless the program asks: without a handler Python prints warnings by itself.
logger.addHandler(logging.NullHandler())


class ImageDownloaderDelegate:
    """The callbacks of a download (Kingfisher's ``ImageDownloaderDelegate``), in the order they come.

    Inherit from it for the signatures, or write any object with some of these methods; any of them may
    be ``async def``. These defaults are never called.
    """

    def will_download_image(self, url: str, request: DownloadRequest) -> Awaitable[None] | None:
        """Once per network task, before it is sent; not for callers who join it."""

    def is_valid_status_code(self, status: int, url: str) -> Awaitable[bool | None] | bool | None:
        """Whether this status is a success; None leaves it to the default (200 only). One False refuses."""

    def did_receive_response(self, response: ResponseInfo) -> Awaitable[bool | None] | bool | None:
        """The head is there; False refuses the body, which is then not read."""

    def did_download_data(self, data: bytes, url: str) -> Awaitable[bytes | None] | bytes | None:
        """The whole body is there. Return it, or other bytes in its place; None rejects it."""

    def did_finish_downloading_image(
        self, url: str, response: ResponseInfo | None, error: ImageCacheError | None
    ) -> Awaitable[None] | None:
        """Exactly once per network task, success or not; ``error`` is None on success."""

    def did_download_image(self, image: Image.Image, url: str, response: ResponseInfo) -> Awaitable[None] | None:
        """Once per caller who gets an image that was downloaded for it."""


class ImageCacheDelegate:
    """The callbacks of the cache. Hashes are the very values of ``hash_for_key``."""

    def did_clean_disk_cache(self, hashes: Sequence[str]) -> Awaitable[None] | None:
        """Cleaning (expired, then over the limit) took these from the disk, their ETags along with them.

        A hash is that of the key, ``hash_for_key``, also where only a processed image went. Kingfisher's
        ``KingfisherDidCleanDiskCache``. Clearing or removing by hand does not come here.
        """

    def did_evict(self, hashes: Sequence[str]) -> Awaitable[None] | None:
        """The memory tier dropped these to stay within its limit."""

    def did_fail_to_store(self, url: str, error: Exception) -> Awaitable[None] | None:
        """The image came and was handed out, and could not be kept on disk."""

    def did_fail_on_disk(self, operation: str, error: Exception) -> Awaitable[None] | None:
        """The disk tier failed to ``"open"``, ``"read"``, ``"write"``, ``"use the index"``, ``"read a file"`` or
        ``"write a file"``.

        Told once, and again only after the same has worked in between. Images go on being fetched; while the folder
        cannot be opened they are kept in memory only.
        """

    def did_refresh_image(self, url: str, changed: bool) -> Awaitable[None] | None:
        """A copy that had been served was revalidated behind; ``changed`` if the server has another one."""


CALLBACKS = frozenset(
    name for cls in (ImageDownloaderDelegate, ImageCacheDelegate) for name in vars(cls) if not name.startswith("_")
)


class Handle:
    """What adding something returns: ``remove()`` takes it away again, and so does leaving ``with``."""

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove: Callable[[], None] | None = remove

    def remove(self) -> None:
        """Take it away; a second call does nothing."""
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


class Delegates:
    """The delegates of a manager or downloader, and the one way to call them."""

    def __init__(self) -> None:
        self._delegates: list[list[object]] = []
        self._methods: dict[str, list[Callable[..., Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, delegate: object) -> Handle:
        """Add a delegate; TypeError if it has none of the callbacks (a misspelt one, most likely)."""
        if not any(callable(getattr(delegate, name, None)) for name in CALLBACKS):
            raise TypeError(f"{delegate!r} has none of the delegate methods: {', '.join(sorted(CALLBACKS))}")
        # A box for each: the same delegate added twice is two, and each handle takes its own away.
        box = [delegate]
        self._delegates.append(box)
        self._index()

        def remove() -> None:
            self._delegates = [other for other in self._delegates if other is not box]
            self._index()

        return Handle(remove)

    def _index(self) -> None:
        bases = (ImageDownloaderDelegate, ImageCacheDelegate)
        self._methods = {}
        for (delegate,) in self._delegates:
            for name in CALLBACKS:
                method = getattr(delegate, name, None)
                own = getattr(type(delegate), name, None)
                # A method set on the object alone is no class's: that None is not the base's missing one.
                inherited = own is not None and any(own is vars(base).get(name) for base in bases)
                if callable(method) and not inherited:
                    self._methods.setdefault(name, []).append(method)

    def listens(self, name: str) -> bool:
        """Whether anybody has this callback."""
        return name in self._methods

    async def ask(self, name: str, *args: object) -> list[Any]:
        """Call every delegate's ``name`` and return the answers; one that raises is logged and left out."""
        answers = []
        for method in self._methods.get(name, ()):
            try:
                answers.append(await call_in_empty_context(method, *args))
            except Exception:  # A delegate's fault is not the download's.
                logger.exception("the delegate method %s raised", name)
        return answers

    async def replace_data(self, data: bytes, url: str) -> bytes | None:
        """Hand the body through every ``did_download_data``; None as soon as one rejects it."""
        for method in self._methods.get("did_download_data", ()):
            try:
                replaced = await call_in_empty_context(method, data, url)
            except Exception:
                logger.exception("the delegate method did_download_data raised")
                continue
            if replaced is None:
                return None
            data = bytes(replaced)
        return data

    def notify(self, name: str, *args: object) -> None:
        """Call every delegate's ``name`` without waiting; for news that nobody's answer depends on."""
        if name in self._methods:
            task = asyncio.get_running_loop().create_task(self._tell(name, args), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, name: str, args: tuple[object, ...]) -> None:
        await self.ask(name, *args)

    async def drain(self, *, patience: float = 5.0) -> None:
        """Wait until all news has been delivered; what takes more than ``patience`` seconds is cut off.

        A delegate may be waiting for whoever drains: closing the manager from a callback is an odd thing to do, and no
        reason to hang.
        """
        for _ in range(2):
            others = self._tasks - {asyncio.current_task()}
            if not others:
                return
            # The second round is for what they do about being cancelled; one that refuses even that is left behind.
            _, late = await asyncio.wait(others, timeout=patience)
            for task in late:
                task.cancel()


class Observers:
    """Who is told of the end of each call: functions, called at once, where the call was made."""

    def __init__(self) -> None:
        self._observers: list[tuple[Callable[[FetchReport], object]]] = []

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Callable[[FetchReport], object]) -> Handle:
        """Add one. Raises TypeError if it is not callable."""
        if not callable(observer):
            raise TypeError(f"an observer is called with a FetchReport; {observer!r} cannot be called")
        entry = (observer,)
        self._observers = [*self._observers, entry]

        def remove() -> None:
            self._observers = [e for e in self._observers if e is not entry]

        return Handle(remove)

    def tell(self, report: FetchReport) -> None:
        """Call them all; one that raises is logged."""
        for (observer,) in self._observers:
            try:
                observer(report)
            except Exception:  # Nobody's image depends on who watches.
                logger.exception("an observer raised")


async def call_in_empty_context(function: Callable[..., Any], *args: object) -> Any:
    """Call a user's function, sync or async, where no caller's context variables are set."""
    context = contextvars.Context()
    try:
        answer = context.run(function, *args)
        if inspect.isawaitable(answer):
            if not inspect.iscoroutine(answer):
                return await answer
            answer = await asyncio.get_running_loop().create_task(answer, context=context)
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Something that the function awaited was cancelled, and nobody cancelled us: that is its failure.
        raise RuntimeError("a callback ended in a cancellation of its own") from cancelled
    return answer
