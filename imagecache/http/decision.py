"""Serve, ask, load or refuse: the one decision of a fetch, from policy, stored metadata and time.

This file does not know where the answer is stored, nor how it is asked for.
"""

from __future__ import annotations

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
    forward: Forward = field(default="stale", compare=False)


@dataclass(frozen=True, slots=True)
class Load:
    """A GET in full, with these fields added. ``forward``: why (RFC 9211, 2.2)."""

    fields: dict[str, str] = field(default_factory=dict)
    forward: Forward = field(default="uri-miss", compare=False)


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
    ``directives`` what the request asks of caches, under every policy that may serve a stored copy;
    ``revalidate_after`` the age in seconds at which CACHE_ELSE_LOAD asks behind a copy it serves, None for
    never; ``use_validators=False`` (a manager's ``etags=False``) leaves conditional requests to the caller;
    ``is_vary_miss`` tells that no entry was selected though there are some.
    """
    match policy:
        case CachePolicy.RELOAD:
            return Load(forward="request")
        case CachePolicy.RELOAD_END_TO_END:
            return Load(dict(RELOAD_FIELDS), "request")
        case CachePolicy.REVALIDATE:
            return _ask(entry, use_validators, "request", REVALIDATE_FIELDS)
    is_offline = policy is CachePolicy.CACHE_ONLY or directives.only_if_cached
    served, objection = _serve(policy, entry, now, directives, revalidate_after)
    if served is not None:
        return Serve(served.stale, served.behind and not is_offline)
    if is_offline:
        who = "CACHE_ONLY" if policy is CachePolicy.CACHE_ONLY else "only-if-cached"
        return Refuse(f"{objection}, and {who} never asks the network")
    if entry is None:
        return Load(forward="vary-miss" if is_vary_miss else "uri-miss")
    return _ask(entry, use_validators, "request" if directives.no_cache else "stale")


def _serve(
    policy: CachePolicy, entry: Entry | None, now: float, directives: RequestDirectives, revalidate_after: float | None
) -> tuple[Serve | None, str]:
    """The stored copy, if the policy and what the request asks allow it; else why not, in words."""
    if entry is None:
        return None, "nothing is stored for it"
    if entry.stored_until <= now:
        # What we no longer serve can still save a transfer: its validators hold as long as its bytes are there.
        return None, "what is stored for it has expired"
    if entry.status >= 400 and policy in (CachePolicy.CACHE_ELSE_LOAD, CachePolicy.STALE_WHILE_REVALIDATE):
        # These keep an image beyond what HTTP says of it; an error is kept by what HTTP says, or not at all.
        return None, f"what is stored for it is a {entry.status}"
    if directives.no_cache:
        return None, "the request asks for no-cache"
    age, left = current_age(entry, now), fresh_for(entry, now)
    # RFC 8246, 2: a max-age=0 is what a reload sends, and no reason to ask about what the server calls immutable.
    is_reload = directives.max_age == 0 and not is_immutable(entry, now)
    if is_reload or (directives.max_age and age > directives.max_age):
        return None, f"what is stored is {age:.0f} s old"
    if directives.min_fresh is not None and left < directives.min_fresh:
        return None, f"what is stored is fresh for {left:.0f} s only"
    stale = not is_fresh(entry, now)
    if policy is not CachePolicy.PROTOCOL:
        if directives.max_stale is not None and -left > directives.max_stale:
            return None, f"what is stored has been stale for {-left:.0f} s"
        return Serve(stale, _asks_behind(policy, entry, now, revalidate_after)), ""
    # RFC 9111, 4, and what RFC 5861, 3, adds to it.
    if not stale:
        return Serve(), ""
    if may_serve_while_revalidating(entry, now):
        return Serve(stale=True, behind=True), ""
    # 5.2.1.2: the request may allow it, unless the answer forbids.
    if directives.max_stale is not None and -left <= directives.max_stale and not forbids_stale(entry):
        return Serve(stale=True), ""
    return None, f"what is stored has been stale for {-left:.0f} s"


def _asks_behind(policy: CachePolicy, entry: Entry, now: float, revalidate_after: float | None) -> bool:
    if policy is CachePolicy.CACHE_ELSE_LOAD:
        is_due = revalidate_after is not None and now - entry.validated_at >= revalidate_after
    else:
        is_due = policy is CachePolicy.STALE_WHILE_REVALIDATE
    # RFC 8246: there is nothing to ask about.
    return is_due and not is_immutable(entry, now)


def _ask(
    entry: Entry | None, use_validators: bool, forward: Forward, fields: dict[str, str] | None = None
) -> Validate | Load:
    conditions = condition_fields(entry) if entry is not None and use_validators else {}
    fields = fields or {}
    return Validate({**fields, **conditions}, forward) if conditions else Load(dict(fields), forward)
