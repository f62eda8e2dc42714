"""The benchmarks run to their end and print the figures that are read off them; none is looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def output_of(name: str, folder: Path, *arguments: str) -> str:
    """What a benchmark prints; it leaves nothing behind in its temporary folder."""
    program = f"import asyncio, tempfile; tempfile.tempdir = {str(folder)!r}\n"
    program += f"from benchmarks import {name}\ndone = {name}.main({list(arguments)!r})\n"
    program += "if done is not None: asyncio.run(done)"
    command = [sys.executable, "-X", "utf8", "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert list(folder.iterdir()) == []
    return done.stdout.decode()


def test_growth_tells_what_each_step_costs_by_count(tmp_path: Path) -> None:
    told = output_of("storage_growth", tmp_path, "--quick")
    steps = [line.split()[0] for line in told.splitlines() if line.startswith(("put  ", "get  ", "trim  "))]
    assert steps[:6] == ["put", "put", "get", "get", "trim", "trim"]
    for figure in ("sqlite3", "diskcache", "open to serve", "bodies in files", "the loop's lag", "idle"):
        assert figure in told


def test_all_steps_stand_in_one_table_of_growth(tmp_path: Path) -> None:
    told = output_of("growth", tmp_path, "--quick")
    steps = [line.split("  ")[0] for line in told.splitlines() if line.endswith(("met", "MISSED"))]
    assert steps[:5] == ["put", "get", "ETag look-up", "trim", "open"]
    kinds = ("one of them", "any of 1,000 of them", "any of them")
    assert steps[5:] == [f"{what}, {which}" for what in ("memory hit", "hit / dict") for which in kinds]
    for figure in ("an entry on disk, put", "an entry on disk, got once", "an image in memory", "as Python counts"):
        assert figure in told


def test_the_threshold_in_use_stands_in_its_table(tmp_path: Path) -> None:
    told = output_of("inline_threshold", tmp_path, "--quick")
    assert told.count("<- INLINE_LIMIT") == 1


def test_rows_are_generated_and_the_folder_is_removed(tmp_path: Path) -> None:
    told = output_of("five_million", tmp_path, "--rows", "1000", "--size", "2000")
    assert told.startswith("1,000 rows of 2,000 bytes\n")
    for figure in ("open to serve", "put", "get", "trim", "index-1.sqlite"):
        assert f"\n{figure}" in told


def test_what_measuring_costs_is_told_against_the_same_code_without_it(tmp_path: Path) -> None:
    told = output_of("measuring_cost", tmp_path, "--quick")
    assert [line.split("  ")[0] for line in told.splitlines()[1:]] == ["with", "without", "again", "with spans"]
    assert "1.000 of without" in told


def test_the_suite_prints_its_table_and_writes_its_results(tmp_path: Path) -> None:
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    scratch.mkdir()
    few = ("--quick", "--own-server", "--rounds", "1", "--thumbnails", "10", "--photos", "1")
    where = ("--results", str(results), "--corpus", str(tmp_path / "corpus"))
    told = output_of("compare", scratch, *few, *where, "--candidates", "floor", "imagecache")
    assert told.count("\ntarget: ") == 8
    document = json.loads((results / "quick.json").read_text(encoding="utf-8"))
    for workload in document["workloads"].values():
        assert workload["title"] in told
        assert {row["candidate"] for row in workload["medians"]} == {"floor", "imagecache"}
    for workload in ("thumbnails-disk", "photos-disk"):
        assert [row["requests"] for row in document["workloads"][workload]["medians"]] == [0, 0]
    crowd = {row["candidate"]: row for row in document["workloads"]["coalesced"]["medians"]}
    assert (crowd["imagecache"]["requests"], crowd["imagecache"]["decodes"]) == (1, 1)
    assert crowd["floor"]["requests"] == 100
