"""From bytes to pixels, and from pixels to processed ones. Each prefix of the processors that somebody asks for is
a flight; the empty prefix is the decode.

The flights are keyed by the checksum of the bytes: what is made of a body is the same for everybody who has
that body, however they came by it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..entry import Entry
from ..errors import ImageCacheError, ImageError, ProcessorError
from ..imaging import processors
from ..imaging.decode import DecodeOptions, decode, decoded_cost, options_for
from ..imaging.header import read_header
from ..imaging.processors.custom import Custom
from ..imaging.shared import SharedImage
from ..keys import display_url
from ..protocols import CacheSerializer, ImageProcessor
from ..request import ImageRequest
from ..result import ServedFrom
from .cached import CachedImage
from .early import is_small, most_cost
from .flight import Flight, Listener
from .load import CARRIED, Loader
from .loaded import Loaded, UnusableError
from .parts import Parts, memory_key
from .variants import keep_variant, read_variant, serialize, variant_of

if TYPE_CHECKING:
    from PIL import Image

    from ..imaging.limits import ImageLimits


@dataclass(frozen=True, slots=True)
class Made:
    """An image for a caller, and the answer it was made from: another than it had, if those bytes had gone.

    ``is_reused`` tells that the pixels were in memory all along; times are in seconds.
    """

    cached: CachedImage
    loaded: Loaded
    is_reused: bool = False
    decode_time: float = 0.0
    process_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a flight makes: pixels, the same for all who wait; how each of them came by the bytes is its own affair."""

    shared: SharedImage
    decode_time: float = 0.0
    process_time: float = 0.0


class PixelStage:
    """The stage that decodes and processes, in worker threads."""

    def __init__(self, parts: Parts, loader: Loader) -> None:
        self._parts = parts
        self._loader = loader
        self._one_look = asyncio.Semaphore(1)

    async def make(self, loaded: Loaded, request: ImageRequest, listener: Listener) -> Made:
        """The image of a request, with all its processors applied; loaded again if its bytes prove to be of no use."""
        try:
            return await self.attempt(loaded, request, listener)
        except UnusableError as error:
            loaded = await self._loader.replace_unusable(error, request, listener)
        return await self.attempt(loaded, request, listener)

    async def attempt(self, loaded: Loaded, request: ImageRequest, listener: Listener) -> Made:
        """The same from the bytes of ``loaded`` alone. Raises UnusableError where they are gone or do not decode."""
        held = self._parts.held(request)
        if held is not None and held.checksum == loaded.entry.checksum:
            # Another who waited for the same answer may have put there what came with it.
            ready = loaded.decoded
            if ready is not None and ready.shared is held.pixels:
                return Made(held, loaded, decode_time=ready.seconds)
            return Made(held, loaded, is_reused=True)
        made = await self._prefix(loaded, request, len(request.processors), listener)
        cached = CachedImage(memory_key(request), made.shared, loaded.entry)
        return Made(cached, loaded, decode_time=made.decode_time, process_time=made.process_time)

    async def _prefix(self, loaded: Loaded, request: ImageRequest, count: int, listener: Listener) -> Pixels:
        # With all of its processors, whoever asks has looked.
        held = self._parts.held(request, count) if count < len(request.processors) else None
        if held is not None and held.checksum == loaded.entry.checksum:
            return Pixels(held.pixels)
        options = options_for(request.processors, request.mode)
        if not count:
            ready = await self._loader.early.decoded(loaded, options.identifier)
            if ready is not None:
                return Pixels(ready.shared, decode_time=ready.seconds)
        applied = tuple(processor.identifier for processor in request.processors[:count])
        key = ("pixels", loaded.entry.row, loaded.entry.checksum, options.identifier, applied)
        work = partial(self._process if count else self._decode, loaded, request, count)
        return await self._parts.flights.join(key, work, listener)

    async def _process(self, loaded: Loaded, request: ImageRequest, count: int, flight: Flight[Pixels]) -> Pixels:
        parts = self._parts
        serializer = parts.rules.serializer if count == len(request.processors) else None
        if serializer is not None and (stored := await self._read_serialized(loaded, request, serializer)):
            return stored
        base = await self._prefix(loaded, request, count - 1, flight)
        processor, url = request.processors[count - 1], display_url(request.url)
        started = time.perf_counter()
        processed = await parts.workers.run(_apply, processor, base.shared, url, cost=base.shared.cost)
        process_time = base.process_time + time.perf_counter() - started
        parts.counters.processes += 1
        parts.counters.spent("process", process_time - base.process_time)
        done = parts.counters.by_processor
        done[processor.identifier] = done.get(processor.identifier, 0) + 1
        if serializer is not None:
            body, checksum = await parts.workers.run(serialize, processed, serializer, url)
            keep_variant(parts, loaded, variant_of(request, serializer.identifier), body, checksum, format=None)
        return Pixels(processed, base.decode_time, process_time)

    async def _read_serialized(
        self, loaded: Loaded, request: ImageRequest, serializer: CacheSerializer
    ) -> Pixels | None:
        parts = self._parts
        stored = await read_variant(parts, loaded.entry, variant_of(request, serializer.identifier), request)
        if stored is None or stored.body is None:
            return None
        options = DecodeOptions(mode=request.mode)
        try:
            return Pixels(
                await parts.workers.run(_decode, stored.body, options, parts.rules.limits, display_url(request.url))
            )
        except ImageError:
            return None  # A variant that does not decode is made again, and replaced.

    async def _decode(self, loaded: Loaded, request: ImageRequest, _: int, flight: Flight[Pixels]) -> Pixels:
        parts = self._parts
        options = options_for(request.processors, request.mode)
        limits, url = parts.rules.limits, display_url(request.url)
        started = time.perf_counter()
        try:
            with self._loader.early.leaving_alone(loaded.entry.row.key_hash):
                cost, held = await self._prepared(loaded, options, flight)
                bring = partial(self._body, loaded, held, flight)
                shared = await parts.workers.run(_decode, options, limits, url, cost=cost, bring=bring)
        except ImageError as error:
            parts.currency.supersede(loaded.entry.row, None)
            parts.cache.disk.discard(loaded.entry)
            if loaded.served_from is ServedFrom.NETWORK and not loaded.was_resumed:
                raise
            raise UnusableError(f"what was stored cannot be decoded: {error.message}") from error
        decode_time = time.perf_counter() - started
        parts.counters.decodes += 1
        parts.counters.spent("decode", decode_time)
        return Pixels(shared, decode_time=decode_time)

    async def _prepared(
        self, loaded: Loaded, options: DecodeOptions, flight: Flight[Pixels]
    ) -> tuple[int, bytes | None]:
        """What decoding will cost, and the bytes, unless they are long, have to wait, and can be read again."""
        if loaded.body is not None or loaded.entry.byte_count <= CARRIED:
            body = await self._body(loaded, None, flight)
            return await self._cost(loaded.entry, body, options), body
        # One at a time: those who wait for the budget hold no more than one body between them.
        async with self._one_look:
            body = await self._body(loaded, None, flight)
            cost = await self._cost(loaded.entry, body, options)
            return cost, body if self._parts.workers.has_room(cost) else None

    async def _body(self, loaded: Loaded, held: bytes | None, flight: Flight[Pixels]) -> bytes:
        body = held if held is not None else loaded.body
        if body is None:
            body = await self._loader.stored_body(loaded, flight)
        if body is None:
            raise UnusableError("the stored bytes have gone")
        return body

    async def problem_with(self, entry: Entry, body: bytes) -> str | None:
        """Why stored bytes do not decode, or None if they do."""
        options = options_for((), "auto")
        try:
            cost = await self._cost(entry, body, options)
            await self._parts.workers.run(_decode, body, options, self._parts.rules.limits, entry.url, cost=cost)
        except ImageError as error:
            return error.message
        return None

    async def _cost(self, entry: Entry, body: bytes, options: DecodeOptions) -> int:
        """What decoding will hold at one time, bytes: for small images a bound, for others what the header says."""
        if is_small(entry):
            # Good enough for the budget; of larger ones, reading the header again is nothing to the decode.
            return most_cost(entry)
        url = display_url(entry.url)
        header = await self._parts.workers.run(partial(read_header, body, limits=self._parts.rules.limits, url=url))
        return decoded_cost(header, options)


def _decode(body: bytes, options: DecodeOptions, limits: ImageLimits, url: str) -> SharedImage:
    return SharedImage(decode(body, options=options, limits=limits, url=url), is_alone=True)


def _is_ours(processor: ImageProcessor) -> bool:
    kind = type(processor)
    return kind.__module__.startswith(f"{processors.__name__}.") and kind is not Custom


def _apply(processor: ImageProcessor, pixels: SharedImage, url: str) -> SharedImage:
    try:
        made: Image.Image = processor.process(pixels.image())
        made.load()
        # One of ours lets go of what it made. Anybody's may keep a canvas and go on drawing on it.
        shared = SharedImage(made) if _is_ours(processor) else pixels.made_elsewhere(made)
    except ImageCacheError as error:
        # A processor may keep one exception object and raise it for every image: each gets its own.
        raise error.fresh() from error.__cause__
    except Exception as error:  # The border of a user's code: whatever it raises ends as our error.
        message = f"the processor {processor.identifier} raised {type(error).__name__}: {error}"
        raise ProcessorError(message, url=url, processor=processor.identifier) from error
    return shared
