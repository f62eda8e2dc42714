"""What the first decode of a process takes can be had before."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from imagecache.imaging.warm_up import is_cold, warm_up

LOOKS = """
from imagecache.imaging.view import views_are_safe
from imagecache.imaging.warm_up import is_cold, warm_up
told = [is_cold()]
warm_up()
print(told[0], is_cold(), views_are_safe())
"""


def test_a_process_is_cold_until_something_was_decoded() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]


def test_whatever_pillow_lacks_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object, **__: object) -> None:
        raise OSError("encoder jpeg not available")

    monkeypatch.setattr(Image.Image, "save", lacks)
    warm_up()


def test_these_tests_are_warm() -> None:
    # What they count must not depend on which of them comes first.
    assert not is_cold()
