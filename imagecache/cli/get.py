"""``imagecache get``: one image, from the cache or the network, into a file."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..units import format_size
from .console import note, say
from .exit_code import ExitCode
from .options import UsageError, add_cache_options, add_network_options, fetch_arguments, make_manager

if TYPE_CHECKING:
    from ..manager import ImageManager
    from ..metrics import Counters
    from .options import Commands


def add_parser(commands: Commands) -> None:
    """Add the sub-command and its options."""
    parser = commands.add_parser(
        "get",
        help="write one image to a file",
        description="Write the exact bytes of an image to a file: from the cache, or from the network into both.",
    )
    parser.add_argument("url", metavar="URL")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="where to, replaced as a whole; - is standard output"
    )
    add_network_options(parser)
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> ExitCode:
    """Fetch, write, and say where the image came from."""
    target = None if args.output == "-" else _target(args.output)
    images = make_manager(args)
    if target is None:
        data = asyncio.run(_get_data(images, args))
        sys.stdout.buffer.write(data)
        note(f"{format_size(len(data))} {_origin(images.counters)}")
    elif target.exists() and not target.is_file():
        # A device or a pipe is written to: whoever may move a file over /dev/null must not do so.
        data = asyncio.run(_get_data(images, args))
        with target.open("wb") as device:
            device.write(data)
        note(f"{target}: {format_size(len(data))} {_origin(images.counters)}")
    else:
        # The file that a link names is replaced, not the link.
        path = asyncio.run(_get_file(images, args, target.resolve()))
        say(f"{target}: {format_size(path.stat().st_size)} {_origin(images.counters)}")
    return ExitCode.OK


def _target(output: str) -> Path:
    path = Path(output)
    if not path.name or output.endswith(("/", os.sep)) or path.is_dir():
        raise UsageError(f"--output names a file to write, and {output!r} is none")
    return path


async def _get_data(images: ImageManager, args: argparse.Namespace) -> bytes:
    async with images:
        return await images.fetch_data(args.url, **fetch_arguments(args))


async def _get_file(images: ImageManager, args: argparse.Namespace, target: Path) -> Path:
    async with images:
        return await images.fetch_file(args.url, to=target, **fetch_arguments(args))


def _origin(counters: Counters) -> str:
    if counters.not_modified:
        return "from the cache, unchanged on the server"
    return "from the network" if counters.downloads else "from the cache"
