"""The threads and the budget of pixels that are under way at one time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from imagecache.errors import ManagerClosedError
from imagecache.pipeline import workers as module
from imagecache.pipeline.workers import Workers


class Blocker:
    """A blocking function that waits in its thread until it is let go."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.running = threading.Semaphore(0)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.running.release()
        assert self.release.wait(10)
        return "done"


async def wait_for(semaphore: threading.Semaphore) -> None:
    assert await asyncio.to_thread(semaphore.acquire, timeout=10)


async def test_work_within_the_budget_runs_at_once_and_the_rest_waits() -> None:
    workers = Workers(threads=4, budget=100)
    blocker = Blocker()
    first = asyncio.create_task(workers.run(blocker, cost=60))
    await wait_for(blocker.running)
    second = asyncio.create_task(workers.run(blocker, cost=60))
    await asyncio.sleep(0)
    assert workers.waiting == 1
    assert blocker.calls == 1
    blocker.release.set()
    await asyncio.gather(first, second)
    assert first.result() == second.result() == "done"
    workers.shutdown()


async def test_an_image_over_the_whole_budget_is_let_through_alone() -> None:
    workers = Workers(threads=2, budget=10)
    assert await workers.run(lambda: "huge", cost=1000) == "huge"
    assert await workers.run(lambda: "next", cost=5) == "next"
    workers.shutdown()


async def test_a_caller_that_leaves_while_it_waits_gives_its_turn_away() -> None:
    workers = Workers(threads=4, budget=100)
    blocker = Blocker()
    running = asyncio.create_task(workers.run(blocker, cost=60))
    await wait_for(blocker.running)
    waiting = asyncio.create_task(workers.run(blocker, cost=100))
    small = asyncio.create_task(workers.run(lambda: "small", cost=40))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await small == "small"
    blocker.release.set()
    await running
    assert workers.waiting == 0
    workers.shutdown()


async def test_work_that_runs_on_after_its_caller_left_keeps_its_share() -> None:
    workers = Workers(threads=4, budget=100)
    blocker = Blocker()
    left = asyncio.create_task(workers.run(blocker, cost=100))
    await wait_for(blocker.running)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    following = asyncio.create_task(workers.run(lambda: "after", cost=1))
    await asyncio.sleep(0)
    assert workers.waiting == 1
    blocker.release.set()
    assert await following == "after"
    workers.shutdown()


async def test_what_has_not_started_is_dropped_when_its_caller_leaves() -> None:
    workers = Workers(threads=1, budget=100)
    blocker, dropped = Blocker(), Blocker()
    running = asyncio.create_task(workers.run(blocker))
    await wait_for(blocker.running)
    queued = asyncio.create_task(workers.run(dropped))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    blocker.release.set()
    await running
    assert await workers.run(lambda: "next") == "next"
    assert dropped.calls == 0
    workers.shutdown()


async def test_what_the_work_needs_is_brought_when_its_turn_has_come() -> None:
    workers = Workers(threads=4, budget=100)
    blocker, brought = Blocker(), list[str]()

    async def bring() -> str:
        brought.append("bytes")
        return "bytes"

    running = asyncio.create_task(workers.run(blocker, cost=60))
    await wait_for(blocker.running)
    assert (workers.is_busy, workers.has_room(60), workers.has_room(40)) == (True, False, True)
    waiting = asyncio.create_task(workers.run(str.upper, cost=60, bring=bring))
    await asyncio.sleep(0)
    assert brought == []
    blocker.release.set()
    await running
    assert await waiting == "BYTES"
    workers.shutdown()


async def test_what_cannot_be_brought_gives_its_share_back() -> None:
    workers = Workers(threads=4, budget=100)

    async def fail() -> str:
        raise LookupError

    with pytest.raises(LookupError):
        await workers.run(str.upper, cost=60, bring=fail)
    assert not workers.is_busy

    closing = asyncio.Event()

    async def close() -> str:
        workers.shutdown()
        closing.set()
        return "bytes"

    with pytest.raises(ManagerClosedError):
        await workers.run(str.upper, cost=60, bring=close)
    assert closing.is_set()
    assert not workers.is_busy


async def test_what_runs_while_it_is_shut_down_is_told_all_the_same_and_the_rest_is_dropped() -> None:
    workers = Workers(threads=1, budget=100)
    blocker = Blocker()

    def nothing() -> object:
        blocker()
        return None

    running = asyncio.create_task(workers.run(nothing))
    await wait_for(blocker.running)
    queued = asyncio.create_task(workers.run(lambda: "never", cost=10))
    await asyncio.sleep(0)
    workers.shutdown()
    blocker.release.set()
    # None is an answer like any other.
    assert await running is None
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert not workers.is_busy


async def test_answers_that_are_there_by_the_same_turn_of_the_loop_are_one_call_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers, calls = Workers(threads=1, budget=100), 0
    loop = asyncio.get_running_loop()
    call = loop.call_soon_threadsafe

    def counted(*args: Any, **options: Any) -> asyncio.Handle:
        nonlocal calls
        calls += 1
        return call(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    all_done = threading.Event()
    functions: list[Callable[[], object]] = [*(partial(pow, 2, n) for n in range(9)), all_done.set]
    works = [asyncio.create_task(workers.run(function)) for function in functions]
    await asyncio.sleep(0)
    # The loop stands still until the thread is through.
    all_done.wait(10)
    assert await asyncio.gather(*works) == [*(2**n for n in range(9)), None]
    # The last one may have come a moment after it was waited for.
    assert calls <= 2
    workers.shutdown()


async def test_what_may_wait_goes_to_a_thread_together_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 3600.0)
    workers, turns = Workers(threads=1, budget=100), list[int]()
    put = module._Threads.put

    def counted(self: module._Threads, together: list[module._Work]) -> None:
        turns.append(len(together))
        put(self, together)

    monkeypatch.setattr(module._Threads, "put", counted)
    works = [asyncio.create_task(workers.run(pow, 2, n, may_wait=True)) for n in range(module.TOGETHER)]
    assert await asyncio.gather(*works) == [2**n for n in range(module.TOGETHER)]
    assert turns == [module.TOGETHER]
    # Fewer wait on, until one comes that does not.
    works = [asyncio.create_task(workers.run(pow, 3, n, may_wait=True)) for n in range(3)]
    await asyncio.sleep(0)
    assert turns == [module.TOGETHER]
    assert await workers.run(pow, 5, 2) == 25
    assert await asyncio.gather(*works) == [1, 3, 9]
    assert turns == [module.TOGETHER, 1, 3]
    workers.shutdown()


async def test_what_may_wait_does_so_for_a_moment_only() -> None:
    workers = Workers(threads=1, budget=100)
    assert await workers.run(pow, 2, 3, may_wait=True) == 8
    workers.shutdown()


async def test_of_those_that_went_together_each_has_its_own_answer_or_error() -> None:
    workers = Workers(threads=1, budget=100)

    def fail() -> None:
        raise LookupError

    functions: list[Callable[[], object]] = [lambda: "one", fail, lambda: "other"]
    works = [asyncio.create_task(workers.run(function, may_wait=True)) for function in functions]
    left = asyncio.create_task(workers.run(lambda: "never", may_wait=True))
    await asyncio.sleep(0)
    left.cancel()
    one, failed, other = await asyncio.gather(*works, return_exceptions=True)
    assert (one, other) == ("one", "other")
    assert isinstance(failed, LookupError)
    workers.shutdown()


async def test_what_waits_for_others_is_dropped_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 3600.0)
    workers = Workers(threads=1, budget=100)
    waiting = asyncio.create_task(workers.run(lambda: "never", may_wait=True))
    await asyncio.sleep(0)
    workers.shutdown()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_seat_is_for_one_piece_of_work_and_holds_its_share_until_then() -> None:
    workers = Workers(threads=1, budget=100)
    seat = workers.seat(60)
    assert seat is not None
    assert workers.seat(60) is None
    blocker = Blocker()
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    assert await asyncio.to_thread(seat.take, future, blocker)
    assert not seat.take(future, str.upper, "more")
    seat.leave()
    assert workers.is_busy
    blocker.release.set()
    assert await future == "done"
    assert seat.future is future
    assert workers.seat(100) is not None
    workers.shutdown()


async def test_a_seat_that_was_left_is_nobodys() -> None:
    workers = Workers(threads=1, budget=100)
    seat = workers.seat(60)
    assert seat is not None
    seat.leave()
    seat.leave()
    assert not workers.is_busy
    assert workers._threads is not None
    assert workers._threads._outstanding == 0
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    assert not seat.take(future, str.upper, "bytes")
    assert seat.future is None
    assert await workers.run(lambda: "next", cost=100) == "next"
    workers.shutdown()


def test_a_program_that_ends_while_a_thread_works_waits_for_that_and_begins_nothing_more() -> None:
    program = """
import asyncio, threading, time
from imagecache.pipeline.workers import Workers

started = threading.Event()

def work(name):
    started.set()
    time.sleep(0.2)  # What a decoder takes.
    print(name, flush=True)

async def main():
    workers = Workers(threads=1, budget=100)
    for name in ("first", "second"):
        asyncio.get_running_loop().create_task(workers.run(work, name))
    await asyncio.to_thread(started.wait)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([b"first"], b"")
