"""Serve, ask, load or refuse: the one decision of a fetch, from policy, stored metadata and time.

This file does not know where the answer is stored, nor how it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..cache_status import Forward
from ..entry import Entry
from ..request import CachePolicy
from .directives import NO_DIRECTIVES, RequestDirectives
from .freshness import current_age, forbids_stale, fresh_for, is_fresh, is_immutable, may_serve_while_revalidating
from .validators import condition_fields


@dataclass(frozen=True, slots=True)
class Serve:
    """The stored copy is the answer. ``behind``: ask the server afterwards, nobody waits for it."""

    stale: bool = False
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Validate:
    """A conditional GET with these fields; a 304 gives the stored copy. ``forward``: why (RFC 9211, 2.2)."""

    fields: dict[str, str]
    forward: Forward = "uri-miss"


@dataclass(frozen=True, slots=True)
class Load:
    """A GET in full, with these fields added. ``forward``: why (RFC 9211, 2.2)."""

    fields: dict[str, str] = field(default_factory=dict)
    forward: Forward = "uri-miss"


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
    directives: RequestDirectives = NO_DIRECTIVES,
    revalidate_after: float | None = None,
    use_validators: bool = True,
    is_vary_miss: bool = False,
) -> Decision:
    """What to do for one request.

    ``entry`` is the stored answer that the request selects, expired ones included; ``now`` wall seconds;
    ``directives`` what the call asks of every stored copy, under each policy that may serve one; ``revalidate_after``
    the age in seconds at which CACHE_ELSE_LOAD asks behind a copy it serves, None for never;
    ``use_validators=False`` (a manager's ``etags=False``) leaves conditional requests to the caller;
    ``is_vary_miss``: without an entry, whether other requests of the same URL have one.
    """
    match policy:
        case CachePolicy.RELOAD:
            return Load(forward=_forward(entry, now, is_vary_miss))
        case CachePolicy.RELOAD_END_TO_END:
            return Load(dict(RELOAD_FIELDS), _forward(entry, now, is_vary_miss))
        case CachePolicy.REVALIDATE:
            return _ask(entry, use_validators, _forward(entry, now, is_vary_miss), REVALIDATE_FIELDS)
    unfit = _unfit(policy, entry, now, directives)
    if entry is not None and unfit is None:
        is_due = not directives.only_if_cached and _is_due(policy, entry, now, revalidate_after)
        return Serve(stale=not is_fresh(entry, now), behind=is_due)
    if policy is CachePolicy.CACHE_ONLY or directives.only_if_cached:
        return Refuse(unfit or "nothing is stored for it")
    # What we do not serve can still save a transfer: its validators hold as long as its bytes are there.
    return _ask(entry, use_validators, _forward(entry, now, is_vary_miss))


def _unfit(policy: CachePolicy, entry: Entry | None, now: float, directives: RequestDirectives) -> str | None:
    """Why the stored answer cannot be served under the policy; None where it can."""
    if entry is None:
        return "nothing is stored for it"
    if entry.stored_until <= now:
        return "what is stored for it has expired"
    if policy is CachePolicy.PROTOCOL:
        return _unfit_for_call(entry, now, directives) or _unfit_by_http(entry, now, directives)
    # These keep an image beyond what HTTP says of it; an error is kept by what HTTP says, or not at all.
    if entry.status >= 400 and not (policy is CachePolicy.CACHE_ONLY and entry.row.namespace == "response"):
        return f"what is stored for it is an error, {entry.status}"
    return _unfit_for_call(entry, now, directives)


def _unfit_for_call(entry: Entry, now: float, directives: RequestDirectives) -> str | None:
    """What the call asks of every stored copy (RFC 9111, 5.2.1), and this one does not meet."""
    if directives is NO_DIRECTIVES:
        return None
    if directives.no_cache:
        return "the call asks for no-cache"
    age, left = current_age(entry, now), fresh_for(entry, now)
    # RFC 8246, 2: what cannot have changed is never too old; only a no-cache, a forced reload, asks about it.
    if directives.max_age is not None and age > directives.max_age and not _is_unchanging(entry, now):
        return f"what is stored for it is {age:.0f} s old, of max-age={directives.max_age:.0f}"
    if directives.min_fresh is not None and left < directives.min_fresh:
        return f"what is stored for it is fresh for {max(left, 0):.0f} s, of min-fresh={directives.min_fresh:.0f}"
    if directives.max_stale is not None and -left > directives.max_stale:
        return f"what is stored for it is stale by {-left:.0f} s, of max-stale={directives.max_stale:.0f}"
    return None


def _unfit_by_http(entry: Entry, now: float, directives: RequestDirectives) -> str | None:
    """What HTTP says against an answer that the call would have (RFC 9111, 4; RFC 5861, 3)."""
    if is_fresh(entry, now):
        return None
    # 4.2.4 and 5.2.1.2: stale, but no staler than the call allows.
    if directives.max_stale is not None and not forbids_stale(entry):
        return None
    # 5.2.1.1: who gives a max-age does not wish to receive a stale answer, unless there is a max-stale.
    if directives.max_age is None and may_serve_while_revalidating(entry, now):
        return None
    return "what is stored for it is stale"


def _is_due(policy: CachePolicy, entry: Entry, now: float, revalidate_after: float | None) -> bool:
    """Whether the server is asked behind a copy that is served."""
    match policy:
        case CachePolicy.PROTOCOL:
            return not is_fresh(entry, now) and may_serve_while_revalidating(entry, now)
        case CachePolicy.STALE_WHILE_REVALIDATE:
            return not _is_unchanging(entry, now)
        case CachePolicy.CACHE_ELSE_LOAD:
            is_old = revalidate_after is not None and now - entry.validated_at >= revalidate_after
            return is_old and not _is_unchanging(entry, now)
    return False


def _is_unchanging(entry: Entry, now: float) -> bool:
    return is_immutable(entry) and is_fresh(entry, now)


def _forward(entry: Entry | None, now: float, is_vary_miss: bool) -> Forward:
    if entry is None:
        return "vary-miss" if is_vary_miss else "uri-miss"
    return "request" if entry.stored_until > now and is_fresh(entry, now) else "stale"


def _ask(
    entry: Entry | None, use_validators: bool, forward: Forward, fields: Mapping[str, str] = {}
) -> Validate | Load:
    conditions = condition_fields(entry) if entry is not None and use_validators else {}
    return Validate({**fields, **conditions}, forward) if conditions else Load(dict(fields), forward)
