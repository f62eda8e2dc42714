"""An adapter for clients of the public HTTP cache test suite (https://cache-tests.fyi, npm http-cache-tests).

It lets the suite talk to ``ImageManager.fetch_response`` under ``PROTOCOL``: an object with ``start``, ``fetch`` and
``close``. Redirects are passed on, nothing is retried, limits on hosts are out of the way, as the suite's scripted
origin needs it, and a stale copy may stand in for it however old; what the suite judges is the cache.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from imagecache import CachePolicy, ImageManager, NetworkError


class ImageCache:
    """A private HTTP cache over a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._manager: ImageManager | None = None

    async def start(self) -> None:
        """Open an empty cache."""
        self._manager = ImageManager(
            "http-cache-suite",
            directory=Path(self._folder.name) / "cache",
            connections=256,
            connections_per_host=256,
            timeout=10.0,
            stale_if_error=math.inf,
        )

    async def fetch(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The cache's answer to one request of the suite."""
        assert self._manager is not None
        assert body is None
        fields: dict[str, str] = {}
        for name, value in headers:
            # A list over several lines is one list (RFC 9110, 5.3).
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        try:
            answer = await self._manager.fetch_response(
                url, method=cast("Literal['GET', 'HEAD']", method), headers=fields, policy=CachePolicy.PROTOCOL
            )
        except NetworkError:
            # What a web back end would pass on (RFC 9110, 15.6.5).
            return 504, [], b""
        return answer.status, list(answer.headers.pairs), answer.body

    async def close(self) -> None:
        """Close it, and drop what it kept."""
        if self._manager is not None:
            await self._manager.aclose()
        self._folder.cleanup()
