"""From bytes to pixels, and from pixels to processed ones. Each prefix of the processors that somebody asks for is
a flight; the empty prefix is the decode.

The flights are keyed by the checksum of the bytes: what is made of a body is the same for everybody who has
that body, however they came by it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ImageCacheError, ImageError, NotInCacheError, ProcessorError
from ..imaging.decode import DecodeOptions, decode, decoded_cost, options_for
from ..imaging.header import read_header
from ..imaging.shared import SharedImage
from ..keys import display_url
from ..protocols import CacheSerializer, ImageProcessor
from ..request import CachePolicy, ImageRequest
from ..result import ServedFrom
from .cached import CachedImage
from .flight import Flight, Listener
from .load import Loaded, Loader
from .parts import Parts, memory_key
from .variants import keep_variant, read_variant, serialize, variant_of

if TYPE_CHECKING:
    from PIL import Image

    from ..imaging.limits import ImageLimits


MOST_BYTES_PER_PIXEL = 16
"""The picture, its converted copy, and the largest of what decoders hold beside them."""
SMALL_COST = 4 * 2**20
"""Below this a bound is good enough for the budget; above, reading the header again is nothing to the decode."""


@dataclass(frozen=True, slots=True)
class Made:
    """Pixels, and the answer they were made from: another than was asked for, if its bytes had gone.

    ``is_reused`` tells that they were in memory all along; times are in seconds.
    """

    cached: CachedImage
    loaded: Loaded
    is_reused: bool = False
    decode_time: float = 0.0
    process_time: float = 0.0


class PixelStage:
    """The stage that decodes and processes, in worker threads."""

    def __init__(self, parts: Parts, loader: Loader) -> None:
        self._parts = parts
        self._loader = loader

    async def make(self, loaded: Loaded, request: ImageRequest, listener: Listener) -> Made:
        """The image of a request, with all its processors applied."""
        return await self._prefix(loaded, request, len(request.processors), listener)

    async def _prefix(self, loaded: Loaded, request: ImageRequest, count: int, listener: Listener) -> Made:
        held = self._parts.held(request, count)
        if held is not None and held.checksum == loaded.entry.checksum:
            return Made(held, loaded, is_reused=True)
        options = options_for(request.processors, request.mode)
        applied = tuple(processor.identifier for processor in request.processors[:count])
        key = ("pixels", loaded.entry.row, loaded.entry.checksum, options.identifier, applied)
        work = partial(self._process if count else self._decode, loaded, request, count)
        return await self._parts.flights.join(key, work, listener)

    async def _process(self, loaded: Loaded, request: ImageRequest, count: int, flight: Flight[Made]) -> Made:
        parts = self._parts
        serializer = parts.rules.serializer if count == len(request.processors) else None
        if serializer is not None and (made := await self._read_serialized(loaded, request, serializer)):
            return made
        base = await self._prefix(loaded, request, count - 1, flight)
        processor, pixels, url = request.processors[count - 1], base.cached.pixels, display_url(request.url)
        started = time.perf_counter()
        processed = await parts.workers.run(_apply, processor, pixels, url, cost=pixels.cost)
        process_time = base.process_time + time.perf_counter() - started
        parts.counters.processes += 1
        done = parts.counters.by_processor
        done[processor.identifier] = done.get(processor.identifier, 0) + 1
        if serializer is not None:
            body, checksum = await parts.workers.run(serialize, processed, serializer, url)
            variant = variant_of(request, serializer.identifier)
            keep_variant(parts, base.loaded, variant, body, checksum, format=None)
        cached = CachedImage(memory_key(request, count), processed, base.loaded.entry)
        return Made(cached, base.loaded, decode_time=base.decode_time, process_time=process_time)

    async def _read_serialized(self, loaded: Loaded, request: ImageRequest, serializer: CacheSerializer) -> Made | None:
        parts = self._parts
        stored = await read_variant(parts, loaded.entry, variant_of(request, serializer.identifier))
        if stored is None or stored.body is None:
            return None
        options = DecodeOptions(mode=request.mode)
        try:
            pixels = await parts.workers.run(
                _decode, stored.body, options, parts.rules.limits, display_url(request.url)
            )
        except ImageError:
            return None  # A variant that does not decode is made again, and replaced.
        return Made(CachedImage(memory_key(request), pixels, loaded.entry), loaded)

    async def _decode(self, loaded: Loaded, request: ImageRequest, _: int, flight: Flight[Made]) -> Made:
        loaded = await self._loader.with_body(loaded, request, flight)
        try:
            return await self._decoded(loaded, request)
        except ImageError as error:
            self._forget(loaded)
            if loaded.served_from is ServedFrom.NETWORK:
                raise
            if request.policy is CachePolicy.CACHE_ONLY:
                raise NotInCacheError(f"what is stored cannot be decoded: {error}", url=error.url) from error
        # What was stored did not decode: it is dropped, and loaded again, once.
        loaded = await self._loader.reload(request, flight)
        try:
            return await self._decoded(loaded, request)
        except ImageCacheError:
            self._forget(loaded)
            raise

    async def _decoded(self, loaded: Loaded, request: ImageRequest) -> Made:
        parts = self._parts
        body = loaded.body
        assert body is not None
        options = options_for(request.processors, request.mode)
        limits, url = parts.rules.limits, display_url(request.url)
        started = time.perf_counter()
        cost = await self._cost(loaded, body, options)
        pixels = await parts.workers.run(_decode, body, options, limits, url, cost=cost)
        parts.counters.decodes += 1
        cached = CachedImage(memory_key(request, 0), pixels, loaded.entry)
        return Made(cached, loaded, decode_time=time.perf_counter() - started)

    async def _cost(self, loaded: Loaded, body: bytes, options: DecodeOptions) -> int:
        """What decoding will hold at one time, bytes: for small images a bound, for others what the header says."""
        bound = (loaded.entry.width or 0) * (loaded.entry.height or 0) * MOST_BYTES_PER_PIXEL
        if 0 < bound <= SMALL_COST:
            return bound
        url = display_url(loaded.entry.url)
        header = await self._parts.workers.run(partial(read_header, body, limits=self._parts.rules.limits, url=url))
        return decoded_cost(header, options)

    def _forget(self, loaded: Loaded) -> None:
        self._parts.currency.supersede(loaded.entry.row.key_hash, None)
        self._parts.cache.disk.discard(loaded.entry)


def _decode(body: bytes, options: DecodeOptions, limits: ImageLimits, url: str) -> SharedImage:
    return SharedImage(decode(body, options=options, limits=limits, url=url))


def _apply(processor: ImageProcessor, pixels: SharedImage, url: str) -> SharedImage:
    try:
        made: Image.Image = processor.process(pixels.image())
        made.load()
    except ImageCacheError as error:
        error.url = error.url or url
        raise
    except Exception as error:  # The border of a user's code: whatever it raises ends as our error.
        message = f"the processor {processor.identifier} raised {type(error).__name__}: {error}"
        raise ProcessorError(message, url=url, processor=processor.identifier) from error
    return SharedImage(made)
