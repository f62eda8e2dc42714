"""What `cancel` and `cancel_all` of a manager end, and what of it everybody is told."""

from __future__ import annotations

import asyncio
import threading

import pytest
from PIL import Image

from imagecache import Custom, DownloadCancelledError, ImageManager, PrefetchStatus
from imagecache.testing import ImageServer


async def test_everybody_who_waits_for_the_url_is_told_and_the_connection_is_closed(
    server: ImageServer, images: ImageManager
) -> None:
    url, other = server.add("/a.png"), server.add("/b.png")
    gate = server.hold_body("/a.png")
    calls = [
        asyncio.create_task(images.fetch_image(url)),
        asyncio.create_task(images.fetch_image(url + "#part")),
        asyncio.create_task(images.fetch(url, force_refresh=True)),
        asyncio.create_task(images.fetch_response(url)),
    ]
    await gate.arrived(2)
    images.cancel(url)
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [DownloadCancelledError] * 4
    assert len({id(error) for error in errors}) == 4
    await server.wait_for_disconnect("/a.png")
    await images._flights.idle()
    assert images.downloader.active == 0
    assert (await images.fetch_image(other)).size


async def test_asked_for_again_at_once_it_is_fetched_anew(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    first = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    images.cancel(url)
    second = asyncio.create_task(images.fetch_image(url))
    with pytest.raises(DownloadCancelledError, match="was cancelled") as caught:
        await first
    assert caught.value.url == url
    await gate.arrived(2)
    gate.open()
    assert (await second).size
    assert server.count() == 2


async def test_a_call_that_has_not_come_to_the_network_yet_ends_as_well(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    call = asyncio.create_task(images.fetch_image(url))
    await asyncio.sleep(0)
    images.cancel_all()
    with pytest.raises(DownloadCancelledError):
        await call
    assert server.count() == 0


async def test_cancelling_all_ends_what_a_prefetch_has_under_way_and_the_rest_goes_on(
    server: ImageServer, images: ImageManager
) -> None:
    urls = [server.add(f"/{n}.png") for n in range(3)]
    gate = server.hold("/0.png")
    prefetch = images.prefetch(urls, concurrency=1)
    report = asyncio.ensure_future(prefetch)
    await gate.arrived(1)
    images.cancel_all()
    outcomes = (await report).outcomes
    assert [outcome.status for outcome in outcomes] == [PrefetchStatus.FAILED, *[PrefetchStatus.STORED] * 2]
    assert isinstance(outcomes[0].error, DownloadCancelledError)
    assert outcomes[0].error.url == urls[0]


async def test_what_has_come_already_is_still_made_into_an_image(server: ImageServer, images: ImageManager) -> None:
    started, gate = threading.Event(), threading.Event()

    def hold(image: Image.Image) -> Image.Image:
        started.set()
        gate.wait(30)
        return image

    call = asyncio.create_task(images.fetch_image(server.add("/a.png"), processors=[Custom("hold", hold)]))
    await asyncio.to_thread(started.wait, 30)
    images.cancel_all()
    gate.set()
    assert (await call).size
