"""Whose time limit counts, from when, and until when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from imagecache import Custom, ImageManager, PrefetchStatus, TimedOutError
from imagecache.testing import Answer, FakeClock, ImageServer
from imagecache.testing.clock import FakeTimer


class PatienceClock(FakeClock):
    """Tells when somebody sets out to wait for an hour."""

    def __init__(self) -> None:
        super().__init__()
        self.is_waited_for = asyncio.Event()

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        if when >= self.monotonic() + 3600:
            self.is_waited_for.set()
        return super().call_at(when, callback)


@pytest.fixture
def clock() -> PatienceClock:
    return PatienceClock()


@pytest.fixture
async def images(tmp_path: Path, clock: PatienceClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock, timeout=5) as manager:
        yield manager


async def test_a_prefetch_without_a_limit_waits_as_long_as_the_server_asks(
    server: ImageServer, images: ImageManager, clock: PatienceClock
) -> None:
    url = server.add("/a.png")
    server.script("/a.png", Answer(status=503, headers={"Retry-After": "3600"}))
    job = asyncio.ensure_future(images.prefetch([url], timeout=None)._run())
    await asyncio.wait_for(clock.is_waited_for.wait(), 10)
    await clock.elapse(3600)
    (outcome,) = (await job).outcomes
    assert outcome.status is PrefetchStatus.STORED
    assert [request.status for request in server.requests] == [503, 200]


@pytest.mark.parametrize("timeout", [0, -1.0])
async def test_a_limit_that_makes_no_sense_is_told_at_the_call(images: ImageManager, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        images.prefetch([], timeout=timeout)


async def test_an_answer_of_any_kind_has_the_managers_limit_unless_the_call_has_one(
    server: ImageServer, images: ImageManager, clock: PatienceClock
) -> None:
    url = server.add("/a.css", b"p {}")
    gate = server.hold("/a.css")
    calls = [
        asyncio.create_task(images.fetch_response(url)),
        asyncio.create_task(images.fetch_response(url, timeout=None)),
        asyncio.create_task(images.fetch_response(url, timeout=8.0)),
    ]
    await gate.arrived(1)
    await clock.elapse(6)
    with pytest.raises(TimedOutError):
        await asyncio.wait_for(calls[0], 10)
    gate.open()
    assert [answer.body for answer in await asyncio.gather(*calls[1:])] == [b"p {}"] * 2
    assert server.count() == 1


async def test_the_limit_is_for_the_network_and_ends_with_it(
    server: ImageServer, images: ImageManager, clock: PatienceClock
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(image: Image.Image) -> Image.Image:
        entered.set()
        assert release.wait(10)
        return image

    call = asyncio.create_task(images.fetch_image(server.add("/a.png"), processors=[Custom("slow", slow)]))
    assert await asyncio.to_thread(entered.wait, 10)
    await clock.elapse(60)
    assert not call.done()
    release.set()
    assert (await call).size


async def test_a_caller_that_is_cancelled_leaves_no_timer_behind(
    server: ImageServer, images: ImageManager, clock: PatienceClock
) -> None:
    other, url = server.add("/other.png"), server.add("/a.png")
    await images.fetch_data(other)
    await images._flights.idle()
    before = clock.pending
    gate = server.hold("/a.png")
    patient = asyncio.create_task(images.fetch_image(url, timeout=None))
    await gate.arrived(1)
    alone = clock.pending
    call = asyncio.create_task(images.fetch_image(url, timeout=1000))
    await asyncio.sleep(0)
    assert clock.pending == alone + 1
    call.cancel()
    await asyncio.wait([call])
    assert clock.pending == alone
    patient.cancel()
    await asyncio.wait([patient])
    await images._flights.idle()
    assert clock.pending == before
