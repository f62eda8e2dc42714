"""The far-away benchmark in small: what is counted there must hold; no time is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
THUMBNAILS, PAGE, PER_HOST = 14, 9, 6
COUNTS = {"first": 1, "batch": THUMBNAILS, "page": PAGE, "page-3": PAGE, "page-urgent": PAGE}


def told_by(folder: Path) -> tuple[dict[str, Any], str]:
    """The samples of a tiny run, and what it prints; it leaves nothing behind in its temporary folder."""
    told, scratch = folder / "far.json", folder / "scratch"
    scratch.mkdir()
    arguments = ["--rounds", "1", "--thumbnails", str(THUMBNAILS), "--page", str(PAGE), "--urgent", "2"]
    arguments += ["--round-trip", "0.004", "--dns", "0.002", "--corpus", str(folder / "corpus"), "--json", str(told)]
    program = f"import tempfile; tempfile.tempdir = {str(scratch)!r}\n"
    program += f"from benchmarks import far_away\nfar_away.main({arguments!r})"
    command = [sys.executable, "-X", "utf8", "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert list(scratch.iterdir()) == []
    return json.loads(told.read_text("utf-8")), done.stdout.decode()


# One test, since it is one run, and several workers would each make it.
def test_every_image_comes_with_one_request_over_a_connection_that_is_reused_as_the_waterfall_shows(
    tmp_path: Path,
) -> None:
    document, printed = told_by(tmp_path)
    assert {name: len(clients) for name, clients in document["samples"].items()} == {
        "first": 3, "batch": 4, "page": 3, "page-3": 3, "page-urgent": 1,
    }  # fmt: skip
    for name, clients in document["samples"].items():
        for client, samples in clients.items():
            for sample in samples:
                check_counts(client, sample["counts"], sample["figures"]["images"], COUNTS[name])
        hosts = list(clients["imagecache"][0]["counts"]["requests"].values())
        assert hosts == ([3, 3, 3] if name == "page-3" else [COUNTS[name], 0, 0])
    check_waterfalls(document["waterfalls"], printed)
    assert (printed.count(" of aiohttp-6"), printed.count("after aiohttp-6")) == (5, 3)
    assert "with a high priority" in printed


def check_counts(client: str, counts: dict[str, Any], images: int, expected: int) -> None:
    """All came, each asked for once, over no more connections than the host's limit, each shaken hands on once."""
    assert images == sum(counts["requests"].values()) == expected
    assert (counts["handshakes"], counts["resumed"]) == (sum(counts["connections"].values()), 0)
    for host, opened in counts["connections"].items():
        assert opened <= counts["requests"][host]
        if client in {"imagecache", "aiohttp-6"}:
            assert opened <= PER_HOST


def check_waterfalls(waterfalls: dict[str, Any], printed: str) -> None:
    """Name, connection and TLS are there for the first image, and not for the next one over the same connection."""
    first, second = waterfalls["stages"]
    counts = waterfalls["counts"]
    assert (sum(counts["connections"].values()), counts["handshakes"]) == (1, 1)
    shown, again = printed.partition("\nthe first image\n")[2].split("\nthe next one, same connection\n")
    for stage in ("dns", "connect", "tls"):
        assert second[stage] == 0
        assert f"\n{stage}  " not in again
        # Windows' clock ticks every 16 ms before Python 3.13, and all of this takes less.
        if sys.platform != "win32":
            assert first[stage] > 0
            assert f"\n{stage}  " in shown
