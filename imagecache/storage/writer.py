"""The one thread that writes to a folder: takes batches off the queue, commits them, tells who waits.

Nobody ever waits for it but those who ask to. It is no endless thread but a chain of jobs on an executor of one
thread, each started while there is something to write: so the interpreter's exit, which runs an executor's jobs
to their end, writes what is queued, also for a program that never closed anything, and cannot hang on it.

What a fault means is decided here, in `_write`: another process holds the index (the batch stays queued), the
index is damaged (the next generation), the folder cannot be used (memory only, tried again later), anything else
(the operation failed).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from ..clock import Clock
from ..entry import RowKey
from .access import Access
from .fault_log import FaultLog
from .fork_gate import ForkGate
from .index import TOGETHER, Index
from .keeper import INDEX_ERRORS, Keeper, is_busy, is_damage
from .operations import Change, Clear, Discard, NoRoomError, Operation, Put, execute_together, may_join
from .schema import ForeignIndexError
from .sightings import Sightings
from .stored import StoreResult, StoreStatus
from .trimming import clear, shrink, tidy, trim
from .write_queue import Accesses, Queued, WriteQueue

T = TypeVar("T")

logger = logging.getLogger("imagecache")

COMMIT_DELAY = 0.05
"""Seconds that a batch may grow before it is committed; what is queued is visible to readers all the while."""
REOPEN_AFTER = 10.0
"""Seconds after which a folder that could not be used is tried again."""
LAST_TRIES = 8
"""Tries at opening and at the interpreter's exit, each as long as the busy timeout, at an index that is locked."""
TOLD_AT_ONCE = 100
"""Operations whose ends are told in one step of the loop."""
SHORTEN_EVERY = 64
"""Batches after which the log of changes is cut to its length."""

UNUSABLE = (OSError, *INDEX_ERRORS)
"""What opening and using a folder raises."""


class Writer:
    """The writing half of a store.

    ``did_change`` is called in the writer's thread with the changes of one origin, after each commit; ``did_trim`` with
    the key hashes that had to go to make room, after each slice.
    """

    def __init__(
        self,
        keeper: Keeper,
        clock: Clock,
        faults: FaultLog,
        did_change: Callable[[list[Change], object], None],
        did_trim: Callable[[list[str]], None],
        gate: ForkGate,
        sightings: Sightings,
    ) -> None:
        self.queue = WriteQueue(sightings)
        self.is_usable = True
        # Whether another process held the index at the last try.
        self.is_held_up = False
        self.evictions = 0
        self.stores = 0
        self._keeper = keeper
        self._clock = clock
        self._faults = faults
        self._did_change = did_change
        self._did_trim = did_trim
        self._gate = gate
        self._sightings = sightings
        self._retry_at = 0.0
        self._batches = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="imagecache-writer")
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._is_scheduled = False

    # From any thread

    @property
    def may_work(self) -> bool:
        """Whether a write is worth trying: the folder works, or it is time to see if it does again."""
        return self.is_usable or self._clock.monotonic() >= self._retry_at

    def submit(
        self, operation: Operation[T], origin: object, told: Callable[[T], object] | None = None
    ) -> asyncio.Future[T] | None:
        """Queue an operation on the running loop's behalf, which is ``told`` the answer; None if the queue is full."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self.queue.add(Queued(operation, future, loop, origin, told)):
            return None
        self.wake(now=self.queue.is_batch_full)
        return future

    def submit_quietly(self, operation: Operation[object], origin: object = None) -> None:
        """Queue an operation that nobody waits for; from any thread."""
        self.queue.add(Queued(operation, None, None, origin))
        self.wake()

    def touch(self, row: RowKey, access: Access) -> None:
        """Note an access; it is written with the next batch, or when there are many."""
        if self.queue.touch(row, access):
            self.wake()

    def wake(self, *, now: bool = False) -> None:
        """See to it that what is queued is written, soon or at once."""
        if now:
            self._hurry.set()
        with self._lock:
            if self._is_scheduled or not self.queue.has_work:
                return
            self._is_scheduled = True
        try:
            self._executor.submit(self._run)
        except RuntimeError:
            # The interpreter is past its exit handlers for threads; nothing can be written any more.
            self._fail_all()

    def call(self, job: Callable[[Index], T]) -> asyncio.Future[T]:
        """Run something on the index in the writer's thread. Raises what it raises, or UNUSABLE."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._use, job)

    def look(self, job: Callable[[Index], object]) -> asyncio.Future[None]:
        """Run something on the index in the writer's thread, if the index is there; it makes and raises nothing."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self.do, job)

    def abandon(self, error: Exception) -> asyncio.Future[None]:
        """The index is damaged, in a way that nobody who uses it has noticed: go on with a new one."""

        def run() -> None:
            with self._gate:
                if not self._keeper.is_closed:
                    self._recover(error, is_damaged=True)
                    self._open()

        return asyncio.get_running_loop().run_in_executor(self._executor, run)

    def start(self, job: Callable[[Index], object]) -> None:
        """The same, without anybody who waits for it."""
        self._try_to_start(lambda: self.do(job))

    def open(self, done: Callable[[], None], look: Callable[[], None]) -> bool:
        """Open the folder, in the writer's thread, before anything else; ``look`` is called before, and ``done`` after,
        whether it works or not. False where no thread can be had."""

        def run() -> None:
            try:
                look()
                with self._gate:
                    self._open()
            finally:
                done()

        return self._try_to_start(run)

    def did_fail_to_read(self, error: Exception, opened: object) -> None:
        """A reader met this with that opening of the index: see to it in the writer's thread."""

        def run() -> None:
            with self._gate:
                if self._keeper.opened != opened or self._keeper.is_closed:
                    return
                if is_damage(error):
                    self._recover(error)
                    self._open()
                elif self._keeper.is_obstructed():
                    # The writer's own handles may be as good as ever; nobody else can open what they hold.
                    self._recover(ForeignIndexError(str(error)))
                    self._open()

        self._try_to_start(run)

    def _try_to_start(self, run: Callable[[], None]) -> bool:
        try:
            self._executor.submit(run)
        except RuntimeError:
            # Closed, or the interpreter is ending: no time for what can be done at the next start.
            return False
        return True

    async def close(self, last: Callable[[], None]) -> None:
        """Write what is queued, run ``last`` in the writer's thread, and end the thread."""

        def finish() -> None:
            self._finish()
            last()
            with self._gate:
                self._keeper.close()

        self._hurry.set()
        await asyncio.get_running_loop().run_in_executor(self._executor, finish)
        # The thread has nothing left to do: this takes microseconds.
        self._executor.shutdown(wait=True)

    # In the writer's thread

    def _use(self, job: Callable[[Index], T]) -> T:
        with self._gate:
            return self._use_in_gate(job)

    def _use_in_gate(self, job: Callable[[Index], T]) -> T:
        try:
            return job(self._keeper.current())
        except UNUSABLE as error:
            if not is_busy(error):
                self._recover(error)
            raise

    def do(self, job: Callable[[Index], object]) -> None:
        """Run something on the index if it is there, in this very thread, which is the writer's; raises nothing."""
        try:
            with self._gate:
                if self._keeper.current_if_there() is not None:
                    self._use_in_gate(job)
        except UNUSABLE as error:
            logger.debug("background work on the image cache failed: %r", error)

    def _open(self) -> None:
        for _ in range(LAST_TRIES):
            try:
                self._keeper.current()
            except UNUSABLE as error:
                if is_busy(error):
                    # Somebody is just making it: that passes.
                    continue
                self._give_up(error)
            return

    def _run(self) -> None:
        if self._keeper.is_closed:
            # What closed it has written all there was.
            return
        if not self.queue.is_batch_full:
            self._hurry.wait(COMMIT_DELAY)
        self._hurry.clear()
        self.is_held_up = not self._write()
        if self.is_held_up:
            # SQLite has waited already, unless it saw at once that waiting is of no use.
            self._hurry.wait(COMMIT_DELAY)
        with self._lock:
            if not self.queue.has_work:
                self._is_scheduled = False
                return
        try:
            self._executor.submit(self._run)
        except RuntimeError:
            # The interpreter is ending and takes no new jobs: this is the last one.
            self._finish()

    def _finish(self) -> None:
        """The last chance for what is queued: then it is given up."""
        tries = 0
        while self.queue.has_work and tries < LAST_TRIES:
            tries += not self._write()
        self._fail_all()

    def _fail_all(self) -> None:
        while len(self.queue):
            batch, _ = self.queue.take()
            self._end_all(batch, StoreStatus.FAILED, TimeoutError("another process held the index"))

    def _write(self) -> bool:
        """Take a batch and bring it to an end; False if another process holds the index and it stays queued."""
        with self._gate:
            return self._write_in_gate()

    def _write_in_gate(self) -> bool:
        batch, touched = self.queue.take()
        try:
            return self._bring_to_an_end(batch, touched)
        except Exception as error:
            # What nobody foresaw must not leave everybody waiting for a thread that writes no more.
            logger.exception("writing to the image cache failed")
            self._keeper.close_index()
            self._fail(batch, error)
            self.queue.done_touching()
            return True

    def _bring_to_an_end(self, batch: list[Queued], touched: Accesses) -> bool:
        try:
            index = self._keeper.current()
        except UNUSABLE as error:
            if is_busy(error):
                return False
            self._give_up(error)
            self._end_all(batch, StoreStatus.UNAVAILABLE, None)
            return True
        self.is_usable = True
        self._faults.works("open")
        try:
            self._commit(index, batch, touched)
        except UNUSABLE as error:
            if is_busy(error):
                return False
            self._recover(error)
            return self._retry(batch, touched, error)
        except Exception as error:  # A value that cannot be written: one operation's fault must not be its batch's.
            logger.debug("a batch holds what cannot be written: %r", error)
            return self._retry_each(batch)
        return True

    def _retry(self, batch: list[Queued], touched: Accesses, first: Exception) -> bool:
        left = [queued for queued in batch if not queued.is_ended]
        try:
            self._commit(self._keeper.current(), left, touched)
        except UNUSABLE as error:
            if is_busy(error):
                return False
            self._recover(error)
            self._fail(left, first)
        except Exception as error:
            logger.debug("a batch holds what cannot be written: %r", error)
            return self._retry_each(left)
        return True

    def _retry_each(self, batch: list[Queued]) -> bool:
        left = [queued for queued in batch if not queued.is_ended]
        for queued in left:
            try:
                self._commit(self._keeper.current(), [queued], {})
            except UNUSABLE as fault:
                if is_busy(fault):
                    return False
                self._recover(fault)
                self._fail(left, fault)
                return True
            except Exception as own:
                self._fail([queued], own)
        return True

    def _fail(self, batch: list[Queued], error: Exception, what: str = "write") -> None:
        self._faults.report(what, error)
        self._end_all([queued for queued in batch if not queued.is_ended], StoreStatus.FAILED, error)

    def _commit(self, index: Index, batch: list[Queued], touched: Accesses) -> None:
        """Write a batch, making room where the limit asks for it; ended operations leave the queue as it goes."""
        waiting = self._prepare(index, batch)
        has_trimmed_for: Queued | None = None
        while True:
            done, short = self._transact(index, waiting, touched)
            puts = [queued.operation for queued in waiting[: len(done)] if isinstance(queued.operation, Put)]
            if puts:
                self._faults.works("write")
            if any(put.has_file for put in puts):
                self._faults.works("write a file")
            self._end(waiting[: len(done)], done)
            waiting = waiting[len(done) :]
            if short is None:
                break
            first = waiting[0]
            if has_trimmed_for is first:
                # Pinned and protected rows are all there is.
                waiting = waiting[1:]
                if isinstance(first.operation, Put):
                    # What is there in its place is out of date all the same; what comes behind it is not.
                    discard = Queued(Discard(first.operation.entry, if_other=True), None, None, first.origin)
                    self.queue.add_behind(first, discard)
                    waiting = [discard, *waiting]
                self._end_all([first], StoreStatus.NO_ROOM, None)
                continue
            has_trimmed_for = first
            self._make_room(index, first.operation, short.needed)
        tidy(index)

    def _prepare(self, index: Index, batch: list[Queued]) -> list[Queued]:
        ready = []
        for queued in batch:
            if isinstance(queued.operation, Clear):
                clear(index)
            try:
                queued.operation.prepare(index)
            except (OSError, ValueError) as error:
                # Told apart: while files cannot be written the index may well be, and every small image would make
                # the next large one news.
                self._fail([queued], error, "write a file")
            else:
                ready.append(queued)
        return ready

    def _transact(
        self, index: Index, batch: list[Queued], touched: Accesses
    ) -> tuple[list[object], NoRoomError | None]:
        """Execute as many as fit within the limit; their answers, and what the next one lacks."""
        answers: list[object] = []
        short = None
        with index.transaction():
            for together in _in_runs(batch):
                if len(together) > 1:
                    done = execute_together(index, [queued.operation for queued in together])
                    if done is not None:
                        answers += done
                        continue
                try:
                    for queued in together:
                        answers.append(queued.operation.execute(index))
                except NoRoomError as error:
                    short = error
                    break
            if short is None:
                # Last: a row may have been put and looked at within one batch.
                index.touch(touched.values())
            self._batches += 1
            if self._batches % SHORTEN_EVERY == 0:
                index.shorten_log()
        if short is None:
            self.queue.done_touching()
        return answers, short

    def _make_room(self, index: Index, operation: Operation[Any], needed: int) -> None:
        if isinstance(operation, Put):
            down_to = min(operation.limit // 2, operation.limit - needed)
            for gone in trim(index, operation.limit, down_to, operation.protection):
                self.evictions += len(gone)
                self._did_trim(gone)
            shrink(index, operation.limit)

    def _end_all(self, batch: list[Queued], status: StoreStatus, error: Exception | None) -> None:
        self._end(batch, [queued.operation.fail(status, error) for queued in batch])

    def _end(self, batch: list[Queued], answers: list[Any]) -> None:
        """Take operations out of the queue, tell who waits and who else has to know."""
        changes: dict[object, list[Change]] = {}
        for queued, answer in zip(batch, answers, strict=True):
            is_done = not isinstance(answer, StoreResult) or answer.status is StoreStatus.STORED
            self.stores += is_done and isinstance(queued.operation, Put)
            if not is_done:
                self._sightings.change(queued.operation.key_hash)
            change = queued.operation.settle(self._keeper.bodies, is_done=is_done)
            if change is not None:
                changes.setdefault(queued.origin, []).append(change)
        self.queue.done(batch)
        for origin, changed in changes.items():
            self._did_change(changed, origin)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Queued, Any]]] = {}
        for queued, answer in zip(batch, answers, strict=True):
            if queued.loop is not None:
                by_loop.setdefault(queued.loop, []).append((queued, answer))
        for loop, resolved in by_loop.items():
            # In their order, but not all in one step of the loop.
            for start in range(0, len(resolved), TOLD_AT_ONCE):
                tell(loop, self._resolve, resolved[start : start + TOLD_AT_ONCE])

    def _resolve(self, resolved: list[tuple[Queued, Any]]) -> None:
        """On the loop that asked for them."""
        for queued, answer in resolved:
            if isinstance(answer, StoreResult) and answer.status is not StoreStatus.STORED:
                # Once more: whoever queued it may have taken a mark since it failed, in this same turn of its loop.
                self._sightings.change(queued.operation.key_hash)
            if queued.told is not None:
                try:
                    queued.told(answer)
                except Exception:  # Whose answer comes next must hear of it all the same.
                    logger.exception("who was told of what is stored raised")
            if queued.future is not None and not queued.future.done():
                queued.future.set_result(answer)

    def _recover(self, error: Exception, *, is_damaged: bool = False) -> None:
        """After a fault: the index is opened anew before the next use, the next generation if this one is damaged."""
        if not (is_damaged or is_damage(error)):
            self._keeper.close_index()
            return
        self._faults.report("use the index", error)
        try:
            self._keeper.abandon()
        except OSError as failure:
            self._give_up(failure)

    def _give_up(self, error: Exception) -> None:
        self.is_usable = False
        self._retry_at = self._clock.monotonic() + REOPEN_AFTER
        self._keeper.close_index()
        self._faults.report("open", error, "images are kept in memory only until it can be")


def _in_runs(batch: Sequence[Queued]) -> Iterator[Sequence[Queued]]:
    """The batch in its order: each operation alone, or as many as can be executed together, of different keys."""
    start = 0
    while start < len(batch):
        keys = set[str]()
        for queued in islice(batch, start, start + TOGETHER[0]):
            operation = queued.operation
            if operation.key_hash in keys or not may_join(operation, batch[start].operation):
                break
            keys.add(operation.key_hash)
        count = next((count for count in TOGETHER if count <= len(keys)), 1)
        yield batch[start : start + count]
        start += count


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[[T], object], value: T) -> None:
    """Call back on a loop, from any thread; one that was closed is past caring."""
    try:
        loop.call_soon_threadsafe(callback, value)
    except RuntimeError:
        return
