"""``imagecache get``: one image into a file, and where it came from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from imagecache.testing import ImageServer, picture

from .conftest import CommandLine


def test_the_exact_bytes_are_written_and_their_origin_is_told(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    data = picture(format="JPEG")
    url, target = server.add("/a.jpg", data), tmp_path / "a.jpg"
    first = imagecache("get", url, "-o", target, "--allow-private")
    assert (first.returncode, target.read_bytes()) == (0, data)
    assert "from the network" in first.stdout
    assert "from the cache" in imagecache("get", url, "-o", target, "--allow-private").stdout
    assert server.count() == 1
    refreshed = imagecache("get", url, "-o", target, "--allow-private", "--force-refresh")
    assert "from the cache, unchanged on the server" in refreshed.stdout
    assert [request.status for request in server.requests] == [200, 304]


def test_a_dash_writes_to_standard_output_and_speaks_on_the_other(imagecache: CommandLine, server: ImageServer) -> None:
    with imagecache.start("get", server.add("/a.png"), "-o", "-", "--allow-private") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, server.body("/a.png"))
    assert b"from the network" in errors


@pytest.mark.parametrize("path", ["/none.png", "/page.html"])
def test_a_failure_is_one_line_and_leaves_the_file_alone(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path, path: str
) -> None:
    server.add("/page.html", b"<!doctype html><p>no image")
    target = tmp_path / "kept.png"
    target.write_bytes(b"before")
    done = imagecache("get", server.url(path), "-o", target, "--allow-private")
    assert (done.returncode, done.stdout, target.read_bytes()) == (1, "", b"before")
    assert done.stderr.startswith("imagecache: ")
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["kept.png"]


def test_a_private_address_is_refused_and_the_error_names_the_option(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    done = imagecache("get", server.add("/a.png"), "-o", tmp_path / "a.png")
    assert (done.returncode, server.count()) == (1, 0)
    assert "--allow-private" in done.stderr


def test_a_target_that_cannot_be_written_is_one_line(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    done = imagecache("get", server.add("/a.png"), "-o", tmp_path / "no" / "such" / "a.png", "--allow-private")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "such" in done.stderr


@pytest.mark.parametrize("output", ["", ".", "{folder}", "{folder}/new/"])
def test_an_output_that_names_no_file_is_wrong_usage_and_nothing_is_asked(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path, output: str
) -> None:
    done = imagecache("get", server.add("/a.png"), "-o", output.format(folder=tmp_path), "--allow-private")
    assert (done.returncode, server.count()) == (2, 0)
    assert done.stderr.startswith("imagecache: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_or_device_is_written_to_and_not_replaced_by_a_file(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Open for both, a pipe waits for nobody; the picture fits into it.
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        done = imagecache("get", server.add("/a.png", picture(16, 16)), "-o", pipe, "--allow-private")
        assert (done.returncode, pipe.is_fifo()) == (0, True)
        assert os.read(reader, 65536) == server.body("/a.png")
    finally:
        os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_the_file_that_a_link_names_is_replaced_and_the_link_stays(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    link, target = tmp_path / "link.png", tmp_path / "target.png"
    target.write_bytes(b"before")
    link.symlink_to(target)
    assert imagecache("get", server.add("/a.png"), "-o", link, "--allow-private").returncode == 0
    assert (link.is_symlink(), target.read_bytes()) == (True, server.body("/a.png"))
