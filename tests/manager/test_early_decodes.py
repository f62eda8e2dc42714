"""Small stored images are decoded in the same turn as they are looked up: once, for everybody, and nobody waits for
another's look-up."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import CachePolicy, ImageManager, ImageRequest, NotInCacheError, Resize, ServedFrom
from imagecache.imaging.limits import ImageLimits
from imagecache.pipeline.early import SMALL_BODY, SMALL_COST
from imagecache.pipeline.workers import Seat, Workers
from imagecache.testing import Answer, ImageServer, picture

from .test_who_shares import LARGE, Busy, undecodable, until

TWO = (CachePolicy.CACHE_ELSE_LOAD, CachePolicy.CACHE_ONLY)


@pytest.fixture
async def images(tmp_path: Path, server: ImageServer) -> Any:
    """A manager with one thread that decodes, whose folder another one has filled."""
    urls = [server.add(f"/{number}.png") for number in range(30)]
    folder = tmp_path / "cache"
    async with ImageManager(directory=folder) as before:
        await before.prefetch([*urls, server.add("/large.png", LARGE)])
    async with ImageManager(directory=folder, decode_threads=1) as images:
        yield images


async def busy(images: ImageManager) -> Busy:
    held = Busy(images)
    await held.started()
    return held


def waiting(images: ImageManager) -> int:
    """What waits for the thread that decodes."""
    threads = images._workers._threads
    return 0 if threads is None else threads._queue.qsize()


async def two_who_wait(images: ImageManager, url: str) -> tuple[Busy, asyncio.Task[Any], asyncio.Task[Any]]:
    """Two who ask under two policies: the pixels wait for their thread, and the second has its bytes already."""
    held = await busy(images)
    first = asyncio.create_task(images.fetch(url, policy=TWO[0]))
    await until(lambda: waiting(images) == 1)
    second = asyncio.create_task(images.fetch(url, policy=TWO[1]))
    # Its own look-up comes back, and finds the pixels on their way.
    await until(lambda: images.cache.disk.hits == 1)
    return held, first, second


async def test_pixels_are_made_once_for_all_policies_under_which_they_are_asked_for(
    server: ImageServer, images: ImageManager
) -> None:
    held, first, second = await two_who_wait(images, server.url("/0.png"))
    await held.end()
    one, other = await first, await second
    assert one.image == other.image
    assert (one.served_from, other.served_from) == (ServedFrom.DISK, ServedFrom.DISK)
    assert (images.counters.decodes, images.counters.disk_hits) == (1, 2)


async def test_nobody_gets_the_pixels_of_another_users_bytes(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/own.png", picture(20, 10))
    await images.fetch_data(url, partition="one")
    server.add("/own.png", picture(10, 20))
    await images.fetch_data(url, partition="other")
    hits = images.cache.disk.hits
    held = await busy(images)
    first = asyncio.create_task(images.fetch_image(url, partition="one"))
    await until(lambda: waiting(images) == 1)
    second = asyncio.create_task(images.fetch_image(url, partition="other"))
    await until(lambda: images.cache.disk.hits == hits + 1)
    await held.end()
    assert ((await first).size, (await second).size) == ((20, 10), (10, 20))
    assert images.counters.decodes == 2


async def test_who_has_the_bytes_a_moment_later_gets_the_pixels_that_were_made(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, load = server.url("/0.png"), images.cache.disk.load
    may_go, has_come = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        stored = await load(*args, **options)
        has_come.set()
        await may_go.wait()
        return stored

    monkeypatch.setattr(images.cache.disk, "load", slow)
    first = asyncio.create_task(images.fetch_image(url, policy=TWO[0]))
    await has_come.wait()
    # Decoded by now, though its look-up is still held up.
    monkeypatch.setattr(images.cache.disk, "load", load)
    second = await images.fetch_image(url, policy=TWO[1])
    images.clear_memory()
    may_go.set()
    assert await first == second
    assert images.counters.decodes == 1


async def test_a_look_up_that_takes_its_time_holds_nobody_up_and_decodes_nothing_twice(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, load = server.url("/0.png"), images.cache.disk.load
    may_go, has_come = asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **options: Any) -> Any:
        has_come.set()
        await may_go.wait()
        return await load(*args, **options)

    monkeypatch.setattr(images.cache.disk, "load", late)
    first = asyncio.create_task(images.fetch_image(url, policy=TWO[0]))
    await has_come.wait()
    monkeypatch.setattr(images.cache.disk, "load", load)
    second = await images.fetch_image(url, policy=TWO[1])
    may_go.set()
    assert await first == second
    assert images.counters.decodes == 1


async def test_everybody_whose_bytes_do_not_decode_is_told_so_or_gets_fresh_ones(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/damaged.png")
    server.script("/damaged.png", Answer(content=undecodable(server.body("/damaged.png"))))
    await images.fetch_data(url)
    fresh, refused = await asyncio.gather(*(images.fetch(url, policy=policy) for policy in TWO), return_exceptions=True)
    assert isinstance(refused, NotInCacheError)
    assert not isinstance(fresh, BaseException)
    assert fresh.served_from is ServedFrom.NETWORK
    assert not images._workers.is_busy


async def test_who_leaves_while_it_is_decoded_leaves_the_others_theirs_and_keeps_no_share(
    server: ImageServer, images: ImageManager
) -> None:
    held, first, second = await two_who_wait(images, server.url("/0.png"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await held.end()
    assert (await second).image.size == (64, 48)
    assert images.counters.decodes == 1
    assert not images._workers.is_busy


@pytest.mark.parametrize("path", ["/missing.png", "/large.png", "/0.png"])
async def test_whatever_is_found_no_share_of_the_budget_is_kept(
    server: ImageServer, images: ImageManager, path: str
) -> None:
    server.add("/missing.png", picture(9, 9))
    await images.fetch_image(server.url(path))
    assert not images._workers.is_busy
    assert images._workers.has_room(images.memory_limit)
    assert images.counters.decodes == 1


async def test_what_has_to_wait_for_the_budget_is_decoded_in_its_turn(
    server: ImageServer, tmp_path: Path, images: ImageManager
) -> None:
    async with ImageManager(directory=tmp_path / "cache", decode_threads=1, decode_budget=2 * SMALL_COST) as narrow:
        held = await busy(narrow)
        calls = [asyncio.create_task(narrow.fetch_image(server.url(f"/{number}.png"))) for number in range(5)]
        # The first two have a seat; of the others, what they will cost is known.
        await until(lambda: narrow._workers.waiting > 0)
        await held.end()
        assert {image.size for image in await asyncio.gather(*calls)} == {(64, 48)}
        assert narrow.counters.decodes == 5
        assert not narrow._workers.is_busy


async def test_limits_count_for_what_was_stored_under_others(
    server: ImageServer, tmp_path: Path, images: ImageManager
) -> None:
    async with ImageManager(directory=tmp_path / "cache", limits=ImageLimits(max_pixels=100)) as strict:
        with pytest.raises(NotInCacheError, match="max_pixels"):
            await strict.fetch_image(server.url("/0.png"), policy=CachePolicy.CACHE_ONLY)


async def test_modes_and_processors_get_their_own(server: ImageServer, images: ImageManager) -> None:
    url = server.url("/0.png")
    plain, grey, small = await asyncio.gather(
        images.fetch_image(url),
        images.fetch_image(url, mode="L"),
        images.fetch_image(url, processors=[Resize(20, 15)]),
    )
    assert (plain.mode, grey.mode, small.size) == ("RGB", "L", (20, 15))
    # The colours once, the greys once.
    assert (images.counters.decodes, images.counters.processes) == (2, 1)


@pytest.mark.parametrize("policy", [CachePolicy.REVALIDATE, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END])
async def test_who_is_served_from_the_network_in_any_case_takes_no_share(
    images: ImageManager, policy: CachePolicy
) -> None:
    url = "http://a.example/0.png"
    early = images._loader.early
    assert early.seat_for(ImageRequest(url, url, "0" * 64, policy)) is None
    seat = early.seat_for(ImageRequest(url, url, "0" * 64, CachePolicy.PROTOCOL))
    assert seat is not None
    seat.leave()


async def test_what_is_not_known_to_be_small_is_decoded_with_a_share_of_its_own_size(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    take = Seat.take

    def counted(self: Seat, *args: Any) -> bool:
        taken.append(args)
        return take(self, *args)

    monkeypatch.setattr(Seat, "take", counted)
    noise = io.BytesIO()
    Image.effect_noise((400, 300), 100).save(noise, "PNG")
    assert len(noise.getvalue()) > SMALL_BODY
    # Of few pixels, and in the queue yet with all its bytes.
    heavy, wide = server.add("/heavy.png", noise.getvalue()), server.add("/wide.png", picture(600, 500, format="WEBP"))
    assert len(server.body("/wide.png")) < SMALL_BODY
    for url in (heavy, wide):
        await images.fetch_data(url)
    for url in (heavy, wide, server.url("/large.png")):
        await images.fetch_image(url)
        images.clear_memory()
    assert not taken
    await images.fetch_image(server.url("/0.png"))
    assert len(taken) == 1


async def test_nothing_is_remembered(server: ImageServer, images: ImageManager) -> None:
    early = images._loader.early
    for path in ("/0.png", "/large.png", "/missing.png"):
        await asyncio.gather(images.fetch_image(server.url(path)), return_exceptions=True)
    assert not early._under_way
    assert not early._elsewhere


async def test_no_seat_is_given_by_workers_that_were_shut_down() -> None:
    shut = Workers(threads=1, budget=100)
    shut.shutdown()
    assert shut.seat(1) is None
