"""How long *we* keep a thing (*stored until*), which has nothing to do with how long HTTP calls it fresh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class AccessExtension:
    """What an access does to how long a thing is stored (Kingfisher's ``ExpirationExtending``).

    Made by :meth:`none`, :meth:`by_lifetime` (what happens where nothing is said) and :meth:`to`.
    """

    expiration: StorageExpiration | None = None
    is_none: bool = False

    @classmethod
    def none(cls) -> AccessExtension:
        """The thing runs out when it would have without the access."""
        return cls(is_none=True)

    @classmethod
    def by_lifetime(cls) -> AccessExtension:
        """Its own lifetime begins again; a date stays (Kingfisher's ``cacheTime``)."""
        return cls()

    @classmethod
    def to(cls, expiration: ExpirationLike) -> AccessExtension:
        """Another expiration from now on, sooner or later than its own (Kingfisher's ``expirationTime``)."""
        return cls(expiration=as_expiration(expiration))


@dataclass(frozen=True, slots=True)
class StorageExpiration:
    """When a stored thing is no longer used (Kingfisher's ``StorageExpiration``).

    Made by :meth:`never`, :meth:`after_seconds`, :meth:`after_days`, :meth:`at` and :meth:`expired`. An access extends
    a lifetime (``seconds``) by itself again; a date is a date and is not extended.
    """

    seconds: float | None = None
    until: float | None = None

    @classmethod
    def never(cls) -> StorageExpiration:
        """Kept until a limit or a person takes it."""
        return cls(seconds=math.inf)

    @classmethod
    def after_seconds(cls, seconds: float) -> StorageExpiration:
        """Kept for so many seconds after the last access."""
        if not seconds > 0:
            raise ValueError(f"a lifetime is over 0 seconds, not {seconds!r}; use expired() to keep nothing")
        return cls(seconds=float(seconds))

    @classmethod
    def after_days(cls, days: float) -> StorageExpiration:
        """Kept for so many days after the last access."""
        return cls.after_seconds(days * SECONDS_PER_DAY)

    @classmethod
    def at(cls, date: datetime) -> StorageExpiration:
        """Kept until that moment; the datetime must know its time zone."""
        if date.tzinfo is None:
            raise ValueError("an expiration date needs a time zone: date.astimezone() adds the local one")
        return cls(until=date.timestamp())

    @classmethod
    def expired(cls) -> StorageExpiration:
        """Not kept at all."""
        return cls(seconds=0.0)

    @property
    def is_expired(self) -> bool:
        """Whether this asks for nothing to be kept, whatever the time."""
        return self.seconds == 0.0

    def stored_until(self, now: float) -> float:
        """The wall time at which a thing stored or accessed ``now`` runs out; ``inf`` for never."""
        return self.until if self.until is not None else now + (self.seconds or 0.0)


ExpirationLike = StorageExpiration | timedelta | float | int | None
"""An expiration, a timedelta, or seconds; None is never."""


def as_expiration(value: ExpirationLike, *, name: str = "expiration") -> StorageExpiration:
    """The expiration that an argument means; TypeError for what is none."""
    match value:
        case StorageExpiration():
            return value
        case None:
            return StorageExpiration.never()
        case timedelta():
            return StorageExpiration.after_seconds(value.total_seconds())
        case bool():
            pass
        case int() | float():
            return StorageExpiration.after_seconds(value)
    raise TypeError(f"{name} is a StorageExpiration, a timedelta, seconds or None (never), not {value!r}")


def as_extension(value: AccessExtension, *, name: str) -> AccessExtension:
    """The extension that an argument is; TypeError for what is none."""
    if not isinstance(value, AccessExtension):
        raise TypeError(f"{name} is an AccessExtension, such as AccessExtension.none(), not {value!r}")
    return value
