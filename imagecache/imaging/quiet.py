"""Pillow's warnings about an image, kept from those who only asked for one.

Pillow tells of damaged EXIF, odd icons and the like by ``warnings.warn``: on the standard error of whoever runs the
program, or as an exception where the filters say so, so that what is an image would depend on them. The filters are
the whole process's, and so are ``warnings.catch_warnings`` and its like up to Python 3.14. So they are left
alone, and what Pillow's modules call ``warnings`` is one that is silent in a thread that decodes for us, and for
everybody else the standard library's.
"""

from __future__ import annotations

import sys
import threading
import warnings
from types import ModuleType, TracebackType
from typing import Any

# These may be loaded by Pillow in the middle of a picture.
from PIL import MpoImagePlugin, TiffImagePlugin  # noqa: F401  # imported to be there

_PILLOW = "PIL."


class _Thread(threading.local):
    is_quiet = False


_THREAD = _Thread()


class _Warnings(ModuleType):
    """The standard library's ``warnings``, but for what is warned of in a quiet thread."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    def warn(self, message: Any, category: Any = None, stacklevel: int = 1, **options: Any) -> None:
        if not _THREAD.is_quiet:
            # One level more for this function: whoever is warned is shown Pillow's line, as ever.
            warnings.warn(message, category, stacklevel + 1, **options)


_WARNINGS = _Warnings(warnings.__name__, warnings.__doc__)


def hear_pillow() -> None:
    """Give every module of Pillow that is loaded by now the ``warnings`` that can be silent."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_PILLOW) and getattr(module, "warnings", None) is warnings:
            vars(module)["warnings"] = _WARNINGS


class Quiet:
    """In this thread, as long as this lasts, Pillow warns of nothing.

    A class, where a generator would do: three of these are gone through for each image, and a generator takes longer
    than the look at a small header.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before, _THREAD.is_quiet = _THREAD.is_quiet, True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _THREAD.is_quiet = self._before


hear_pillow()
