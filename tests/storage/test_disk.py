"""What is stored on disk is found again, whole, by whoever may; and follows its original, its limit and its time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from imagecache.entry import Entry, Namespace, Protection
from imagecache.expiration import StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import URL, entry_for, variant_of

SMALL = b"small body"
LARGE = bytes(range(256)) * (INLINE_LIMIT // 256) + b"!"
MakeDisk = Callable[..., DiskStorage]


async def body_of(disk: DiskStorage, entry: Entry) -> bytes | None:
    row = entry.row
    stored = await disk.load(
        row.key_hash,
        key=entry.key,
        scope=row.scope,
        processor=row.processor,
        namespace=row.namespace,
        choose=lambda entries: next((e for e in entries if e.row == row), None),
    )
    return None if stored is None else stored.body


def body_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "bodies").rglob("*") if path.is_file()]


async def swept(disk: DiskStorage) -> None:
    """Wait until the sweep under way, a chain of short jobs, has looked at every sub-folder."""
    assert disk.directory is not None
    jobs = len(list((disk.directory / "imagecache-v2" / "bodies").glob("*"))) + 4
    for _ in range(jobs):
        # Each look waits its turn behind one of them at least.
        await disk.poll()


async def put(disk: DiskStorage, entry: Entry, body: bytes) -> StoreStatus:
    return (await disk.put(entry, body)).status


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_what_is_stored_is_found_by_the_next_process(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, body: bytes
) -> None:
    first = make_disk()
    entry = entry_for(clock, body)
    assert await put(first, entry, body) is StoreStatus.STORED
    await first.aclose()
    stored = await make_disk().load(entry.row.key_hash, key=URL)
    assert stored is not None
    assert (stored.entry, stored.body) == (entry, body)
    assert len(body_files(folder)) == (len(body) > INLINE_LIMIT)


async def test_a_put_is_seen_before_it_is_written(disk: DiskStorage, clock: FakeClock) -> None:
    entry = entry_for(clock, LARGE)
    future = disk.put(entry, LARGE)
    assert await body_of(disk, entry) == LARGE
    assert (await future).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE


async def test_metadata_alone_reads_no_body(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    body_files(folder)[0].unlink()
    stored = await disk.load(entry.row.key_hash, key=URL, with_body=lambda entry: False)
    assert stored is not None
    assert (stored.entry, stored.body) == (entry, None)


async def test_scopes_variants_vary_and_namespaces_are_rows_of_their_own(disk: DiskStorage, clock: FakeClock) -> None:
    entries = {
        b"everybody": entry_for(clock, b"everybody"),
        b"alice": entry_for(clock, b"alice", scope="a" * 32),
        b"webp": entry_for(clock, b"webp", vary="v1"),
        b"page": entry_for(clock, b"page", namespace="response"),
    }
    for body, entry in entries.items():
        await disk.put(entry, body)
    variant = variant_of(entries[b"everybody"], b"rounded")
    await disk.put(variant, b"rounded")
    for body, entry in entries.items():
        assert await body_of(disk, entry) == body
    assert await body_of(disk, variant) == b"rounded"
    assert await disk.load(entries[b"alice"].row.key_hash, key=URL, scope="b" * 32) is None
    assert await disk.count() == 5
    assert await disk.remove(hash_for_key(URL)) == 5
    assert await disk.count() == 0


async def test_the_caller_chooses_among_answers_that_vary(disk: DiskStorage, clock: FakeClock) -> None:
    for body in (b"1", b"2", b"3"):
        await disk.put(entry_for(clock, body, vary=f"v{body!r}"), body)
        clock.advance(1)
    newest = await disk.load(hash_for_key(URL), key=URL)
    assert newest is not None
    assert newest.body == b"3"
    oldest = await disk.load(hash_for_key(URL), key=URL, choose=lambda entries: min(entries, key=lambda e: e.stored_at))
    assert oldest is not None
    assert oldest.body == b"1"
    assert await disk.load(hash_for_key(URL), key=URL, choose=lambda entries: None) is None


async def test_the_key_is_compared_in_full(disk: DiskStorage, clock: FakeClock) -> None:
    await disk.put(entry_for(clock, SMALL), SMALL)
    assert await disk.load(hash_for_key(URL), key="http://a.example/other.png") is None


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "queued"])
async def test_other_bytes_drop_every_variant_made_of_the_old_ones(
    disk: DiskStorage, clock: FakeClock, is_written: bool
) -> None:
    original, scoped = entry_for(clock, b"old"), entry_for(clock, b"old", scope="s" * 32)
    variant, elsewhere = variant_of(original, b"variant"), variant_of(scoped, b"variant")
    for entry, body in ((original, b"old"), (scoped, b"old"), (variant, b"variant"), (elsewhere, b"variant")):
        disk.put(entry, body)
    if is_written:
        await disk.flush()
    disk.put(original, b"old")
    assert await body_of(disk, variant) == b"variant", "the same bytes change nothing"
    disk.put(entry_for(clock, b"new"), b"new")
    for _ in range(2):
        assert await body_of(disk, variant) is None
        assert await body_of(disk, elsewhere) == b"variant"
        await disk.flush()


@pytest.mark.parametrize("source", ["gone", "other"])
async def test_a_variant_of_bytes_that_are_not_stored_is_refused(
    disk: DiskStorage, clock: FakeClock, source: str
) -> None:
    variant = variant_of(entry_for(clock, b"old"), b"variant")
    if source == "other":
        await disk.put(entry_for(clock, b"new"), b"new")
    future = disk.put(variant, b"variant")
    assert await body_of(disk, variant) is None
    assert (await future).status is StoreStatus.SUPERSEDED
    assert await body_of(disk, variant) is None


async def test_a_variant_goes_with_its_original(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    original = entry_for(clock, LARGE)
    variant = variant_of(original, LARGE[1:] + LARGE)
    disk.put(original, LARGE)
    await disk.put(variant, LARGE[1:] + LARGE)
    assert len(body_files(folder)) == 2
    disk.discard(original)
    assert await body_of(disk, variant) is None
    assert (await disk.count(), await disk.size(), body_files(folder)) == (0, 0, [])


async def test_discarding_spares_other_bytes(disk: DiskStorage, clock: FakeClock) -> None:
    new = entry_for(clock, b"new")
    await disk.put(new, b"new")
    disk.discard(entry_for(clock, b"old"))
    await disk.flush()
    assert await body_of(disk, new) == b"new"


async def test_a_refresh_renews_metadata_of_the_same_bytes_only(disk: DiskStorage, clock: FakeClock) -> None:
    entry = entry_for(clock, LARGE)
    disk.put(entry, LARGE)
    renewed = replace(entry, etag='"2"', validated_at=clock.time() + 5)
    assert (await disk.refresh(renewed)).status is StoreStatus.STORED
    stored = await disk.load(entry.row.key_hash, key=URL)
    assert stored is not None
    assert (stored.entry, stored.body) == (renewed, LARGE)
    other = replace(renewed, checksum="0" * 64)
    assert (await disk.refresh(other)).status is StoreStatus.SUPERSEDED
    await disk.remove(entry.row.key_hash)
    assert (await disk.refresh(renewed)).status is StoreStatus.SUPERSEDED
    assert await disk.count() == 0


async def test_the_old_file_goes_when_other_bytes_come(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    for body in (LARGE, LARGE + b"2", SMALL, LARGE, LARGE):
        await disk.put(entry_for(clock, body), body)
        await disk.flush()
        assert await body_of(disk, entry_for(clock, body)) == body
        assert await disk.size() == len(body)
        assert len(body_files(folder)) == (len(body) > INLINE_LIMIT)


async def test_a_file_is_named_after_its_key_hash_and_format(disk: DiskStorage, clock: FakeClock, folder: Path) -> None:
    await disk.put(entry_for(clock, LARGE, format_name="JPEG"), LARGE)
    await disk.put(entry_for(clock, LARGE, "http://a.example/2", format_name="../../x"), LARGE)
    names = sorted((path.parent.name, path.name[:64], path.suffix) for path in body_files(folder))
    hashes = hash_for_key(URL), hash_for_key("http://a.example/2")
    assert names == sorted([(hashes[0][0], hashes[0], ".jpeg"), (hashes[1][0], hashes[1], ".body")])


async def test_access_extends_stored_until_by_the_rows_own_lifetime(make_disk: MakeDisk, clock: FakeClock) -> None:
    first = make_disk()
    bodies = {"seconds": StorageExpiration.after_seconds(100), "never": StorageExpiration.never()}
    entries = {name: entry_for(clock, b"x", name, expiration=expiration) for name, expiration in bodies.items()}
    for entry in entries.values():
        await first.put(entry, b"x")
    clock.advance(60)
    for entry in entries.values():
        first.touch(entry.row)

    async def stored_until(disk: DiskStorage, name: str) -> float:
        stored = await disk.load(hash_for_key(name), key=name)
        assert stored is not None
        return stored.entry.stored_until

    expected = clock.time() + 100
    assert await stored_until(first, "seconds") == expected, "at once"
    await first.aclose()
    second = make_disk()
    assert await stored_until(second, "seconds") == expected, "and for others"
    assert await stored_until(second, "never") == float("inf")


async def test_accesses_are_written_in_time_without_anything_else_to_write(
    disk: DiskStorage, make_disk: MakeDisk, clock: FakeClock
) -> None:
    entry = entry_for(clock, b"x", expiration=StorageExpiration.after_seconds(100))
    await disk.put(entry, b"x")
    disk.touch(entry.row)
    assert clock.pending == 1
    disk.touch(entry.row)
    assert clock.pending == 1, "one timer for all"
    clock.advance(10)
    assert clock.pending == 0
    await disk.flush()


async def test_touching_a_variant_keeps_its_original(disk: DiskStorage, clock: FakeClock) -> None:
    expiration = StorageExpiration.after_seconds(100)
    original = entry_for(clock, b"x", expiration=expiration)
    variant = variant_of(original, b"v")
    disk.put(original, b"x")
    disk.put(variant, b"v")
    clock.advance(90)
    disk.touch(variant.row)
    clock.advance(90)
    assert await disk.clean() == []
    assert await body_of(disk, variant) == b"v"


async def test_what_has_expired_is_found_until_it_is_cleaned(disk: DiskStorage, clock: FakeClock) -> None:
    entry = entry_for(clock, b"x", expiration=StorageExpiration.after_seconds(10))
    await disk.put(entry, b"x")
    await disk.put(entry_for(clock, b"y", "other"), b"y")
    assert await disk.contains(entry.row.key_hash)
    clock.advance(10)
    assert not await disk.contains(entry.row.key_hash)
    assert await body_of(disk, entry) == b"x", "it is still worth a conditional GET"
    assert await disk.clean() == [entry.row.key_hash]
    assert await body_of(disk, entry) is None
    assert await disk.count() == 1


async def test_an_entry_is_gone_at_once_when_it_is_removed_or_all_is_cleared(
    disk: DiskStorage, clock: FakeClock
) -> None:
    entry, other = entry_for(clock, LARGE), entry_for(clock, SMALL, "other")
    for is_written in (True, False):
        disk.put(entry, LARGE)
        disk.put(other, SMALL)
        if is_written:
            await disk.flush()
        removing = asyncio.ensure_future(disk.remove(entry.row.key_hash))
        await asyncio.sleep(0)
        assert await body_of(disk, entry) is None
        assert await removing == 1
        assert await body_of(disk, other) == SMALL
        clearing = asyncio.ensure_future(disk.clear())
        await asyncio.sleep(0)
        assert await body_of(disk, other) is None
        later = disk.put(entry, LARGE)
        assert await body_of(disk, entry) == LARGE, "what comes after the clear stays"
        await clearing
        await later
        assert await body_of(disk, entry) == LARGE
        assert await disk.count() == 1


class TestLimit:
    """The limit counts bodies and a fixed cost a row, and holds when something is put."""

    SIZE = 1000
    COST = SIZE + ROW_COST

    async def fill(
        self, disk: DiskStorage, clock: FakeClock, count: int, protection: Protection | None = None
    ) -> list[Entry]:
        entries = []
        for number in range(count):
            body = bytes([number]) * self.SIZE
            entries.append(entry_for(clock, body, f"http://a.example/{number}"))
            clock.advance(1)
            disk.put(entries[-1], body, protection=protection)
        await disk.flush()
        return entries

    async def present(self, disk: DiskStorage, entries: list[Entry]) -> list[int]:
        return [number for number, entry in enumerate(entries) if await body_of(disk, entry) is not None]

    async def test_a_put_over_the_limit_evicts_the_least_recently_used_down_to_half(
        self, make_disk: MakeDisk, clock: FakeClock
    ) -> None:
        disk = make_disk(limit=10 * self.COST)
        entries = await self.fill(disk, clock, 10)
        assert len(await self.present(disk, entries)) == 10
        disk.touch(entries[0].row)
        await disk.flush()
        body = b"x" * self.SIZE
        await disk.put(entry_for(clock, body, "one more"), body)
        assert await self.present(disk, entries) == [0, 6, 7, 8, 9]
        assert disk.evictions == 5

    async def test_what_can_never_fit_is_not_stored_and_evicts_nothing_but_what_it_outdates(
        self, make_disk: MakeDisk, clock: FakeClock
    ) -> None:
        disk = make_disk(limit=4 * self.COST)
        entries = await self.fill(disk, clock, 4)
        body = b"x" * 5 * self.COST
        assert await put(disk, entry_for(clock, body, entries[1].url), body) is StoreStatus.TOO_LARGE
        assert await self.present(disk, entries) == [0, 2, 3]

    async def test_what_just_fits_gets_all_the_room(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        disk = make_disk(limit=4 * self.COST)
        entries = await self.fill(disk, clock, 4)
        body = b"x" * (4 * self.COST - ROW_COST)
        assert await put(disk, entry_for(clock, body), body) is StoreStatus.STORED
        assert await self.present(disk, entries) == []

    async def test_a_job_does_not_evict_what_it_protects(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        disk = make_disk(limit=6 * self.COST)
        others = await self.fill(disk, clock, 2)
        protection = Protection()
        statuses = []
        for number in range(10, 20):
            body = bytes([number]) * self.SIZE
            result = await disk.put(entry_for(clock, body, str(number)), body, protection=protection)
            statuses.append(result.status)
        assert statuses == [StoreStatus.STORED] * 6 + [StoreStatus.NO_ROOM] * 4
        assert len(protection) == 6
        assert await self.present(disk, others) == []
        body = b"x" * self.SIZE
        assert await put(disk, entry_for(clock, body), body) is StoreStatus.STORED, "others are not bound by it"

    async def test_what_found_no_room_outdates_what_is_there(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        disk = make_disk(limit=2 * self.COST)
        protection = Protection()
        entries = await self.fill(disk, clock, 2, protection=protection)
        body = b"x" * (self.SIZE + 1)
        result = await disk.put(entry_for(clock, body, entries[0].url), body, protection=protection)
        assert result.status is StoreStatus.NO_ROOM
        await disk.flush()
        assert await self.present(disk, entries) == [1]

    async def test_pinned_rows_are_neither_evicted_nor_expired(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        disk = make_disk(limit=4 * self.COST)
        entries = await self.fill(disk, clock, 4)
        for entry in entries:
            assert await disk.pin(entry.row.key_hash) == 1
        body = b"x" * self.SIZE
        assert await put(disk, entry_for(clock, body), body) is StoreStatus.NO_ROOM
        clock.advance(8 * 86_400)
        assert await disk.clean() == []
        assert await disk.pin(entries[0].row.key_hash, pinned=False) == 1
        assert await disk.clean() == [entries[0].row.key_hash]

    async def test_cleaning_trims_to_half_of_a_lowered_limit(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        first = make_disk(limit=10 * self.COST)
        entries = await self.fill(first, clock, 10)
        await first.aclose()
        disk = make_disk(limit=6 * self.COST)
        hashes = await disk.clean()
        assert sorted(hashes) == sorted(entry.row.key_hash for entry in entries[:7])
        assert await self.present(disk, entries) == [7, 8, 9]
        assert await disk.clean() == []

    async def test_evicted_files_are_removed(self, make_disk: MakeDisk, clock: FakeClock, folder: Path) -> None:
        disk = make_disk(limit=3 * (len(LARGE) + ROW_COST))
        for number in range(10):
            body = LARGE + bytes([number])
            await disk.put(entry_for(clock, body, str(number)), body)
        assert len(body_files(folder)) == await disk.count() <= 3


async def test_totals_and_entries_tell_all(disk: DiskStorage, clock: FakeClock) -> None:
    bodies = {str(number): bytes(number) for number in range(600)}
    for url, body in bodies.items():
        disk.put(entry_for(clock, body, url), body)
    assert {entry.url async for entry in disk.entries()} == set(bodies)
    assert await disk.count() == 600
    assert await disk.size() == sum(map(len, bodies.values()))
    await disk.clear()
    assert [entry async for entry in disk.entries()] == []
    assert (await disk.count(), await disk.size()) == (0, 0)


async def test_the_secret_stays_with_the_index(make_disk: MakeDisk, tmp_path: Path) -> None:
    first = make_disk()
    secret = await first.secret()
    assert len(secret) == 32
    assert await first.secret() == secret
    await first.aclose()
    assert await make_disk().secret() == secret
    assert await make_disk(tmp_path / "other").secret() != secret


async def test_one_operation_that_cannot_be_written_does_not_fail_its_neighbours(
    disk: DiskStorage, clock: FakeClock
) -> None:
    good = [entry_for(clock, b"x", str(number)) for number in range(3)]
    bad = replace(entry_for(clock, b"x", "bad"), request_time=float("nan"))
    futures = [disk.put(entry, b"x") for entry in (good[0], bad, good[1], good[2])]
    statuses = [(await future).status for future in futures]
    assert statuses == [StoreStatus.STORED, StoreStatus.FAILED, StoreStatus.STORED, StoreStatus.STORED]
    assert await disk.count() == 3


async def test_a_held_file_is_read_only_whole_and_stays_an_hour(
    disk: DiskStorage, clock: FakeClock, folder: Path
) -> None:
    entry = entry_for(clock, SMALL)
    path = await disk.hold(entry, SMALL, ".png")
    assert (path.suffix, path.read_bytes(), path.parent) == (".png", SMALL, folder / "held")
    assert path.stat().st_mode & 0o777 == 0o400
    assert await disk.hold(entry, SMALL, ".png") == path, "not a copy for each caller"
    clock.advance(3600)
    await disk.hold(entry_for(clock, LARGE), LARGE, "")
    assert path.exists()
    clock.advance(1800)
    await disk.clean()
    await swept(disk)
    assert not path.exists()


@pytest.mark.parametrize("suffix", ["png", "./x", "/../x", ".p/g", "." + "x" * 11])
async def test_a_suffix_cannot_lead_out_of_the_folder(disk: DiskStorage, clock: FakeClock, suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix"):
        await disk.hold(entry_for(clock, SMALL), SMALL, suffix)


async def test_without_a_directory_everything_works_and_finds_nothing(make_disk: MakeDisk, clock: FakeClock) -> None:
    disk = make_disk(None)
    entry = entry_for(clock, SMALL)
    assert not disk.is_available
    assert await put(disk, entry, SMALL) is StoreStatus.UNAVAILABLE
    assert (await disk.refresh(entry)).status is StoreStatus.UNAVAILABLE
    assert await disk.load(entry.row.key_hash, key=URL) is None
    disk.touch(entry.row)
    disk.discard(entry)
    assert await disk.remove(entry.row.key_hash) == 0
    await disk.clear()
    await disk.flush()
    await disk.poll()
    assert await disk.clean() == []
    assert not await disk.contains(entry.row.key_hash)
    assert (await disk.size(), await disk.count(), disk.queue_depth) == (0, 0, 0)
    assert [e async for e in disk.entries()] == []
    assert await disk.etag(entry.row.key_hash) is None
    assert await disk.secret() == await make_disk(None).secret()
    assert await disk.lease(entry.row)
    disk.release(entry.row)
    path = await disk.hold(entry, SMALL, ".png")
    assert path.read_bytes() == SMALL
    await disk.aclose()
    assert not path.exists()


async def test_cleaning_tells_of_images_and_of_what_was_made_of_them_and_of_nothing_else(
    disk: DiskStorage, clock: FakeClock
) -> None:
    kept, soon = entry_for(clock, b"kept"), StorageExpiration.after_seconds(10)
    page = entry_for(clock, b"page", "http://a.example/page", namespace="response", expiration=soon)
    variant = replace(variant_of(kept, b"small"), stored_until=clock.time() + 10, lifetime=10.0)
    for entry, body in ((kept, b"kept"), (page, b"page"), (variant, b"small")):
        await disk.put(entry, body)
    clock.advance(20)
    assert await disk.clean() == [kept.row.key_hash]
    assert await disk.count() == 1
    assert await disk.contains(kept.row.key_hash)


@pytest.mark.parametrize(("namespace", "told"), [("image", 2), ("response", 0), ("partial", 0), ("negative", 0)])
async def test_other_processes_are_told_of_images_only(
    disk: DiskStorage, clock: FakeClock, namespace: Namespace, told: int
) -> None:
    for body in (b"one", b"two"):
        await disk.put(entry_for(clock, body, namespace=namespace), body)
    assert disk.directory is not None
    (path,) = disk.directory.rglob("index-1.sqlite")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM changes").fetchone() == (told,)
