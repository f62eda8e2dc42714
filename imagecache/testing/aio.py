"""What lets aioresponses 0.7.9 answer for aiohttp 3.14 and later. No other mocking library needs anything from here.

aiohttp 3.14 requires of a response the writer of its request, and aioresponses makes responses without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter


class _NothingWritten:
    """The writer of a request that was never sent."""

    output_size = 0


class StubbedClientResponse(aiohttp.ClientResponse):
    """The class of aiohttp's responses, made without a request: give it to aioresponses as ``response_class``.

    >>> with aioresponses() as mock:
    ...     mock.get(
    ...         "https://a.example/cat.png",
    ...         body=picture(32, 24),
    ...         content_type="image/png",
    ...         headers={"ETag": '"v1"'},
    ...         response_class=StubbedClientResponse,
    ...     )
    ...     image = await images.fetch_image("https://a.example/cat.png")
    >>> image.size
    (32, 24)

    aioresponses answers for every ClientSession of the process, so for the rest of a program, too; where only
    images are concerned, ``imagecache.testing.stub`` says more in fewer lines.
    """

    def __init__(
        self, method: str, url: URL, *, stream_writer: AbstractStreamWriter | None = None, **arguments: Any
    ) -> None:
        writer = stream_writer if stream_writer is not None else cast("AbstractStreamWriter", _NothingWritten())
        super().__init__(method, url, stream_writer=writer, **arguments)
