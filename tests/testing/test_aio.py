"""aioresponses answers for aiohttp's own sessions and for the library, with the response class from here."""

from collections.abc import Iterator

import aiohttp
import pytest
from aioresponses import aioresponses

from imagecache import BadStatusError, ImageManager
from imagecache.testing import StubbedClientResponse, picture

URL = "https://a.example/cat.png"


@pytest.fixture
def mock() -> Iterator[aioresponses]:
    with aioresponses() as mocking:
        yield mocking


async def test_a_session_reads_the_body(mock: aioresponses) -> None:
    mock.get(URL, body=b"bytes", headers={"ETag": '"v1"'}, response_class=StubbedClientResponse)
    async with aiohttp.ClientSession() as session, session.get(URL) as response:
        assert response.status == 200
        assert response.headers["ETag"] == '"v1"'
        assert await response.read() == b"bytes"


async def test_a_session_streams_the_body(mock: aioresponses) -> None:
    body = picture(200, 200)
    mock.get(URL, body=body, response_class=StubbedClientResponse)
    async with aiohttp.ClientSession() as session:
        response = await session.get(URL)
        received = bytearray()
        while chunk := await response.content.readany():
            received += chunk
        response.release()
    assert bytes(received) == body


async def test_the_class_of_aiohttp_is_what_fails_without_it(mock: aioresponses) -> None:
    # When this fails, aioresponses has learnt it, and the class is no longer needed.
    mock.get(URL, body=b"bytes")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TypeError, match="stream_writer"):
            await session.get(URL)


async def test_a_manager_gets_its_images_and_errors_from_it(mock: aioresponses) -> None:
    mock.get(
        URL, body=picture(32, 24), headers={"ETag": '"v1"'}, content_type="image/png",
        response_class=StubbedClientResponse,
    )  # fmt: skip
    mock.get(f"{URL}?gone", status=404, response_class=StubbedClientResponse)
    async with ImageManager("test", disk_limit=0) as images:
        result = await images.fetch(URL)
        assert (result.image.size, result.etag) == ((32, 24), '"v1"')
        with pytest.raises(BadStatusError) as caught:
            await images.fetch_image(f"{URL}?gone")
        assert caught.value.status == 404


async def test_a_manager_revalidates_with_it(mock: aioresponses) -> None:
    mock.get(URL, body=picture(), headers={"ETag": '"v1"'}, response_class=StubbedClientResponse)
    mock.get(URL, status=304, headers={"ETag": '"v1"'}, response_class=StubbedClientResponse)
    async with ImageManager("test", disk_limit=0) as images:
        await images.fetch_image(URL)
        assert (await images.fetch(URL, force_refresh=True)).revalidated
