"""A foreign server and real photographs: nginx over the pictures of the scikit-image wheel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from imagecache import ImageLimits

from .nginx import Nginx

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ROOT / ".venv" / "photographs"


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The files of the wheel that are images of the formats allowed by default."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs are not there: `make test` downloads and unpacks them")
    return [path for path in sorted(PHOTOGRAPHS.iterdir()) if path.is_file() and _is_image(path)]


@pytest.fixture(scope="session")
def nginx_binary() -> str:
    """The nginx of this machine."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if binary is None:
        pytest.skip("nginx is not installed")
    return binary


@pytest.fixture
def nginx(nginx_binary: str, photographs: list[Path], tmp_path: Path) -> Iterator[Nginx]:
    """A server of its own for each test, over copies that the test may change."""
    server = Nginx(nginx_binary, tmp_path / "nginx")
    for path in photographs:
        shutil.copy2(path, server.folder / path.name)
    with server:
        yield server


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format in ImageLimits().formats
    except UnidentifiedImageError:
        return False
