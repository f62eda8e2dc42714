"""The ETag registry: a view of the index, so that no ETag outlives the bytes that it names."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

from ..errors import NotInCacheError
from ..keys import display_url, hash_for_key, key_for_url
from .disk import DiskStorage

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ETagRegistry:
    """The entity tags (RFC 9110, 8.8.3) of what is stored, by URL or by key hash.

    A text of 64 hexadecimal digits is a hash (as delegates are told), anything else a URL. An entry that is
    cleaned, evicted, removed or found damaged takes its ETag along. ``async for key, etag in registry`` gives all;
    a key whose answers differ by user or by Vary comes once for each.
    """

    def __init__(self, disk: DiskStorage, *, key_for_url: Callable[[str], str] = key_for_url) -> None:
        self._disk = disk
        self._key_for_url = key_for_url

    async def get(self, url_or_hash: str) -> str | None:
        """The ETag, quotes and weakness mark included, or None if there is none."""
        return await self._disk.etag(self._hash(url_or_hash))

    async def set(self, url_or_hash: str, etag: str) -> None:
        """Replace the ETag that the next conditional request sends.

        Raises NotInCacheError if nothing is stored: a condition without bytes would be answered by a 304 for which
        there is no image.
        """
        if not await self._disk.set_etag(self._hash(url_or_hash), etag):
            is_hash = _HASH.fullmatch(url_or_hash)
            raise NotInCacheError(
                "an ETag can be set only for what is stored", url="" if is_hash else display_url(url_or_hash)
            )

    async def remove(self, url_or_hash: str) -> bool:
        """Forget the ETag and keep the bytes; whether there was one."""
        key_hash = self._hash(url_or_hash)
        had_one = await self._disk.etag(key_hash) is not None
        await self._disk.set_etag(key_hash, None)
        return had_one

    async def contains(self, url_or_hash: str) -> bool:
        """Whether there is an ETag."""
        return await self.get(url_or_hash) is not None

    async def clear(self) -> None:
        """Forget every ETag and keep all bytes."""
        await self._disk.remove_etags()

    async def __aiter__(self) -> AsyncIterator[tuple[str, str]]:
        async for _, key, etag in self._disk.etags():
            yield key, etag

    def _hash(self, url_or_hash: str) -> str:
        if _HASH.fullmatch(url_or_hash):
            return url_or_hash
        return hash_for_key(self._key_for_url(url_or_hash))
