"""The samples in the docstrings of the testing tools run, and print what they say."""

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from aioresponses import aioresponses

import imagecache
from imagecache import testing
from imagecache.testing import ImageServer


def samples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.iter_modules(testing.__path__, f"{testing.__name__}."):
        module = importlib.import_module(found.name)
        yield from (sample for sample in finder.find(module) if sample.examples)


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
    sample: doctest.DocTest, image_cache: imagecache.ImageManager, tmp_path: Path
) -> None:
    async with ImageServer() as server:
        namespace: dict[str, object] = {
            **{name: getattr(testing, name) for name in testing.__all__},
            **sample.globs,
            "aioresponses": aioresponses,
            "asyncio": asyncio,
            "folder": tmp_path,
            "imagecache": imagecache,
            "images": image_cache,
            "url": server.add("/sample.png"),
            "urllib": urllib,
        }
        for example in sample.examples:
            assert await output_of(example.source, namespace) == example.want
