"""One folder's store as this process has it: its writer, its readers, and who follows what happens there.

Everything that is open for a folder hangs on this one object; who shares it is the registry's to say.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from ..clock import Clock
from .absence import Absence
from .fault_log import FaultLog
from .folder import Folder, is_there
from .fork_gate import ForkGate
from .held import sweep_held
from .index import Index
from .keeper import Keeper
from .operations import Change, Drop
from .readers import Readers
from .rows import Row
from .sightings import Sightings
from .spool import Spool
from .sweep import sweep_later
from .trimming import shrink, trim
from .writer import Writer, tell

logger = logging.getLogger("imagecache")


@dataclass(frozen=True, slots=True, eq=False)
class Subscriber:
    """Somebody who follows what others do to the folder; ``owner`` is whose own changes it does not hear of.

    ``did_trim`` hears of what had to make room, whoever stored. ``loop`` says where to call, None while the owner has
    not been used.
    """

    owner: object
    callback: Callable[[list[Change]], None]
    did_trim: Callable[[list[str]], None]
    loop: Callable[[], asyncio.AbstractEventLoop | None]


class Store:
    """Everything that is open for one folder in this process. ``refusal`` says why it must not be used, if so."""

    def __init__(self, directory: Path, clock: Clock, refusal: str | None = None) -> None:
        self.directory = directory
        self.pid = os.getpid()
        self.users = 0
        self._clock = clock
        self.folder = Folder(directory)
        self.faults = FaultLog(self.folder.path)
        self.subscribers: list[Subscriber] = []
        self.sightings = Sightings()
        self._keeper = Keeper(self.folder, self.sightings, refusal)
        self._gate = ForkGate()
        self.writer = Writer(
            self._keeper, clock, self.faults, self._tell_changes, self._tell_trimmed, self._gate, self.sightings
        )
        self.readers = Readers(
            self._keeper, self.writer.queue, self.faults, self._drop_damaged, self.writer.did_fail_to_read, self._gate
        )
        self.absence = Absence()
        # Who never closes still leaves nothing open when the interpreter ends, after the writer's last job.
        self._at_exit = weakref.finalize(self, _close_at_exit, self._keeper, self.readers, self.pid)
        self._has_begun = False
        # Whether there was no folder when it was looked for; unknown before.
        self._is_new: Future[bool] = Future()
        # Whoever is cancelled while it waits must not cancel this.
        self._is_new.set_running_or_notify_cancel()

    def begin(self) -> None:
        """Open the folder, in the background; after whoever wants to hear of it has subscribed. Once is enough."""
        if not self._has_begun:
            self._has_begun = True
            if not self.writer.open(self._did_open, self._look):
                self._is_new.set_result(False)

    @property
    def writer_id(self) -> str:
        """This store's id among all that have the folder open; "" while it is not open."""
        return self._keeper.writer_id

    def spool(self, key_hash: str) -> Spool | None:
        """A file for a body that is still to come; None while the folder is not open."""
        bodies = self._keeper.bodies
        return None if bodies is None or not self.writer.is_usable else Spool(bodies, key_hash, self._drop_left)

    def leave(self, name: str) -> None:
        """A body file that was written for nothing goes."""
        if self._keeper.bodies is not None:
            self._keeper.bodies.leave(name)
            self._drop_left()

    def _drop_left(self) -> None:
        self.writer.start(lambda index: index.bodies.drop_left())

    def sweep(self) -> None:
        """Remove what nothing refers to, in the background."""
        self.writer.start(sweep_later(self._keeper, self.writer.start))
        self.writer.start(lambda _: sweep_held(self.folder.held, self._clock.time()))

    def trim_later(self, limit: int) -> None:
        """Evict down to half of a limit that was lowered, in the background, a slice at a time."""

        def begin(index: Index) -> None:
            if index.weight(limit) > limit:
                go_on(index)

        def go_on(index: Index) -> None:
            gone = next(trim(index, limit, limit // 2), None)
            if gone is not None:
                self.writer.evictions += len(gone)
                self._tell_trimmed(gone)
            if gone is not None or shrink(index, limit):
                self.writer.start(go_on)

        self.writer.start(begin)

    async def poll(self) -> None:
        """Tell everybody what other processes did."""

        def look(index: Index) -> None:
            if changes := index.changes():
                self._tell_changes(changes, None)

        await self.writer.look(look)

    @property
    def secret(self) -> bytes | None:
        """The random bytes that were made with the index in use; None where that has to be asked for them."""
        epoch, secret = self._keeper.secret
        return secret if epoch == self.epoch else None

    @property
    def epoch(self) -> int:
        """Which opening of the index is in use: another one may be another index."""
        return self._keeper.opened[0] if self._keeper.opened is not None else 0

    def has_company(self) -> bool:
        """Whether other writers have the folder open: in this process by another name, or elsewhere."""
        return bool(self._keeper.living_writers())

    def lacks(self, key_hash: str) -> bool:
        """Whether it is known, without a look, that nothing is stored under a key hash by this process or before."""
        if self.is_being_made:
            return self.absence.holds_in_new_folder(key_hash)
        opened = self._keeper.opened
        return opened is not None and self.absence.holds(key_hash, opened[0])

    @property
    def has_looked(self) -> bool:
        """Whether it is known by now if there was a folder."""
        return self._is_new.done()

    async def looked(self) -> None:
        """Wait until it is."""
        await asyncio.wrap_future(self._is_new)

    @property
    def is_being_made(self) -> bool:
        """Whether there was no folder, and the new one is not ready yet: nothing can be in it, and nobody else."""
        return not self.readers.is_open.is_set() and self._is_new.done() and self._is_new.result()

    def learn_absence(self, index: Index) -> None:
        """See to it that `lacks` knows of this index; in the writer's thread, which is given back now and then."""
        if self.absence.learn(index, self.epoch, self.writer.queue.key_hashes):
            self.writer.start(self.learn_absence)

    async def close(self) -> None:
        """Write what is queued, and close everything."""
        await self.writer.close(self.readers.close)
        self._at_exit.detach()

    # Forks

    def prepare_for_fork(self, patience: float) -> bool:
        """Stop, close every SQLite handle, and wait for `go_on`; False if something takes longer than ``patience``."""
        if not self._gate.shut(patience):
            return False
        self.readers.close_connections()
        self._keeper.prepare_for_fork()
        return True

    def go_on(self) -> None:
        """In the parent, after the fork."""
        self._gate.open()

    def forget_parent(self) -> None:
        """In the child, of what it must not use."""
        self._keeper.forget_parent()

    # Inside

    def _look(self) -> None:
        try:
            self._is_new.set_result(not is_there(self.folder.path))
        except OSError:
            self._is_new.set_result(False)

    def _did_open(self) -> None:
        self.readers.is_open.set()
        if self.writer.is_usable:
            if self._is_new.result():
                # At once, so that the next one knows it, too.
                self.writer.do(self.learn_absence)
            self.sweep()

    def _drop_damaged(self, key_hash: str, damaged: tuple[Row, ...]) -> None:
        logger.warning("a stored entry in %s was damaged and is dropped: %s", self.folder.path, key_hash)
        # In its turn: a put that comes after the miss must not be taken for the bytes that were damaged.
        self.writer.submit_quietly(Drop(key_hash, damaged))

    def _tell_changes(self, changes: list[Change], origin: object) -> None:
        for subscriber in tuple(self.subscribers):
            loop = subscriber.loop()
            if subscriber.owner is not origin and loop is not None:
                tell(loop, subscriber.callback, changes)

    def _tell_trimmed(self, key_hashes: list[str]) -> None:
        for subscriber in tuple(self.subscribers):
            loop = subscriber.loop()
            if key_hashes and loop is not None:
                tell(loop, subscriber.did_trim, key_hashes)


def _close_at_exit(keeper: Keeper, readers: Readers, pid: int) -> None:
    # SQLite handles must not be used, not even closed, by a process that came by a fork.
    if os.getpid() == pid:
        readers.close()
        keeper.close()
