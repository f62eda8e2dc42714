"""Which failures are tried again, when, how often, and what a server's Retry-After is worth."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, strategies as st

from imagecache.errors import (
    AddressRefusedError,
    BadStatusError,
    BodyTooLargeError,
    ConnectionFailedError,
    ImageCacheError,
    ManagerClosedError,
    NotAnImageError,
    RedirectError,
    RequestModifierError,
    ResponseRefusedError,
    TimedOutError,
    TruncatedBodyError,
)
from imagecache.headers import Headers
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import (
    BackoffRetryStrategy,
    DelayRetryStrategy,
    accumulated,
    is_worth_retrying,
    retry_after_seconds,
)
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.protocols import ResponseInfo, RetryContext
from imagecache.request import DownloadRequest
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer
from tests.network.test_download import Recorder


def status_error(status: int) -> BadStatusError:
    return BadStatusError("", status=status, headers=Headers())


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        *((status_error(status), True) for status in (408, 425, 429, 500, 502, 503, 504, 521, 599)),
        *((status_error(status), False) for status in (304, 400, 401, 403, 404, 410, 428, 499)),
        (ConnectionFailedError(""), True),
        (TruncatedBodyError(""), True),
        (TimedOutError("", limit="connect"), True),
        (TimedOutError("", limit="idle"), True),
        (TimedOutError("", limit="total"), False),
        (RedirectError(""), False),
        (ResponseRefusedError(""), False),
        (BodyTooLargeError("", limit=1), False),
        (RequestModifierError(""), False),
        (AddressRefusedError(""), False),
        (ManagerClosedError(""), False),
    ],
    ids=lambda value: value if isinstance(value, bool) else f"{type(value).__name__} {value.__dict__}",
)
def test_what_is_worth_another_try(error: ImageCacheError, worth: bool) -> None:
    assert is_worth_retrying(error) is worth
    context = RetryContext("u", 1, error, 0.0)
    assert (BackoffRetryStrategy(2).retry_delay(context) is not None) is worth
    assert (DelayRetryStrategy(1).retry_delay(context) is not None) is worth


def test_the_backoff_doubles_up_to_its_cap_and_gives_up() -> None:
    strategy = BackoffRetryStrategy(7, base=0.5, cap=3, jitter=0)
    waits = [strategy.retry_delay(RetryContext("u", n, ConnectionFailedError(""), 0.0)) for n in range(1, 8)]
    assert waits == [0.5, 1, 2, 3, 3, 3, None]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_jitter_only_shortens(attempt: int, jitter: float) -> None:
    strategy = BackoffRetryStrategy(20_000, base=1, cap=8, jitter=jitter)
    wait = strategy.retry_delay(RetryContext("u", attempt, ConnectionFailedError(""), 0.0))
    full = min(8.0, 2.0 ** (attempt - 1)) if attempt < 10 else 8.0
    assert wait is not None
    assert full * (1 - jitter) <= wait <= full


@pytest.mark.parametrize(
    ("interval", "waits"),
    [(3.0, [3, 3, 3, None]), (accumulated(3), [3, 6, 9, None]), (lambda count: count * 2, [0, 2, 4, None])],
)
def test_kingfishers_delays(interval: Any, waits: list[float | None]) -> None:
    strategy = DelayRetryStrategy(3, interval)
    assert [strategy.retry_delay(RetryContext("u", n, ConnectionFailedError(""), 0.0)) for n in range(1, 5)] == waits


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("0", 0), (" 120 ", 120), ("-5", None), ("1.5", None), ("soon", None),
        ("9" * 5000, None), (formatdate(1060, usegmt=True), 60), (formatdate(10, usegmt=True), 0),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None), ("Thu, 01 Jan 99999 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_in_both_forms_and_nonsense(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, 1000.0) == seconds


class Flaky:
    """Fails so often, then answers."""

    def __init__(self, failures: int, status: int = 503, headers: dict[str, str] | None = None) -> None:
        self.failures = failures
        self.status = status
        self.headers = headers
        self.failed = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if self.failures:
            self.failures -= 1
            if self.status:
                await exchange.reply(self.status, self.headers)
            else:
                await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
                exchange.reset()
            self.failed.set()
        else:
            await exchange.reply(body=PNG)


NOW = BackoffRetryStrategy(3, base=0)


@pytest.mark.parametrize("status", [503, 429, 0])
async def test_a_failed_try_is_followed_by_another(server: RawServer, make: MakeDownloader, status: int) -> None:
    downloader = make(retry=NOW)
    recorder = Recorder()
    downloader.add_delegate(recorder)
    runs: list[DownloadRequest] = []

    def modifier(request: DownloadRequest) -> DownloadRequest:
        runs.append(request)
        return request.with_headers({"X-Run": str(len(runs))})

    downloader.add_request_modifier(modifier)
    download = await downloader.download(server.on("/a", Flaky(2, status)))
    assert download.body == PNG
    assert download.metrics.tries == 3
    # Modifiers run for every try, delegates hear of one network task.
    assert [exchange.headers["x-run"] for exchange in server.requests] == ["1", "2", "3"]
    assert recorder.heard.count("will_download_image") == 1
    assert recorder.heard.count("did_finish_downloading_image") == 1
    assert download.bytes_received >= len(PNG)


async def test_it_gives_up_with_the_last_error(server: RawServer, make: MakeDownloader) -> None:
    with pytest.raises(BadStatusError):
        await make(retry=NOW).download(server.on("/a", Flaky(9)))
    assert len(server.requests) == 3


async def test_a_404_is_final(server: RawServer, make: MakeDownloader) -> None:
    with pytest.raises(BadStatusError):
        await make(retry=NOW).download(server.base + "/missing")
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["delegate", "check", "too large"])
async def test_a_refused_body_is_final(server: RawServer, make: MakeDownloader, how: str) -> None:
    class Refuses:
        def did_receive_response(self, response: ResponseInfo) -> bool:
            return how != "delegate"

    def check(body: bytes) -> None:
        if how == "check":
            raise NotAnImageError("no image")

    downloader = make(NetworkOptions(max_body=10 if how == "too large" else 2**20), retry=NOW)
    downloader.add_delegate(Refuses())
    with pytest.raises((ResponseRefusedError, NotAnImageError, BodyTooLargeError)):
        await downloader.download(server.serve("/a"), check=check)
    assert len(server.requests) == 1


async def test_the_strategy_sees_each_failure_fresh(server: RawServer, make: MakeDownloader) -> None:
    contexts: list[RetryContext] = []

    class Notes:
        def retry_delay(self, context: RetryContext) -> float | None:
            contexts.append(context)
            return 0 if context.attempt < 3 else None

    with pytest.raises(BadStatusError) as caught:
        await make(retry=Notes()).download(server.on("/a", Flaky(9, 500, {"Retry-After": "0"})))
    assert [context.attempt for context in contexts] == [1, 2, 3]
    assert len({id(context.error) for context in contexts}) == 3
    assert contexts[-1].error is caught.value
    assert contexts[-1].retry_after == 0
    assert contexts[0].elapsed <= contexts[2].elapsed


async def test_a_strategy_that_raises_ends_it_with_the_downloads_own_error(
    server: RawServer, make: MakeDownloader, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def retry_delay(self, context: RetryContext) -> float | None:
            raise RuntimeError("broken")

    with pytest.raises(BadStatusError):
        await make(retry=Broken()).download(server.base + "/missing")
    assert "retry strategy" in caplog.text


async def test_retry_after_is_waited_out(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    flaky = Flaky(1, 429, {"Retry-After": "4"})
    download = asyncio.create_task(make(retry=NOW, clock=clock).download(server.on("/a", flaky)))
    await flaky.failed.wait()
    while not clock.pending:
        await clock.elapse(0)
    await clock.elapse(3.9)
    assert len(server.requests) == 1
    # The wait may begin some turns of the loop after the answer was sent.
    while not download.done():
        await clock.elapse(0.1)
    assert (await download).body == PNG


@pytest.mark.parametrize("value", ["6", "3600", formatdate(1_750_000_100, usegmt=True)])
async def test_a_long_retry_after_is_told_at_once(
    server: RawServer, make: MakeDownloader, clock: FakeClock, value: str
) -> None:
    downloader = make(retry=NOW, clock=clock)
    with pytest.raises(BadStatusError, match="come back in") as caught:
        await downloader.download(server.on("/a", Flaky(1, 503, {"Retry-After": value})))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 5
    assert len(server.requests) == 1


async def test_a_prefetch_waits_longer_but_never_beyond_the_total(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    downloader = make(retry=NOW, clock=clock)
    flaky = Flaky(1, 503, {"Retry-After": "100"})
    with pytest.raises(BadStatusError):
        await downloader.download(server.on("/a", flaky), max_retry_after=float("inf"), total=60)
    assert len(server.requests) == 1
    flaky.failures = 1
    download = asyncio.create_task(downloader.download(server.base + "/a", max_retry_after=float("inf"), total=600))
    while not download.done():
        await clock.elapse(50)
    assert (await download).body == PNG


async def test_timeouts_are_tried_again_within_the_total(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()

    async def hang(exchange: Exchange) -> None:
        arrived.put_nowait(1)
        await exchange.is_gone()

    options = NetworkOptions(timeouts=Timeouts(idle=10, total=25))
    download = asyncio.create_task(make(options, retry=NOW, clock=clock).download(server.on("/a", hang)))
    for _ in range(2):
        await arrived.get()
        await clock.elapse(10)
    await arrived.get()
    await clock.elapse(5)
    with pytest.raises(TimedOutError) as caught:
        await download
    assert caught.value.limit == "total"
    assert len(server.requests) == 3


async def test_cancellation_during_a_wait_is_final(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    flaky = Flaky(1, 429, {"Retry-After": "4"})
    download = asyncio.create_task(make(retry=NOW, clock=clock).download(server.on("/a", flaky)))
    await flaky.failed.wait()
    await clock.elapse(1)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert clock.pending == 0


async def test_what_does_not_exist_is_not_asked_for_again(make: MakeDownloader) -> None:
    downloader: ImageDownloader = make(retry=BackoffRetryStrategy(3, base=60, cap=60, jitter=0))
    with pytest.raises(ConnectionFailedError, match="cannot be resolved"):
        await downloader.download("http://no-such-host.invalid/")
