"""What tests of both tiers put into them: a value with a checksum, and somebody who listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imagecache.keys import hash_for_key
from imagecache.storage.cache import ImageCache

from .entries import URL


class Picture:
    """A decoded image, as far as the cache is concerned."""

    def __init__(self, checksum: str) -> None:
        self.checksum = checksum


class Listener:
    """Notes what the cache tells."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def did_clean_disk_cache(self, hashes: Sequence[str]) -> None:
        self.told.append(("cleaned", *hashes))

    def did_evict(self, hashes: Sequence[str]) -> None:
        self.told.append(("evicted", *hashes))

    def did_fail_to_store(self, url: str, error: Exception) -> None:
        self.told.append(("failed", url, type(error).__name__))

    def did_fail_on_disk(self, operation: str, error: Exception) -> None:
        self.told.append(("disk", operation, type(error).__name__))


MakeCache = Callable[..., ImageCache[Picture]]


def remember(cache: ImageCache[Picture], checksum: str, key: str = URL, cost: int = 1) -> Picture:
    """Put a value into the memory tier."""
    picture = Picture(checksum)
    cache.memory.store(key, picture, cost=cost, group=hash_for_key(key))
    return picture
