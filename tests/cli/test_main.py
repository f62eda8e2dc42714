"""The door of the command: help, versions, wrong usage."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest

from .conftest import COMMAND, CommandLine


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["prefetch", "--help"]], ids=" ".join)
def test_help_and_version_load_neither_aiohttp_nor_pillow(arguments: list[str]) -> None:
    # -X importtime names every module that is loaded, on standard error.
    command = [sys.executable, "-X", "importtime", "-m", "imagecache.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"aiohttp", "PIL", "sqlite3", "rich"}


def test_version_is_the_package_s(imagecache: CommandLine) -> None:
    assert imagecache("--version").stdout == f"imagecache {version('imagecache')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["prefetch"],
        ["prefetch", "-", "--concurrency", "0"],
        ["prefetch", "-", "--disk-limit", "big"],
        ["prefetch", "-", "--concurrency", "many"],
        ["prefetch", "-", "--timeout", "-1"],
        ["prefetch", "-", "--timeout", "soon"],
        ["get", "http://a.example/a.png"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_how(imagecache: CommandLine, arguments: list[str]) -> None:
    done = imagecache(*arguments)
    assert done.returncode == 2
    assert "usage: imagecache" in done.stderr
    assert "invalid " not in done.stderr.replace("invalid choice", "")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error(imagecache: CommandLine) -> None:
    with subprocess.Popen(
        [*COMMAND, "stats"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=imagecache.environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("stats >&-", 0, ""),
        ("stats 2>&-", 0, ""),
        ("prefetch /no/such/list 2>&-", 2, ""),
        ("prefetch - <&-", 2, "standard input"),
        ("clear <&-", 2, "--yes"),
    ],
)
def test_closed_standard_streams_neither_hang_nor_trip_it(
    imagecache: CommandLine, command: str, code: int, told: str
) -> None:
    line = f"{shlex.join(COMMAND)} {command}"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=imagecache.environment
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert told in done.stderr
