"""A disk storage on a real folder, with a clock that tests move, closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagecache.delegate import Delegates
from imagecache.storage.cache import ImageCache
from imagecache.storage.disk import DiskStorage
from imagecache.storage.registry import Registry
from imagecache.testing.clock import FakeClock

from .caches import Listener, MakeCache, Picture


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that wait for one write after the other would do little else than wait for batches to grow."""
    monkeypatch.setattr("imagecache.storage.writer.COMMIT_DELAY", 0.001)


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is passed to threads, by anybody."""
    passed: list[object] = []
    submit = ThreadPoolExecutor.submit

    def counted(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        passed.append(function)
        return submit(self, function, *args, **kwargs)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    return passed


MakeDisk = Callable[..., DiskStorage]


@pytest.fixture
async def make_disk(tmp_path: Path, clock: FakeClock) -> AsyncIterator[MakeDisk]:
    made: list[DiskStorage] = []

    def make(directory: Path | None = tmp_path, limit: int = 2**30) -> DiskStorage:
        made.append(DiskStorage(directory, clock=clock, limit=limit))
        return made[-1]

    yield make
    for disk in made:
        await disk.aclose()


@pytest.fixture
def make_other(make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DiskStorage]:
    """Makes storages that share nothing but the folder with those of `make_disk`, as another process would."""
    registry = Registry()

    def make(**options: int) -> DiskStorage:
        with monkeypatch.context() as patch:
            patch.setattr("imagecache.storage.disk.REGISTRY", registry)
            return make_disk(**options)

    return make


@pytest.fixture
async def disk(make_disk: MakeDisk) -> DiskStorage:
    return make_disk()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Our own folder inside the given one."""
    return tmp_path / "imagecache-v2"


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def make_cache(tmp_path: Path, clock: FakeClock, listener: Listener) -> AsyncIterator[MakeCache]:
    made: list[ImageCache[Picture]] = []
    delegates = Delegates()
    delegates.add(listener)

    def make(directory: Path | None = tmp_path, **options: Any) -> ImageCache[Picture]:
        made.append(ImageCache(directory, clock=clock, delegates=delegates, **options))
        return made[-1]

    yield make
    for cache in made:
        await cache.aclose()
    await delegates.drain()


@pytest.fixture
def cache(make_cache: MakeCache) -> ImageCache[Picture]:
    return make_cache()
