"""What a program asks of a cache: each call does what its name says, on a cache of its own and without a manager."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imagecache import DiskStorage, ImageCache, MemoryStorage
from imagecache.entry import Entry
from imagecache.errors import NotInCacheError, StorageError
from imagecache.expiration import AccessExtension, StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.result import CacheType
from imagecache.storage import write_queue
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.rows import Order
from imagecache.storage.stored import DiskState, StoreStatus
from imagecache.testing.clock import FakeClock
from imagecache.testing.faults import FaultyDisk

from .caches import Listener, MakeCache, Picture, remember
from .entries import URL

LARGE = os.urandom(INLINE_LIMIT + 1)
SECONDS = StorageExpiration.after_seconds


async def test_what_is_stored_is_there_at_once_and_written_before_a_flush_returns(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    with FaultyDisk(tmp_path) as disk:
        cache = make_cache()
        await cache.get(URL)
        rule = disk.hold("sqlite.begin")
        await cache.store(URL, b"bytes")
        assert await cache.get(URL) == b"bytes"
        assert cache.health().queue_depth == 1
        rule.remove()
        await cache.flush()
    assert cache.health().queue_depth == 0
    assert (await cache.stats()).disk.stores == 1


async def test_storing_waits_while_more_is_queued_than_the_disk_has_written(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "MAX_BYTES", 10_000)
    cache = make_cache()
    for number in range(20):
        await cache.store(str(number), bytes(4_000))
    assert await cache.disk.count() == 20
    assert cache.health().queue_full == 0


async def test_what_a_processor_made_is_stored_beside_its_original_and_goes_with_it(make_cache: MakeCache) -> None:
    cache = make_cache()
    with pytest.raises(NotInCacheError):
        await cache.store(URL, b"round", processor="round(20)")
    await cache.store(URL, b"bytes")
    await cache.store(URL, b"round", processor="round(20)", format="PNG")
    await cache.store(URL, b"small", processor="downsample(10)")
    assert await cache.get(URL) == b"bytes"
    assert await cache.get(URL, processor="round(20)") == b"round"
    assert await cache.get(URL, processor="round(30)") is None
    assert {entry.row.processor for entry in await cache.variants(URL)} == {"round(20)", "downsample(10)"}
    await cache.store(URL, b"small", processor="downsample(10)", expiration=StorageExpiration.expired())
    assert [entry.format for entry in await cache.variants(URL)] == ["PNG"]
    assert await cache.remove(URL) == 2
    assert await cache.variants(URL) == []
    assert await cache.get(URL, processor="round(20)") is None


async def test_what_is_no_bytes_is_told_at_the_call(make_cache: MakeCache) -> None:
    with pytest.raises(TypeError, match="bytes, not str"):
        await make_cache().store(URL, "text")  # type: ignore[arg-type]


async def test_an_export_is_the_very_bytes_and_extends_nothing(
    make_cache: MakeCache, clock: FakeClock, tmp_path: Path
) -> None:
    cache = make_cache()
    target = tmp_path / "x.png"
    with pytest.raises(NotInCacheError):
        await cache.export(URL, target)
    await cache.store(URL, LARGE, expiration=SECONDS(10))
    clock.advance(9)
    assert await cache.export(URL, target) == target
    assert target.read_bytes() == LARGE
    with pytest.raises(StorageError):
        await cache.export(URL, tmp_path / "no" / "such" / "folder.png")
    clock.advance(1)
    assert await cache.get(URL) is None


class TestAccess:
    """What an access does to how long a thing is stored, in both tiers."""

    async def test_nothing_where_it_is_to_do_nothing(self, make_cache: MakeCache, clock: FakeClock) -> None:
        cache = make_cache()
        await cache.store(URL, b"bytes", expiration=SECONDS(10))
        clock.advance(9)
        assert await cache.get(URL, extension=AccessExtension.none()) == b"bytes"
        clock.advance(1)
        assert await cache.get(URL) is None

    async def test_it_takes_nothing_away_from_an_access_before(self, make_cache: MakeCache, clock: FakeClock) -> None:
        cache = make_cache()
        await cache.store(URL, b"bytes", expiration=SECONDS(10))
        clock.advance(9)
        await cache.get(URL)
        await cache.get(URL, extension=AccessExtension.none())
        clock.advance(9)
        assert await cache.get(URL) == b"bytes"

    @pytest.mark.parametrize("is_written", [False, True])
    @pytest.mark.parametrize(("seconds", "is_there"), [(2, False), (60, True)])
    async def test_another_expiration_sooner_or_later(
        self, make_cache: MakeCache, clock: FakeClock, seconds: float, is_there: bool, is_written: bool
    ) -> None:
        cache = make_cache()
        await cache.store(URL, b"bytes", expiration=SECONDS(30))
        clock.advance(1)
        await cache.get(URL, extension=AccessExtension.to(seconds))
        if is_written:
            await cache.flush()
        clock.advance(45 if is_there else 2)
        assert (await cache.get(URL) is not None) is is_there

    @pytest.mark.parametrize(
        ("extension", "lives"),
        [(None, [9, 18]), (AccessExtension.by_lifetime(), [9, 18]), (AccessExtension.none(), [9]),
         (AccessExtension.to(3), [9, 11]), (AccessExtension.to(60), [9, 18, 68])],
    )  # fmt: skip
    def test_in_memory_it_is_the_same(
        self, clock: FakeClock, extension: AccessExtension | None, lives: list[float]
    ) -> None:
        memory = MemoryStorage[str](100, clock=clock, expiration=SECONDS(10))
        memory.store("a", "value", cost=1)
        seen: list[float] = []
        began = clock.monotonic()
        for moment in (9, 11, 18, 68):
            clock.advance(began + moment - clock.monotonic())
            if memory.peek("a") is not None:
                seen.append(moment)
            if moment == 9:
                assert memory.get("a", extension) == "value"
        assert [moment for moment in seen if moment != 11 or lives == [9, 11]] == lives

    async def test_accesses_are_exact_once_it_is_closed(self, make_cache: MakeCache, clock: FakeClock) -> None:
        cache = make_cache()
        for name in "abc":
            await cache.store(name, b"bytes")
            clock.advance(1)
        await cache.get("a")
        await cache.aclose()
        again = make_cache()
        assert [entry.url async for entry in again.entries(order="used")] == ["b", "c", "a"]


class TestEntries:
    """Going through all that is stored."""

    @pytest.fixture
    async def filled(self, make_cache: MakeCache, clock: FakeClock) -> ImageCache[Picture]:
        cache = make_cache()
        for number in range(700):
            size = 1 + number * 7 % 701
            await cache.store(str(number), bytes(size), expiration=SECONDS(1_000 - number))
        clock.advance(1)
        await cache.get("5")
        return cache

    @pytest.mark.parametrize(
        ("order", "first"), [("added", "0"), ("used", "0"), ("expires", "699"), ("size", "0")]
    )  # fmt: skip
    async def test_they_come_in_the_order_asked_for(
        self, filled: ImageCache[Picture], order: Order, first: str
    ) -> None:
        there = [entry.url async for entry in filled.entries(order=order)]
        back = [entry.url async for entry in filled.entries(order=order, is_descending=True)]
        assert len(there) == 700
        assert there == back[::-1]
        assert there[0] == first
        if order == "size":
            sizes = [entry.byte_count async for entry in filled.entries(order=order)]
            assert sizes == sorted(sizes)
        if order == "used":
            assert there[-1] == "5"

    async def test_those_that_are_wanted_come(self, filled: ImageCache[Picture]) -> None:
        found = [entry.url async for entry in filled.entries(where=lambda entry: entry.byte_count > 695)]
        assert len(found) == 6

    async def test_what_is_removed_meanwhile_is_passed_over(self, filled: ImageCache[Picture]) -> None:
        seen: list[Entry] = []
        async for entry in filled.entries(order="size"):
            if not seen:
                await filled.clear()
            seen.append(entry)
        assert len(seen) == 256, "one slice"


class TestVerify:
    """Everything is read, and what is damaged goes."""

    async def test_a_sound_cache_is_sound(self, make_cache: MakeCache) -> None:
        cache = make_cache()
        for number in range(300):
            await cache.store(str(number), b"bytes")
        await cache.store("large", LARGE)
        report = await cache.verify()
        assert report.is_sound
        assert (report.checked, report.bytes) == (301, 1_500 + len(LARGE))
        assert str(report) == f"301 entries, {1_500 + len(LARGE):,} bytes"

    async def test_damage_of_every_kind_is_found_and_repaired(self, make_cache: MakeCache, folder: Path) -> None:
        cache = make_cache()
        for name in ("sound", "seal", "body", "cost"):
            await cache.store(name, b"bytes")
        for name in ("flipped", "gone", "short"):
            await cache.store(name, name.encode() + LARGE)
        await cache.flush()
        spoil_rows(folder)
        for path in body_paths(folder):
            spoil_body(path)
        report = await cache.verify()
        reasons = {damaged.url: damaged.reason for damaged in report.damaged}
        assert set(reasons) == {"", "body", "flipped", "gone", "short"}
        assert len(report.damaged) == 6
        assert report.totals_were_wrong
        assert not report.is_sound
        assert "the totals were wrong" in str(report)
        await cache.flush()
        assert (await cache.verify()).is_sound
        assert [entry.url async for entry in cache.entries()] == ["sound"]
        assert (await cache.disk.count(), await cache.size()) == (1, 5)
        assert cache.health().faults == 0

    async def test_an_index_that_sqlite_finds_broken_is_left_for_a_new_one(
        self, make_cache: MakeCache, folder: Path
    ) -> None:
        first = make_cache()
        for number in range(300):
            await first.store(str(number), os.urandom(3_000))
        await first.aclose()
        break_index(folder)
        cache = make_cache()
        report = await cache.verify()
        assert not report.is_index_sound
        assert str(report) == "the index was broken; a new one is begun"
        await cache.store(URL, b"bytes")
        assert (await cache.verify()).is_sound

    async def test_whoever_knows_what_bytes_should_be_is_asked(self, make_cache: MakeCache) -> None:
        async def is_good(entry: Entry, body: bytes) -> str | None:
            return None if body == b"good" else "it is bad"

        cache = make_cache(check_body=is_good)
        await cache.store("a", b"good")
        await cache.store("b", b"bad")
        report = await cache.verify()
        assert [(damaged.url, damaged.reason) for damaged in report.damaged] == [("b", "it is bad")]
        assert await cache.get("b") is None

    async def test_what_is_stored_meanwhile_is_nobodys_damage(self, make_cache: MakeCache, clock: FakeClock) -> None:
        async def replace_it(entry: Entry, body: bytes) -> str | None:
            await cache.store("b", b"new" + LARGE)
            await cache.flush()
            return None

        cache = make_cache(check_body=replace_it)
        await cache.store("a", b"a")
        await cache.store("b", b"old" + LARGE)
        assert (await cache.verify()).is_sound
        assert await cache.get("b") == b"new" + LARGE


def spoil_rows(folder: Path) -> None:
    """Damage the rows of three URLs, and what is counted."""
    with closing(sqlite3.connect(next(folder.glob("index-*.sqlite")))) as index, index:
        index.execute("UPDATE entries SET seal = x'00' WHERE key_hash = ?", (hash_for_key("seal"),))
        for name, change in (("body", "UPDATE bodies SET body = x'00'"), ("cost", "UPDATE entries SET cost = 1")):
            index.execute(f"{change} WHERE id = (SELECT id FROM entries WHERE key_hash = ?)", (hash_for_key(name),))
        index.execute("UPDATE totals SET rows = rows + 7, bytes = 1")


def body_paths(folder: Path) -> list[Path]:
    return sorted((path for path in (folder / "bodies").rglob("*") if path.is_file()), key=lambda path: path.name)


def spoil_body(path: Path) -> None:
    body = path.read_bytes()
    if body.startswith(b"flipped"):
        path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    elif body.startswith(b"gone"):
        path.unlink()
    else:
        path.write_bytes(body[:-1])


def break_index(folder: Path) -> None:
    """Damage a page in the middle, which opening does not look at."""
    (path,) = folder.glob("index-*.sqlite")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)


class TestHealth:
    """Counters, and what is told of faults."""

    async def test_hits_misses_stores_and_refusals_are_counted_by_tier(self, make_cache: MakeCache) -> None:
        cache = make_cache(memory_limit=100, disk_limit=ROW_COST + 100)
        assert cache.health().disk_hit_rate is None
        await cache.store(URL, b"bytes")
        await cache.get(URL)
        await cache.get("another")
        picture = remember(cache, "c", cost=7)
        assert cache.memory.get(URL) is picture
        assert cache.memory.get("another") is None
        with pytest.raises(StorageError):
            await cache.store("large", bytes(200))
        await cache.flush()
        stats, health = await cache.stats(), cache.health()
        assert (stats.disk.hits, stats.disk.misses, stats.disk.stores, stats.disk.refused) == (1, 1, 1, 1)
        assert (stats.memory.hits, stats.memory.misses, stats.memory.stores) == (1, 1, 1)
        assert (stats.memory.count, stats.memory.bytes, stats.memory.limit) == (1, 7, 100)
        assert (stats.disk.count, stats.disk.bytes, stats.disk.limit) == (1, 5, ROW_COST + 100)
        assert (health.disk_hit_rate, health.memory_hit_rate, health.too_large) == (0.5, 0.5, 1)
        assert (health.disk_state, health.faults, health.last_fault) == (DiskState.READY, 0, None)
        assert health.is_healthy
        assert str(stats).splitlines()[1] == "disk    1 entries, 5 B of 2.1 KiB, 50% hits"
        assert str(health) == "disk ready, 0 to be written, 0 to be decoded, 0 faults"

    async def test_a_fall_to_memory_only_is_told_once_in_the_log_and_to_delegates(
        self, make_cache: MakeCache, tmp_path: Path, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "imagecache-v2").write_bytes(b"")
        cache = make_cache()
        for number in range(3):
            # The first is queued before it is known what the folder is.
            with contextlib.suppress(StorageError):
                await cache.store(str(number), b"bytes")
            await cache.flush()
        with pytest.raises(StorageError, match="unavailable"):
            await cache.store(URL, b"bytes")
        await cache._delegates.drain()
        (message,) = (record.message for record in caplog.records)
        assert message.endswith("images are kept in memory only until it can be")
        assert [told for told in listener.told if told[0] == "disk"] == [("disk", "open", "FolderRefusedError")]
        assert not cache.health().is_healthy
        assert "unavailable" in str(cache.health())


async def test_each_part_is_usable_alone(tmp_path: Path) -> None:
    memory = MemoryStorage[str](10)
    memory.store("a", "value", cost=1)
    assert (memory.get("a"), memory.group("a")) == ("value", ["value"])
    disk = DiskStorage(tmp_path)
    entry = Entry.of(URL, b"bytes", now=1.0, expiration=StorageExpiration.never())
    assert (await disk.put(entry, b"bytes")).status is StoreStatus.STORED
    stored = await disk.load(entry.row.key_hash, key=entry.key)
    assert stored is not None
    assert (stored.entry, stored.body) == (entry, b"bytes")
    await disk.aclose()
    cache = ImageCache[Picture](tmp_path)
    assert await cache.get(URL) == b"bytes"
    assert await cache.is_cached(URL) is CacheType.DISK
    await cache.aclose()


async def test_what_is_pinned_stays(make_cache: MakeCache, clock: FakeClock) -> None:
    cache = make_cache(disk_limit=4 * (ROW_COST + 100))
    for number in range(4):
        await cache.store(str(number), bytes(100))
        await cache.flush()
        clock.advance(1)
    assert await cache.pin("0") == 1
    await cache.store("4", bytes(100))
    await cache.flush()
    assert [await cache.get(str(number)) is not None for number in range(5)] == [True, False, False, True, True]
    assert await cache.pin("0", pinned=False) == 1
    assert await cache.pin("none") == 0


@pytest.mark.parametrize("limit", [0, 1, ROW_COST, 4 * (ROW_COST + 100)])
async def test_a_limit_that_is_lowered_evicts_behind(
    make_cache: MakeCache, clock: FakeClock, listener: Listener, limit: int
) -> None:
    cache = make_cache(disk_limit=100 * (ROW_COST + 100))
    for number in range(10):
        await cache.store(str(number), bytes(100))
        clock.advance(1)
    await cache.flush()
    cache.disk.limit = limit
    await cache.flush()
    await cache._delegates.drain()
    kept = 2 if limit > ROW_COST else 0
    assert await cache.disk.count() == kept
    told = [told for told in listener.told if told[0] == "cleaned"]
    assert sum(len(hashes) - 1 for hashes in told) == 10 - kept
