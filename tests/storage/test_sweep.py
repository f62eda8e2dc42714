"""A sweep holds the writer up for some files at a time, however many lie in one sub-folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagecache.storage import sweep
from imagecache.storage.bodies import Bodies
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, Index
from imagecache.storage.writer import Writer
from imagecache.testing.clock import FakeClock

from .entries import entry_for
from .test_disk import body_files, body_of, swept

LARGE = os.urandom(INLINE_LIMIT + 1)
DEAD = "0" * 16


class Jobs:
    """How many rows each of the writer's jobs looked for, and how many files it removed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.looked: list[int] = []
        self.removed = 0
        start, refers_to, remove = Writer.start, Index.refers_to, Bodies.remove

        def start_counted(writer: Writer, job: Callable[[Index], object]) -> None:
            def counted(index: Index) -> object:
                self.looked.append(0)
                return job(index)

            start(writer, counted)

        def look_counted(index: Index, key_hash: str, name: str) -> bool:
            self.looked[-1] += 1
            return refers_to(index, key_hash, name)

        def remove_counted(bodies: Bodies, name: str) -> bool:
            self.removed += 1
            return remove(bodies, name)

        patch.setattr(Writer, "start", start_counted)
        patch.setattr(Index, "refers_to", look_counted)
        patch.setattr(Bodies, "remove", remove_counted)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5])
async def test_some_files_are_looked_at_in_each_job_and_none_is_forgotten(
    make_disk: Callable[..., DiskStorage], clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    entry, disk = entry_for(clock, LARGE), make_disk()
    await disk.put(entry, LARGE)
    await disk.aclose()
    (file,) = body_files(folder)
    for number in range(left):
        (file.parent / f"{entry.row.key_hash}-{DEAD}{number}.png").write_bytes(b"left")
    monkeypatch.setattr(sweep, "AT_ONCE", 2)
    jobs = Jobs(monkeypatch)
    again = make_disk()
    await again.count()
    for _ in range(3):
        await swept(again)
    assert body_files(folder) == [file]
    assert jobs.removed == left
    # The one that is wanted is of a writer that ended, too.
    assert sum(jobs.looked) == left + 1
    assert max(jobs.looked) == min(2, left + 1)
    assert await body_of(again, entry) == LARGE
