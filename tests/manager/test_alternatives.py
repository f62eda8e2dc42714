"""Other URLs for an image whose own fails: in their order, each as itself, and what is told if all fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from imagecache import (
    BackoffRetryStrategy,
    BadStatusError,
    CachePolicy,
    DownloadCancelledError,
    ImageManager,
    InvalidURLError,
    ManagerClosedError,
    NotAnImageError,
    NotInCacheError,
    Resize,
    ServedFrom,
)
from imagecache.testing import Answer, ImageServer, picture


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with ImageManager(directory=tmp_path / "cache", retry=BackoffRetryStrategy(2, base=0)) as manager:
        yield manager


def paths(server: ImageServer) -> list[str]:
    return [request.path for request in server.requests]


async def test_an_alternative_is_tried_after_all_tries_of_the_one_before(
    server: ImageServer, images: ImageManager
) -> None:
    url, other = server.url("/down.png"), server.add("/b.png")
    server.always("/down.png", Answer(status=503))
    result = await images.fetch(url, alternatives=[server.url("/missing.png"), other, server.url("/never.png")])
    assert paths(server) == ["/down.png", "/down.png", "/missing.png", "/b.png"]
    assert (result.url, result.final_url, result.served_from) == (other, other, ServedFrom.NETWORK)


async def test_a_url_that_works_needs_no_alternative(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    result = await images.fetch(url, alternatives=[server.add("/b.png")])
    assert result.url == url
    assert paths(server) == ["/a.png"]


async def test_each_is_stored_under_its_own_url(server: ImageServer, images: ImageManager) -> None:
    url, other = server.url("/missing.png"), server.add("/b.png")
    await images.fetch_image(url, alternatives=[other], cache_key="mine")
    with pytest.raises(NotInCacheError):
        await images.fetch_image(url, policy=CachePolicy.CACHE_ONLY, cache_key="mine")
    stored = await images.fetch(other, policy=CachePolicy.CACHE_ONLY)
    assert stored.url == other
    # And is found there the next time.
    again = await images.fetch(url, alternatives=[other], cache_key="mine")
    assert (again.url, again.served_from) == (other, ServedFrom.MEMORY)
    assert paths(server).count("/b.png") == 1


async def test_data_files_and_processed_images_have_alternatives_too(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    body = picture(60, 40)
    url, other = server.url("/missing.png"), server.add("/b.png", body)
    assert await images.fetch_data(url, alternatives=[other]) == body
    assert (await images.fetch_file(url, alternatives=[other], to=tmp_path / "b.png")).read_bytes() == body
    image = await images.fetch_image(url, alternatives=[other], processors=[Resize(30, 20)])
    assert image.size == (30, 20)


async def test_bytes_that_are_no_image_have_an_alternative(server: ImageServer, images: ImageManager) -> None:
    other = server.add("/b.png")
    url = server.add("/a.png", b"<html>")
    assert (await images.fetch(url, alternatives=[other])).url == other


async def test_the_last_error_is_raised_and_keeps_all_before_it(server: ImageServer, images: ImageManager) -> None:
    url, page = server.url("/missing.png"), server.add("/page", b"<html>")
    last = server.url("/gone.png")
    server.always("/gone.png", Answer(status=410))
    with pytest.raises(BadStatusError) as caught:
        await images.fetch_image(url, alternatives=[page, last])
    error = caught.value
    assert (error.status, error.url) == (410, last)
    first, second = error.errors
    assert isinstance(first, BadStatusError)
    assert (first.status, first.url) == (404, url)
    assert isinstance(second, NotAnImageError)
    assert second.url == page
    assert [note.startswith("tried before: ") for note in error.__notes__] == [True, True]
    assert url in error.__notes__[0]


async def test_an_error_without_alternatives_is_as_it_was(server: ImageServer, images: ImageManager) -> None:
    with pytest.raises(BadStatusError) as caught:
        await images.fetch_image(server.url("/missing.png"))
    assert caught.value.errors == ()
    assert not hasattr(caught.value, "__notes__")


async def test_callers_who_share_a_failure_do_not_share_its_notes(server: ImageServer, images: ImageManager) -> None:
    url, other = server.url("/missing.png"), server.url("/missing-too.png")
    calls = [images.fetch_image(url, alternatives=[other]) for _ in range(3)]
    errors = await asyncio.gather(*calls, images.fetch_image(other), return_exceptions=True)
    assert [len(getattr(error, "__notes__", ())) for error in errors] == [1, 1, 1, 0]
    assert [len(getattr(error, "errors", ())) for error in errors] == [1, 1, 1, 0]


@pytest.mark.parametrize("how", ["cancel", "cancel_all", "close", "own"])
async def test_nobody_goes_on_to_an_alternative_after_a_cancellation(
    server: ImageServer, images: ImageManager, how: str
) -> None:
    url, other = server.add("/a.png"), server.add("/b.png")
    gate = server.hold("/a.png")
    call = asyncio.create_task(images.fetch_image(url, alternatives=[other]))
    await gate.arrived(1)
    expected: type[BaseException] = DownloadCancelledError
    match how:
        case "cancel":
            images.cancel(url)
        case "cancel_all":
            images.cancel_all()
        case "close":
            expected = ManagerClosedError
            await images.aclose()
        case _:
            expected = asyncio.CancelledError
            call.cancel()
    with pytest.raises(expected):
        await call
    assert paths(server) == ["/a.png"]


async def test_credentials_stay_with_the_origin_they_were_given_for(server: ImageServer, images: ImageManager) -> None:
    headers = {"Authorization": "Bearer secret", "X-Key": "secret", "Accept-Language": "de"}
    async with ImageServer() as elsewhere:
        other = elsewhere.add("/b.png")
        await images.fetch_image(
            server.url("/missing.png"), alternatives=[server.url("/missing-too.png"), other], headers=headers
        )
        (request,) = elsewhere.requests
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer secret"] * 2
    assert "authorization" not in request.headers
    assert "x-key" not in request.headers
    assert request.headers["accept-language"] == "de"


@pytest.mark.parametrize(
    ("alternatives", "error"),
    [
        ("http://a.example/", TypeError),
        (3, TypeError),
        (["ftp://a.example/"], InvalidURLError),
        ([""], InvalidURLError),
    ],
)
async def test_wrong_alternatives_are_told_at_the_call(
    server: ImageServer, images: ImageManager, alternatives: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await images.fetch_image(server.add("/a.png"), alternatives=alternatives)
    assert paths(server) == []
