"""What a reader may rely on in every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "imagecache").rglob("*.py"))
ALL = sorted(path for top in ("imagecache", "tests", "examples", "benchmarks") for path in (ROOT / top).rglob("*.py"))

_CODES = r"\[[\w\-, ]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*"
_SILENCED = re.compile(rf"#\s*(?:type:\s*ignore|noqa)(?P<codes>{_CODES})?(?P<reason>.*)")


def place(path: Path, number: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{number}"


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in LIBRARY:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_a_module_opens_with_what_lives_there() -> None:
    assert [place(path, 1) for path, tree in trees() if not ast.get_docstring(tree)] == []


def has_reason(lines: list[str], tree: ast.Module, number: int) -> bool:
    """Whether something stands behind the code, or a comment above the statement it is in."""
    starts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= number]
    found = _SILENCED.search(lines[number - 1])
    return bool(found and found["reason"].strip(" #")) or lines[max(starts) - 2].lstrip().startswith("#")


def test_a_silenced_check_is_named_and_has_its_reason() -> None:
    without = []
    for path in ALL:
        text = path.read_text(encoding="utf-8")
        lines, tree = text.splitlines(), ast.parse(text)
        # A test that passes a wrong type on purpose says so by its name.
        needs_reason = (ROOT / "tests") not in path.parents
        for number, line in enumerate(lines, 1):
            found = _SILENCED.search(line)
            if found and not (found["codes"] and (not needs_reason or has_reason(lines, tree, number))):
                without.append(place(path, number))
    assert without == []


def test_nothing_is_pickled() -> None:
    offences = [
        place(path, node.lineno)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and {alias.name for alias in node.names} & {"pickle", "marshal", "shelve"}
    ]
    assert offences == []
