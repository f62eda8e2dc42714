"""What a network task brings home. A value."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..headers import Headers
from ..metrics import Metrics
from ..protocols import Redirect
from ..request import DownloadRequest
from .body import SpoolFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """An answer that was accepted, and the way to it.

    ``request`` is the last one, as it was sent (without userinfo, which travels as Authorization); ``url`` is the URL
    asked for, ``final_url`` the one that answered. ``headers`` fit ``body``: where a content coding was undone,
    Content-Encoding and Content-Length are gone. ``request_time`` and ``response_time`` are wall seconds around the
    head of the last answer (RFC 9111, 4.2.3). ``bytes_received`` counts body bytes off the wire, failed tries included.
    ``resumed_at``: the bytes of ``body`` that had come before, to a try or call that broke off; ``request`` is then
    without the fields that asked for the rest only, ``status`` and ``headers`` are those of the whole.
    ``spool``: the file that ``body`` was written to while it came, if it was.
    ``modified``: a request modifier changed the URL. ``data_replaced``: a delegate gave other bytes.
    """

    request: DownloadRequest
    url: str
    final_url: str
    status: int
    headers: Headers
    body: bytes = field(repr=False)
    request_time: float
    response_time: float
    redirects: tuple[Redirect, ...] = ()
    bytes_received: int = 0
    metrics: Metrics
    resumed_at: int = 0
    spool: SpoolFile | None = field(default=None, repr=False, compare=False)
    modified: bool = False
    data_replaced: bool = False
