"""Pillow's own test images, a thousand files of which a tenth were made to do harm, fetched from a server: each is an
image or our error, whatever is asked of it.

They are in Pillow's source distribution (Tests/images); ``--pillow-images`` tells where it was unpacked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import imagecache
from imagecache.testing import ImageServer

from .fetching import DECODED, FOREIGN, Job, Report, run

pytestmark = pytest.mark.slow

MOST_MEMORY = 300_000_000
LONGEST = 240.0
"""Seconds for all files, some twenty times what they take: over that, something hangs."""


@pytest.fixture(scope="module")
def pillow_images(pytestconfig: pytest.Config) -> list[Path]:
    given = pytestconfig.getoption("pillow_images")
    if not given:
        pytest.skip("Pillow's test images: say where they are with --pillow-images or IMAGECACHE_PILLOW_IMAGES")
    files = sorted(path for path in Path(given).rglob("*") if path.is_file())
    if not files:
        pytest.skip(f"Pillow's test images are not in {given}: the package index may not have offered Pillow's source")
    return files


def summary(report: Report, names: dict[str, str], urls: list[str]) -> str:
    return "\n".join([str(report), *(f"{names[url]}: {report.outcomes.get(url, 'no end')}" for url in urls)])


@pytest.mark.parametrize("is_untrusted", [True, False], ids=["untrusted", "by default"])
def test_every_one_of_pillows_test_images_is_decoded_or_our_error(
    pillow_images: list[Path], tmp_path: Path, *, is_untrusted: bool
) -> None:
    with ImageServer.in_thread() as server:
        names = {
            server.add(f"/{number}{path.suffix}", path.read_bytes()): str(path)
            for number, path in enumerate(pillow_images)
        }
        # A memory tier may fill itself up to its limit: what is measured here is what decoding takes beside it.
        options = {"allow_addresses": ["127.0.0.1"], "memory_limit": "16 MiB"}
        job = Job(list(names), str(tmp_path), at_once=16, is_untrusted=is_untrusted, options=options)
        report = run(job, seconds=LONGEST)

    ours = {DECODED, *(name for name in imagecache.__all__ if name.endswith("Error"))}
    others = [url for url in names if report.outcomes.get(url, FOREIGN).partition(":")[0] not in ours]
    assert others == [], summary(report, names, others)
    assert report.code == 0, str(report)
    # Neither a warning of Pillow's nor a log line: those who want to hear of it ask the error.
    assert report.errors == ""
    assert report.settings_changed is False
    assert report.peak - report.before < MOST_MEMORY, str(report)
    # More than half of them are good images of formats that are allowed; the kinds of failure are those of images.
    assert report.counts[DECODED] > len(names) / 2, str(report)
    assert set(report.counts) <= {DECODED, "NotAnImageError", "DecodeError", "ImageTooLargeError"}, str(report)


def test_no_file_that_runs_another_program_or_format_is_decoded(pillow_images: list[Path], tmp_path: Path) -> None:
    refused = (".eps", ".ps", ".psd", ".fli", ".flc", ".dds", ".blp", ".sgi", ".tif", ".tiff", ".tga", ".pcx", ".fits")
    chosen = [path for path in pillow_images if path.suffix.lower() in refused]
    assert len(chosen) > 100
    with ImageServer.in_thread() as server:
        # Called a PNG by name and label.
        names = {server.add(f"/{number}.png", path.read_bytes()): path.name for number, path in enumerate(chosen)}
        job = Job(list(names), str(tmp_path), at_once=16, options={"memory_limit": "16 MiB"})
        report = run(job, seconds=LONGEST)
    decoded = {names[url]: outcome for url, outcome in report.of(DECODED).items()}
    assert decoded == {}, str(report)
