"""What a memory hit does without: tasks, locks, threads; and a plain one without a parsed URL and a hash, too."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from imagecache import CachePolicy, ImageManager, NotInCacheError, Priority, Resize
from imagecache.pipeline.cached import CachedImage
from imagecache.pipeline.parts import memory_key, memory_key_of_call
from imagecache.request import FetchOptions
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
    # The collector, when it happens to come, calls whoever asked to hear of it.
    gc.disable()
    try:
        with Calls() as calls, suppress(StopIteration):
            coroutine.send(None)
            raise AssertionError("it waited for something")
    finally:
        gc.enable()
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


OPTIONS: dict[str, FetchOptions] = {
    "nothing": {},
    "what the usual is": {
        "mode": "auto",
        "processors": (),
        "force_refresh": False,
        "timeout": 5,
        "priority": Priority.HIGH,
    },
    "processors": {"processors": [Resize(8, 8), Resize(4, 4)]},
    "a tuple of them": {"processors": (Resize(8, 8),)},
    "mode": {"mode": "L"},
    "the file's own mode": {"mode": None},
    "policy": {"policy": CachePolicy.CACHE_ONLY},
    "all of these": {"processors": [Resize(8, 8)], "mode": "RGBA", "timeout": None, "progress": print},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_what_is_looked_for_before_a_request_is_made_is_where_the_request_would_keep_it(
    server: ImageServer, images: ImageManager, options: FetchOptions
) -> None:
    url = server.add("/a.png")
    assert memory_key_of_call(url, options) == memory_key(images._request(url, options))
    await images.fetch_image(url)
    await images.fetch_image(url, **options)
    calls = calls_of(images.fetch_image(url, **options))
    assert calls.of(*WAITS, *IDENTITY, *COPIES) == []


class Nameless:
    """No image processor: it has no identifier."""

    def process(self, image: object) -> object:
        return image


WRONG: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "no list": ({"processors": 5}, TypeError),
    "a text": ({"processors": "Resize"}, TypeError),
    "a class": ({"processors": [Resize]}, TypeError),
    "no processor": ({"processors": [Nameless()]}, TypeError),
    "mode": ({"mode": "XYZ"}, ValueError),
    "an unhashable mode": ({"mode": []}, (TypeError, ValueError)),  # type: ignore[dict-item]  # either tells it
    "policy": ({"policy": "cache-only"}, TypeError),
    "timeout": ({"timeout": -1}, ValueError),
    "a timeout that is none": ({"timeout": True}, TypeError),
    "priority": ({"priority": 7}, ValueError),
    "a contradiction": ({"force_refresh": True, "policy": CachePolicy.CACHE_ONLY}, ValueError),
    "an option that there is not": ({"colour": 1}, TypeError),
}


@pytest.mark.parametrize(("options", "error"), WRONG.values(), ids=WRONG)
async def test_a_wrong_option_is_told_at_the_call_though_the_image_is_in_memory(
    server: ImageServer, images: ImageManager, options: dict[str, Any], error: type[Exception]
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    with pytest.raises(error):
        await images.fetch_image(url, **options)


async def test_processors_may_come_from_an_iterator(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    for _ in range(2):
        image = await images.fetch_image(url, processors=(p for p in [Resize(8, 8)]))  # type: ignore[arg-type]  # taken, too
        assert image.size == (8, 8)


async def test_a_users_own_url_is_never_found_among_everybodys(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    theirs = url.replace("http://", "http://user:secret@")
    await images.fetch_image(theirs, mode="L")
    server.reset()
    await images.fetch_image(url, mode="L")
    assert server.count() == 1


async def test_a_miss_is_counted_once(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    for number, options in enumerate(OPTIONS.values()):
        images.cache.memory.misses = 0
        if options.get("policy") is None:
            await images.fetch_image(f"{url}?{number}", **options)
        else:
            with pytest.raises(NotInCacheError):
                await images.fetch_image(f"{url}?{number}", **options)
        assert images.cache.memory.misses == 1
