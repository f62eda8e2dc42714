"""Small stored images, decoded in the same turn as they are looked up.

What is found on disk, is to be served and is small goes from the thread that read it straight to one that decodes. The
event loop hears of it once, with its pixels: to be told of the bytes first, and to hand them to a worker, takes it a
seventh more (measured), and the threads that decode wait for it meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..entry import Entry
from ..errors import ImageError
from ..imaging.decode import DecodeOptions, decode, options_for
from ..imaging.limits import ImageLimits
from ..imaging.shared import SharedImage
from ..keys import display_url
from ..request import CachePolicy, ImageRequest
from ..storage.stored import Stored
from .loaded import Decoded, Loaded
from .parts import Parts
from .stored import Found, StoredAnswers
from .workers import Seat

SMALL_BODY = 64 * 1024
SMALL_COST = 4 * 2**20
"""Bytes of an image that is decoded in the same turn as its bytes are looked at, if pixels are wanted: at most so many
as they came, and at most so many of pixels. A thumbnail takes less time than another turn would."""
MOST_BYTES_PER_PIXEL = 16
"""The picture, its converted copy, and the largest of what decoders hold beside them."""

_NEVER_SERVED = (CachePolicy.REVALIDATE, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)


class EarlyDecodes:
    """Looks up what is stored, and brings the pixels of small images along; each only once at a time."""

    def __init__(self, parts: Parts, stored: StoredAnswers) -> None:
        self._parts = parts
        self._stored = stored
        # By key hash: the seats of look-ups that may decode, and what is decoded for others.
        self._under_way: dict[str, Seat] = {}
        self._elsewhere: Counter[str] = Counter()

    def seat_for(self, request: ImageRequest) -> Seat | None:
        """A worker's seat, if what is found for a request that wants pixels may be decoded at once; to be used in this
        same turn of the loop."""
        # What processors begin with may be there already, or not be needed.
        if request.processors or request.policy in _NEVER_SERVED:
            return None
        if request.key_hash in self._under_way or request.key_hash in self._elsewhere:
            return None
        return self._parts.workers.seat(SMALL_COST)

    @contextmanager
    def leaving_alone(self, key_hash: str) -> Iterator[None]:
        """As long as this lasts, what is stored under a key hash is decoded elsewhere."""
        self._elsewhere[key_hash] += 1
        try:
            yield
        finally:
            self._elsewhere[key_hash] -= 1
            if not self._elsewhere[key_hash]:
                del self._elsewhere[key_hash]

    async def find(self, request: ImageRequest, scope: str, *, with_body: Callable[[Entry], bool], seat: Seat) -> Found:
        """As :meth:`StoredAnswers.find`, with the pixels of what is small and comes with its bytes."""
        parts, options = self._parts, options_for((), request.mode)
        limits, url = parts.rules.limits, display_url(request.url)

        def hand_over(stored: Stored, future: asyncio.Future[Stored | None]) -> bool:
            if stored.body is None or len(stored.body) > SMALL_BODY or not is_small(stored.entry):
                return False
            return seat.take(future, _decode_stored, stored, options, limits, url)

        self._under_way[request.key_hash] = seat
        try:
            found = await self._stored.find(request, scope, with_body=with_body, hand_over=hand_over)
        finally:
            seat.leave()
            del self._under_way[request.key_hash]
        if found.decoded is not None:
            parts.counters.decodes += 1
            parts.counters.spent("decode", found.decoded.seconds)
        return found

    async def decoded(self, loaded: Loaded, identifier: str) -> Decoded | None:
        """The pixels of an answer under these options, if they came along with it, or if they are made in this way just
        now for another, who asked under another policy."""
        decoded = loaded.decoded or await self._made_for_another(loaded.entry)
        return decoded if decoded is not None and decoded.identifier == identifier else None

    async def _made_for_another(self, entry: Entry) -> Decoded | None:
        seat = self._under_way.get(entry.row.key_hash)
        if seat is None:
            return None
        # Unless it is being decoded by now, the look-up may take its time, and is not to decode what we do.
        seat.leave()
        made = seat.future
        if made is None:
            return None
        await asyncio.wait([made])
        if made.cancelled() or made.exception() is not None:
            return None
        stored: Stored = made.result()
        is_same = (stored.entry.row, stored.entry.checksum) == (entry.row, entry.checksum)
        return stored.made if is_same and isinstance(stored.made, Decoded) else None


def most_cost(entry: Entry) -> int:
    """A bound of the bytes that decoding holds at one time, 0 where the size of the picture is not known."""
    return (entry.width or 0) * (entry.height or 0) * MOST_BYTES_PER_PIXEL


def is_small(entry: Entry) -> bool:
    """Whether it is known that decoding holds little."""
    return 0 < most_cost(entry) <= SMALL_COST


def _decode_stored(stored: Stored, options: DecodeOptions, limits: ImageLimits, url: str) -> Stored:
    """In a worker: a stored answer with its pixels; without, if it does not decode: whoever tries again says why."""
    assert stored.body is not None
    started = time.perf_counter()
    try:
        shared = SharedImage(decode(stored.body, options=options, limits=limits, url=url), is_alone=True)
    except ImageError:
        return stored
    return Stored(stored.entry, stored.body, Decoded(options.identifier, shared, time.perf_counter() - started))
