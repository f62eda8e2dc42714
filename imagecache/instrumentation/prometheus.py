"""Counters and gauges of managers for Prometheus, read when they are asked for: a fetch pays nothing for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "imagecache.instrumentation.prometheus needs prometheus-client: pip install 'imagecache[prometheus]'"
    ) from error

if TYPE_CHECKING:
    from ..manager import ImageManager

_COUNTERS = {
    "requests": "Downloads asked of servers, conditional ones included",
    "bytes_received": "Body bytes off the wire",
    "memory_hits": "Calls that memory answered",
    "disk_hits": "Loads that the disk answered",
    "downloads": "Images that came whole from their server",
    "not_modified": "Answers 304: what was stored is still right",
    "decodes": "Images decoded",
    "processes": "Runs of image processors",
    "encodes": "Images encoded",
    "joined": "Calls that joined a flight under way",
    "failures": "Calls, or their alternatives, that failed",
    "store_faults": "Images that could not be stored for a fault of the disk",
    "refused_too_large": "Images refused for their size",
    "retries": "Tries after the first",
    "redirects": "Redirects followed",
}


class ImageCacheCollector(Collector):
    """The figures of some managers, each under its name.

    >>> from prometheus_client import CollectorRegistry
    >>> images, registry = ImageManager("gallery"), CollectorRegistry()
    >>> registry.register(ImageCacheCollector(images))
    >>> registry.get_sample_value("imagecache_downloads_total", {"manager": "gallery"})
    0

    ``imagecache_…_total`` are the manager's counters, ``imagecache_stage_seconds_total`` the seconds by stage of
    :class:`~imagecache.Metrics`; gauges tell of connections, queues and the memory tier. Raises ValueError for two
    managers of one name, which no label would tell apart.
    """

    def __init__(self, *managers: ImageManager) -> None:
        if len({manager.name for manager in managers}) < len(managers):
            raise ValueError("two of the managers have the same name; give each its own")
        self._managers = managers

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now. Called by the registry, in any thread."""
        taken = [(manager, manager.counters.snapshot()) for manager in self._managers]
        for name, told in _COUNTERS.items():
            family = CounterMetricFamily(f"imagecache_{name}", told, labels=["manager"])
            for manager, counters in taken:
                family.add_metric([manager.name], getattr(counters, name))
            yield family
        stages = CounterMetricFamily("imagecache_stage_seconds", "Seconds by stage", labels=["manager", "stage"])
        runs = CounterMetricFamily("imagecache_processor_runs", "Runs by processor", labels=["manager", "processor"])
        for manager, counters in taken:
            for stage, seconds in counters.seconds.items():
                stages.add_metric([manager.name, stage], seconds)
            for processor, count in counters.by_processor.items():
                runs.add_metric([manager.name, processor], count)
        yield stages
        yield runs
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        for name, told, read in (
            ("connections", "Connections in use", lambda m: m.downloader.active),
            ("downloads_waiting", "Downloads that wait for a connection", lambda m: m.downloader.waiting),
            ("memory_bytes", "Bytes of pixels in memory", lambda m: m.cache.memory.cost),
            ("memory_images", "Images in memory", lambda m: len(m.cache.memory)),
        ):
            family = GaugeMetricFamily(f"imagecache_{name}", told, labels=["manager"])
            for manager in self._managers:
                family.add_metric([manager.name], read(manager))
            yield family
