"""Several users of one folder: managers in one process, event loops in threads, processes, forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import imagecache
from imagecache.entry import Protection
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.leases import LEASE_SECONDS
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import entry_for, variant_of
from .test_disk import body_files, body_of, swept

LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]
Changes = list[tuple[str, str | None]]

# What a child process starts with; it gets the folder as its only argument.
PRELUDE = f"""
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(imagecache.__file__).parent.parent)!r})
from imagecache.clock import SystemClock
from imagecache.entry import Protection
from imagecache.storage.disk import DiskStorage
from tests.storage.entries import entry_for, URL
clock = SystemClock()
folder = Path(sys.argv[1])
"""


def python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def process(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs beside the test; it is talked to through its pipes."""
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield child
        child.kill()


def follow(disk: DiskStorage) -> Changes:
    changes: Changes = []
    disk.subscribe(changes.extend)
    return changes


class TestInOneProcess:
    async def test_two_storages_share_one_store_until_the_last_leaves(
        self, make_disk: MakeDisk, clock: FakeClock
    ) -> None:
        before = threading.active_count()
        first, second = make_disk(), make_disk()
        entry = entry_for(clock, LARGE)
        future = first.put(entry, LARGE)
        assert await body_of(second, entry) == LARGE, "also what is still queued"
        await first.aclose()
        assert future.done()
        assert await body_of(second, entry) == LARGE
        await second.aclose()
        assert threading.active_count() == before

    async def test_one_hears_of_what_the_other_stores_removes_and_clears(
        self, make_disk: MakeDisk, clock: FakeClock
    ) -> None:
        first, second = make_disk(), make_disk()
        await second.flush()
        await second.contains("x")
        own, heard = follow(first), follow(second)
        entry = entry_for(clock, b"x")
        key_hash = entry.row.key_hash
        await first.put(entry, b"x")
        await first.put(variant_of(entry, b"v"), b"v")
        await first.remove(key_hash)
        await first.clear()
        await asyncio.sleep(0)
        assert heard == [(key_hash, entry.checksum), (key_hash, None), ("*", None)]
        assert own == []

    async def test_what_found_no_room_tells_only_what_it_outdates(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        first, second = make_disk(limit=5150), make_disk()
        await second.contains("x")
        own, heard = follow(first), follow(second)
        protection = Protection()
        entries = [entry_for(clock, b"x" * 500, str(number)) for number in range(3)]
        for entry in entries:
            await first.put(entry, b"x" * 500, protection=protection)
        await first.put(entry_for(clock, b"y" * 600, "1"), b"y" * 600, protection=protection)
        await first.flush()
        await asyncio.sleep(0)
        hashes = [entry.row.key_hash for entry in entries]
        checksum = entries[0].checksum
        assert heard == [(hashes[0], checksum), (hashes[1], checksum), (hashes[1], None)]
        assert own == []

    async def test_closing_writes_what_is_queued_and_warns_of_nothing(
        self, make_disk: MakeDisk, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        disk = make_disk()
        futures = [disk.put(entry_for(clock, b"x", str(number)), b"x") for number in range(500)]
        await disk.aclose()
        assert {(await future).status for future in futures} == {StoreStatus.STORED}
        assert caplog.records == []

    async def test_a_closed_storage_finds_nothing_and_refuses(self, make_disk: MakeDisk, clock: FakeClock) -> None:
        disk = make_disk()
        entry = entry_for(clock, b"x")
        await disk.put(entry, b"x")
        await disk.aclose()
        await disk.aclose()
        assert (await disk.put(entry, b"x")).status is StoreStatus.UNAVAILABLE
        assert await body_of(disk, entry) is None
        assert await disk.remove(entry.row.key_hash) == 0

    def test_several_event_loops_use_one_folder_at_once(self, tmp_path: Path, clock: FakeClock) -> None:
        errors: list[BaseException] = []

        async def use(name: str) -> None:
            disk = DiskStorage(tmp_path, clock=clock)
            for number in range(20):
                entry = entry_for(clock, LARGE, f"{name}/{number}")
                assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
                assert await body_of(disk, entry) == LARGE
            await disk.aclose()

        def run(name: str) -> None:
            try:
                asyncio.run(use(name))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(body_files(tmp_path / "imagecache-v2")) == 80

    @pytest.mark.slow
    async def test_opening_and_closing_leaves_nothing_behind(self, tmp_path: Path, clock: FakeClock) -> None:
        def open_files() -> int:
            return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0

        async def once() -> None:
            disk = DiskStorage(tmp_path, clock=clock)
            entry = entry_for(clock, b"x")
            await disk.put(entry, b"x")
            assert await body_of(disk, entry) == b"x"
            await disk.aclose()

        await once()
        before = (threading.active_count(), open_files())
        for _ in range(200):
            await once()
        assert (threading.active_count(), open_files()) == before
        assert list((tmp_path / "imagecache-v2" / "writers").iterdir()) == []


class TestOtherProcesses:
    async def test_changes_of_others_are_heard_when_polled(
        self, make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
    ) -> None:
        here, there = make_disk(), make_other()
        changes = follow(here)
        entry, new = entry_for(clock, b"x"), entry_for(clock, b"y")
        key_hash = entry.row.key_hash
        await here.put(entry, b"x")
        await here.poll()
        await there.put(new, b"y")
        await there.put(new, b"y")
        await there.put(variant_of(new, b"v"), b"v")
        assert await body_of(here, new) == b"y"
        await there.remove(key_hash)
        await there.clear()
        await here.poll()
        await asyncio.sleep(0)
        assert changes == [(key_hash, new.checksum), (key_hash, None), ("*", None)]
        await here.poll()
        await asyncio.sleep(0)
        assert len(changes) == 3

    async def test_what_the_log_no_longer_covers_is_everything(
        self, make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imagecache.storage.index.LOG_LENGTH", 5)
        monkeypatch.setattr("imagecache.storage.writer.SHORTEN_EVERY", 1)
        here, there = make_disk(), make_other()
        changes = follow(here)
        await here.flush()
        await here.count()
        for number in range(10):
            await there.put(entry_for(clock, b"x", str(number)), b"x")
        await here.poll()
        await asyncio.sleep(0)
        assert changes == [("*", None)]

    async def test_a_lease_is_one_processes_until_it_is_given_back_or_over(
        self, make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
    ) -> None:
        here, there = make_disk(), make_other()
        row = entry_for(clock, b"x").row
        assert await here.lease(row), "alone"
        await there.flush()
        await there.count()
        clock.advance(1)
        assert await here.lease(row)
        assert not await there.lease(row)
        assert await here.lease(row), "it is still ours"
        here.release(row)
        await here.poll()
        assert await there.lease(row)
        assert not await here.lease(row)
        clock.advance(LEASE_SECONDS)
        assert await here.lease(row), "a dead holder delays nobody longer"

    async def test_a_sweep_spares_what_another_living_writer_is_about_to_commit(
        self, make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path
    ) -> None:
        here, there = make_disk(), make_other()
        await here.put(entry_for(clock, b"x", "small"), b"x")
        entry = entry_for(clock, LARGE)
        await there.put(entry, LARGE)
        store = there._store
        assert store is not None
        [committed] = body_files(folder)
        uncommitted = committed.with_name(f"{entry.row.key_hash}-{store.writer_id}ffff.png")
        uncommitted.write_bytes(LARGE)
        await here.clean()
        await swept(here)
        assert sorted(body_files(folder)) == sorted([committed, uncommitted])
        await there.aclose()
        await here.clean()
        await swept(here)
        assert body_files(folder) == [committed]

    def test_an_exit_without_closing_writes_what_is_queued_and_says_nothing(self, tmp_path: Path) -> None:
        done = python(
            """
            async def main():
                disk = DiskStorage(folder, clock=clock)
                for number in range(300):
                    disk.put(entry_for(clock, bytes(number * 300), str(number)), bytes(number * 300))
            asyncio.run(main())
            """,
            tmp_path,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        counted = python(
            """
            async def main():
                disk = DiskStorage(folder, clock=clock)
                print(await disk.count())
                await disk.aclose()
            asyncio.run(main())
            """,
            tmp_path,
        )
        assert (counted.stdout, counted.stderr) == ("300\n", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
    def test_a_fork_opens_anew_and_leaves_the_parents_handles_alone(self, tmp_path: Path) -> None:
        done = python(
            """
            async def main():
                disk = DiskStorage(folder, clock=clock)
                await disk.put(entry_for(clock, b"parent", "parent"), b"parent")
                pid = os.fork()
                if pid == 0:
                    async def child():
                        assert (await disk.load(entry_for(clock, b"parent", "parent").row.key_hash, key="parent")).body
                        await disk.put(entry_for(clock, b"child", "child"), b"child")
                        await disk.aclose()
                    asyncio._set_running_loop(None)
                    asyncio.new_event_loop().run_until_complete(child())
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                await disk.put(entry_for(clock, b"again", "again"), b"again")
                print(await disk.count())
                await disk.aclose()
            import warnings
            warnings.simplefilter("ignore")
            asyncio.run(main())
            """,
            tmp_path,
        )
        assert done.stdout == "3\n", done.stderr

    async def test_a_process_that_stops_in_a_transaction_makes_nobody_wait(
        self, make_disk: MakeDisk, clock: FakeClock, tmp_path: Path, folder: Path
    ) -> None:
        disk = make_disk()
        before = entry_for(clock, b"before", "before")
        await disk.put(before, b"before")
        script = """
            import sqlite3
            db = sqlite3.connect(folder / "imagecache-v2" / "index-1.sqlite", isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            input()
            """
        with process(script, tmp_path) as child:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == "locked\n"
            entry = entry_for(clock, LARGE)
            future = disk.put(entry, LARGE)
            assert await body_of(disk, entry) == LARGE
            assert await body_of(disk, before) == b"before"
            assert await disk.remove(before.row.key_hash) == 0
            assert await body_of(disk, before) is None, "gone at once, if not in the index yet"
            assert not future.done()
        assert (await future).status is StoreStatus.STORED
        assert await body_of(disk, before) is None

    @pytest.mark.slow
    async def test_processes_that_store_read_evict_and_clear_at_once_never_see_a_torn_body(
        self, tmp_path: Path
    ) -> None:
        script = """
            import random
            async def main():
                disk = DiskStorage(folder, clock=clock, limit=2_000_000)
                chance = random.Random(os.getpid())
                hits = 0
                for step in range(300):
                    url = str(chance.randrange(30))
                    body = os.urandom(16) * chance.choice([1, 100, 4000])
                    entry = entry_for(clock, body, url)
                    match chance.randrange(10):
                        case 0: await disk.remove(entry.row.key_hash)
                        case 1 if step % 50 == 1: await disk.clear()
                        case 2: await disk.clean()
                        case 3 | 4 | 5: disk.put(entry, body)
                        case _:
                            stored = await disk.load(entry.row.key_hash, key=url)
                            if stored is not None:
                                hits += 1
                                assert stored.body == stored.body[:16] * (len(stored.body) // 16), "torn"
                assert disk.last_fault is None, disk.last_fault
                await disk.aclose()
                print(hits > 0)
            asyncio.run(main())
            """
        done = await asyncio.gather(*(asyncio.to_thread(python, script, tmp_path) for _ in range(3)))
        assert [(d.stdout, d.stderr) for d in done] == [("True\n", "")] * 3


async def test_thousands_of_changes_are_followed_in_their_order_and_some_at_a_time(
    disk: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.storage.disk.TOLD_AT_ONCE", 10)
    told: list[Changes] = []
    disk.subscribe(told.append)
    first: Changes = [(f"first-{number}", None) for number in range(25)]
    second: Changes = [(f"second-{number}", None) for number in range(3)]

    disk._deliver(first)
    disk._deliver(second)
    assert [len(changes) for changes in told] == [10]
    for _ in range(4):
        await asyncio.sleep(0)

    assert [change for changes in told for change in changes] == first + second
    assert max(len(changes) for changes in told) == 10
