"""``imagecache prefetch``: what is read, what is brought, what is said, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagecache.testing import Answer, ImageServer, picture

from .conftest import CommandLine


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The counts of the summary, by status."""
    lines = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    return {status.strip(): int(count.replace(",", "")) for status, count in lines}


def add_pictures(server: ImageServer, count: int) -> list[str]:
    return [server.add(f"/{index}.png") for index in range(count)]


def test_all_come_and_the_summary_counts_them(imagecache: CommandLine, server: ImageServer) -> None:
    urls = add_pictures(server, 5)
    done = imagecache("prefetch", "-", "--allow-private", stdin="\n".join(urls))
    assert (done.returncode, done.stderr) == (0, "")
    assert counts(done) == {"stored": 5}
    assert done.stdout.startswith("5 URLs: ")
    assert "KiB received in " in done.stdout
    assert "/s)" in done.stdout


def test_a_second_run_asks_nothing(imagecache: CommandLine, server: ImageServer) -> None:
    lines = "\n".join(add_pictures(server, 3))
    imagecache("prefetch", "-", "--allow-private", stdin=lines)
    server.reset()
    done = imagecache("prefetch", "-", "--allow-private", stdin=lines)
    assert (done.returncode, counts(done), server.count()) == (0, {"already there": 3}, 0)


def test_force_refresh_asks_about_each_and_receives_only_what_changed(
    imagecache: CommandLine, server: ImageServer
) -> None:
    lines = "\n".join(add_pictures(server, 3))
    imagecache("prefetch", "-", "--allow-private", stdin=lines)
    server.replace("/1.png")
    server.reset()
    done = imagecache("prefetch", "-", "--allow-private", "--force-refresh", stdin=lines)
    assert (done.returncode, counts(done)) == (0, {"stored": 1, "unchanged": 2})
    assert sorted(request.status for request in server.requests) == [200, 304, 304]


def test_the_list_may_be_a_file_of_any_system_with_comments(
    imagecache: CommandLine, server: ImageServer, tmp_path: Path
) -> None:
    one, two, three = add_pictures(server, 3)
    listed = tmp_path / "urls.txt"
    listed.write_bytes(f"\ufeff# pictures\r\n{one}\r\n\r\n   {two}  \r\n#{three}\r\n{three}".encode())
    done = imagecache("prefetch", listed, "--allow-private")
    assert (done.returncode, counts(done)) == (0, {"stored": 3})


def test_what_does_not_come_is_told_with_its_reason_and_the_others_are_stored(
    imagecache: CommandLine, server: ImageServer
) -> None:
    good = server.add("/good.png")
    page = server.add("/page.png", b"<!doctype html><title>no</title>", headers={"Content-Type": "text/html"})
    done = imagecache("prefetch", "-", "--allow-private", stdin=f"{server.url('/none.png')}\nftp://a/b\n{page}\n{good}")
    assert done.returncode == 1
    assert counts(done) == {"stored": 1, "failed": 3}
    told = dict(line.removeprefix("failed: ").split(": ", 1) for line in done.stderr.splitlines())
    assert "404" in told[server.url("/none.png")]
    assert "scheme" in told["ftp://a/b"]
    assert "HTML" in told[page]


def test_a_private_address_is_refused_before_anything_is_sent_and_the_reason_names_the_option(
    imagecache: CommandLine, server: ImageServer
) -> None:
    done = imagecache("prefetch", "-", stdin=server.add("/a.png"))
    assert (done.returncode, server.count()) == (1, 0)
    assert "--allow-private" in done.stderr


def test_at_the_disk_limit_it_stops_names_the_option_and_keeps_what_it_stored(
    imagecache: CommandLine, server: ImageServer
) -> None:
    urls = [server.add(f"/{index}.png", picture(200, 150, seed=index)) for index in range(20)]
    limit = "300000"
    done = imagecache(
        "prefetch", "-", "--allow-private", "--disk-limit", limit, "--concurrency", "2", stdin="\n".join(urls)
    )
    assert done.returncode == 4
    assert "--disk-limit" in done.stderr
    stored = counts(done)["stored"]
    assert 0 < stored < 20
    stats = json.loads(imagecache("stats", "--json", "--disk-limit", limit).stdout)
    assert stats["count"] == stored


def test_what_could_never_fit_is_told_with_the_option(imagecache: CommandLine, server: ImageServer) -> None:
    done = imagecache("prefetch", "-", "--allow-private", "--disk-limit", "5", stdin=server.add("/a.png"))
    assert (done.returncode, counts(done)) == (1, {"not stored": 1})
    assert "1 would never fit" in done.stderr
    assert "--disk-limit" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C reaches the test runner as well")
class TestCtrlC:
    def test_it_stops_at_once_says_what_was_done_and_loses_nothing_stored(
        self, imagecache: CommandLine, server: ImageServer
    ) -> None:
        quick = add_pictures(server, 4)
        slow = server.add("/slow.png")
        server.hold("/slow.png")
        process = imagecache.start("prefetch", "-", "--allow-private", "--concurrency", "1")
        assert process.stdin is not None
        process.stdin.write("\n".join([*quick, slow]).encode())
        process.stdin.close()
        process.stdin = None
        wait_for_requests(server, 5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 130, errors
        assert b"interrupted" in errors
        assert b"Traceback" not in errors
        assert "  stored" in output.decode()
        assert output.decode().split()[-1] == "4"

        server.always("/slow.png", None)
        again = imagecache("prefetch", "-", "--allow-private", stdin="\n".join([*quick, slow]))
        assert counts(again) == {"already there": 4, "stored": 1}

    def test_it_stops_while_it_waits_for_more_of_its_list(self, imagecache: CommandLine, server: ImageServer) -> None:
        process = imagecache.start("prefetch", "-", "--allow-private")
        assert process.stdin is not None
        process.stdin.write(f"{server.add('/a.png')}\n".encode())
        process.stdin.flush()
        wait_for_requests(server, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        process.communicate()


def test_urls_are_fetched_as_they_come(imagecache: CommandLine, server: ImageServer) -> None:
    with imagecache.start("prefetch", "-", "--allow-private") as process:
        assert process.stdin is not None
        process.stdin.write(f"{server.add('/a.png')}\n".encode())
        process.stdin.flush()
        wait_for_requests(server, 1)
        output, _ = process.communicate(f"{server.add('/b.png')}\n".encode(), timeout=20)
    assert process.returncode == 0
    assert output.startswith(b"2 URLs")


def test_no_more_than_so_many_are_asked_for_at_a_time(imagecache: CommandLine, server: ImageServer) -> None:
    urls = add_pictures(server, 9)
    imagecache("prefetch", "-", "--allow-private", "--concurrency", "2", stdin="\n".join(urls))
    assert server.count() == 9
    assert server.peak_in_flight <= 2


def test_a_timeout_gives_up_on_one_image_only(imagecache: CommandLine, server: ImageServer) -> None:
    stuck, good = server.add("/stuck.png"), server.add("/good.png")
    server.hold("/stuck.png")
    done = imagecache("prefetch", "-", "--allow-private", "--timeout", "0.5", stdin=f"{stuck}\n{good}")
    assert (done.returncode, counts(done)) == (1, {"stored": 1, "failed": 1})


def test_quiet_says_only_what_did_not_come(imagecache: CommandLine, server: ImageServer) -> None:
    done = imagecache("prefetch", "-", "--allow-private", "--quiet", stdin=server.add("/a.png"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = imagecache("prefetch", "-", "--allow-private", "--quiet", stdin=server.url("/none.png"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "404" in done.stderr


def test_an_empty_list_is_done(imagecache: CommandLine) -> None:
    done = imagecache("prefetch", "-", stdin="# nothing yet\n")
    assert (done.returncode, done.stdout.splitlines()[0][:7]) == (0, "0 URLs:")


def test_a_list_that_cannot_be_read_is_wrong_usage(imagecache: CommandLine, tmp_path: Path) -> None:
    done = imagecache("prefetch", tmp_path / "none.txt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "none.txt" in done.stderr


def test_control_characters_of_a_list_do_not_reach_the_terminal(imagecache: CommandLine) -> None:
    done = imagecache("prefetch", "-", stdin="http://\x1b[31mred\n")
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "\\x1b[31mred" in done.stderr


def test_a_server_that_hangs_up_is_told_in_words(imagecache: CommandLine, server: ImageServer) -> None:
    server.always("/rude.png", Answer.hang_up())
    done = imagecache("prefetch", "-", "--allow-private", stdin=server.url("/rude.png"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def wait_for_requests(server: ImageServer, count: int) -> None:
    """Wait, from a test without a loop, until so many requests have come."""
    import asyncio

    asyncio.run(server.wait_for_requests(count))
