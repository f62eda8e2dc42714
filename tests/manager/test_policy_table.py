"""Every policy in every situation, down to the wire: what is sent, and what the call gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imagecache import CachePolicy, ConnectionFailedError, ImageManager, NotInCacheError
from imagecache.network.retry import DelayRetryStrategy
from imagecache.testing import FakeClock, ImageServer

FRESH_FOR = 100
FIELDS: dict[str, dict[str, str | None]] = {
    "must-revalidate": {"Cache-Control": f"max-age={FRESH_FOR}, must-revalidate"},
    "no-store": {"Cache-Control": "no-store"},
}
STALE = ("stale with validators", "stale without", "must-revalidate", "origin down", "only-if-cached")

# What a call does: "hit" and "stale" are stored copies, "+ …" what is asked behind them; "GET" loads in full,
# "conditional" asks with validators; "refused" and "down" are NotInCacheError and ConnectionFailedError.
TABLE: dict[CachePolicy, dict[str, str]] = {
    CachePolicy.CACHE_ELSE_LOAD: {
        "nothing stored": "GET",
        "fresh": "hit",
        "stale with validators": "stale",
        "stale without": "stale",
        "must-revalidate": "stale",
        "no-store": "GET",
        "origin down": "stale",
        "only-if-cached": "stale",
        "only-if-cached, nothing stored": "refused",
    },
    CachePolicy.CACHE_ONLY: {
        "nothing stored": "refused",
        "fresh": "hit",
        "stale with validators": "stale",
        "stale without": "stale",
        "must-revalidate": "stale",
        "no-store": "refused",
        "origin down": "stale",
        "only-if-cached": "stale",
        "only-if-cached, nothing stored": "refused",
    },
    CachePolicy.PROTOCOL: {
        "nothing stored": "GET",
        "fresh": "hit",
        "stale with validators": "conditional",
        "stale without": "GET",
        "must-revalidate": "conditional",
        "no-store": "GET",
        "origin down": "down",
        "only-if-cached": "refused",
        "only-if-cached, nothing stored": "refused",
    },
    CachePolicy.REVALIDATE: {
        "nothing stored": "GET max-age=0",
        "fresh": "conditional max-age=0",
        "stale with validators": "conditional max-age=0",
        "stale without": "GET max-age=0",
        "must-revalidate": "conditional max-age=0",
        "no-store": "GET max-age=0",
        "origin down": "down",
        "only-if-cached": "conditional max-age=0, only-if-cached",
        "only-if-cached, nothing stored": "GET max-age=0, only-if-cached",
    },
    CachePolicy.RELOAD: {
        "nothing stored": "GET",
        "fresh": "GET",
        "stale with validators": "GET",
        "stale without": "GET",
        "must-revalidate": "GET",
        "no-store": "GET",
        "origin down": "down",
        "only-if-cached": "GET only-if-cached",
        "only-if-cached, nothing stored": "GET only-if-cached",
    },
    CachePolicy.RELOAD_END_TO_END: {
        "nothing stored": "GET no-cache",
        "fresh": "GET no-cache",
        "stale with validators": "GET no-cache",
        "stale without": "GET no-cache",
        "must-revalidate": "GET no-cache",
        "no-store": "GET no-cache",
        "origin down": "down",
        "only-if-cached": "GET no-cache, only-if-cached",
        "only-if-cached, nothing stored": "GET no-cache, only-if-cached",
    },
    CachePolicy.STALE_WHILE_REVALIDATE: {
        "nothing stored": "GET",
        "fresh": "hit + conditional max-age=0",
        "stale with validators": "stale + conditional max-age=0",
        "stale without": "stale + GET max-age=0",
        "must-revalidate": "stale + conditional max-age=0",
        "no-store": "GET",
        "origin down": "stale",
        "only-if-cached": "stale",
        "only-if-cached, nothing stored": "refused",
    },
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def images(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ImageManager]:
    retry = DelayRetryStrategy(0)
    async with ImageManager(directory=tmp_path / "cache", clock=clock, memory_expiration=None, retry=retry) as manager:
        yield manager


async def outcome(server: ImageServer, images: ImageManager, url: str, policy: CachePolicy, asked: str) -> str:
    """What the call does, in the words of the table."""
    headers = {"Cache-Control": "only-if-cached"} if asked.startswith("only-if-cached") else {}
    try:
        result = await images.fetch(url, policy=policy, headers=headers)
    except NotInCacheError:
        return "refused"
    except ConnectionFailedError:
        return "down"
    await images._flights.idle()
    sent = []
    for request in server.requests:
        is_conditional = "If-None-Match" in request.headers or "If-Modified-Since" in request.headers
        control = request.headers.get("Cache-Control", "")
        sent.append(f"{'conditional' if is_conditional else 'GET'} {control}".strip())
        assert request.status == (304 if is_conditional else 200)
    if result.cache_status.hit:
        return " + ".join(["stale" if result.stale else "hit", *sent])
    assert result.revalidated == any("conditional" in each for each in sent)
    return " + ".join(sent)


@pytest.mark.parametrize("tier", ["memory", "disk"])
@pytest.mark.parametrize(
    ("policy", "situation"), [(policy, situation) for policy, row in TABLE.items() for situation in row]
)
async def test_the_table(
    server: ImageServer,
    images: ImageManager,
    clock: FakeClock,
    policy: CachePolicy,
    situation: str,
    tier: str,
) -> None:
    fields = FIELDS.get(situation, {"Cache-Control": f"max-age={FRESH_FOR}"})
    has_validators = situation != "stale without"
    url = server.add("/a.png", headers=fields, etag=has_validators, last_modified=has_validators)
    if "nothing stored" not in situation:
        # Under a header that belongs to a memory entry of its own, both tiers are filled by the very call.
        headers = {"Cache-Control": "only-if-cached"} if situation == "only-if-cached" else {}
        await images.fetch_image(url, policy=CachePolicy.RELOAD, headers=headers)
    if situation in STALE:
        clock.advance(FRESH_FOR + 1)
    if tier == "disk":
        images.clear_memory()
    server.reset()
    if situation == "origin down":
        await server.stop()
    assert await outcome(server, images, url, policy, situation) == TABLE[policy][situation]
