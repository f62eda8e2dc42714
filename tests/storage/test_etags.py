"""The ETag registry is a view of the index: no ETag without its bytes, whatever became of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imagecache.errors import NotInCacheError
from imagecache.expiration import StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.etags import ETagRegistry
from imagecache.testing.clock import FakeClock

from .entries import URL, entry_for, variant_of

MakeDisk = Callable[..., DiskStorage]


@pytest.fixture
def etags(disk: DiskStorage) -> ETagRegistry:
    return ETagRegistry(disk)


async def test_an_etag_is_found_by_url_and_by_hash(etags: ETagRegistry, disk: DiskStorage, clock: FakeClock) -> None:
    await disk.put(entry_for(clock, b"x", etag='W/"7"'), b"x")
    for name in (URL, URL + "#fragment", hash_for_key(URL)):
        assert await etags.get(name) == 'W/"7"'
        assert await etags.contains(name)
    assert await etags.get("http://a.example/other") is None
    assert not await etags.contains("http://a.example/other")


async def test_keys_of_ones_own_are_followed(disk: DiskStorage, clock: FakeClock) -> None:
    etags = ETagRegistry(disk, key_for_url=lambda url: url.partition("?")[0])
    await disk.put(entry_for(clock, b"x"), b"x")
    assert await etags.get(URL + "?signature=1") == '"1"'


async def test_setting_and_removing_keep_the_bytes(etags: ETagRegistry, disk: DiskStorage, clock: FakeClock) -> None:
    disk.put(entry_for(clock, b"x"), b"x")
    await etags.set(URL, '"mine"')
    assert await etags.get(URL) == '"mine"'
    stored = await disk.load(hash_for_key(URL), key=URL)
    assert stored is not None
    assert (stored.entry.etag, stored.body) == ('"mine"', b"x"), "metadata and seal agree"
    assert await etags.remove(URL)
    assert not await etags.remove(URL)
    assert await etags.get(URL) is None
    assert await disk.contains(hash_for_key(URL))


@pytest.mark.parametrize("name", [URL, hash_for_key(URL)])
async def test_an_etag_cannot_be_set_for_what_is_not_there(etags: ETagRegistry, name: str) -> None:
    with pytest.raises(NotInCacheError):
        await etags.set(name, '"1"')


async def test_all_can_be_listed_and_forgotten(etags: ETagRegistry, disk: DiskStorage, clock: FakeClock) -> None:
    for number in range(600):
        disk.put(entry_for(clock, b"x", str(number), etag=f'"{number}"' if number % 2 else None), b"x")
    disk.put(variant_of(entry_for(clock, b"x", "1"), b"v"), b"v")
    disk.put(entry_for(clock, b"x", "page", namespace="response"), b"x")
    assert sorted([pair async for pair in etags]) == sorted((str(n), f'"{n}"') for n in range(1, 600, 2))
    await etags.clear()
    assert [pair async for pair in etags] == []
    assert await disk.count() == 602


@pytest.mark.parametrize("way", ["remove", "clear", "clean", "evict", "discard", "supersede"])
async def test_an_etag_goes_with_its_bytes(etags: ETagRegistry, disk: DiskStorage, clock: FakeClock, way: str) -> None:
    entry = entry_for(clock, b"x", expiration=StorageExpiration.after_seconds(5))
    await disk.put(entry, b"x")
    match way:
        case "remove":
            await disk.remove(entry.row.key_hash)
        case "clear":
            await disk.clear()
        case "clean":
            clock.advance(5)
            await disk.clean()
        case "evict":
            disk.limit = 1
            await disk.clean()
        case "discard":
            disk.discard(entry)
        case "supersede":
            await disk.put(entry_for(clock, b"y", etag=None), b"y")
    assert await etags.get(URL) is None
    assert [pair async for pair in etags] == []
