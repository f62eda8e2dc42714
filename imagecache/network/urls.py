"""From a URL as given to what is sent: parsing, quoting, userinfo, origin. Pure; no I/O."""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote, urljoin

from yarl import URL

from ..errors import InvalidURLError
from ..keys import check_url, display_url, userinfo_of

# RFC 3986: unreserved, reserved, and whole percent-triplets.
_PLAIN = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]*"
_SENDABLE = re.compile(f"{_PLAIN}(?:%[0-9A-Fa-f]{{2}}{_PLAIN})*")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. ``origin`` is scheme, host and port (RFC 9110, 4.3.1)."""

    url: URL
    host: str
    origin: tuple[str, str, int]

    @property
    def is_secure(self) -> bool:
        """Whether it goes over TLS."""
        return self.origin[0] == "https"


@functools.lru_cache(maxsize=256)
def target_of(url: str) -> Target:
    """The target of an http(s) URL without userinfo.

    A URL that can be sent as it stands is sent so: signatures are made over the very spelling, and normalising
    ``%7E`` would break them. Only what cannot be sent (spaces, other alphabets) is quoted.

    Raises InvalidURLError.
    """
    try:
        is_sendable = _SENDABLE.fullmatch(url) is not None
        if not is_sendable:
            # yarl drops lone surrogates, and would ask for another URL.
            url.encode()
        parsed = URL(url, encoded=is_sendable)
        scheme, host, port = parsed.scheme, parsed.raw_host, parsed.port
    except ValueError as error:
        raise InvalidURLError(f"no valid URL: {error}", url=display_url(url)) from error
    if scheme not in {"http", "https"} or not host or port is None:
        raise InvalidURLError("no http or https URL with a host", url=display_url(url))
    host = host.lower()
    return Target(parsed, host, (scheme, host, port))


def checked_url(url: object) -> str:
    """The URL as a string, if it can be asked for at all; as ``keys.check_url``, which words its errors.

    Parses only once what is parsed for sending anyway. Raises InvalidURLError.
    """
    # A URL with userinfo must not stay in the cache of targets.
    if isinstance(url, str) and "@" not in url:
        try:
            target_of(url)
        except InvalidURLError:
            pass
        else:
            return url
    return check_url(url)


def split_userinfo(url: str) -> tuple[str, str | None]:
    """The URL without userinfo, and the ``Authorization`` that the userinfo means (RFC 7617), if there is one."""
    userinfo = userinfo_of(url)
    if not userinfo:
        return display_url(url), None
    user, _, password = userinfo.partition(":")
    credentials = f"{unquote(user)}:{unquote(password)}".encode()
    return display_url(url), "Basic " + base64.b64encode(credentials).decode("ascii")


def resolve_location(base: str, location: str) -> str:
    """The URL that a ``Location`` means, with the fragment of ``base`` if it has none (RFC 9110, 10.2.2)."""
    url = urljoin(base, location)
    fragment = base.partition("#")[2]
    return f"{url}#{fragment}" if fragment and "#" not in url else url
