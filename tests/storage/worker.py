"""Processes that run beside a test: what they start with, and how they are talked to, line by line."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import imagecache

PRELUDE = f"""
import asyncio, hashlib, logging, os, signal, sqlite3, sys, threading, warnings
from pathlib import Path
sys.path.insert(0, {str(Path(imagecache.__file__).parent.parent)!r})
# A process with threads that forks is what these tests are about.
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from imagecache.clock import SystemClock
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, Index
from imagecache.storage.stored import DiskState, StoreStatus
from imagecache.testing.clock import FakeClock
from tests.storage.entries import entry_for, variant_of
clock = SystemClock()
folder = Path(sys.argv[1])

async def put(disk, name, body=None):
    body = name.encode() if body is None else body
    return (await disk.put(entry_for(clock, body, name), body)).status.name

async def get(disk, name):
    stored = await disk.load(entry_for(clock, b"", name).row.key_hash, key=name)
    return None if stored is None else stored.body

def ask(line):
    # Say where we are, and wait until the test says go.
    print(line, flush=True)
    assert sys.stdin.readline()
"""


class Worker:
    """A process that runs a script. Everything it says on stderr, and how it ended, is the test's to look at."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line it prints; what it complained of, should it have ended instead."""
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode().rstrip()
        if not line:
            _, errors = await self._process.communicate()
            raise AssertionError(f"the process ended: {errors.decode()}")
        return line

    def go_on(self) -> None:
        """Answer the `ask` that it waits in."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end: return code, the rest of what it printed, what it complained of."""
        output, errors = await asyncio.wait_for(self._process.communicate(), 60)
        assert self._process.returncode is not None
        return self._process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def worker(script: str, *arguments: object) -> AsyncIterator[Worker]:
    """Run a script in a process of its own, warnings as errors; killed at the end, if it is still there."""
    command = ["-W", "error", "-c", PRELUDE + textwrap.dedent(script), *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        # What it forked, if anything, waits for a line, and has the other end of its pipes open.
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


async def run(script: str, *arguments: object) -> str:
    """Run a script to its end, which has to be a good one, and return what it printed."""
    async with worker(script, *arguments) as process:
        code, output, errors = await process.end()
        assert (code, errors) == (0, "")
        return output
