"""What a cache did for a request, as the value of a Cache-Status field (RFC 9211)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Forward = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request went to the server (2.2)."""

CACHE_NAME = "imagecache"

# RFC 9651, 3.3.4 and 3.3.3.
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_NOT_IN_STRING = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """How a cache handled a request; ``str()`` gives the field value.

    ``hit``: without asking the server. ``forward``: why it was asked, ``forward_status`` what it answered. ``stored``:
    the answer is kept. ``collapsed``: with other requests for the same. ``ttl``: seconds of freshness left, negative
    where there are none. ``detail`` is where a hit was found, or another word on what happened.
    """

    hit: bool = False
    forward: Forward | None = None
    forward_status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str | None = None

    def __str__(self) -> str:
        parameters = [CACHE_NAME]
        if self.hit:
            parameters.append("hit")
        if self.forward is not None:
            parameters.append(f"fwd={self.forward}")
        if self.forward_status is not None:
            parameters.append(f"fwd-status={self.forward_status}")
        if self.stored:
            parameters.append("stored")
        if self.collapsed:
            parameters.append("collapsed")
        if self.ttl is not None:
            parameters.append(f"ttl={self.ttl}")
        if self.detail is not None:
            parameters.append(f"detail={_token_or_string(self.detail)}")
        return "; ".join(parameters)


def _token_or_string(text: str) -> str:
    if _TOKEN.fullmatch(text):
        return text
    escaped = _NOT_IN_STRING.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
