"""The door: chooses the sub-command, and turns every foreseeable failure into one line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import ImageCacheError
from . import clear, get, prefetch, stats
from .console import complain
from .exit_code import ExitCode
from .options import UsageError


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="imagecache", description="Download images, keep them, and download again only what has changed."
    )
    parser.add_argument("--version", action="version", version=f"imagecache {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (prefetch, get, stats, clear):
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``imagecache`` with these arguments (default: the process's own) and return its exit code."""
    _mend_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a URL that the console cannot show is no reason to fail
    args = make_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], ExitCode] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); the interpreter's own flush at exit must not trip again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INCOMPLETE
    except UsageError as error:
        complain(str(error))
        return ExitCode.USAGE
    except (ImageCacheError, OSError) as error:
        complain(str(error))
        return ExitCode.INCOMPLETE
    return code


def _mend_closed_streams() -> None:
    # Whoever closed them (`>&-`, a service, pythonw) wants no words; the descriptors must not go to the cache's files.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # kept to the end


if __name__ == "__main__":
    sys.exit(main())
