"""The disk tier as its users see it: one object a manager, over a store that may be shared. Nothing here blocks.

What is here belongs to one user of a folder: its limit, its subscriptions, its loop. What belongs to the folder is
the store's. No fault of disk or index is raised from here, except by `hold`, where a file is what was asked for.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..clock import Clock, SystemClock, TimerHandle
from ..delegate import Handle
from ..entry import Entry, Namespace, Protection, RowKey
from ..errors import StorageError
from ..expiration import AccessExtension
from .access import access
from .held import HeldFiles
from .index import ROW_COST, Index
from .keeper import is_busy
from .leases import Leases
from .listing import entries_of
from .operations import Change, Clear, Discard, Mark, Operation, Pin, Put, Refresh, Remove, SetETag, original_of
from .readers import Lookup
from .registry import REGISTRY
from .rows import Order, secret_of, totals_of
from .sightings import Sighting
from .spool import Spool
from .store import Store, Subscriber
from .stored import DiskState, Stored, StoreResult, StoreStatus
from .trimming import expire, shrink, trim
from .verify import BodyCheck, VerifyReport, verify
from .writer import UNUSABLE, tell

T = TypeVar("T")

DEFAULT_LIMIT = 2**30
PATIENCE = 2.0
"""Seconds that removing, clearing or flushing waits for a process that does not let go of the index."""
TOUCH_DELAY = 10.0
"""Seconds after which accesses are written, if nothing else was written before."""

_ETAG_SLICE = 256
TOLD_AT_ONCE = 500
"""Changes that are followed in one step of the loop, some tenths of a millisecond."""


def newest(entries: Sequence[Entry]) -> Entry | None:
    """The entry stored last."""
    return max(entries, key=lambda entry: entry.stored_at, default=None)


def _always(_: Entry) -> bool:
    return True


@functools.cache
def _process_secret() -> bytes:
    return secrets.token_bytes(32)


class DiskStorage:
    """Bytes and their metadata on disk (Kingfisher's ``DiskStorage.Backend``).

    ``directory`` is where our own folder is made; None for no disk at all: then every method still works, and finds
    nothing. ``limit`` is in bytes, for bodies and a fixed cost a row. ``on_fault`` is called on the loop with what
    failed ("open", "read", "read a file", "write", "write a file", "use the index") and the error, once until the same
    has worked again.

    ``on_trim`` is called on the loop with the key hashes that had to go when something was stored over the limit.

    Several storages, in one process or in several, may share a directory.

    >>> disk = DiskStorage(folder)
    >>> entry = Entry.of(url, data, now=time.time(), expiration=StorageExpiration.after_days(7))
    >>> result = await disk.put(entry, data)
    >>> stored = await disk.load(entry.row.key_hash, key=entry.key)
    >>> await disk.aclose()
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        clock: Clock | None = None,
        limit: int = DEFAULT_LIMIT,
        on_fault: Callable[[str, Exception], None] | None = None,
        on_trim: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._limit = limit
        # Some look-ups on the loop, once: what is put before the folder is open must find whom it shares it with.
        self._directory = None if directory is None else Path(directory).resolve()
        self._clock = clock = clock or SystemClock()
        self._on_fault = on_fault
        self._on_trim = on_trim
        self._registry = REGISTRY
        self._store: Store | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[Callable[[list[Change]], None]] = []
        self._to_tell: deque[Change] = deque()
        self._touch_timer: TimerHandle | None = None
        self._secret: tuple[int, bytes] | None = None
        self._leases = Leases(clock)
        self._held = HeldFiles(clock)
        self._is_closed = False
        self.hits = 0
        """How many loads found something."""
        self.misses = 0
        self.too_large = 0
        """How many puts were refused because they could never fit within the limit."""
        self.refused = 0
        """How many puts were refused because the queue was full."""

    @property
    def directory(self) -> Path | None:
        """The directory that was given, resolved; our own folder lies inside it. None for no disk at all."""
        return self._directory

    @property
    def limit(self) -> int:
        """The most bytes: bodies and a fixed cost a row. Setting it lower evicts, in the background."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        store = self._own_store
        if store is not None and not self._is_closed:
            store.trim_later(limit)

    # Reading

    async def load(
        self,
        key_hash: str,
        *,
        key: str,
        scope: str = "",
        processor: str = "",
        namespace: Namespace = "image",
        choose: Callable[[Sequence[Entry]], Entry | None] = newest,
        with_body: Callable[[Entry], bool] = _always,
        partial: list[Entry] | None = None,
        hand_over: Callable[[Stored, asyncio.Future[Stored | None]], bool] | None = None,
    ) -> Stored | None:
        """Find a stored answer and, if ``with_body`` says so, read its verified bytes; in one worker hop.

        ``choose`` picks one of the entries that differ in what their answers vary on. Entries whose
        ``stored_until`` has passed are found, too: whether they are of use is the caller's to say. What is damaged
        is a miss, and dropped. Both functions must be pure; they are called in a worker thread. ``partial`` is filled
        with the entries of that namespace that are otherwise the same. ``hand_over`` may see to what is found, in that
        thread, and tell the future by itself, with ``made`` filled in: True where it will.
        """
        store = self._open()
        if store is None:
            return None
        lookup = Lookup(key_hash, key, scope, processor, namespace, choose, with_body, partial, hand_over)
        found = await store.readers.load(lookup)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def lacks(self, key_hash: str) -> bool:
        """Whether nothing is stored under a key hash, of whatever scope and kind, if that is known without a look.

        What another process stored within the last second may be overlooked.
        """
        store = self._own_store
        if store is None or self._is_closed or not (self._leases.is_known_alone or store.is_being_made):
            return False
        if not store.lacks(key_hash):
            return False
        self.misses += 1
        return True

    def sighting(self, key_hash: str) -> Sighting | None:
        """A sighting of a key as it is now: to be taken before it is read, or right after something was stored."""
        store = self._own_store
        return None if store is None or self._is_closed else store.sightings.take(key_hash)

    def is_unchanged(self, sighting: Sighting) -> bool:
        """Whether what was read or stored then is there as it was, as far as that is known without a look.

        What another process did within the last tenth of a second may be overlooked.
        """
        store = self._own_store
        if store is None or self._is_closed or not store.writer.is_usable:
            return False
        return store.sightings.hold(sighting) and self._leases.was_alone_just_now(store)

    @property
    def has_looked(self) -> bool:
        """Whether it is known if there was a folder, or there will be none."""
        store = self._own_store
        return self._directory is None or self._is_closed or (store is not None and store.has_looked)

    async def look(self) -> None:
        """See if there is a folder: of one that is to be made, `lacks` knows all before it is ready."""
        store = self._open()
        if store is not None:
            await store.looked()

    async def contains(self, key_hash: str) -> bool:
        """Whether an original that has not expired is stored; extends nothing."""
        now = self._clock.time()
        return any(entry.stored_until > now for entry in await self._originals(key_hash))

    async def size(self) -> int:
        """The bytes of all bodies."""
        return (await self._totals())[1]

    async def count(self) -> int:
        """The number of rows, variants included."""
        return (await self._totals())[0]

    async def entries(self, order: Order = "added", *, is_descending: bool = False) -> AsyncIterator[Entry]:
        """Every entry in that order; read in slices, so that any number will do.

        What is stored while this runs may be missing, what is removed is not there any more.
        """
        await self.flush()
        store = self._open()
        if store is None:
            return
        async for entry in entries_of(store, order, is_descending=is_descending):
            yield entry

    async def rows(self, key_hash: str) -> list[Entry]:
        """Every entry of a key hash: scopes, namespaces, variants; what is queued included."""
        store = self._open()
        return [] if store is None else [row.entry for row in await store.readers.rows(key_hash)]

    async def verify(self, check: BodyCheck | None = None) -> VerifyReport:
        """Read everything, compare it with its checksums and ask ``check``, drop what is damaged, count anew."""
        await self.flush()
        store = self._open()
        return VerifyReport() if store is None else await verify(store, check)

    async def secret(self) -> bytes:
        """32 random bytes that were made with the index; the process's own where there is no disk."""
        store = self._open()
        if store is None:
            return _process_secret()
        if (known := store.secret) is not None:
            return known
        if self._secret is None or self._secret[0] != store.epoch:
            found = await store.readers.run(secret_of, None)
            if found is None:
                return _process_secret()
            self._secret = (store.epoch, found)
        return self._secret[1]

    # Writing

    def spool(self, key_hash: str) -> Spool | None:
        """A file that a body for this key can be written to while it comes, to be handed over to `put`.

        None where the disk cannot be used; nothing is opened or made for this on the loop.
        """
        store = self._open()
        return None if store is None else store.spool(key_hash)

    def put(
        self,
        entry: Entry,
        body: bytes,
        *,
        protection: Protection | None = None,
        written: str | None = None,
        told: Callable[[StoreResult], object] | None = None,
    ) -> asyncio.Future[StoreResult]:
        """Store bytes that belong to ``entry``; `load` sees them at once, the future ends when they are committed.

        Other bytes in the place of an original drop all variants made of the old ones. A variant is SUPERSEDED
        unless the original that it was made of (``source_checksum``) is stored. ``entry.checksum`` is trusted.
        ``written`` is what a `spool` with these very bytes handed over: its file is then not written again.
        ``told`` is called on the loop with what the future ends with, just before, or before this returns.
        """
        if len(body) + ROW_COST > self.limit:
            self.too_large += 1
            self._discard_other(entry)
            self._leave_file(written)
            return _done(StoreStatus.TOO_LARGE, told)
        stored = self._store_later(Put(entry, body, self.limit, protection, self._clock.time(), written), told)
        if stored is None:
            self.refused += 1
            self._discard_other(entry)
        if stored is None or stored.done():
            # Refused, or the folder cannot be used by now: nobody else knows of the file.
            self._leave_file(written)
        return stored or _done(StoreStatus.QUEUE_FULL, told)

    def refresh(
        self, entry: Entry, *, told: Callable[[StoreResult], object] | None = None
    ) -> asyncio.Future[StoreResult]:
        """Store new metadata for unchanged bytes (a 304); SUPERSEDED if the row has other bytes by now, or none.

        ``told`` as for `put`.
        """
        return self._store_later(Refresh(entry, self._clock.time()), told) or _done(StoreStatus.QUEUE_FULL, told)

    def touch(self, row: RowKey, extension: AccessExtension | None = None) -> None:
        """Note an access: it makes the row the most recently used and extends its stored-until; written later.

        By the row's own lifetime, if ``extension`` says nothing else.
        """
        store = self._open()
        if store is None or not store.writer.is_usable:
            return
        accessed = access(self._clock.time(), extension)
        store.writer.touch(row, accessed)
        if row.processor:
            # A variant lives no longer than its original.
            store.writer.touch(original_of(row), accessed)
        if self._touch_timer is None:
            self._touch_timer = self._clock.call_at(self._clock.monotonic() + TOUCH_DELAY, self._write_touches)

    def discard(self, entry: Entry) -> None:
        """Drop the row of an entry, with its variants, if it still has these bytes; they proved to be of no use."""
        store = self._open()
        if store is not None:
            store.writer.submit(Discard(entry), self)

    async def remove(self, key_hash: str) -> int:
        """Remove all rows of a key hash: scopes, namespaces, variants. How many there were.

        They are gone for `load` at once. 0 also if another process holds the index so long that the row count
        is not known yet.
        """
        return await self._change(Remove(key_hash))

    async def clear(self) -> None:
        """Remove everything; gone for `load` at once."""
        await self._change(Clear())

    async def pin(self, key_hash: str, *, pinned: bool = True) -> int:
        """Keep all rows of a key hash from being evicted or expired, or no longer; how many there are."""
        return await self._change(Pin(key_hash, pinned))

    async def clean(self) -> list[str]:
        """Remove what has expired, then, if over the limit, the least recently used down to half of it.

        Returns the key hashes of which an image went, each once: the bytes as they came, or what was made of them
        (Kingfisher's ``removeExpiredValues`` and ``removeSizeExceededValues``).
        """
        store = self._open()
        if store is None:
            return []
        await self.flush()
        now, limit = self._clock.time(), self.limit
        gone: dict[str, None] = {}
        after = -math.inf
        while (expired := await self._ask(functools.partial(expire, now=now, after=after), None)) is not None:
            key_hashes, after = expired
            gone.update(dict.fromkeys(key_hashes))
        if await self._ask(lambda index: index.weight(limit) > limit, False):
            # A slice a job, so that what is put meanwhile is written in between.
            while (
                evicted := await self._ask(lambda index: next(trim(index, limit, limit // 2), None), None)
            ) is not None:
                store.writer.evictions += len(evicted)
                gone.update(dict.fromkeys(evicted))
        while await self._ask(lambda index: shrink(index, limit), False):
            continue
        store.sweep()
        return list(gone)

    async def make_room(self, size: int) -> None:
        """Wait until the queue takes another ``size`` bytes, but not for a process that holds the index."""
        store = self._own_store
        if store is not None and not store.writer.queue.has_room(size):
            await self.flush()

    async def flush(self) -> None:
        """Wait until what is queued is written, but not for a process that does not let go of the index."""
        if self._own_store is not None:
            await self._change(Mark())

    async def aclose(self) -> None:
        """Write what is queued and leave the folder; whoever leaves last closes it. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._touch_timer is not None:
            self._touch_timer.cancel()
        store = self._own_store
        if store is not None:
            await self._wait_for(store, Mark())
            self._leave(store)
            await self._registry.release(store)
        if self._held.has_temporary:
            await asyncio.to_thread(self._held.close)

    # ETags

    async def etag(self, key_hash: str) -> str | None:
        """The ETag of the newest original, everybody's before anybody's own."""
        originals = await self._originals(key_hash)
        entry = newest([entry for entry in originals if not entry.row.scope]) or newest(originals)
        return None if entry is None else entry.etag

    async def set_etag(self, key_hash: str, etag: str | None) -> int:
        """Give the originals of a key hash another ETag, or none; how many there are."""
        return await self._change(SetETag(key_hash, etag))

    async def etags(self) -> AsyncIterator[tuple[str, str, str]]:
        """Key hash, key and ETag of every original that has one."""
        async for entry in self.entries():
            row = entry.row
            if entry.etag is not None and row.is_original_image:
                yield row.key_hash, entry.key, entry.etag

    async def remove_etags(self) -> None:
        """Take every ETag away; the bytes stay."""
        await self.flush()
        after: int | None = 0
        while after is not None:
            after = await self._ask(functools.partial(_remove_etags, after=after), None)

    # Files for others

    async def hold(self, entry: Entry, body: bytes, suffix: str, *, in_folder: bool = True) -> Path:
        """A read-only file with these bytes and a true suffix (``".png"`` or ""), which stays about an hour.

        ``in_folder=False`` keeps it out of the cache's folder, in the system's temporary one, until this is closed.

        Raises StorageError if no file can be written, in the folder or in the system's temporary one.
        """
        store = self._open()
        if store is not None and in_folder:
            try:
                return await asyncio.to_thread(_hold, store, self._held, entry, body, suffix)
            except OSError as error:
                store.faults.report("write", error)
        try:
            return await asyncio.to_thread(self._held.hold, entry, body, suffix)
        except OSError as error:
            raise StorageError(f"the image cannot be written to a file: {error}", url=entry.url) from error

    # Other processes

    def subscribe(self, callback: Callable[[list[Change]], None]) -> Handle:
        """Hear of what others do to the folder, in other processes or in this one: key hash and new checksum.

        The checksum is None for what is gone; the key hash is ``*`` for everything, also where so much happened
        that nobody can tell. Called on the loop where this storage is used. Other processes' changes are seen by
        `poll`.
        """
        self._callbacks.append(callback)
        return Handle(lambda: self._callbacks.remove(callback))

    async def poll(self) -> None:
        """Look now for what other processes did, and see to it that what is queued gets written."""
        store = self._own_store
        if store is None or self._is_closed or not store.writer.may_work:
            return
        store.writer.wake()
        await store.poll()

    async def lease(self, row: RowKey) -> bool:
        """Whether this process is the one to load a missing row; others wait a moment and look again.

        A lease ends by itself after 2 s. Always True where nobody else shares the folder, and where the index
        cannot be asked.
        """
        store = self._open()
        return store is None or await self._leases.acquire(store, row)

    def release(self, row: RowKey) -> None:
        """Give a lease back: the row is there, or will not come."""
        store = self._open()
        if store is not None:
            self._leases.release(store, row)

    @property
    def is_known_alone(self) -> bool:
        """Whether nobody else had the folder open a moment ago, so that nobody is to be asked for a `lease`."""
        return self._own_store is not None and self._leases.is_known_alone

    @property
    def has_company(self) -> bool:
        """Whether other processes shared the folder when a lease was last asked for."""
        return self._leases.has_company

    # How it is

    @property
    def state(self) -> DiskState:
        """Whether it works."""
        if self._is_closed:
            return DiskState.CLOSED
        if self._directory is None:
            return DiskState.OFF
        store = self._own_store
        is_usable = store is None or store.writer.is_usable
        return DiskState.READY if is_usable else DiskState.UNAVAILABLE

    @property
    def is_available(self) -> bool:
        """Whether anything can be stored and found; True until the folder proves otherwise."""
        return self.state is DiskState.READY

    @property
    def last_fault(self) -> Exception | None:
        """The last thing that went wrong with the folder."""
        store = self._own_store
        return None if store is None else store.faults.last

    @property
    def faults(self) -> int:
        """How often something went wrong with the folder."""
        store = self._own_store
        return 0 if store is None else store.faults.count

    @property
    def evictions(self) -> int:
        """How many entries were evicted for the limit, by this process."""
        store = self._own_store
        return 0 if store is None else store.writer.evictions

    @property
    def stores(self) -> int:
        """How many puts were written, by this process."""
        store = self._own_store
        return 0 if store is None else store.writer.stores

    @property
    def queue_depth(self) -> int:
        """How many changes wait to be written."""
        store = self._own_store
        return 0 if store is None else len(store.writer.queue)

    # Inside

    def _open(self) -> Store | None:
        if self._directory is None or self._is_closed:
            return None
        loop = self._loop = asyncio.get_running_loop()
        store = self._own_store
        if store is None:
            store = self._store = self._registry.acquire(self._directory, self._clock)
            store.subscribers.append(Subscriber(self, self._deliver, self._tell_trimmed, lambda: self._loop))
            store.faults.listen(self, lambda what, error: tell(self._loop or loop, self._tell_fault, (what, error)))
            store.begin()
        return store

    @property
    def _own_store(self) -> Store | None:
        """The store in use. A process that came by a fork must not use its parent's, and begins with none."""
        store = self._store
        if store is not None and store.pid != os.getpid():
            store = self._store = None
            # Its timer is one of the parent's loop, and what it hands out is the parent's to remove.
            self._touch_timer = None
            self._secret = None
            self._leases = Leases(self._clock)
            self._held = HeldFiles(self._clock)
        return store

    def _leave(self, store: Store) -> None:
        store.subscribers[:] = [other for other in store.subscribers if other.owner is not self]
        store.faults.leave(self)

    def _store_later(
        self, operation: Put | Refresh, told: Callable[[StoreResult], object] | None
    ) -> asyncio.Future[StoreResult] | None:
        store = self._open()
        if store is None or not store.writer.may_work:
            return _done(StoreStatus.UNAVAILABLE, told)
        stored = store.writer.submit(operation, self, told)
        # A refresh writes only to what is there.
        if isinstance(operation, Put):
            store.absence.add(operation.key_hash)
        return stored

    def _leave_file(self, name: str | None) -> None:
        store = self._open()
        if store is not None and name is not None:
            store.leave(name)

    def _discard_other(self, entry: Entry) -> None:
        # The new bytes are not kept, and the old ones are out of date all the same.
        store = self._open()
        if store is not None:
            store.writer.submit(Discard(entry, if_other=True), self)

    async def _change(self, operation: Operation[int]) -> int:
        store = self._open()
        return 0 if store is None else await self._wait_for(store, operation)

    async def _wait_for(self, store: Store, operation: Operation[int]) -> int:
        future = store.writer.submit(operation, self)
        if future is None:
            return 0
        store.writer.wake(now=True)
        while not (done := (await asyncio.wait({future}, timeout=PATIENCE))[0]) and not store.writer.is_held_up:
            # Much to do, and being done.
            continue
        return future.result() if done else 0

    async def _ask(self, job: Callable[[Index], T], default: T) -> T:
        """Run a job in the writer's thread; ``default`` if the index cannot be used now."""
        store = self._open()
        if store is None:
            return default
        try:
            return await store.writer.call(job)
        except UNUSABLE as error:
            if not is_busy(error):
                store.faults.report("use the index", error)
            return default

    async def _originals(self, key_hash: str) -> list[Entry]:
        return [entry for entry in await self.rows(key_hash) if entry.row.is_original_image]

    async def _totals(self) -> tuple[int, int]:
        store = self._open()
        if store is None:
            return 0, 0
        await self.flush()
        return await store.readers.run(totals_of, (0, 0))

    def _write_touches(self) -> None:
        self._touch_timer = None
        store = self._own_store
        if store is not None and not self._is_closed:
            store.writer.wake()

    def _deliver(self, changes: list[Change]) -> None:
        is_first = not self._to_tell
        self._to_tell.extend(changes)
        if is_first:
            self._tell_some()

    def _tell_some(self) -> None:
        # In their order, but not all in one step: another process may have stored ten thousand.
        some = [self._to_tell.popleft() for _ in range(min(TOLD_AT_ONCE, len(self._to_tell)))]
        if self._to_tell:
            asyncio.get_running_loop().call_soon(self._tell_some)
        for callback in tuple(self._callbacks):
            callback(some)

    def _tell_trimmed(self, key_hashes: list[str]) -> None:
        if self._on_trim is not None:
            self._on_trim(key_hashes)

    def _tell_fault(self, fault: tuple[str, Exception]) -> None:
        if self._on_fault is not None:
            self._on_fault(*fault)


def _done(status: StoreStatus, told: Callable[[StoreResult], object] | None) -> asyncio.Future[StoreResult]:
    future: asyncio.Future[StoreResult] = asyncio.get_running_loop().create_future()
    result = StoreResult(status)
    future.set_result(result)
    if told is not None:
        told(result)
    return future


def _remove_etags(index: Index, after: int) -> int | None:
    with index.transaction():
        return index.remove_etags(after, _ETAG_SLICE)


def _hold(store: Store, held: HeldFiles, entry: Entry, body: bytes, suffix: str) -> Path:
    # The folder may still be in the making.
    store.readers.is_open.wait()
    return held.hold(entry, body, suffix, store.folder.held if store.writer.is_usable else None)
