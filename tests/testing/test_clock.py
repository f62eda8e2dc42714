"""The fake clock moves when told, fires timers in order at their moments, and lets the loop keep up."""

import asyncio
import contextvars
from functools import partial

import pytest

from imagecache.clock import Clock
from imagecache.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=100.0, monotonic=0.0)


def test_it_is_a_clock_and_stands_still(clock: FakeClock) -> None:
    typed: Clock = clock
    assert (typed.time(), typed.monotonic()) == (100.0, 0.0)
    assert (typed.time(), typed.monotonic()) == (100.0, 0.0)


def test_both_times_move_together(clock: FakeClock) -> None:
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (102.5, 2.5)


def test_the_wall_clock_can_be_set_alone(clock: FakeClock) -> None:
    fired = []
    clock.call_at(1, lambda: fired.append("timer"))
    clock.set_wall(5.0)
    assert (clock.time(), clock.monotonic(), fired) == (5.0, 0.0, [])
    clock.advance(1)
    assert (clock.time(), fired) == (6.0, ["timer"])


def test_timers_fire_in_order_each_at_its_own_moment(clock: FakeClock) -> None:
    fired = []

    def note(name: str) -> None:
        fired.append((name, clock.monotonic(), clock.time()))

    for when, name in [(3, "c"), (1, "a"), (3, "d"), (2, "b"), (9, "late")]:
        clock.call_at(when, partial(note, name))
    clock.advance(5)
    assert fired == [("a", 1, 101), ("b", 2, 102), ("c", 3, 103), ("d", 3, 103)]
    assert (clock.monotonic(), clock.pending) == (5, 1)


def test_a_timer_set_by_a_timer_fires_in_the_same_move_if_it_is_due(clock: FakeClock) -> None:
    fired = []

    def again() -> None:
        fired.append(clock.monotonic())
        clock.call_at(clock.monotonic() + 2, again)

    clock.call_at(2, again)
    clock.advance(7)
    assert fired == [2, 4, 6]


def test_one_that_is_overdue_fires_at_the_next_move_without_going_back(clock: FakeClock) -> None:
    clock.advance(10)
    fired = []
    clock.call_at(3, lambda: fired.append(clock.monotonic()))
    assert fired == []
    clock.advance(0)
    assert fired == [10]


def test_cancelled_ones_do_not_fire_nor_count(clock: FakeClock) -> None:
    fired = []
    timer = clock.call_at(1, lambda: fired.append(1))
    timer.cancel()
    timer.cancel()
    clock.advance(2)
    assert (fired, clock.pending) == ([], 0)


def test_time_does_not_go_back(clock: FakeClock) -> None:
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_timer_sees_the_context_it_was_set_in(clock: FakeClock) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    def set_timer() -> None:
        variable.set("mine")
        clock.call_at(1, lambda: seen.append(variable.get()))

    contextvars.copy_context().run(set_timer)
    clock.advance(1)
    assert seen == ["mine"]


async def test_elapse_lets_tasks_run_at_the_moment_of_the_timer_that_woke_them(clock: FakeClock) -> None:
    woken = []

    async def tick() -> None:
        for _ in range(3):
            event = asyncio.Event()
            clock.call_at(clock.monotonic() + 2, event.set)
            await event.wait()
            woken.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.elapse(5)
    assert (woken, clock.monotonic()) == ([2, 4], 5)
    await clock.elapse(1)
    assert woken == [2, 4, 6]
    await task
