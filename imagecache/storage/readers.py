"""The reading half of a store: a few threads, a connection for each, every read whole within one job.

What is queued is seen first, then the index, then the body; checksums are verified here. A read never waits for a
write (the log sees to that) and never raises for what lies on the disk: that is a miss, and a fault or a drop.

Loads are not a hop each. Handing one thing to a thread and back costs several times what the read itself does, so a
thread that is awake takes what waits, some at a time, and hands the answers back together. One thread does the
look-ups: two would do little but pass the interpreter's lock to and fro. Files are read by all of them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..entry import Entry, Namespace
from .access import Access
from .bodies import Bodies
from .fault_log import FaultLog
from .folder import Folder, identity
from .fork_gate import ForkGate
from .keeper import INDEX_ERRORS, Keeper, is_busy
from .record import DamagedError, verify_body
from .rows import Row, read_again, rows_matching, rows_of_key
from .schema import connect_to_read
from .stored import Stored
from .write_queue import Pending, WriteQueue
from .writer import tell

T = TypeVar("T")

THREADS = min(4, os.cpu_count() or 1)
"""Reads are short and the page cache is warm: more threads only wait for one another."""
TOGETHER = 8
"""Look-ups that are answered together. More would save little of a hop, and let the first of them wait for the last."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is looked for. ``choose`` and ``with_body`` are pure: they are called in a reader's thread.

    ``partial``, if given, is filled with the entries of that namespace that are otherwise the same: they lie side by
    side, and a look-up of their own would cost every miss a second turn. ``hand_over``, if given, is called in a
    reader's thread with a small answer that is to be told to a future; where it says that it will tell, with what was
    made of the answer meanwhile, that takes no turn of the loop in between.
    """

    key_hash: str
    key: str
    scope: str
    processor: str
    namespace: Namespace
    choose: Callable[[Sequence[Entry]], Entry | None]
    with_body: Callable[[Entry], bool]
    partial: list[Entry] | None = None
    hand_over: Callable[[Stored, asyncio.Future[Stored | None]], bool] | None = None

    def is_met_by(self, entry: Entry, namespace: Namespace | None = None) -> bool:
        """Whether that is an answer to choose from. The key is compared in full: a hash is a name, not an identity."""
        row = entry.row
        return (row.scope, row.processor, row.namespace, entry.key) == (
            self.scope,
            self.processor,
            namespace or self.namespace,
            self.key,
        )


@dataclass(slots=True, eq=False)
class _Load:
    """A load on its way: whom to tell, and, once it was looked up, the row whose file is still to be read."""

    lookup: Lookup
    future: asyncio.Future[Stored | None]
    loop: asyncio.AbstractEventLoop
    row: Row | None = None
    stored: Stored | None = None
    error: BaseException | None = None
    is_handed_over: bool = False


class _IndexGoneError(Exception):
    """The index that was open is not in the folder any more."""


@dataclass(frozen=True, slots=True)
class _Mine:
    """What a thread holds open, and which index that is."""

    connection: sqlite3.Connection
    epoch: int
    identity: tuple[int, int]


class Readers:
    """The threads that read a folder.

    ``did_find_damage`` is called in a reader's thread with the rows of a key hash that proved damaged;
    ``did_fail`` with an error that concerns the index as a whole, and the opening of it that was in use.
    """

    def __init__(
        self,
        keeper: Keeper,
        queue: WriteQueue,
        faults: FaultLog,
        did_find_damage: Callable[[str, tuple[Row, ...]], None],
        did_fail: Callable[[Exception, object], None],
        gate: ForkGate,
    ) -> None:
        self.is_open = threading.Event()
        self._keeper = keeper
        self._folder: Folder = keeper.folder
        self._bodies = Bodies(self._folder.bodies, "")
        self._queue = queue
        self._faults = faults
        self._did_find_damage = did_find_damage
        self._did_fail = did_fail
        self._gate = gate
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="imagecache-reader")
        self._mine = threading.local()
        self._connections: dict[sqlite3.Connection, None] = {}
        self._lock = threading.Lock()
        self._to_look_up: deque[_Load] = deque()
        self._with_file: deque[_Load] = deque()
        # Threads that will look for more before they end, and how many of them are busy with a file.
        self._awake = 0
        self._in_files = 0

    # From a loop

    def run(self, job: Callable[[sqlite3.Connection], T], default: T) -> asyncio.Future[T]:
        """Run a read in a reader's thread; ``default`` if the index cannot be read."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._guarded, job, default)

    def load(self, lookup: Lookup) -> asyncio.Future[Stored | None]:
        """Find and read a stored answer in a reader's thread."""
        loop = asyncio.get_running_loop()
        load = _Load(lookup, loop.create_future(), loop)
        with self._lock:
            # First, so that nothing is left waiting where no thread can be had.
            self._wake_another()
            self._to_look_up.append(load)
        return load.future

    def _wake_another(self) -> None:
        """See to it, under the lock, that a thread comes for what waits; one that reads a file may be long."""
        if self._awake == self._in_files and self._awake < THREADS:
            self._executor.submit(self._work)
            self._awake += 1

    def rows(self, key_hash: str) -> asyncio.Future[list[Row]]:
        """Every row of a key hash, queued changes included."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._all_rows, key_hash)

    def verified(self, row: Row) -> asyncio.Future[bytes | DamagedError | None]:
        """The bytes of a row that was read before, or what is wrong with it; None if the row is another by now."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._verify, row)

    def close(self) -> None:
        """Wait for the reads under way, then close every connection. Blocking: the writer's thread does it."""
        self._executor.shutdown(wait=True)
        with self._gate:
            self.close_connections()

    def close_connections(self) -> None:
        """Close every connection; while nobody uses one."""
        for connection in list(self._connections):
            self._forget(connection)

    # In a reader's thread

    def _work(self) -> None:
        self.is_open.wait()
        while loads := self._take():
            if loads[0].row is not None:
                self._read_file(loads[0])
                continue
            try:
                self._look_up([load for load in loads if not load.future.cancelled()])
            except BaseException as error:
                # What nobody foresaw must not leave them waiting.
                for load in loads:
                    load.error = error
                _give_back(loads)

    def _take(self) -> list[_Load]:
        """A file to read, or some look-ups; if there is nothing left, this thread is not awake any more."""
        with self._lock:
            if self._with_file:
                loads = [self._with_file.popleft()]
                self._in_files += 1
            else:
                loads = [self._to_look_up.popleft() for _ in range(min(TOGETHER, len(self._to_look_up)))]
                self._awake -= not loads
            if self._with_file or self._to_look_up:
                # At the interpreter's end there is no other one: then this one does it all.
                with suppress(RuntimeError):
                    self._wake_another()
            return loads

    def _read_file(self, load: _Load) -> None:
        if not load.future.cancelled():
            self._attempt(self._finish, load)
            _give_back([load])
        with self._lock:
            self._in_files -= 1

    def _look_up(self, loads: Sequence[_Load]) -> None:
        """Answer look-ups, but for those that have a file to read."""
        done: list[_Load] = []
        with_file: list[_Load] = []
        for load, (rows, pending) in zip(loads, self._rows_of([load.lookup for load in loads]), strict=True):
            self._attempt(functools.partial(self._begin, rows=rows, pending=pending), load)
            if load.row is not None:
                with_file.append(load)
            elif not load.is_handed_over:
                done.append(load)
        _give_back(done)
        if with_file:
            with self._lock:
                self._with_file += with_file

    def _attempt(self, step: Callable[[_Load], None], load: _Load) -> None:
        try:
            step(load)
        except BaseException as error:  # What the caller's own functions raise is the caller's, and no other load's.
            load.row, load.error = None, error

    def _begin(self, load: _Load, rows: Sequence[Row], pending: Pending) -> None:
        row = load.row = _chosen(load.lookup, _with_pending(rows, pending))
        if row is None or row.file is None or not load.lookup.with_body(row.entry):
            self._finish(load)
            if load.stored is not None and load.lookup.hand_over is not None:
                load.is_handed_over = load.lookup.hand_over(load.stored, load.future)

    def _finish(self, load: _Load) -> None:
        row, load.row = load.row, None
        load.stored, damaged = self._try_to_read(load.lookup, row)
        while damaged:
            # It may have been replaced between its row and its file; what is damaged is so the second time, too.
            before = damaged
            [(rows, pending)] = self._rows_of([load.lookup])
            row = _chosen(load.lookup, _with_pending(rows, pending))
            load.stored, damaged = self._try_to_read(load.lookup, row)
            if _are_same(before, damaged):
                self._did_find_damage(load.lookup.key_hash, damaged)
                break

    def _try_to_read(self, lookup: Lookup, row: Row | None) -> tuple[Stored | None, tuple[Row, ...]]:
        if row is None:
            return None, ()
        if not lookup.with_body(row.entry):
            return Stored(row.entry, None), ()
        try:
            return Stored(row.entry, self._body(row)), ()
        except DamagedError:
            return None, (row,)
        except OSError as error:
            self._faults.report("read a file", error)
            return None, ()

    def _body(self, row: Row) -> bytes:
        """The bytes of a row, verified; DamagedError if they are not what was stored, OSError for a fault."""
        if not row.row_id and row.body is not None:
            # Still queued: these are the very bytes that were given.
            return row.body
        body = row.body
        if row.file is not None:
            body = self._bodies.read(row.file, row.entry.byte_count)
            self._faults.works("read a file")
        if not isinstance(body, bytes):
            raise DamagedError("the body is not in the index")
        verify_body(row.entry, body)
        return body

    def _verify(self, row: Row) -> bytes | DamagedError | None:
        def read(connection: sqlite3.Connection) -> bytes | DamagedError | None:
            now = read_again(connection, row)
            try:
                return None if now is None else self._body(now)
            except DamagedError as error:
                # Its file may have gone with its row just now.
                return error if read_again(connection, row) is not None else None

        try:
            return self._guarded(read, None)
        except OSError as error:
            self._faults.report("read a file", error)
            return None

    def _rows_of(self, lookups: Sequence[Lookup]) -> list[tuple[Sequence[Row], Pending]]:
        """What the index has for each look-up, and what is queued; of one state of the index, or asked for singly."""
        pending = [self._queue.pending(lookup.key_hash) for lookup in lookups]
        found = list(zip(lookups, pending, strict=True))
        rows = self._rows_together(found) if len(found) > 1 else None
        if rows is None:
            rows = [self._guarded(functools.partial(self._read_rows, lookup, waits), ()) for lookup, waits in found]
        return list(zip(rows, pending, strict=True))

    def _rows_together(self, wanted: Sequence[tuple[Lookup, Pending]]) -> list[Sequence[Row]] | None:
        """Several look-ups in one transaction, which takes SQLite's locks once; None where something is wrong."""
        with self._gate:
            opened = self._keeper.opened
            if opened is None:
                return None
            try:
                connection = self._connection(*opened)
                # It sees the index as it is at its first statement, and so after what was queued was looked at.
                connection.execute("BEGIN")
                rows = [self._read_rows(lookup, pending, connection) for lookup, pending in wanted]
                connection.execute("COMMIT")
            except (_IndexGoneError, *INDEX_ERRORS):
                # Each by itself will say what it is, and whose.
                self._close_mine()
                return None
            except BaseException:
                # Not to be used again while it is in a transaction.
                self._close_mine()
                raise
        self._faults.works("read")
        return rows

    def _read_rows(self, lookup: Lookup, pending: Pending, connection: sqlite3.Connection) -> Sequence[Row]:
        if pending.is_cleared:
            return ()
        if not pending.operations:
            also: Namespace = lookup.namespace if lookup.partial is None else "partial"
            rows, unreadable = rows_matching(
                connection, lookup.key_hash, (lookup.namespace, also), lookup.scope, lookup.processor
            )
        else:
            rows, unreadable = rows_of_key(connection, lookup.key_hash, with_body=True)
        if unreadable:
            self._did_find_damage(lookup.key_hash, ())
        return rows

    def _all_rows(self, key_hash: str) -> list[Row]:
        pending = self._queue.pending(key_hash)
        rows: list[Row] = []
        if not pending.is_cleared:
            rows = self._guarded(lambda connection: rows_of_key(connection, key_hash)[0], rows)
        return list(_with_pending(rows, pending))

    def _guarded(self, job: Callable[[sqlite3.Connection], T], default: T) -> T:
        self.is_open.wait()
        with self._gate:
            return self._guarded_in_gate(job, default)

    def _guarded_in_gate(self, job: Callable[[sqlite3.Connection], T], default: T) -> T:
        opened = self._keeper.opened
        if opened is None:
            return default
        try:
            result = job(self._connection(*opened))
        except _IndexGoneError:
            # Whoever writes next makes it anew.
            return default
        except INDEX_ERRORS as error:
            # The next read begins anew, whatever state this one left it in.
            self._close_mine()
            if is_busy(error):
                # Somebody who was alone is just folding its log, or mending one: that passes.
                return default
            self._faults.report("read", error)
            self._did_fail(error, opened)
            return default
        self._faults.works("read")
        return result

    def _connection(self, epoch: int, path: Path) -> sqlite3.Connection:
        """This thread's connection to the index in use."""
        seen = identity(path)
        mine: _Mine | None = getattr(self._mine, "value", None)
        if mine is not None and (mine.epoch, mine.identity) == (epoch, seen):
            return mine.connection
        self._close_mine()
        if seen is None:
            raise _IndexGoneError(f"{path} is gone")
        connection = connect_to_read(path)
        self._connections[connection] = None
        self._mine.value = _Mine(connection, epoch, seen)
        return connection

    def _close_mine(self) -> None:
        mine: _Mine | None = getattr(self._mine, "value", None)
        self._mine.value = None
        if mine is not None:
            self._forget(mine.connection)

    def _forget(self, connection: sqlite3.Connection) -> None:
        self._connections.pop(connection, None)
        with suppress(sqlite3.Error):
            connection.close()


def _chosen(lookup: Lookup, rows: Sequence[Row]) -> Row | None:
    if lookup.partial is not None:
        lookup.partial[:] = [row.entry for row in rows if lookup.is_met_by(row.entry, "partial")]
    matching = [row for row in rows if lookup.is_met_by(row.entry)]
    entry = lookup.choose([row.entry for row in matching]) if matching else None
    return next((row for row in matching if row.entry is entry), None)


def _give_back(loads: Sequence[_Load]) -> None:
    """Hand answers to those who wait, with one turn of each loop's."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Load]] = {}
    for load in loads:
        by_loop.setdefault(load.loop, []).append(load)
    for loop, done in by_loop.items():
        tell(loop, _resolve, done)


def _resolve(loads: Sequence[_Load]) -> None:
    for load in loads:
        if load.future.done():
            continue
        if load.error is not None:
            load.future.set_exception(load.error)
        else:
            load.future.set_result(load.stored)


def _with_pending(rows: Sequence[Row], pending: Pending) -> Sequence[Row]:
    """The rows as they will be once all that waits is written."""
    if pending.operations:
        by_key = {row.entry.row: row for row in rows}
        for operation in pending.operations:
            operation.apply(by_key)
        rows = list(by_key.values())
    return [_with_access(row, pending.accesses.get(row.entry.row)) for row in rows] if pending.accesses else rows


def _with_access(row: Row, accessed: Access | None) -> Row:
    if accessed is None:
        return row
    entry = row.entry
    until = accessed.stored_until(entry.stored_until, entry.lifetime)
    return row if until == entry.stored_until else replace(row, entry=replace(entry, stored_until=until))


def _are_same(before: tuple[Row, ...], now: tuple[Row, ...]) -> bool:
    return [(row.row_id, row.file, row.entry.checksum) for row in before] == [
        (row.row_id, row.file, row.entry.checksum) for row in now
    ]
