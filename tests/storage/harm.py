"""What can happen to a file, done on purpose: each function takes a path and leaves something else there."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

Harm = Callable[[Path], None]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def zero_the_tail(path: Path) -> None:
    overwrite(path, path.stat().st_size - 100, bytes(100))


def flip_a_bit(path: Path) -> None:
    middle = path.stat().st_size // 2
    overwrite(path, middle, bytes([path.read_bytes()[middle] ^ 1]))


def append(path: Path) -> None:
    overwrite(path, path.stat().st_size, b"x")


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero(path: Path) -> None:
    overwrite(path, 0, bytes(path.stat().st_size))


def scribble(path: Path) -> None:
    """As many other bytes, in place."""
    overwrite(path, 0, random.Random(1).randbytes(path.stat().st_size))


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """In place: whoever has the file open sees it."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def replace_by_text(path: Path) -> None:
    path.unlink()
    path.write_text("somebody's notes\n" * 1000)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_bytes(b"somebody's")


def replace_by_link(path: Path) -> None:
    """A link to the very bytes."""
    elsewhere = path.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    if sys.platform == "win32":
        pytest.skip("no pipes in folders there")
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        pytest.skip("no sockets in folders there")
    # A socket's path is short: bound by its name alone.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("s")
        Path("s").rename(path.name)
    finally:
        os.chdir(before)


def remove(path: Path) -> None:
    path.unlink()


def flip_bits(seed: int) -> Harm:
    """Flip bits here and there, more often where a page begins: there is its structure."""

    def harm(path: Path) -> None:
        chance, size = random.Random(seed), path.stat().st_size
        content = path.read_bytes()
        for _ in range(chance.choice((1, 1, 3, 30))):
            page = chance.randrange(0, size, 4096)
            place = min(size - 1, page + chance.randrange(chance.choice((100, 4096))))
            overwrite(path, place, bytes([content[place] ^ 1 << chance.randrange(8)]))

    harm.__name__ = f"flip_bits_{seed}"
    return harm


def cut_to(size: int) -> Harm:
    """Leave the first bytes, or without the last if negative."""

    def harm(path: Path) -> None:
        whole = path.stat().st_size
        os.truncate(path, min(whole, size if size >= 0 else whole + size))

    harm.__name__ = f"cut_to_{size}"
    return harm


def execute(*statements: str) -> Harm:
    """Change an index by plain SQL, as no connection of ours does."""

    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            for statement in statements:
                db.execute(statement)

    harm.__name__ = statements[0]
    return harm
