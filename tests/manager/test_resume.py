"""A download that was interrupted goes on where it was, over calls, managers and crashes, or not at all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from imagecache import (
    BackoffRetryStrategy,
    CachePolicy,
    DecodeError,
    ImageManager,
    ImageResult,
    NetworkError,
    NotInCacheError,
    ServedFrom,
    TimedOutError,
    hash_for_key,
)
from imagecache.entry import Entry
from imagecache.pipeline import partial
from imagecache.pipeline.partial import KEPT_FOR
from imagecache.testing import Answer, FakeClock, ImageServer, LoggedRequest, picture

SIZE = (400, 300)
LARGE, OTHER = (picture(*SIZE, seed=seed, compress_level=0) for seed in (1, 2))
CUT = 200_000
ONCE = BackoffRetryStrategy(1)


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with manager(tmp_path) as one:
        yield one


def manager(folder: Path, **options: Any) -> ImageManager:
    return ImageManager(directory=folder, retry=ONCE, **options)


def asked(server: ImageServer) -> list[tuple[str | None, str | None, int]]:
    """Range, If-Range and status of each request."""
    return [(r.headers.get("range"), r.headers.get("if-range"), r.status) for r in server.requests]


async def rows(images: ImageManager, url: str) -> list[Entry]:
    """What lies on disk for a URL, once all that is under way behind has ended."""
    await images._flights.idle()
    await images._loader.drain()
    await images.cache.flush()
    return await images.cache.disk.rows(hash_for_key(url))


async def cut(images: ImageManager, server: ImageServer, url: str, at: int = CUT, **options: Any) -> None:
    """Let a fetch break off."""
    server.script(url.removeprefix(server.origin), Answer(cut_at=at))
    with pytest.raises(NetworkError):
        await images.fetch_image(url, **options)


async def whole(images: ImageManager, url: str, body: bytes = LARGE, **options: Any) -> ImageResult:
    """Fetch, and see that it is the image, stored as one entry with nothing beside it."""
    result = await images.fetch(url, **options)
    assert await images.fetch_data(url, **options) == body
    (entry,) = await rows(images, url)
    assert (entry.row.namespace, entry.status, entry.byte_count) == ("image", 200, len(body))
    assert "content-range" not in entry.headers
    return result


# Interruptions


@asynccontextmanager
async def interrupted(server: ImageServer, images: ImageManager, url: str, **options: Any) -> AsyncIterator[Any]:
    """A fetch whose body has come half way and is held there."""
    has_come = asyncio.Event()

    def progress(received: int, _: int | None) -> None:
        if received == CUT:
            has_come.set()

    path = url.removeprefix(server.origin)
    gate = server.hold_body(path, at=CUT)
    task = asyncio.create_task(images.fetch_image(url, progress=progress, **options))
    await has_come.wait()
    yield task
    server.always(path, None)
    gate.open()


async def test_after_an_error_the_next_call_goes_on(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    result = await whole(images, url)
    assert asked(server) == [(None, None, 200), (f"bytes={CUT}-", server.etag("/a.png"), 206)]
    assert (result.image.size, result.served_from) == (SIZE, ServedFrom.NETWORK)
    assert (result.metrics.tries, result.metrics.bytes_received) == (1, len(LARGE) - CUT)
    assert images.counters.bytes_received == len(LARGE) - CUT


async def test_after_the_last_caller_was_cancelled_the_next_one_goes_on(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", LARGE)
    async with interrupted(server, images, url) as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rows(images, url)
    await whole(images, url)
    assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


async def test_after_the_total_timeout_the_next_call_goes_on(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with manager(tmp_path, clock=clock) as images:
        url = server.add("/a.png", LARGE)
        async with interrupted(server, images, url, timeout=5.0) as task:
            clock.advance(5.0)
            with pytest.raises(TimedOutError):
                await task
            await rows(images, url)
        await whole(images, url)
        assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


async def test_after_closing_another_manager_on_the_folder_goes_on(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", LARGE)
    async with manager(tmp_path) as before, interrupted(server, before, url) as task:
        await before.aclose()
        with pytest.raises(Exception, match="closed"):
            await task
    async with manager(tmp_path) as images:
        await whole(images, url)
    assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


CHILD = """
import asyncio, sys, imagecache, imagecache.network.part
imagecache.network.part.CHECKPOINT = 0.0
async def main():
    async with imagecache.ImageManager(directory=sys.argv[2]) as images:
        task = asyncio.ensure_future(images.fetch_image(sys.argv[1]))
        while await images.cache.size() < int(sys.argv[3]):
            assert not task.done()
            await asyncio.sleep(0)
        print("kept", flush=True)
        await task
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
async def test_after_a_process_was_killed_the_next_one_goes_on(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", LARGE)
    gate = server.hold_body("/a.png", at=CUT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, url, tmp_path, str(CUT // 2), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"kept\n"
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    server.always("/a.png", None)
    gate.open()
    async with manager(tmp_path) as images:
        await whole(images, url)
    wanted, if_range, status = asked(server)[-1]
    assert wanted is not None
    assert CUT // 2 <= int(wanted.removeprefix("bytes=").removesuffix("-")) <= CUT
    assert (if_range, status) == (server.etag("/a.png"), 206)


async def test_it_is_gone_on_with_as_often_as_it_breaks(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    for _ in range(3):
        await cut(images, server, url, at=90_000)
    await whole(images, url)
    assert [wanted for wanted, _, _ in asked(server)] == [None, "bytes=90000-", "bytes=180000-", "bytes=270000-"]
    assert server.bytes_sent == len(LARGE)


async def test_closing_waits_for_what_is_just_being_kept(server: ImageServer, tmp_path: Path) -> None:
    url = server.add("/a.png", LARGE)
    async with manager(tmp_path) as images:
        await cut(images, server, url)
    async with manager(tmp_path) as images:
        await whole(images, url)
    assert asked(server)[-1][2] == 206


class HeldHash:
    """Holds what is just being kept, in its worker thread."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.entered, self.release, self.calls = threading.Event(), threading.Event(), 0
        self._hash = partial._read_and_hash
        patch.setattr(partial, "_read_and_hash", self)

    def __call__(self, read: Callable[[], bytes]) -> tuple[bytes, str]:
        self.calls += 1
        self.entered.set()
        assert self.release.wait(30)
        return self._hash(read)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldHash:
    return HeldHash(monkeypatch)


async def test_closing_does_not_end_before_what_came_is_kept(
    server: ImageServer, tmp_path: Path, held: HeldHash
) -> None:
    url = server.add("/a.png", LARGE)
    images = manager(tmp_path)
    await cut(images, server, url)
    assert await asyncio.to_thread(held.entered.wait, 30)
    closing = asyncio.create_task(images.aclose())
    done, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not done
    held.release.set()
    await closing
    async with manager(tmp_path) as again:
        await whole(again, url)
    assert asked(server)[-1][2] == 206


async def test_what_came_is_kept_in_its_order_so_that_a_crash_leaves_no_gap(
    server: ImageServer, tmp_path: Path, held: HeldHash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.network.part.CHECKPOINT", 0.0)
    async with manager(tmp_path, decode_threads=4) as images:
        url = server.add("/a.png", LARGE)
        server.always("/a.png", Answer(chunk_size=70_000, chunk_delay=0.01))
        await images.fetch_image(url)
        assert held.calls == 1
        held.release.set()


async def test_what_is_still_being_kept_when_the_whole_has_come_is_not_stored_any_more(
    server: ImageServer, tmp_path: Path, held: HeldHash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagecache.network.part.CHECKPOINT", 0.0)
    async with manager(tmp_path, decode_threads=4) as images:
        url = server.add("/a.png", LARGE)
        await images.fetch_image(url)
        assert held.calls == 1
        held.release.set()
        assert [entry.row.namespace for entry in await rows(images, url)] == ["image"]


async def test_a_retry_of_the_same_call_needs_no_disk(server: ImageServer) -> None:
    async with ImageManager(disk_limit=0, retry=BackoffRetryStrategy(2, base=0)) as images:
        url = server.add("/a.png", LARGE)
        server.script("/a.png", Answer(cut_at=CUT))
        result = await images.fetch(url)
    assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)
    assert (result.metrics.tries, result.metrics.bytes_received) == (2, len(LARGE))


async def test_a_conditional_request_is_gone_on_with_too(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", picture(seed=3))
    await images.fetch_image(url)
    server.replace("/a.png", LARGE)
    await cut(images, server, url, force_refresh=True)
    assert (await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY)).size != SIZE
    await whole(images, url, force_refresh=True)
    assert asked(server)[2] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


async def test_a_304_lets_go_of_what_is_kept(server: ImageServer, images: ImageManager) -> None:
    small = picture(seed=3)
    url = server.add("/a.png", small, etag="old")
    await images.fetch_image(url)
    server.add("/a.png", LARGE)
    await cut(images, server, url, force_refresh=True)
    server.add("/a.png", small, etag="old")
    await whole(images, url, small, force_refresh=True)


# What is not gone on with


@pytest.mark.parametrize(
    "validators",
    [
        {"etag": 'W/"weak"'},
        {"etag": False, "last_modified": False},
        {"etag": 'W/"weak"', "last_modified": True},
        {"headers": {"Accept-Ranges": "none"}},
        {"headers": {"Vary": "*"}},
        {"headers": {"Cache-Control": "no-store"}},
        {"etag": False, "headers": {"Date": "Tue, 14 Nov 2023 23:13:20 GMT"}},
    ],
)
async def test_nothing_is_kept_without_a_strong_validator_or_against_the_servers_word(
    server: ImageServer, images: ImageManager, validators: Any
) -> None:
    url = server.add("/a.png", LARGE, **validators)
    await cut(images, server, url)
    assert await rows(images, url) == []
    assert (await images.fetch_image(url)).size == SIZE
    assert asked(server) == [(None, None, 200)] * 2


async def test_a_request_that_forbids_storing_keeps_nothing(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url, headers={"Cache-Control": "no-store"})
    assert await rows(images, url) == []


async def test_a_strong_last_modified_will_do_where_there_is_no_etag(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE, etag=False)
    await cut(images, server, url)
    await whole(images, url)
    assert asked(server)[-1] == (f"bytes={CUT}-", "Tue, 14 Nov 2023 23:13:20 GMT", 206)


async def test_little_is_not_kept(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url, at=30_000)
    assert await rows(images, url) == []


CHANGES: dict[str, Callable[[ImageServer], object]] = {
    "the image": lambda server: server.replace("/a.png", OTHER),
    "the image, for a shorter one": lambda server: server.replace("/a.png", picture(seed=5)),
    "nothing, but ranges are ignored": lambda server: server.always("/a.png", Answer(ignores_ranges=True)),
    "nothing, but the range is refused": lambda server: server.script("/a.png", Answer(status=416)),
    "nothing, but the Content-Range lies": lambda server: server.script(
        "/a.png", Answer(headers={"Content-Range": f"bytes 0-{len(LARGE) - 1}/{len(LARGE)}"})
    ),
    "nothing, but the parts come in parts": lambda server: server.script(
        "/a.png", Answer(headers={"Content-Type": "multipart/byteranges; boundary=x"})
    ),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_when_something_changed_it_comes_from_the_start_and_is_what_the_server_has_now(
    server: ImageServer, images: ImageManager, what: str
) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    CHANGES[what](server)
    await whole(images, url, server.body("/a.png"))
    assert asked(server)[1][0] == f"bytes={CUT}-"


async def test_a_server_whose_etag_lies_costs_another_request_and_never_a_wrong_image(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", LARGE, etag="the-same")
    await cut(images, server, url)
    server.add("/a.png", OTHER, etag="the-same")
    image = await images.fetch_image(url)
    assert await images.fetch_data(url) == OTHER
    assert image.tobytes() == (await images.fetch_image(url, policy=CachePolicy.RELOAD)).tobytes()
    assert [wanted for wanted, _, _ in asked(server)][:3] == [None, f"bytes={CUT}-", None]


async def test_what_is_no_image_is_asked_for_once_more_and_then_told(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE[:100] + bytes(len(LARGE) - 100))
    await cut(images, server, url)
    with pytest.raises(DecodeError):
        await images.fetch_image(url)
    assert [wanted for wanted, _, _ in asked(server)] == [None, f"bytes={CUT}-", None]
    assert await rows(images, url) == []


@pytest.mark.parametrize("policy", [CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END])
async def test_a_reload_uses_nothing_that_is_kept(
    server: ImageServer, images: ImageManager, policy: CachePolicy
) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    await images.fetch_image(url, policy=policy)
    assert asked(server) == [(None, None, 200)] * 2
    assert [entry.row.namespace for entry in await rows(images, url)] == ["image"]


async def test_a_damaged_beginning_is_not_used(server: ImageServer, images: ImageManager, tmp_path: Path) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    await rows(images, url)
    (path,) = await asyncio.to_thread(lambda: [p for p in tmp_path.glob("*/bodies/*/*") if p.is_file()])
    body = bytearray(path.read_bytes())
    body[100] ^= 1
    path.write_bytes(body)
    await whole(images, url)
    assert asked(server) == [(None, None, 200)] * 2


# Whose it is, and how long it lies there


async def test_no_call_finds_what_is_kept(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    (entry,) = await rows(images, url)
    assert (entry.row.namespace, entry.byte_count) == ("partial", CUT)
    with pytest.raises(NotInCacheError):
        await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY)
    assert await images.cache.get(url) is None
    assert not await images.cache.disk.contains(hash_for_key(url))
    answer = await images.fetch_response(url, headers={"Range": "bytes=0-9"})
    assert (answer.status, answer.body, answer.served_from) == (206, LARGE[:10], ServedFrom.NETWORK)


async def test_an_answer_to_somebodys_range_is_not_gone_on_with(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    answer = await images.fetch_response(url, headers={"Range": f"bytes=0-{CUT - 1}"})
    assert answer.status == 206
    await images.fetch_image(url)
    assert asked(server)[-1] == (None, None, 200)


@pytest.mark.parametrize(
    "own",
    [{"partition": "alice"}, {"headers": {"Authorization": "Bearer alice"}}],
)
async def test_a_private_beginning_stays_with_its_user(server: ImageServer, images: ImageManager, own: Any) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url, **own)
    for other in ({}, {"partition": "bob"}, {"headers": {"Authorization": "Bearer bob"}}):
        await images.fetch_image(url, **other)
        assert asked(server)[-1] == (None, None, 200)
    await images.fetch_image(url, **own)
    assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


async def test_a_beginning_belongs_to_the_header_fields_that_the_answer_varies_on(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", LARGE, headers={"Vary": "Accept-Language"})
    await cut(images, server, url, headers={"Accept-Language": "de"})
    await images.fetch_image(url, headers={"Accept-Language": "fr"})
    assert asked(server)[-1] == (None, None, 200)


async def test_a_beginning_belongs_to_the_url_that_a_modifier_made(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    signatures = iter(["secret-1", "secret-2", "secret-2"])
    images.add_request_modifier(lambda request: request.with_url(f"{url}?sign={next(signatures)}"))
    await cut(images, server, url)
    (entry,) = await rows(images, url)
    assert "secret" not in repr(entry)
    await cut(images, server, url)
    assert asked(server)[-1] == (None, None, 200)
    await images.fetch_image(url)
    assert asked(server)[-1] == (f"bytes={CUT}-", server.etag("/a.png"), 206)


async def remove(images: ImageManager, url: str) -> None:
    await images.cache.remove(url)


async def clear(images: ImageManager, _: str) -> None:
    await images.cache.clear()


@pytest.mark.parametrize("take_away", [remove, clear])
async def test_removing_and_clearing_take_it_along(
    server: ImageServer, images: ImageManager, take_away: Callable[[ImageManager, str], Awaitable[None]]
) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    assert len(await rows(images, url)) == 1
    await take_away(images, url)
    assert await rows(images, url) == []
    await images.fetch_image(url)
    assert asked(server)[-1] == (None, None, 200)


async def test_what_is_removed_while_it_comes_is_not_kept_afterwards(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", LARGE)
    async with interrupted(server, images, url) as task:
        await images.cache.remove(url)
        task.cancel()
        await asyncio.wait([task])
        assert await rows(images, url) == []


async def test_it_lies_there_for_a_day(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with manager(tmp_path, clock=clock) as images:
        url = server.add("/a.png", LARGE)
        await cut(images, server, url)
        (entry,) = await rows(images, url)
        assert entry.stored_until == clock.time() + KEPT_FOR
        clock.advance(KEPT_FOR)
        await images.cache.clean_expired()
        assert await rows(images, url) == []


async def test_a_beginning_that_has_expired_is_not_used(server: ImageServer, tmp_path: Path) -> None:
    clock = FakeClock()
    async with manager(tmp_path, clock=clock) as images:
        url = server.add("/a.png", LARGE)
        await cut(images, server, url)
        await rows(images, url)
        clock.advance(KEPT_FOR)
        await images.fetch_image(url)
        assert asked(server)[-1] == (None, None, 200)


async def test_it_counts_towards_the_disks_limit(server: ImageServer, tmp_path: Path) -> None:
    async with manager(tmp_path, disk_limit=2 * CUT) as images:
        urls = [server.add(f"/{number}.png", LARGE) for number in range(4)]
        for url in urls:
            await cut(images, server, url)
            assert len(await rows(images, url)) == 1
            assert await images.cache.size() <= 2 * CUT
        await whole(images, urls[-1])
        assert asked(server)[-1][0] == f"bytes={CUT}-"


async def test_the_bytes_of_the_whole_are_asked_for_by_nobody_else_meanwhile(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", LARGE)
    await cut(images, server, url)
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(5)]
    await gate.arrived()
    gate.open()
    assert {(await call).size for call in calls} == {SIZE}
    assert len(asked(server)) == 2


async def test_modified_headers_are_seen_by_the_server_on_the_rest_too(
    server: ImageServer, images: ImageManager
) -> None:
    def answer(request: LoggedRequest) -> Answer:
        return Answer() if request.headers.get("X-Token") == "t" else Answer(status=403)

    url = server.add("/a.png", LARGE)
    images.add_request_modifier(lambda request: request.with_headers({"X-Token": "t"}))
    await cut(images, server, url)
    server.always("/a.png", answer)
    await whole(images, url)
    assert asked(server)[-1][2] == 206
