"""Serve, ask, load or refuse: the one decision of a fetch, from policy, stored metadata and time.

This file does not know where the answer is stored, nor how it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..entry import Entry
from ..request import CachePolicy
from .freshness import is_fresh, may_serve_while_revalidating
from .validators import condition_fields


@dataclass(frozen=True, slots=True)
class Serve:
    """The stored copy is the answer. ``behind``: ask the server afterwards, nobody waits for it."""

    stale: bool = False
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Validate:
    """A conditional GET with these fields; a 304 gives the stored copy."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Load:
    """A GET in full, with these fields added."""

    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """No answer without the network, and the policy forbids it."""

    reason: str


Decision = Serve | Validate | Load | Refuse

REVALIDATE_FIELDS = {"Cache-Control": "max-age=0"}
"""What makes caches on the way ask the origin too (RFC 9111, 5.2.1.1)."""
RELOAD_FIELDS = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
"""What makes caches on the way load anew (RFC 9111, 5.2.1.4; Pragma for those of HTTP/1.0, 5.4)."""


def decide(
    policy: CachePolicy,
    entry: Entry | None,
    now: float,
    *,
    revalidate_after: float | None = None,
    use_validators: bool = True,
) -> Decision:
    """What to do for one request.

    ``entry`` is the stored answer that the request selects, expired ones included; ``now`` wall seconds;
    ``revalidate_after`` the age in seconds at which CACHE_ELSE_LOAD asks behind a copy it serves, None for
    never; ``use_validators=False`` (a manager's ``etags=False``) leaves conditional requests to the caller.
    """
    match policy:
        case CachePolicy.RELOAD:
            return Load()
        case CachePolicy.RELOAD_END_TO_END:
            return Load(dict(RELOAD_FIELDS))
        case CachePolicy.REVALIDATE:
            return _ask(entry, use_validators, REVALIDATE_FIELDS)
    if entry is None or entry.stored_until <= now:
        if policy is CachePolicy.CACHE_ONLY:
            return Refuse("nothing is stored for it" if entry is None else "what is stored for it has expired")
        # What we no longer serve can still save a transfer: its validators hold as long as its bytes are there.
        return _ask(entry, use_validators)
    stale = not is_fresh(entry, now)
    match policy:
        case CachePolicy.CACHE_ONLY:
            return Serve(stale)
        case CachePolicy.CACHE_ELSE_LOAD | CachePolicy.STALE_WHILE_REVALIDATE if entry.status >= 400:
            # These keep an image beyond what HTTP says of it; an error is kept by what HTTP says, or not at all.
            return _ask(entry, use_validators)
        case CachePolicy.STALE_WHILE_REVALIDATE:
            return Serve(stale, behind=True)
        case CachePolicy.CACHE_ELSE_LOAD:
            due = revalidate_after is not None and now - entry.validated_at >= revalidate_after
            return Serve(stale, behind=due)
    # PROTOCOL: RFC 9111, 4, and what RFC 5861, 3, adds to it.
    if not stale:
        return Serve()
    if may_serve_while_revalidating(entry, now):
        return Serve(stale=True, behind=True)
    return _ask(entry, use_validators)


def _ask(entry: Entry | None, use_validators: bool, fields: dict[str, str] | None = None) -> Validate | Load:
    conditions = condition_fields(entry) if entry is not None and use_validators else {}
    fields = fields or {}
    return Validate({**fields, **conditions}) if conditions else Load(dict(fields))
