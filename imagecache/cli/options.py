"""The options that sub-commands share, what their values may be, and the manager made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..units import parse_size

if TYPE_CHECKING:
    from ..manager import ImageManager

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class UsageError(Exception):
    """Options that the library refuses; the message says which and why."""


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Which cache: ``--name``, ``--directory``, ``--disk-limit``; where absent, what the library itself would use."""
    group = parser.add_argument_group("cache")
    group.add_argument(
        "--name", default="default", help="whose cache: the name that a program gives its own (default: %(default)s)"
    )
    group.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="the folder of the cache itself (default: by name, in $IMAGECACHE_DIR or the user's cache folder)",
    )
    group.add_argument(
        "--disk-limit",
        type=size,
        metavar="SIZE",
        help="bytes, or a text such as '10 GiB' (default: $IMAGECACHE_DISK_LIMIT or 1 GiB)",
    )


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """How to fetch: ``--allow-private``, ``--force-refresh``, ``--timeout``."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--allow-private",
        action="store_true",
        help="also visit loopback, private and other addresses that are not public",
    )
    group.add_argument(
        "--force-refresh",
        action="store_true",
        help="ask the server about every stored image; one that is unchanged is not sent again",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="give up on an image after so long, counted from when it gets a connection",
    )


def size(text: str) -> int:
    """A number of bytes, for argparse."""
    try:
        return parse_size(int(text) if text.isdecimal() else text, name="this")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def seconds(text: str) -> float:
    """A time over 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time is a number of seconds over 0, not {text!r}")
    return value


def positive(text: str) -> int:
    """A whole number over 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number over 0, not {text!r}")
    return int(text)


class FetchArguments(TypedDict, total=False):
    """What ``--force-refresh`` and ``--timeout`` mean to a fetch or a prefetch."""

    force_refresh: bool
    timeout: float


def fetch_arguments(args: argparse.Namespace) -> FetchArguments:
    """The options that were given; of the others the library knows best."""
    arguments: FetchArguments = {"force_refresh": args.force_refresh}
    if args.timeout is not None:
        arguments["timeout"] = args.timeout
    return arguments


def make_manager(args: argparse.Namespace) -> ImageManager:
    """The manager that the options describe; addresses that are not public are refused unless allowed.

    Called before there is a loop, since it loads what is heavy. Raises UsageError for a name, or a value of an
    environment variable, that is none.
    """
    from ..manager import ImageManager

    try:
        return ImageManager(
            args.name,
            directory=args.directory,
            disk_limit=args.disk_limit,
            block_private=not getattr(args, "allow_private", False),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def folder_of(args: argparse.Namespace) -> Path | None:
    """The folder that the options describe, for a person to look into."""
    from ..pipeline.machine import cache_folder

    return cache_folder(args.name, args.directory)
