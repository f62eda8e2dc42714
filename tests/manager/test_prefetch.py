"""Many images onto the disk, and what is told of each."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from imagecache import ImageManager, InvalidURLError, PrefetchStatus, ServedFrom
from imagecache.pipeline.prefetcher import WRITTEN_BEHIND
from imagecache.testing import Answer, ImageServer, picture, picture_set


async def test_all_new_ones_are_stored_and_none_is_decoded(server: ImageServer, images: ImageManager) -> None:
    urls = server.add_all(picture_set(20, seed=1))
    report = await images.prefetch(urls)
    assert report.is_complete
    assert report.count(PrefetchStatus.STORED) == len(report) == 20
    assert report.bytes_received == server.bytes_sent
    assert images.counters.decodes == 0
    assert {(await images.fetch(url)).served_from for url in urls} == {ServedFrom.DISK}
    assert server.count() == 20
    assert "20 stored" in str(report)


async def test_it_fetches_on_while_its_images_are_written(server: ImageServer, tmp_path: Path) -> None:
    """It waited for the commit of each image, and so fetched no faster than the disk was asked to write."""
    urls = [server.add(f"/{n}.png", picture(20, 20, seed=n)) for n in range(20)]
    async with ImageManager(directory=tmp_path) as images:
        await images.fetch_data(server.add("/first.png"))
        await images.cache.flush()
        (index,) = tmp_path.rglob("index-*.sqlite")
        server.reset()
        with closing(sqlite3.connect(index, isolation_level=None)) as other:
            # As another process would: nothing can be committed.
            other.execute("BEGIN IMMEDIATE")
            job = images.prefetch(urls, concurrency=1)
            running = asyncio.ensure_future(_report(job))
            await server.wait_for_requests(WRITTEN_BEHIND + 1)
            # It can be read, and yet none of it is told as stored before it is.
            assert await images.cache.disk.contains(images.cache.hash_of(urls[0]))
            assert len(job.report) == 0
            other.execute("ROLLBACK")
        await running
    assert [outcome.url for outcome in job.report] == urls
    assert job.report.count(PrefetchStatus.STORED) == len(urls)


async def test_each_outcome_tells_what_became_of_it(server: ImageServer, images: ImageManager) -> None:
    there, new, changed, same = (server.add(f"/{name}.png") for name in ("there", "new", "changed", "same"))
    secret = server.add("/secret.png", headers={"Cache-Control": "no-store"})
    missing = server.url("/missing.png")
    await images.prefetch([there, changed, same])
    report = await images.prefetch([there, new, secret, missing, "nonsense"])
    told = {outcome.url: outcome for outcome in report}
    assert told[there].status is PrefetchStatus.ALREADY_THERE
    assert told[new].status is PrefetchStatus.STORED
    assert told[secret].status is PrefetchStatus.NOT_STORED
    assert "forbids" in told[secret].reason
    assert told[missing].status is told["nonsense"].status is PrefetchStatus.FAILED
    assert isinstance(told["nonsense"].error, InvalidURLError)
    assert not report.is_complete
    assert len(report.failed) == 2
    server.replace("/changed.png")
    report = await images.prefetch([changed, same], force_refresh=True)
    assert {outcome.url: outcome.status for outcome in report} == {
        changed: PrefetchStatus.STORED,
        same: PrefetchStatus.UNCHANGED,
    }


async def test_no_more_run_at_a_time_than_asked(server: ImageServer, images: ImageManager) -> None:
    urls = server.add_all(picture_set(12, seed=2))
    await images.prefetch(urls, concurrency=3)
    assert server.peak_in_flight <= 3


async def test_urls_are_taken_as_there_is_room(server: ImageServer, images: ImageManager) -> None:
    urls = server.add_all(picture_set(12, seed=3))
    gates = [server.hold(url) for url in urls]
    taken: list[str] = []

    def source() -> Iterator[str]:
        for url in urls:
            taken.append(url)
            yield url

    job = images.prefetch(source(), concurrency=2)
    running = asyncio.ensure_future(_report(job))
    await gates[1].arrived(1)
    assert len(taken) == 2
    for gate in gates:
        gate.open()
    await running
    assert len(job.report) == 12


async def _report(job: object) -> object:
    return await job  # type: ignore[misc]  # an ImagePrefetcher, which is awaitable


async def test_async_iterables_duplicates_and_empty_lists_are_fine(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")

    async def source() -> AsyncIterator[str]:
        for _ in range(3):
            yield url

    report = await images.prefetch(source(), concurrency=1)
    assert [o.status for o in report] == [PrefetchStatus.STORED, *[PrefetchStatus.ALREADY_THERE] * 2]
    assert len(await images.prefetch([])) == 0


@pytest.mark.parametrize("urls", ["http://a.example/", None, 3])
def test_what_is_no_list_of_urls_is_told_at_the_call(tmp_path: Path, urls: object) -> None:
    with pytest.raises(TypeError):
        ImageManager(directory=tmp_path).prefetch(urls)  # type: ignore[arg-type]  # wrong on purpose


async def test_a_prefetch_stops_at_the_limit_and_never_evicts_what_it_stored(
    server: ImageServer, tmp_path: Path
) -> None:
    old = server.add("/old.png", picture(200, 150, seed=100))
    urls = [server.add(f"/{n}.png", picture(200, 150, seed=n)) for n in range(40)]
    async with ImageManager(directory=tmp_path, disk_limit=600_000) as images:
        await images.fetch_data(old)
        report = await images.prefetch(urls, concurrency=2)
        assert report.limit_reached
        assert not report.is_complete
        stored = [o.url for o in report if o.status is PrefetchStatus.STORED]
        assert 2 < len(stored) < 40
        assert await images.cache.disk.size() <= 600_000
        again = await images.prefetch(stored)
        assert again.count(PrefetchStatus.ALREADY_THERE) == len(stored)


async def test_at_the_limit_nobody_waits_for_another_url(server: ImageServer, tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[str]:
        for number in range(20):
            yield server.add(f"/{number}.png", picture(200, 150, seed=number))
        await asyncio.Event().wait()

    async with ImageManager(directory=tmp_path, disk_limit=400_000) as images:
        report = await asyncio.wait_for(images.prefetch(endless(), concurrency=2), 30)
        assert report.limit_reached


async def test_a_cancelled_prefetch_tells_what_was_done_and_keeps_it(server: ImageServer, images: ImageManager) -> None:
    urls = server.add_all(picture_set(6, seed=4))
    gate = server.hold(urls[3])
    job = images.prefetch(urls, concurrency=1)
    running = asyncio.ensure_future(_report(job))
    await gate.arrived(1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await server.wait_for_disconnect(urls[3])
    assert [o.status for o in job.report] == [PrefetchStatus.STORED] * 3
    assert (await images.prefetch(urls[:3])).count(PrefetchStatus.ALREADY_THERE) == 3


async def test_leaving_the_loop_stops_the_rest(server: ImageServer, images: ImageManager) -> None:
    urls = server.add_all(picture_set(6, seed=5))
    job = images.prefetch(urls, concurrency=1)
    outcomes = aiter(job)
    assert (await anext(outcomes)).status is PrefetchStatus.STORED
    await outcomes.aclose()  # type: ignore[attr-defined]  # an async generator
    assert len(job.report) < 6
    with pytest.raises(RuntimeError, match="runs once"):
        await _report(job)


async def test_what_the_iterable_raises_reaches_the_caller(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")

    def source() -> Iterator[str]:
        yield url
        raise LookupError("the list ends badly")

    with pytest.raises(LookupError, match="ends badly"):
        await images.prefetch(source())


async def test_a_failed_transfer_is_not_reported_as_stored(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    server.always("/a.png", Answer(cut_at=20))
    report = await images.prefetch([url])
    assert report.count(PrefetchStatus.FAILED) == 1


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_what_is_no_url_is_an_outcome_like_any_other(
    server: ImageServer, images: ImageManager, concurrency: int
) -> None:
    urls: list[str | None] = [server.add(f"/{n}.png") for n in range(4)]
    urls.insert(1, None)
    report = await images.prefetch(urls, concurrency=concurrency)  # type: ignore[arg-type]
    assert report.count(PrefetchStatus.STORED) == 4
    (failed,) = report.failed
    assert isinstance(failed.error, InvalidURLError)
    assert not report.is_complete


@pytest.mark.parametrize("concurrency", [0, 10**6])
async def test_a_concurrency_that_makes_no_sense_is_told_at_the_call(images: ImageManager, concurrency: int) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        images.prefetch([], concurrency=concurrency)
