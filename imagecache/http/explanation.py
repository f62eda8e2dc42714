"""What is stored, how fresh it is and why (RFC 9111, 4.2), and what each policy would do with it now: for people."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..entry import Entry
from ..request import CachePolicy
from .dates import format_date
from .decision import Decision, Load, Refuse, Serve, Validate, decide
from .directives import NO_DIRECTIVES, RequestDirectives
from .freshness import (
    Lifetime,
    current_age,
    forbids_stale,
    fresh_for,
    freshness_lifetime,
    is_immutable,
    needs_validation,
)
from .validators import condition_fields


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a call would be answered as it would be; ``str()`` of it says so in a few lines.

    ``entry`` is what is stored, None for nothing, and then ``age``, ``lifetime`` and ``fresh_for`` are None, too.
    ``now`` is wall seconds; ``age`` and ``fresh_for`` are seconds, the latter negative once stale; ``validators`` are
    the fields that would ask whether the copy still holds; ``decisions`` what each policy would do.
    """

    entry: Entry | None
    now: float
    age: float | None
    lifetime: Lifetime | None
    fresh_for: float | None
    validators: dict[str, str]
    decisions: dict[CachePolicy, Decision]

    def __str__(self) -> str:
        policies = [f"{policy.name}: {_in_words(decision)}" for policy, decision in self.decisions.items()]
        return "\n".join([*self._of_entry(), *policies])

    def _of_entry(self) -> list[str]:
        entry, age, lifetime, left = self.entry, self.age, self.lifetime, self.fresh_for
        if entry is None or age is None or lifetime is None or left is None:
            return ["nothing is stored"]
        kept = "for ever" if entry.stored_until == math.inf else f"until {format_date(entry.stored_until)}"
        ended = ", which has passed" if entry.stored_until <= self.now else ""
        validated = f", validated {format_date(entry.validated_at)}" if entry.validated_at > entry.stored_at else ""
        return [
            f"stored {format_date(entry.stored_at)}{validated}, kept {kept}{ended}",
            f"status {entry.status}, {entry.byte_count} bytes",
            f"age {_span(age)}, lifetime {_span(lifetime.seconds)} ({lifetime.source})",
            _freshness(entry, left),
            f"asked about with {_written(self.validators)}" if self.validators else "no validators",
        ]


def explain(
    entry: Entry | None,
    now: float,
    *,
    directives: RequestDirectives = NO_DIRECTIVES,
    revalidate_after: float | None = None,
    use_validators: bool = True,
) -> Explanation:
    """The explanation for a request that selects ``entry``; the arguments are those of :func:`.decision.decide`."""
    return Explanation(
        entry=entry,
        now=now,
        age=None if entry is None else current_age(entry, now),
        lifetime=None if entry is None else freshness_lifetime(entry),
        fresh_for=None if entry is None else fresh_for(entry, now),
        validators=condition_fields(entry) if entry is not None and use_validators else {},
        decisions={
            policy: decide(
                policy,
                entry,
                now,
                directives=directives,
                revalidate_after=revalidate_after,
                use_validators=use_validators,
            )
            for policy in CachePolicy
        },
    )


def _freshness(entry: Entry, left: float) -> str:
    if needs_validation(entry):
        return "to be asked about at every use"
    immutable = ", and will not change until then" if is_immutable(entry) else ""
    if left > 0:
        return f"fresh for {_span(left)} more{immutable}"
    return f"stale by {_span(-left)}{', and may not be used so' if forbids_stale(entry) else ''}"


def _in_words(decision: Decision) -> str:
    match decision:
        case Serve(stale, behind):
            asks = ", and ask the server behind it" if behind else ""
            return f"serve the stored copy{', stale' if stale else ''}{asks}"
        case Validate(fields):
            return f"ask the server whether it still holds ({_written(fields)})"
        case Load(fields):
            return f"load it in full{f' ({_written(fields)})' if fields else ''}"
        case Refuse(reason):
            return f"refuse: {reason}"


def _written(fields: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fields.items())


def _span(seconds: float) -> str:
    """A length of time as a person would say it.

    >>> [_span(seconds) for seconds in (0, 119, 7200, 1036800)]
    ['0 s', '119 s', '2.0 h', '12.0 days']
    """
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
