"""Where the time of a fetch went: every stage of it, over tries, hops and those who share; printed, counted, told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path

import pytest

from imagecache import BackoffRetryStrategy, BadStatusError, FetchReport, ImageManager, Metrics, Resize, ServedFrom
from imagecache.testing import Answer, ImageServer

STAGES = [field.name for field in fields(Metrics) if field.type == "float" and field.name != "total"]


async def test_every_stage_of_a_cold_fetch_is_measured(server: ImageServer, tmp_path: Path) -> None:
    async with ImageManager(
        directory=tmp_path / "cache", connections_per_host=1, retry=BackoffRetryStrategy(2, base=0)
    ) as images:
        gate = server.hold("/first.png")
        first = asyncio.create_task(images.fetch_image(server.add("/first.png")))
        await gate.arrived(1)
        server.add("/a.png")
        server.script("/start", Answer(status=503), Answer.redirect("/a.png"))
        # A name, so that there is something to be resolved.
        url = server.url("/start").replace("127.0.0.1", "localhost")
        second = asyncio.create_task(images.fetch(url, processors=[Resize(9, 9)]))
        third = asyncio.create_task(images.fetch(server.add("/third.png"), processors=[Resize(9, 9)]))
        other = await second
        gate.open()
        await first
        result = await third
        await images.cache.disk.flush()
    assert (other.metrics.tries, other.metrics.redirects, other.metrics.shared) == (2, 1, False)
    assert other.metrics.bytes_received >= other.byte_count
    measured = {stage for stage in STAGES if getattr(other.metrics, stage) > 0}
    # Who waits for nobody waits for as long as the clock can tell, or not; this server has no TLS.
    assert measured | {"queue"} == set(STAGES) - {"tls"}
    assert result.metrics.queue > 0
    assert result.metrics.dns == 0
    before_total = sum(getattr(other.metrics, stage) for stage in STAGES if stage != "store")
    assert before_total <= other.metrics.total


async def test_the_stages_are_those_that_are_printed() -> None:
    assert sorted(Metrics.STAGES) == sorted(STAGES)


async def test_a_connection_that_is_there_takes_no_time(server: ImageServer, images: ImageManager) -> None:
    await images.fetch_image(server.add("/a.png"))
    result = await images.fetch(server.add("/b.png"))
    assert images.counters.seconds["connect"] > 0
    assert (result.metrics.dns, result.metrics.connect, result.metrics.tls) == (0, 0, 0)


async def test_what_storing_took_is_told_to_each_who_shares_once_it_is_done(
    server: ImageServer, images: ImageManager
) -> None:
    url = server.add("/a.png")
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(images.fetch(url)) for _ in range(3)]
    await gate.arrived(1)
    gate.open()
    results = await asyncio.gather(*calls)
    await images.cache.disk.flush()
    await asyncio.sleep(0)
    assert len({id(result.metrics) for result in results}) == 3
    assert len({result.metrics.store for result in results}) == 1
    assert results[0].metrics.store == images.counters.seconds["store"] > 0
    assert sorted(result.metrics.shared for result in results) == [False, True, True]


async def test_a_memory_hit_has_nothing_but_a_total(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/a.png")
    await images.fetch(url)
    metrics = (await images.fetch(url)).metrics
    assert [stage for stage in STAGES if getattr(metrics, stage)] == []
    assert metrics.total > 0
    assert (metrics.tries, metrics.bytes_received, metrics.shared) == (0, 0, False)


def test_a_copy_of_metrics_is_equal_in_every_field_and_another_object() -> None:
    metrics = Metrics(**{field.name: number for number, field in enumerate(fields(Metrics), 1)})  # type: ignore[arg-type]
    again = metrics.copy()
    assert again == metrics
    again.total = 0
    assert again != metrics


def test_metrics_print_as_a_waterfall() -> None:
    metrics = Metrics(
        queue=0.1, dns=0.1, connect=0.2, transfer=0.4, store=0.2, total=0.8, bytes_received=2048, tries=2, redirects=1,
        shared=True,
    )  # fmt: skip
    lines = str(metrics).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["queue", "dns", "connect", "transfer", "store", "total"]
    starts = [line.index("▇") for line in lines[:-1]]
    assert starts == sorted(starts)
    assert len(set(starts)) == 5
    assert lines[3].count("▇") == pytest.approx(4 * lines[0].count("▇"), abs=4)
    assert lines[-1].endswith("2.0 KiB received, 2 tries, 1 redirect, joined a flight under way")
    assert str(Metrics(total=0.001)) == "total           1.00 ms"


async def test_counters_add_up_and_a_snapshot_stays(server: ImageServer, images: ImageManager) -> None:
    server.add("/a.png")
    server.script("/start", Answer.redirect("/a.png"))
    one = await images.fetch(server.url("/start"))
    before = images.counters.snapshot()
    two = await images.fetch(server.add("/b.png"))
    assert before.seconds["first_byte"] == one.metrics.first_byte
    assert images.counters.seconds["first_byte"] == one.metrics.first_byte + two.metrics.first_byte
    assert images.counters.seconds["decode"] == one.metrics.decode + two.metrics.decode
    assert (images.counters.downloads, images.counters.redirects, before.downloads) == (2, 1, 1)


async def test_an_observer_is_told_of_each_call_in_its_callers_context(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    user: ContextVar[str] = ContextVar("user")
    told: list[tuple[str, FetchReport]] = []
    url = server.add("/a.png")

    async def call(name: str) -> None:
        user.set(name)
        await images.fetch_image(url)

    handle = images.add_observer(lambda report: told.append((user.get("nobody"), report)))
    gate = server.hold("/a.png")
    calls = [asyncio.create_task(call(name)) for name in ("anna", "bert")]
    await gate.arrived(1)
    gate.open()
    await asyncio.gather(*calls)
    assert sorted(name for name, _ in told) == ["anna", "bert"]
    assert {(report.url, report.served_from, report.status) for _, report in told} == {(url, ServedFrom.NETWORK, 200)}
    assert all(report.metrics.total > report.metrics.decode > 0 for _, report in told)
    told.clear()
    await images.fetch_file(url, to=tmp_path / "a.png")
    await images.fetch_data(url, format="WEBP")
    with pytest.raises(BadStatusError) as caught:
        await images.fetch(server.url("/missing.png"))
    with pytest.raises(BadStatusError):
        await images.fetch_data(server.url("/missing.png"))
    assert [report.served_from for _, report in told] == [ServedFrom.DISK, ServedFrom.DISK, None, None]
    assert told[2][1].error is caught.value
    handle.remove()
    await images.fetch_data(url)
    assert len(told) == 4


async def test_an_observer_that_raises_is_logged_and_harms_nobody(
    server: ImageServer, images: ImageManager, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[FetchReport] = []

    def broken(report: FetchReport) -> None:
        raise RuntimeError("broken")

    images.add_observer(broken)
    images.add_observer(told.append)
    assert (await images.fetch_image(server.add("/a.png"))).size
    assert "an observer raised" in caplog.text
    assert len(told) == 1
    with pytest.raises(TypeError):
        images.add_observer("print")  # type: ignore[arg-type]


@pytest.mark.parametrize(("setup", "is_heard"), [("", False), ("import logging; logging.basicConfig()", True)])
def test_the_log_is_silent_until_the_program_asks_for_it(setup: str, is_heard: bool) -> None:
    # A warning, which Python prints by itself where nobody has said anything about logging.
    program = f"""
{setup}
from imagecache import ImageDownloader, NetworkOptions
ImageDownloader(NetworkOptions(block_private=True, trust_env=True))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ("not guarded" in done.stderr) is is_heard
    assert bool(done.stderr) is is_heard
