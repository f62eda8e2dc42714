"""One request, one decode, one run of each processor for all who ask at a time; each may leave when it likes."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from imagecache import (
    BadStatusError,
    Blur,
    CachePolicy,
    DownloadRequest,
    ImageManager,
    Resize,
    ServedFrom,
    TimedOutError,
)  # fmt: skip
from imagecache.testing import Answer, ImageServer, picture

token: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="none")


async def test_a_hundred_callers_make_one_request_and_one_decode(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(100)]
    await gate.arrived(1)
    gate.open()
    made = await asyncio.gather(*calls)
    assert len({id(image) for image in made}) == 100
    assert len({image.tobytes() for image in made}) == 1
    assert server.count() == 1
    assert images.counters.decodes == 1


async def test_processor_prefixes_are_shared(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    resize, blur = Resize(20, 20), Blur(2)
    one = asyncio.create_task(images.fetch_image(url, processors=[resize]))
    two = asyncio.create_task(images.fetch_image(url, processors=[resize, blur]))
    await gate.arrived(1)
    gate.open()
    resized, blurred = await asyncio.gather(one, two)
    assert resized.tobytes() != blurred.tobytes()
    assert server.count() == 1
    assert images.counters.decodes == 1
    assert images.counters.by_processor == {resize.identifier: 1, blur.identifier: 1}


async def test_image_data_and_file_of_one_url_share_the_request(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [
        asyncio.create_task(images.fetch_image(url)),
        asyncio.create_task(images.fetch_data(url)),
        asyncio.create_task(images.fetch_file(url)),
        asyncio.create_task(images.fetch(url, policy=CachePolicy.PROTOCOL)),
    ]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert server.count() == 1


async def test_one_caller_cancelled_leaves_the_others_theirs(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(5)]
    await gate.arrived(1)
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    gate.open()
    made = await asyncio.gather(*calls[1:])
    assert len(made) == 4
    assert calls[0].cancelled()
    assert server.count() == 1


async def test_all_cancelled_closes_the_connection_and_leaves_nothing_behind(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    gate = server.hold_body("/a.png")
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(5)]
    await gate.arrived(1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await server.wait_for_disconnect("/a.png")
    await images._flights.idle()
    assert len(images._flights) == 0
    assert images.downloader.active == 0


async def test_cancelled_and_asked_again_at_once_works(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    first = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    first.cancel()
    second = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(2)
    gate.open()
    assert (await second).size
    assert first.cancelled()
    assert server.count() == 2


async def test_a_failure_reaches_every_waiter_and_is_stored_nowhere(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    server.script("/a.png", Answer(status=404, gate=gate))
    calls = [asyncio.create_task(images.fetch_image(url)) for _ in range(3)]
    await gate.arrived(1)
    gate.open()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [BadStatusError] * 3
    assert len({id(error) for error in errors}) == 3
    assert (await images.fetch(url)).served_from is ServedFrom.NETWORK
    assert server.count() == 2


async def test_a_late_caller_gets_the_bytes_already_there(server: ImageServer, images: ImageManager) -> None:
    body = picture(400, 300, format="PNG")
    url = server.add("/a.png", body)
    gate = server.hold_body("/a.png")
    seen: list[tuple[int, int | None]] = []
    arrived = asyncio.Event()

    def early(received: int, total: int | None) -> None:
        arrived.set()

    first = asyncio.create_task(images.fetch_image(url, progress=early))
    await gate.arrived(1)
    await arrived.wait()
    heard = asyncio.Event()

    def late_progress(received: int, total: int | None) -> None:
        seen.append((received, total))
        heard.set()

    late = asyncio.create_task(images.fetch(url, progress=late_progress))
    await heard.wait()
    assert 0 < seen[0][0] < len(body)
    gate.open()
    result = await late
    await first
    assert result.metrics.shared
    assert seen[-1] == (len(body), len(body))
    assert server.count() == 1


async def test_progress_tells_an_unknown_total_as_none(server: ImageServer, images: ImageManager) -> None:
    body = picture(200, 100, format="PNG")
    url = server.add("/a.png", body)
    server.always("/a.png", Answer(chunked=True))
    seen: list[tuple[int, int | None]] = []
    await images.fetch_image(url, progress=lambda *told: seen.append(told))
    assert seen[-1] == (len(body), None)


@dataclass
class Listener:
    tokens: list[str] = field(default_factory=list)

    async def will_download_image(self, url: str, request: DownloadRequest) -> None:
        self.tokens.append(token.get())

    def did_download_image(self, image: Image.Image, url: str, response: object) -> None:
        self.tokens.append(token.get())


async def test_no_modifier_or_delegate_sees_a_callers_context(server: ImageServer, images: ImageManager) -> None:
    listener = Listener()

    def modify(request: DownloadRequest) -> DownloadRequest:
        listener.tokens.append(token.get())
        return request

    images.add_request_modifier(modify)
    images.add_delegate(listener)
    token.set("alice's")
    await images.fetch_image(server.add("/a.png"))
    assert listener.tokens == ["none"] * 3


async def test_partitions_are_evaluated_in_the_callers_context_and_keep_users_apart(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")

    async def as_user(name: str) -> ServedFrom:
        token.set(name)
        return (await images.fetch(url, partition=token.get)).served_from

    for user in ("alice", "bob"):
        assert await asyncio.create_task(as_user(user)) is ServedFrom.NETWORK
        assert await asyncio.create_task(as_user(user)) is ServedFrom.MEMORY
    images.clear_memory()
    assert await asyncio.create_task(as_user("alice")) is ServedFrom.DISK
    assert await asyncio.create_task(as_user("carol")) is ServedFrom.NETWORK
    assert server.count() == 3


async def test_explicit_credentials_keep_users_apart_and_stay_off_the_disk(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url = server.add("/a.png")
    for value in ("Bearer alice-t0ken", "Bearer bob-t0ken"):
        assert (await images.fetch(url, headers={"Authorization": value})).served_from is ServedFrom.NETWORK
    assert (await images.fetch(url)).served_from is ServedFrom.NETWORK
    await images.aclose()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert stored
    assert b"t0ken" not in stored


async def test_a_timeout_is_the_callers_own(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    patient = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    with pytest.raises(TimedOutError) as caught:
        await images.fetch_image(url, timeout=0.01)
    assert caught.value.limit == "total"
    gate.open()
    assert (await patient).size
    assert server.count() == 1


async def test_closing_ends_what_is_under_way(server: ImageServer, images: ImageManager) -> None:
    from imagecache import ManagerClosedError

    url = server.add("/a.png")
    gate = server.hold("/a.png")
    call = asyncio.create_task(images.fetch_image(url))
    await gate.arrived(1)
    await images.aclose()
    with pytest.raises(ManagerClosedError):
        await call
    with pytest.raises(ManagerClosedError):
        await images.fetch_image(url)
