"""Header fields as a value: case-insensitive, in order, repeated fields kept. No parsing of values here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, overload

from .masking import MASK, is_secret_field

T = TypeVar("T")

_HASH_OF_NONE = hash(())


class Headers(Mapping[str, str]):
    """An immutable, case-insensitive list of header fields.

    ``headers["vary"]`` joins repeated fields with ", " (RFC 9110, 5.2); :meth:`get_all` keeps them apart.
    Iteration gives each name once, as first spelled.

    >>> Headers([("Vary", "Accept"), ("vary", "Origin")])["VARY"]
    'Accept, Origin'
    """

    __slots__ = ("_by_name", "pairs")

    pairs: tuple[tuple[str, str], ...]

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(fields.items() if isinstance(fields, Mapping) else fields)
        # Made at the first look by name: many are only passed on.
        self._by_name: dict[str, list[str]] | None = None

    @property
    def _values(self) -> dict[str, list[str]]:
        values = self._by_name
        if values is None:
            values = {}
            for name, value in self.pairs:
                values.setdefault(name.lower(), []).append(value)
            self._by_name = values
        return values

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    @overload
    def get(self, key: str, default: None = None) -> str | None: ...

    @overload
    def get(self, key: str, default: str | T) -> str | T: ...

    def get(self, key: str, default: str | T | None = None) -> str | T | None:
        # Mapping's own would raise and catch a KeyError for each of the many fields that are not there.
        values = self._values.get(key.lower()) if self.pairs else None
        return default if values is None else ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return bool(self.pairs) and isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for name, _ in self.pairs:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __hash__(self) -> int:
        if not self.pairs:
            return _HASH_OF_NONE
        return hash(tuple((name.lower(), tuple(values)) for name, values in sorted(self._values.items())))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self._values == other._values if isinstance(other, Headers) else NotImplemented

    def __repr__(self) -> str:
        shown = [(n, MASK if is_secret_field(n) else v) for n, v in self.pairs]
        return f"Headers({shown!r})"

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of the field, in order; () if it is absent."""
        return tuple(self._values.get(name.lower(), ())) if self.pairs else ()

    def updated(self, fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
        """These fields with those of ``fields`` in place of their namesakes."""
        new = fields if isinstance(fields, Headers) else Headers(fields)
        if not new.pairs:
            return self
        if not self.pairs:
            return new
        kept = [pair for pair in self.pairs if pair[0].lower() not in new._values]
        return Headers([*kept, *new.pairs])

    def without(self, *names: str) -> Headers:
        """These fields less the named ones."""
        gone = {name.lower() for name in names}
        return Headers([pair for pair in self.pairs if pair[0].lower() not in gone])
