"""A file that appears whole or not at all. Runs in a worker thread."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError


def check_target(to: str | os.PathLike[str]) -> Path:
    """The path of a file to be written. TypeError for what is no path of text, ValueError for what names no file."""
    text = os.fspath(to)
    if not isinstance(text, str):
        raise TypeError(f"`to` is a path, a str or a pathlib.Path, not {to!r}")
    path = Path(text)
    if not path.name:
        raise ValueError(f"`to` names no file: {text!r}")
    return path


def write_atomically(path: Path, body: bytes, url: str) -> Path:
    """Write ``body`` beside its place under a name of its own, then move it there.

    A link keeps its place and its target is replaced; a device or a pipe is written to. Raises StorageError, with its
    cause, where the file cannot be written.
    """
    # A name of its own, not one made of the other: that one may be as long as names can be.
    part = path.with_name(f".imagecache-{secrets.token_hex(8)}.part")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(body)
            return path
        target = path.resolve()
        part = target.with_name(part.name)
        with part.open("xb") as file:
            file.write(body)
        os.replace(part, target)  # noqa: PTH105  # Path.replace() returns a Path that nobody wants.
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror or error}", url=url) from error
    return path
