"""Those who wait for the same decode, the same processor or the same encoding may leave as those may who wait for
bytes; and what fails there fails for each on its own, and is made anew for the next."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import Blur, Custom, ImageManager, ImageProcessor, ProcessorError, Resize, ServedFrom
from imagecache.imaging.decode import decode
from imagecache.pipeline import encoded
from imagecache.testing import ImageServer

MAIN = threading.main_thread()


class Held:
    """A function that is held on its worker thread until it is let go on; tells its threads and how often it ran."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._entered, self._release = threading.Semaphore(0), threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.threads.append(threading.current_thread())
        self._entered.release()
        assert self._release.wait(30)
        return self._function(*args, **options)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.acquire, timeout=30)

    def go_on(self) -> None:
        self._release.set()


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """On a loop of its own: the tasks of a test's loop are the library's and the test's."""
    with ImageServer.in_thread() as running:
        yield running


Call = Callable[[ImageManager, str], Coroutine[Any, Any, Any]]


def image_call(images: ImageManager, url: str) -> Coroutine[Any, Any, Any]:
    return images.fetch_image(url)


def encoded_call(images: ImageManager, url: str) -> Coroutine[Any, Any, Any]:
    return images.fetch_data(url, processors=[Resize(8, 8)], format="WEBP", quality=80)


@pytest.fixture(params=["decode", "processor", "encoding"])
async def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Held, Call]]:
    """What is held, and the call that needs it."""
    match request.param:
        case "decode":
            work = Held(decode)
            monkeypatch.setattr("imagecache.pipeline.pixels.decode", work)
            # A small one is decoded in the turn that looks at its header, and that is the download's.
            monkeypatch.setattr("imagecache.pipeline.load.SMALL_BODY", 0)
            call: Call = image_call
        case "processor":
            work = Held(lambda image: image.rotate(90))
            processors: list[ImageProcessor] = [Resize(20, 10), Custom("held", work)]

            def call(images: ImageManager, url: str) -> Coroutine[Any, Any, Any]:
                return images.fetch_image(url, processors=processors)
        case "encoding":
            work = Held(encoded._encode)
            monkeypatch.setattr(encoded, "_encode", work)
            call = encoded_call
    yield work, call
    work.go_on()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens in the library, which rings no bell
            await asyncio.sleep(0)


def most_waiters(images: ImageManager) -> int:
    return max((len(flight._waiters) for flight in images._flights._flights.values()), default=0)


async def test_all_who_ask_share_it_and_it_runs_in_a_worker(
    server: ImageServer, images: ImageManager, held: tuple[Held, Call]
) -> None:
    (work, call), url = held, server.add("/a.png")
    calls = [asyncio.create_task(call(images, url)) for _ in range(100)]
    await work.entered()
    await until(lambda: most_waiters(images) == 100)
    late = asyncio.create_task(call(images, url))
    await until(lambda: most_waiters(images) == 101)
    work.go_on()
    made = await asyncio.gather(*calls, late)
    assert len(made) == 101
    assert len(work.threads) == 1
    assert work.threads[0] is not MAIN
    assert images.counters.decodes == server.count() == 1
    # Nobody who comes later makes it again.
    await call(images, url)
    assert len(work.threads) == 1


async def test_one_who_leaves_leaves_the_others_theirs(
    server: ImageServer, images: ImageManager, held: tuple[Held, Call]
) -> None:
    (work, call), url = held, server.add("/a.png")
    calls = [asyncio.create_task(call(images, url)) for _ in range(4)]
    await work.entered()
    await until(lambda: most_waiters(images) == 4)
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    assert calls[0].cancelled()
    work.go_on()
    assert len(await asyncio.gather(*calls[1:])) == 3
    assert len(work.threads) == 1


async def test_when_all_leave_nothing_is_pending_and_whoever_asks_at_once_is_served(
    server: ImageServer, images: ImageManager, held: tuple[Held, Call]
) -> None:
    (work, call), url = held, server.add("/a.png")
    before = asyncio.all_tasks()
    calls = [asyncio.create_task(call(images, url)) for _ in range(3)]
    await work.entered()
    await until(lambda: most_waiters(images) == 3)
    for one in calls:
        one.cancel()
    again = asyncio.create_task(call(images, url))
    await asyncio.wait(calls)
    assert all(one.cancelled() for one in calls)
    work.go_on()
    assert await again is not None
    await images._flights.idle()
    assert len(images._flights) == 0
    assert images.downloader.active == images._workers.waiting == 0
    assert asyncio.all_tasks() == before
    assert server.count() == 1


async def test_a_processor_that_fails_fails_for_each_on_its_own_and_is_tried_again(
    server: ImageServer, images: ImageManager
) -> None:
    is_broken = True

    def turn(image: Image.Image) -> Image.Image:
        if is_broken:
            raise LookupError("no such colour")
        return image.rotate(90)

    work, url = Held(turn), server.add("/a.png")
    processors = [Custom("held", work)]
    calls = [asyncio.create_task(images.fetch_image(url, processors=processors)) for _ in range(3)]
    await work.entered()
    await until(lambda: most_waiters(images) == 3)
    work.go_on()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [ProcessorError] * 3
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, ProcessorError)
        assert error.url == url
        assert isinstance(error.__cause__, LookupError)
    assert len(work.threads) == 1
    # The decode before it was good, and is worth keeping or making again; what failed is neither.
    with pytest.raises(ProcessorError):
        await images.fetch_image(url, processors=processors)
    is_broken = False
    assert (await images.fetch_image(url, processors=processors)).size
    assert len(work.threads) == 3
    assert server.count() == 1


async def test_who_asks_for_a_prefix_that_is_being_made_gets_that_one(
    server: ImageServer, images: ImageManager
) -> None:
    url, work = server.add("/a.png"), Held(lambda image: image.rotate(90))
    turned, blur = Custom("held", work), Blur(2)
    short = asyncio.create_task(images.fetch_image(url, processors=[turned]))
    await work.entered()
    long = asyncio.create_task(images.fetch_image(url, processors=[turned, blur]))
    await until(lambda: most_waiters(images) == 2)
    short.cancel()
    await asyncio.wait([short])
    work.go_on()
    assert (await long).size
    assert images.counters.by_processor == {turned.identifier: 1, blur.identifier: 1}
    assert images.counters.decodes == server.count() == 1


async def test_a_file_that_is_there_stays_until_the_new_one_is_whole(
    server: ImageServer, images: ImageManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")
    replace, held = os.replace, Held(os.replace)

    def replace_or_wait(source: Path, destination: Path) -> object:
        return (held if destination == target else replace)(source, destination)

    monkeypatch.setattr("imagecache.storage.files.os.replace", replace_or_wait)
    url = server.add("/a.png")
    call = asyncio.create_task(images.fetch_file(url, to=target))
    await held.entered()
    assert target.read_bytes() == b"before"
    held.go_on()
    assert (await call).read_bytes() == server.body("/a.png")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.png"]
    assert (await images.fetch(url)).served_from is ServedFrom.DISK
