"""While the first answer is on its way, a thread gets ready for what comes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import ImageManager
from imagecache.pipeline import load
from imagecache.pipeline.load import WARM_UP_AFTER
from imagecache.testing import FakeClock, ImageServer


class Process:
    """A process that is as cold as it is said to be."""

    def __init__(self) -> None:
        self.is_cold = True
        self.threads: list[str] = []

    def warm_up(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.is_cold = False


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(load, "is_cold", lambda: process.is_cold)
    monkeypatch.setattr(load, "warm_up", process.warm_up)
    return process


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock, process: Process) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock, decode_threads=1) as manager:
        yield manager


async def test_a_worker_warms_up_while_the_first_answers_are_awaited_and_only_once(
    server: ImageServer, images: ImageManager, clock: FakeClock, process: Process
) -> None:
    urls = [server.add(f"/{number}.png") for number in range(3)]
    gates = [server.hold(f"/{number}.png") for number in range(3)]
    calls = [asyncio.create_task(images.fetch_image(url)) for url in urls]
    await server.wait_for_requests(3)
    assert not process.threads
    clock.advance(WARM_UP_AFTER)
    process.is_cold = True
    clock.advance(WARM_UP_AFTER)
    for gate in gates:
        gate.open()
    # Its one thread does one thing after another.
    await asyncio.gather(*calls)
    assert process.threads == ["imagecache-worker_0"]


async def test_what_has_decoded_meanwhile_is_warm(
    server: ImageServer, images: ImageManager, clock: FakeClock, process: Process
) -> None:
    await images.fetch_image(server.add("/a.png"))
    process.is_cold = False
    clock.advance(WARM_UP_AFTER)
    await images.fetch_image(server.add("/b.png"))
    assert not process.threads


async def test_who_wants_no_pixels_needs_no_warming_up(
    server: ImageServer, images: ImageManager, clock: FakeClock, process: Process
) -> None:
    await images.prefetch([server.add("/a.png")])
    await images.fetch_data(server.add("/b.png"))
    assert clock.pending == 0
    assert not process.threads


async def test_a_manager_that_was_closed_meanwhile_warms_nothing_up(
    server: ImageServer, images: ImageManager, clock: FakeClock, process: Process
) -> None:
    await images.fetch_image(server.add("/a.png"))
    await images.aclose()
    assert clock.pending == 0
    clock.advance(WARM_UP_AFTER)
    assert process.is_cold
