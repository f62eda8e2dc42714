"""Each misbehaviour of the table ends in time, in an error of ours or in the very picture; nothing wrong is stored, and
the next request to the same host is answered right.
"""

from __future__ import annotations

import asyncio

import pytest

from imagecache import CachePolicy, CacheType, ImageManager, Timeouts
from imagecache.errors import ImageCacheError, NotInCacheError, TimedOutError
from imagecache.network.retry import BackoffRetryStrategy
from tests.hostile.cases import CASES, Case
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import MIB, NEXT, PICTURE, says, sized
from tests.network.server import RawServer

GUARD = 60.0
"""Seconds in which everything ends, on the slowest machine: the limits of the library are what ends it."""
SMALL = Timeouts(connect=5, idle=0.4, min_rate=4000, rate_window=0.4)
TOTAL = 3.0
ENDLESS = Timeouts(idle=1.5)
"""For what goes on and on without a byte that counts."""


def manager_for(name: str, make: MakeManager, retry: BackoffRetryStrategy) -> ImageManager:
    if CASES[name].limit:
        return make(timeout=TOTAL, timeouts=SMALL, retry=retry)
    if name.startswith("endless"):
        return make(max_body="256 KiB", timeouts=ENDLESS, retry=retry)
    return make(max_body=2 * MIB, retry=retry)


@pytest.mark.parametrize("name", CASES)
async def test_it_ends_right_and_harms_nothing_else(server: RawServer, make: MakeManager, name: str) -> None:
    case, retry = CASES[name], BackoffRetryStrategy(1)
    images = manager_for(name, make, retry)
    url = server.on("/hostile", case.handler)
    server.on("/picture", says(sized()))
    next_url = server.on("/next", says(sized(NEXT)))
    async with asyncio.timeout(GUARD):
        outcome = await what_comes(images, url, is_decoded=case.is_decoded)
        judge(case, outcome, url)
        await look_at_the_store(images, url, outcome)
        if case.limit or name.startswith("endless"):
            # The small limits are meant for the other answer; a busy machine may need longer for this one.
            retry.max_tries = 5
        for _ in range(2):
            assert await images.fetch_data(next_url, policy=CachePolicy.RELOAD) == NEXT
        assert images.downloader.active == 0


async def what_comes(images: ImageManager, url: str, *, is_decoded: bool) -> bytes | ImageCacheError:
    """The bytes, or the error; anything foreign fails the test by itself."""
    try:
        if is_decoded:
            await images.fetch_image(url)
        return await images.fetch_data(url)
    except ImageCacheError as error:
        return error


def judge(case: Case, outcome: bytes | ImageCacheError, url: str) -> None:
    if isinstance(outcome, bytes):
        assert outcome == PICTURE, "bytes that are not the picture's"
        assert case.error is None or case.or_picture, "an error was to come of this"
        return
    if case.error is None or not isinstance(outcome, case.error):
        # The unexpected error with its own traceback says more than any assertion about it.
        raise outcome
    assert outcome.url == url
    assert type(outcome).__module__ == "imagecache.errors"
    if case.limit:
        assert isinstance(outcome, TimedOutError)
        assert outcome.limit in case.limit
    if case.has_cause:
        assert outcome.__cause__ is not None


async def look_at_the_store(images: ImageManager, url: str, outcome: bytes | ImageCacheError) -> None:
    await images.cache.flush()
    if isinstance(outcome, bytes):
        assert await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY) == PICTURE
        return
    assert await images.cache.is_cached(url) is CacheType.NONE
    assert (await images.explain(url)).entry is None
    with pytest.raises(NotInCacheError):
        await images.fetch_data(url, policy=CachePolicy.CACHE_ONLY)
