"""SQLite connections that ask a fault injector before every statement. It knows no rules, only whom to ask."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Self

_VERB = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)


def verb_of(statement: str) -> str:
    """The first word of a statement, in lower case.

    >>> verb_of("-- all of them\\n SELECT 1")
    'select'
    """
    match = _VERB.match(statement)
    return match[1].lower() if match else ""


def faulty_connection(
    base: type[sqlite3.Connection], meet: Callable[[str, str], object], path: str
) -> type[sqlite3.Connection]:
    """A connection class over ``base`` that calls ``meet("sqlite.<verb>", path)`` before each statement."""

    class FaultyCursor(sqlite3.Cursor):
        def execute(self, sql: str, /, *args: Any) -> Self:
            meet(f"sqlite.{verb_of(sql)}", path)
            return super().execute(sql, *args)

        def executemany(self, sql: str, rows: Iterable[Any], /) -> Self:
            meet(f"sqlite.{verb_of(sql)}", path)
            return super().executemany(sql, rows)

        def executescript(self, script: str, /) -> sqlite3.Cursor:
            meet(f"sqlite.{verb_of(script)}", path)
            return super().executescript(script)

    # mypy cannot follow a base class that is a value; every Connection has these methods.
    class FaultyConnection(base):  # type: ignore[misc, valid-type]
        def cursor(self, factory: type[sqlite3.Cursor] = FaultyCursor) -> sqlite3.Cursor:
            cursor: sqlite3.Cursor = super().cursor(factory)
            return cursor

        # The module's own make their cursor in C, of the plain class.
        def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
            return self.cursor().execute(sql, *args)

        def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
            return self.cursor().executemany(sql, rows)

        def executescript(self, script: str, /) -> sqlite3.Cursor:
            return self.cursor().executescript(script)

        def commit(self) -> None:
            meet("sqlite.commit", path)
            super().commit()

        def close(self) -> None:
            try:
                meet("sqlite.close", path)
            finally:
                # Nobody tries twice: what is told to have failed must not stay open for good.
                super().close()

        def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
            # The module's own would commit without asking commit().
            if kind is None:
                meet("sqlite.commit", path)
            return super().__exit__(kind, error, trace)

    return FaultyConnection
