"""What would take gigabytes takes a few times the limit of a body: measured in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BODY_LIMITS = 8
"""How many times ``max_body`` (8 MiB there) all cases together may take; three and a bit, by measurement."""


async def measured() -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.bounds", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module to ask for the peak")
async def test_memory_stays_within_a_few_bodies_whatever_comes() -> None:
    found = await measured()
    assert found["ends"]
    assert "a picture" not in found["ends"].values()
    grown = {name: f"{size / 2**20:.0f} MiB" for name, size in found["growth"].items()}
    assert max(found["growth"].values()) < BODY_LIMITS * 8 * 2**20, grown
