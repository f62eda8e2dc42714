"""What a process does until it is killed: run as a program by `test_crash.py`, it forks a child for each round.

A forked child starts in a millisecond where a new interpreter takes two hundred, so that rounds come by the hundred.
Each writes to its log which step it begins and which it was told is done; the log is outside the cache's folder, and
what was written to it is there however the process ended.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from imagecache.clock import SystemClock
from imagecache.entry import Entry
from imagecache.keys import hash_for_key
from imagecache.storage import writer
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.testing.faults import FaultyDisk

from .entries import entry_for, variant_of

URLS = 12
STEPS = 60
LIMIT = 2**30
SMALL_LIMIT = 400_000
"""What the steps store is more than this: each of the larger bodies evicts others."""

LIVES = 3
"""Processes that are killed one after the other on one folder."""

NAMES = ("put", "put", "put", "put large", "put large", "variant", "refresh", "touch", "etag", "pin", "remove", "clean")


@dataclass(frozen=True, slots=True)
class Step:
    """One call: which, on which URL, and what makes its bytes unlike any other step's."""

    name: str
    url: str
    number: int

    @property
    def body(self) -> bytes:
        """Bytes that say which step wrote them, all along."""
        size = 3 * INLINE_LIMIT if self.name == "put large" else 400
        return self.number.to_bytes(8, "big") * (size // 8)

    @property
    def etag(self) -> str:
        return f'"{self.number}"'


def steps(seed: int) -> list[Step]:
    """The steps of a round; the last ones empty the cache."""
    chance = random.Random(seed)
    first = seed * 1_000
    chosen = [Step(chance.choice(NAMES), str(chance.randrange(URLS)), first + number) for number in range(STEPS)]
    clear = Step("clear", "", first + STEPS)
    return [*chosen, clear, *(replace(chosen[number], number=first + STEPS + 1 + number) for number in range(8))]


def number_in(body: bytes) -> int:
    """Which step wrote a body; AssertionError if it is none's whole body."""
    number = int.from_bytes(body[:8], "big")
    assert body == body[:8] * (len(body) // 8), "a torn body"
    return number


def play(known: dict[str, Entry], step: Step, clock: SystemClock) -> Entry | None:
    """Make a step in a model: the original of each URL. The entry that is to be put, if it puts one."""
    current = known.get(step.url)
    match step.name:
        case "put" | "put large":
            entry = entry_for(clock, step.body, step.url, etag=step.etag)
            known[step.url] = entry
            return entry
        case "variant" if current is not None:
            return variant_of(current, step.body)
        case "refresh" if current is not None:
            known[step.url] = replace(current, etag=step.etag)
            return known[step.url]
        case "etag" if current is not None:
            known[step.url] = replace(current, etag=step.etag)
        case "remove":
            known.pop(step.url, None)
        case "clear":
            known.clear()
    return None


async def live(folder: Path, seed: int, limit: int, log: int) -> None:
    """All steps, some waited for and some not, and the end of the process if nobody kills it before."""
    clock = SystemClock()
    disk = DiskStorage(folder, clock=clock, limit=limit)
    known: dict[str, Entry] = {}
    chance = random.Random(seed)
    for step in steps(seed):
        os.write(log, b"begin %d\n" % step.number)
        key_hash = hash_for_key(step.url)
        entry = play(known, step, clock)
        # What is only queued is not done, and what was no call says nothing of those before it.
        is_done = step.name in ("etag", "remove", "clear", "clean")
        match step.name:
            case "put" | "put large" | "variant" | "refresh" if entry is not None:
                stored = disk.refresh(entry) if step.name == "refresh" else disk.put(entry, step.body)
                if is_done := chance.randrange(3) == 0:
                    await stored
            case "touch":
                disk.touch(entry_for(clock, b"", step.url).row)
            case "etag":
                await disk.set_etag(key_hash, step.etag)
            case "pin" if limit > SMALL_LIMIT:
                # What is pinned leaves no room: another story than that of a crash.
                await disk.pin(key_hash, pinned=step.number % 2 == 0)
            case "remove":
                await disk.remove(key_hash)
            case "clear":
                await disk.clear()
            case "clean":
                await disk.clean()
        if is_done:
            os.write(log, b"done %d\n" % step.number)
    await disk.aclose()
    os.write(log, b"closed\n")


def round_of(folder: Path, seed: int, limit: int, *, kill_at: int | None) -> None:
    """A child's whole life; ``kill_at`` is the call of disk or SQLite at which it ends."""
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with FaultyDisk(folder) as disk:
        if kill_at is not None:
            disk.kill("*", after=kill_at)
        asyncio.run(live(folder, seed, limit, log))
    os.write(log, b"calls %d\n" % len(disk.calls))


def fork(folder: Path, seed: int, limit: int, kill_at: int | None, patience: float | None) -> bool:
    """Run a child; after ``patience`` seconds it is killed from without. Whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            round_of(folder, seed, limit, kill_at=kill_at)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    """``base limit kind first last stride``: rounds from first to below last.

    ``call`` kills at the calls of these numbers, stride apart; ``damage`` does so where the index that is there is no
    index; ``time`` kills each round's processes at random instants of the first ``stride`` milliseconds, on one folder.
    """
    # Batches that grow for long would be most of what a round does.
    writer.COMMIT_DELAY = 0.001
    base, limit, kind, first, last, stride = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
    for number in range(first, last, 1 if kind == "time" else stride):
        folder = base / f"{number:05}"
        folder.mkdir()
        if kind == "time":
            chance = random.Random(number)
            for life in range(LIVES):
                fork(folder, number * LIVES + life, limit, None, chance.random() * stride / 1000)
            continue
        if kind == "damage":
            spoil(folder)
        if not fork(folder, 1, limit, number, None):
            # Past the last call of all.
            return


def spoil(folder: Path) -> None:
    ours = folder / "imagecache-v2"
    ours.mkdir(mode=0o700)
    (ours / "index-1.sqlite").write_bytes(b"no database at all" * 1_000)


if __name__ == "__main__":
    main()
