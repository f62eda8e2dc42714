"""What an answer makes out of date, and what it does not: older answers, other users, a Vary that comes or goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from imagecache import CachePolicy, Custom, ImageManager, NotInCacheError, Resize, ServedFrom
from imagecache.testing import Answer, FakeClock, Gate, ImageServer, picture

OLD, NEW = picture(10, 10, seed=1), picture(20, 20, seed=2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock) as manager:
        yield manager


async def test_a_late_answer_to_an_earlier_question_is_kept_in_no_tier(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    gate = Gate()
    url = server.script("/a.png", Answer(gate=gate, content=OLD), Answer(content=NEW))
    earlier = asyncio.create_task(images.fetch(url, policy=CachePolicy.RELOAD))
    await gate.arrived(1)
    clock.advance(1)
    # Another question on the wire, which the first one's answer is no answer to.
    await images.fetch_image(url, policy=CachePolicy.RELOAD_END_TO_END)
    gate.open()
    assert (await earlier).image.size == (10, 10)
    assert (await images.fetch_image(url)).size == (20, 20)
    images.clear_memory()
    assert await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY) == NEW


async def test_a_late_answer_is_still_kept_if_the_later_one_was_somebody_elses(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    gate = Gate()
    url = server.script("/a.png", Answer(gate=gate, content=OLD), Answer(content=NEW))
    alices = asyncio.create_task(images.fetch_image(url, partition="alice"))
    await gate.arrived(1)
    clock.advance(1)
    await images.fetch_image(url, partition="bob")
    gate.open()
    await alices
    assert (await images.fetch(url, partition="alice")).served_from is ServedFrom.MEMORY
    images.clear_memory()
    assert await images.fetch_data(url, partition="alice", policy=CachePolicy.CACHE_ONLY) == OLD
    assert await images.fetch_data(url, partition="bob", policy=CachePolicy.CACHE_ONLY) == NEW


async def test_a_late_304_speaks_of_bytes_that_are_no_longer_the_answer(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", OLD, etag='"old"')
    await images.fetch_image(url)
    gate = Gate()
    server.script("/a.png", Answer(status=304, gate=gate))
    earlier = asyncio.create_task(images.fetch(url, force_refresh=True))
    await gate.arrived(1)
    clock.advance(1)
    server.always("/a.png", Answer(content=NEW, etag='"new"'))
    await images.fetch_image(url, policy=CachePolicy.RELOAD)
    gate.open()
    await earlier
    assert (await images.fetch_image(url)).size == (20, 20)
    images.clear_memory()
    assert await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY) == NEW
    assert await images.etags.get(url) == '"new"'


@pytest.mark.parametrize("varies_first", [False, True])
async def test_a_vary_that_comes_or_goes_leaves_no_pixels_of_the_previous_answer(
    server: ImageServer, images: ImageManager, clock: FakeClock, varies_first: bool
) -> None:
    with_vary, without = {"Vary": "Accept"}, dict[str, str]()
    first, second = (with_vary, without) if varies_first else (without, with_vary)
    server.script("/a.png", Answer(headers=first, content=OLD), Answer(headers=second, content=NEW))
    url, processors = server.url("/a.png"), [Resize(8, 8)]
    before = await images.fetch_image(url, processors=processors)
    clock.advance(1)
    await images.fetch_image(url, force_refresh=True)
    after = await images.fetch_image(url, processors=processors)
    assert after.tobytes() != before.tobytes()
    assert server.count() == 2


async def test_answers_that_vary_leave_each_others_pixels_alone(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.always("/a.png", lambda r: Answer(headers={"Vary": "X-Of"}, content=picture(int(r.headers["x-of"]))))
    for width in ("10", "20"):
        await images.fetch_image(url, headers={"X-Of": width})
        clock.advance(1)
    result = await images.fetch(url, headers={"X-Of": "10"})
    assert (result.served_from, result.image.width) == (ServedFrom.MEMORY, 10)


@pytest.mark.parametrize("is_on_disk", [False, True])
async def test_an_answer_that_may_not_be_kept_leaves_nothing_of_the_old_one_in_any_tier(
    server: ImageServer, images: ImageManager, is_on_disk: bool
) -> None:
    url = server.add("/a.png", OLD)
    await images.fetch_image(url)
    await images.fetch_image(url, processors=[Resize(8, 8)])
    if not is_on_disk:
        await images.clear_disk()
    server.always("/a.png", Answer(headers={"Cache-Control": "no-store"}, content=NEW))
    assert (await images.fetch_image(url, policy=CachePolicy.RELOAD)).size == (20, 20)
    for processors in ([], [Resize(8, 8)]):
        with pytest.raises(NotInCacheError):
            await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY, processors=processors)
    assert await images.cache.disk.count() == len(images.cache.memory) == 0


@pytest.mark.parametrize("whose", ["alice", "bob"])
async def test_slow_work_is_kept_unless_its_own_users_bytes_were_replaced_meanwhile(
    server: ImageServer, images: ImageManager, clock: FakeClock, whose: str
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(image: Image.Image) -> Image.Image:
        entered.set()
        assert release.wait(10)
        return image.rotate(90)

    url, processors = server.add("/a.png", OLD), [Custom("slow-turn", slow)]
    call = asyncio.create_task(images.fetch_image(url, partition="alice", processors=processors))
    assert await asyncio.to_thread(entered.wait, 10)
    clock.advance(1)
    server.replace("/a.png", NEW)
    await images.fetch_image(url, partition=whose, force_refresh=True)
    release.set()
    await call
    again = await images.fetch(url, partition="alice", processors=processors)
    assert (again.served_from is ServedFrom.MEMORY) == (whose == "bob")
    assert again.image.size == ((10, 10) if whose == "bob" else (20, 20))
