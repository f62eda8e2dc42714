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
    from ..storage.cache import CacheStats
    from .options import Commands


def add_parser(commands: Commands) -> None:
    """Add the sub-command and its options."""
    parser = commands.add_parser("stats", help="show what the cache holds", description="Show what the cache holds.")
    parser.add_argument("--json", action="store_true", help="as one JSON object, sizes in bytes")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> ExitCode:
    """Print the numbers, for people or for programs. Memory is not among them: this process has just begun."""
    stats = asyncio.run(_stats(make_manager(args)))
    folder = str(folder_of(args) or "")
    if args.json:
        numbers = {"count": stats.disk_count, "bytes": stats.disk_bytes, "limit": stats.disk_limit}
        print(json.dumps({"folder": folder, "state": stats.disk_state.value, **numbers}))
    else:
        used = stats.disk_bytes / stats.disk_limit if stats.disk_limit else 0.0
        say(f"folder  {folder}")
        say(f"images  {stats.disk_count:,}")
        say(f"bytes   {format_size(stats.disk_bytes)} of {format_size(stats.disk_limit)} ({used:.1%})")
    if stats.last_fault is not None:
        complain(f"the disk tier is {stats.disk_state.value}: {stats.last_fault}")
        return ExitCode.INCOMPLETE
    return ExitCode.OK


async def _stats(images: ImageManager) -> CacheStats:
    async with images:
        return await images.cache.stats()
