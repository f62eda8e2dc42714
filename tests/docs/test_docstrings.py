"""The samples in docstrings run, and print what they say."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aioresponses import aioresponses

import imagecache
from imagecache import testing
from imagecache.testing import ImageServer, picture

LEFT_OUT = ("imagecache.cli.__main__", "imagecache.__main__")


def samples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(imagecache.__path__, "imagecache."):
        if not found.name.startswith(LEFT_OUT):
            yield from (sample for sample in finder.find(importlib.import_module(found.name)) if sample.examples)


async def output_of(source: str, namespace: dict[str, object]) -> str:
    code = compile(source, "<sample>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        answer = eval(code, namespace)
        if inspect.isawaitable(answer):
            await answer
    return printed.getvalue()


@pytest.mark.parametrize("sample", [pytest.param(sample, id=sample.name) for sample in samples()])
async def test_a_sample_does_what_it_says(
    sample: doctest.DocTest, image_cache: imagecache.ImageManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGECACHE_DIR", str(tmp_path / "caches"))
    async with ImageServer() as server:
        namespace: dict[str, object] = {
            **{name: getattr(imagecache, name) for name in imagecache.__all__},
            **{name: getattr(testing, name) for name in testing.__all__},
            **sample.globs,
            "aioresponses": aioresponses,
            "asyncio": asyncio,
            "data": picture(),
            "folder": tmp_path,
            "imagecache": imagecache,
            "images": image_cache,
            "time": time,
            "url": server.add("/sample.png"),
            "urllib": urllib,
        }
        for example in sample.examples:
            assert await output_of(example.source, namespace) == example.want
