"""Memory, disk and ETags as one cache, and the news of it for delegates. What an image is, nobody here knows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..clock import Clock, SystemClock
from ..delegate import Delegates
from ..entry import Entry, Protection
from ..errors import NotInCacheError, StorageError
from ..expiration import AccessExtension, StorageExpiration
from ..keys import display_url, hash_for_key, key_for_url
from ..result import CacheType
from .disk import DEFAULT_LIMIT, DiskStorage
from .etags import ETagRegistry
from .files import check_target, write_atomically
from .memory import DEFAULT_EXPIRATION, MemoryStorage
from .operations import Change
from .rows import Order
from .stats import CacheHealth, CacheStats, TierStats, hit_rate
from .stored import Stored, StoreResult, StoreStatus
from .verify import BodyCheck, VerifyReport

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


def _as_variant(entry: Entry, original: Entry, processor: str) -> Entry:
    """What a processor made of an original: it lives as long as that, and goes with it."""
    return replace(
        original,
        row=replace(original.row, processor=processor),
        checksum=entry.checksum,
        byte_count=entry.byte_count,
        etag=None,
        format=entry.format,
        width=None,
        height=None,
    )


def _none_waiting() -> int:
    return 0


class ImageCache(Generic[V]):
    """Both tiers and the registry (Kingfisher's ``ImageCache``), usable without a manager.

    ``directory`` is where the disk's folder is made, None for memory only. Limits are in bytes. ``on_change`` hears
    what was removed or replaced through this object, and what others stored, removed or cleared
    (`DiskStorage.subscribe`): a key hash (``*`` for everything) and the checksum of the bytes that are current
    (None: there are none), after the memory tier has followed. What `put` replaces is left to the caller, who
    knows which values belong to the same user. ``check_body`` is whoever can tell an image from other bytes, for
    `verify`; ``decodes_waiting`` counts for `health` what waits to be decoded.

    ``memory``, ``disk`` and ``etags`` are the parts.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        clock: Clock | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        memory_items: int | None = None,
        memory_expiration: StorageExpiration = DEFAULT_EXPIRATION,
        disk_limit: int = DEFAULT_LIMIT,
        disk_expiration: StorageExpiration = DEFAULT_DISK_EXPIRATION,
        delegates: Delegates | None = None,
        key_for_url: Callable[[str], str] = key_for_url,
        on_change: Callable[[str, str | None], None] | None = None,
        check_body: BodyCheck | None = None,
        decodes_waiting: Callable[[], int] = _none_waiting,
    ) -> None:
        clock = clock or SystemClock()
        self.memory: MemoryStorage[V] = MemoryStorage(
            memory_limit, clock=clock, max_items=memory_items, expiration=memory_expiration, on_evict=self._did_evict
        )
        self.disk = DiskStorage(
            directory, clock=clock, limit=disk_limit, on_fault=self._did_fail_on_disk, on_trim=self._did_clean
        )
        self.etags = ETagRegistry(self.disk, key_for_url=key_for_url)
        self.disk_expiration = disk_expiration
        self._clock = clock
        self._delegates = delegates or Delegates()
        self._key_for_url = key_for_url
        self._on_change = on_change
        self._check_body = check_body
        self._decodes_waiting = decodes_waiting
        self._has_directory = directory is not None
        self.disk.subscribe(self._follow)

    # Storing

    def put(
        self,
        entry: Entry,
        body: bytes,
        *,
        protection: Protection | None = None,
        written: str | None = None,
        told: Callable[[StoreResult], object] | None = None,
    ) -> asyncio.Future[StoreResult]:
        """`DiskStorage.put`, and the delegates are told if the image cannot be kept."""

        def ended(result: StoreResult) -> None:
            if told is not None:
                told(result)
            if result.status is not StoreStatus.STORED:
                self._tell_if_not_kept(entry, result)

        return self.disk.put(entry, body, protection=protection, written=written, told=ended)

    async def store(
        self,
        url: str,
        data: bytes,
        *,
        processor: str = "",
        etag: str | None = None,
        format: str | None = None,
        expiration: StorageExpiration | None = None,
    ) -> None:
        """Store bytes for a URL as they are, and drop from memory what was made of others.

        `get` finds them at once; they are written within a moment, or before `flush` returns. Waits while more is
        queued than the disk has written. ``processor`` says what they were made with, of the original that is stored;
        ``etag`` is sent with the next conditional request, ``format`` is Pillow's name of what the bytes are. An
        expiration that has passed removes what is stored.

        Raises StorageError if they cannot be kept, NotInCacheError for a variant of nothing. What goes wrong with the
        disk only later is told to the delegates.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"what is stored are bytes, not {type(data).__name__}")
        expires, now = expiration or self.disk_expiration, self._clock.time()
        if expires.stored_until(now) <= now:
            await self._remove(url, processor)
            return
        key = self._key_for_url(url)
        entry = await asyncio.to_thread(
            Entry.of, url, data, now=now, expiration=expires, key=key, etag=etag, format=format
        )
        if processor:
            entry = _as_variant(entry, (await self._find(url)).entry, processor)
        else:
            self._drop(entry.row.key_hash, entry.checksum)
        await self.disk.make_room(len(data))
        stored = self.put(entry, data)
        if stored.done() and (result := stored.result()).status is not StoreStatus.STORED:
            raise StorageError(f"not stored: {result.status.value}", url=entry.url) from result.error

    async def get(self, url: str, *, processor: str = "", extension: AccessExtension | None = None) -> bytes | None:
        """The bytes stored for a URL, or what a processor made of them; None if there are none or they have expired.

        ``extension`` is what this access does to how long they are stored: by their own lifetime where nothing is said.
        """
        stored = await self._load(url, processor)
        if stored is None:
            return None
        self.disk.touch(stored.entry.row, extension)
        return stored.body

    async def export(self, url: str, path: str | os.PathLike[str], *, processor: str = "") -> Path:
        """Write the stored bytes to a file, which appears there whole or not at all; extends nothing.

        Raises NotInCacheError if there are none, StorageError where the file cannot be written.
        """
        target = check_target(path)
        stored = await self._find(url, processor)
        assert stored.body is not None
        return await asyncio.to_thread(write_atomically, target, stored.body, stored.entry.url)

    async def pin(self, url: str, *, pinned: bool = True) -> int:
        """Keep all that is stored for a URL from being evicted or expired, or no longer; how many rows there are.

        What is stored for it later is not pinned, unless it replaces a row that is.
        """
        return await self.disk.pin(self.hash_of(url), pinned=pinned)

    async def flush(self) -> None:
        """Wait until what is queued is written, but not for a process that does not let go of the index."""
        await self.disk.flush()

    # Removing

    async def remove(self, url: str) -> int:
        """Remove all that is stored for a URL, in both tiers: every variant, of every user. How many rows."""
        key_hash = self.hash_of(url)
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
        key_hash = self.hash_of(url)
        if self.memory.group(key_hash):
            return CacheType.MEMORY
        return CacheType.DISK if await self.disk.contains(key_hash) else CacheType.NONE

    async def variants(self, url: str) -> list[Entry]:
        """What processors made of a URL's image, as far as it is on disk: ``entry.row.processor`` says with what."""
        now = self._clock.time()
        entries = await self.disk.rows(self.hash_of(url))
        return [entry for entry in entries if entry.row.processor and entry.stored_until > now]

    async def entries(
        self,
        *,
        order: Order = "added",
        is_descending: bool = False,
        where: Callable[[Entry], bool] | None = None,
    ) -> AsyncIterator[Entry]:
        """Everything on disk, of any number, a little at a time: ``async for entry in cache.entries()``.

        ``order`` is ``"added"``, ``"used"`` (by the last access), ``"expires"`` or ``"size"``. Variants, what has
        expired and bare responses (``entry.row.namespace``) are among them; ``where`` says which are wanted.
        """
        async for entry in self.disk.entries(order, is_descending=is_descending):
            if where is None or where(entry):
                yield entry

    async def size(self) -> int:
        """The bytes of all bodies on disk."""
        return await self.disk.size()

    async def stats(self) -> CacheStats:
        """How full the tiers are, and what they did."""
        memory, disk = self.memory, self.disk
        return CacheStats(
            memory=TierStats(
                count=len(memory),
                bytes=memory.cost,
                limit=memory.limit,
                hits=memory.hits,
                misses=memory.misses,
                stores=memory.stores,
                evictions=memory.evictions,
            ),
            disk=TierStats(
                count=await disk.count(),
                bytes=await disk.size(),
                limit=disk.limit,
                hits=disk.hits,
                misses=disk.misses,
                stores=disk.stores,
                evictions=disk.evictions,
                refused=disk.too_large + disk.refused,
                faults=disk.faults,
            ),
        )

    def health(self) -> CacheHealth:
        """Whether it works, at this moment; looks at nothing but counters."""
        memory, disk = self.memory, self.disk
        return CacheHealth(
            disk_state=disk.state,
            last_fault=disk.last_fault,
            faults=disk.faults,
            queue_depth=disk.queue_depth,
            memory_hit_rate=hit_rate(memory.hits, memory.misses),
            disk_hit_rate=hit_rate(disk.hits, disk.misses),
            too_large=disk.too_large,
            queue_full=disk.refused,
            decodes_waiting=self._decodes_waiting(),
        )

    async def verify(self) -> VerifyReport:
        """Read everything on disk, compare it with its checksums, decode it where the cache has a manager, and drop
        what is damaged; totals are counted anew. Takes as long as it takes, and nobody waits for it."""
        return await self.disk.verify(self._check_body)

    async def aclose(self) -> None:
        """Write what is queued and close the disk tier; memory is dropped."""
        await self.disk.aclose()
        self.memory.clear()

    # Inside

    def hash_of(self, url: str) -> str:
        """The key hash that a URL is stored under."""
        return hash_for_key(self._key_for_url(url))

    async def _load(self, url: str, processor: str = "") -> Stored | None:
        key = self._key_for_url(url)
        stored = await self.disk.load(hash_for_key(key), key=display_url(key), processor=processor)
        return None if stored is None or stored.entry.stored_until <= self._clock.time() else stored

    async def _find(self, url: str, processor: str = "") -> Stored:
        stored = await self._load(url, processor)
        if stored is None:
            raise NotInCacheError("nothing is stored", url=display_url(url))
        return stored

    async def _remove(self, url: str, processor: str) -> None:
        if not processor:
            await self.remove(url)
        elif (stored := await self._load(url, processor)) is not None:
            self.disk.discard(stored.entry)

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

    def _did_fail_on_disk(self, operation: str, error: Exception) -> None:
        self._delegates.notify("did_fail_on_disk", operation, error)

    def _did_evict(self, groups: list[str]) -> None:
        self._delegates.notify("did_evict", groups)

    def _tell_if_not_kept(self, entry: Entry, result: StoreResult) -> None:
        told = {StoreStatus.TOO_LARGE, StoreStatus.NO_ROOM, StoreStatus.QUEUE_FULL, StoreStatus.FAILED}
        if self._has_directory:
            told.add(StoreStatus.UNAVAILABLE)
        if result.status in told:
            error = result.error or StorageError(f"not stored: {result.status.value}", url=entry.url)
            self._delegates.notify("did_fail_to_store", entry.url, error)
