"""How a cache is doing, in numbers. Values; whoever counts fills them in."""

from __future__ import annotations

from dataclasses import dataclass

from ..units import format_size
from .stored import DiskState


def hit_rate(hits: int, misses: int) -> float | None:
    """Hits of all look-ups, from 0 to 1; None before the first."""
    return hits / (hits + misses) if hits + misses else None


@dataclass(frozen=True, slots=True)
class TierStats:
    """One tier: what it holds, and what it did since it was opened by this process. Sizes in bytes.

    ``evictions`` went for the limit, ``faults`` are errors of disk or index, and ``refused`` could not be stored
    because they were too large or the queue was full.
    """

    count: int
    bytes: int
    limit: int
    hits: int
    misses: int
    stores: int
    evictions: int
    refused: int = 0
    faults: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Hits of all look-ups, from 0 to 1; None before the first."""
        return hit_rate(self.hits, self.misses)

    def __str__(self) -> str:
        rate = "" if self.hit_rate is None else f", {self.hit_rate:.0%} hits"
        return f"{self.count:,} entries, {format_size(self.bytes)} of {format_size(self.limit)}{rate}"


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Both tiers."""

    memory: TierStats
    disk: TierStats

    def __str__(self) -> str:
        return f"memory  {self.memory}\ndisk    {self.disk}"


@dataclass(frozen=True, slots=True)
class CacheHealth:
    """Whether the cache works, as it is at this moment.

    ``disk_state`` is UNAVAILABLE while images are kept in memory only, ``last_fault`` what went wrong last with the
    disk. ``queue_depth`` changes wait to be written, ``decodes_waiting`` images for their share of the decode budget.
    ``too_large`` images could never fit within the disk's limit, ``queue_full`` ones came faster than the disk writes.
    """

    disk_state: DiskState
    last_fault: Exception | None
    faults: int
    queue_depth: int
    memory_hit_rate: float | None
    disk_hit_rate: float | None
    too_large: int
    queue_full: int
    decodes_waiting: int

    @property
    def is_healthy(self) -> bool:
        """Whether the disk tier works, or none was asked for, and nothing is turned away for want of speed."""
        return self.disk_state is not DiskState.UNAVAILABLE and not self.queue_full

    def __str__(self) -> str:
        fault = f", last fault: {self.last_fault}" if self.last_fault is not None else ""
        waiting = f"{self.queue_depth} to be written, {self.decodes_waiting} to be decoded"
        return f"disk {self.disk_state.value}, {waiting}, {self.faults} faults{fault}"
