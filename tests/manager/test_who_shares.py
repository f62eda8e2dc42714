"""Who joins whose work, and what each of those who share it is told: its own answer, and its own error."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from imagecache import (
    BadStatusError,
    CachePolicy,
    Custom,
    DecodeError,
    DownloadRequest,
    ImageManager,
    ImageRequest,
    NotInCacheError,
    ServedFrom,
)  # fmt: skip
from imagecache.storage.stored import Stored
from imagecache.testing import Answer, FakeClock, Gate, ImageServer, picture

LARGE = picture(600, 500)
"""Too large to be decoded in the same turn as it is looked up."""

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Busy:
    """The one worker thread of a manager, kept from its work until it is let go."""

    def __init__(self, images: ImageManager) -> None:
        self._images = images
        self._release = threading.Event()
        self._started = threading.Event()
        self._task = asyncio.create_task(images._workers.run(self._wait))

    def _wait(self) -> None:
        self._started.set()
        assert self._release.wait(10)

    async def started(self) -> None:
        assert await asyncio.to_thread(self._started.wait, 10)

    async def has_behind_it(self, waiters: int) -> None:
        """Wait until so many wait for the same pixels."""

        def has_all() -> bool:
            flights = [flight for key, flight in self._images._flights._flights.items() if key[0] == "pixels"]  # type: ignore[index]  # our keys are tuples
            return len(flights) == 1 and len(flights[0]._waiters) == waiters

        await until(has_all)

    async def end(self) -> None:
        self._release.set()
        await self._task


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens in the library, which rings no bell
            await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock, decode_threads=1) as manager:
        yield manager


def undecodable(body: bytes) -> bytes:
    """These bytes of a PNG with the head of an image, and damaged pixels behind it."""
    middle = len(body) // 2
    return body[:middle] + bytes(byte ^ 0xFF for byte in body[middle : middle + 64]) + body[middle + 64 :]


async def test_those_who_wait_for_the_same_pixels_are_each_told_how_they_came_by_the_bytes(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", LARGE, headers={"Cache-Control": "max-age=60"})
    await images.fetch_data(url)
    clock.advance(100)
    busy = Busy(images)
    await busy.started()
    from_disk = asyncio.create_task(images.fetch(url))
    await busy.has_behind_it(1)
    validated = asyncio.create_task(images.fetch(url, policy=CachePolicy.REVALIDATE))
    await busy.has_behind_it(2)
    await busy.end()
    one, other = await from_disk, await validated
    assert images.counters.decodes == 1
    assert (one.served_from, one.revalidated, one.stale) == (ServedFrom.DISK, False, True)
    assert (other.served_from, other.revalidated, other.stale) == (ServedFrom.DISK, True, False)
    assert one.metrics.tries == 0
    assert other.metrics.tries == 1
    # Whoever was here first: memory knows what the server said last.
    fresh = await images.fetch(url, policy=CachePolicy.PROTOCOL)
    assert (fresh.served_from, fresh.stale) == (ServedFrom.MEMORY, False)
    assert images.counters.memory_hits == 1
    assert server.count() == 2


async def test_a_late_look_at_older_metadata_does_not_make_memory_older(
    server: ImageServer, images: ImageManager, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=60"})
    await images.fetch_data(url)
    gate, load = Gate(), images.cache.disk.load

    async def slow(*args: object, **options: object) -> Stored | None:
        stored = await load(*args, **options)  # type: ignore[arg-type]  # as it was called
        await gate.wait()
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(images.cache.disk, "load", slow)
        late = asyncio.create_task(images.fetch(url))
        await gate.arrived(1)
    clock.advance(100)
    await images.fetch_image(url, force_refresh=True)
    gate.open()
    assert not (await late).revalidated
    assert (await images.fetch(url, policy=CachePolicy.PROTOCOL)).served_from is ServedFrom.MEMORY
    assert images.counters.memory_hits == 1
    assert server.count() == 2


async def test_everybody_who_waited_for_undecodable_bytes_gets_an_answer_of_its_own(
    server: ImageServer, images: ImageManager
) -> None:
    good, gone, stored = server.add("/good.png", LARGE), server.url("/gone.png"), server.url("/stored.png")
    server.script("/good.png", Answer(content=undecodable(server.body("/good.png"))))
    await images.fetch_data(good, cache_key="one")
    busy = Busy(images)
    await busy.started()
    calls = [
        asyncio.create_task(images.fetch(gone, cache_key="one")),
        asyncio.create_task(images.fetch(good, cache_key="one")),
        asyncio.create_task(images.fetch(stored, cache_key="one", policy=CachePolicy.CACHE_ONLY)),
    ]
    await busy.has_behind_it(3)
    await busy.end()
    missing, fresh, refused = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(missing, BadStatusError)
    assert missing.url == gone
    assert not isinstance(fresh, BaseException)
    assert fresh.served_from is ServedFrom.NETWORK
    assert (fresh.cache_status.hit, fresh.cache_status.forward) == (False, "miss")
    assert isinstance(refused, NotInCacheError)
    assert refused.url == stored
    assert await images.fetch_data(good, cache_key="one") == server.body("/good.png")


async def test_everybody_whose_stored_bytes_have_gone_gets_fresh_ones(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=60"})
    await images.fetch_data(url)
    clock.advance(100)
    gate = server.hold("/a.png")
    # Two questions on the wire, and one read of the bytes that both 304 speak of.
    calls = [
        asyncio.create_task(images.fetch(url, policy=policy))
        for policy in (CachePolicy.REVALIDATE, CachePolicy.PROTOCOL)
    ]
    await gate.arrived(2)
    await images.clear_disk()
    gate.open()
    results = await asyncio.gather(*calls)
    assert {result.served_from for result in results} == {ServedFrom.NETWORK}
    assert server.bytes_sent >= 2 * len(server.body("/a.png"))


async def test_everybody_whose_stored_bytes_have_gone_for_good_has_an_error_of_its_own(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=60"})
    await images.fetch_data(url)
    clock.advance(100)
    gate = Gate()
    server.script("/a.png", *[Answer(status=304, gate=gate)] * 2)
    server.always("/a.png", Answer(status=404))
    calls = [
        asyncio.create_task(call)
        for call in (
            images.fetch_image(url, policy=CachePolicy.REVALIDATE),
            images.fetch_image(url, policy=CachePolicy.PROTOCOL),
        )
    ]
    await gate.arrived(2)
    await images.clear_disk()
    gate.open()
    one, other = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(one, BadStatusError)
    assert isinstance(other, BadStatusError)
    assert one is not other
    assert one.url == other.url == url


async def test_an_error_is_about_the_url_that_its_caller_asked_for(server: ImageServer, images: ImageManager) -> None:
    body = undecodable(picture(40, 30))
    server.always("/a.png", Answer(content=body))
    urls = [server.url("/a.png?of=one"), server.url("/a.png?of=other")]
    checking = Busy(images)
    await checking.started()
    calls = [asyncio.create_task(images.fetch_image(url, cache_key="same")) for url in urls]
    await until(lambda: images.counters.bytes_received == 2 * len(body))
    # Behind the checks of both bodies, and before the decode.
    decoding = Busy(images)
    await asyncio.sleep(0)
    await checking.end()
    await decoding.has_behind_it(2)
    await decoding.end()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.url for error in errors if isinstance(error, DecodeError)] == urls
    assert errors[0] is not errors[1]


async def test_an_exception_that_a_processor_keeps_never_becomes_a_callers(
    server: ImageServer, images: ImageManager
) -> None:
    kept = DecodeError("not to my taste")

    def refuse(image: Image.Image) -> Image.Image:
        raise kept

    urls = [server.add("/a.png"), server.add("/b.png")]
    errors = []
    for url in urls:
        with pytest.raises(DecodeError, match="not to my taste") as caught:
            await images.fetch_image(url, processors=[Custom("refuse", refuse)])
        errors.append(caught.value)
    assert [error.url for error in errors] == urls
    assert len({id(error) for error in (kept, *errors)}) == 3
    assert kept.url == ""


@pytest.mark.parametrize("change", ["added", "removed"])
async def test_nobody_joins_a_download_that_goes_through_other_modifiers(
    server: ImageServer, images: ImageManager, change: str
) -> None:
    def sign(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"X-Signed": "yes"})

    url = server.add("/a.png")
    gate = server.hold("/a.png")
    handle = images.add_request_modifier(sign) if change == "removed" else None
    first = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    if handle is None:
        images.add_request_modifier(sign)
    else:
        handle.remove()
    second = asyncio.create_task(images.fetch_image(url))
    third = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(2)
    gate.open()
    await asyncio.gather(first, second, third)
    assert ["x-signed" in request.headers for request in server.requests] == [change == "removed", change == "added"]


async def test_what_varies_on_a_field_that_a_modifier_sets_is_found_again(
    server: ImageServer, images: ImageManager
) -> None:
    steps = iter(range(9))
    images.add_request_modifier(lambda request: request.with_headers({"X-Token": f"t{next(steps)}", "Accept": "a/b"}))
    url = server.add("/a.png", headers={"Vary": "X-Token, Accept"})
    await images.fetch_image(url)
    images.clear_memory()
    assert (await images.fetch(url)).served_from is ServedFrom.DISK
    assert server.count() == 1


async def test_userinfo_keeps_the_images_of_users_apart(server: ImageServer, images: ImageManager) -> None:
    plain = server.add("/a.png")
    urls = [plain.replace("://", f"://{user}@") for user in ("alice:1", "bob:2")] + [plain]
    for url in urls:
        assert (await images.fetch(url, cache_key="avatar")).served_from is ServedFrom.NETWORK
    for url in urls:
        assert (await images.fetch(url, cache_key="avatar")).served_from is ServedFrom.MEMORY


async def test_one_users_failed_refresh_does_not_pause_anothers(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    for partition in ("alice", "bob"):
        await images.fetch_image(url, partition=partition)
    server.script("/a.png", Answer(status=404))
    for partition in ("alice", "bob"):
        await images.fetch_image(url, partition=partition, policy=CachePolicy.STALE_WHILE_REVALIDATE)
        await images._flights.idle()
    assert [request.status for request in server.requests] == [200, 200, 404, 304]


async def test_a_progress_callback_runs_in_its_callers_own_context(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", picture(400, 300))
    gate = server.hold("/a.png")
    seen: dict[str, set[str]] = {}

    async def call(name: str) -> None:
        user.set(name)
        await images.fetch_image(url, progress=lambda *_: seen.setdefault(name, set()).add(user.get()))

    calls = [asyncio.create_task(call(name)) for name in ("alice", "bob")]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert seen == {"alice": {"alice"}, "bob": {"bob"}}
    assert server.count() == 1


async def test_a_prefetch_counts_bytes_once_however_many_entries_share_them(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    job = asyncio.ensure_future(images.prefetch([url, url, url], concurrency=3)._run())
    await gate.arrived(1)
    await until(lambda: max(len(flight._waiters) for flight in images._flights._flights.values()) == 3)
    gate.open()
    report = await job
    assert sum(outcome.bytes_received for outcome in report.outcomes) == len(server.body("/a.png"))
    assert sorted(outcome.status.name for outcome in report.outcomes) == ["ALREADY_THERE", "ALREADY_THERE", "STORED"]


async def test_a_refresh_behind_an_answer_that_fails_is_nobodys_error(
    server: ImageServer, images: ImageManager, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    url = server.add("/a.css", b"p {}", headers={"Cache-Control": "max-age=1, stale-while-revalidate=60", "Date": None})
    await images.fetch_response(url)
    clock.advance(10)

    def refuse(request: DownloadRequest) -> None:
        return None

    images.add_request_modifier(refuse)
    with caplog.at_level("DEBUG", "imagecache"):
        answer = await images.fetch_response(url)
        await images._flights.idle()
    assert (answer.body, answer.stale) == (b"p {}", True)
    assert f"revalidating {url} behind failed" in caplog.text
    gc.collect()
    assert told == []


async def test_answers_asked_for_with_other_fields_are_each_refreshed(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.css", b"p {}", headers={"Cache-Control": "max-age=1, stale-while-revalidate=60", "Date": None})
    await images.fetch_response(url)
    clock.advance(10)
    server.reset()
    gate = server.hold("/a.css")
    for theme in ("dark", "light", "dark"):
        await images.fetch_response(url, headers={"X-Theme": theme})
    await gate.arrived(2)
    gate.open()
    await images._flights.idle()
    assert sorted(request.headers["x-theme"] for request in server.requests) == ["dark", "light"]


async def test_a_fragment_makes_no_other_request(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(each)) for each in (url, url + "#top", url + "#end")]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert server.count() == 1


async def test_who_looked_just_before_it_was_stored_does_not_ask_again(
    server: ImageServer, images: ImageManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Never fresh: what HTTP says of it is no reason to find it good enough.
    url = server.add("/a.png", headers={"Cache-Control": "max-age=0"})
    looked, others_load, gate = asyncio.Event(), images._loader._others_load, asyncio.Event()

    async def slowly(request: ImageRequest, scope: str) -> bool:
        if request.policy is CachePolicy.PROTOCOL:
            looked.set()
            await gate.wait()
        return await others_load(request, scope)

    monkeypatch.setattr(images._loader, "_others_load", slowly)
    late = asyncio.create_task(images.fetch(url, policy=CachePolicy.PROTOCOL))
    await looked.wait()
    await images.fetch_image(url)
    gate.set()
    assert (await late).image is not None
    assert server.count() == 1
    # Whoever comes after that asks, as HTTP wants it.
    assert (await images.fetch(url, policy=CachePolicy.PROTOCOL)).revalidated
