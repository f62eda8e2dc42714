"""Each cache policy, down to the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import CachePolicy, ImageManager, NotInCacheError, ServedFrom
from imagecache.testing import Answer, FakeClock, ImageServer, picture


class Refreshes:
    """Notes what is told of revalidations behind."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.came = asyncio.Event()

    def did_refresh_image(self, url: str, changed: bool) -> None:
        self.told.append(changed)
        self.came.set()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock, memory_expiration=None) as manager:
        yield manager


async def test_cache_else_load_serves_what_is_stored_whatever_http_says(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=1"})
    await images.fetch_image(url)
    clock.advance(3600)
    result = await images.fetch(url)
    assert (result.served_from, result.stale) == (ServedFrom.MEMORY, True)
    images.clear_memory()
    result = await images.fetch(url)
    assert (result.served_from, result.stale) == (ServedFrom.DISK, True)
    assert server.count() == 1


async def test_cache_else_load_revalidates_behind_after_a_day(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    refreshes = Refreshes()
    images.add_delegate(refreshes)
    url = server.add("/a.png")
    await images.fetch_image(url)
    clock.advance(24 * 3600 + 1)
    result = await images.fetch(url)
    assert result.served_from is not ServedFrom.NETWORK
    await asyncio.wait_for(refreshes.came.wait(), 10)
    assert [request.status for request in server.requests] == [200, 304]
    assert refreshes.told == [False]
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
    await images._flights.idle()
    assert server.count() == 2


async def test_cache_else_load_loads_what_has_expired_and_asks_with_its_validators(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url, disk_expiration=10.0, memory_expiration=10.0)
    clock.advance(60)
    result = await images.fetch(url)
    assert result.revalidated
    assert server.bytes_sent == len(server.body("/a.png"))


async def test_cache_only_never_asks_the_network(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    with pytest.raises(NotInCacheError, match="CACHE_ONLY"):
        await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY)
    assert server.count() == 0
    await images.fetch_image(url)
    assert (await images.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is ServedFrom.MEMORY
    images.clear_memory()
    assert (await images.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is ServedFrom.DISK
    await images.clear()
    with pytest.raises(NotInCacheError):
        await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY)
    assert server.count() == 1


async def test_protocol_serves_while_fresh_and_asks_when_stale(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=100"})
    policy = CachePolicy.PROTOCOL
    await images.fetch(url, policy=policy)
    clock.advance(50)
    assert (await images.fetch(url, policy=policy)).served_from is ServedFrom.MEMORY
    clock.advance(60)
    result = await images.fetch(url, policy=policy)
    assert (result.revalidated, result.stale) == (True, False)
    assert [request.status for request in server.requests] == [200, 304]
    images.clear_memory()
    assert (await images.fetch(url, policy=policy)).served_from is ServedFrom.DISK
    assert server.count() == 2


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "max-age=0, must-revalidate"])
async def test_protocol_asks_each_time_where_the_server_wants_it(
    server: ImageServer, images: ImageManager, control: str
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": control})
    for _ in range(3):
        await images.fetch(url, policy=CachePolicy.PROTOCOL)
    assert [request.status for request in server.requests] == [200, 304, 304]


async def test_protocol_counts_expires_and_guesses_from_last_modified(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    from imagecache.http.dates import format_date

    now = clock.time()
    dated = {"Date": format_date(now), "Expires": format_date(now + 100)}
    expires = server.add("/expires.png", headers=dated)
    guessed = server.add("/guessed.png", last_modified=now - 1000, headers={"Date": format_date(now)})
    for url in (expires, guessed):
        await images.fetch(url, policy=CachePolicy.PROTOCOL)
    clock.advance(90)
    for url in (expires, guessed):
        await images.fetch(url, policy=CachePolicy.PROTOCOL)
    assert server.count() == 2
    clock.advance(20)
    for url in (expires, guessed):
        await images.fetch(url, policy=CachePolicy.PROTOCOL)
    assert server.count() == 4


@pytest.mark.parametrize("policy", list(CachePolicy))
async def test_no_store_is_kept_in_no_tier_under_any_policy(
    server: ImageServer, images: ImageManager, policy: CachePolicy, tmp_path: Path
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "no-store"})
    if policy is CachePolicy.CACHE_ONLY:
        await images.fetch_image(url)
        with pytest.raises(NotInCacheError):
            await images.fetch_image(url, policy=policy)
    else:
        for _ in range(2):
            result = await images.fetch(url, policy=policy)
            assert result.served_from is ServedFrom.NETWORK
            assert result.image.size
        assert server.count() == 2
    assert await images.cache.disk.count() == 0
    assert len(images.cache.memory) == 0


async def test_no_store_can_be_kept_in_memory_by_option(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "no-store"})
    async with ImageManager(directory=tmp_path, keep_no_store=True) as images:
        await images.fetch_image(url)
        assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
        assert await images.cache.disk.count() == 0


async def test_a_no_store_answer_takes_the_stored_one_along(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    server.always("/a.png", Answer(headers={"Cache-Control": "no-store"}, ignores_conditions=True))
    await images.fetch_image(url, force_refresh=True)
    with pytest.raises(NotInCacheError):
        await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY)


async def test_a_304_that_forbids_storing_leaves_nothing_stored(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    server.always("/a.png", Answer(headers={"Cache-Control": "no-store"}))
    assert (await images.fetch(url, force_refresh=True)).served_from is ServedFrom.NETWORK
    assert [request.status for request in server.requests] == [200, 304, 200]
    assert await images.cache.disk.count() == len(images.cache.memory) == 0


@pytest.mark.parametrize(
    ("policy", "control"),
    [
        (CachePolicy.REVALIDATE, "max-age=0"),
        (CachePolicy.RELOAD, None),
        (CachePolicy.RELOAD_END_TO_END, "no-cache"),
    ],
)
async def test_what_goes_over_the_wire(
    server: ImageServer, images: ImageManager, policy: CachePolicy, control: str | None
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    result = await images.fetch(url, policy=policy)
    sent = server.requests[-1].headers
    assert sent.get("cache-control") == control
    assert ("if-none-match" in sent) == (policy is CachePolicy.REVALIDATE)
    assert (server.requests[-1].status == 304) == (policy is CachePolicy.REVALIDATE)
    assert not result.changed
    assert (await images.fetch(url)).served_from is ServedFrom.MEMORY


async def test_stale_while_revalidate_returns_at_once_and_refreshes_behind(
    server: ImageServer, images: ImageManager
) -> None:
    refreshes = Refreshes()
    images.add_delegate(refreshes)
    url = server.add("/a.png", picture(10, 10))
    policy = CachePolicy.STALE_WHILE_REVALIDATE
    await images.fetch_image(url, policy=policy)
    server.replace("/a.png", picture(20, 20))
    gate = server.hold("/a.png")
    results = await asyncio.gather(*(images.fetch(url, policy=policy) for _ in range(5)))
    assert {result.image.size for result in results} == {(10, 10)}
    await gate.arrived(1)
    assert server.count() == 2
    gate.open()
    await asyncio.wait_for(refreshes.came.wait(), 10)
    assert refreshes.told == [True]
    assert (await images.fetch_image(url)).size == (20, 20)
    assert server.count() == 2


async def test_a_refresh_behind_survives_its_caller(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    images.clear_memory()
    gate = server.hold("/a.png")
    call = asyncio.create_task(images.fetch_image(url, policy=CachePolicy.STALE_WHILE_REVALIDATE))
    await gate.arrived(1)
    call.cancel()
    await asyncio.wait([call])
    gate.open()
    await images._flights.idle()
    assert images.counters.not_modified == 1


async def test_a_failed_refresh_behind_leaves_the_copy_and_is_not_tried_at_every_call(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    server.always("/a.png", Answer(status=404))
    for _ in range(3):
        assert (await images.fetch_image(url, policy=CachePolicy.STALE_WHILE_REVALIDATE)).size
        await images._flights.idle()
    assert server.count() == 2


async def test_an_answer_that_varies_is_kept_apart(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", headers={"Vary": "Accept-Language"})
    server.always(
        "/a.png",
        lambda request: Answer(content=picture(len(request.headers.get("accept-language", "")) + 8, 8)),
    )
    sizes = []
    for language in ("de", "en-GB", "de", "en-GB"):
        image = await images.fetch_image(url, headers={"Accept-Language": language})
        images.clear_memory()
        sizes.append(image.size[0])
    assert sizes == [10, 13, 10, 13]
    assert server.count() == 2


@pytest.mark.parametrize("tier", ["memory", "disk"])
@pytest.mark.parametrize("is_changed", [True, False])
async def test_the_stale_while_revalidate_directive_refreshes_once_behind(
    server: ImageServer, images: ImageManager, clock: FakeClock, tier: str, is_changed: bool
) -> None:
    refreshes = Refreshes()
    images.add_delegate(refreshes)
    url = server.add("/a.png", headers={"Cache-Control": "max-age=10, stale-while-revalidate=100"})
    first = await images.fetch(url)
    clock.advance(60)
    if tier == "disk":
        images.clear_memory()
    if is_changed:
        server.replace("/a.png")
    gate = server.hold("/a.png")
    results = await asyncio.gather(*(images.fetch(url, policy=CachePolicy.PROTOCOL) for _ in range(5)))
    assert {(result.stale, result.checksum) for result in results} == {(True, first.checksum)}
    await gate.arrived(1)
    gate.open()
    await asyncio.wait_for(refreshes.came.wait(), 10)
    await images._flights.idle()
    assert server.count() == 2
    assert refreshes.told == [is_changed]
    fresh = await images.fetch(url, policy=CachePolicy.PROTOCOL)
    assert (fresh.stale, fresh.checksum != first.checksum) == (False, is_changed)
    # Beyond that window, the server is asked first.
    clock.advance(200)
    assert (await images.fetch(url, policy=CachePolicy.PROTOCOL)).revalidated
