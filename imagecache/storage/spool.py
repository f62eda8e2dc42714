"""A body that is written to its file while it still comes, so that nobody holds all of it meanwhile.

The file lies where bodies lie, under a name of the writer's own: nothing has to be moved or copied when the body is
stored, and if the process dies before that, the next sweep takes it away like every body that no row refers to.
Blocking, for worker threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from .bodies import Bodies


class Spool:
    """One such file, made at the first write. It goes with this object at the latest, unless handed over.

    ``did_leave`` is called then, from any thread: there is something to remove.
    """

    def __init__(self, bodies: Bodies, key_hash: str, did_leave: Callable[[], None]) -> None:
        self._bodies = bodies
        self._key_hash = key_hash
        self._did_leave = did_leave
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._name: str | None = None

    def write(self, position: int, pieces: Sequence[bytes]) -> None:
        """Write there. OSError if that fails; it may be tried again, at the same position."""
        with self._lock:
            if self._descriptor is None:
                self._name, self._descriptor = self._bodies.begin(self._key_hash)
            os.lseek(self._descriptor, position, os.SEEK_SET)
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._descriptor, view) :]

    def read(self, start: int, stop: int) -> bytes:
        """What was written there. OSError if it cannot be read, or is not there."""
        with self._lock:
            if self._descriptor is None:
                raise OSError("nothing was written")
            os.lseek(self._descriptor, start, os.SEEK_SET)
            body = os.read(self._descriptor, stop - start)
            if len(body) == stop - start:
                return body
            parts, missing = [body], stop - start - len(body)
            while missing:
                # At most 2 GiB come at once; nothing, where the file was cut.
                part = os.read(self._descriptor, missing)
                if not part:
                    raise OSError("the file was cut")
                parts.append(part)
                missing -= len(part)
            return b"".join(parts)

    def close(self) -> None:
        """Nothing more is written or read."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def hand_over(self) -> str | None:
        """The file's name, for `DiskStorage.put`, whose it is from now on; None if nothing was written."""
        name, self._name = self._name, None
        return name

    def discard(self) -> None:
        """Nobody wants it, unless it was handed over. Never blocks: removing is left to the writer's thread."""
        if self._lock.acquire(blocking=False):
            # Else a thread is still at it, and this object's end closes it.
            try:
                descriptor, self._descriptor = self._descriptor, None
                if descriptor is not None:
                    os.close(descriptor)
            finally:
                self._lock.release()
        name, self._name = self._name, None
        if name is not None:
            self._bodies.leave(name)
            self._did_leave()

    def __del__(self) -> None:
        self.discard()
