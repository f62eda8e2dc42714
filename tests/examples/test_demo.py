"""``make demo``: every promise of its table is what the server counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from examples import demo


@pytest.mark.slow
def test_the_table_tells_what_a_cache_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PREFETCHED", 40)
    prefetched, from_disk, from_memory, crowd, asked, changed = demo.main(tmp_path)

    assert (prefetched.requests, prefetched.origins) == (40, {"network": 40})
    assert (from_disk.requests, from_disk.origins) == (0, {"disk": 40})
    assert (from_memory.requests, from_memory.origins) == (0, {"memory": 40})
    assert (crowd.requests, crowd.origins) == (demo.NEW, {"network": demo.NEW * demo.CALLERS})
    assert (asked.requests, asked.bytes_sent, asked.origins) == (40, 0, {"memory (304)": 40})
    assert (changed.requests, changed.origins) == (40, {"memory (304)": 37, "network": 3})
    assert 0 < changed.bytes_sent < prefetched.bytes_sent

    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width == demo.COLUMNS * (demo.TILE + demo.GAP) + demo.GAP
