"""A decoded image in memory, and whether what is being made is still what should be kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..entry import Entry
from ..http.freshness import fresh_until

if TYPE_CHECKING:
    from PIL import Image

    from ..imaging.shared import SharedImage


class CachedImage:
    """Pixels that are handed out as copy-on-write views, with the metadata of the bytes they were made from.

    ``entry`` is replaced when those bytes are revalidated; the pixels never change. ``key`` is where the
    memory tier keeps it.
    """

    __slots__ = ("__weakref__", "_entry", "fresh_until", "key", "pixels")

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
        self.fresh_until = fresh_until(entry)

    @property
    def checksum(self) -> str:
        """The identity of the pixels: the checksum of the body they were decoded from."""
        return self._entry.checksum

    def hand_out(self) -> Image.Image:
        """An image for a caller: its own to change, on pixels that are shared until then."""
        return self.pixels.view(self)


@dataclass(slots=True)
class Stamp:
    """Work's note of when it took the bytes of a key, and which; asked before anything made of them is kept."""

    key_hash: str
    serial: int
    checksum: str | None = None


class Currency:
    """Tells work under way that its bytes were replaced, removed or cleared meanwhile.

    A slow blur that ends after a newer body was stored must not be kept as if it were of that body. Only the
    most recent changes are remembered; of older ones a stamp is taken to be out of date, which costs no
    more than one image not kept in memory.
    """

    REMEMBERED = 16_384
    """Changes to outlast the slowest image while a batch runs past it, at some 3 MiB at most."""

    def __init__(self) -> None:
        self._serial = 0
        self._floor = 0
        self._changes: OrderedDict[str, tuple[int, str | None]] = OrderedDict()

    def stamp(self, key_hash: str) -> Stamp:
        """A stamp for work that starts now on what is stored under this hash."""
        return Stamp(key_hash, self._serial)

    def is_current(self, stamp: Stamp) -> bool:
        """Whether the bytes of the stamp are still the ones to keep."""
        if stamp.serial < self._floor:
            return False
        serial, checksum = self._changes.get(stamp.key_hash, (0, None))
        return serial <= stamp.serial or (checksum is not None and checksum == stamp.checksum)

    def supersede(self, key_hash: str, checksum: str | None) -> None:
        """Bytes of this checksum are current now; None: nothing is."""
        self._serial += 1
        self._changes[key_hash] = (self._serial, checksum)
        self._changes.move_to_end(key_hash)
        if len(self._changes) > self.REMEMBERED:
            _, (self._floor, _) = self._changes.popitem(last=False)

    def supersede_all(self) -> None:
        """Everything was cleared."""
        self._serial += 1
        self._floor = self._serial
        self._changes.clear()
