"""The spans of fetches: one each, under the caller's own, with the fetch's times; and what is said without the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from imagecache import BadStatusError, ImageManager
from imagecache.instrumentation.opentelemetry import trace_fetches
from imagecache.testing import ImageServer
from tests.instrumentation.missing import told_without


class Traced:
    """A server, a manager, and the spans of its fetches."""

    def __init__(self, server: ImageServer, images: ImageManager) -> None:
        self.server, self.images = server, images
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.handle = trace_fetches(images, self.provider)

    def spans(self) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == "imagecache.fetch"]


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[Traced]:
    async with ImageServer() as server, ImageManager(directory=tmp_path) as images:
        yield Traced(server, images)


async def test_a_fetch_is_a_span_with_its_stages_and_times(traced: Traced) -> None:
    url = traced.server.add("/a.png")
    result = await traced.images.fetch(url + "?signature=secret")
    (span,) = traced.spans()
    told = dict(span.attributes or {})
    assert span.kind is SpanKind.CLIENT
    assert told["url.full"] == url
    assert (told["http.response.status_code"], told["imagecache.served_from"]) == (200, "network")
    assert told["imagecache.bytes_received"] == result.byte_count
    assert (told["imagecache.tries"], told["imagecache.redirects"], told["imagecache.shared"]) == (1, 0, False)
    for stage in ("connect", "first_byte", "transfer", "decode"):
        assert told[f"imagecache.stage.{stage}"] == getattr(result.metrics, stage)
    assert "imagecache.stage.process" not in told
    assert span.start_time is not None
    assert span.end_time is not None
    # Its own time is a little less than the call's.
    assert 0 < (span.end_time - span.start_time) / 1e9 <= result.metrics.total
    assert "secret" not in span.to_json()


async def test_each_caller_has_its_own_span_under_its_own_parent(traced: Traced) -> None:
    url, tracer = traced.server.add("/a.png"), traced.provider.get_tracer("tests")
    gate = traced.server.hold("/a.png")
    parents: list[int] = []

    async def call() -> None:
        with tracer.start_as_current_span("caller") as span:
            parents.append(span.get_span_context().span_id)
            await traced.images.fetch_image(url)

    calls = [asyncio.create_task(call()) for _ in range(3)]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    spans = traced.spans()
    assert sorted(span.parent.span_id for span in spans if span.parent) == sorted(parents)
    assert sorted(bool((span.attributes or {})["imagecache.shared"]) for span in spans) == [False, True, True]


async def test_a_failure_is_told_and_each_alternative_has_its_span(traced: Traced) -> None:
    missing, other = traced.server.url("/missing.png"), traced.server.add("/b.png")
    await traced.images.fetch_data(missing, alternatives=[other])
    failed, came = traced.spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == BadStatusError.__name__
    assert "imagecache.served_from" not in (failed.attributes or {})
    assert (came.attributes or {})["url.full"] == other
    assert came.status.status_code is StatusCode.UNSET


async def test_what_memory_answers_has_no_span_and_the_handle_ends_it(traced: Traced) -> None:
    url = traced.server.add("/a.png")
    await traced.images.fetch_image(url)
    await traced.images.fetch_image(url)
    await traced.images.fetch(url)
    assert len(traced.spans()) == 1
    traced.handle.remove()
    await traced.images.fetch_image(url, force_refresh=True)
    assert len(traced.spans()) == 1


async def test_a_sampler_that_drops_all_costs_no_attributes(traced: Traced) -> None:
    trace_fetches(traced.images, TracerProvider(sampler=ALWAYS_OFF))
    await traced.images.fetch_image(traced.server.add("/a.png"))
    assert len(traced.spans()) == 1


def test_without_the_api_it_is_said_what_to_install() -> None:
    told = told_without("opentelemetry.trace", "imagecache.instrumentation.opentelemetry")
    assert "pip install 'imagecache[opentelemetry]'" in told
