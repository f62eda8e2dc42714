"""Header fields as a value: case-insensitive, in order, repeated fields kept. No parsing of values here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, overload

from .masking import MASK, is_secret_field

T = TypeVar("T")


class Headers(Mapping[str, str]):
    """An immutable, case-insensitive list of header fields.

    ``headers["vary"]`` joins repeated fields with ", " (RFC 9110, 5.2); :meth:`get_all` keeps them apart.
    Iteration gives each name once, as first spelled.

    >>> Headers([("Vary", "Accept"), ("vary", "Origin")])["VARY"]
    'Accept, Origin'
    """

    __slots__ = ("_by_name", "_hash", "pairs")

    pairs: tuple[tuple[str, str], ...]

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        # Lists first, the most by far: the test for a Mapping is a call of Python's.
        pairs = fields if isinstance(fields, list) else fields.items() if isinstance(fields, Mapping) else fields
        self.pairs = tuple(pairs)
        # Made at the first look by name: many are only passed on.
        self._by_name: dict[str, list[str]] | None = None
        self._hash: int | None = None

    @property
    def _values(self) -> dict[str, list[str]]:
        values = self._by_name
        if values is None:
            values = {}
            for name, value in self.pairs:
                lowered = name.lower()
                if lowered in values:
                    values[lowered].append(value)
                else:
                    values[lowered] = [value]
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
        values = (self._by_name or self._values).get(key.lower()) if self.pairs else None
        return default if values is None else ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return bool(self.pairs) and isinstance(name, str) and name.lower() in (self._by_name or self._values)

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
        if self._hash is None:
            self._hash = hash(tuple((name, tuple(values)) for name, values in sorted(self._values.items())))
        return self._hash

    def __reduce__(self) -> tuple[type[Headers], tuple[list[tuple[str, str]]]]:
        # Not the hash: in another process it is another one.
        return Headers, (list(self.pairs),)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self._values == other._values if isinstance(other, Headers) else NotImplemented

    def __repr__(self) -> str:
        shown = [(n, MASK if is_secret_field(n) else v) for n, v in self.pairs]
        return f"Headers({shown!r})"

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of the field, in order; () if it is absent."""
        return tuple((self._by_name or self._values).get(name.lower(), ())) if self.pairs else ()

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
