"""The memory tier: least recently used by cost, expiration, deadlines, groups and the weak second chance."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from imagecache.expiration import StorageExpiration
from imagecache.storage.memory import MemoryStorage
from imagecache.testing.clock import FakeClock


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


@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["store", "get", "remove", "group"]), st.integers(0, 5), st.integers(1, 60)),
        max_size=40,
    )
)
def test_costs_and_groups_add_up_whatever_happens(operations: list[tuple[str, int, int]]) -> None:
    memory = MemoryStorage[Value](100, clock=FakeClock())
    held = []
    for name, number, cost in operations:
        match name:
            case "store":
                held.append(put(memory, str(number), cost, group=str(number % 2)))
            case "get":
                memory.get(str(number))
            case "remove":
                memory.remove(str(number))
            case "group":
                memory.remove_group(str(number % 2))
        assert memory.cost == sum(item.cost for item in memory._items.values()) <= 100
        grouped = {key for keys in memory._groups.values() for key in keys}
        assert grouped == {*memory._items, *memory._weak}
