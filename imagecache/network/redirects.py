"""Which request follows a redirect: pure decisions over requests. Nothing is sent and nobody is asked here."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidURLError, RedirectError
from ..headers import Headers
from ..keys import display_url, shown_url, userinfo_of
from ..protocols import Redirect
from ..request import DownloadRequest
from .urls import resolve_location, target_of

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})

_SAFE_FIELDS = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "pragma", "range", "user-agent"}
)
"""What may travel to another origin, besides If-*. An allow-list: nobody knows all names that carry a secret."""


def is_redirect(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the answer sends one elsewhere (RFC 9110, 15.4)."""
    return status in REDIRECT_STATUSES and "Location" in headers


def next_request(request: DownloadRequest, status: int, location: str) -> tuple[Redirect, DownloadRequest]:
    """The hop, and the request that it proposes.

    Raises RedirectError for userinfo in the location, and for one that is no http(s) URL.
    """
    try:
        url = resolve_location(request.url, location)
        has_userinfo = bool(userinfo_of(url))
        crosses = not has_userinfo and target_of(url).origin != target_of(request.url).origin
    except ValueError as error:
        raise _nowhere(error, request.url) from error
    shown = display_url(url)
    if has_userinfo:
        raise RedirectError(f"the redirect to {shown_url(url)} carries credentials", url=request.url)
    headers = safe_headers(request.headers) if crosses else request.headers
    return Redirect(request.url, status, shown), DownloadRequest(url, headers, _method_after(status, request.method))


def check_hop(previous: DownloadRequest, request: DownloadRequest) -> None:
    """Refuse what no redirect may do, whoever proposed it. Raises RedirectError."""
    try:
        target = target_of(request.url)
    except InvalidURLError as error:
        raise _nowhere(error, previous.url) from error
    if target_of(previous.url).is_secure and not target.is_secure:
        raise RedirectError(f"the redirect to {shown_url(request.url)} leaves https for http", url=previous.url)


def safe_headers(headers: Headers) -> Headers:
    """The fields that may travel to another origin."""
    return Headers([(n, v) for n, v in headers.pairs if n.lower() in _SAFE_FIELDS or n.lower().startswith("if-")])


def without_conditions(headers: Headers) -> Headers:
    """The fields less everything that could be answered with less than the whole body (RFC 9110, 13 and 14)."""
    return Headers([(n, v) for n, v in headers.pairs if n.lower() != "range" and not n.lower().startswith("if-")])


def is_conditional(headers: Headers) -> bool:
    """Whether a 304 answers what was asked (RFC 9110, 13.1.2 and 13.1.3)."""
    return "if-none-match" in headers or "if-modified-since" in headers


def _nowhere(error: ValueError, url: str) -> RedirectError:
    reason = error.message if isinstance(error, InvalidURLError) else "no valid URL"
    return RedirectError(f"the redirect leads nowhere: {reason}", url=url)


def _method_after(status: int, method: str) -> str:
    # RFC 9110, 15.4.4: a 303 is fetched with GET whatever led to it.
    return "GET" if status == 303 and method != "HEAD" else method
