"""Tools for testing programs that use imagecache, and imagecache itself. Nothing of the library imports them.

    ImageServer, Answer, Gate, LoggedRequest    a real HTTP server on loopback, scripted
    stub, StubCall, StubError                   answers without a socket
    FakeClock                                   time that a test moves
    FaultyDisk                                  a disk that is full, broken or read-only
    picture, picture_set                        generated images
    StubbedClientResponse                       lets aioresponses work with aiohttp 3.14

The names are resolved at first use, so that importing this package loads neither aiohttp nor Pillow. The
pytest plugin is ``imagecache.testing.plugin``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import StubbedClientResponse as StubbedClientResponse
    from .answer import Answer as Answer
    from .clock import FakeClock as FakeClock
    from .faults import FaultyDisk as FaultyDisk
    from .gate import Gate as Gate
    from .log import LoggedRequest as LoggedRequest
    from .pictures import picture as picture, picture_set as picture_set
    from .server import ImageServer as ImageServer
    from .stubbing import StubCall as StubCall, StubError as StubError, stub as stub

_HOME_OF = {
    "Answer": "answer",
    "FakeClock": "clock",
    "FaultyDisk": "faults",
    "Gate": "gate",
    "ImageServer": "server",
    "LoggedRequest": "log",
    "StubCall": "stubbing",
    "StubError": "stubbing",
    "StubbedClientResponse": "aio",
    "picture": "pictures",
    "picture_set": "pictures",
    "stub": "stubbing",
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  it is a list of str


# A type checker that saw it would take every misspelt name for one of these.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
