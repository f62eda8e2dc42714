"""The Cache-Status field (RFC 9211): what a cache did for one request, as a structured field (RFC 9651)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

CACHE_NAME = "imagecache"
"""The name that this cache goes by."""

Forward = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a server was asked (2.2): ``request`` is a fresh copy that the request or the policy would not have."""

INTEGER_LIMIT = 10**15 - 1
"""What a structured field's integer has room for (RFC 9651, 3.3.1)."""

# RFC 9651, 3.3.4
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_NOT_IN_A_STRING = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What was done for one call; ``str()`` of it is the field value.

    ``hit``: served without asking (2.1). Else ``forward`` tells why the server was asked, ``forward_status`` what it
    answered, ``stored`` whether that was stored, ``collapsed`` whether the call joined another's request (2.2 to 2.6).
    ``ttl`` is the remaining freshness in seconds, negative once stale (2.5); ``detail`` is ours (2.8).

    >>> str(CacheStatus(hit=True, ttl=30, detail="memory"))
    'imagecache; hit; ttl=30; detail=memory'
    >>> str(CacheStatus(forward="stale", forward_status=304, stored=True, ttl=60))
    'imagecache; fwd=stale; fwd-status=304; stored; ttl=60'
    """

    hit: bool = False
    forward: Forward | None = None
    forward_status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str | None = None

    def __str__(self) -> str:
        written = [CACHE_NAME]
        if self.hit:
            # 2.2: never together with fwd, nor with what describes a request that was not made.
            written.append("hit")
        elif self.forward is not None:
            written.append(f"fwd={self.forward}")
            if self.forward_status is not None:
                written.append(f"fwd-status={_integer(self.forward_status)}")
            if self.stored:
                written.append("stored")
            if self.collapsed:
                written.append("collapsed")
        if self.ttl is not None:
            written.append(f"ttl={_integer(self.ttl)}")
        if self.detail is not None:
            written.append(f"detail={_token_or_string(self.detail)}")
        return "; ".join(written)


def _integer(number: int) -> int:
    return max(-INTEGER_LIMIT, min(number, INTEGER_LIMIT))


def _token_or_string(text: str) -> str:
    if _TOKEN.fullmatch(text):
        return text
    # RFC 9651, 3.3.3: a string is of printable ASCII; anything else cannot be told.
    printable = _NOT_IN_A_STRING.sub("?", text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
