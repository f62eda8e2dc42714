"""The pictures that are served: made once into a folder, of given ones or of generated ones that compress like photos.

The picture of a number is always the same, so a quick run uses the first ones of a full run's folder.
"""

from __future__ import annotations

import functools
import hashlib
import io
import multiprocessing
import os
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.workloads import Kind

VERSION = 1
"""Part of the folder's name: another one where other pictures are made."""
THUMBNAILS, PHOTOS = 1000, 300
SIZES: dict[Kind, tuple[int, int]] = {"thumbnails": (256, 256), "photos": (1600, 1200)}
SCENES, SCENE = 8, (2000, 1500)
LEAST = 256
"""Pixels each way of a given picture: smaller ones would have to be made larger for a thumbnail."""
_SUFFIXES = {"JPEG": "jpg", "WEBP": "webp", "PNG": "png"}


def default_folder(pictures: Path | None) -> Path:
    """Beside the virtual environment's other made things; one for each folder of given pictures."""
    tag = "" if pictures is None else "-" + hashlib.sha256(str(pictures.resolve()).encode()).hexdigest()[:12]
    return Path(__file__).parents[1] / ".venv" / f"bench-corpus-v{VERSION}{tag}"


def format_of(kind: Kind, number: int) -> str:
    """Thumbnails: 70% JPEG, 20% WebP, 10% PNG; photos: 90% JPEG, 10% WebP."""
    position = number % 10
    if kind == "photos":
        return "WEBP" if position == 9 else "JPEG"
    return "JPEG" if position < 7 else "WEBP" if position < 9 else "PNG"


def make(folder: Path, kind: Kind, count: int, pictures: Path | None) -> list[Path]:
    """The files, in order; those that are missing are made, as many at a time as there are processors."""
    (folder / kind).mkdir(parents=True, exist_ok=True)
    files = [folder / kind / f"{number:04d}.{_SUFFIXES[format_of(kind, number)]}" for number in range(count)]
    missing = [(path, kind, number, pictures) for number, path in enumerate(files) if not path.exists()]
    if missing and pictures is not None:
        # Here: who leaves in a process of a pool leaves the others waiting.
        _names(pictures)
    if missing:
        # Not fork: whoever calls may have threads.
        with multiprocessing.get_context("spawn").Pool() as pool:
            pool.starmap(_write, missing, chunksize=10)
    return files


def _write(path: Path, kind: Kind, number: int, pictures: Path | None) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(encoded(kind, number, pictures))
    part.replace(path)


def encoded(kind: Kind, number: int, pictures: Path | None) -> bytes:
    """A part of a scene, cut at random, scaled down and written as the web's pictures are."""
    chance = random.Random(f"{kind} {number}")
    scene = _generated(number % SCENES) if pictures is None else _given(pictures, number)
    width, height = SIZES[kind]
    share = chance.uniform(0.2, 0.75) if kind == "thumbnails" else chance.uniform(0.85, 1.0)
    cut_height = scene.height * share
    cut_width = min(scene.width, cut_height * width / height)
    cut_height = cut_width * height / width
    left, top = chance.uniform(0, scene.width - cut_width), chance.uniform(0, max(0.0, scene.height - cut_height))
    box = (left, top, left + cut_width, min(float(scene.height), top + cut_height))
    image = scene.resize((width, height), Image.Resampling.BICUBIC, box=box)
    file = io.BytesIO()
    match format_of(kind, number):
        case "PNG":
            # What is a PNG on the web has few colours.
            flat = image.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
            flat.save(file, "PNG", compress_level=6)
        case "WEBP":
            image.save(file, "WEBP", quality=80, method=2)
        case _:
            image.save(file, "JPEG", quality=84, progressive=kind == "photos" and number % 10 == 8)
    return file.getvalue()


@functools.lru_cache(maxsize=SCENES)
def _generated(seed: int) -> Image.Image:
    """A scene whose contrast falls with its frequency, as it does in photographs: coarse noise under finer noise."""
    chance = random.Random(seed)

    def channel(gain: float, finest: int) -> Image.Image:
        width, height = SCENE
        mixed: Image.Image | None = None
        size, weight, total = 3, 1.0, 0.0
        while size <= finest:
            rows = max(1, size * height // width)
            noise = Image.frombytes("L", (size, rows), chance.randbytes(size * rows))
            octave = noise.resize(SCENE, Image.Resampling.BICUBIC)
            total += weight
            mixed = octave if mixed is None else Image.blend(mixed, octave, weight / total)
            weight, size = weight * gain, size * 2
        assert mixed is not None
        return mixed

    contrast = [max(0, min(255, int((value - 128) * 2.2 + 128))) for value in range(256)]
    light = channel(0.72, SCENE[0]).point(contrast)
    return Image.merge("YCbCr", (light, channel(0.4, 64), channel(0.4, 64))).convert("RGB")


@functools.lru_cache(maxsize=1)
def _names(pictures: Path) -> Sequence[Path]:
    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
    found = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in suffixes and _is_photo(path))
    if not found:
        raise SystemExit(f"--pictures: no pictures of {LEAST} pixels and more each way in that folder")
    return found


def _is_photo(path: Path) -> bool:
    """Whether Pillow can read it, and it is no icon. A folder of pictures may hold anything."""
    try:
        with Image.open(path) as image:
            return min(image.size) >= LEAST and image.mode in {"RGB", "L", "P", "RGBA", "LA", "CMYK", "YCbCr"}
    except (OSError, ValueError, SyntaxError):
        return False


@functools.lru_cache(maxsize=4)
def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _given(pictures: Path, number: int) -> Image.Image:
    names = _names(pictures)
    return _opened(names[number % len(names)])
