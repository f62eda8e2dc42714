"""``imagecache get``: one image into a file, and where it came from."""

from __future__ import annotations

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
