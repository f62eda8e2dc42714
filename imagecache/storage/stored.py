"""What the disk tier answers: small values, and nothing that does anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..entry import Entry


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry and, where it was asked for, its verified bytes; ``made`` is what was made of them on the way."""

    entry: Entry
    body: bytes | None = field(repr=False)
    made: object = field(default=None, repr=False)


class StoreStatus(enum.Enum):
    """What became of something that was to be stored. Only FAILED is a fault."""

    STORED = "stored"
    TOO_LARGE = "too large"
    """It could never fit within the limit."""
    NO_ROOM = "no room"
    """Only pinned and protected rows are left to evict."""
    SUPERSEDED = "superseded"
    """What it belongs to was replaced or removed in the meantime."""
    QUEUE_FULL = "queue full"
    """The disk is slower than the network, or another process holds the index; nothing waits for either."""
    UNAVAILABLE = "unavailable"
    """There is no disk, or no folder that can be used."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The end of a put; ``error`` is what went wrong when it FAILED."""

    status: StoreStatus
    error: Exception | None = None


class DiskState(enum.Enum):
    """Where a disk storage stands."""

    READY = "ready"
    OFF = "off"
    """None was asked for."""
    UNAVAILABLE = "unavailable"
    """The folder cannot be used; it is tried again."""
    CLOSED = "closed"
