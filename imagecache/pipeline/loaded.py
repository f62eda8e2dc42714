"""What the stage of bytes makes: an answer, how it was come by, and the error that means "load it again"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..cache_status import Forward
from ..entry import Entry
from ..errors import ImageCacheError
from ..metrics import Metrics
from ..protocols import Redirect, ResponseInfo
from ..result import ServedFrom
from .cached import Stamp

if TYPE_CHECKING:
    from ..imaging.shared import SharedImage
    from ..storage.stored import StoreResult


class UnusableError(ImageCacheError):
    """Between the stages only: stored bytes are gone or do not decode. Each who waited loads anew on its own behalf."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A small image that was decoded in the very turn of a worker that looked at its header. ``seconds`` it took."""

    identifier: str
    shared: SharedImage
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """Bytes that are the answer to a request, and how they were come by.

    ``body`` is None where nobody has needed the bytes yet: ``Loader.with_body`` brings them. ``may_keep`` is False for
    a no-store answer. ``stored`` tells what became of storing it, ``measured`` how long that took, once it has ended.
    ``forward`` says why the server was asked, None if it was not, and ``forward_status`` what it answered (RFC 9211,
    2.2 and 2.3). ``was_resumed``: they came in two parts, and nobody but their server says that these belong together.
    ``decoded`` is what was decoded already.
    """

    entry: Entry
    body: bytes | None
    served_from: ServedFrom
    may_keep: bool
    stamp: Stamp
    revalidated: bool = False
    changed: bool = False
    stale: bool = False
    redirects: tuple[Redirect, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)
    stored: asyncio.Future[StoreResult] | None = None
    measured: Metrics | None = None
    forward: Forward | None = None
    forward_status: int | None = None
    was_resumed: bool = False
    decoded: Decoded | None = None

    def asked_for(self, forward: Forward | None, metrics: Metrics) -> Loaded:
        """The same for who asked its server for this reason. By hand: `replace` takes three times as long."""
        return Loaded(
            self.entry, self.body, self.served_from, self.may_keep, self.stamp, self.revalidated, self.changed,
            self.stale, self.redirects, metrics, self.stored, self.measured, forward, self.forward_status,
            self.was_resumed, self.decoded,
        )  # fmt: skip

    @property
    def response(self) -> ResponseInfo:
        """The head of the answer, for delegates."""
        return ResponseInfo(self.entry.url, self.entry.status, self.entry.headers)
