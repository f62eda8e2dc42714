"""What is left behind by those who leave, and by a table or workers that end: nothing."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from imagecache.clock import SystemClock
from imagecache.errors import ConnectionFailedError, ManagerClosedError
from imagecache.pipeline.flight import Caller, Flight, FlightTable
from imagecache.pipeline.workers import Workers
from imagecache.testing import FakeClock

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hang(flight: Flight[str]) -> str:
    flight.network_started()
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


async def test_a_cancelled_caller_takes_its_timer_along() -> None:
    clock, table = FakeClock(), FlightTable()
    call = asyncio.create_task(table.join("key", hang, Caller(clock, timeout=60)))
    await turn()
    assert clock.pending == 1
    call.cancel()
    await asyncio.wait([call])
    assert clock.pending == 0
    await table.close()


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_timer_ends_with_the_wait_it_was_set_for(ends_well: bool) -> None:
    clock, table = FakeClock(), FlightTable()

    async def load(flight: Flight[str]) -> str:
        flight.network_started()
        assert clock.pending == 1
        if not ends_well:
            raise ConnectionFailedError("refused")
        return "loaded"

    caller = Caller(clock, timeout=60)
    (result,) = await asyncio.gather(table.join("key", load, caller), return_exceptions=True)
    assert (result == "loaded") == ends_well
    assert clock.pending == 0


async def test_progress_runs_in_the_context_in_which_its_caller_was_made() -> None:
    seen: list[str] = []
    table = FlightTable()

    async def work(flight: Flight[str]) -> str:
        flight.progress(1, 2)
        return "made"

    def caller_of(name: str) -> Caller:
        user.set(name)
        return Caller(SystemClock(), progress=lambda *_: seen.append(user.get()))

    alice, bob = (contextvars.Context().run(caller_of, name) for name in ("alice", "bob"))
    await asyncio.gather(table.join("key", work, alice), table.join("key", work, bob))
    assert seen == ["alice", "bob"]


async def test_waiting_until_all_is_idle_does_not_wait_for_whoever_waits() -> None:
    table = FlightTable()
    ended = asyncio.Event()

    async def last_one() -> None:
        await table.idle()
        ended.set()

    table.start(last_one())
    await asyncio.wait_for(ended.wait(), 10)


async def test_work_under_way_may_close_the_table_it_runs_on() -> None:
    table = FlightTable()

    async def ends_all() -> None:
        await table.close()

    other = asyncio.create_task(table.join("key", hang, Caller(SystemClock())))
    await turn()
    table.start(ends_all())
    with pytest.raises(ManagerClosedError):
        await asyncio.wait_for(other, 10)


async def test_workers_that_were_shut_down_start_nothing_any_more() -> None:
    workers = Workers(threads=1, budget=10)
    assert await workers.run(lambda: "done", cost=10) == "done"
    workers.shutdown()
    for _ in range(2):
        # The second one would wait for ever for a share that the first had kept.
        with pytest.raises(ManagerClosedError):
            await asyncio.wait_for(workers.run(lambda: "never", cost=10), 10)
