"""A file that appears whole or not at all. Runs in a worker thread."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError


def write_atomically(to: str, body: bytes) -> Path:
    """Write ``body`` beside its place under a name of its own, then move it there.

    Raises StorageError, with its cause, where the file cannot be written.
    """
    path = Path(to)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as file:
            file.write(body)
        os.replace(part, path)  # noqa: PTH105  # Path.replace() returns a Path that nobody wants.
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path
