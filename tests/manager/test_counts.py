"""What a fetch costs, in things that can be counted: requests, decodes, turns of threads, copies, bytes written.

Seconds are another matter, and no test's: `make bench`. What is counted here holds on any machine, and is what the
seconds are made of; a change that needs more of it says so by changing a number in this file.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagecache import ImageManager
from imagecache.keys import hash_for_key
from imagecache.pipeline import workers
from imagecache.pipeline.early import SMALL_BODY
from imagecache.storage.absence import FEWEST
from imagecache.storage.rows import number_of
from imagecache.storage.sightings import PLACES
from imagecache.testing import ImageServer, picture

MANY = 50
FIRST = "/first.jpg"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts, from now on: pieces of work for the workers' threads and their turns, jobs for executors (by their
    threads' name), how often a thread tells the loop of something, copies."""
    told: Counter[str] = Counter()
    put, submit = workers._Threads.put, ThreadPoolExecutor.submit
    tell = asyncio.BaseEventLoop.call_soon_threadsafe

    def counted_put(self: workers._Threads, together: list[workers._Work]) -> None:
        told["turns"] += 1
        told["workers"] += len(together)
        put(self, together)

    def counted_tell(self: asyncio.BaseEventLoop, *args: Any, **options: Any) -> asyncio.Handle:
        told["told"] += 1
        return tell(self, *args, **options)

    def counted_submit(self: ThreadPoolExecutor, function: Any, /, *args: Any, **options: Any) -> Any:
        told[str(self._thread_name_prefix).removeprefix("imagecache-")] += 1
        return submit(self, function, *args, **options)

    monkeypatch.setattr(workers._Threads, "put", counted_put)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted_submit)
    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", counted_tell)
    for name in ("copy", "convert"):
        method = getattr(Image.Image, name)

        def counted(self: Image.Image, *args: Any, _method: Any = method, **options: Any) -> Any:
            told["copies"] += 1
            return _method(self, *args, **options)

        monkeypatch.setattr(Image.Image, name, counted)
    return told


@pytest.fixture
def urls(server: ImageServer) -> list[str]:
    """Fifty small photographs, of which no two share a place in a table of what is known of keys: that costs a look,
    and the server's port, which is another one each time, is in the hashes."""
    taken = {place_of(f"{server.origin}{FIRST}")}
    chosen = []
    for number in range(MANY):
        url = server.add(f"/{number}.jpg", picture(120, 90, seed=number, format="JPEG"))
        free = next(other for other in (url, *(f"{url}?{n}" for n in range(MANY))) if place_of(other) not in taken)
        taken.add(place_of(free))
        chosen.append(free)
    return chosen


def place_of(url: str) -> int:
    return number_of(hash_for_key(url)) % min(PLACES, FEWEST)


@pytest.fixture(autouse=True)
def one_look_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr("imagecache.storage.leases.COMPANY_SECONDS", 3600.0)


async def ready(images: ImageManager, server: ImageServer, counts: Counter[str]) -> None:
    """Open the folder and a connection, so that what is counted is an image's own."""
    await images.fetch_image(server.add(FIRST, picture(8, 8, format="JPEG")))
    await images.cache.flush()
    server.reset()
    counts.clear()


async def test_a_cold_image_is_a_request_a_decode_a_turn_of_a_worker_and_no_look(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    await ready(images, server, counts)
    for url in urls:
        await images.fetch_image(url)
    assert server.count() == MANY
    assert images.counters.decodes == MANY + 1
    assert counts["workers"] == counts["turns"] == MANY
    # The folder was new, and nobody else shares it: what is not there is known.
    assert counts["reader"] == 0
    assert counts["copies"] == 0


async def test_what_is_stored_is_written_once_and_in_few_batches(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    await ready(images, server, counts)
    before = await images.cache.size()
    counts.clear()
    report = await images.prefetch(urls, concurrency=MANY)
    assert report.is_complete
    # The lookers at who else shares the folder are its jobs, too.
    assert counts["writer"] <= MANY // 2
    assert await images.cache.size() - before == sum(len(server.body(f"/{n}.jpg")) for n in range(MANY))


async def test_a_prefetched_image_is_a_request_and_no_decode(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    await ready(images, server, counts)
    await images.prefetch(urls, concurrency=10)
    assert server.count() == MANY
    assert images.counters.decodes == 1
    assert counts["workers"] == MANY
    assert counts["reader"] == 0
    assert counts["copies"] == 0


async def test_while_others_wait_for_a_connection_prefetched_images_go_to_a_worker_together(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr(workers, "LONGEST_WAIT", 3600.0)
    await ready(images, server, counts)
    await images.prefetch(urls, concurrency=MANY)
    assert counts["workers"] == MANY
    # One by one once nobody waits: the last six have a connection.
    assert counts["turns"] <= MANY // workers.TOGETHER + 10


async def test_but_none_waits_for_the_others_if_they_take_their_time(
    server: ImageServer, images: ImageManager, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LONGEST_WAIT", 3600.0)
    await ready(images, server, counts)
    noise = io.BytesIO()
    Image.effect_noise((400, 300), 100).save(noise, "PNG")
    assert len(noise.getvalue()) > SMALL_BODY
    await images.prefetch([server.add(f"/{number}.png", noise.getvalue()) for number in range(20)], concurrency=20)
    assert counts["workers"] == counts["turns"] == 20


async def test_an_image_from_disk_is_a_look_and_a_decode_and_no_request(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    await images.prefetch(urls)
    await ready(images, server, counts)
    for url in urls:
        await images.fetch_image(url)
    assert server.count() == 0
    assert counts["workers"] == MANY
    # Fewer where a reader that is not asleep yet takes the next one.
    assert counts["reader"] <= MANY
    # From the one that read it to the one that decoded it, and then to the loop.
    assert counts["told"] == MANY
    assert images.counters.decodes == MANY + 1
    assert counts["copies"] == 0


async def test_an_image_in_memory_costs_nothing_that_can_be_counted(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    await images.fetch_image(urls[0])
    await ready(images, server, counts)
    for _ in range(MANY):
        await images.fetch_image(urls[0])
    assert server.count() == 0
    assert not +counts


async def test_a_304_is_a_request_and_a_look_and_neither_bytes_nor_pixels(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str]
) -> None:
    for url in urls:
        await images.fetch_image(url)
    await ready(images, server, counts)
    size, decodes = await images.cache.size(), images.counters.decodes
    counts.clear()
    for url in urls:
        await images.fetch_image(url, force_refresh=True)
    assert (server.count(), server.bytes_sent) == (MANY, 0)
    assert images.counters.decodes == decodes
    assert counts["reader"] <= MANY
    assert counts["workers"] == counts["copies"] == 0
    assert await images.cache.size() == size


async def test_a_304_for_an_image_in_memory_needs_no_look_where_nobody_else_shares_the_folder(
    server: ImageServer, images: ImageManager, urls: list[str], counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.storage.leases.JUST_NOW", 3600.0)
    # Whatever comes while the folder is being opened has to be looked at once more.
    await ready(images, server, counts)
    for url in urls:
        await images.fetch_image(url)
    await images.cache.flush()
    server.reset()
    counts.clear()
    for _ in range(2):
        for url in urls:
            await images.fetch_image(url, force_refresh=True)
    await images.cache.flush()
    assert (server.count(), server.bytes_sent) == (2 * MANY, 0)
    assert counts["reader"] == counts["workers"] == counts["copies"] == 0


async def test_nor_does_one_for_an_image_that_came_from_disk(
    server: ImageServer, tmp_path: Path, urls: list[str], counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.storage.leases.JUST_NOW", 3600.0)
    async with ImageManager(directory=tmp_path / "again") as before:
        await before.prefetch(urls)
    async with ImageManager(directory=tmp_path / "again") as images:
        await ready(images, server, counts)
        for url in urls:
            await images.fetch_image(url)
        server.reset()
        counts.clear()
        for url in urls:
            await images.fetch_image(url, force_refresh=True)
        assert (server.count(), server.bytes_sent) == (MANY, 0)
        assert counts["reader"] == 0


async def test_a_batch_of_look_ups_takes_fewer_turns_than_there_are(
    server: ImageServer, tmp_path: Path, urls: list[str], counts: Counter[str]
) -> None:
    async with ImageManager(directory=tmp_path / "batch") as images:
        await images.prefetch(urls)
        await ready(images, server, counts)
        report = await images.prefetch(urls, concurrency=MANY)
        assert report.is_complete
        assert server.count() == 0
        assert counts["reader"] < MANY
