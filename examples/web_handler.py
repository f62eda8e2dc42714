"""A web service that makes thumbnails of other people's images: ``GET /thumbnail?url=…&size=200``.

The URLs come from strangers, so the manager is ``ImageManager.untrusted``: no private addresses, small bodies, few
pixels, little time. A hundred visitors who ask for one thumbnail at once cost one download and one resize.

Usage: python -m examples.web_handler
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from imagecache import (
    AddressRefusedError,
    Downsample,
    ImageCacheError,
    ImageError,
    ImageManager,
    RequestError,
    TimedOutError,
)

IMAGES = web.AppKey("images", ImageManager)
LARGEST = 1024


def untrusted_manager() -> ImageManager:
    """The manager of the service, made when it starts."""
    return ImageManager.untrusted("thumbnail-service")


def make_app(make_manager: Callable[[], ImageManager] = untrusted_manager) -> web.Application:
    """The service, around a manager that it opens when it starts and closes when it ends."""

    async def open_manager(app: web.Application) -> AsyncIterator[None]:
        async with make_manager() as images:
            app[IMAGES] = images
            yield

    app = web.Application()
    app.cleanup_ctx.append(open_manager)
    app.router.add_get("/thumbnail", thumbnail)
    return app


async def thumbnail(request: web.Request) -> web.Response:
    """One thumbnail as WebP, or the reason why there is none."""
    size = request.query.get("size", "200")
    if not (size.isdecimal() and 1 <= int(size) <= LARGEST):
        raise web.HTTPBadRequest(text=f"size is a number of pixels from 1 to {LARGEST}")
    shrink = Downsample(int(size), int(size))
    try:
        data = await request.app[IMAGES].fetch_data(
            request.query.get("url", ""), processors=[shrink], format="WEBP", quality=80
        )
    except AddressRefusedError:
        # What a name of this network resolves to is no visitor's business.
        raise web.HTTPForbidden(text="only public addresses are visited") from None
    except ImageCacheError as error:
        return web.Response(status=status_of(error), text=error.message)
    return web.Response(body=data, content_type="image/webp", headers={"Cache-Control": "public, max-age=3600"})


def status_of(error: ImageCacheError) -> int:
    """What to tell the visitor: his own mistake, a bad image, or a server that did not deliver."""
    match error:
        case RequestError():
            return 400
        case ImageError():
            return 422
        case TimedOutError():
            return 504
        case _:
            return 502


if __name__ == "__main__":
    web.run_app(make_app())
