"""Header fields as a value: case-insensitive, in order, repeated fields kept. No parsing of values here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sys import intern
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

    __slots__ = ("_by_name", "_hash", "_repeated", "pairs")

    pairs: tuple[tuple[str, str], ...]

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        # Lists first, the most by far: the test for a Mapping is a call of Python's.
        pairs = fields if isinstance(fields, list) else fields.items() if isinstance(fields, Mapping) else fields
        self.pairs = tuple(pairs)
        # Made at the first look by name: many are only passed on. Of texts alone: an image in memory keeps its fields,
        # and the garbage collector goes through whatever else holds them, again and again.
        self._by_name: dict[str, str] | None = None
        self._repeated: dict[str, tuple[str, ...]] | None = None
        self._hash: int | None = None

    @property
    def _values(self) -> dict[str, str]:
        values = self._by_name
        if values is None:
            values = {}
            for name, value in self.pairs:
                # All servers' answers have the same few names.
                lowered = intern(name.lower())
                if lowered in values:
                    self._repeat(lowered, values[lowered], value)
                    values[lowered] += f", {value}"
                else:
                    values[lowered] = value
            self._by_name = values
        return values

    def _repeat(self, name: str, before: str, value: str) -> None:
        if self._repeated is None:
            self._repeated = {}
        self._repeated[name] = (*self._repeated.get(name, (before,)), value)

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    @overload
    def get(self, key: str, default: None = None) -> str | None: ...

    @overload
    def get(self, key: str, default: str | T) -> str | T: ...

    def get(self, key: str, default: str | T | None = None) -> str | T | None:
        # Mapping's own would raise and catch a KeyError for each of the many fields that are not there.
        return (self._by_name or self._values).get(key.lower(), default) if self.pairs else default

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
            self._hash = hash(tuple(sorted(self._values.items())))
        return self._hash

    def __reduce__(self) -> tuple[type[Headers], tuple[list[tuple[str, str]]]]:
        # Not the hash: in another process it is another one.
        return Headers, (list(self.pairs),)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Headers):
            return NotImplemented
        # What is repeated is known only once the values are.
        return self._values == other._values and self._repeated == other._repeated

    def __repr__(self) -> str:
        shown = [(n, MASK if is_secret_field(n) else v) for n, v in self.pairs]
        return f"Headers({shown!r})"

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of the field, in order; () if it is absent."""
        if not self.pairs:
            return ()
        lowered = name.lower()
        value = (self._by_name or self._values).get(lowered)
        if value is None:
            return ()
        return (value,) if self._repeated is None else self._repeated.get(lowered, (value,))

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
