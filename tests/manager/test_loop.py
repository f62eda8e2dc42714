"""What the event loop's thread does itself: none of the work that grows with an image, and little at one go.

`tests/conftest.py` sees to files, folders and names in every test; here it is what a thread computes. Calls are
counted, not timed: a stopwatch tells of the machine. A step is what the loop calls at one go.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import io
import itertools
import logging
import math
import os
import sys
import threading
import time
from asyncio.events import Handle
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest
from PIL import Image

from imagecache import Blur, Downsample, ImageManager, RoundCorners
from imagecache.network.body import SPOOL_OVER
from imagecache.pipeline.workers import Workers
from imagecache.testing import ImageServer, picture
from tests.conftest import OTHERS, PACKAGE, LoopGuard

LARGE = 16 * 1024
"""Bytes from which on hashing is work: a key, a header and an ETag are far below, an image is above."""
MOST_CALLS = 2_000
"""Calls of functions, Python's and C's, in one step; a thousand take some tenths of a millisecond."""
RUNS = 3
MOST_CPU = 100_000
"""CPU of a step, in calls of a function that does nothing: some milliseconds. Decoding a photo takes ten times that."""

PIXELS = ("ImagingCore.", "ImagingDecoder.", "ImagingEncoder.", "WebPAnimDecoder.", "PIL._")
DATABASE = ("sqlite3.",)
DISK = (
    *(f"{system}.{call}" for system in ("posix", "nt") for call in (
        "open", "read", "write", "lseek", "stat", "lstat", "fsync", "replace", "unlink", "mkdir", "scandir", "listdir",
        "remove", "rename", "rmdir",
    )),
    "_io.FileIO.", "_io.BufferedReader.", "_io.BufferedWriter.", "io.open",
)  # fmt: skip
WAITING = ("time.sleep",)
HEAVY = (*PIXELS, *DATABASE, *DISK, *WAITING)
PYTHON = {("PIL.Image", "open"), ("PIL.ImageFile", "ImageFile.load"), ("json", "loads"), ("json", "dumps")}
"""What is heavy and written in Python: module, qualified name."""
KERNEL_READER = "cgroup.py:"
"""It opens files of the kernel's, which answers from memory."""
INFLATES = 3
"""Slices of a coded body that a step may inflate: the last of a piece brings nothing, and the next piece one."""


@dataclass(slots=True)
class Step:
    """One step, by what it called; ``name`` is of the outermost function of the library that it ran."""

    name: str = ""
    calls: int = 0
    heavy: list[str] = field(default_factory=list)
    inflates: int = 0
    cpu: float = 0.0


class Watch:
    """The steps of the loop that the library had a part in, while this is entered."""

    def __init__(self, *, is_counting: bool = True) -> None:
        self.steps: list[Step] = []
        self._is_counting = is_counting
        self._step = Step()

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Only the loop of this thread: the server has its own."""
        thread, run, sha256 = threading.get_ident(), Handle._run, hashlib.sha256

        def watched(handle: Handle) -> None:
            if threading.get_ident() != thread:
                run(handle)
                return
            self._step = step = Step()
            began = time.thread_time()
            if self._is_counting:
                sys.setprofile(self._note)
            try:
                run(handle)
            finally:
                if self._is_counting:
                    sys.setprofile(None)
                step.cpu = time.thread_time() - began
                if step.name or not self._is_counting:
                    self.steps.append(step)

        def weighed(data: bytes = b"", **options: Any) -> hashlib._Hash:
            if threading.get_ident() == thread and len(data) > LARGE:
                self._blame(f"sha256 of {len(data)} bytes", sys._getframe(1))
            return sha256(data, **options)

        with patch.object(Handle, "_run", watched), patch.object(hashlib, "sha256", weighed):
            yield

    @property
    def heavy(self) -> list[str]:
        """All that no step should have done."""
        return [what for step in self.steps for what in step.heavy]

    @property
    def longest(self) -> Step:
        """The step of the most calls."""
        return max(self.steps, key=lambda step: step.calls)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        step = self._step
        if event == "call":
            step.calls += 1
            name = frame.f_code.co_filename
            if not step.name and name.startswith(PACKAGE) and not name.startswith(OTHERS):
                step.name = frame.f_code.co_qualname
            called = frame.f_globals.get("__name__"), frame.f_code.co_qualname
            if called in PYTHON:
                self._blame(".".join(map(str, called)), frame.f_back)
        elif event == "c_call":
            step.calls += 1
            # A method of C's has no module, but the object that it belongs to.
            owner = argument.__module__ or _type_name(argument.__self__)
            name = f"{owner}.{argument.__name__}"
            if name.startswith(HEAVY):
                self._blame(name, frame)
            elif name == "zlib.Decompress.decompress":
                step.inflates += 1
            elif name == "_hashlib.HASH.update" and frame.f_globals.get("__name__") != "hmac":
                self._blame("an update of a hash", frame)

    def _blame(self, what: str, frame: FrameType | None) -> None:
        culprit = LoopGuard.culprit(frame)
        if culprit is not None and KERNEL_READER not in culprit:
            self._step.heavy.append(f"{what} from {culprit}")


def _type_name(instance: object) -> str:
    kind = type(instance)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# What is done


class Site:
    """A server with an image of each kind, in a thread of its own."""

    def __init__(self, server: ImageServer) -> None:
        self.server = server
        self.small = server.add("/small.jpg", picture(200, 150, format="JPEG"))
        self.large = server.add("/large.jpg", picture(1600, 1200, format="JPEG"))
        self.long = server.add("/long.png", raw_png(4 * SPOOL_OVER))
        self.coded = server.add("/coded.png", gzip.compress(raw_png(2**20)), headers={"Content-Encoding": "gzip"})
        self.animated = server.add("/animated.gif", picture(64, 48, format="GIF", frames=8))
        self._pictures = itertools.cycle([picture(1600, 1200, seed=seed, format="JPEG") for seed in (1, 2)])
        self.many = [server.add(f"/many/{number}.png", picture(32, 24, seed=number)) for number in range(20)]

    def turn(self) -> None:
        """Another large image from now on."""
        self.server.replace("/large.jpg", next(self._pictures))


def raw_png(size: int) -> bytes:
    """A picture of about so many bytes, made in a moment."""
    target = io.BytesIO()
    Image.new("L", (2048, size // 2048)).save(target, "PNG", compress_level=0)
    return target.getvalue()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ImageServer.in_thread() as server:
        yield Site(server)


Work = Callable[[ImageManager, Site], Awaitable[None]]


async def cold(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.small)


async def cold_large(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.large)


async def cold_spooled(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.long)


async def cold_coded(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.coded)


async def bytes_and_files(images: ImageManager, site: Site) -> None:
    await images.fetch_data(site.large)
    await images.fetch_data(site.large, processors=[Downsample(50, 50)], format="WEBP")
    await images.fetch_file(site.long)
    await images.fetch_response(site.large)


async def disk_hits(images: ImageManager, site: Site) -> None:
    for url in (site.small, site.large, site.long):
        await images.fetch_image(url)
    await images.cache.flush()
    images.clear_memory()
    for url in (site.small, site.large, site.long):
        await images.fetch_image(url)


async def memory_hits(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.large)
    await images.fetch_image(site.large)
    await images.fetch(site.large)


async def force_refreshes(images: ImageManager, site: Site) -> None:
    for url in (site.large, site.long):
        await images.fetch_image(url)
        await images.fetch_image(url, force_refresh=True)
        images.clear_memory()
        await images.fetch_image(url, force_refresh=True)


async def another_image_in_its_place(images: ImageManager, site: Site) -> None:
    await images.fetch_image(site.large)
    site.turn()
    await images.fetch_image(site.large, force_refresh=True)


async def processors(images: ImageManager, site: Site) -> None:
    for _ in range(2):
        await images.fetch_image(site.large, processors=[Downsample(300, 300), Blur(3), RoundCorners(20)])


async def animations(images: ImageManager, site: Site) -> None:
    result = await images.fetch(site.animated)
    animation = await result.animation()
    assert animation.frame_count == 8


async def prefetches(images: ImageManager, site: Site) -> None:
    await images.prefetch([*site.many, site.large, site.long])
    await images.prefetch(site.many)
    await images.prefetch(site.many, force_refresh=True)


async def many_callers(images: ImageManager, site: Site) -> None:
    await asyncio.gather(*(images.fetch_image(site.large) for _ in range(40)))


async def cancelled(images: ImageManager, site: Site) -> None:
    gate = site.server.hold("/small.jpg")
    calls = [asyncio.create_task(images.fetch_image(f"{site.small}?{number}")) for number in range(4)]
    while images.downloader.active < len(calls):  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(0)
    images.cancel_all()
    await asyncio.gather(*calls, return_exceptions=True)
    gate.open()


async def housekeeping(images: ImageManager, site: Site) -> None:
    await images.prefetch(site.many)
    await images.fetch_image(site.long)
    await images.cache.stats()
    await images.cache.verify()
    assert [entry.url async for entry in images.cache.entries()]
    await images.remove(site.long)
    images.disk_limit = 20_000
    await images.clean_expired()
    await images.clear()


WORK: dict[str, Work] = {
    work.__name__: work
    for work in (
        cold, cold_large, cold_spooled, cold_coded, bytes_and_files, disk_hits, memory_hits, force_refreshes,
        another_image_in_its_place, processors, animations, prefetches, many_callers, cancelled, housekeeping,
    )
}  # fmt: skip
each_work = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


async def run(work: Work, site: Site, images: ImageManager) -> None:
    """The manager is opened and closed for it."""
    async with images:
        await work(images, site)


async def watched(
    work: Work, site: Site, folder: Path, *, is_counting: bool = True, is_warm: bool = False, **options: Any
) -> Watch:
    """The steps of one run, after another one that imported what is imported at first use, unless that is done."""
    if not is_warm:
        await run(work, site, ImageManager(directory=folder / "before", **options))
    # Its folder's name is resolved here and now, as the manager says: some look-ups, once.
    images = ImageManager(directory=folder / "cache", **options)
    watch = Watch(is_counting=is_counting)
    # The collector comes at its own times, and looks at everything that a run of all tests has left.
    gc.collect()
    gc.disable()
    try:
        with watch.on_this_thread():
            # A task of its own: this one is in the middle of a step that nobody counts.
            await asyncio.create_task(run(work, site, images))
    finally:
        gc.enable()
    return watch


@each_work
async def test_a_step_computes_nothing_that_grows_with_an_image(work: Work, site: Site, tmp_path: Path) -> None:
    watch = await watched(work, site, tmp_path)
    assert watch.steps, "nothing of the library ran on this loop"
    assert watch.heavy == []
    assert watch.longest.calls <= MOST_CALLS, watch.longest
    assert max(step.inflates for step in watch.steps) <= INFLATES


@pytest.mark.slow
@each_work
async def test_no_step_uses_the_processor_for_long(work: Work, site: Site, tmp_path: Path) -> None:
    """What neither calls much nor is on a list: a loop without calls, a copy of a long body.

    CPU of this thread, which has no part of what others do meanwhile; against what this interpreter takes for calls;
    the least of some runs; and a limit far above what is meant.
    """
    longest = []
    for number in range(RUNS):
        watch = await watched(work, site, tmp_path / str(number), is_counting=False, is_warm=number > 0)
        longest.append(max(step.cpu for step in watch.steps))
    assert min(longest) <= most_cpu()


@each_work
async def test_debug_mode_finds_nothing(
    work: Work, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No call from a wrong thread, which raises there, and no error that nobody ever read, which is logged."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    # How long a step took, others had a part in; see above.
    loop.slow_callback_duration = math.inf
    with caplog.at_level(logging.WARNING, "asyncio"):
        await run(work, site, ImageManager(directory=tmp_path / "cache"))
        gc.collect()
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def most_cpu() -> float:
    """Seconds for a step on this machine."""

    def nothing() -> None:
        pass

    def thousand() -> float:
        began = time.thread_time()
        for _ in range(1000):
            nothing()
        return time.thread_time() - began

    # Windows counts CPU in ticks of 16 ms, and may charge a step a whole one.
    began = tick = time.thread_time()
    while tick == began:
        tick = time.thread_time()
    return max(MOST_CPU / 1000 * min(thousand() for _ in range(20)), 0.005) + 2 * (tick - began)


# That all this would be seen


async def at_once(
    workers: Workers,
    function: Callable[..., object],
    *args: object,
    cost: int = 0,
    bring: Callable[[], Awaitable[object]] | None = None,
    may_wait: bool = False,
) -> object:
    """In place of `Workers.run`: without a thread."""
    return function(*args) if bring is None else function(await bring(), *args)


run_in_executor = asyncio.BaseEventLoop.run_in_executor


def in_no_executor(
    loop: asyncio.BaseEventLoop, executor: Any, function: Callable[..., object], *args: object
) -> asyncio.Future[object]:
    """In place of `run_in_executor`: without a thread, but for what is the writer's.

    That goes on in its own thread, and two threads in one connection of SQLite's crash the process.
    """
    if executor is not None and executor._thread_name_prefix == "imagecache-writer":
        return run_in_executor(loop, executor, function, *args)
    future = loop.create_future()
    future.set_result(function(*args))
    return future


@pytest.mark.blocks_loop
@pytest.mark.parametrize(
    ("work", "seen"),
    [(cold_large, "sha256 of"), (cold_large, "ImagingDecoder.decode"), (processors, "ImagingCore.")],
)
async def test_work_of_the_workers_would_be_seen(
    work: Work, seen: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "run", at_once)
    watch = await watched(work, site, tmp_path)
    assert [what for what in watch.heavy if what.startswith(seen)]


@pytest.mark.blocks_loop
@pytest.mark.parametrize(("work", "seen"), [(cold_spooled, f"{os.name}.write"), (housekeeping, "sqlite3.")])
async def test_reading_and_writing_would_be_seen(
    work: Work, seen: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", in_no_executor)
    watch = await watched(work, site, tmp_path)
    assert [what for what in watch.heavy if what.startswith(seen)]


async def test_a_long_step_would_be_seen(site: Site, tmp_path: Path) -> None:
    def long_way(url: str) -> str:
        for character in str(hash(url)) * MOST_CALLS:
            assert character.isascii()
        return url

    watch = await watched(cold, site, tmp_path, key_for_url=long_way)
    assert watch.longest.calls > MOST_CALLS


async def test_a_step_that_computes_for_long_would_be_seen(site: Site, tmp_path: Path) -> None:
    def slow_way(url: str) -> str:
        end = time.thread_time() + 2 * most
        while time.thread_time() < end:
            pass
        return url

    most = most_cpu()
    watch = await watched(cold, site, tmp_path, is_counting=False, key_for_url=slow_way)
    assert max(step.cpu for step in watch.steps) > most
