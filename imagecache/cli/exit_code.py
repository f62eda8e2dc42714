"""What the command tells the shell."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of every sub-command; 2 is argparse's own choice, 130 the shell's for Ctrl-C."""

    OK = 0
    INCOMPLETE = 1
    """Something that was asked for did not come, or could not be kept."""
    USAGE = 2
    LIMIT_REACHED = 4
    """A prefetch stopped because what it stored fills the disk limit."""
    INTERRUPTED = 130
