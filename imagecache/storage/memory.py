"""The memory tier: values by key, least recently used by cost, with an expiration and a weak second chance.

Everything here runs on the event loop, never waits, and knows nothing of images: a value is opaque, its cost is
told. `get` is the hottest function of the library; whatever can be decided when a value is stored is decided there.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import Context
from typing import Any, Generic, TypeVar

from ..clock import Clock, SystemClock, TimerHandle
from ..expiration import AccessExtension, StorageExpiration

V = TypeVar("V")

DEFAULT_EXPIRATION = StorageExpiration.after_seconds(300)
"""Kingfisher's ``MemoryStorage.Config.expiration``."""

SWEEP_INTERVAL = 120.0
"""Seconds between two sweeps of what has expired: Kingfisher's ``MemoryStorage.Config.cleanInterval``."""
FREED_AT_ONCE, FREED_BYTES = 500, 4 * 2**20
"""Values, and the sum of their costs, that are freed in one turn of the loop where all are: to give 250 MiB back to the
system takes some ten milliseconds."""
SWEPT_AT_ONCE = 500
"""Groups, which are images most often, in one turn of the loop: well under a millisecond."""


class _Item(Generic[V]):
    """A value, where it belongs, and when it stops being one. All times are monotonic seconds."""

    __slots__ = ("cost", "deadline", "fixed", "group", "lifetime", "until", "used", "value")

    def __init__(self, value: V, cost: int, group: str, used: float, lifetime: float, fixed: float) -> None:
        # None once the value is only remembered.
        self.value: V | None = value
        self.cost = cost
        self.group = group
        # A hit only notes when it was; what that extends is worked out once `until` has passed.
        self.used = used
        self.lifetime = lifetime
        self.fixed = fixed
        self.deadline = math.inf
        self.until = self.expires()

    def expires(self) -> float:
        """When the storage expiration runs out: a fixed date, or the lifetime counted from the last access."""
        return min(self.fixed, self.used + self.lifetime)

    def is_over(self, now: float) -> bool:
        """Whether this is a miss now, all accesses so far counted."""
        self.until = min(self.expires(), self.deadline)
        return now >= self.until


class _Remembered(weakref.ref[V]):
    """A weak reference that still knows what was known of the value when it was strong."""

    __slots__ = ("item", "key")

    key: Hashable
    item: _Item[V]


class _Forgotten(Generic[V]):
    """What nobody finds any more, freed some at a time while a loop runs."""

    def __init__(self, items: OrderedDict[Hashable, _Item[V]], *others: dict[Any, Any]) -> None:
        self._items = items
        self._others = others

    def let_go(self) -> None:
        """Some now, the others in the loop's next turns; without a loop, all of it."""
        freed = 0
        # The newest first: the allocator gives back what is free at the end of a heap, and else all of it at last.
        for _ in range(min(FREED_AT_ONCE, len(self._items))):
            freed += self._items.popitem()[1].cost
            if freed >= FREED_BYTES:
                break
        for other in self._others:
            for _ in range(min(FREED_AT_ONCE, len(other))):
                other.popitem()
        if self._items or any(self._others):
            # Without a loop there is nobody to hold up.
            with suppress(RuntimeError):
                asyncio.get_running_loop().call_soon(self.let_go, context=Context())


class MemoryStorage(Generic[V]):
    """Values in memory (Kingfisher's ``MemoryStorage.Backend``), used on one event loop only.

    ``limit`` is in the unit of the costs (bytes); a value of more than half of it is not kept. Values that were
    evicted, or were too large, are remembered weakly: they come back as long as somebody else still holds them.
    ``on_evict`` is told the groups whose values went for the limit, each once. What expires leaves by itself within
    two minutes, where a loop runs; `clear` stops the timer for that.

    >>> memory = MemoryStorage[str](100)
    >>> memory.store("a", "value of a", cost=10)
    True
    >>> memory.get("a")
    'value of a'
    """

    def __init__(
        self,
        limit: int,
        *,
        clock: Clock | None = None,
        max_items: int | None = None,
        expiration: StorageExpiration = DEFAULT_EXPIRATION,
        on_evict: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.expiration = expiration
        self._limit = limit
        self._max_items = max_items
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._on_evict = on_evict
        self._cost = 0
        self.hits = 0
        """How many times `get` had a value …"""
        self.misses = 0
        """… and how many times not."""
        self.stores = 0
        """How many values were kept."""
        self.evictions = 0
        """How many of them went for the limit."""
        self._items: OrderedDict[Hashable, _Item[V]] = OrderedDict()
        # Bound once: `get` is called for every image shown.
        self._find = self._items.get
        self._promote = self._items.move_to_end
        self._weak: dict[Hashable, _Remembered[V]] = {}
        self._groups: dict[str, dict[Hashable, None]] = {}
        # A weakly held value may die in any thread and in the middle of any line; its reference is only
        # queued there, and taken out of the tables here, on the loop.
        self._dead: deque[_Remembered[V]] = deque()
        self._timer: TimerHandle | None = None
        # Groups that the sweep under way has not come to, and whether anything here expires by itself.
        self._to_sweep: list[str] = []
        self._may_expire = False

    def get(self, key: Hashable, extension: AccessExtension | None = None) -> V | None:
        """The value, or None; a hit makes it the most recently used and extends its expiration.

        By its own lifetime, if ``extension`` says nothing else.
        """
        item = self._find(key)
        if item is None:
            return self._get_remembered(key, extension)
        now = self._monotonic()
        if now >= item.until and item.is_over(now):
            if now >= item.expires():
                self._drop(key)
            self.misses += 1
            return None
        if extension is None:
            item.used = now
        else:
            self._extend(item, extension, now)
        self._promote(key)
        self.hits += 1
        return item.value

    def peek(self, key: Hashable) -> V | None:
        """What `get` would return, without making it more recently used and without extending anything."""
        item = self._items.get(key)
        if item is None and (remembered := self._weak.get(key)) is not None:
            item = remembered.item
        if item is None or item.is_over(self._monotonic()):
            return None
        return self._value(key)

    def held(self, key: Hashable) -> V | None:
        """The unexpired value of a key, also past its deadline or only remembered. No access, no hit and no miss."""
        item = self._items.get(key)
        if item is not None:
            value = item.value
        elif (remembered := self._weak.get(key)) is not None:
            item, value = remembered.item, remembered()
        else:
            return None
        return value if value is not None and self._monotonic() < item.expires() else None

    def store(
        self,
        key: Hashable,
        value: V,
        *,
        cost: int,
        group: str | None = None,
        expiration: StorageExpiration | None = None,
        deadline: float | None = None,
    ) -> bool:
        """Keep a value in place of the one of that key; whether it is kept (strongly).

        ``cost`` is in bytes, ``group`` is the key hash; without it, the key as a text. After ``deadline`` (monotonic
        seconds) `get` misses,
        whatever accesses extended; the value stays for `group` until its expiration. An expiration that has
        passed removes the old value and stores nothing.
        """
        self._drop(key)
        self._bury()
        item = self._make_item(value, cost, str(key) if group is None else group, expiration or self.expiration)
        if item.used >= item.expires():
            return False
        if deadline is not None:
            item.deadline = deadline
            item.until = min(item.until, deadline)
        if cost * 2 > self._limit:
            self._remember(key, item, value)
            return False
        self._insert(key, item)
        self.stores += 1
        return key in self._items

    def renew(self, key: Hashable, *, deadline: float | None) -> bool:
        """Give a value another deadline and count this as an access; its own expiration stays. Whether it is there."""
        if self._value(key) is None:
            return False
        item = self._item(key)
        item.used = self._monotonic()
        item.deadline = math.inf if deadline is None else deadline
        item.until = min(item.expires(), item.deadline)
        return True

    @property
    def is_empty(self) -> bool:
        """Whether nothing is here, not even remembered."""
        self._bury()
        return not self._items and not self._weak

    def remove(self, key: Hashable) -> bool:
        """Forget a value, weakly remembered or not; whether there was one."""
        self._bury()
        return self._drop(key)

    def remove_group(self, group: str, *, keep: Callable[[V], bool] | None = None) -> int:
        """Forget every value of a group but those that ``keep`` wants; how many went."""
        self._bury()
        gone = 0
        for key in list(self._groups.get(group, ())):
            if keep is not None:
                value = self._value(key)
                if value is not None and keep(value):
                    continue
            gone += self._drop(key)
        return gone

    def group(self, group: str) -> list[V]:
        """The unexpired values of a group, also those past their deadline and those only remembered."""
        now = self._monotonic()
        values = []
        for key in list(self._groups.get(group, ())):
            value = self._value(key)
            if value is not None and now < self._item(key).expires():
                values.append(value)
        return values

    def clear(self) -> None:
        """Forget everything, the weakly remembered too."""
        forgotten = _Forgotten(self._items, self._weak, self._groups)
        self._items, self._weak, self._groups = OrderedDict(), {}, {}
        self._find, self._promote = self._items.get, self._items.move_to_end
        self._dead.clear()
        self._to_sweep = []
        self._cost = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        forgotten.let_go()

    def shrink(self, down_to: int) -> int:
        """Evict the least recently used until the costs add up to ``down_to`` at most; how many values went.

        For when memory is scarce: the limit stays what it is, and what is evicted is remembered weakly as ever.
        """
        before = len(self._items)
        self._evict(down_to)
        return before - len(self._items)

    def sweep(self) -> int:
        """Drop what has expired; how many values went. `get` never returns them, but they cost until then."""
        self._bury()
        return sum(map(self._sweep_group, list(self._groups)))

    def _sweep_group(self, group: str) -> int:
        now, gone = self._monotonic(), 0
        for key in list(self._groups.get(group, ())):
            expires = self._item(key).expires()
            if now >= expires:
                self._drop(key)
                gone += 1
            elif expires < math.inf and key in self._items:
                self._may_expire = True
        return gone

    @property
    def limit(self) -> int:
        """The most that the costs may add up to. Setting it evicts at once."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._evict()

    @property
    def max_items(self) -> int | None:
        """The most values kept, or None for any number. Setting it evicts at once."""
        return self._max_items

    @max_items.setter
    def max_items(self, max_items: int | None) -> None:
        self._max_items = max_items
        self._evict()

    @property
    def cost(self) -> int:
        """The sum of the costs of the values kept, expired ones that were not swept yet included."""
        return self._cost

    def __len__(self) -> int:
        return len(self._items)

    def _extend(self, item: _Item[V], extension: AccessExtension | None, now: float) -> None:
        if extension is not None and extension.is_none:
            return
        item.used = now
        if extension is not None and extension.expiration is not None:
            item.lifetime, item.fixed = self._span(extension.expiration, now)
            item.until = min(item.expires(), item.deadline)

    def _make_item(self, value: V, cost: int, group: str, expiration: StorageExpiration) -> _Item[V]:
        now = self._monotonic()
        return _Item(value, cost, group, now, *self._span(expiration, now))

    def _span(self, expiration: StorageExpiration, now: float) -> tuple[float, float]:
        """The lifetime, and the moment at which it is over in any case."""
        if expiration.until is None:
            return expiration.seconds or 0.0, math.inf
        # A date is wall time; here only its distance counts.
        return math.inf, now + expiration.until - self._clock.time()

    def _insert(self, key: Hashable, item: _Item[V]) -> None:
        self._items[key] = item
        self._cost += item.cost
        self._groups.setdefault(item.group, {})[key] = None
        self._evict()
        if item.expires() < math.inf:
            self._may_expire = True
            if self._timer is None:
                self._arm(SWEEP_INTERVAL, self._tick)

    def _evict(self, down_to: int | None = None) -> None:
        groups: dict[str, None] = {}
        limit = self._limit if down_to is None else down_to
        most = math.inf if self._max_items is None else self._max_items
        while self._items and (self._cost > limit or len(self._items) > most):
            key, item = self._items.popitem(last=False)
            self._cost -= item.cost
            self.evictions += 1
            self._leave_group(key, item.group)
            if item.value is not None:
                self._remember(key, item, item.value)
            groups[item.group] = None
        if groups and self._on_evict is not None:
            self._on_evict(list(groups))

    def _remember(self, key: Hashable, item: _Item[V], value: V) -> None:
        item.value = None
        try:
            remembered = _Remembered(value, self._dead.append)
        except TypeError:
            # bytes, str and tuples have no weak references; they are simply gone.
            return
        remembered.key, remembered.item = key, item
        self._weak[key] = remembered
        self._groups.setdefault(item.group, {})[key] = None

    def _get_remembered(self, key: Hashable, extension: AccessExtension | None) -> V | None:
        if self._dead:
            self._bury()
        remembered = self._weak.get(key)
        value = None if remembered is None else remembered()
        if remembered is None or value is None:
            self.misses += 1
            return None
        item, now = remembered.item, self._monotonic()
        if item.is_over(now):
            if now >= item.expires():
                self._drop(key)
            self.misses += 1
            return None
        self._extend(item, extension, now)
        self.hits += 1
        if item.cost * 2 <= self._limit:
            del self._weak[key]
            item.value = value
            self._insert(key, item)
        return value

    def _item(self, key: Hashable) -> _Item[V]:
        return self._items[key] if key in self._items else self._weak[key].item

    def _value(self, key: Hashable) -> V | None:
        item = self._items.get(key)
        if item is not None:
            return item.value
        remembered = self._weak.get(key)
        return None if remembered is None else remembered()

    def _drop(self, key: Hashable) -> bool:
        item = self._items.pop(key, None)
        if item is not None:
            self._cost -= item.cost
            self._leave_group(key, item.group)
            return True
        remembered = self._weak.pop(key, None)
        if remembered is None:
            return False
        self._leave_group(key, remembered.item.group)
        return remembered() is not None

    def _leave_group(self, key: Hashable, group: str) -> None:
        keys = self._groups.get(group)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._groups[group]

    def _bury(self) -> None:
        while self._dead:
            remembered = self._dead.popleft()
            if self._weak.get(remembered.key) is remembered:
                del self._weak[remembered.key]
                self._leave_group(remembered.key, remembered.item.group)

    def _arm(self, seconds: float, method: Callable[[], None]) -> None:
        """See to it that what expires leaves memory without being asked for, as long as anything here can expire."""
        # What the timer knows must keep neither a storage that nobody closed nor a caller's context alive.
        tick = weakref.WeakMethod(method)
        try:
            self._timer = Context().run(
                self._clock.call_at, self._monotonic() + seconds, lambda: (method := tick()) and method()
            )
        except RuntimeError:
            # No loop runs here: whoever works without one sweeps by hand.
            self._timer = None

    def _tick(self) -> None:
        self._bury()
        self._may_expire = False
        self._to_sweep = list(self._groups)
        self._sweep_on()

    def _sweep_on(self) -> None:
        """Some of them, then somebody else's turn: of a hundred thousand, all at once would hold the loop."""
        self._timer = None
        for _ in range(min(SWEPT_AT_ONCE, len(self._to_sweep))):
            self._sweep_group(self._to_sweep.pop())
        if self._to_sweep:
            self._arm(0.0, self._sweep_on)
        elif self._may_expire:
            self._arm(SWEEP_INTERVAL, self._tick)
