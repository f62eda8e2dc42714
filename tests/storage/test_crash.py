"""Killed at every call of disk and SQLite, and at random instants: what a process leaves is whole, and what it was
told is done is there.

A state is right if it is the model's after some number of steps, no fewer than were told done and no more than were
begun: entries, bytes and ETags as one. ``IMAGECACHE_CRASH_ROUNDS=10`` makes ten times as many rounds, which is each
call of all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import imagecache
from imagecache.clock import SystemClock
from imagecache.entry import Entry
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT

from .crash_rounds import LIMIT, LIVES, SMALL_LIMIT, Step, number_in, play, steps
from .test_disk import body_files, swept

MakeDisk = Callable[..., DiskStorage]
ROUNDS = float(os.environ.get("IMAGECACHE_CRASH_ROUNDS", "1"))
SHARES = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="rounds come by the hundred where a process can fork"),
]

State = dict[str, tuple[str, str | None]]
"""Checksum and ETag of the original of each URL."""


class Life:
    """What the log of one process says."""

    def __init__(self, log: Path, seed: int) -> None:
        lines = [line.split() for line in log.read_bytes().splitlines()] if log.exists() else []
        numbers = [step.number for step in steps(seed)]
        begun = [int(line[1]) for line in lines if line[0] == b"begin"]
        done = [int(line[1]) for line in lines if line[0] == b"done"]
        assert begun == numbers[: len(begun)]
        self.is_over = [b"closed"] in lines
        self.steps = steps(seed)
        self.begun = len(begun)
        # Changes are written in their order, so that one that is done takes all before it along.
        self.done = len(begun) if self.is_over else max((numbers.index(number) + 1 for number in done), default=0)
        self.states = self._states()

    def _states(self) -> list[State]:
        """The state after each number of steps that may be what was left."""
        known: dict[str, Entry] = {}
        states: list[State] = [{}]
        for step in self.steps[: self.begun]:
            play(known, step, SystemClock())
            states.append({url: (entry.checksum, entry.etag) for url, entry in known.items()})
        return states[self.done :]

    def is_clearing(self, state: int) -> bool:
        """Whether the step after that state empties the cache: it goes slice by slice."""
        after = self.done + state
        return after < self.begun and self.steps[after].name == "clear"

    def explains(self, found: State) -> bool:
        """Whether that is what some number of steps leaves, all of it."""
        return any(
            found == state or (self.is_clearing(number) and found.items() <= state.items())
            for number, state in enumerate(self.states)
        )

    def explains_each(self, found: State) -> bool:
        """Whether each is what some number of steps leaves of it, as far as this process had to do with it."""
        settled = {step.url for step in self.steps[: self.done] if step.name in ("put", "put large", "remove")}
        if any(step.name == "clear" for step in self.steps[: self.done]):
            settled |= set(found)
        return all(
            url not in settled or any(state.get(url) == what for state in self.states) for url, what in found.items()
        )


def url_of(number: int, *seeds: int) -> str:
    """The URL that a step's bytes belong to."""
    known: dict[int, Step] = {step.number: step for seed in seeds for step in steps(seed)}
    return known[number].url


async def look(folder: Path, *seeds: int) -> State:
    """Open what was left, and see that it is whole: the originals there are."""
    disk = DiskStorage(folder, clock=SystemClock(), limit=LIMIT)
    found: State = {}
    entries = [entry async for entry in disk.entries()]
    originals = {entry.url: entry for entry in entries if not entry.row.processor}
    for entry in entries:
        row = entry.row
        stored = await disk.load(row.key_hash, key=entry.key, processor=row.processor)
        assert stored is not None, "a row without its body"
        assert stored.body is not None
        assert url_of(number_in(stored.body), *seeds) == entry.url, "a crossed body"
        if row.processor:
            assert originals[entry.url].checksum == entry.source_checksum, "a variant of other bytes"
        else:
            found[entry.url] = (entry.checksum, entry.etag)
    assert len({entry.row for entry in entries}) == len(entries), "one row twice"
    assert (await disk.count(), await disk.size()) == (len(entries), sum(entry.byte_count for entry in entries))
    assert disk.faults == 0
    await swept(disk)
    ours = folder / "imagecache-v2"
    assert len(body_files(ours)) == sum(entry.byte_count > INLINE_LIMIT for entry in entries), "a file without a row"
    assert len(list((ours / "writers").iterdir())) == 1, "the sign of life of a dead process"
    await disk.aclose()
    await asyncio.to_thread(check_index, ours)
    return found


def check_index(ours: Path) -> None:
    (path,) = ours.glob("index-*.sqlite")
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*) FROM trash").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM bodies WHERE id NOT IN (SELECT id FROM entries)").fetchone() == (0,)
    connection.close()


def play_rounds(base: Path, *arguments: object) -> list[Path]:
    """Let a program fork and kill; the folders that were left."""
    command = [sys.executable, "-W", "error", "-m", "tests.storage.crash_rounds", str(base), *map(str, arguments)]
    root = Path(imagecache.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=root, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(path for path in base.iterdir() if path.is_dir())


@pytest.mark.parametrize("share", range(SHARES))
async def test_killed_at_any_call_a_process_leaves_what_some_number_of_its_steps_leaves(
    tmp_path: Path, share: int
) -> None:
    for folder in await asyncio.to_thread(play_rounds, tmp_path, LIMIT, "call", *every(10, share)):
        await see_that_it_is_explained(folder)


async def test_killed_at_any_call_while_a_damaged_index_is_left_for_the_next_it_begins_anew(tmp_path: Path) -> None:
    for folder in await asyncio.to_thread(play_rounds, tmp_path, LIMIT, "damage", 0, 160, max(1, round(4 / ROUNDS))):
        await see_that_it_is_explained(folder)


async def see_that_it_is_explained(folder: Path) -> None:
    life = Life(folder.with_suffix(".log"), 1)
    found = await look(folder, 1)
    assert life.explains(found), f"{folder.name}: {life.done} steps were done, {life.begun} begun, not {found}"


@pytest.mark.parametrize("share", range(SHARES))
async def test_killed_at_any_call_while_others_are_evicted_each_entry_is_whole_or_absent(
    tmp_path: Path, share: int
) -> None:
    for folder in await asyncio.to_thread(play_rounds, tmp_path, SMALL_LIMIT, "call", *every(14, share)):
        life = Life(folder.with_suffix(".log"), 1)
        assert life.explains_each(await look(folder, 1)), folder.name


def every(calls: int, share: int) -> tuple[int, int, int]:
    """First, last and stride of a share of the calls."""
    stride = SHARES * max(1, round(calls / ROUNDS))
    return share * stride // SHARES, 10**6, stride


@pytest.mark.parametrize("limit", [LIMIT, SMALL_LIMIT])
async def test_killed_again_and_again_at_random_instants_each_entry_is_whole_or_absent(
    tmp_path: Path, limit: int
) -> None:
    for folder in await asyncio.to_thread(play_rounds, tmp_path, limit, "time", 0, round(16 * ROUNDS), 60):
        seeds = [int(folder.name) * LIVES + life for life in range(LIVES)]
        logs = folder.with_suffix(".log").read_bytes()
        last = folder.with_suffix(".last")
        last.write_bytes(b"".join(line for line in logs.splitlines(keepends=True) if is_of(line, seeds[-1])))
        found = await look(folder, *seeds)
        assert Life(last, seeds[-1]).explains_each(found), folder.name


def is_of(line: bytes, seed: int) -> bool:
    """Whether a line of the log is about a step of that process."""
    _, _, number = line.partition(b" ")
    return number.strip().isdigit() and int(number) // 1_000 == seed
