"""Checking and naming the arguments of processors: what is wrong is said when they are made, not when they run."""

from __future__ import annotations

import functools
import math

from PIL import ImageColor

Colour = str | int | tuple[int, ...]
"""A colour as Pillow takes it: a name, "#rrggbb", "rgb(…)", "hsl(…)", a grey of 0 to 255, or (r, g, b[, a])."""

_BANDS = (3, 4)
_MOST = 255


def checked_length(name: str, value: object) -> int:
    """A number of pixels, at least 1; TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number of pixels, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} is at least 1 pixel, not {value}")
    return value


def checked_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number within the bounds, as a float; TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} is a finite number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def checked_colour(name: str, value: object) -> tuple[int, int, int, int]:
    """The colour as (red, green, blue, alpha), each 0 to 255; TypeError, ValueError."""
    if isinstance(value, str):
        try:
            bands: tuple[int, ...] = ImageColor.getrgb(value)
        except ValueError as error:
            raise ValueError(f"{name} is no colour: {value!r}") from error
    elif isinstance(value, int) and not isinstance(value, bool):
        bands = (value, value, value)
    elif isinstance(value, tuple | list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        bands = tuple(value)
    else:
        raise TypeError(f"{name} is a colour such as 'red', '#ff0000' or (255, 0, 0), not {value!r}")
    if len(bands) not in _BANDS or not all(0 <= band <= _MOST for band in bands):
        raise ValueError(f"{name} has three or four values of 0 to 255: {value!r}")
    red, green, blue, alpha = (*bands, _MOST)[:4]
    return red, green, blue, alpha


def give_name(processor: object, *arguments: object) -> None:
    """Set the ``identifier`` of a frozen processor: its class's name and what makes it other than its like.

    Once, as it is made: each call that names processors asks for theirs, memory hits among them.
    """
    try:
        object.__setattr__(processor, "identifier", _name_of(type(processor).__name__, *arguments))
    except AttributeError:  # A subclass that names itself.
        return


# Many are made anew for each call. By type, too: True is another text than 1.
@functools.lru_cache(maxsize=1024, typed=True)
def _name_of(kind: str, *arguments: object) -> str:
    # Numbers without the noise of floats: 0.1 + 0.2 is 0.3, and 20.0 is 20.
    return f"{kind}({','.join(_text(argument) for argument in arguments)})"


def _text(argument: object) -> str:
    if isinstance(argument, float):
        return f"{argument:.6g}"
    if isinstance(argument, tuple):
        return "(" + ",".join(_text(part) for part in argument) + ")"
    return str(argument)
