"""What is shown while a prefetch runs: a bar where a person watches, now and then a line where a log does."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

from ..batch.summary import miss_line, progress_line
from ..batch.tally import Tally
from ..clock import SystemClock
from ..result import PrefetchOutcome
from .console import note

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """Follows a prefetch, entered when it begins and left when it ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, tally: Tally, outcome: PrefetchOutcome) -> None:
        """One more outcome, already counted."""
        ...


class PlainProgress:
    """Lines for a log: every miss as it comes, and how far things are every few seconds."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._clock = SystemClock()
        self._began = self._told = self._clock.monotonic()
        self._misses = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, tally: Tally, outcome: PrefetchOutcome) -> None:
        if len(tally.misses) > self._misses:
            self._misses = len(tally.misses)
            note(miss_line(outcome))
        now = self._clock.monotonic()
        if not self._is_quiet and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            note(progress_line(tally, now - self._began))


def is_watched() -> bool:
    """Whether a person sees standard error, and rich is there to draw on it."""
    if not sys.stderr.isatty():
        return False
    try:
        import rich.console
    except ImportError:
        return False
    return not rich.console.Console(stderr=True).is_dumb_terminal
