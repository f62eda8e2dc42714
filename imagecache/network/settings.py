"""What the network room may do and for how long: values with DESIGN.md's protecting defaults. No I/O, no aiohttp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from .. import __version__
from ..headers import Headers
from .guard import parse_allowed

if TYPE_CHECKING:
    from ssl import SSLContext

ACCEPT = "image/avif,image/webp,image/png,image/jpeg,image/gif,*/*;q=0.5"
"""What Pillow decodes well comes first; anything else is still better than an error."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of time of one download, in seconds; each ends in ``TimedOutError(limit=…)``.

    ``connect``: name resolution, connection and TLS, each hop. ``idle``: from the connection to the end of the
    answer's head, and between two pieces of its body. ``total``: everything over hops, tries and waits, from the
    moment a connection slot is granted, the time spent queueing left out; None is no limit. ``min_rate``: bytes a
    second that a body must come at, looked at every ``rate_window`` seconds; 0 is no limit.

    Raises ValueError for a limit that is not over 0.
    """

    connect: float = 5.0
    idle: float = 10.0
    total: float | None = 60.0
    min_rate: float = 1024
    rate_window: float = 10.0

    def __post_init__(self) -> None:
        for name in ("connect", "idle", "total", "rate_window"):
            value = getattr(self, name)
            if value is None and name == "total":
                continue
            if not value > 0:
                raise ValueError(f"the {name} timeout is over 0 seconds, not {value!r}")
        if not 0 <= self.min_rate < math.inf:
            raise ValueError(f"min_rate is a number of bytes a second, 0 for no limit, not {self.min_rate!r}")


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a downloader behaves towards servers.

    ``max_body``: bytes of a decoded body. ``max_redirects``: hops followed. ``per_host`` and ``connections``:
    downloads under way at one host and in all; ``host_limits`` sets other numbers for hosts by name.
    ``requests_per_second``: requests that one host is sent, evenly spaced; None for as many as it answers.
    ``newest_first``: of those who wait with one priority, the last to come is served first.
    ``user_agent``: None is ``imagecache/VERSION``. ``headers``: fields of every request, under the request's own.
    ``block_private``: refuse every address that is not globally reachable. ``allow_addresses``: hosts by name or
    networks (``"192.168.1.0/24"``) that are visited all the same; link-local ones are refused without it in any
    case. ``trust_env``: use the proxy of the environment, which resolves names itself, so that addresses cannot be
    guarded. ``max_retry_after``: seconds of a ``Retry-After`` that are waited out. ``ssl``: an SSLContext, or False
    for no verification.

    Raises ValueError for numbers out of range and for an ``allow_addresses`` that is neither host nor network.
    """

    timeouts: Timeouts = Timeouts()
    max_body: int = 64 * MIB
    max_redirects: int = 10
    per_host: int = 6
    connections: int = 64
    host_limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    requests_per_second: float | None = None
    newest_first: bool = False
    user_agent: str | None = None
    headers: Headers | Mapping[str, str] = Headers()
    block_private: bool = False
    allow_addresses: tuple[str, ...] = ()
    trust_env: bool = False
    max_retry_after: float = 5.0
    ssl: SSLContext | bool = True

    def __post_init__(self) -> None:
        for name in ("max_body", "per_host", "connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)!r}")
        for name in ("max_redirects", "max_retry_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is 0 or more, not {getattr(self, name)!r}")
        limits = {host.lower(): limit for host, limit in self.host_limits.items()}
        for host, limit in limits.items():
            if limit < 1:
                raise ValueError(f"host_limits[{host!r}] is at least 1, not {limit!r}")
        rate = self.requests_per_second
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"requests_per_second is over 0, or None for no limit, not {rate!r}")
        parse_allowed(self.allow_addresses)
        # A frozen value over somebody's dict would change with it.
        object.__setattr__(self, "host_limits", MappingProxyType(limits))
        object.__setattr__(self, "headers", Headers(self.headers))
        object.__setattr__(self, "allow_addresses", tuple(self.allow_addresses))

    @property
    def default_headers(self) -> Headers:
        """The fields that a request has unless it says otherwise."""
        ours = {
            "User-Agent": self.user_agent or f"imagecache/{__version__}",
            "Accept": ACCEPT,
            # Images are compressed already; an identity body can be measured, resumed and trusted in its length.
            "Accept-Encoding": "identity",
        }
        return Headers(ours).updated(Headers(self.headers).pairs)
