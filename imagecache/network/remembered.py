"""Permanent redirects that were met before: where they lead, and how long HTTP lets that be taken for granted.

Kept in memory, by one downloader, for requests that say nothing of who asks. Nothing is sent from here; a redirect that
is recalled is followed like any other, guard and handler included.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from ..entry import Entry
from ..expiration import StorageExpiration
from ..headers import Headers
from ..http.cache_control import CacheControl
from ..http.freshness import fresh_until
from ..http.storing import forbids_storing
from ..request import DownloadRequest

PERMANENT = frozenset({301, 308})
REMEMBERED = 1_024
HEURISTIC_SECONDS = 3_600.0
"""How long a redirect counts that says nothing of it (RFC 9111, 4.2.2; RFC 9110, 15.4.2 and 15.4.9). Servers call
things permanent that they take back: longer than an hour saves next to nothing."""


_IMPERSONAL = frozenset({"accept", "accept-encoding", "accept-language", "range", "user-agent"})
"""Not Cache-Control and Pragma, which ask for the origin's word; and of others nobody knows what they say."""


class RememberedRedirects:
    """By URL: status and Location of a permanent redirect, and until when (wall seconds)."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, str, float]] = OrderedDict()

    def note(
        self, request: DownloadRequest, status: int, headers: Headers, request_time: float, response_time: float
    ) -> None:
        """Remember a redirect if HTTP allows it, and forget what was known of its URL."""
        self._known.pop(request.url, None)
        if status not in PERMANENT or not _is_anybodys(request) or "vary" in headers:
            return
        if forbids_storing(request.headers, headers, status=status):
            return
        until = _fresh_until(request.url, status, headers, request_time, response_time)
        if until <= response_time:
            return
        self._known[request.url] = (status, headers.get_all("location")[0], until)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def recall(self, request: DownloadRequest, now: float) -> tuple[int, str] | None:
        """Status and Location, if a request would be redirected so by now; one that asks for no cache is not."""
        known = self._known.get(request.url)
        if known is None or not _is_anybodys(request):
            return None
        status, location, until = known
        if now >= until:
            del self._known[request.url]
            return None
        self._known.move_to_end(request.url)
        return status, location

    def forget(self, url: str | None = None) -> None:
        """Forget what is known of a URL, or everything."""
        if url is None:
            self._known.clear()
        else:
            self._known.pop(url, None)


def _is_anybodys(request: DownloadRequest) -> bool:
    """Whether the answer cannot depend on who asks, nor must come from the origin itself."""
    names = (name.lower() for name in request.headers)
    return request.method == "GET" and all(name in _IMPERSONAL or name.startswith("if-") for name in names)


def _fresh_until(url: str, status: int, headers: Headers, request_time: float, response_time: float) -> float:
    made = Entry.of(url, b"", now=response_time, expiration=StorageExpiration.never(), key=url)
    entry = replace(made, status=status, headers=headers, request_time=request_time)
    control = CacheControl(headers)
    if "no-cache" in control:
        return response_time
    if control.seconds("max-age") is None and "expires" not in headers and "last-modified" not in headers:
        return response_time + HEURISTIC_SECONDS
    return fresh_until(entry)
