"""``imagecache stats``: what the cache holds."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

from ..units import format_size
from .console import complain, say
from .exit_code import ExitCode
from .options import add_cache_options, folder_of, make_manager

if TYPE_CHECKING:
    from ..manager import ImageManager
    from ..storage.stats import CacheHealth, TierStats
    from .options import Commands


def add_parser(commands: Commands) -> None:
    """Add the sub-command and its options."""
    parser = commands.add_parser("stats", help="show what the cache holds", description="Show what the cache holds.")
    parser.add_argument("--json", action="store_true", help="as one JSON object, sizes in bytes")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> ExitCode:
    """Print the numbers, for people or for programs. Memory is not among them: this process has just begun."""
    disk, health = asyncio.run(_stats(make_manager(args)))
    folder = str(folder_of(args) or "")
    if args.json:
        numbers = {"count": disk.count, "bytes": disk.bytes, "limit": disk.limit}
        print(json.dumps({"folder": folder, "state": health.disk_state.value, **numbers}))
    else:
        used = disk.bytes / disk.limit if disk.limit else 0.0
        say(f"folder  {folder}")
        say(f"images  {disk.count:,}")
        say(f"bytes   {format_size(disk.bytes)} of {format_size(disk.limit)} ({used:.1%})")
    if health.last_fault is not None:
        complain(f"the disk tier is {health.disk_state.value}: {health.last_fault}")
        return ExitCode.INCOMPLETE
    return ExitCode.OK


async def _stats(images: ImageManager) -> tuple[TierStats, CacheHealth]:
    async with images:
        # In this order: the first look is what opens the folder.
        stats = await images.cache.stats()
        return stats.disk, images.cache.health()
