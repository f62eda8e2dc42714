"""Many deadlines on one timer: each at its own moment, none that was called off, and no timer that nobody needs."""

from __future__ import annotations

from functools import partial

from hypothesis import given, strategies as st

from imagecache.clock import Deadline, Deadlines
from imagecache.testing import FakeClock


def test_each_is_called_at_its_own_moment() -> None:
    clock = FakeClock()
    deadlines, called = Deadlines(clock), list[tuple[int, float]]()
    start = clock.monotonic()

    def note(seconds: int) -> None:
        called.append((seconds, clock.monotonic() - start))

    for seconds in (5, 3, 9, 3):
        deadlines.call_at(start + seconds, partial(note, seconds))

    clock.advance(20)

    assert called == [(3, 3.0), (3, 3.0), (5, 5.0), (9, 9.0)]


def test_a_hundred_take_one_timer_and_none_is_left_when_the_last_is_called_off() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    all_of_them = [deadlines.call_at(clock.monotonic() + 10 + n, lambda: None) for n in range(100)]
    assert clock.pending == 1

    for deadline in all_of_them:
        deadline.cancel()

    assert clock.pending == 0


def test_a_callback_may_call_off_another_that_is_due_and_set_one_that_is_sooner() -> None:
    clock = FakeClock()
    deadlines, called = Deadlines(clock), list[str]()
    start = clock.monotonic()
    others = list[Deadline]()

    def first() -> None:
        called.append("first")
        others[0].cancel()
        deadlines.call_at(start + 6, lambda: called.append("sooner"))

    deadlines.call_at(start + 5, first)
    others.append(deadlines.call_at(start + 5.5, lambda: called.append("second")))
    deadlines.call_at(start + 8, lambda: called.append("last"))

    clock.advance(7)
    assert called == ["first", "sooner"]
    clock.advance(1)
    assert called == ["first", "sooner", "last"]


def test_what_one_raises_does_not_silence_the_later_ones() -> None:
    clock = FakeClock()
    deadlines, called = Deadlines(clock), list[str]()

    def broken() -> None:
        raise RuntimeError("broken")

    deadlines.call_at(clock.monotonic() + 1, broken)
    deadlines.call_at(clock.monotonic() + 2, lambda: called.append("later"))
    for _ in range(2):
        try:
            clock.advance(1)
        except RuntimeError:
            called.append("raised")

    clock.advance(1)
    assert called == ["raised", "later"]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30), st.lists(st.integers(0, 7), max_size=8))
def test_whatever_the_order_all_but_the_cancelled_are_called_once_and_never_early(
    wanted: list[tuple[int, bool]], steps: list[int]
) -> None:
    clock = FakeClock()
    deadlines, called = Deadlines(clock), list[int]()
    start = clock.monotonic()

    def due(number: int, when: float) -> None:
        assert clock.monotonic() >= when
        called.append(number)

    handles = [
        deadlines.call_at(start + seconds, partial(due, n, start + seconds)) for n, (seconds, _) in enumerate(wanted)
    ]
    for handle, (_, is_cancelled) in zip(handles, wanted, strict=True):
        if is_cancelled:
            handle.cancel()
    for step in steps:
        clock.advance(step)

    elapsed = clock.monotonic() - start
    expected = [n for n, (seconds, is_cancelled) in enumerate(wanted) if not is_cancelled and seconds <= elapsed]
    if steps:
        assert sorted(called) == expected
