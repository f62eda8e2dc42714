"""The Cache-Control field (RFC 9111, 5.2), read leniently where that forbids more and strictly where it allows more."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from ..headers import Headers

DELTA_SECONDS_LIMIT = 2**31
"""What a larger delta-seconds counts as (1.2.2)."""

UNDERSTOOD_STATUSES = frozenset(
    {*range(200, 206), 300, 301, 302, 303, 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506)}
)
"""What must-understand asks for: the final statuses of RFC 9110, 15, less 206 and 304, no answers by themselves."""

_DIRECTIVE = re.compile(
    r"""(?P<name>[^\s=,;"]+)\s*
        (?:=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"\s*(?=,|$)|(?P<token>[^,]*)))?
        [^,]*""",
    re.VERBOSE,
)
_GAP = re.compile(r"[\s,]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class CacheControl:
    """The directives of one message. Names are case-insensitive, and unknown ones do no harm (5.2.3)."""

    __slots__ = ("_directives",)

    def __init__(self, headers: Headers) -> None:
        values = headers.get_all("cache-control")
        if not values:
            self._directives = _NONE
        else:
            is_usual = len(values) == 1 and len(values[0]) <= _USUAL_LENGTH
            self._directives = _remembered(values) if is_usual else _directives_of(values)

    def __contains__(self, name: str) -> bool:
        return name in self._directives

    def seconds(self, name: str) -> int | None:
        """The directive's delta-seconds; None where it is absent.

        4.2.1: of several the first counts, and one that cannot be read is 0, so that the answer is stale
        rather than fresh for ever.
        """
        if name not in self._directives:
            return None
        return parse_delta_seconds(self._directives[name][0]) or 0

    def arguments(self, name: str) -> tuple[str | None, ...]:
        """What each occurrence of the directive has behind its "=", unquoted; None for one without. () if absent."""
        return self._directives.get(name, ())

    def fields(self, name: str) -> frozenset[str]:
        """The field names, in lower case, that a qualified ``no-cache="…"`` or ``private="…"`` lists.

        None at all means that the directive is about the whole answer: so does one without an argument beside
        one with, or a list that cannot be read (4.2.1: of what conflicts, the most restrictive).
        """
        if name not in self._directives:
            return _NO_FIELDS
        names: set[str] = set()
        for argument in self._directives.get(name, ()):
            listed = [part.strip() for part in (argument or "").split(",") if part.strip()]
            if not listed or not all(_FIELD_NAME.fullmatch(part) for part in listed):
                return frozenset()
            names.update(part.lower() for part in listed)
        return frozenset(names)

    def forbids_storing(self, status: int) -> bool:
        """Whether the directives of a response with this status keep it out of every store.

        5.2.2.3: must-understand asks for a cache that knows the status, and overrides no-store (5.2.2.5) there.
        """
        if "must-understand" in self:
            return status not in UNDERSTOOD_STATUSES
        return "no-store" in self


def parse_delta_seconds(text: str | None) -> int | None:
    """A non-negative integer of seconds, at most 2**31 (1.2.2); None for anything else."""
    digits = (text or "").strip()
    if not (digits.isascii() and digits.isdigit()):
        return None
    # Python refuses to read integers of thousands of digits, and none of them would say more.
    significant = digits.lstrip("0")
    return min(int(significant or "0"), DELTA_SECONDS_LIMIT) if len(significant) <= 10 else DELTA_SECONDS_LIMIT


def members(headers: Headers, name: str) -> list[str]:
    """The members of a comma-separated field, in lower case, without white space around them (RFC 9110, 5.6.1)."""
    value = headers.get(name)
    return [] if value is None else [member for part in value.split(",") if (member := part.strip().lower())]


_NO_FIELDS: frozenset[str] = frozenset()
_NONE: Mapping[str, tuple[str | None, ...]] = {}


_USUAL_LENGTH = 200
"""Characters; nobody makes us remember more."""


def _directives_of(values: tuple[str, ...]) -> Mapping[str, tuple[str | None, ...]]:
    found: dict[str, list[str | None]] = {}
    for value in values:
        for name, argument in _directives(value):
            found.setdefault(name, []).append(argument)
    return {name: tuple(arguments) for name, arguments in found.items()}


# A server says the same of all its images, and each answer is asked about it several times.
_remembered = functools.lru_cache(maxsize=256)(_directives_of)


def _directives(value: str) -> Iterator[tuple[str, str | None]]:
    position = 0
    while (position := _behind_gap(value, position)) < len(value):
        match = _DIRECTIVE.match(value, position)
        if match is None:
            # Not the start of a directive: go on behind the next comma.
            position = value.find(",", position) + 1 or len(value)
            continue
        quoted = match["quoted"]
        argument = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match["token"]
        yield match["name"].lower(), argument.strip() if argument is not None else None
        position = match.end()


def _behind_gap(value: str, position: int) -> int:
    gap = _GAP.match(value, position)
    return gap.end() if gap is not None else position
