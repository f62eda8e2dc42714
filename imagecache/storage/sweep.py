"""Finding what nothing refers to: bodies that a crash left behind, indexes that were abandoned, held files gone stale.

Blocking, for the writer's thread, some files at a time so that writes go on in between.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .folder import is_folder, list_folder
from .index import Index
from .keeper import Keeper
from .writer_lock import living_writers

AT_ONCE = 400
"""Files that are looked at in one job: each may cost a look into the index, some 30 µs."""


def sweep_later(keeper: Keeper, start: Callable[[Callable[[Index], object]], None]) -> Callable[[Index], None]:
    """A job that sweeps the whole folder, as a chain of small ones that it passes to ``start``.

    A body is swept only if its writer is dead and no row refers to it: a living writer, this one included, may be
    about to commit it. In this order, list, writers, rows: whoever is found dead has committed all it ever will.
    """

    def begin(index: Index) -> None:
        index.bodies.drop_left()
        if not keeper.living_writers():
            keeper.folder.drop_old_indexes(keeper.folder.generation())
        remove(index, [path for older in keeper.folder.older() for path in _parts_of_older(older)])
        go_on(index, index.bodies.shards(), [])

    def remove(_: Index, folders: list[Path]) -> None:
        if folders:
            shutil.rmtree(folders.pop(0), ignore_errors=True)
            start(lambda index: remove(index, folders))

    def go_on(index: Index, shards: list[Path], names: list[tuple[str, str, str]]) -> None:
        if not names:
            if not shards:
                return
            names = list(index.bodies.names(shards.pop()))
        some = names[-AT_ONCE:]
        del names[-AT_ONCE:]
        foreign = {writer_id for _, _, writer_id in some} - {keeper.writer_id}
        dead = foreign - keeper.living_writers() if foreign else foreign
        for name, key_hash, writer_id in some:
            if writer_id in dead and not index.refers_to(key_hash, name):
                index.bodies.remove(name)
        start(lambda index: go_on(index, shards, names))

    return begin


def _parts_of_older(folder: Path) -> list[Path]:
    """What is to be removed of an older version's folder, in that order; nothing while somebody lives there."""
    if living_writers(folder / "writers", ""):
        return []
    # The signs of life go with the folder itself, last: who comes meanwhile is seen at the next sweep.
    bodies = folder / "bodies"
    return [*(list_folder(bodies) if is_folder(bodies) else ()), folder]
