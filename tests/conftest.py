"""What holds for every test: the event loop is never blocked, and nothing is skipped where CI asks for all."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

import imagecache
from imagecache.imaging.warm_up import warm_up

# How long an example takes says something of the machine and nothing of the library.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Or what is counted in threads would be one more in whichever test comes first.
warm_up()

REQUIRE_ALL = os.environ.get("IMAGECACHE_REQUIRE_ALL") == "1"

BLOCKING_EVENTS = frozenset({
    "open", "os.chmod", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir",
    "os.truncate", "os.utime", "shutil.copyfile", "shutil.rmtree", "socket.getaddrinfo", "sqlite3.connect",
    "subprocess.Popen", "time.sleep",
})  # fmt: skip
"""Audit events (see the sys.addaudithook page of Python's manual) that mean a system call which may wait."""

PACKAGE = str(Path(imagecache.__file__).parent) + os.sep
# Tests and their delegates may open what they like, and the helpers serve files of tests.
OTHERS = (str(Path(__file__).parent) + os.sep, PACKAGE + "testing" + os.sep)
# Importing a module and printing a traceback read source files; neither is the library's doing.
IMPORT = "<frozen importlib"
TRACEBACKS = ("linecache.py", "traceback.py")
# The kernel answers these from memory, at once.
KERNEL_FILES = ("/proc/", "/sys/")


class LoopGuard:
    """Notes every blocking call that the library makes on a thread with a running event loop.

    An audit hook, not a stopwatch: on a busy machine a stopwatch accuses the innocent.
    """

    def __init__(self) -> None:
        self.is_watching = False
        self.offences: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.is_watching and event in BLOCKING_EVENTS and asyncio._get_running_loop() is not None:
            culprit = self.culprit(sys._getframe(1))
            if culprit is not None and not str(args[0]).startswith(KERNEL_FILES):
                self.offences.append(f"{event}{args[:1]} from {culprit}")

    @staticmethod
    def culprit(frame: FrameType | None) -> str | None:
        """The innermost line of the library on this stack; None if somebody else made the call, or an import."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith((*OTHERS, IMPORT)) or name.endswith(TRACEBACKS):
                return None
            if name.startswith(PACKAGE):
                return f"{name}:{frame.f_lineno}"
            frame = frame.f_back
        return None


GUARD = LoopGuard()
sys.addaudithook(GUARD)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pillow-images",
        metavar="DIR",
        default=os.environ.get("IMAGECACHE_PILLOW_IMAGES"),
        help="the folder Tests/images of Pillow's source distribution (default: IMAGECACHE_PILLOW_IMAGES)",
    )


@pytest.fixture(autouse=True)
def loop_is_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which the library opened a file, a database or a name on the event loop's thread."""
    GUARD.offences.clear()
    GUARD.is_watching = request.node.get_closest_marker("blocks_loop") is None
    yield
    GUARD.is_watching = False
    assert not GUARD.offences, "blocked the event loop: " + "; ".join(GUARD.offences)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under IMAGECACHE_REQUIRE_ALL=1 a skip is a failure: there, everything a test needs has been installed."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though IMAGECACHE_REQUIRE_ALL=1: {call.excinfo.value if call.excinfo else ''}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself while it is collected."""
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, though IMAGECACHE_REQUIRE_ALL=1: {collector.nodeid}"
    return report
