"""What a prefetch has come to so far, counted as the outcomes arrive, so that asking is free at any moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..result import PrefetchOutcome, PrefetchStatus

_IN_CACHE = frozenset({PrefetchStatus.STORED, PrefetchStatus.UNCHANGED, PrefetchStatus.ALREADY_THERE})


@dataclass(slots=True)
class Tally:
    """Counts by status, body bytes off the wire, and the outcomes that a person has to look at."""

    counts: Counter[PrefetchStatus] = field(default_factory=Counter)
    bytes_received: int = 0
    misses: list[PrefetchOutcome] = field(default_factory=list)

    def add(self, outcome: PrefetchOutcome) -> None:
        """Count one more outcome."""
        self.counts[outcome.status] += 1
        self.bytes_received += outcome.bytes_received
        if outcome.status not in _IN_CACHE:
            self.misses.append(outcome)

    @property
    def done(self) -> int:
        """How many outcomes there are."""
        return self.counts.total()

    @property
    def is_complete(self) -> bool:
        """Whether all of them are in the cache now."""
        return not self.misses
