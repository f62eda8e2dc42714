"""A cancellation that comes from inside a callback is that callback's failure; the caller's own is the caller's."""

from __future__ import annotations

import asyncio

import pytest

from imagecache import DownloadRequest, ImageManager, RequestModifierError, ResponseInfo
from imagecache.testing import ImageServer


def cancelled() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


class RaisesIt:
    def did_receive_response(self, response: ResponseInfo) -> bool:
        raise asyncio.CancelledError


class AwaitsOne:
    async def did_receive_response(self, response: ResponseInfo) -> bool:
        await cancelled()
        return True


class GivesOne:
    def did_receive_response(self, response: ResponseInfo) -> asyncio.Future[None]:
        return cancelled()


@pytest.mark.parametrize("delegate", [RaisesIt(), AwaitsOne(), GivesOne()])
async def test_a_delegate_that_ends_in_a_cancellation_has_failed_and_the_image_comes(
    server: ImageServer, images: ImageManager, caplog: pytest.LogCaptureFixture, delegate: object
) -> None:
    images.add_delegate(delegate)
    assert (await images.fetch_image(server.add("/a.png"))).size
    assert "the delegate method did_receive_response raised" in caplog.text


async def test_a_delegate_that_ends_in_a_cancellation_after_the_download_has_failed_too(
    server: ImageServer, images: ImageManager, caplog: pytest.LogCaptureFixture
) -> None:
    class Late:
        async def did_download_image(self, image: object, url: str, response: ResponseInfo) -> None:
            await cancelled()

    images.add_delegate(Late())
    assert (await images.fetch_image(server.add("/a.png"))).size
    assert "the delegate method did_download_image raised" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_modifier_that_ends_in_a_cancellation_has_refused_the_request(
    server: ImageServer, images: ImageManager, is_async: bool
) -> None:
    def raises(request: DownloadRequest) -> DownloadRequest:
        raise asyncio.CancelledError

    async def awaits(request: DownloadRequest) -> DownloadRequest:
        await cancelled()
        return request

    url = server.add("/a.png")
    with images.add_request_modifier(awaits if is_async else raises), pytest.raises(RequestModifierError) as caught:
        await images.fetch_image(url)
    assert caught.value.url == url
    assert server.count() == 0
    assert (await images.fetch_image(url)).size


async def test_a_caller_that_is_cancelled_while_a_delegate_works_is_cancelled_and_so_is_the_delegate(
    server: ImageServer, images: ImageManager, caplog: pytest.LogCaptureFixture
) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    class Slow:
        async def did_receive_response(self, response: ResponseInfo) -> bool:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()
            return True

    images.add_delegate(Slow())
    call = asyncio.create_task(images.fetch_image(server.add("/a.png")))
    await asyncio.wait_for(entered.wait(), 10)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    await asyncio.wait_for(left.wait(), 10)
    await images._flights.idle()
    assert "raised" not in caplog.text


async def test_the_same_delegate_added_twice_is_two_and_each_handle_takes_one_away(
    server: ImageServer, images: ImageManager
) -> None:
    asked: list[str] = []

    class Listener:
        def will_download_image(self, url: str, request: DownloadRequest) -> None:
            asked.append(url)

    listener = Listener()
    first, second = images.add_delegate(listener), images.add_delegate(listener)
    await images.fetch_image(server.add("/a.png"))
    assert len(asked) == 2
    second.remove()
    second.remove()
    await images.fetch_image(server.add("/b.png"))
    assert len(asked) == 3
    first.remove()
    await images.fetch_image(server.add("/c.png"))
    assert len(asked) == 3
