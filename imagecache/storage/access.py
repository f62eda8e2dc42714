"""An access to a row, until it is written: when it was, and what it did to how long the row is stored."""

from __future__ import annotations

from dataclasses import dataclass

from ..expiration import AccessExtension

NOT_RENEWED = -1e18
"""No time at all; a number, because SQLite adds lifetimes to it."""


@dataclass(frozen=True, slots=True)
class Access:
    """``when`` it was, ``renewed`` when the row's own lifetime began again, ``until`` when it runs out instead of
    that. Wall seconds."""

    when: float
    renewed: float
    until: float | None

    def after(self, earlier: Access | None) -> Access:
        """Both as one: an access that renews nothing takes away nothing."""
        if earlier is None or self.until is not None or self.renewed != NOT_RENEWED:
            return self
        return Access(self.when, earlier.renewed, earlier.until)

    def stored_until(self, stored_until: float, lifetime: float | None) -> float:
        """When a row runs out after this access."""
        if self.until is not None:
            return self.until
        return stored_until if lifetime is None else max(stored_until, self.renewed + lifetime)


def access(now: float, extension: AccessExtension | None) -> Access:
    """An access that happens now."""
    if extension is not None and extension.is_none:
        return Access(now, NOT_RENEWED, None)
    if extension is not None and extension.expiration is not None:
        return Access(now, now, extension.expiration.stored_until(now))
    return Access(now, now, None)
