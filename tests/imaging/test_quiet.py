"""Pillow's warnings about images: nobody who fetches one sees them, and everybody else does."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import IcoImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from imagecache.errors import ImageError
from imagecache.imaging.animation import open_animation
from imagecache.imaging.decode import DecodeOptions, decode
from imagecache.imaging.limits import ImageLimits
from imagecache.imaging.quiet import Quiet

from .samples import FORMATS, LIMITS, URL, animated, decoded, pattern, sample, saved

BAD_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x0f\x01\x02\0\xff\xff\0\0\xff\xff\0\0"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def twice_animated() -> bytes:
    """An APNG that says twice that it is one."""
    data = animated("PNG")
    at = data.index(b"acTL") - 4
    return data[:at] + data[at : at + 20] + data[at:]


def icon_of_another_size() -> bytes:
    """An icon whose directory lies about the picture inside."""
    data = bytearray(sample("ICO"))
    data[6] = data[7] = 16
    return bytes(data)


def odd_mpo() -> bytes:
    """A JPEG with the index of an MPO, damaged."""
    data = saved(pattern(), "JPEG")
    body = b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + data[2:]


WARNED_OF = {
    "EXIF": saved(pattern(), "JPEG", exif=BAD_EXIF),
    "EXIF of a PNG": saved(pattern(), "PNG", exif=BAD_EXIF),
    "APNG": twice_animated(),
    "icon": icon_of_another_size(),
    "MPO": odd_mpo(),
}


def warns(data: bytes) -> bool:
    """Whether Pillow itself, asked for the same, has something to say."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            image.getexif()
    return bool(heard)


@pytest.mark.parametrize("name", WARNED_OF)
def test_what_pillow_warns_of_is_an_image_whatever_the_filters_say(name: str) -> None:
    data = WARNED_OF[name]
    assert warns(data), "the sample is of no use: Pillow says nothing of it"
    for action in ("error", "always"):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter(action)
            assert sorted(decoded(data).size) in ([48, 64], [24, 32])
            with open_animation(data, LIMITS, URL) as animation:
                animation.frame(0)
        assert heard == []


def test_an_image_over_pillows_limit_is_refused_or_allowed_by_ours_without_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in FORMATS:
            with pytest.raises(ImageError):
                decoded(sample(name))
            limits = ImageLimits(max_pixels=64 * 48)
            assert decode(sample(name), options=DecodeOptions(), limits=limits).size == (64, 48)


@pytest.mark.parametrize("name", WARNED_OF)
def test_everybody_else_is_warned_as_ever_while_we_decode(name: str) -> None:
    """Also of the very same file, at the very same time, in another thread."""
    in_quiet, may_leave = threading.Event(), threading.Event()

    def decode_for_us() -> None:
        with Quiet():
            in_quiet.set()
            may_leave.wait(10)

    thread = threading.Thread(target=decode_for_us)
    thread.start()
    try:
        assert in_quiet.wait(10)
        assert warns(WARNED_OF[name])
    finally:
        may_leave.set()
        thread.join()


def test_others_are_shown_pillows_own_line() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(WARNED_OF["icon"])):
            pass
    assert [(Path(warning.filename).name, warning.category) for warning in heard] == [
        ("IcoImagePlugin.py", UserWarning)
    ]


def test_the_rest_of_warnings_is_the_standard_librarys() -> None:
    for module in (Image, PngImagePlugin, JpegImagePlugin, IcoImagePlugin, TiffImagePlugin):
        theirs = vars(module)["warnings"]
        assert theirs.catch_warnings is warnings.catch_warnings
        assert theirs.filters is warnings.filters


def test_quiet_ends_with_its_block_and_may_be_nested() -> None:
    with Quiet():
        with Quiet():
            pass
        assert not warns(WARNED_OF["icon"])
    with pytest.raises(ZeroDivisionError), Quiet():
        raise ZeroDivisionError
    assert warns(WARNED_OF["icon"])


def settings() -> tuple[object, ...]:
    """All that decides over images and belongs to the whole process."""
    return (
        Image.MAX_IMAGE_PIXELS,
        Image.WARN_POSSIBLE_FORMATS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        ImageFile.MAXBLOCK,
        PngImagePlugin.MAX_TEXT_CHUNK,
        PngImagePlugin.MAX_TEXT_MEMORY,
        list(warnings.filters),
        warnings.showwarning,
        warnings.warn,
    )


def test_no_setting_of_the_process_changes_while_threads_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = settings(), list[tuple[object, ...]]()
    real = ImageFile.ImageFile.load

    def load(image: ImageFile.ImageFile) -> object:
        seen.append(settings())
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    files = [*map(sample, FORMATS), *WARNED_OF.values(), sample("PNG")[:-30], b"GIF89a", sample("JPEG")[:200]]

    def work() -> None:
        for data in files:
            try:
                decoded(data)
            except ImageError:
                seen.append(settings())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) > 4 * len(FORMATS)
    assert all(settings_then == before for settings_then in seen)
    assert settings() == before


def test_to_import_it_changes_no_setting_and_no_filter() -> None:
    program = """
import warnings
from PIL import Image, ImageFile, PngImagePlugin
def settings():
    return (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK,
        PngImagePlugin.MAX_TEXT_MEMORY, list(warnings.filters), warnings.showwarning, warnings.warn)
before = settings()
import imagecache, imagecache.imaging.decode, imagecache.imaging.animation, imagecache.imaging.encode
imagecache.ImageManager
assert settings() == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
