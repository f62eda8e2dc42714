"""What a request asks of the caches on its way, ours first: Cache-Control in requests (5.2.1) and Pragma (5.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..headers import Headers
from .cache_control import DELTA_SECONDS_LIMIT, CacheControl, parse_delta_seconds


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """The request directives, seconds where they take some; None where one is absent.

    ``max_stale`` is ``inf`` for a max-stale without an argument: however stale.
    """

    max_age: float | None = None
    max_stale: float | None = None
    min_fresh: float | None = None
    stale_if_error: float | None = None
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False

    @classmethod
    def of(cls, headers: Headers) -> RequestDirectives:
        """The directives of a request.

        A max-age or min-fresh that cannot be read asks for the most, a max-stale or stale-if-error for nothing.
        """
        control = CacheControl(headers)
        if "cache-control" not in headers:
            # 5.4: the older way of asking for no-cache counts only where the newer one is silent.
            pragma = [member.strip().lower() for member in headers.get("pragma", "").split(",")]
            return cls(no_cache="no-cache" in pragma)
        max_stale: float | None = control.seconds("max-stale")
        if "max-stale" in control and control.argument("max-stale") is None:
            max_stale = math.inf
        min_fresh: float | None = control.seconds("min-fresh")
        if min_fresh is not None and parse_delta_seconds(control.argument("min-fresh")) is None:
            min_fresh = math.inf
        return cls(
            max_age=control.seconds("max-age"),
            max_stale=max_stale,
            min_fresh=min_fresh,
            stale_if_error=control.seconds("stale-if-error"),
            no_cache="no-cache" in control,
            no_store="no-store" in control,
            only_if_cached="only-if-cached" in control,
        )

    def tightened(
        self, *, max_age: float | None = None, max_stale: float | None = None, min_fresh: float | None = None
    ) -> RequestDirectives:
        """Together with what a call asks by its options: where both speak, the stricter counts."""
        return replace(
            self,
            max_age=_least(self.max_age, max_age),
            max_stale=_least(self.max_stale, max_stale),
            min_fresh=None
            if self.min_fresh is None and min_fresh is None
            else max(self.min_fresh or 0, min_fresh or 0),
        )

    def field_value(self) -> str:
        """The Cache-Control field that asks for all this; "" for nothing. Whole seconds, rounded to ask for more."""
        members = [
            name
            for name, is_asked in (
                ("no-cache", self.no_cache),
                ("no-store", self.no_store),
                ("only-if-cached", self.only_if_cached),
            )
            if is_asked
        ]
        if self.max_age is not None and self.max_age < DELTA_SECONDS_LIMIT:
            members.append(f"max-age={int(self.max_age)}")
        if self.max_stale is not None:
            members.append("max-stale" if self.max_stale >= DELTA_SECONDS_LIMIT else f"max-stale={int(self.max_stale)}")
        if self.min_fresh is not None:
            members.append(f"min-fresh={min(math.ceil(min(self.min_fresh, 2.0**31)), DELTA_SECONDS_LIMIT)}")
        if self.stale_if_error is not None:
            members.append(f"stale-if-error={int(min(self.stale_if_error, DELTA_SECONDS_LIMIT))}")
        return ", ".join(members)


def _least(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


NO_DIRECTIVES = RequestDirectives()
"""A request that asks nothing of caches."""
