"""The pictures: thumbnails and photographs as the web has them, cut from given pictures or from generated scenes.

Generated scenes have the spectrum of nature (amplitude falls with frequency), so that codecs find as much to do in
them as in photographs. Made once into a folder; the same for the same arguments.
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

VERSION = 1
"""Another number for other pictures: they are made anew."""
SCENE = (2000, 1500)
SCENES = 8
THUMBNAIL, PHOTO = (256, 256), (1600, 1200)
_SUFFIX = {"JPEG": "jpg", "WEBP": "webp", "PNG": "png"}
_CONTRAST = 2.6
_DETAIL = 0.72
"""What is left of the amplitude from one octave to the next."""


def corpus(folder: Path, *, thumbnails: int, photos: int, pictures: Path | None = None) -> dict[str, list[str]]:
    """The names of the files below ``folder``, by kind: made, if they are not there yet."""
    source = "generated" if pictures is None else "given"
    stamp = folder / f"{VERSION}-{thumbnails}-{photos}-{source}"
    if not stamp.exists() or pictures is not None:
        shutil.rmtree(folder, ignore_errors=True)
        rng = random.Random(VERSION)
        scenes = _scenes() if pictures is None else _given(pictures)
        _write(folder / "thumbnails", (_thumbnail(scenes, rng, n) for n in range(thumbnails)))
        _write(folder / "photos", (_photo(scenes, rng, n) for n in range(photos)))
        stamp.touch()
    return {kind: sorted(f"{kind}/{p.name}" for p in (folder / kind).iterdir()) for kind in ("thumbnails", "photos")}


def _write(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    folder.mkdir(parents=True)
    for number, (format, data) in enumerate(files):
        (folder / f"{number:04d}.{_SUFFIX[format]}").write_bytes(data)


def _thumbnail(scenes: list[Image.Image], rng: random.Random, number: int) -> tuple[str, bytes]:
    image = _cut(scenes[number % len(scenes)], rng, THUMBNAIL, least=0.2)
    # Of ten, seven JPEGs, two WebPs and a PNG.
    match number % 10:
        case 9:
            drawing = image.quantize(48, Image.Quantize.FASTOCTREE).convert("RGB")
            return "PNG", _encoded(drawing, "PNG", compress_level=6)
        case 7 | 8:
            return "WEBP", _encoded(image, "WEBP", quality=82, method=2)
    return "JPEG", _encoded(image, "JPEG", quality=84)


def _photo(scenes: list[Image.Image], rng: random.Random, number: int) -> tuple[str, bytes]:
    image = _cut(scenes[number % len(scenes)], rng, PHOTO, least=0.65)
    # Of ten, eight baseline JPEGs, a progressive one and a WebP.
    match number % 10:
        case 9:
            return "WEBP", _encoded(image, "WEBP", quality=80, method=1)
        case 8:
            return "JPEG", _encoded(image, "JPEG", quality=85, progressive=True)
    return "JPEG", _encoded(image, "JPEG", quality=85)


def _cut(scene: Image.Image, rng: random.Random, size: tuple[int, int], *, least: float) -> Image.Image:
    """A part of a scene, at least that share of what fits into it, brought to a size."""
    scale = min(scene.width / size[0], scene.height / size[1]) * rng.uniform(least, 0.95)
    width, height = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, scene.width - width), rng.uniform(0, scene.height - height)
    return scene.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


def _encoded(image: Image.Image, format: str, **options: int) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def _given(folder: Path) -> list[Image.Image]:
    scenes = []
    for path in sorted(folder.iterdir()):
        try:
            with Image.open(path) as image:
                scenes.append(image.convert("RGB"))
        except OSError:
            continue
    if not scenes:
        raise SystemExit(f"there is no picture that Pillow opens in {folder}")
    return scenes


def _scenes() -> list[Image.Image]:
    return [_scene(seed) for seed in range(SCENES)]


def _scene(seed: int) -> Image.Image:
    rng = random.Random(seed)
    bright = _octaves(rng, _DETAIL, finest=SCENE[0])
    contrast = [max(0, min(255, round((value - 128) * _CONTRAST + 128))) for value in range(256)]
    blue, red = (_octaves(rng, 0.5, finest=100) for _ in range(2))
    return Image.merge("YCbCr", (bright.point(contrast), blue, red)).convert("RGB")


def _octaves(rng: random.Random, left: float, *, finest: int) -> Image.Image:
    """Noise of ever finer grain, each octave weaker than the one before."""
    width, total, weight, made = 3, 0.0, 1.0, None
    while width <= finest:
        size = (width, max(1, width * SCENE[1] // SCENE[0]))
        noise = Image.frombytes("L", size, rng.randbytes(size[0] * size[1])).resize(SCENE, Image.Resampling.BICUBIC)
        total += weight
        made = noise if made is None else Image.blend(made, noise, weight / total)
        weight, width = weight * left, width * 2
    assert made is not None
    return made
