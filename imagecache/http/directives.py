"""What a request asks of caches: Cache-Control (RFC 9111, 5.2.1), Pragma (5.4), and stale-if-error (RFC 5861, 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..headers import Headers
from .cache_control import DELTA_SECONDS_LIMIT, CacheControl, members, parse_delta_seconds


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """The directives of one request; seconds, None where one is absent.

    ``max_stale`` is ``inf`` for a directive without an argument: however stale. An argument that cannot be read is
    the strictest there is, and so is the one that counts where a directive is repeated.

    >>> RequestDirectives.of(Headers({"Cache-Control": "max-age=60, max-stale"}))
    RequestDirectives(max_age=60.0, max_stale=inf)
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
        """The directives of a request with these fields."""
        if "cache-control" not in headers:
            # 5.4: Pragma says something only where there is no Cache-Control.
            return cls(no_cache="no-cache" in members(headers, "pragma"))
        control = CacheControl(headers)
        return cls(
            max_age=_seconds(control, "max-age", min, unreadable=0.0),
            # 5.2.1.2: without an argument, an answer of any staleness will do.
            max_stale=_seconds(control, "max-stale", min, unreadable=0.0, absent=math.inf),
            min_fresh=_seconds(control, "min-fresh", max, unreadable=math.inf),
            stale_if_error=_seconds(control, "stale-if-error", min, unreadable=0.0),
            no_cache="no-cache" in control,
            no_store="no-store" in control,
            only_if_cached="only-if-cached" in control,
        )

    def tightened(
        self, *, max_age: float | None = None, max_stale: float | None = None, min_fresh: float | None = None
    ) -> RequestDirectives:
        """These with a call's own options: of two that speak of the same, the stricter counts."""
        return replace(
            self,
            max_age=_stricter(min, self.max_age, max_age),
            max_stale=_stricter(min, self.max_stale, max_stale),
            min_fresh=_stricter(max, self.min_fresh, min_fresh),
        )

    def field_value(self) -> str:
        """These as a Cache-Control field value, in whole seconds and never laxer than they are; "" for none.

        >>> RequestDirectives(max_age=59.9, min_fresh=0.5, max_stale=math.inf).field_value()
        'max-age=59, max-stale, min-fresh=1'
        """
        written = []
        if self.no_cache:
            written.append("no-cache")
        if self.no_store:
            written.append("no-store")
        if self.max_age is not None and self.max_age < math.inf:
            written.append(f"max-age={_whole(self.max_age, math.floor)}")
        if self.max_stale is not None:
            is_any = self.max_stale == math.inf
            written.append("max-stale" if is_any else f"max-stale={_whole(self.max_stale, math.floor)}")
        if self.min_fresh is not None:
            written.append(f"min-fresh={_whole(self.min_fresh, math.ceil)}")
        if self.stale_if_error is not None:
            written.append(f"stale-if-error={_whole(self.stale_if_error, math.floor)}")
        if self.only_if_cached:
            written.append("only-if-cached")
        return ", ".join(written)

    def __repr__(self) -> str:
        said = [
            f"{name}={value!r}"
            for name in self.__slots__
            if (value := getattr(self, name)) is not None and value is not False
        ]
        return f"RequestDirectives({', '.join(said)})"


NO_DIRECTIVES = RequestDirectives()
"""What a request asks for that says nothing of caches."""


def _seconds(
    control: CacheControl,
    name: str,
    strictest: Callable[[list[float]], float],
    *,
    unreadable: float,
    absent: float | None = None,
) -> float | None:
    found: list[float] = []
    for argument in control.arguments(name):
        if argument is None:
            found.append(unreadable if absent is None else absent)
        else:
            seconds = parse_delta_seconds(argument)
            found.append(unreadable if seconds is None else float(seconds))
    return strictest(found) if found else None


def _stricter(strictest: Callable[[list[float]], float], one: float | None, other: float | None) -> float | None:
    said = [seconds for seconds in (one, other) if seconds is not None]
    return strictest(said) if said else None


def _whole(seconds: float, rounded: Callable[[float], int]) -> int:
    return rounded(min(max(seconds, 0.0), float(DELTA_SECONDS_LIMIT)))
