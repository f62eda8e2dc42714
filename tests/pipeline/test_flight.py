"""Joined work: who shares it, who may end it, and what each is told."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from imagecache.clock import SystemClock
from imagecache.errors import (
    ConnectionFailedError,
    DownloadCancelledError,
    ImageCacheError,
    ManagerClosedError,
    TimedOutError,
)
from imagecache.pipeline.flight import Caller, Flight, FlightTable
from imagecache.request import Priority
from imagecache.testing import FakeClock

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Work:
    """Work that waits until it is told to go on, and counts how often it was started, finished and cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = self.finished = self.cancelled = 0
        self.error: Exception | None = None
        self.flights: list[Flight[str]] = []

    async def __call__(self, flight: Flight[str]) -> str:
        self.started += 1
        self.flights.append(flight)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.finished += 1
        return "made"


@pytest.fixture
def work() -> Work:
    return Work()


def caller(priority: Priority = Priority.NORMAL) -> Caller:
    return Caller(SystemClock(), priority=priority)


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_a_hundred_callers_share_one_piece_of_work(work: Work) -> None:
    table = FlightTable()
    calls = [asyncio.create_task(table.join("key", work, caller())) for _ in range(100)]
    await turn()
    assert work.started == 1
    work.gate.set()
    assert await asyncio.gather(*calls) == ["made"] * 100
    assert work.finished == 1
    assert len(table) == 0


async def test_who_waits_goes_on_in_the_turn_after_the_one_that_made_it(work: Work) -> None:
    table = FlightTable()
    call = asyncio.create_task(table.join("key", work, caller()))
    await turn()
    work.gate.set()
    # One for the work, and one for whoever waits for it: what else a busy loop has ready comes in between but once.
    await turn(2)
    assert call.done()
    assert await call == "made"


@pytest.mark.parametrize("end", ["cancel", "close", "cancel and close"])
async def test_many_are_ended_some_at_a_time_each_with_its_parts(
    work: Work, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("imagecache.pipeline.flight.ENDED_AT_ONCE", 2)
    table = FlightTable()

    def whole(number: int) -> Callable[[Flight[str]], Coroutine[Any, Any, str]]:
        return lambda flight: table.join(("part", number), work, flight, about="url")

    wholes = [asyncio.create_task(table.join(n, whole(n), caller(), about="url")) for n in range(9)]
    await turn()
    # Somebody who wants a part, and nothing else.
    parts = [asyncio.create_task(table.join(("part", n), work, caller(), about="url")) for n in range(9)]
    await turn()
    assert (len(table), work.started) == (18, 9)

    if end != "close":
        table.cancel()
        # Whoever asks from now on starts anew, though not all have been told yet.
        assert len(table) == 0
        assert sum(flight.task.cancelling() for flight in work.flights) <= 4
    if end != "cancel":
        await table.close()
    expected = ManagerClosedError if end == "close" else DownloadCancelledError
    for error in await asyncio.gather(*wholes, *parts, return_exceptions=True):
        assert type(error) is expected
        assert "outside" not in str(error)
    assert work.cancelled == 9


async def test_one_caller_cancelled_leaves_the_others_theirs(work: Work) -> None:
    table = FlightTable()
    calls = [asyncio.create_task(table.join("key", work, caller())) for _ in range(3)]
    await turn()
    calls[0].cancel()
    await turn()
    assert calls[0].cancelled()
    work.gate.set()
    assert await asyncio.gather(*calls[1:]) == ["made", "made"]
    assert work.cancelled == 0


async def test_the_last_one_out_stops_the_work_and_the_next_one_starts_anew(work: Work) -> None:
    table = FlightTable()
    calls = [asyncio.create_task(table.join("key", work, caller())) for _ in range(3)]
    await turn()
    for call in calls:
        call.cancel()
    again = asyncio.create_task(table.join("key", work, caller()))
    await turn()
    assert work.cancelled == 1
    assert work.started == 2
    work.gate.set()
    assert await again == "made"
    await table.idle()
    assert len(asyncio.all_tasks()) == 1


async def test_a_failure_reaches_every_waiter_as_an_exception_of_its_own(work: Work) -> None:
    table = FlightTable()
    work.error = ConnectionFailedError("refused", url="http://a.example/")
    work.error.__cause__ = OSError("no")
    work.gate.set()
    errors = await asyncio.gather(*(table.join("key", work, caller()) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionFailedError] * 3
    assert len({id(error) for error in errors}) == 3
    assert {str(error) for error in errors} == {"refused [http://a.example/]"}
    assert all(isinstance(error, ConnectionFailedError) and error.__cause__ is work.error.__cause__ for error in errors)
    assert work.started == 1


async def test_a_fault_of_our_own_is_told_as_one_of_our_errors(work: Work) -> None:
    work.error = KeyError("oops")
    work.gate.set()
    with pytest.raises(ImageCacheError, match="internal error") as caught:
        await FlightTable().join("key", work, caller())
    assert caught.value.__cause__ is work.error


async def test_a_failure_that_nobody_reads_is_not_reported_as_never_retrieved(work: Work) -> None:
    table = FlightTable()
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    work.error = ConnectionFailedError("refused")
    call = asyncio.create_task(table.join("key", work, caller()))
    await turn()
    work.gate.set()
    await asyncio.wait([work.flights[0].task])
    call.cancel()
    with pytest.raises((asyncio.CancelledError, ConnectionFailedError)):
        await call
    del call
    work.flights.clear()
    gc.collect()
    assert told == []


async def test_work_never_sees_a_callers_context_variables() -> None:
    async def look(_: Flight[str]) -> str:
        return user.get()

    user.set("alice")
    assert await FlightTable().join("key", look, caller()) == "nobody"


async def test_each_caller_gets_its_own_progress_and_a_late_one_hears_how_far_it_is(work: Work) -> None:
    table = FlightTable()
    early: list[tuple[int, int | None]] = []
    late: list[tuple[int, int | None]] = []
    clock = SystemClock()
    first = asyncio.create_task(table.join("key", work, Caller(clock, progress=lambda *p: early.append(p))))
    await turn()
    work.flights[0].progress(10, None)
    second = asyncio.create_task(table.join("key", work, Caller(clock, progress=lambda *p: late.append(p))))
    await turn()
    work.flights[0].progress(20, 40)
    work.gate.set()
    await asyncio.gather(first, second)
    assert early == [(10, None), (20, 40)]
    assert late == [(10, None), (20, 40)]


async def test_a_progress_callback_that_raises_harms_nobody(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    def broken(received: int, total: int | None) -> None:
        raise RuntimeError("broken bar")

    table = FlightTable()
    call = asyncio.create_task(table.join("key", work, Caller(SystemClock(), progress=broken)))
    await turn()
    work.flights[0].progress(1, 2)
    work.gate.set()
    assert await call == "made"
    assert "a progress callback raised" in caplog.text


async def test_the_highest_priority_of_those_who_wait_counts_and_travels_down_the_chain(work: Work) -> None:
    table = FlightTable()

    async def upper(flight: Flight[str]) -> str:
        return await table.join("lower", work, flight)

    low = asyncio.create_task(table.join("upper", upper, caller(Priority.LOW)))
    await turn()
    (lower,) = work.flights
    heard: list[Priority] = []
    lower.follow_priority(heard.append)
    high = asyncio.create_task(table.join("upper", upper, caller(Priority.HIGH)))
    await turn()
    high.cancel()
    await turn()
    assert heard == [Priority.LOW, Priority.HIGH, Priority.LOW]
    work.gate.set()
    assert await low == "made"


async def test_a_timeout_is_the_callers_own_and_counts_from_when_the_network_started(work: Work) -> None:
    clock = FakeClock()
    table = FlightTable()
    hasty = Caller(clock, url="http://a.example/", timeout=5)
    first = asyncio.create_task(table.join("key", work, hasty))
    second = asyncio.create_task(table.join("key", work, Caller(clock, timeout=None)))
    await turn()
    clock.advance(60)
    await turn()
    assert not first.done()
    work.flights[0].network_started()
    clock.advance(5)
    with pytest.raises(TimedOutError, match="not there within 5 s"):
        await first
    work.gate.set()
    assert await second == "made"


async def test_the_last_caller_to_time_out_stops_the_work(work: Work) -> None:
    clock = FakeClock()
    table = FlightTable()
    call = asyncio.create_task(table.join("key", work, Caller(clock, timeout=5)))
    await turn()
    work.flights[0].network_started()
    clock.advance(6)
    with pytest.raises(TimedOutError):
        await call
    await table.idle()
    assert work.cancelled == 1


async def test_closing_gives_everybody_an_error_and_refuses_the_next(work: Work) -> None:
    table = FlightTable()
    calls = [asyncio.create_task(table.join("key", work, caller())) for _ in range(2)]
    await turn()
    await table.close()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [ManagerClosedError] * 2
    assert errors[0] is not errors[1]
    with pytest.raises(ManagerClosedError):
        await table.join("key", work, caller())
    assert work.cancelled == 1


async def test_what_a_joined_flight_made_is_not_kept_by_the_one_that_joined_it() -> None:
    # It was, by the chain that passes priorities on: the bytes of every image that waited for the decode budget.
    table, may_go_on, freed = FlightTable(), asyncio.Event(), list[bool]()

    class Made:
        """Something that can be looked for."""

    async def make(_: Flight[Made]) -> Made:
        return Made()

    async def outer(flight: Flight[str]) -> str:
        made = weakref.ref(await table.join("inner", make, flight))
        await may_go_on.wait()
        gc.collect()
        freed.append(made() is None)
        return "done"

    call = asyncio.create_task(table.join("outer", outer, caller()))
    await turn()
    may_go_on.set()
    assert await call == "done"
    assert freed == [True]


class Whole:
    """Work that needs a part, made by another flight, and waits a second time once it has it."""

    def __init__(self, table: FlightTable, part: Work) -> None:
        self.table = table
        self.part = part
        self.rest = Work()

    async def __call__(self, flight: Flight[str]) -> str:
        part = await self.table.join("part", self.part, flight)
        return part + await self.rest(flight)


Joined = tuple[FlightTable, Whole, "asyncio.Task[str]", "asyncio.Task[str]"]


@pytest.fixture
async def joined(work: Work) -> Joined:
    """A whole whose part is under way, with a caller each, in this order."""
    table = FlightTable()
    whole = Whole(table, work)
    call = asyncio.create_task(table.join("whole", whole, caller()))
    await turn()
    guest = asyncio.create_task(table.join("part", Work(), caller()))
    await turn()
    return table, whole, call, guest


async def test_a_part_runs_in_the_task_of_the_flight_that_needs_it_and_others_may_join_it(
    work: Work, joined: Joined
) -> None:
    table, whole, call, other = joined
    work.gate.set()
    assert await other == "made"
    await turn()
    whole.rest.gate.set()
    assert await call == "mademade"
    assert (work.started, len(table)) == (1, 0)
    assert work.flights[0].task is whole.rest.flights[0].task


async def test_a_part_goes_on_for_those_who_joined_it_and_the_whole_does_not(work: Work, joined: Joined) -> None:
    table, whole, call, other = joined
    call.cancel()
    await asyncio.wait([call])
    assert work.cancelled == 0
    work.gate.set()
    assert await other == "made"
    await turn()
    assert (whole.rest.finished, whole.rest.cancelled, len(table)) == (0, whole.rest.started, 0)
    await table.idle()


async def test_the_last_one_out_of_the_whole_and_its_part_stops_both(work: Work, joined: Joined) -> None:
    table, whole, call, other = joined
    for leaving in (call, other):
        assert work.cancelled == 0
        leaving.cancel()
        await asyncio.wait([leaving])
    await turn()
    assert (work.cancelled, whole.rest.started, len(table)) == (1, 0, 0)


async def test_a_failed_part_is_told_to_whole_and_guests_each_with_an_error_of_its_own(
    work: Work, joined: Joined
) -> None:
    table, _, call, other = joined
    work.error = ConnectionFailedError("refused")
    work.gate.set()
    first, second = await asyncio.gather(call, other, return_exceptions=True)
    assert isinstance(first, ConnectionFailedError)
    assert isinstance(second, ConnectionFailedError)
    assert first is not second
    assert len(table) == 0


async def test_the_priority_of_who_joins_the_whole_reaches_the_part(work: Work) -> None:
    table = FlightTable()
    call = asyncio.create_task(table.join("whole", Whole(table, work), caller(Priority.LOW)))
    await turn()
    priorities = [work.flights[0].priority]
    other = asyncio.create_task(table.join("whole", Work(), caller(Priority.HIGH)))
    await turn()
    priorities.append(work.flights[0].priority)
    assert priorities == [Priority.LOW, Priority.HIGH]
    for leaving in (call, other):
        leaving.cancel()
    await asyncio.wait([call, other])


async def test_who_joins_or_leaves_does_not_look_at_all_who_wait(work: Work) -> None:
    """A hundred callers of one image were some five thousand looks at a priority, and ten times as many a hundred
    times as many."""
    looks = 0

    class Counted(Caller):
        @property
        def priority(self) -> Priority:
            nonlocal looks
            looks += 1
            return Priority.NORMAL

        @priority.setter
        def priority(self, _: Priority) -> None: ...

    table, count = FlightTable(), 200
    calls = [asyncio.create_task(table.join("key", work, Counted(SystemClock()))) for _ in range(count)]
    await turn()
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert looks < 10 * count
