"""``imagecache clear``: removes everything that is stored."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from ..storage.stored import DiskState
from .console import complain, say
from .exit_code import ExitCode
from .options import add_cache_options, make_manager

if TYPE_CHECKING:
    from ..manager import ImageManager
    from ..storage.stats import CacheHealth
    from .options import Commands


def add_parser(commands: Commands) -> None:
    """Add the sub-command and its options."""
    parser = commands.add_parser(
        "clear", help="remove everything that is stored", description="Remove every image and ETag that is stored."
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> ExitCode:
    """Ask where a person can answer, then clear."""
    if not args.yes and not _confirmed():
        return ExitCode.USAGE
    health = asyncio.run(_clear(make_manager(args)))
    if health.disk_state is DiskState.UNAVAILABLE:
        complain(f"nothing is cleared, the disk tier is {health.disk_state.value}: {health.last_fault}")
        return ExitCode.INCOMPLETE
    say("cleared")
    return ExitCode.OK


def _confirmed() -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        complain("clear asks before it removes anything, and nobody is here to answer; say --yes")
        return False
    return input("Remove everything that is stored? [y/N] ").strip().lower() in {"y", "yes"}


async def _clear(images: ImageManager) -> CacheHealth:
    async with images:
        await images.cache.clear()
        return images.cache.health()
