"""The tests shown in docs/testing.md are tests that pass, in a project that has nothing but the package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"

pytest_plugins = ["pytester"]


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester, plugin_arguments: list[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    page = "\n\n".join(blocks)
    pytester.makepyfile(page)
    result = pytester.runpytest_subprocess(*plugin_arguments, "-W", "error", "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=len(re.findall(r"^async def test_", page, re.MULTILINE)))
