"""Words to the person at the terminal. Nothing that came from a server or a file reaches it unescaped."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """``text`` on one line, control characters escaped: a URL must not be able to steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(text: str) -> None:
    """A line of the answer, to standard output."""
    print(printable(text))


def note(text: str) -> None:
    """A line about the answer, to standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error, on one line of standard error."""
    note(f"imagecache: {text}")
