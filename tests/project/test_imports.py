"""What importing costs, and what it must not load. Each import happens in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"aiohttp", "PIL", "sqlite3", "rich", "platformdirs"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded after ``code``."""
    program = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import imagecache",
        "import imagecache.http, imagecache.http.decision, imagecache.http.freshness",
        "import imagecache.testing",
        "import imagecache.testing.plugin",
        "import imagecache.cli.main",
        "from imagecache import CachePolicy, ImageCacheError, hash_for_key",
    ],
)
def test_nothing_heavy_is_loaded_before_a_name_that_needs_it(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_every_public_name_is_there() -> None:
    names = loaded_by("import imagecache\nfor name in imagecache.__all__: getattr(imagecache, name)")
    assert {"aiohttp", "PIL"} <= names
    assert "imagecache" in names


def test_testing_is_not_loaded_by_the_library() -> None:
    code = "import imagecache, sys\nfor name in imagecache.__all__: getattr(imagecache, name)\n"
    code += "assert not [name for name in sys.modules if name.startswith('imagecache.testing')]"
    loaded_by(code)
