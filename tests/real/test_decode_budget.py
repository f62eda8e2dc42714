"""Photographs of 24 megapixels, fifty at once, in a process that has the memory of a small container: it lives.

Decoded, one of them takes 96 MB, all of them nearly 5 GB.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from imagecache.pipeline.machine import default_memory_limit
from imagecache.testing import ImageServer

from .fetching import DECODED, Job, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a process cannot limit its own memory"),
]

CONTAINER = 512 * 2**20
PHOTOGRAPHS = 50
SIZE = (6000, 4000)
LONGEST = 120.0
"""Seconds, some ten times what it takes: over that, something hangs."""


@pytest.fixture
def server() -> Iterator[ImageServer]:
    photograph = grainy_photograph()
    assert len(photograph) > 1_500_000
    with ImageServer.in_thread() as server:
        for number in range(PHOTOGRAPHS):
            server.add(f"/{number}.jpg", with_comment(photograph, number))
        yield server


def grainy_photograph() -> bytes:
    """A JPEG with so much to tell that it is nearly as long as a camera's."""
    width, height = SIZE
    grain = Image.effect_noise((width // 4, height // 4), 60).resize(SIZE)
    light = Image.linear_gradient("L").resize(SIZE)
    file = io.BytesIO()
    picture = Image.merge("RGB", (grain, light, grain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    picture.save(file, "JPEG", quality=20)
    return file.getvalue()


def with_comment(jpeg: bytes, number: int) -> bytes:
    """Another file with the same picture: fifty that are drawn anew would take longer than the test."""
    text = b"%08d" % number
    return jpeg[:2] + b"\xff\xfe" + (2 + len(text)).to_bytes(2, "big") + text + jpeg[2:]


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """What the kernel shows a process in a container of that much memory."""
    for name, text in (("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", f"{CONTAINER}\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_small_container_fetches_fifty_large_photographs_at_once_and_lives(
    server: ImageServer, container: Path, tmp_path: Path
) -> None:
    # What a manager in that container takes for its memory tier and its decode budget, where it is told nothing.
    memory_limit = default_memory_limit(container)
    assert memory_limit == CONTAINER // 8
    # Two threads, on any machine: each has a heap of its own, which gives back what is freed as it likes.
    options = {"memory_limit": memory_limit, "decode_threads": 2}
    urls = [server.url(f"/{number}.jpg") for number in range(PHOTOGRAPHS)]
    folder = str(tmp_path / "cache")

    loaded = run(Job(urls, folder, at_once=PHOTOGRAPHS, options=options, memory=CONTAINER), seconds=LONGEST)
    assert loaded.counts == {DECODED: PHOTOGRAPHS}, str(loaded)
    assert (loaded.code, loaded.errors) == (0, "")
    assert loaded.peak < CONTAINER, str(loaded)

    # The next morning they are on the disk (but for some that came quicker than it writes), which is no less quick
    # at filling the memory.
    server.reset()
    some = urls[::5]
    again = run(Job(some, folder, at_once=PHOTOGRAPHS, options=options, memory=CONTAINER), seconds=LONGEST)
    assert again.counts == {DECODED: len(some)}, str(again)
    assert (again.code, again.errors) == (0, "")
    assert again.peak < CONTAINER, str(again)
    assert server.count() < len(some) / 2
