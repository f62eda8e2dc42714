"""Several processes on one folder, real ones: all at once, stopped, killed, and come by a fork."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from imagecache.entry import RowKey
from imagecache.storage import folder as folders, schema
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST, Index
from imagecache.storage.leases import COMPANY_SECONDS, LEASE_SECONDS
from imagecache.storage.stored import StoreStatus
from imagecache.storage.writer_lock import living_writers
from imagecache.testing.clock import FakeClock

from .entries import entry_for
from .test_disk import body_files, body_of, swept
from .worker import run, worker

LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="POSIX's signals")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")


# All at once

STORM_LIMIT = 300_000
STORM = f"""
import random
LIMIT = {STORM_LIMIT}

class Complaints(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), file=sys.stderr)

logging.getLogger("imagecache").addHandler(Complaints(logging.WARNING))

def body_of(url, chance):
    part = f"<{{url}}:{{chance.getrandbits(64):016x}}>".encode()
    return part * chance.choice([1, 40, 2500])

def check(stored, url):
    body, entry = stored.body, stored.entry
    assert (entry.key, entry.byte_count) == (url, len(body)), "another's metadata"
    assert hashlib.sha256(body).hexdigest() == entry.checksum, "torn"
    part = body[: body.index(b">") + 1]
    assert part.startswith(f"<{{url}}:".encode()), "crossed"
    assert body == part * (len(body) // len(part)), "torn"

async def main():
    disk = DiskStorage(folder, clock=clock, limit=LIMIT)
    chance = random.Random(int(sys.argv[2]))
    ask("ready")
    hits, futures = 0, []
    for step in range(350):
        url = f"u{{chance.randrange(40)}}"
        body = body_of(url, chance)
        entry = entry_for(clock, body, url)
        match chance.randrange(12):
            case 0: await disk.remove(entry.row.key_hash)
            case 1 if step % 60 == 1: await disk.clear()
            case 2: await disk.clean()
            case 3: await disk.poll()
            case 4: disk.touch(entry.row)
            case 5 | 6 | 7 | 8: futures.append(disk.put(entry, body))
            case _:
                stored = await disk.load(entry.row.key_hash, key=url)
                if stored is not None:
                    hits += 1
                    check(stored, url)
    await disk.flush()
    statuses = {{future.result().status for future in futures}}
    await disk.aclose()
    assert statuses <= {{StoreStatus.STORED, StoreStatus.NO_ROOM}}, statuses
    assert (disk.faults, disk.last_fault, disk.refused, disk.queue_depth) == (0, None, 0, 0)
    print("hits" if hits else "no hits")
asyncio.run(main())
"""


def assert_whole(folder: Path) -> None:
    """The index is sound, its totals are the sums over its entries, and its files and rows agree."""
    with closing(sqlite3.connect(folder / "index-1.sqlite")) as index:
        assert index.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [totals] = index.execute("SELECT rows, bytes FROM totals")
        assert index.execute("SELECT count(*), ifnull(sum(cost), 0) FROM entries").fetchall() == [totals]
        assert index.execute("SELECT count(*) FROM trash").fetchall() == [(0,)]
        inline = index.execute("SELECT id FROM entries WHERE file IS NULL ORDER BY id").fetchall()
        assert index.execute("SELECT id FROM bodies ORDER BY id").fetchall() == inline
        in_files = index.execute("SELECT file, cost FROM entries WHERE file IS NOT NULL").fetchall()
    assert sorted((path.name, path.stat().st_size) for path in body_files(folder)) == sorted(in_files)
    assert [path.name for path in folder.glob("index-*.sqlite")] == ["index-1.sqlite"]
    assert not (folder / "current").exists()


@pytest.mark.slow
async def test_four_processes_at_once_never_see_a_torn_or_crossed_body_nor_a_lock(
    make_disk: MakeDisk, tmp_path: Path, folder: Path
) -> None:
    async def take_part(number: int) -> tuple[int, str, str]:
        async with worker(STORM, tmp_path, number) as process:
            assert await process.line() == "ready"
            ready.append(number)
            if len(ready) == 4:
                everybody.set()
            await everybody.wait()
            process.go_on()
            return await process.end()

    ready, everybody = list[int](), asyncio.Event()
    ends = await asyncio.gather(*(take_part(number) for number in range(4)))
    assert ends == [(0, "hits\n", "")] * 4
    disk = make_disk(limit=STORM_LIMIT)
    entries = [entry async for entry in disk.entries()]
    for entry in entries:
        body = await body_of(disk, entry)
        assert body is not None
        assert hashlib.sha256(body).hexdigest() == entry.checksum
    weight = sum(entry.byte_count + ROW_COST for entry in entries)
    assert 0 < weight <= STORM_LIMIT + 4 * (2500 * 24 + ROW_COST), "over the limit by one entry a process at most"
    await disk.clean()
    await swept(disk)
    assert disk.faults == 0
    await disk.aclose()
    assert_whole(folder)


async def test_what_a_process_stores_removes_and_clears_is_heard_by_the_next_look(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path
) -> None:
    script = """
        async def main():
            disk = DiskStorage(folder, clock=clock)
            ask(await put(disk, "x", b"other"))
            ask(await disk.remove(entry_for(clock, b"", "x").row.key_hash))
            await disk.clear()
            ask("cleared")
            await disk.aclose()
        asyncio.run(main())
        """
    disk, changes = make_disk(), list[tuple[str, str | None]]()
    disk.subscribe(changes.extend)
    entry = entry_for(clock, b"own", "x")
    await disk.put(entry, b"own")
    expected = [(entry.row.key_hash, hashlib.sha256(b"other").hexdigest()), (entry.row.key_hash, None), ("*", None)]
    async with worker(script, tmp_path) as process:
        for said, body, heard in zip(["STORED", "1", "cleared"], [b"other", None, None], expected, strict=True):
            assert await process.line() == said
            assert await body_of(disk, entry) == body, "the disk is never behind"
            await disk.poll()
            await asyncio.sleep(0)
            assert changes.pop() == heard
            assert not changes
            process.go_on()
        assert await process.end() == (0, "", "")


def test_an_index_that_was_just_made_is_synced_like_any_other(tmp_path: Path) -> None:
    # While it is empty it is not: the first image of all would wait for that.
    for _ in ("made", "found"):
        with closing(schema.connect(tmp_path / "index-1.sqlite")) as connection:
            schema.create_or_check(connection, tmp_path / "index-1.sqlite", b"x" * 32)
            assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


def made_elsewhere(path: Path) -> None:
    """Make the index, as another process would at this moment; it may find that somebody holds the file."""
    with closing(schema.connect(path)) as connection, suppress(sqlite3.OperationalError):
        schema.create_or_check(connection, path, b"x" * 32)


def test_an_index_that_is_made_while_one_looks_at_it_is_no_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Version and tables were looked at one after the other: with another process's commit in between, the empty
    # file was one with foreign tables, and was abandoned for the next generation.
    is_empty, path = schema._is_empty, tmp_path / "index-1.sqlite"

    def look_late(connection: sqlite3.Connection) -> bool:
        monkeypatch.setattr(schema, "_is_empty", is_empty)
        made_elsewhere(path)
        return is_empty(connection)

    monkeypatch.setattr(schema, "_is_empty", look_late)
    with closing(schema.connect(path)) as connection:
        schema.create_or_check(connection, path, b"x" * 32)


async def test_nor_is_one_that_appears_between_two_looks_at_its_name(
    make_disk: MakeDisk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = folders.identity

    def look_early(path: Path) -> tuple[int, int] | None:
        if path.exists():
            return identity(path)
        made_elsewhere(path)
        return None

    monkeypatch.setattr("imagecache.storage.keeper.identity", look_early)
    disk = make_disk()
    assert await disk.count() == 0
    assert not (folder / "current").exists()


async def test_a_reader_that_meets_a_lock_misses_and_counts_no_fault(
    disk: DiskStorage, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last process that leaves, and the first after a crash, lock the whole index for a moment.
    entry = entry_for(clock, b"x")
    await disk.put(entry, b"x")
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY

    def refuse(*_: object) -> None:
        raise locked

    with monkeypatch.context() as patch:
        patch.setattr("imagecache.storage.readers.rows_matching", refuse)
        assert await body_of(disk, entry) is None
    assert disk.faults == 0
    assert await body_of(disk, entry) == b"x"


# Stopped and killed

STOPS = """
async def main():
    disk = DiskStorage(folder, clock=clock)
    await put(disk, "before")
    insert = Index.insert
    def stop(*args):
        insert(*args)
        Index.insert = insert
        print("stopping", flush=True)
        # This thread first: sent to the process, it would come to this one a statement or two later.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    Index.insert = stop
    print(await put(disk, "half"), flush=True)
    await disk.aclose()
asyncio.run(main())
"""


@needs_signals
@pytest.mark.parametrize("end", ["SIGCONT", "SIGKILL"])
async def test_a_process_that_is_stopped_in_a_transaction_makes_nobody_wait(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("imagecache.storage.write_queue.MAX_ROWS", 40)
    async with worker(STOPS, tmp_path) as process:
        assert await process.line() == "stopping"
        disk = make_disk()
        entries = [entry_for(clock, LARGE, str(number)) for number in range(41)]
        futures = [disk.put(entry, LARGE) for entry in entries]
        refused = futures.pop()
        assert (await refused).status is StoreStatus.QUEUE_FULL
        assert disk.refused == 1
        assert not any(future.done() for future in futures)
        assert disk.queue_depth >= 40
        assert [await body_of(disk, entry) for entry in entries] == [LARGE] * 40 + [None]
        assert await body_of(disk, entry_for(clock, b"", "before")) == b"before"
        assert await body_of(disk, entry_for(clock, b"", "half")) is None
        assert (await disk.refresh(entries[0])).status is StoreStatus.QUEUE_FULL
        assert not any(future.done() for future in futures)
        process.kill(getattr(signal, end))
        assert {(await future).status for future in futures} == {StoreStatus.STORED}
        await disk.flush()
        assert (disk.refused, disk.queue_depth, disk.faults) == (1, 0, 0)
        if end == "SIGCONT":
            assert await process.end() == (0, "STORED\n", "")
        half = b"half" if end == "SIGCONT" else None
        assert await body_of(disk, entry_for(clock, b"", "half")) == half
        assert await disk.count() == 41 + (half is not None)


@needs_signals
async def test_the_queue_is_bounded_in_bytes_too_and_takes_again_what_fits(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.storage.write_queue.MAX_BYTES", 3 * len(LARGE))
    async with worker(STOPS, tmp_path) as process:
        assert await process.line() == "stopping"
        disk = make_disk()
        futures = [disk.put(entry_for(clock, LARGE, str(number)), LARGE) for number in range(5)]
        assert [future.done() for future in futures] == [False] * 3 + [True] * 2
        assert disk.refused == 2
        process.kill(signal.SIGKILL)
        assert (await futures[2]).status is StoreStatus.STORED
        await disk.flush()
        assert await disk.put(entry_for(clock, LARGE, "4"), LARGE) == await futures[0]
        assert disk.refused == 2


@needs_signals
async def test_what_refused_puts_leave_to_do_is_bounded_as_well(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of them queued one more operation, for as long as the other process was stopped.
    monkeypatch.setattr("imagecache.storage.write_queue.MAX_ROWS", 10)
    async with worker(STOPS, tmp_path) as process:
        assert await process.line() == "stopping"
        disk = make_disk()
        for number in range(100):
            disk.put(entry_for(clock, b"x", str(number)), b"x")
        assert disk.refused == 90
        assert disk.queue_depth <= 20


@needs_signals
async def test_nobody_waits_for_a_lease_that_a_stopped_process_keeps_from_being_taken(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of the images asked for at once waited for the lock in its turn, a quarter of a second each.
    tries, transaction = list[str](), Index.transaction

    @contextmanager
    def counted(index: Index) -> Iterator[None]:
        tries.append(threading.current_thread().name)
        with transaction(index):
            yield

    async with worker(STOPS, tmp_path) as process:
        assert await process.line() == "stopping"
        monkeypatch.setattr(Index, "transaction", counted)
        disk = make_disk()
        rows = [RowKey(f"{number:064x}") for number in range(40)]
        assert all(await asyncio.gather(*(disk.lease(row) for row in rows)))
        for row in rows:
            disk.release(row)
        assert await disk.lease(rows[0])
        assert len(tries) == 1
        assert disk.faults == 0
        process.kill(signal.SIGKILL)
        await disk.put(entry_for(clock, b"x"), b"x")
        clock.advance(COMPANY_SECONDS)
        assert await disk.lease(rows[0])


HOLDS_A_LEASE = """
from imagecache.entry import RowKey
clock = FakeClock()
async def main():
    disk = DiskStorage(folder, clock=clock)
    assert await disk.count() == 0
    ask("open")
    print(*[await disk.lease(RowKey(f"{number:064x}")) for number in range(5)], flush=True)
    ask("leased")
asyncio.run(main())
"""


@pytest.mark.parametrize("has_company", [True, False], ids=["among others", "alone"])
async def test_who_dies_with_a_lease_delays_nobody_longer_than_it_runs(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, tmp_path: Path, has_company: bool
) -> None:
    disk, rows = make_disk(), [RowKey(f"{number:064x}") for number in range(5)]
    await disk.count()
    if has_company:
        await make_other().count()
    async with worker(HOLDS_A_LEASE, tmp_path) as process:
        assert await process.line() == "open"
        process.go_on()
        assert await process.line() == "True True True True True"
        # All at once: those that came while the first one looked for company took it that there was none.
        assert await asyncio.gather(*(disk.lease(row) for row in rows)) == [False] * 5
    clock.advance(LEASE_SECONDS - 0.1 if has_company else COMPANY_SECONDS)
    assert await disk.lease(rows[0]) is not has_company
    clock.advance(0.1)
    assert await disk.lease(rows[1])


async def test_a_lease_that_was_taken_while_one_waited_to_ask_is_not_from_the_future(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock
) -> None:
    # Who asked had read the clock before its turn came, and took every later lease for a clock gone wrong.
    here, there, row, go_on = make_disk(), make_other(), RowKey("0" * 64), threading.Event()
    await here.count()
    await there.count()
    assert here._store is not None
    here._store.writer.start(lambda _: go_on.wait())
    asked = asyncio.create_task(here.lease(row))
    await asyncio.sleep(0)
    clock.advance(0.1)
    assert await there.lease(row)
    go_on.set()
    assert not await asked


# Forks


@needs_fork
async def test_a_child_locks_what_it_opens_so_that_its_parent_may_leave(tmp_path: Path, folder: Path) -> None:
    # SQLite's memory of the parent's locks came along: the child took none of its own, the parent, leaving last as
    # it seemed, deleted the log, and the child wrote to a deleted file.
    output = await run(
        """
        disk = DiskStorage(folder, clock=clock)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(put(disk, "parent"))
        opened, left = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            async def child():
                assert (disk.state, disk.queue_depth, disk.faults) == (DiskState.READY, 0, 0)
                await disk.poll()
                assert await get(disk, "parent") == b"parent"
                assert await put(disk, "child 1") == "STORED"
                os.write(opened[1], b"x")
                os.read(left[0], 1)
                for number in range(2, 8):
                    assert await put(disk, f"child {number}") == "STORED"
                assert disk.faults == 0
                os._exit(0)  # As a worker that is killed: it closes nothing.
            asyncio.new_event_loop().run_until_complete(child())
        os.read(opened[0], 1)
        async def leave_and_come_back():
            await disk.aclose()
            third = DiskStorage(folder, clock=clock)
            assert await put(third, "third") == "STORED"
            os.write(left[1], b"x")
            assert os.waitpid(pid, 0)[1] == 0
            print(*sorted([entry.key async for entry in third.entries()]), sep=",")
            assert third.faults == 0
            await third.aclose()
        loop.run_until_complete(leave_and_come_back())
        loop.close()
        """,
        tmp_path,
    )
    assert output.rstrip().split(",") == [*(f"child {number}" for number in range(1, 8)), "parent", "third"]
    assert_whole(folder)


@needs_fork
async def test_no_handle_crosses_a_fork_that_comes_in_a_transaction(tmp_path: Path, folder: Path) -> None:
    # The child found the index locked for ever: by a transaction that it believed to be its own.
    output = await run(
        """
        connections = []
        class Noted(sqlite3.Connection):
            is_open = True
            def close(self):
                self.is_open = False
                super().close()
            def execute(self, *args):
                assert os.getpid() == self.pid, "used across the fork"
                return super().execute(*args)
        def connect(*args, connect=sqlite3.connect, **options):
            connection = connect(*args, factory=Noted, **options)
            connection.pid = os.getpid()
            connections.append(connection)
            return connection
        sqlite3.connect = connect

        inside, insert = threading.Event(), Index.insert
        def slow(*args):
            insert(*args)
            inside.set()
            threading.Event().wait(0.3)  # The fork is to come now, and has to wait.
        disk = DiskStorage(folder, clock=clock)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(put(disk, "before"))
        assert loop.run_until_complete(get(disk, "before")) == b"before"
        Index.insert = slow
        async def begin():
            future = disk.put(entry_for(clock, b"x", "under way"), b"x")
            await asyncio.to_thread(inside.wait)
            return future
        future = loop.run_until_complete(begin())
        assert any(connection.is_open for connection in connections)
        pid = os.fork()
        Index.insert = insert
        if pid == 0:
            assert not any(connection.is_open for connection in connections)
            async def child():
                assert await get(disk, "under way") == b"x", "committed before the fork"
                assert await put(disk, "child") == "STORED"
                await disk.aclose()
            asyncio.new_event_loop().run_until_complete(child())
            assert disk.faults == 0
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        async def go_on():
            assert (await future).status is StoreStatus.STORED
            assert await get(disk, "child") == b"child"
            assert await put(disk, "after") == "STORED"
            print(await disk.count(), disk.faults)
            await disk.aclose()
        loop.run_until_complete(go_on())
        loop.close()
        """,
        tmp_path,
    )
    assert output == "4 0\n"
    assert_whole(folder)


@needs_fork
async def test_a_parent_that_forks_all_the_time_loses_nothing(tmp_path: Path, folder: Path) -> None:
    output = await run(
        """
        async def main():
            disk = DiskStorage(folder, clock=clock)
            futures, children = [], []
            for number in range(60):
                futures.append(disk.put(entry_for(clock, b"x" * 900 * number, str(number)), b"x" * 900 * number))
                if number % 6 == 0:
                    children.append(os.fork())
                    if children[-1] == 0:
                        os._exit(0)
                await get(disk, str(number // 2))
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
            assert {(await future).status for future in futures} == {StoreStatus.STORED}
            for number in range(60):
                assert await get(disk, str(number)) == b"x" * 900 * number
            print(await disk.count(), disk.faults)
            await disk.aclose()
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert output == "60 0\n"
    assert_whole(folder)


@needs_fork
async def test_a_pool_of_forked_processes_uses_the_storage_that_its_parent_used(tmp_path: Path, folder: Path) -> None:
    output = await run(
        """
        import multiprocessing
        disk = DiskStorage(folder, clock=clock)
        async def child(number):
            assert await get(disk, "parent") == b"parent"
            status = await put(disk, f"child {number}")
            await disk.flush()
            return status, disk.faults
        def work(number):
            return asyncio.run(child(number))
        async def main():
            await put(disk, "parent")
            # Not with a `with`: that terminates them, in a transaction perhaps.
            pool = multiprocessing.get_context("fork").Pool(2)
            results = await asyncio.to_thread(pool.map, work, range(10))
            pool.close()
            await asyncio.to_thread(pool.join)
            print(set(results) == {("STORED", 0)}, await disk.count(), disk.faults)
            await disk.aclose()
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert output == "True 11 0\n"
    assert_whole(folder)


@needs_fork
async def test_a_fork_that_cannot_wait_leaves_the_folder_to_the_parent_and_says_so(tmp_path: Path) -> None:
    output = await run(
        """
        from imagecache.storage import registry
        registry.FORK_PATIENCE = 0.0
        inside, go_on, insert = threading.Event(), threading.Event(), Index.insert
        def hang(*args):
            inside.set()
            go_on.wait()
            insert(*args)
        Index.insert = hang
        told = []
        disk = DiskStorage(folder, clock=clock, on_fault=lambda what, error: told.append(f"{what}: {error}"))
        async def begin():
            future = disk.put(entry_for(clock, b"x", "x"), b"x")
            await asyncio.to_thread(inside.wait)
            return future
        loop = asyncio.new_event_loop()
        future = loop.run_until_complete(begin())
        pid = os.fork()
        if pid == 0:
            logging.disable()
            Index.insert = insert
            async def child():
                assert await get(disk, "x") is None
                assert await put(disk, "child") == "UNAVAILABLE"
                assert disk.state is DiskState.UNAVAILABLE
                await asyncio.sleep(0)
                assert len(told) == 1 and told[0].startswith("open: this process came by a fork"), told
                elsewhere = DiskStorage(folder / "elsewhere", clock=clock)
                assert await put(elsewhere, "child") == "STORED"
                os._exit(0)
            asyncio.new_event_loop().run_until_complete(child())
        status = os.waitpid(pid, 0)[1]
        go_on.set()
        assert status == 0
        async def end():
            print((await future).status.name, await get(disk, "x"), disk.faults)
            await disk.aclose()
        loop.run_until_complete(end())
        loop.close()
        """,
        tmp_path,
    )
    assert output == "STORED b'x' 0\n"


@needs_fork
async def test_a_childs_end_leaves_its_parents_files_alone_and_a_parents_end_its_sign_of_life_goes(
    tmp_path: Path, folder: Path
) -> None:
    script = """
        import asyncio
        disk = DiskStorage(folder, clock=clock)
        loop = asyncio.new_event_loop()
        async def hold():
            await put(disk, "x")
            return await disk.hold(entry_for(clock, b"x", "x"), b"x", ".png", in_folder=False)
        held = loop.run_until_complete(hold())
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert held.read_bytes() == b"x"
        loop.run_until_complete(disk.aclose())
        assert not held.exists()
        loop.run_until_complete(put(other := DiskStorage(folder, clock=clock), "y"))
        if os.fork() == 0:
            # It has inherited the descriptor on which its parent's lock is held.
            ask("child")
            os._exit(0)
        threading.Event().wait()
        """
    async with worker(script, tmp_path) as process:
        assert await process.line() == "child"
        assert await asyncio.to_thread(living_writers, folder / "writers", "")
        process.kill(signal.SIGKILL)
        await asyncio.to_thread(wait_until_gone, folder / "writers")
        process.go_on()


def wait_until_gone(writers: Path) -> None:
    """Wait, a second at most, until the kernel has taken a killed process's lock away."""
    for _ in range(100):
        if not living_writers(writers, ""):
            return
        threading.Event().wait(0.01)
    raise AssertionError("the lock of a dead process is still held")


# In one process


async def test_two_storages_on_one_folder_by_whatever_path_share_one_store(
    make_disk: MakeDisk, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets us make no symlink")
    first, second = make_disk(tmp_path / "real"), make_disk(link)
    entry = entry_for(clock, b"x")
    future = first.put(entry, b"x")
    assert await body_of(second, entry) == b"x", "also what is still queued"
    assert first._store is second._store
    assert not future.done() or first.queue_depth == second.queue_depth
    # Not by the property, which would evict behind.
    first._limit = ROW_COST
    assert (await first.put(entry_for(clock, b"y", "y"), b"y")).status is StoreStatus.TOO_LARGE
    assert (await second.put(entry_for(clock, b"y", "y"), b"y")).status is StoreStatus.STORED
    assert await first.count() == await second.count() == 2
