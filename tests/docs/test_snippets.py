"""Every Python sample of the documentation runs.

The conventions, for whoever writes samples:

* A block begins with a line ```` ```python ```` and ends with ```` ``` ````; the blocks of one file run in order and
  share one namespace, as if the page were one program. ``await`` and ``async with`` may stand at the top.
* Given are ``server``, a ``testing.ImageServer`` of the page's own, and ``url``, a photograph on it; whatever
  ``imagecache.…`` or a manager fetches goes into caches of the page's own, not the user's.
* ```` ```python no-run ```` is for what cannot run here: a desktop program, a shell beside it. Keep these rare.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagecache.testing import ImageServer, picture

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_BLOCK = re.compile(
    r"^(?P<indent> *)```python(?P<flags>[^\n]*)\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The samples of a page that run, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        if "no-run" not in match["flags"].split():
            yield text.count("\n", 0, match.start("code")) + 1, textwrap.dedent(match["code"])


async def run(code: str, namespace: dict[str, object], page: Path, line: int) -> None:
    """Run one sample as part of its page: a traceback names the page's own line."""
    tree = ast.parse(code, filename=str(page))
    ast.increment_lineno(tree, line - 1)
    compiled = compile(tree, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    answer = eval(compiled, namespace)
    if inspect.isawaitable(answer):
        await answer


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in PAGES if any(blocks(p))])
async def test_every_sample_of_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_cache: object
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path / "caches"))
    async with ImageServer() as server:
        url = server.add("/photo.jpg", picture(640, 480, format="JPEG"))
        namespace: dict[str, object] = {"__name__": "__main__", "server": server, "url": url}
        for line, code in blocks(page):
            await run(code, namespace, page, line)


async def test_a_sample_that_fails_names_the_line_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```python no-run\nraise SystemExit\n```\n\n* in a list:\n\n  ```python\n  import asyncio\n\n"
        "  await asyncio.sleep(0)\n  1 / 0\n  ```\n"
    )
    ((line, code),) = blocks(page)
    with pytest.raises(ZeroDivisionError) as caught:
        await run(code, {}, page, line)
    assert (Path(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (page, 13)
