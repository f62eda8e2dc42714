"""What a person at a terminal sees of a prefetch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagecache.testing import ImageServer

from .conftest import COMMAND, CommandLine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


def on_a_terminal(
    imagecache: CommandLine, *arguments: str | Path, term: str = "xterm", stdin: str = ""
) -> tuple[int, str]:
    """Run with standard error on a terminal; returns the exit code and what was drawn there."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**imagecache.environment, "TERM": term, "COLUMNS": "120"},
    ) as process:
        os.close(theirs)
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.close()
        drawn = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not block:
                break
            drawn += block
    os.close(ours)
    return process.returncode, drawn.decode()


def test_a_bar_shows_how_many_of_all_are_done(imagecache: CommandLine, server: ImageServer, tmp_path: Path) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_text("\n".join(server.add(f"/{index}.png") for index in range(7)))
    code, drawn = on_a_terminal(imagecache, "prefetch", listed, "--allow-private")
    assert code == 0
    assert "━" in drawn
    assert "7/7" in drawn


def test_a_list_of_unknown_length_ends_with_a_full_bar(imagecache: CommandLine, server: ImageServer) -> None:
    code, drawn = on_a_terminal(
        imagecache, "prefetch", "-", "--allow-private", stdin="\n".join(server.add(f"/{i}.png") for i in range(3))
    )
    assert code == 0
    assert "3/3" in drawn


def test_only_the_first_misses_are_shown_with_the_number_of_the_others(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_text("\n".join(server.url(f"/none{index}.png") for index in range(25)))
    code, drawn = on_a_terminal(imagecache, "prefetch", listed, "--allow-private")
    assert code == 1
    assert drawn.count("failed: ") == 20
    assert "and 5 more" in drawn


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_text(server.add("/a.png"))
    assert on_a_terminal(imagecache, "prefetch", listed, "--allow-private", term="dumb") == (0, "")
