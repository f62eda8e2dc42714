"""``imagecache prefetch``: brings a list of URLs into the cache, and says what became of each."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.summary import miss_line, summary_lines
from ..batch.tally import Tally
from ..batch.urls import URLListError, count_urls, read_urls
from ..clock import SystemClock
from ..storage.stored import StoreStatus
from ..units import format_size
from .console import complain, note, say
from .exit_code import ExitCode
from .options import add_cache_options, add_network_options, fetch_arguments, make_manager, positive
from .progress import PlainProgress, Progress, is_watched

if TYPE_CHECKING:
    from ..manager import ImageManager
    from ..result import PrefetchOutcome
    from .options import Commands

MISSES_ON_A_SCREEN = 20


def add_parser(commands: Commands) -> None:
    """Add the sub-command and its options."""
    parser = commands.add_parser(
        "prefetch",
        help="bring a list of URLs into the cache",
        description="Bring every URL of a list into the cache. What is there already is not fetched again.",
        epilog="Exit code 0: all are in the cache; 1: some are not; 2: wrong usage, or an unreadable list; "
        "4: stopped at the disk limit; 130: interrupted.",
    )
    parser.add_argument("file", metavar="FILE", help="a URL a line, # begins a comment; - is standard input")
    parser.add_argument(
        "--concurrency", type=positive, default=32, metavar="N", help="how many at a time (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="tell only what did not come")
    add_network_options(parser)
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> ExitCode:
    """Prefetch, then say what was done: after Ctrl-C, too."""
    path = None if args.file == "-" else Path(args.file)
    images = make_manager(args)
    is_shown = not args.quiet and is_watched()
    tally, clock = Tally(), SystemClock()
    began = clock.monotonic()
    try:
        with _bar(path) if is_shown else PlainProgress(is_quiet=args.quiet) as progress:
            code = asyncio.run(_prefetch(images, args, read_urls(path), tally, progress))
    except URLListError as error:
        complain(str(error))
        return ExitCode.USAGE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    if is_shown:
        _tell_misses(tally)
    if not args.quiet:
        for line in summary_lines(tally, clock.monotonic() - began):
            say(line)
    if code is ExitCode.LIMIT_REACHED:
        limit = format_size(images.cache.disk.limit)
        complain(f"stopped at the disk limit of {limit}, full of what this very job stored; --disk-limit raises it")
    elif too_large := sum(outcome.reason == StoreStatus.TOO_LARGE.value for outcome in tally.misses):
        limit = format_size(images.cache.disk.limit)
        complain(f"{too_large:,} would never fit within the disk limit of {limit}; --disk-limit raises it")
    if code is ExitCode.INTERRUPTED:
        complain("interrupted; what was stored stays stored")
    return code


async def _prefetch(
    images: ImageManager, args: argparse.Namespace, urls: AsyncIterable[str], tally: Tally, progress: Progress
) -> ExitCode:
    async with images:
        job = images.prefetch(urls, concurrency=args.concurrency, **fetch_arguments(args))

        def count(outcome: PrefetchOutcome) -> None:
            tally.add(outcome)
            progress.update(tally, outcome)

        try:
            async for outcome in job:
                count(outcome)
        finally:
            # Interrupted: what was done meanwhile and not looked at is done all the same.
            for outcome in job.report.outcomes[tally.done :]:
                count(outcome)
        if job.report.limit_reached:
            return ExitCode.LIMIT_REACHED
    return ExitCode.OK if tally.is_complete else ExitCode.INCOMPLETE


def _bar(path: Path | None) -> Progress:
    from .progress_bar import ProgressBar

    return ProgressBar(total=count_urls(path) if path is not None and path.is_file() else None)


def _tell_misses(tally: Tally) -> None:
    for outcome in tally.misses[:MISSES_ON_A_SCREEN]:
        note(miss_line(outcome))
    if len(tally.misses) > MISSES_ON_A_SCREEN:
        note(f"... and {len(tally.misses) - MISSES_ON_A_SCREEN:,} more; redirect standard error to a file to see all")
