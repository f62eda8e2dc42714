"""What the steps of an event loop take: CPU of the loop's own thread, the garbage collector's part of it, and waiting.

A step is what the loop calls at one go: a callback, or a task from one suspension to the next. On a busy machine most
of a long one is waiting, for the GIL or a processor, and says nothing of who was called; CPU time of the thread does.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import statistics
import threading
import time
from asyncio.events import Handle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, CoroutineType, FunctionType
from typing import Any
from unittest.mock import patch

import imagecache
from benchmarks.sample import TICK

LONG = 0.001
"""Seconds of CPU that no step of ours may take."""
PACKAGE = Path(imagecache.__file__).parent
_OURS = (PACKAGE, Path(__file__).with_name("ours.py"))
"""A step is ours if it resumes any of this: the library, and what does no more than call it."""

Where = tuple[CodeType, int]
"""A function, and the line on which it goes on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, in seconds; ``cpu`` without what the garbage collector took of it."""

    name: str
    is_ours: bool
    cpu: float
    collecting: float
    waited: float

    @property
    def whole(self) -> float:
        """Wall time."""
        return self.cpu + self.collecting + self.waited


_NOTHING = Step("-", False, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class Steps:
    """The longest steps of a block, of each kind, and how many were long."""

    count: int = 0
    longest: Step = _NOTHING
    """By wall time."""
    most_collecting: float = 0.0
    """What the collector took of the step that it took most of."""
    by_cpu: dict[str, Step] = field(default_factory=dict)
    """The step of each name that took the most CPU."""
    long: dict[str, int] = field(default_factory=dict)
    """How many of each name took more than LONG."""
    _collected: float = 0.0
    _began: float = 0.0
    _thread: int = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Take the time of every step of the running loop; entered and left on it."""
        self._thread = threading.get_ident()
        run = Handle._run

        def timed(handle: Handle) -> None:
            if threading.get_ident() != self._thread:
                run(handle)
                return
            where = _where(handle)
            collected, wall, cpu = self._collected, time.perf_counter(), time.thread_time()
            run(handle)
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            collected = self._collected - collected
            self._note(where, wall, cpu - collected, collected)

        gc.callbacks.append(self._collect)
        try:
            with patch.object(Handle, "_run", timed):
                yield
        finally:
            gc.callbacks.remove(self._collect)

    def slowest(self, *, ours: bool) -> Step:
        """By CPU, of ours or of all."""
        steps = [step for step in self.by_cpu.values() if step.is_ours or not ours]
        return max(steps, key=lambda step: step.cpu, default=_NOTHING)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == self._thread:
            if phase == "start":
                self._began = time.thread_time()
            else:
                self._collected += time.thread_time() - self._began

    def _note(self, where: Where | str, wall: float, cpu: float, collected: float) -> None:
        self.count += 1
        # Names cost more than most steps, and only the long ones are read.
        if wall < LONG / 4 and self.count > 1:
            return
        name, is_ours = _name(where)
        # The two clocks are not read at the same instant.
        step = Step(name, is_ours, cpu, collected, max(0.0, wall - cpu - collected))
        if step.whole > self.longest.whole:
            self.longest = step
        self.most_collecting = max(self.most_collecting, collected)
        if cpu > self.by_cpu.get(name, _NOTHING).cpu:
            self.by_cpu[name] = step
        if cpu > LONG:
            self.long[name] = self.long.get(name, 0) + 1


def _where(handle: Handle) -> Where | str:
    """The innermost coroutine of ours that the step resumes, else the innermost of all, else the callback."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # what is called is told nowhere else
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        while isinstance(callback, functools.partial):
            callback = callback.func
        function = getattr(callback, "__func__", callback)
        if isinstance(function, FunctionType):
            return function.__code__, function.__code__.co_firstlineno
        return str(getattr(callback, "__qualname__", type(callback).__qualname__))
    found: Where | None = None
    coroutine: object = task.get_coro()
    while isinstance(coroutine, CoroutineType):
        frame = coroutine.cr_frame
        if frame is not None and (found is None or _is_ours(frame.f_code) or not _is_ours(found[0])):
            found = frame.f_code, frame.f_lineno
        coroutine = coroutine.cr_await
    return found or type(coroutine).__qualname__


@functools.cache
def _is_ours(code: CodeType) -> bool:
    return any(Path(code.co_filename).is_relative_to(place) for place in _OURS)


def _name(where: Where | str) -> tuple[str, bool]:
    if isinstance(where, str):
        return where, False
    code, line = where
    path = Path(code.co_filename)
    shown = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else Path(path.parent.name, path.name)
    return f"{code.co_qualname} ({shown.as_posix()}:{line})", _is_ours(code)


@dataclass(slots=True)
class Lag:
    """How late a ticker of TICK seconds is."""

    late: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Tick while the block runs."""

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(TICK)
                self.late.append(time.perf_counter() - began - TICK)

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0)
        try:
            yield
            # What the end of the block did delays a tick that is still to come.
            await asyncio.sleep(TICK)
        finally:
            ticker.cancel()

    @property
    def median(self) -> float | None:
        """Half of the ticks were no later."""
        return statistics.median(self.late) if self.late else None

    def at(self, share: float) -> float | None:
        """That share of the ticks was no later: 0.99, or 1 for the latest."""
        return sorted(self.late)[math.ceil(len(self.late) * share) - 1] if self.late else None
