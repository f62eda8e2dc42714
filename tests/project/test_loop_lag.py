"""The benchmark of the event loop runs to its end and prints its table; no figure is looked at here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loop_lag import HITS, MEASURED, TRIM
from tests.project.test_benchmarks import output_of

pytestmark = pytest.mark.slow


def test_the_lag_and_the_longest_steps_are_told(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    few = ("--quick", "--own-server", "--thumbnails", "10", "--photos", "2", "--corpus", str(tmp_path / "corpus"))
    workloads = [MEASURED["photos-cold"], MEASURED["thumbnails-disk"], MEASURED["refreshes"], HITS, TRIM]
    told = output_of("loop_lag", scratch, *few, "--only", *(workload.name for workload in workloads))
    for workload in workloads:
        assert f"\n{workload.title}\n" in told
    assert told.count("\nfloor ") == told.count("\nimagecache ") == told.count("\ntarget: ") == len(workloads)
    assert "left out" not in told
