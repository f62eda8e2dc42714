"""The memory tier: least recently used by cost, expiration, deadlines, groups and the weak second chance."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imagecache.clock import SystemClock
from imagecache.expiration import StorageExpiration
from imagecache.storage.memory import SWEEP_INTERVAL, MemoryStorage
from imagecache.testing.clock import FakeClock, FakeTimer


class Value:
    """Something that can be referred to weakly."""

    def __init__(self, name: str = "") -> None:
        self.name = name


@pytest.fixture
def memory(clock: FakeClock) -> MemoryStorage[Value]:
    return MemoryStorage(100, clock=clock)


def put(memory: MemoryStorage[Value], key: str, cost: int = 10, **options: object) -> Value:
    value = Value(key)
    memory.store(key, value, cost=cost, group=str(options.pop("group", key)), **options)  # type: ignore[arg-type]  # a test's shorthand
    return value


def test_a_value_is_found_until_it_is_removed(memory: MemoryStorage[Value]) -> None:
    value = put(memory, "a")
    assert memory.get("a") is value
    assert memory.peek("a") is value
    assert memory.remove("a")
    assert not memory.remove("a")
    assert memory.get("a") is None
    assert (memory.cost, len(memory)) == (0, 0)


def test_the_least_recently_used_goes_first(clock: FakeClock) -> None:
    evicted: list[str] = []
    memory = MemoryStorage[Value](30, clock=clock, on_evict=evicted.extend)
    for key in "abc":
        put(memory, key)
    memory.get("a")
    memory.peek("b")
    put(memory, "d")
    gc.collect()
    assert evicted == ["b"]
    assert memory.get("b") is None
    assert [key for key in "acd" if memory.get(key)] == ["a", "c", "d"]


def test_a_group_that_loses_several_values_is_told_once(clock: FakeClock) -> None:
    told: list[list[str]] = []
    memory = MemoryStorage[Value](40, clock=clock, on_evict=told.append)
    put(memory, "a", group="g")
    put(memory, "b", group="g")
    put(memory, "c", group="h")
    memory.limit = 10
    assert told == [["g"]]
    assert len(memory) == 1


def test_a_value_of_more_than_half_the_limit_is_not_kept_but_found_while_somebody_holds_it(
    memory: MemoryStorage[Value],
) -> None:
    large = put(memory, "a", cost=51)
    assert memory.cost == 0
    assert memory.get("a") is large
    del large
    gc.collect()
    assert memory.get("a") is None


def test_an_evicted_value_comes_back_while_somebody_holds_it(memory: MemoryStorage[Value]) -> None:
    held = put(memory, "a", cost=40)
    put(memory, "b", cost=40)
    put(memory, "c", cost=40)
    assert len(memory) == 2
    assert memory.peek("a") is held
    assert memory.get("a") is held
    assert memory.cost == 80, "it is strong again, and pushed another one out"


@pytest.mark.parametrize("way", ["remove", "remove_group", "clear", "expire"])
def test_a_remembered_value_goes_like_any_other(memory: MemoryStorage[Value], clock: FakeClock, way: str) -> None:
    held = put(memory, "a", cost=60, group="g")
    match way:
        case "remove":
            assert memory.remove("a")
        case "remove_group":
            assert memory.remove_group("g") == 1
        case "clear":
            memory.clear()
        case "expire":
            clock.advance(301)
    assert memory.get("a") is None
    assert memory.group("g") == []
    assert held.name == "a"


def test_a_value_without_weak_references_is_simply_gone(clock: FakeClock) -> None:
    memory = MemoryStorage[bytes](10, clock=clock)
    memory.store("a", b"12345678", cost=8, group="a")
    assert memory.get("a") is None
    memory.store("b", b"1234", cost=4, group="b")
    assert memory.shrink(0) == 1
    assert memory.get("b") is None
    assert (memory.group("b"), memory._groups) == ([], {})


def test_access_extends_and_a_peek_does_not(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    for key in "ab":
        put(memory, key, expiration=StorageExpiration.after_seconds(10))
    clock.advance(6)
    memory.get("a")
    memory.peek("b")
    clock.advance(6)
    assert memory.get("a") is not None
    assert memory.peek("b") is None
    clock.advance(10)
    assert memory.get("a") is None


def test_a_date_is_not_extended(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    date = datetime.fromtimestamp(clock.time() + 10, tz=UTC)
    put(memory, "a", expiration=StorageExpiration.at(date))
    clock.advance(9)
    assert memory.get("a") is not None
    clock.advance(1)
    assert memory.get("a") is None


def test_never_is_never(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "a", expiration=StorageExpiration.never())
    clock.advance(1e9)
    assert memory.get("a") is not None


def test_an_expired_expiration_removes_and_stores_nothing(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    past = datetime.fromtimestamp(clock.time() - 1, tz=UTC)
    for gone in (StorageExpiration.expired(), StorageExpiration.at(past)):
        put(memory, "a")
        put(memory, "a", expiration=gone)
        assert memory.get("a") is None
        assert len(memory) == 0


def test_after_its_deadline_a_value_is_a_miss_that_its_group_still_has(
    memory: MemoryStorage[Value], clock: FakeClock
) -> None:
    value = put(memory, "a", group="g", deadline=clock.monotonic() + 5)
    clock.advance(4)
    assert memory.get("a") is value
    clock.advance(1)
    assert memory.get("a") is None
    assert memory.peek("a") is None
    assert memory.group("g") == [value], "a 304 finds it here"
    clock.advance(300)
    assert memory.group("g") == []


def test_expired_values_cost_until_they_are_swept(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "a", expiration=StorageExpiration.after_seconds(1))
    put(memory, "b")
    clock.advance(2)
    assert memory.cost == 20
    assert memory.sweep() == 1
    assert memory.cost == 10
    assert memory.sweep() == 0


def test_a_group_is_removed_but_for_what_is_to_be_kept(memory: MemoryStorage[Value]) -> None:
    kept = put(memory, "a", group="g")
    put(memory, "b", group="g")
    other = put(memory, "c", group="h")
    assert memory.remove_group("g", keep=lambda value: value is kept) == 1
    assert memory.group("g") == [kept]
    assert memory.group("h") == [other]


def test_limits_can_be_changed_while_running(memory: MemoryStorage[Value]) -> None:
    for key in "abcde":
        put(memory, key)
    memory.max_items = 3
    assert len(memory) == 3
    memory.max_items = None
    memory.limit = 10
    assert memory.cost == 10


def test_values_that_die_leave_nothing_behind(memory: MemoryStorage[Value]) -> None:
    for number in range(1000):
        put(memory, str(number), cost=40)
    gc.collect()
    memory.sweep()
    assert len(memory._weak) == 0
    assert len(memory._groups) == len(memory) == 2


def test_what_only_died_values_were_remembered_in_is_empty(memory: MemoryStorage[Value]) -> None:
    # A picture of more than half the limit, shown once: whoever polls while memory holds something polled for ever.
    large = put(memory, "a", cost=60)
    assert not memory.is_empty
    del large
    gc.collect()
    assert memory.is_empty


# Under memory pressure


def test_shrinking_evicts_the_least_recently_used_and_leaves_the_limit(clock: FakeClock) -> None:
    told: list[list[str]] = []
    memory = MemoryStorage[Value](100, clock=clock, on_evict=told.append)
    held = [put(memory, key) for key in "abcde"]
    memory.get("a")
    assert memory.shrink(25) == 3
    assert (memory.cost, len(memory), memory.limit) == (20, 2, 100)
    assert told == [["b", "c", "d"]]
    assert memory.get("b") is held[1], "it was remembered weakly, and there is room again"
    assert memory.cost == 30


def test_shrinking_to_what_there_is_anyway_does_nothing(clock: FakeClock) -> None:
    told: list[list[str]] = []
    memory = MemoryStorage[Value](100, clock=clock, on_evict=told.append)
    put(memory, "a")
    assert memory.shrink(10) == memory.shrink(1000) == 0
    assert (memory.cost, told) == (10, [])
    assert memory.shrink(0) == 1
    assert memory.shrink(0) == 0
    assert told == [["a"]]


@pytest.mark.parametrize("bound", ["FREED_AT_ONCE", "FREED_BYTES"])
async def test_what_is_cleared_is_forgotten_at_once_and_freed_some_at_a_time(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"imagecache.storage.memory.{bound}", 5)
    cost = 1 if bound == "FREED_BYTES" else 0
    memory = MemoryStorage[Value](1000, clock=clock)
    references = [weakref.ref(put(memory, str(number), cost)) for number in range(23)]
    memory.clear()
    assert (len(memory), memory.cost, memory.get("3"), memory.is_empty) == (0, 0, None, True)
    alive = []
    late = put(memory, "late")
    for _ in range(6):
        alive.append(sum(reference() is not None for reference in references))
        await asyncio.sleep(0)
    assert alive == [18, 13, 8, 3, 0, 0]
    assert memory.get("late") is late


def test_without_a_loop_what_is_cleared_is_freed_at_once(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecache.storage.memory.FREED_AT_ONCE", 5)
    memory = MemoryStorage[Value](1000, clock=clock)
    references = [weakref.ref(put(memory, str(number), 1)) for number in range(23)]
    memory.clear()
    assert not any(reference() for reference in references)


# Sweeping by itself


def test_what_expires_leaves_without_being_asked_for(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "short", expiration=StorageExpiration.after_seconds(10))
    put(memory, "long", expiration=StorageExpiration.after_seconds(200))
    assert clock.pending == 1, "one timer for all"
    clock.advance(SWEEP_INTERVAL - 1)
    assert memory.cost == 20
    clock.advance(1)
    assert memory.cost == 10
    clock.advance(SWEEP_INTERVAL)
    assert (memory.cost, len(memory)) == (0, 0)
    assert clock.pending == 0, "nothing is left to wait for"


def test_a_sweep_of_many_gives_the_loop_back_in_between(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecache.storage.memory.SWEPT_AT_ONCE", 10)
    memory = MemoryStorage[Value](10_000, clock=clock, expiration=StorageExpiration.after_seconds(60))
    kept = [put(memory, str(number)) for number in range(95)]
    left: list[int] = []
    call_at = clock.call_at

    def noted(when: float, callback: Callable[[], object]) -> FakeTimer:
        left.append(len(memory))
        return call_at(when, callback)

    clock.advance(SWEEP_INTERVAL / 2)
    late = put(memory, "late", expiration=StorageExpiration.after_seconds(90))
    monkeypatch.setattr(clock, "call_at", noted)
    clock.advance(SWEEP_INTERVAL / 2)

    assert left[-1] == 1
    assert all(before - after <= 10 for before, after in pairwise([len(kept) + 1, *left]))
    assert memory.peek("late") is late
    # And again, for the one that is left.
    clock.advance(SWEEP_INTERVAL)
    assert len(memory) == 0
    assert clock.pending == 0


def test_a_hit_is_counted_by_the_sweep(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "a", expiration=StorageExpiration.after_seconds(100))
    clock.advance(90)
    assert memory.get("a") is not None
    clock.advance(SWEEP_INTERVAL - 90)
    assert memory.get("a") is not None


def test_what_is_past_its_deadline_alone_is_not_swept(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    value = put(memory, "a", group="g", deadline=clock.monotonic() + 5)
    clock.advance(SWEEP_INTERVAL)
    assert memory.group("g") == [value]


def test_what_never_expires_needs_no_timer(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "a", expiration=StorageExpiration.never())
    assert clock.pending == 0
    put(memory, "b")
    assert clock.pending == 1
    clock.advance(400)
    assert (len(memory), clock.pending) == (1, 0)


def test_what_comes_back_from_being_remembered_is_swept_too(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    held = put(memory, "a")
    memory.shrink(0)
    clock.advance(SWEEP_INTERVAL)
    assert clock.pending == 0
    assert memory.get("a") is held
    assert clock.pending == 1


def test_clearing_stops_the_timer_and_storing_starts_it_again(memory: MemoryStorage[Value], clock: FakeClock) -> None:
    put(memory, "a")
    memory.clear()
    assert clock.pending == 0
    put(memory, "b")
    assert clock.pending == 1
    clock.advance(400)
    assert memory.cost == 0


def test_without_a_running_loop_there_is_no_timer() -> None:
    memory = MemoryStorage[Value](100, clock=SystemClock())
    value = put(memory, "a")
    assert memory._timer is None
    assert memory.get("a") is value


async def test_with_one_there_is_a_timer_that_keeps_neither_storage_nor_context_alive() -> None:
    demand: ContextVar[Value] = ContextVar("demand")
    memory = MemoryStorage[Value](100, clock=SystemClock())

    def ask(memory: MemoryStorage[Value]) -> weakref.ref[Value]:
        demand.set(Value("the caller's"))
        put(memory, "a")
        return weakref.ref(demand.get())

    carried = copy_context().run(ask, memory)
    assert memory._timer is not None
    gone = weakref.ref(memory)
    del memory
    gc.collect()
    assert (gone(), carried()) == (None, None)


# Everything, in any order, beside a model


@dataclass
class Modelled:
    """What the model knows of a value: all that was ever said of it, and whether it is strong or only remembered."""

    value: Value
    cost: int
    group: str
    used: float
    lifetime: float
    is_strong: bool = True
    deadline: float = math.inf

    def expires(self) -> float:
        return self.used + self.lifetime


LIMITS = st.integers(0, 120)
KEYS = st.sampled_from("abcdef")


class MemoryModel(RuleBasedStateMachine):
    """A memory storage beside a dictionary in order of use. All values are held here, so all evicted ones come back,
    but for those that are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.told: list[str] = []
        self.expected: list[str] = []
        self.limit, self.most = 100, 1000
        self.memory = MemoryStorage[Value](100, clock=self.clock, max_items=1000, on_evict=self.told.extend)
        # The least recently used first.
        self.model: dict[str, Modelled] = {}

    @rule(
        key=KEYS,
        cost=st.integers(0, 70),
        group=st.sampled_from("gh"),
        lifetime=st.sampled_from([0.0, 5.0, 300.0, math.inf]),
        deadline=st.sampled_from([None, 3.0]),
    )
    def store(self, key: str, cost: int, group: str, lifetime: float, deadline: float | None) -> None:
        value, now = Value(key), self.clock.monotonic()
        is_kept = self.memory.store(
            key,
            value,
            cost=cost,
            group=group,
            expiration=StorageExpiration(seconds=lifetime),
            deadline=None if deadline is None else now + deadline,
        )
        self.model.pop(key, None)
        if lifetime:
            item = Modelled(value, cost, group, now, lifetime, is_strong=cost * 2 <= self.limit)
            if deadline is not None:
                item.deadline = now + deadline
            self.model[key] = item
        self.evict(self.limit)
        assert is_kept == (key in self.model and self.model[key].is_strong)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        item, now = self.model.get(key), self.clock.monotonic()
        is_hit = item is not None and now < item.expires() and now < item.deadline
        assert self.memory.get(key) is (item.value if item is not None and is_hit else None)
        if item is not None and is_hit:
            item.used = now
            if item.is_strong or item.cost * 2 <= self.limit:
                self.model[key] = self.model.pop(key)
                item.is_strong = True
                self.evict(self.limit)
        elif item is not None and now >= item.expires():
            del self.model[key]

    @rule(key=KEYS)
    def peek(self, key: str) -> None:
        item, now = self.model.get(key), self.clock.monotonic()
        is_hit = item is not None and now < item.expires() and now < item.deadline
        assert self.memory.peek(key) is (item.value if item is not None and is_hit else None)

    @rule(key=KEYS, deadline=st.sampled_from([None, 0.0, 4.0]))
    def renew(self, key: str, deadline: float | None) -> None:
        now = self.clock.monotonic()
        renewed = self.memory.renew(key, deadline=None if deadline is None else now + deadline)
        assert renewed == (key in self.model)
        if renewed:
            item = self.model[key]
            item.used, item.deadline = now, math.inf if deadline is None else now + deadline

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        assert self.memory.remove(key) == (self.model.pop(key, None) is not None)

    @rule(group=st.sampled_from("gh"), kept=KEYS)
    def remove_group(self, group: str, kept: str) -> None:
        gone = [key for key, item in self.model.items() if item.group == group and key != kept]
        assert self.memory.remove_group(group, keep=lambda value: value.name == kept) == len(gone)
        for key in gone:
            del self.model[key]

    @rule(key=KEYS)
    def let_go(self, key: str) -> None:
        """Nobody but the storage holds it any more, which then remembers it in vain."""
        if key in self.model and not self.model[key].is_strong:
            del self.model[key]

    @rule(down_to=st.integers(0, 100))
    def shrink(self, down_to: int) -> None:
        strong = sum(item.is_strong for item in self.model.values())
        gone = self.memory.shrink(down_to)
        self.evict(min(down_to, self.limit))
        assert gone == strong - sum(item.is_strong for item in self.model.values())

    @rule(limit=LIMITS)
    def change_the_limit(self, limit: int) -> None:
        self.memory.limit = self.limit = limit
        self.evict(limit)

    @rule(most=st.integers(0, 6))
    def change_the_item_limit(self, most: int) -> None:
        self.memory.max_items = self.most = most
        self.evict(self.limit)

    @rule(seconds=st.sampled_from([1.0, 4.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        # The timer may have swept: those that had expired by then are gone, and whether they are is told by nobody.
        for key in [key for key, item in self.model.items() if self.clock.monotonic() >= item.expires()]:
            if key not in self.memory._items and key not in self.memory._weak:
                del self.model[key]

    @rule()
    def sweep(self) -> None:
        expired = [key for key, item in self.model.items() if self.clock.monotonic() >= item.expires()]
        assert self.memory.sweep() == len(expired)
        for key in expired:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.memory.clear()
        self.model.clear()
        assert self.clock.pending == 0

    @invariant()
    def costs_add_up_and_never_exceed_the_limits(self) -> None:
        strong = [item for item in self.model.values() if item.is_strong]
        assert self.memory.cost == sum(item.cost for item in strong) <= self.limit
        assert len(self.memory) == len(strong) <= self.most

    @invariant()
    def the_order_is_that_of_use(self) -> None:
        assert list(self.memory._items) == [key for key, item in self.model.items() if item.is_strong]

    @invariant()
    def evictions_are_told_in_order(self) -> None:
        assert self.told == self.expected

    @invariant()
    def groups_agree_with_values(self) -> None:
        now = self.clock.monotonic()
        for group in "gh":
            expected = {key for key, item in self.model.items() if item.group == group and now < item.expires()}
            assert {value.name for value in self.memory.group(group)} == expected
        self.memory._bury()
        tables = {(group, key) for group, keys in self.memory._groups.items() for key in keys}
        assert tables == {(item.group, key) for key, item in self.model.items()}
        assert all(self.memory._groups.values()), "an empty group is no group"
        assert self.memory.is_empty == (not self.model)

    @invariant()
    def a_timer_runs_while_something_can_expire(self) -> None:
        can_expire = any(item.is_strong and item.lifetime < math.inf for item in self.model.values())
        assert self.clock.pending == (1 if can_expire else self.clock.pending)
        assert self.clock.pending <= 1

    def evict(self, limit: int) -> None:
        told: dict[str, None] = {}
        strong = [item for item in self.model.values() if item.is_strong]
        while strong and (sum(item.cost for item in strong) > limit or len(strong) > self.most):
            item = strong.pop(0)
            item.is_strong = False
            told[item.group] = None
        self.expected += told


TestMemoryModel = MemoryModel.TestCase
TestMemoryModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
