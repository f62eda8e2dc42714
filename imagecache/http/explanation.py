"""A decision that explains itself: what is stored, how old it is, how long HTTP calls it fresh and why, and what each
policy would do with it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..entry import Entry
from ..request import CachePolicy
from .dates import format_date
from .decision import Decision, Load, Refuse, Serve, Validate, decide
from .directives import NO_DIRECTIVES, RequestDirectives
from .freshness import Lifetime, current_age, fresh_for, freshness_lifetime, needs_validation
from .validators import condition_fields


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is stored for a request and what follows from it. Seconds; None where nothing is stored.

    ``fresh_for`` is negative where it is stale. ``validators`` are the conditional fields that would be sent.
    """

    entry: Entry | None
    now: float
    age: float | None
    lifetime: Lifetime | None
    fresh_for: float | None
    validators: Mapping[str, str]
    decisions: Mapping[CachePolicy, Decision]

    def __str__(self) -> str:
        lines = []
        entry, lifetime = self.entry, self.lifetime
        if entry is None or lifetime is None or self.age is None or self.fresh_for is None:
            lines.append("nothing is stored")
        else:
            lines += [
                f"{entry.url}: {entry.status}, {entry.byte_count} bytes",
                f"stored {format_date(entry.stored_at)}, validated {format_date(entry.validated_at)}",
                f"age {self.age:.0f} s, lifetime {lifetime.seconds:.0f} s ({lifetime.source})",
                f"fresh for {self.fresh_for:.0f} s more"
                if self.fresh_for > 0
                else f"stale for {-self.fresh_for:.0f} s",
            ]
            asked = ", ".join(f"{name}: {value}" for name, value in self.validators.items())
            lines.append(f"validators: {asked or 'none'}")
        width = max(len(policy.name) for policy in self.decisions)
        lines += [f"{policy.name:<{width}}  {_told(decision)}" for policy, decision in self.decisions.items()]
        return "\n".join(lines)


def explain(
    entry: Entry | None,
    now: float,
    *,
    directives: RequestDirectives = NO_DIRECTIVES,
    revalidate_after: float | None = None,
    use_validators: bool = True,
) -> Explanation:
    """Explain what is stored, under the same rules as :func:`.decision.decide`."""
    decisions = {
        policy: decide(
            policy, entry, now, directives=directives, revalidate_after=revalidate_after, use_validators=use_validators
        )
        for policy in CachePolicy
    }
    if entry is None:
        return Explanation(None, now, None, None, None, {}, decisions)
    age, lifetime = current_age(entry, now), freshness_lifetime(entry)
    if needs_validation(entry):
        lifetime = Lifetime(0.0, "always to be asked about")
    validators = condition_fields(entry) if use_validators else {}
    return Explanation(entry, now, age, lifetime, fresh_for(entry, now), validators, decisions)


def _state(fresh_for: float) -> str:
    return f"fresh for {fresh_for:.0f} s more" if fresh_for > 0 else f"stale for {-fresh_for:.0f} s"


def _told(decision: Decision) -> str:
    match decision:
        case Serve(stale, behind):
            return ("serve it, stale" if stale else "serve it") + (", and ask behind" if behind else "")
        case Validate():
            return "ask whether it still holds"
        case Load():
            return "load in full"
        case Refuse(reason):
            return f"refuse: {reason}"
