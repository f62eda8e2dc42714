"""What a memory hit does without: tasks, locks, threads; and a plain one without a parsed URL and a hash, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from imagecache import CachePolicy, ImageManager, Resize
from imagecache.pipeline.cached import CachedImage
from imagecache.testing import ImageServer

WAITS = ("asyncio.", "_asyncio.", "threading.", "_thread.", "concurrent.", "queue.", "_queue.", "sqlite3.", "lock.")
IDENTITY = ("urllib.", "yarl.", "hashlib.", "_hashlib.", "hmac.", "HASH.", "imagecache.keys.")
PARSES = ("urllib.", "yarl.")
COPIES = ("ImagingCore.", "imagecache.imaging.view.ImageView._unshare")


class Calls:
    """The functions, Python's and C's, that run while this is entered."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self.names.append(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}")
        elif event == "c_call":
            # A method of C's has no module, but the object that it belongs to.
            self.names.append(f"{argument.__module__ or type(argument.__self__).__name__}.{argument.__name__}")

    def of(self, *prefixes: str) -> list[str]:
        return [name for name in self.names if name.startswith(prefixes)]


def calls_of(coroutine: Coroutine[Any, Any, Any]) -> Calls:
    """Run a coroutine, which must not suspend, and tell what it called."""
    with Calls() as calls, suppress(StopIteration):
        coroutine.send(None)
        raise AssertionError("it waited for something")
    assert calls.names
    return calls


async def test_a_plain_hit_parses_and_hashes_nothing_either(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    for _ in range(2):
        calls = calls_of(images.fetch_image(url))
        assert calls.of(*WAITS, *IDENTITY, *COPIES) == []
        assert len(calls.names) < 25, "each costs as much as handing out an image"
        assert calls_of(images.fetch(url)).of(*WAITS, *PARSES, *COPIES) == []


async def test_a_plain_hit_calls_as_much_among_few_as_among_many(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    memory = images.cache.memory
    image = memory.get(url)
    assert image is not None
    calls = []
    for count in (10, 10_000):
        for number in range(len(memory), count):
            key = f"{url}?{number}"
            assert memory.store(key, CachedImage(key, image.pixels, image.entry), cost=image.pixels.cost)
        # The most recently used, the least, and one between them.
        calls += [calls_of(images.fetch_image(f"{url}?{number}")).names for number in (count - 1, 1, count // 2)]
    assert len(memory) == 10_000
    assert all(names == calls[0] for names in calls)


HITS: dict[str, Callable[[ImageManager, str], Coroutine[Any, Any, Any]]] = {
    "result": lambda images, url: images.fetch(url),
    "policy": lambda images, url: images.fetch_image(url, policy=CachePolicy.CACHE_ONLY),
    "protocol": lambda images, url: images.fetch_image(url, policy=CachePolicy.PROTOCOL),
    "processors": lambda images, url: images.fetch_image(url, processors=[Resize(8, 8)]),
    "partition": lambda images, url: images.fetch_image(url, partition="alice"),
    "headers": lambda images, url: images.fetch_image(url, headers={"Accept-Language": "de"}),
    "key": lambda images, url: images.fetch_image(url, cache_key="mine"),
    "mode": lambda images, url: images.fetch_image(url, mode="L"),
}


@pytest.mark.parametrize("hit", HITS.values(), ids=HITS)
async def test_no_hit_of_any_kind_waits_for_anything(
    server: ImageServer, images: ImageManager, hit: Callable[[ImageManager, str], Coroutine[Any, Any, Any]]
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=600"})
    await images.fetch_image(url)
    await hit(images, url)
    server.reset()
    calls = calls_of(hit(images, url))
    assert calls.of(*WAITS, *PARSES, *COPIES) == []
    assert server.count() == 0
