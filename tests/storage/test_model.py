"""Random sequences of operations against a model: queued or written, a reader sees the same, and the index agrees.

Every operation says twice what it does (`operations.py`); this is where the two are compared.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imagecache.entry import Entry, RowKey
from imagecache.errors import NotInCacheError
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.etags import ETagRegistry
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.operations import original_of
from imagecache.storage.sightings import Sighting, Sightings
from imagecache.testing.clock import FakeClock

from .entries import entry_for, variant_of

T = TypeVar("T")

URLS = st.sampled_from(["a", "b"])
SCOPES = st.sampled_from(["", "s" * 32])
BODIES = st.sampled_from([b"one", b"two", b"L" * (INLINE_LIMIT + 1)])
PROCESSORS = st.sampled_from(["round(20)", "blur(3)"])


class DiskModel(RuleBasedStateMachine):
    """A disk storage beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.path = Path(self.folder.name)
        self.model: dict[RowKey, tuple[Entry, bytes]] = {}
        self.pinned: set[RowKey] = set()
        self.sighted: list[tuple[Sightings, Sighting, RowKey, Entry | None]] = []

    @initialize()
    def open(self) -> None:
        self.disk = DiskStorage(self.path, clock=self.clock)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.disk.aclose())
        self.loop.close()
        self.folder.cleanup()

    @rule(url=URLS, scope=SCOPES, body=BODIES, etag=st.sampled_from([None, '"1"', '"2"']))
    def put(self, url: str, scope: str, body: bytes, etag: str | None) -> None:
        self.clock.advance(1)
        entry = entry_for(self.clock, body, url, scope=scope, etag=etag)
        self.run(self.later(lambda: self.disk.put(entry, body)))
        old = self.model.get(entry.row)
        if old is not None and old[0].checksum != entry.checksum:
            self.drop(lambda row: row.processor != "" and original_of(row) == entry.row)
        self.model[entry.row] = (entry, body)

    @rule(url=URLS, scope=SCOPES, source=BODIES, body=BODIES, processor=PROCESSORS)
    def put_variant(self, url: str, scope: str, source: bytes, body: bytes, processor: str) -> None:
        original = entry_for(self.clock, source, url, scope=scope)
        entry = variant_of(original, body, processor)
        self.run(self.later(lambda: self.disk.put(entry, body)))
        known = self.model.get(original.row)
        if known is not None and known[0].checksum == entry.source_checksum:
            self.model[entry.row] = (entry, body)

    @rule(url=URLS, scope=SCOPES, body=BODIES)
    def refresh(self, url: str, scope: str, body: bytes) -> None:
        self.clock.advance(1)
        entry = entry_for(self.clock, body, url, scope=scope, etag='"renewed"')
        self.run(self.later(lambda: self.disk.refresh(entry)))
        known = self.model.get(entry.row)
        if known is not None and known[0].checksum == entry.checksum:
            self.model[entry.row] = (entry, known[1])

    @rule(url=URLS, scope=SCOPES, body=BODIES)
    def discard(self, url: str, scope: str, body: bytes) -> None:
        entry = entry_for(self.clock, body, url, scope=scope)
        self.run(self.later(lambda: self.disk.discard(entry)))
        known = self.model.get(entry.row)
        if known is not None and known[0].checksum == entry.checksum:
            self.drop(lambda row: original_of(row) == entry.row)

    @rule(url=URLS, etag=st.sampled_from([None, '"mine"']))
    def set_etag(self, url: str, etag: str | None) -> None:
        self.run(self.disk.set_etag(hash_for_key(url), etag))
        for row, (entry, body) in self.model.items():
            if row.key_hash == hash_for_key(url) and not row.processor:
                self.model[row] = (replace(entry, etag=etag), body)

    @rule(url=URLS, scope=SCOPES)
    def touch(self, url: str, scope: str) -> None:
        row = RowKey(hash_for_key(url), scope=scope)
        self.clock.advance(1)
        self.run(self.later(lambda: self.disk.touch(row)))
        known = self.model.get(row)
        if known is not None and known[0].lifetime is not None:
            self.model[row] = (replace(known[0], stored_until=self.clock.time() + known[0].lifetime), known[1])

    @rule(url=URLS)
    def remove(self, url: str) -> None:
        removed = self.run(self.disk.remove(hash_for_key(url)))
        before = len(self.model)
        self.drop(lambda row: row.key_hash == hash_for_key(url))
        assert removed == before - len(self.model)

    @rule()
    def clear(self) -> None:
        self.run(self.disk.clear())
        self.model.clear()
        self.pinned.clear()

    @rule(url=URLS, pinned=st.booleans())
    def pin(self, url: str, pinned: bool) -> None:
        rows = {row for row in self.model if row.key_hash == hash_for_key(url)}
        assert self.run(self.disk.pin(hash_for_key(url), pinned=pinned)) == len(rows)
        self.pinned = self.pinned | rows if pinned else self.pinned - rows

    @rule(days=st.sampled_from([0, 1, 4]))
    def clean(self, days: int) -> None:
        self.clock.advance(days * 86_400)
        now = self.clock.time()
        gone = {row for row, (entry, _) in self.model.items() if entry.stored_until <= now and row not in self.pinned}
        assert set(self.run(self.disk.clean())) == {row.key_hash for row in gone}
        # A variant goes with its original, pinned or not.
        self.drop(lambda row: row in gone or original_of(row) in gone)

    @rule(limit=st.sampled_from([0, 2_100, 6_000, 100_000]))
    def trim(self, limit: int) -> None:
        self.run(self.disk.flush())
        self.run(self.lower_the_limit(limit))
        left = {entry.row for entry in self.run(self.all_entries())}
        assert left <= set(self.model)
        gone = set(self.model) - left
        assert all(row not in self.pinned or original_of(row) in gone for row in gone)
        weight = sum(len(body) + ROW_COST for row, (_, body) in self.model.items() if row in left)
        assert weight <= limit or left <= self.pinned
        self.drop(lambda row: row in gone)

    @rule(url=URLS, scope=SCOPES, change=st.sampled_from(["seal = x'00'", "metadata = 'x'", "etag = 7", "cost = -1"]))
    def damage(self, url: str, scope: str, change: str) -> None:
        self.run(self.disk.flush())
        damaged = RowKey(hash_for_key(url), scope=scope)
        with closing(sqlite3.connect(self.index_path())) as index, index:
            index.execute(
                f"UPDATE entries SET {change} WHERE key_hash = ? AND scope = ? AND processor = ''",
                (damaged.key_hash, scope),
            )
        if damaged in self.model:
            assert self.run(self.disk.load(damaged.key_hash, key=url, scope=scope)) is None
            self.run(self.disk.verify())
            self.drop(lambda row: original_of(row) == damaged)

    @rule()
    def crash(self) -> None:
        """What lies on the disk at this moment, the log among it, is all that the next process has."""
        self.run(self.disk.flush())
        copy = Path(self.folder.name, f"copy{len(list(Path(self.folder.name).iterdir()))}")
        shutil.copytree(self.path / "imagecache-v2", copy / "imagecache-v2")
        self.run(self.disk.aclose())
        self.path = copy
        self.open()

    @rule(url=URLS, etag=st.sampled_from(['"mine"', 'W/"weak"']))
    def set_by_registry(self, url: str, etag: str) -> None:
        originals = [row for row in self.model if row.key_hash == hash_for_key(url) and not row.processor]
        registry = ETagRegistry(self.disk, key_for_url=str)
        if originals:
            self.run(registry.set(url, etag))
            for row in originals:
                self.model[row] = (replace(self.model[row][0], etag=etag), self.model[row][1])
        else:
            with pytest.raises(NotInCacheError):
                self.run(registry.set(url, etag))

    @rule(url=URLS)
    def remove_by_registry(self, url: str) -> None:
        registry = ETagRegistry(self.disk, key_for_url=str)
        assert self.run(registry.remove(url)) == (self.etag_of(url) is not None)
        for row, (entry, body) in self.model.items():
            if row.key_hash == hash_for_key(url) and not row.processor:
                self.model[row] = (replace(entry, etag=None), body)

    @invariant()
    def the_registry_is_a_view(self) -> None:
        registry = ETagRegistry(self.disk, key_for_url=str)
        for url in "ab":
            assert self.run(registry.get(url)) == self.run(registry.get(hash_for_key(url))) == self.etag_of(url)
            assert self.run(registry.contains(url)) == (self.etag_of(url) is not None)

    @rule()
    def the_registry_tells_all(self) -> None:
        async def all_of() -> list[tuple[str, str]]:
            return [pair async for pair in ETagRegistry(self.disk)]

        expected = [(e.key, e.etag) for row, (e, _) in self.model.items() if not row.processor and e.etag is not None]
        assert sorted(self.run(all_of())) == sorted(expected)

    def etag_of(self, url: str) -> str | None:
        """Everybody's, before anybody's own."""
        for scope in ("", "s" * 32):
            found = self.model.get(RowKey(hash_for_key(url), scope=scope))
            if found is not None:
                return found[0].etag
        return None

    async def lower_the_limit(self, limit: int) -> None:
        self.disk.limit = limit
        # Behind it, in its turn.
        for _ in range(4):
            await self.disk.poll()
        self.disk.limit = 2**30

    def index_path(self) -> Path:
        (path,) = (self.path / "imagecache-v2").glob("index-*.sqlite")
        return path

    @rule()
    def flush(self) -> None:
        self.run(self.disk.flush())

    @rule()
    def reopen(self) -> None:
        self.run(self.disk.aclose())
        self.open()

    @rule(url=URLS, scope=SCOPES)
    def sight(self, url: str, scope: str) -> None:
        row = RowKey(hash_for_key(url), scope=scope)
        sighting, store = self.disk.sighting(row.key_hash), self.disk._store
        if sighting is not None and store is not None:
            found = self.run(self.disk.load(row.key_hash, key=url, scope=scope))
            self.sighted.append((store.sightings, sighting, row, None if found is None else found.entry))

    @invariant()
    def what_is_sighted_and_holds_is_as_it_was(self) -> None:
        for sightings, sighting, row, entry in self.sighted:
            # Those of a store that was left know nothing of the next one.
            is_own = self.disk._store is not None and self.disk._store.sightings is sightings
            if is_own and sightings.hold(sighting):
                now = self.model.get(row, (None, b""))[0]
                # An access is no change of what is stored.
                assert entry == (now if now is None or entry is None else replace(now, stored_until=entry.stored_until))

    @invariant()
    def reads_are_the_models(self) -> None:
        rows = {*self.model, *(RowKey(hash_for_key(url)) for url in "ab")}
        for row in rows:
            found = self.run(
                self.disk.load(
                    row.key_hash,
                    key="a" if row.key_hash == hash_for_key("a") else "b",
                    scope=row.scope,
                    processor=row.processor,
                )
            )
            expected = self.model.get(row)
            assert (found.entry, found.body) == expected if found is not None else expected is None

    @rule()
    def the_index_agrees(self) -> None:
        entries = self.run(self.all_entries())
        assert {entry.row: entry for entry in entries} == {row: entry for row, (entry, _) in self.model.items()}
        assert self.run(self.disk.count()) == len(self.model)
        assert self.run(self.disk.size()) == sum(len(body) for _, body in self.model.values())
        files = [path for path in (self.path / "imagecache-v2" / "bodies").rglob("*") if path.is_file()]
        assert len(files) == sum(len(body) > INLINE_LIMIT for _, body in self.model.values())

    async def all_entries(self) -> list[Entry]:
        return [entry async for entry in self.disk.entries()]

    async def later(self, act: Callable[[], object]) -> None:
        """Call on the loop, and do not wait for what it starts."""
        act()

    def drop(self, is_gone: Callable[[RowKey], bool]) -> None:
        for row in [row for row in self.model if is_gone(row)]:
            del self.model[row]
            self.pinned.discard(row)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)


TestDiskModel = DiskModel.TestCase
TestDiskModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
