"""The HTTP cache itself, as a client that speaks HTTP sees it: conditions, ranges, HEAD, only-if-cached, errors."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from imagecache import (
    BadStatusError,
    CachePolicy,
    ConnectionFailedError,
    ImageManager,
    NotInCacheError,
    ServedFrom,
    TruncatedBodyError,
)
from imagecache.network.retry import DelayRetryStrategy
from imagecache.testing import Answer, FakeClock, Gate, ImageServer

BODY = b"0123456789"
FRESH = {"Cache-Control": "max-age=100"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", clock=clock) as manager:
        yield manager


async def stored(server: ImageServer, images: ImageManager, **options: Any) -> str:
    """A URL whose answer is in the cache."""
    url = server.add("/a.txt", BODY, headers=options.pop("headers", FRESH), **options)
    await images.fetch_response(url)
    server.reset()
    return url


# Ranges


@pytest.mark.parametrize(
    ("value", "body", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
    ],
)
async def test_a_range_is_answered_from_a_whole_stored_copy(
    server: ImageServer, images: ImageManager, value: str, body: bytes, content_range: str
) -> None:
    url = await stored(server, images)
    answer = await images.fetch_response(url, headers={"Range": value})
    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (206, body, content_range)
    assert answer.headers["Content-Length"] == str(len(body))
    assert server.count() == 0
    whole = await images.fetch_response(url)
    assert (whole.status, whole.body) == (200, BODY)


async def test_a_range_beyond_the_end_is_416(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    answer = await images.fetch_response(url, headers={"Range": "bytes=10-"})
    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (416, b"", "bytes */10")
    assert server.count() == 0


async def test_several_ranges_are_left_to_the_origin(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    answer = await images.fetch_response(url, headers={"Range": "bytes=0-1,4-5"})
    assert answer.served_from is ServedFrom.NETWORK
    assert server.requests[0].headers["Range"] == "bytes=0-1,4-5"
    assert answer.cache_status.forward == "partial"


async def test_if_range_is_honoured(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    etag = server.etag("/a.txt") or ""
    for tag, status, body in ((etag, 206, b"01"), ('"other"', 200, BODY), (f"W/{etag}", 200, BODY)):
        answer = await images.fetch_response(url, headers={"Range": "bytes=0-1", "If-Range": tag})
        assert (answer.status, answer.body) == (status, body)
    assert server.count() == 0


async def test_a_partial_answer_is_never_taken_for_a_whole_one(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.txt", BODY, headers=FRESH)
    part = await images.fetch_response(url, headers={"Range": "bytes=2-5"})
    assert (part.status, part.body) == (206, b"2345")
    # It answers what lies within it …
    inner = await images.fetch_response(url, headers={"Range": "bytes=3-4"})
    assert (inner.status, inner.body, inner.headers["Content-Range"]) == (206, b"34", "bytes 3-4/10")
    assert server.count() == 1
    # … and nothing else.
    assert (await images.fetch_response(url, headers={"Range": "bytes=5-6"})).body == b"56"
    assert (await images.fetch_response(url)).body == BODY
    assert server.count() == 3


async def test_a_range_of_what_is_stale_is_answered_from_what_a_304_confirms(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = await stored(server, images)
    clock.advance(200)
    answer = await images.fetch_response(url, headers={"Range": "bytes=0-1"})
    assert (answer.status, answer.body, answer.revalidated) == (206, b"01", True)
    assert [request.status for request in server.requests] == [304]


# The caller's own conditions


async def test_a_callers_condition_is_answered_from_the_cache(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    etag = server.etag("/a.txt") or ""
    answer = await images.fetch_response(url, headers={"If-None-Match": f'"x", W/{etag}'})
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
    assert "content-length" not in answer.headers
    assert (await images.fetch_response(url, headers={"If-None-Match": '"x"'})).body == BODY
    since = (await images.fetch_response(url)).headers["Last-Modified"]
    assert (await images.fetch_response(url, headers={"If-Modified-Since": since})).status == 304
    assert server.count() == 0


async def test_a_callers_condition_is_sent_on_where_nothing_is_stored(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.txt", BODY, headers=FRESH)
    etag = server.etag("/a.txt") or ""
    answer = await images.fetch_response(url, headers={"If-None-Match": etag})
    assert (answer.status, answer.served_from) == (304, ServedFrom.NETWORK)
    assert server.requests[0].headers["If-None-Match"] == etag
    # A 304 to somebody else's condition stores nothing, and a 200 is as good as any.
    assert (await images.fetch_response(url, headers={"If-None-Match": '"x"'})).body == BODY
    server.reset()
    assert (await images.fetch_response(url)).served_from is ServedFrom.DISK
    assert server.count() == 0


async def test_what_is_stale_is_asked_about_with_our_validators_and_answers_the_callers(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = await stored(server, images)
    etag = server.etag("/a.txt") or ""
    clock.advance(200)
    answer = await images.fetch_response(url, headers={"If-None-Match": '"x"'})
    assert (answer.status, answer.body, answer.revalidated) == (200, BODY, True)
    assert server.requests[0].headers["If-None-Match"] == etag
    server.replace("/a.txt", b"other")
    new = server.etag("/a.txt") or ""
    clock.advance(200)
    answer = await images.fetch_response(url, headers={"If-None-Match": new})
    assert (answer.status, answer.body) == (304, b"")
    assert (await images.fetch_response(url)).body == b"other"


async def test_what_only_the_origin_can_judge_goes_there(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    answer = await images.fetch_response(url, headers={"If-Match": '"x"'})
    assert (answer.status, answer.cache_status.forward) == (412, "bypass")
    assert server.count() == 1
    assert (await images.fetch_response(url)).body == BODY


# HEAD


async def test_a_head_is_answered_from_a_stored_get(server: ImageServer, images: ImageManager) -> None:
    url = await stored(server, images)
    answer = await images.fetch_response(url, method="HEAD")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "10")
    assert server.count() == 0


@pytest.mark.parametrize(
    ("change", "requests"),
    [(None, [200]), ("replace", [200, 200]), ("remove", [404, 404])],
)
async def test_a_head_freshens_a_stored_get_or_drops_it(
    server: ImageServer, images: ImageManager, clock: FakeClock, change: str | None, requests: list[int]
) -> None:
    url = await stored(server, images)
    clock.advance(200)
    if change == "replace":
        server.replace("/a.txt", b"other")
    elif change == "remove":
        server.remove("/a.txt")
    await images.fetch_response(url, method="HEAD")
    answer = await images.fetch_response(url)
    assert [request.status for request in server.requests] == requests
    assert answer.body == {None: BODY, "replace": b"other", "remove": b""}[change]


async def test_a_head_is_not_bound_by_the_length_of_a_body_that_does_not_come(
    server: ImageServer, tmp_path: Path
) -> None:
    async with ImageManager(directory=tmp_path / "cache", max_body=5) as images:
        url = server.add("/a.txt", BODY)
        assert (await images.fetch_response(url, method="HEAD")).headers["Content-Length"] == "10"


# Errors, stale copies, only-if-cached


async def test_only_if_cached_is_504_where_nothing_will_do(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.txt", BODY, headers=FRESH)
    only = {"Cache-Control": "only-if-cached"}
    assert (await images.fetch_response(url, headers=only)).status == 504
    await images.fetch_response(url)
    assert (await images.fetch_response(url, headers=only)).body == BODY
    clock.advance(200)
    assert (await images.fetch_response(url, headers=only)).status == 504
    stale = {"Cache-Control": "only-if-cached, max-stale"}
    assert (await images.fetch_response(url, headers=stale)).stale
    assert server.count() == 1
    with pytest.raises(NotInCacheError):
        await images.fetch_response(server.url("/b.txt"), policy=CachePolicy.CACHE_ONLY)


@pytest.mark.parametrize("failure", ["503", "down"])
async def test_a_stale_answer_stands_in_where_it_may(
    server: ImageServer, images: ImageManager, clock: FakeClock, failure: str
) -> None:
    url = await stored(server, images, headers={"Cache-Control": "max-age=100, stale-if-error=300"})
    clock.advance(200)
    if failure == "down":
        await server.stop()
    else:
        server.always("/a.txt", Answer(status=503))
    answer = await images.fetch_response(url)
    assert (answer.status, answer.body, answer.stale) == (200, BODY, True)
    clock.advance(300)
    if failure == "down":
        with pytest.raises(ConnectionFailedError):
            await images.fetch_response(url)
    else:
        assert (await images.fetch_response(url)).status == 503


async def test_one_try_unless_asked(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(directory=tmp_path / "cache", retry=DelayRetryStrategy(2, 0.0)) as images:
        url = server.script("/a.txt", Answer(content=BODY, cut_at=3))
        server.add("/a.txt", BODY)
        with pytest.raises(TruncatedBodyError):
            await images.fetch_response(url)
        server.script("/a.txt", Answer(content=BODY, cut_at=3))
        assert (await images.fetch_response(url, retry=True)).body == BODY
        assert server.count() == 3


async def test_a_content_coding_is_left_as_it_came(server: ImageServer, images: ImageManager) -> None:
    coded = gzip.compress(BODY)
    url = server.add("/a.txt", coded, headers={**FRESH, "Content-Encoding": "gzip"})
    for _ in range(2):
        answer = await images.fetch_response(url, headers={"Accept-Encoding": "gzip"})
        assert (answer.body, answer.headers["Content-Encoding"]) == (coded, "gzip")
    assert server.count() == 1


async def test_a_set_cookie_is_kept_as_long_as_the_process_and_never_on_disk(
    server: ImageServer, images: ImageManager, tmp_path: Path, clock: FakeClock
) -> None:
    url = await stored(server, images, headers={**FRESH, "Set-Cookie": "session=hunter2"})
    assert (await images.fetch_response(url)).headers["Set-Cookie"] == "session=hunter2"
    await images.cache.disk.flush()
    assert b"hunter2" not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    async with ImageManager(directory=tmp_path / "cache", clock=clock) as again:
        answer = await again.fetch_response(url)
        assert (answer.body, "set-cookie" in answer.headers) == (BODY, False)
    assert server.count() == 0


async def test_a_304_that_forbids_to_store_is_an_answer_and_leaves_nothing(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = await stored(server, images)
    clock.advance(200)
    server.script("/a.txt", Answer(status=304, headers={"Cache-Control": "no-store"}))
    answer = await images.fetch_response(url)
    assert (answer.status, answer.body, answer.revalidated) == (200, BODY, True)
    assert (await images.fetch_response(url)).served_from is ServedFrom.NETWORK


async def test_a_304_that_speaks_of_nothing_stored_leads_to_one_plain_get(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = await stored(server, images)
    clock.advance(200)
    server.script("/a.txt", Answer.not_modified('"other"'))
    answer = await images.fetch_response(url)
    assert (answer.status, answer.body, answer.revalidated) == (200, BODY, False)
    assert [request.status for request in server.requests] == [304, 200]
    assert not any(name.startswith("If-") for name in server.requests[1].headers)


async def test_a_late_answer_to_an_earlier_question_is_not_stored(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    gate = Gate()
    url = server.script(
        "/a.txt", Answer(content=b"old", headers=FRESH, gate=gate), Answer(content=b"new", headers=FRESH)
    )
    early = asyncio.create_task(images.fetch_response(url, policy=CachePolicy.RELOAD))
    await gate.arrived(1)
    clock.advance(1)
    assert (await images.fetch_response(url, policy=CachePolicy.RELOAD_END_TO_END)).body == b"new"
    gate.open()
    assert (await early).body == b"old"
    assert (await images.fetch_response(url)).body == b"new"


async def test_failures_are_counted(images: ImageManager) -> None:
    with pytest.raises(ConnectionFailedError):
        await images.fetch_response("http://127.0.0.1:1/a")
    assert images.counters.failures == 1


async def test_those_who_ask_together_are_told_so(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.txt", BODY, headers=FRESH)
    gate = server.hold("/a.txt")
    calls = [asyncio.create_task(images.fetch_response(url)) for _ in range(3)]
    await gate.arrived(1)
    gate.open()
    answers = await asyncio.gather(*calls)
    assert sum(answer.cache_status.collapsed for answer in answers) == 2
    assert server.count() == 1


async def test_a_refused_status_is_nobodys_business_here(server: ImageServer, images: ImageManager) -> None:
    url = server.always("/a.png", Answer(status=404, headers={"Cache-Control": "max-age=60"}))
    assert (await images.fetch_response(url)).status == 404
    assert (await images.fetch_response(url)).served_from is ServedFrom.DISK
    with pytest.raises(BadStatusError):
        await images.fetch_image(url)
    assert server.count() == 2
