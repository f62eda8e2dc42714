"""``imagecache stats`` and ``imagecache clear``."""

from __future__ import annotations

import json
from pathlib import Path

from imagecache.testing import ImageServer

from .conftest import CommandLine


def fill(imagecache: CommandLine, server: ImageServer, count: int) -> int:
    """Prefetch so many pictures; returns their bytes."""
    urls = [server.add(f"/{index}.png") for index in range(count)]
    assert imagecache("prefetch", "-", "--allow-private", stdin="\n".join(urls)).returncode == 0
    return sum(len(server.body(f"/{index}.png")) for index in range(count))


def test_stats_tell_what_is_stored_to_people_and_programs(imagecache: CommandLine, server: ImageServer) -> None:
    byte_count = fill(imagecache, server, 3)
    stats = json.loads(imagecache("stats", "--json").stdout)
    assert stats["count"] == 3
    assert stats["bytes"] >= byte_count
    told = imagecache("stats").stdout
    assert str(imagecache.directory) in told
    assert "1.0 GiB" in told


def test_clear_removes_everything(imagecache: CommandLine, server: ImageServer) -> None:
    fill(imagecache, server, 2)
    done = imagecache("clear", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(imagecache("stats", "--json").stdout)["count"] == 0


def test_clear_does_nothing_where_nobody_can_answer(imagecache: CommandLine, server: ImageServer) -> None:
    fill(imagecache, server, 1)
    done = imagecache("clear")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert json.loads(imagecache("stats", "--json").stdout)["count"] == 1


def test_names_are_caches_of_their_own(imagecache: CommandLine, server: ImageServer) -> None:
    fill(imagecache, server, 1)
    imagecache("clear", "--yes", "--name", "another")
    assert json.loads(imagecache("stats", "--json").stdout)["count"] == 1


def test_clear_does_not_say_that_it_cleared_a_cache_that_it_could_not_open(
    imagecache: CommandLine, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    done = imagecache("clear", "--yes", "--directory", blocked)
    assert (done.returncode, done.stdout) == (1, "")
    assert "unavailable" in done.stderr
