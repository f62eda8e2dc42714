"""The HTTP cache itself: any status, any media type."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagecache import CachePolicy, ImageManager, NotAnImageError, ServedFrom
from imagecache.testing import Answer, FakeClock, ImageServer


async def test_any_status_and_any_type_come_back_as_they_are(server: ImageServer, images: ImageManager) -> None:
    page = server.add("/page.html", b"<html>", headers={"Content-Type": "text/html"})
    answer = await images.fetch_response(page)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"<html>", "text/html")
    assert (await images.fetch_response(server.url("/nothing"))).status == 404


async def test_fresh_answers_are_served_with_their_age_and_stale_ones_validated(
    server: ImageServer, tmp_path: Path
) -> None:
    clock = FakeClock()
    async with ImageManager(directory=tmp_path, clock=clock) as images:
        url = server.add("/a.css", b"body {}", headers={"Cache-Control": "max-age=100", "Date": None})
        await images.fetch_response(url)
        clock.advance(40)
        fresh = await images.fetch_response(url)
        assert (fresh.served_from, fresh.headers["age"]) == (ServedFrom.DISK, "40")
        clock.advance(100)
        validated = await images.fetch_response(url)
        assert (validated.revalidated, validated.body) == (True, b"body {}")
    assert [request.status for request in server.requests] == [200, 304]


async def test_image_calls_never_meet_what_was_stored_here(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/page.html", b"<html>", headers={"Cache-Control": "max-age=100"})
    await images.fetch_response(url)
    with pytest.raises(NotAnImageError):
        await images.fetch_image(url)
    assert (await images.fetch_response(url)).served_from is ServedFrom.DISK


async def test_redirects_are_followed_only_if_asked_and_the_two_are_not_mixed_up(
    server: ImageServer, images: ImageManager
) -> None:
    target = server.add("/target", b"there", headers={"Cache-Control": "max-age=100"})
    start = server.always("/start", Answer(status=302, headers={"Location": "/target", "Cache-Control": "max-age=100"}))
    for _ in range(2):
        assert (await images.fetch_response(start, follow_redirects=True)).final_url == target
        assert (await images.fetch_response(start)).status == 302


async def test_head_has_no_body_and_other_methods_are_refused(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    answer = await images.fetch_response(url, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    with pytest.raises(ValueError, match="GET or HEAD"):
        await images.fetch_response(url, method="POST")  # type: ignore[arg-type]


async def test_no_store_is_not_kept(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a", b"secret", headers={"Cache-Control": "no-store"})
    await images.fetch_response(url)
    await images.fetch_response(url)
    assert server.count() == 2
    assert await images.cache.disk.count() == 0


async def test_what_is_stored_here_changes_nothing_of_the_images_in_memory(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url = server.add("/a.png", headers={"Cache-Control": "max-age=100"})
    first = await images.fetch(url)
    server.replace("/a.png", b"a page by now")
    async with ImageManager(directory=tmp_path / "cache") as other:
        for manager in (images, other):
            assert (await manager.fetch_response(url, policy=CachePolicy.RELOAD)).body == b"a page by now"
            await manager.cache.disk.flush()
    await images.cache.disk.poll()
    again = await images.fetch(url)
    assert (again.served_from, again.checksum) == (ServedFrom.MEMORY, first.checksum)
