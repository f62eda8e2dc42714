"""The progress bar of a prefetch, drawn by rich: the only file that imports it, and only for a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..batch.tally import Tally
from ..result import PrefetchOutcome
from ..units import format_size


class ProgressBar:
    """A bar with counts, bytes and times; it pulses where ``total``, the number of URLs, is not known."""

    def __init__(self, total: int | None) -> None:
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[received]}"),
            TextColumn("{task.fields[missed]}", style="red"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
        )
        self._total = total
        self._done = 0
        self._task = self._progress.add_task("", total=total, received="", missed="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._total is None:
            # A list from a pipe was as long as it was: the bar is full, and shows the time it took.
            self._progress.update(self._task, total=self._done)
        self._progress.stop()

    def update(self, tally: Tally, outcome: PrefetchOutcome) -> None:
        """Move on; the screen follows ten times a second, whatever the number of outcomes."""
        self._done = tally.done
        self._progress.update(
            self._task,
            completed=self._done,
            received=format_size(tally.bytes_received),
            missed=f"{len(tally.misses):,} missed" if tally.misses else "",
        )
