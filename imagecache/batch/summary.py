"""The words for a prefetch: lines of text from a tally. Where they are printed is not known here."""

from __future__ import annotations

from ..keys import shown_url
from ..result import PrefetchOutcome, PrefetchStatus
from ..units import format_size
from .tally import Tally


def progress_line(tally: Tally, elapsed: float) -> str:
    """One line for a log: what is done after ``elapsed`` seconds."""
    missed = f", {len(tally.misses):,} not" if tally.misses else ""
    return f"{tally.done - len(tally.misses):,} in the cache{missed}; {traffic(tally, elapsed)}"


def traffic(tally: Tally, elapsed: float) -> str:
    """Bytes that crossed the wire in ``elapsed`` seconds, and their rate."""
    rate = tally.bytes_received / elapsed if elapsed > 0 else 0.0
    return f"{format_size(tally.bytes_received)} received in {elapsed:.1f} s ({format_size(rate)}/s)"


def summary_lines(tally: Tally, elapsed: float) -> list[str]:
    """The end of a job: how many ended how, bytes, rate and time."""
    lines = [f"{tally.done:,} {'URL' if tally.done == 1 else 'URLs'}: {traffic(tally, elapsed)}"]
    width = max(len(status.value) for status in PrefetchStatus)
    counts = [(status.value, tally.counts[status]) for status in PrefetchStatus if tally.counts[status]]
    return lines + [f"  {name:<{width}}  {count:>9,}" for name, count in counts]


def miss_line(outcome: PrefetchOutcome) -> str:
    """One URL that is not in the cache, and why not."""
    reason = outcome.reason or (outcome.error.message if outcome.error else "no reason was given")
    return f"{outcome.status.value}: {shown_url(outcome.url)}: {reason}"
