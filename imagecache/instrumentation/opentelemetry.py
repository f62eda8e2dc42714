"""A span for each fetch, made of its metrics when it has ended: nothing is measured twice, and nothing for nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

try:
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer
except ImportError as error:
    raise ImportError(
        "imagecache.instrumentation.opentelemetry needs the OpenTelemetry API: pip install 'imagecache[opentelemetry]'"
    ) from error

from .. import __version__
from ..metrics import FetchReport

if TYPE_CHECKING:
    from ..delegate import Handle
    from ..manager import ImageManager

_STAGES = ("disk_read", "queue", "dns", "connect", "tls", "first_byte", "transfer", "decode", "process")


def trace_fetches(manager: ImageManager, tracer_provider: TracerProvider | None = None) -> Handle:
    """Make a span ``imagecache.fetch`` for each fetch of a manager that memory alone does not answer.

    Its parent is the caller's current span, its times are the fetch's own; the stages of
    :class:`~imagecache.Metrics` are attributes ``imagecache.stage.…``, in seconds. URLs are told without userinfo and
    query, which may hold signatures. ``tracer_provider`` is the global one where none is given. Returns a handle
    whose ``remove()`` ends it.

    >>> async with ImageManager("docs-sample") as images:
    ...     with trace_fetches(images):
    ...         image = await images.fetch_image(url)
    """
    tracer = get_tracer("imagecache", __version__, tracer_provider)

    def observe(report: FetchReport) -> None:
        metrics, ended = report.metrics, time.time_ns()
        span = tracer.start_span(
            "imagecache.fetch", kind=SpanKind.CLIENT, start_time=ended - round(metrics.total * 1e9)
        )
        if span.is_recording():
            span.set_attributes(_attributes(report))
            if report.error is not None:
                span.set_status(Status(StatusCode.ERROR, type(report.error).__name__))
        span.end(ended)

    return manager.add_observer(observe)


def _attributes(report: FetchReport) -> dict[str, str | int | float | bool]:
    metrics = report.metrics
    told: dict[str, str | int | float | bool] = {
        "url.full": report.url.partition("?")[0],
        "imagecache.bytes_received": metrics.bytes_received,
        "imagecache.tries": metrics.tries,
        "imagecache.redirects": metrics.redirects,
        "imagecache.shared": metrics.shared,
    }
    if report.served_from is not None:
        told["imagecache.served_from"] = report.served_from.value
    if report.status is not None:
        told["http.response.status_code"] = report.status
    if report.error is not None:
        told["error.type"] = type(report.error).__name__
    for stage in _STAGES:
        if seconds := getattr(metrics, stage):
            told[f"imagecache.stage.{stage}"] = seconds
    return told
