"""A decoded image in memory, and whether what is being made is still what should be kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..entry import Entry, RowKey
from ..http.freshness import current_age, fresh_for, fresh_until

if TYPE_CHECKING:
    from PIL import Image

    from ..imaging.shared import SharedImage
    from ..storage.sightings import Sighting


class CachedImage:
    """Pixels that are handed out as copy-on-write views, with the metadata of the bytes they were made from.

    ``entry`` is replaced when those bytes are revalidated; the pixels never change. ``key`` is where the memory tier
    keeps it. ``sighting`` is the disk's of the row with this very entry, if it is known to be stored. What HTTP says of
    its age is read out of the headers at the first question, and remembered: most images are never asked, and at every
    hit it would cost more than all the rest of one.
    """

    __slots__ = ("__weakref__", "_born_at", "_entry", "_fresh_until", "_stale_at", "key", "pixels", "sighting")

    def __init__(self, key: Hashable, pixels: SharedImage, entry: Entry) -> None:
        self.key = key
        self.pixels = pixels
        self.entry = entry

    @property
    def entry(self) -> Entry:
        """The metadata of the stored bytes, as last validated."""
        return self._entry

    @entry.setter
    def entry(self, entry: Entry) -> None:
        self._entry = entry
        self.sighting: Sighting | None = None
        self._fresh_until: float | None = None
        self._born_at: float | None = None
        self._stale_at: float | None = None

    @property
    def fresh_until(self) -> float:
        """When HTTP calls it stale, wall seconds. Set by who knows better than its headers."""
        if self._fresh_until is None:
            self._fresh_until = fresh_until(self._entry)
        return self._fresh_until

    @fresh_until.setter
    def fresh_until(self, moment: float) -> None:
        self._fresh_until = moment

    @property
    def born_at(self) -> float:
        """The moment that its age counts from, wall seconds."""
        if self._born_at is None:
            self._born_at = self._entry.response_time - current_age(self._entry, self._entry.response_time)
        return self._born_at

    @property
    def checksum(self) -> str:
        """The identity of the pixels: the checksum of the body they were decoded from."""
        return self._entry.checksum

    def ttl(self, now: float) -> float:
        """The seconds for which HTTP calls it fresh yet; negative where it no longer does."""
        if self._stale_at is None:
            self._stale_at = self._entry.response_time + fresh_for(self._entry, self._entry.response_time)
        return self._stale_at - now

    def hand_out(self) -> Image.Image:
        """An image for a caller: its own to change, on pixels that are shared until then."""
        return self.pixels.view(self)


@dataclass(slots=True)
class Stamp:
    """Work's note of when it took the bytes of a key, and which; asked before anything made of them is kept.

    ``sighting`` is the disk's, of the row with the answer that came of the work, if it is known to be stored.
    """

    key_hash: str
    serial: int
    entry: Entry | None = None
    sighting: Sighting | None = None


# Plain tuples: there may be thousands of them for long, and the garbage collector soon passes over those of texts and
# numbers.
_Change = tuple[int, str | None]
"""The serial number, and the checksum of the bytes that are current since."""
_Answer = tuple[float, str | None]
"""When its question was asked, wall seconds, and the checksum of the bytes that came."""


class Currency:
    """Tells work under way that its bytes were replaced, removed or cleared meanwhile.

    A slow blur that ends after a newer body was stored must not be kept as if it were of that body, nor a slow answer
    to an older question. Only the most recent changes are remembered; of older ones a stamp is taken to be out of
    date, which costs no more than one image not kept in memory.
    """

    REMEMBERED = 16_384
    """Changes to outlast the slowest image while a batch runs past it, at some 5 MiB at most."""

    def __init__(self) -> None:
        self._serial = 0
        self._floor = 0
        # What happened to a key for everybody (removed, changed by another process), or to one user's row.
        self._changes: OrderedDict[str | tuple[str, str], _Change] = OrderedDict()
        # The last answers from the network, by row.
        self._answers: OrderedDict[RowKey, _Answer] = OrderedDict()

    def stamp(self, key_hash: str) -> Stamp:
        """A stamp for work that starts now on what is stored under this hash."""
        return Stamp(key_hash, self._serial)

    def is_current(self, stamp: Stamp) -> bool:
        """Whether the bytes of the stamp are still the ones to keep."""
        if stamp.serial == self._serial:
            return True
        if stamp.serial < self._floor:
            return False
        checksum = stamp.entry.checksum if stamp.entry is not None else None
        scope = stamp.entry.row.scope if stamp.entry is not None else ""
        changes = (self._changes.get(stamp.key_hash), self._changes.get((stamp.key_hash, scope)))
        return all(
            change is None or change[0] <= stamp.serial or (checksum is not None and change[1] == checksum)
            for change in changes
        )

    def is_outrun(self, entry: Entry) -> bool:
        """Whether the answer to a later question than this entry's has come already, with other bytes or for nobody."""
        later = self._answers.get(entry.row)
        return later is not None and later[0] > entry.request_time and later[1] != entry.checksum

    def answered(self, entry: Entry, checksum: str | None) -> None:
        """An answer of a row came: bytes of this checksum, or (None) some that may not be kept."""
        self._answers[entry.row] = (entry.request_time, checksum)
        self._answers.move_to_end(entry.row)
        if len(self._answers) > self.REMEMBERED:
            self._answers.popitem(last=False)

    def supersede(self, changed: RowKey | str, checksum: str | None) -> None:
        """Bytes of this checksum are current now, None: nothing is; of a row, or of all rows of a key hash."""
        self._serial += 1
        key = changed if isinstance(changed, str) else (changed.key_hash, changed.scope)
        self._changes[key] = (self._serial, checksum)
        self._changes.move_to_end(key)
        if len(self._changes) > self.REMEMBERED:
            _, (self._floor, _) = self._changes.popitem(last=False)

    def supersede_all(self) -> None:
        """Everything was cleared."""
        self._serial += 1
        self._floor = self._serial
        self._changes.clear()
        self._answers.clear()
