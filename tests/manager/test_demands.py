"""What a call may ask of any fetch: age, freshness, the very image it expects, a stale copy where the server fails."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagecache import (
    BadStatusError,
    CachePolicy,
    DownloadRequest,
    ImageCacheError,
    ImageManager,
    NotInCacheError,
    PreconditionFailedError,
    ServedFrom,
)
from imagecache.network.retry import DelayRetryStrategy
from imagecache.testing import Answer, FakeClock, ImageServer

PROTOCOL = CachePolicy.PROTOCOL


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def options(tmp_path: Path, clock: FakeClock) -> dict[str, Any]:
    return {
        "directory": tmp_path / "cache",
        "clock": clock,
        "memory_expiration": None,
        "retry": DelayRetryStrategy(0),
    }


@pytest.fixture
async def images(options: dict[str, Any]) -> AsyncIterator[ImageManager]:
    async with ImageManager(**options) as manager:
        yield manager


@pytest.mark.parametrize("tier", ["memory", "disk"])
@pytest.mark.parametrize("policy", [CachePolicy.CACHE_ELSE_LOAD, PROTOCOL])
@pytest.mark.parametrize(
    ("asked", "is_asked"),
    [
        ({"max_age": 60}, False),
        ({"max_age": 30}, True),
        ({"min_fresh": 50}, False),
        ({"min_fresh": 60}, True),
        ({"headers": {"Cache-Control": "no-cache"}}, True),
    ],
)
async def test_how_old_and_how_fresh_a_copy_may_be(
    server: ImageServer,
    images: ImageManager,
    clock: FakeClock,
    asked: dict[str, Any],
    is_asked: bool,
    policy: CachePolicy,
    tier: str,
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=100"})
    # With its own headers, a call has a memory entry of its own.
    await images.fetch_image(url, headers=asked.get("headers", {}))
    clock.advance(50)
    if tier == "disk":
        images.clear_memory()
    server.reset()
    result = await images.fetch(url, policy=policy, **asked)
    assert result.revalidated is is_asked
    assert server.count() == is_asked
    if is_asked and "headers" not in asked:
        ((name, value),) = asked.items()
        assert server.requests[0].headers["Cache-Control"] == f"{name.replace('_', '-')}={value}"


async def test_max_stale_allows_what_protocol_would_ask_about_and_limits_what_others_serve(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=100"})
    await images.fetch_image(url)
    clock.advance(150)
    assert (await images.fetch(url, policy=PROTOCOL, max_stale=60)).stale
    assert (await images.fetch(url, policy=PROTOCOL, max_stale=math.inf)).stale
    assert server.count() == 1
    assert not (await images.fetch(url, max_stale=40)).stale
    assert [request.status for request in server.requests] == [200, 304]
    clock.advance(150)
    with pytest.raises(NotInCacheError, match="stale by 50 s"):
        await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY, max_stale=40)


@pytest.mark.parametrize(
    "asked",
    [
        {"policy": CachePolicy.RELOAD, "max_age": 5},
        {"force_refresh": True, "max_stale": 5},
        {"policy": CachePolicy.RELOAD_END_TO_END, "min_fresh": 5},
        {"policy": CachePolicy.RELOAD, "stale_if_error": 5},
        {"max_age": -1},
        {"max_stale": math.nan},
        {"expected_etag": 'W/"a"'},
        {"expected_etag": "a"},
        {"expected_etag": ""},
        {"unmodified_since": math.inf},
        {"unmodified_since": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
async def test_what_can_have_no_meaning_is_told_at_the_call(images: ImageManager, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        await images.fetch_image("http://127.0.0.1:1/a.png", **asked)


@pytest.mark.parametrize(
    "asked", [{"max_age": "5"}, {"max_age": True}, {"expected_etag": 5}, {"unmodified_since": "x"}]
)
async def test_a_wrong_type_is_told_at_the_call(images: ImageManager, asked: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        await images.fetch_image("http://127.0.0.1:1/a.png", **asked)


# A server that fails


FAILURES = {
    "503": Answer(status=503),
    "500": Answer(status=500),
    "cut": Answer(cut_at=3, ignores_conditions=True),
    "down": None,
}


async def fail(server: ImageServer, failure: str) -> None:
    answer = FAILURES[failure]
    if answer is None:
        await server.stop()
    else:
        server.always("/a.png", answer)


@pytest.mark.parametrize("tier", ["memory", "disk"])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("where", ["answer", "manager", "call", "request"])
async def test_a_stale_copy_stands_in_for_a_server_that_fails(
    server: ImageServer, options: dict[str, Any], clock: FakeClock, where: str, failure: str, tier: str
) -> None:
    control = "max-age=10" + (", stale-if-error=100" if where == "answer" else "")
    own: dict[str, Any] = {"stale_if_error": 100} if where == "manager" else {}
    asking: dict[str, dict[str, Any]] = {"call": {"stale_if_error": 100}, "request": {"max_stale": 20, "max_age": 15}}
    asked = asking.get(where, {})
    async with ImageManager(**options, **own) as images:
        url = server.add("/a.png", headers={"Cache-Control": control})
        first = await images.fetch(url)
        clock.advance(25)
        if tier == "disk":
            images.clear_memory()
        await fail(server, failure)
        result = await images.fetch(url, policy=PROTOCOL, **asked)
        assert (result.stale, result.revalidated, result.checksum) == (True, False, first.checksum)
        assert result.image.tobytes() == first.image.tobytes()
        status = int(failure) if failure.isdigit() else None
        assert (result.cache_status.forward, result.cache_status.forward_status) == ("stale", status)
        assert await images.fetch_data(url, policy=PROTOCOL, **asked) == await first.data()


@pytest.mark.parametrize(
    ("control", "asked", "failure"),
    [
        ("max-age=10", {}, "503"),
        ("max-age=10, stale-if-error=5", {}, "503"),
        ("max-age=10, must-revalidate, stale-if-error=100", {"stale_if_error": math.inf}, "503"),
        ("no-cache", {"stale_if_error": math.inf}, "down"),
        # Not a server that fails, but one that answers.
        ("max-age=10", {"stale_if_error": math.inf}, "404"),
    ],
)
async def test_but_never_where_that_is_not_allowed_and_what_is_stored_stays(
    server: ImageServer, images: ImageManager, clock: FakeClock, control: str, asked: dict[str, Any], failure: str
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": control})
    await images.fetch_image(url)
    clock.advance(25)
    if failure == "404":
        server.always("/a.png", Answer(status=404))
    else:
        await fail(server, failure)
    with pytest.raises(ImageCacheError):
        await images.fetch_image(url, policy=PROTOCOL, **asked)
    assert (await images.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is ServedFrom.MEMORY
    images.clear_memory()
    assert (await images.fetch(url, policy=CachePolicy.CACHE_ONLY)).served_from is ServedFrom.DISK


async def test_a_force_refresh_of_a_server_that_fails_is_an_error_unless_the_call_allows_a_copy(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=1000"})
    await images.fetch_image(url)
    server.always("/a.png", Answer(status=503))
    with pytest.raises(BadStatusError):
        await images.fetch_image(url, force_refresh=True)
    result = await images.fetch(url, force_refresh=True, stale_if_error=0)
    assert (result.stale, result.revalidated) == (True, False)


# The very image that is expected


async def test_an_image_is_what_the_call_expects_or_an_error(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    etag = server.etag("/a.png")
    assert etag is not None
    for _ in range(2):  # From the network, then from memory.
        assert (await images.fetch(url, expected_etag=etag)).etag == etag
    assert (await images.fetch(url, expected_etag="*")).etag == etag
    assert server.count() == 1
    # A copy that is not the one expected is no answer: the server is asked for that one.
    with pytest.raises(PreconditionFailedError) as caught:
        await images.fetch_image(url, expected_etag='"another"')
    assert (caught.value.status, caught.value.url) == (412, url)
    assert server.requests[-1].headers["If-Match"] == '"another"'
    server.touch("/a.png")
    server.replace("/a.png")
    new = server.etag("/a.png")
    assert new not in (None, etag)
    result = await images.fetch(url, expected_etag=new or "")
    assert (result.etag, result.changed) == (new, True)
    with pytest.raises(PreconditionFailedError):
        await images.fetch_image(url, expected_etag=etag, policy=CachePolicy.CACHE_ONLY)


async def test_a_server_that_does_not_heed_if_match_is_found_out(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png", etag=False)
    server.always("/a.png", Answer(ignores_conditions=True))
    with pytest.raises(PreconditionFailedError, match="there is none"):
        await images.fetch_image(url, expected_etag='"a"')
    # What came is good all the same, for those who expect nothing.
    server.reset()
    assert (await images.fetch(url)).served_from is ServedFrom.DISK
    assert server.count() == 0


async def test_an_image_that_was_modified_since_is_an_error(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    made = clock.time() - 1000
    url = server.add("/a.png", last_modified=made)
    moment = datetime.fromtimestamp(made + 10, UTC)
    assert (await images.fetch(url, unmodified_since=moment)).served_from is ServedFrom.NETWORK
    assert (await images.fetch(url, unmodified_since=made + 10)).served_from is ServedFrom.MEMORY
    with pytest.raises(PreconditionFailedError):
        await images.fetch_image(url, unmodified_since=made - 10)
    assert "If-Unmodified-Since" in server.requests[-1].headers


async def test_callers_who_expect_different_images_do_not_share_an_answer(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    one = asyncio.create_task(images.fetch_image(url))
    other = asyncio.create_task(images.fetch_image(url, expected_etag='"another"'))
    await gate.arrived(2)
    gate.open()
    await one
    with pytest.raises(PreconditionFailedError):
        await other


# A 404 that counts for a while


async def test_a_404_counts_under_protocol_while_http_calls_it_fresh(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.script("/a.png", *[Answer(status=404, headers={"Cache-Control": "max-age=60"})] * 3)
    server.add("/a.png")
    with pytest.raises(BadStatusError):
        await images.fetch_image(url, policy=PROTOCOL)
    clock.advance(30)
    with pytest.raises(BadStatusError, match="404 30 s ago, which counts for 30 s more") as caught:
        await images.fetch_image(url, policy=PROTOCOL)
    assert caught.value.status == 404
    assert server.count() == 1
    # Others ask again.
    with pytest.raises(BadStatusError):
        await images.fetch_image(url)
    assert server.count() == 2
    clock.advance(90)
    with pytest.raises(BadStatusError):
        await images.fetch_image(url, policy=PROTOCOL)
    clock.advance(90)
    await images.fetch_image(url, policy=PROTOCOL)
    assert server.count() == 4


@pytest.mark.parametrize("tier", ["memory", "disk"])
async def test_a_404_takes_no_image_away_but_stands_before_it_under_protocol(
    server: ImageServer, images: ImageManager, clock: FakeClock, tier: str
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=1000"})
    await images.fetch_image(url)
    clock.advance(1)
    server.script("/a.png", Answer(status=404, headers={"Cache-Control": "max-age=60"}))
    with pytest.raises(BadStatusError):
        await images.fetch_image(url, force_refresh=True)
    if tier == "disk":
        images.clear_memory()
    with pytest.raises(BadStatusError):
        await images.fetch_image(url, policy=PROTOCOL)
    assert (await images.fetch(url)).served_from is not ServedFrom.NETWORK
    assert server.count() == 2
    clock.advance(1)
    await images.fetch_image(url, force_refresh=True)
    await images.fetch_image(url, policy=PROTOCOL)


async def test_a_404_without_a_lifetime_is_asked_about_each_time(server: ImageServer, images: ImageManager) -> None:
    url = server.always("/a.png", Answer(status=404))
    for _ in range(2):
        with pytest.raises(BadStatusError):
            await images.fetch_image(url, policy=PROTOCOL)
    assert server.count() == 2


# Vary, and what modifiers set


@pytest.mark.parametrize("tier", ["memory", "disk"])
async def test_protocol_and_revalidate_choose_by_what_the_modifiers_send(
    server: ImageServer, images: ImageManager, tier: str
) -> None:
    language = "de"

    def translate(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"Accept-Language": language})

    images.add_request_modifier(translate)
    url = server.add("/a.png", headers={"Vary": "Accept-Language", "Cache-Control": "max-age=100"})
    await images.fetch(url, policy=PROTOCOL)
    if tier == "disk":
        images.clear_memory()
    assert (await images.fetch(url, policy=PROTOCOL)).served_from is not ServedFrom.NETWORK
    assert server.count() == 1
    language = "fr"
    result = await images.fetch(url, policy=PROTOCOL)
    assert (result.served_from, result.cache_status.forward) == (ServedFrom.NETWORK, "vary-miss")
    assert server.requests[-1].headers["Accept-Language"] == "fr"
    # Both are kept, each for its own question; and the default policy looks at what was asked for only.
    language = "de"
    images.clear_memory()
    assert (await images.fetch(url, policy=PROTOCOL)).served_from is ServedFrom.DISK
    assert (await images.fetch(url, force_refresh=True)).revalidated
    language = "it"
    images.clear_memory()
    assert (await images.fetch(url)).served_from is ServedFrom.DISK
    assert server.count() == 3


async def test_a_token_that_a_modifier_sets_tells_answers_apart_that_vary_on_it(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    token = "hunter2"

    def sign(request: DownloadRequest) -> DownloadRequest:
        return request.with_headers({"Authorization": f"Bearer {token}"})

    images.add_request_modifier(sign)
    url = server.add("/a.png", headers={"Vary": "Authorization", "Cache-Control": "max-age=100"})
    await images.fetch(url, policy=PROTOCOL)
    token = "swordfish"
    assert (await images.fetch(url, policy=PROTOCOL)).cache_status.forward == "vary-miss"
    token = "hunter2"
    images.clear_memory()
    assert (await images.fetch(url, policy=PROTOCOL)).served_from is ServedFrom.DISK
    assert server.count() == 2
    await images.cache.disk.flush()
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"hunter2" not in stored
    assert b"swordfish" not in stored


# What a result says of itself


async def test_cache_status_says_what_the_cache_did(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=100"})
    assert str((await images.fetch(url, policy=PROTOCOL)).cache_status) == (
        "imagecache; fwd=uri-miss; fwd-status=200; stored; ttl=100; detail=network"
    )
    clock.advance(30)
    assert str((await images.fetch(url)).cache_status) == "imagecache; hit; ttl=70; detail=memory"
    images.clear_memory()
    result = await images.fetch(url, policy=PROTOCOL)
    assert str(result.cache_status) == "imagecache; hit; ttl=70; detail=disk"
    assert result.headers["Age"] == "30"
    clock.advance(80)
    assert str((await images.fetch(url)).cache_status) == "imagecache; hit; ttl=-10; detail=memory"
    result = await images.fetch(url, policy=PROTOCOL)
    assert str(result.cache_status) == "imagecache; fwd=stale; fwd-status=304; stored; ttl=100; detail=memory"
    assert result.headers["Age"] == "0"
    assert (await images.fetch(url, force_refresh=True)).cache_status.forward == "request"


async def test_explain_tells_what_is_stored_and_asks_nobody(
    server: ImageServer, images: ImageManager, clock: FakeClock
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=300"})
    assert (await images.explain(url)).entry is None
    await images.fetch_image(url)
    clock.advance(400)
    told = await images.explain(url)
    assert told.entry is not None
    assert told.lifetime is not None
    assert (told.entry.etag, told.age, told.lifetime.source) == (server.etag("/a.png"), 400, "max-age=300")
    assert "max-age=300" in str(told)
    assert server.count() == 1


async def test_what_is_asked_behind_a_call_is_not_bound_by_what_the_call_expects(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    await images.fetch_image(url)
    etag = server.etag("/a.png") or ""
    asked: dict[str, Any] = {"policy": CachePolicy.STALE_WHILE_REVALIDATE, "expected_etag": etag, "max_stale": 60}
    server.replace("/a.png")
    assert (await images.fetch(url, **asked)).etag == etag
    await images._flights.idle()
    assert "If-Match" not in server.requests[-1].headers
    assert server.requests[-1].headers["Cache-Control"] == "max-age=0"
    assert (await images.fetch(url)).etag == server.etag("/a.png") != etag
