"""The command as a process of its own, against a real server in a thread of the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagecache.testing import ImageServer

COMMAND = [sys.executable, "-W", "error", "-m", "imagecache.cli.main"]


class CommandLine:
    """Runs ``imagecache`` with a cache folder of the test's own; every warning of Python's is an error in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str | Path, stdin: bytes | str = b"") -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        with self.start(*arguments) as process:
            text = stdin.encode() if isinstance(stdin, str) else stdin
            output, errors = process.communicate(text, timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, _text(output), _text(errors))

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment
        )

    @property
    def environment(self) -> dict[str, str]:
        """The test's own, and caches by name in the test's folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGECACHE_")}
        return {**kept, "IMAGECACHE_DIR": str(self.directory), "PYTHONIOENCODING": "utf-8"}


def _text(output: bytes) -> str:
    return output.decode().replace("\r\n", "\n")


@pytest.fixture
def imagecache(tmp_path: Path) -> CommandLine:
    """``imagecache("stats")`` runs the command."""
    return CommandLine(tmp_path / "cache")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A server that the command can reach."""
    with ImageServer.in_thread() as running:
        yield running


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let the commands under test be interrupted, even where the tests themselves run in a shell's background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        # A child inherits that a signal is ignored, but not a handler.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
