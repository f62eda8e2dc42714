"""Which conditions go out with a question, and what its answer makes of all that was made of the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from imagecache import (
    Blur,
    CachePolicy,
    DownloadRequest,
    FormatCacheSerializer,
    ImageManager,
    ImageProcessor,
    Resize,
    ServedFrom,
)
from imagecache.imaging.view import share_pixels
from imagecache.testing import Answer, ImageServer, picture

Fetch = Callable[[ImageManager, str], Awaitable[Any]]

WAYS: dict[str, Fetch] = {
    "image": lambda images, url: images.fetch_image(url, force_refresh=True),
    "result": lambda images, url: images.fetch(url, force_refresh=True),
    "processed": lambda images, url: images.fetch_image(url, processors=[Resize(8, 8)], force_refresh=True),
    "data": lambda images, url: images.fetch_data(url, force_refresh=True),
    "encoded": lambda images, url: images.fetch_data(url, format="WEBP", force_refresh=True),
    "file": lambda images, url: images.fetch_file(url, force_refresh=True),
    "prefetch": lambda images, url: images.prefetch([url], force_refresh=True)._run(),
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def ask(request: pytest.FixtureRequest) -> Fetch:
    way: Fetch = request.param
    return way


def conditions(server: ImageServer) -> set[str]:
    return {name.lower() for name in server.requests[-1].headers if name.lower().startswith("if-")}


async def test_whatever_is_asked_for_both_validators_go_out_and_a_304_brings_no_bytes(
    server: ImageServer, images: ImageManager, ask: Fetch
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    server.reset()
    await ask(images, url)
    assert conditions(server) == {"if-none-match", "if-modified-since"}
    assert [request.status for request in server.requests] == [304]
    assert server.bytes_sent == 0


async def test_without_an_etag_the_date_alone_asks(server: ImageServer, images: ImageManager, ask: Fetch) -> None:
    url = server.add("/a.png", etag=False)
    await images.fetch_image(url)
    await ask(images, url)
    assert conditions(server) == {"if-modified-since"}
    assert server.requests[-1].status == 304


async def test_without_a_date_the_etag_alone_asks(server: ImageServer, images: ImageManager, ask: Fetch) -> None:
    url = server.add("/a.png", last_modified=False)
    await images.fetch_image(url)
    await ask(images, url)
    assert conditions(server) == {"if-none-match"}
    assert server.requests[-1].status == 304


async def test_without_either_nothing_is_asked_and_all_is_sent_again(
    server: ImageServer, images: ImageManager, ask: Fetch
) -> None:
    url = server.add("/a.png", etag=False, last_modified=False)
    await images.fetch_image(url)
    await ask(images, url)
    assert conditions(server) == set()
    assert [request.status for request in server.requests] == [200, 200]


@pytest.mark.parametrize("way", WAYS)
async def test_bytes_that_vanish_before_their_304_cost_exactly_one_plain_get(
    server: ImageServer, images: ImageManager, way: str
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    server.reset()
    gate = server.hold("/a.png")
    call = asyncio.ensure_future(WAYS[way](images, url))
    await gate.arrived(1)
    await images.clear()
    gate.open()
    await call
    assert [request.status for request in server.requests] == [304, 200]
    assert conditions(server) == set()
    # And they are there again.
    assert await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY) == server.body("/a.png")


async def test_a_modifiers_validator_goes_before_ours(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag='"v1"')
    before = await images.fetch_image(url)

    def add(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"If-None-Match": '"mine", "v1"'})

    with images.add_request_modifier(add):
        result = await images.fetch(url, force_refresh=True)
    assert server.requests[-1].headers["if-none-match"] == '"mine", "v1"'
    assert (result.revalidated, result.served_from) == (True, ServedFrom.MEMORY)
    assert share_pixels(result.image, before)


async def test_a_304_to_a_modifiers_validator_without_anything_stored_is_one_plain_get(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", etag='"v1"')
    images.add_request_modifier(lambda request: request.with_headers({"If-None-Match": '"v1"'}))
    assert (await images.fetch(url)).served_from is ServedFrom.NETWORK
    assert [request.status for request in server.requests] == [304, 200]
    assert conditions(server) == set()


async def test_other_bytes_replace_what_is_kept_of_the_old_ones_in_every_form_and_tier(
    server: ImageServer, tmp_path: Path
) -> None:
    steps: list[ImageProcessor] = [Resize(8, 8), Blur(1)]

    async def forms(images: ImageManager, url: str) -> list[bytes]:
        return [
            (await images.fetch_image(url)).tobytes(),
            (await images.fetch_image(url, mode="L")).tobytes(),
            (await images.fetch_image(url, processors=steps)).tobytes(),
            (await images.fetch_image(url, processors=steps[:1])).tobytes(),
            await images.fetch_data(url, format="WEBP"),
            await images.fetch_data(url, processors=steps),
            (await images.fetch_file(url)).read_bytes(),
            (await images.fetch_file(url, format="JPEG")).read_bytes(),
            await (await images.fetch(url)).data(),
        ]

    async with ImageManager(directory=tmp_path, serializer=FormatCacheSerializer("PNG")) as images:
        url = server.add("/a.png", picture(40, 30, seed=1))
        old = await forms(images, url)
        server.replace("/a.png", picture(40, 30, seed=2))
        assert (await images.fetch(url, force_refresh=True)).changed
        new = await forms(images, url)
        assert not set(old) & set(new)
        images.clear_memory()
        decodes, encodes = images.counters.decodes, images.counters.encodes
        assert await forms(images, url) == new
        # The two decoded modes; what was processed and encoded comes from the disk.
        assert images.counters.encodes == encodes
        assert images.counters.decodes <= decodes + 2
    async with ImageManager(directory=tmp_path, serializer=FormatCacheSerializer("PNG")) as images:
        assert await forms(images, url) == new
        assert images.counters.encodes == 0
    assert server.count() == 2


async def test_the_same_bytes_under_another_etag_leave_every_form_in_its_place(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", etag='"node-1"')
    steps: list[ImageProcessor] = [Resize(8, 8)]
    await images.fetch_image(url)
    await images.fetch_image(url, processors=steps)
    await images.fetch_data(url, processors=steps, format="WEBP")
    server.always("/a.png", Answer(etag='"node-2"', headers={"X-Node": "2"}, ignores_conditions=True))
    for policy in (CachePolicy.REVALIDATE, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END):
        result = await images.fetch(url, policy=policy)
        assert (result.changed, result.etag, result.headers["x-node"]) == (False, '"node-2"', "2")
    # What memory says of it is the new metadata, too.
    again = await images.fetch(url, processors=steps)
    assert (again.served_from, again.etag) == (ServedFrom.MEMORY, '"node-2"')
    await images.fetch_data(url, processors=steps, format="WEBP")
    counters = images.counters
    assert (counters.decodes, counters.processes, counters.encodes) == (1, 1, 1)
    await images.cache.disk.flush()
    assert await images.cache.disk.count() == 2
    assert await images.etags.get(url) == '"node-2"'


@pytest.mark.parametrize("policy", [policy for policy in CachePolicy if policy is not CachePolicy.REVALIDATE])
async def test_force_refresh_contradicts_every_other_policy_in_every_call(
    server: ImageServer, images: ImageManager, policy: CachePolicy
) -> None:
    url = server.add("/a.png")
    for fetch in (images.fetch_image, images.fetch, images.fetch_data, images.fetch_file):
        with pytest.raises(ValueError, match="contradicts"):
            await fetch(url, force_refresh=True, policy=policy)
    assert server.count() == 0
