"""Memory, disk and ETags as one cache, and the news of it for delegates. What an image is, nobody here knows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..clock import Clock
from ..delegate import Delegates
from ..entry import Entry, Protection, RowKey
from ..errors import StorageError
from ..expiration import StorageExpiration
from ..headers import Headers
from ..keys import display_url, hash_for_key, key_for_url
from ..result import CacheType
from .disk import DEFAULT_LIMIT, DiskStorage
from .etags import ETagRegistry
from .memory import DEFAULT_EXPIRATION, MemoryStorage
from .operations import Change
from .stored import DiskState, StoreResult, StoreStatus

DEFAULT_MEMORY_LIMIT = 256 * 2**20
DEFAULT_DISK_EXPIRATION = StorageExpiration.after_days(7)
"""Kingfisher's ``DiskStorage.Config.expiration``."""


class HasChecksum(Protocol):
    """What is kept in memory: it knows the bytes that it was made from."""

    @property
    def checksum(self) -> str:
        """SHA-256 hex of those bytes."""
        ...


V = TypeVar("V", bound=HasChecksum)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How full the tiers are and how the disk fares. Sizes in bytes."""

    memory_count: int
    memory_bytes: int
    memory_limit: int
    disk_count: int
    disk_bytes: int
    disk_limit: int
    disk_state: DiskState
    disk_evictions: int
    disk_faults: int
    queue_depth: int
    last_fault: Exception | None


class ImageCache(Generic[V]):
    """Both tiers and the registry (Kingfisher's ``ImageCache``), usable without a manager.

    ``directory`` is where the disk's folder is made, None for memory only. Limits are in bytes. ``on_change`` hears
    what was removed or replaced through this object, and what others stored, removed or cleared
    (`DiskStorage.subscribe`): a key hash (``*`` for everything) and the checksum of the bytes that are current
    (None: there are none), after the memory tier has followed. What `put` replaces is left to the caller, who
    knows which values belong to the same user.

    ``memory``, ``disk`` and ``etags`` are the parts.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        clock: Clock,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        memory_items: int | None = None,
        memory_expiration: StorageExpiration = DEFAULT_EXPIRATION,
        disk_limit: int = DEFAULT_LIMIT,
        disk_expiration: StorageExpiration = DEFAULT_DISK_EXPIRATION,
        delegates: Delegates | None = None,
        key_for_url: Callable[[str], str] = key_for_url,
        on_change: Callable[[str, str | None], None] | None = None,
    ) -> None:
        self.memory: MemoryStorage[V] = MemoryStorage(
            memory_limit, clock=clock, max_items=memory_items, expiration=memory_expiration, on_evict=self._did_evict
        )
        self.disk = DiskStorage(directory, clock=clock, limit=disk_limit, on_trim=self._did_clean)
        self.etags = ETagRegistry(self.disk, key_for_url=key_for_url)
        self.disk_expiration = disk_expiration
        self._clock = clock
        self._delegates = delegates or Delegates()
        self._key_for_url = key_for_url
        self._on_change = on_change
        self._has_directory = directory is not None
        self.disk.subscribe(self._follow)

    # Storing

    def put(self, entry: Entry, body: bytes, *, protection: Protection | None = None) -> asyncio.Future[StoreResult]:
        """`DiskStorage.put`, and the delegates are told if the image cannot be kept."""
        stored = self.disk.put(entry, body, protection=protection)
        if stored.done():
            self._tell_if_not_kept(entry, stored)
        else:
            stored.add_done_callback(lambda future: self._tell_if_not_kept(entry, future))
        return stored

    async def store_data(
        self,
        url: str,
        data: bytes,
        *,
        etag: str | None = None,
        format: str | None = None,
        expiration: StorageExpiration | None = None,
    ) -> None:
        """Store bytes for a URL as they are, and drop from memory what was made of others.

        ``etag`` is sent with the next conditional request, ``format`` is Pillow's name of what the bytes are. An
        expiration that has passed removes what is stored. Raises StorageError if they cannot be kept.
        """
        expires, now = expiration or self.disk_expiration, self._clock.time()
        if expires.stored_until(now) <= now:
            await self.remove(url)
            return
        checksum = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        key = self._key_for_url(url)
        key_hash = hash_for_key(key)
        entry = Entry(
            row=RowKey(key_hash),
            key=display_url(key),
            url=display_url(url),
            final_url=display_url(url),
            status=200,
            headers=Headers({} if etag is None else {"ETag": etag}),
            vary_fields=(),
            request_time=now,
            response_time=now,
            validated_at=now,
            stored_at=now,
            stored_until=expires.stored_until(now),
            lifetime=expires.seconds,
            checksum=checksum,
            source_checksum=checksum,
            byte_count=len(data),
            etag=etag,
            format=format,
        )
        self._drop(key_hash, checksum)
        result = await self.put(entry, data)
        if result.status is not StoreStatus.STORED:
            raise StorageError(f"not stored: {result.status.value}", url=entry.url) from result.error

    async def data(self, url: str) -> bytes | None:
        """The bytes stored for a URL, or None if there are none or they have expired; extends their expiration."""
        key = self._key_for_url(url)
        now = self._clock.time()
        stored = await self.disk.load(hash_for_key(key), key=display_url(key))
        if stored is None or stored.entry.stored_until <= now:
            return None
        self.disk.touch(stored.entry.row)
        return stored.body

    # Removing

    async def remove(self, url: str) -> int:
        """Remove all that is stored for a URL, in both tiers: every variant, of every user. How many rows."""
        key_hash = hash_for_key(self._key_for_url(url))
        self._drop(key_hash, None)
        return await self.disk.remove(key_hash)

    def clear_memory(self) -> None:
        """Drop everything from memory; the disk keeps its bytes."""
        self.memory.clear()

    async def clear_disk(self) -> None:
        """Drop everything from the disk, ETags with it; memory keeps its values."""
        await self.disk.clear()

    async def clear(self) -> None:
        """Drop everything from both tiers."""
        self._drop("*", None)
        await self.disk.clear()

    async def clean_expired(self) -> list[str]:
        """Drop what has expired from both tiers, then what is over the disk's limit; the hashes that went from disk.

        Delegates get them as ``did_clean_disk_cache`` (Kingfisher's ``KingfisherDidCleanDiskCache``).
        """
        self.memory.sweep()
        hashes = await self.disk.clean()
        if hashes:
            self._did_clean(hashes)
        return hashes

    # Looking

    async def is_cached(self, url: str) -> CacheType:
        """Which tier has something for a URL, the faster one first; extends nothing."""
        key_hash = hash_for_key(self._key_for_url(url))
        if self.memory.group(key_hash):
            return CacheType.MEMORY
        return CacheType.DISK if await self.disk.contains(key_hash) else CacheType.NONE

    async def size(self) -> int:
        """The bytes of all bodies on disk."""
        return await self.disk.size()

    async def stats(self) -> CacheStats:
        """How full the tiers are."""
        return CacheStats(
            memory_count=len(self.memory),
            memory_bytes=self.memory.cost,
            memory_limit=self.memory.limit,
            disk_count=await self.disk.count(),
            disk_bytes=await self.disk.size(),
            disk_limit=self.disk.limit,
            disk_state=self.disk.state,
            disk_evictions=self.disk.evictions,
            disk_faults=self.disk.faults,
            queue_depth=self.disk.queue_depth,
            last_fault=self.disk.last_fault,
        )

    async def aclose(self) -> None:
        """Write what is queued and close the disk tier; memory is dropped."""
        await self.disk.aclose()
        self.memory.clear()

    # Inside

    def _follow(self, changes: list[Change]) -> None:
        for key_hash, checksum in changes:
            self._drop(key_hash, checksum)

    def _drop(self, key_hash: str, checksum: str | None) -> None:
        """Drop from memory what was made of other bytes than these, and say so."""
        if key_hash == "*":
            self.memory.clear()
        else:
            self.memory.remove_group(key_hash, keep=lambda value: value.checksum == checksum)
        if self._on_change is not None:
            self._on_change(key_hash, checksum)

    def _did_clean(self, hashes: list[str]) -> None:
        self._delegates.notify("did_clean_disk_cache", hashes)

    def _did_evict(self, groups: list[str]) -> None:
        self._delegates.notify("did_evict", groups)

    def _tell_if_not_kept(self, entry: Entry, future: asyncio.Future[StoreResult]) -> None:
        if future.cancelled():
            return
        result = future.result()
        told = {StoreStatus.TOO_LARGE, StoreStatus.NO_ROOM, StoreStatus.QUEUE_FULL, StoreStatus.FAILED}
        if self._has_directory:
            told.add(StoreStatus.UNAVAILABLE)
        if result.status in told:
            error = result.error or StorageError(f"not stored: {result.status.value}", url=entry.url)
            self._delegates.notify("did_fail_to_store", entry.url, error)
