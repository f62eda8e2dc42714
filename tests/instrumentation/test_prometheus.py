"""What Prometheus reads of managers: every counter, the seconds by stage, the gauges; and what is said without it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from imagecache import ImageManager, Resize
from imagecache.instrumentation.prometheus import ImageCacheCollector
from imagecache.metrics import Counters
from imagecache.testing import Answer, ImageServer
from tests.instrumentation.missing import told_without


@pytest.fixture
def registry() -> CollectorRegistry:
    # Described by what it collects, as the registry of every program is.
    return CollectorRegistry(auto_describe=True)


async def test_the_figures_are_those_of_the_manager_at_that_moment(tmp_path: Path, registry: CollectorRegistry) -> None:
    async with ImageServer() as server, ImageManager("gallery", directory=tmp_path) as images:
        registry.register(ImageCacheCollector(images))

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"imagecache_{name}", {"manager": "gallery", **labels})

        assert value("downloads_total") == 0
        url = server.add("/a.png")
        server.script("/a.png", Answer(status=503, headers={"Retry-After": "0"}))
        resize = Resize(10, 10)
        image = await images.fetch_image(url, processors=[resize])
        await images.fetch_image(url, processors=[resize])
        await images.fetch_image(url, processors=[resize], force_refresh=True)
        assert image.size
        expected = {"downloads": 1, "requests": 2, "retries": 1, "not_modified": 1, "memory_hits": 1, "decodes": 1}
        assert {name: value(f"{name}_total") for name in expected} == expected
        assert value("bytes_received_total") == images.counters.bytes_received > 0
        assert value("processor_runs_total", processor=resize.identifier) == 1
        for stage in ("connect", "first_byte", "transfer", "decode", "process"):
            assert value("stage_seconds_total", stage=stage) == images.counters.seconds[stage] > 0
        assert value("memory_images") == len(images.cache.memory) == 1
        assert value("memory_bytes") == images.cache.memory.cost
        assert (value("connections"), value("downloads_waiting")) == (0, 0)


def test_no_counter_is_left_out(registry: CollectorRegistry) -> None:
    registry.register(ImageCacheCollector(ImageManager("one"), ImageManager("two")))
    page = generate_latest(registry).decode()
    for field in fields(Counters):
        if field.name not in {"by_processor", "seconds"}:
            assert f'imagecache_{field.name}_total{{manager="one"}} 0.0' in page
            assert f'imagecache_{field.name}_total{{manager="two"}} 0.0' in page


def test_two_managers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        ImageCacheCollector(ImageManager("one"), ImageManager("one"))


def test_without_the_library_it_is_said_what_to_install() -> None:
    told = told_without("prometheus_client", "imagecache.instrumentation.prometheus")
    assert "pip install 'imagecache[prometheus]'" in told
