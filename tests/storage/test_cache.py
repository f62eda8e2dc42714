"""Both tiers as one: what is removed from one is not served by the other, and delegates hear of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imagecache.errors import StorageError
from imagecache.expiration import StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.result import CacheType
from imagecache.storage.cache import ImageCache
from imagecache.storage.stored import DiskState
from imagecache.testing.clock import FakeClock

from .caches import Listener, MakeCache, Picture, remember
from .entries import URL, entry_for

KEY_HASH = hash_for_key(URL)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_bytes_are_stored_and_found(cache: ImageCache[Picture]) -> None:
    assert await cache.get(URL) is None
    assert await cache.is_cached(URL) is CacheType.NONE
    await cache.store(URL, b"bytes", etag='"1"')
    assert await cache.get(URL) == b"bytes"
    assert await cache.is_cached(URL) is CacheType.DISK
    assert await cache.etags.get(URL) == '"1"'
    assert await cache.size() == 5


async def test_userinfo_is_not_stored(cache: ImageCache[Picture], tmp_path: Path) -> None:
    await cache.store("http://user:hunter2@a.example/x.png", b"bytes")
    assert await cache.get("http://user:hunter2@a.example/x.png") == b"bytes"
    await cache.aclose()
    stored = all_bytes(tmp_path)
    assert b"hunter2" not in stored
    assert b"a.example" in stored


async def test_memory_is_told_before_disk(cache: ImageCache[Picture]) -> None:
    await cache.store(URL, b"bytes")
    remember(cache, "c")
    assert await cache.is_cached(URL) is CacheType.MEMORY
    cache.clear_memory()
    assert await cache.is_cached(URL) is CacheType.DISK
    remember(cache, "c")
    await cache.clear_disk()
    assert await cache.is_cached(URL) is CacheType.MEMORY
    await cache.clear()
    assert await cache.is_cached(URL) is CacheType.NONE


async def test_removing_takes_both_tiers_and_the_etag(cache: ImageCache[Picture]) -> None:
    await cache.store(URL, b"bytes", etag='"1"')
    remember(cache, "c")
    assert await cache.remove(URL) == 1
    assert await cache.is_cached(URL) is CacheType.NONE
    assert await cache.etags.get(URL) is None


async def test_other_bytes_drop_what_memory_has_of_the_old_ones(cache: ImageCache[Picture], clock: FakeClock) -> None:
    same = remember(cache, entry_for(clock, b"new").checksum)
    old = Picture("old")
    cache.memory.store((URL, "round"), old, cost=1, group=KEY_HASH)
    await cache.store(URL, b"new")
    assert cache.memory.group(KEY_HASH) == [same]


async def test_expired_bytes_are_not_data_and_access_extends(cache: ImageCache[Picture], clock: FakeClock) -> None:
    await cache.store(URL, b"bytes", expiration=StorageExpiration.after_seconds(10))
    clock.advance(9)
    assert await cache.get(URL) == b"bytes"
    clock.advance(9)
    assert await cache.get(URL) == b"bytes"
    clock.advance(10)
    assert await cache.get(URL) is None
    await cache.store(URL, b"bytes")
    await cache.store(URL, b"bytes", expiration=StorageExpiration.expired())
    assert await cache.get(URL) is None


async def test_what_others_do_reaches_memory(make_cache: MakeCache, clock: FakeClock) -> None:
    changes: list[tuple[str, str | None]] = []
    here, there = make_cache(on_change=lambda *change: changes.append(change)), make_cache()
    await here.get(URL)
    old = entry_for(clock, b"old").checksum
    remember(here, old)
    await there.store(URL, b"old")
    await there.flush()
    await asyncio.sleep(0)
    assert len(here.memory) == 1, "the bytes it was made of"
    await there.store(URL, b"new")
    await there.flush()
    await asyncio.sleep(0)
    assert len(here.memory) == 0
    remember(here, "x")
    await there.clear()
    await asyncio.sleep(0)
    assert len(here.memory) == 0
    assert changes == [(KEY_HASH, old), (KEY_HASH, entry_for(clock, b"new").checksum), ("*", None)]
    await here.remove(URL)
    assert changes[-1] == (KEY_HASH, None)


async def test_delegates_hear_of_cleaning_eviction_and_failure(
    make_cache: MakeCache, clock: FakeClock, listener: Listener
) -> None:
    cache = make_cache(memory_limit=10, disk_limit=5000)
    await cache.store(URL, b"bytes", expiration=StorageExpiration.after_seconds(5))
    clock.advance(5)
    assert await cache.clean_expired() == [KEY_HASH]
    assert await cache.clean_expired() == []
    held = [remember(cache, "c", key=str(number), cost=5) for number in range(3)]
    with pytest.raises(StorageError, match="too large"):
        await cache.store(URL, bytes(5000))
    await cache._delegates.drain()
    assert listener.told == [
        ("cleaned", KEY_HASH),
        ("evicted", hash_for_key("0")),
        ("failed", URL, "StorageError"),
    ]
    assert len(held) == 3


async def test_memory_alone_is_a_cache_too(make_cache: MakeCache, listener: Listener) -> None:
    cache = make_cache(None)
    remember(cache, "c")
    assert await cache.is_cached(URL) is CacheType.MEMORY
    with pytest.raises(StorageError, match="unavailable"):
        await cache.store(URL, b"x")
    await cache.clean_expired()
    await cache._delegates.drain()
    assert listener.told == [], "nobody expects a disk that was not asked for"
    stats = await cache.stats()
    assert (stats.memory.count, stats.disk.count, cache.health().disk_state) == (0, 0, DiskState.OFF)
    assert cache.health().is_healthy
