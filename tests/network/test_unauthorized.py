"""What a 401 leads to: one refresh for all who were refused together, one more try for each, no token elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from imagecache.errors import BadStatusError, ManagerClosedError, TimedOutError
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.protocols import ResponseInfo, RetryContext
from imagecache.request import DownloadRequest
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer

TOKEN = {"Authorization": "Bearer new"}


class Guarded:
    """Lets in whoever has the token; holds the 401s back until so many have come."""

    def __init__(self, token: str = "Bearer new", *, together: int = 1) -> None:
        self.token = token
        self._missing = together
        self._all_here = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.headers.get("authorization") == self.token:
            await exchange.reply(body=PNG)
            return
        self._missing -= 1
        if self._missing <= 0:
            self._all_here.set()
        await self._all_here.wait()
        await exchange.reply(401, {"WWW-Authenticate": "Bearer"})


class Hook:
    """Answers so, and notes what it was asked."""

    def __init__(self, answer: Any = TOKEN) -> None:
        self.answer = answer
        self.asked: list[tuple[DownloadRequest, ResponseInfo]] = []

    def __call__(self, request: DownloadRequest, response: ResponseInfo) -> Any:
        self.asked.append((request, response))
        return self.answer


class Held(Hook):
    """An asynchronous one, that answers when it may."""

    def __init__(self, answer: Any = TOKEN) -> None:
        super().__init__(answer)
        self.gate, self.was_asked, self.was_cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: DownloadRequest, response: ResponseInfo) -> Any:
        self.asked.append((request, response))
        self.was_asked.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        return self.answer


def sent(server: RawServer) -> list[str | None]:
    """The credentials of each request."""
    return [exchange.headers.get("authorization") for exchange in server.requests]


async def test_the_fields_of_the_hook_go_with_one_more_try(server: RawServer, make: MakeDownloader) -> None:
    hook = Hook()
    download = await make(on_unauthorized=hook).download(server.on("/a", Guarded()))
    assert download.body == PNG
    assert sent(server) == [None, "Bearer new"]
    assert download.metrics.tries == 2
    ((request, response),) = hook.asked
    assert (request.url, response.status) == (server.base + "/a", 401)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_true_runs_the_modifiers_again_which_know_the_new_token(server: RawServer, make: MakeDownloader) -> None:
    token = "Bearer old"

    async def refresh(request: DownloadRequest, response: ResponseInfo) -> bool:
        nonlocal token
        token = "Bearer new"
        return True

    downloader = make(on_unauthorized=refresh)
    downloader.add_request_modifier(lambda request: request.with_headers({"Authorization": token}))
    assert (await downloader.download(server.on("/a", Guarded()))).body == PNG
    assert sent(server) == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("answer", [None, False])
async def test_a_hook_that_cannot_help_leaves_it_at_the_401(
    server: RawServer, make: MakeDownloader, answer: object
) -> None:
    with pytest.raises(BadStatusError) as caught:
        await make(on_unauthorized=Hook(answer)).download(server.on("/a", Guarded()))
    assert caught.value.status == 401
    assert len(server.requests) == 1


async def test_it_is_asked_once_a_download_even_if_the_new_token_is_refused(
    server: RawServer, make: MakeDownloader
) -> None:
    hook = Hook({"Authorization": "Bearer useless"})
    with pytest.raises(BadStatusError):
        await make(on_unauthorized=hook, retry=BackoffRetryStrategy(5, base=0)).download(server.on("/a", Guarded()))
    assert len(hook.asked) == 1
    assert sent(server) == [None, "Bearer useless"]


async def test_other_refusals_do_not_ask_it(server: RawServer, make: MakeDownloader) -> None:
    hook = Hook()
    for path, status in (("/403", 403), ("/407", 407)):
        with pytest.raises(BadStatusError):
            await make(on_unauthorized=hook).download(server.serve(path, status=status))
    with pytest.raises(BadStatusError):
        await make(on_unauthorized=hook).download(server.on("/a", Guarded()), retry=False)
    assert hook.asked == []


async def test_concurrent_refusals_share_one_refresh(server: RawServer, make: MakeDownloader) -> None:
    hook, guarded = Held(), Guarded(together=5)
    url = server.on("/a", guarded)
    downloader = make(NetworkOptions(per_host=5), on_unauthorized=hook)
    downloads = [asyncio.create_task(downloader.download(f"{url}?{n}")) for n in range(5)]
    await hook.was_asked.wait()
    while downloader.active:
        await asyncio.wait(downloads, timeout=0.01)
    hook.gate.set()
    assert [download.body for download in await asyncio.gather(*downloads)] == [PNG] * 5
    assert len(hook.asked) == 1


async def test_a_refusal_that_comes_after_the_refresh_of_a_request_sent_before_it_shares_it(
    server: RawServer, make: MakeDownloader
) -> None:
    hook, late, has_come = Hook(), asyncio.Event(), asyncio.Event()
    guarded = Guarded()

    async def slow(exchange: Exchange) -> None:
        if "authorization" not in exchange.headers:
            has_come.set()
            await late.wait()
        await guarded(exchange)

    downloader = make(on_unauthorized=hook)
    slow_one = asyncio.create_task(downloader.download(server.on("/slow", slow)))
    await has_come.wait()
    await downloader.download(server.on("/a", guarded))
    late.set()
    assert (await slow_one).body == PNG
    assert len(hook.asked) == 1
    # One that is sent only now is refused anew: the token of then may have expired.
    await downloader.download(server.base + "/a")
    assert len(hook.asked) == 2


async def test_users_with_other_credentials_never_get_each_others_tokens(
    server: RawServer, make: MakeDownloader
) -> None:
    gate = asyncio.Event()
    asked: list[str] = []

    async def refresh(request: DownloadRequest, response: ResponseInfo) -> dict[str, str]:
        asked.append(request.headers["authorization"])
        if len(asked) == 2:
            gate.set()
        await gate.wait()
        return {"Authorization": request.headers["authorization"] + " renewed"}

    async def refuse_old(exchange: Exchange) -> None:
        is_new = exchange.headers["authorization"].endswith("renewed")
        await exchange.reply(200 if is_new else 401, body=exchange.headers["authorization"].encode())

    url, downloader = server.on("/a", refuse_old), make(on_unauthorized=refresh)
    requests = [DownloadRequest(url).with_headers({"Authorization": user}) for user in ("anna", "bert")]
    downloads = await asyncio.gather(*(downloader.download(request) for request in requests))
    assert [download.body for download in downloads] == [b"anna renewed", b"bert renewed"]
    assert sorted(asked) == ["anna", "bert"]


async def test_a_token_for_the_end_of_a_redirect_is_not_sent_to_its_beginning(
    server: RawServer, other_server: RawServer, make: MakeDownloader
) -> None:
    hook = Hook()
    end = other_server.on("/b", Guarded())
    download = await make(on_unauthorized=hook).download(server.serve("/a", b"", status=302, headers={"Location": end}))
    assert download.body == PNG
    assert hook.asked[0][0].url == end
    assert sent(server) == [None, None]
    assert sent(other_server) == [None, "Bearer new"]


async def test_a_hook_that_raises_is_told_as_the_cause_of_the_401(server: RawServer, make: MakeDownloader) -> None:
    def broken(request: DownloadRequest, response: ResponseInfo) -> bool:
        raise RuntimeError("no token today")

    with pytest.raises(BadStatusError) as caught:
        await make(on_unauthorized=broken).download(server.on("/a", Guarded()))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "on_unauthorized" in caught.value.__notes__[0]


@pytest.mark.parametrize("answer", ["Bearer new", 3, b"x"])
async def test_a_hook_that_answers_nonsense_is_told(server: RawServer, make: MakeDownloader, answer: object) -> None:
    with pytest.raises(BadStatusError) as caught:
        await make(on_unauthorized=Hook(answer)).download(server.on("/a", Guarded()))
    assert isinstance(caught.value.__cause__, TypeError)


async def test_waiting_for_the_hook_holds_no_connection_so_that_it_may_use_one(
    server: RawServer, make: MakeDownloader
) -> None:
    async def refresh(request: DownloadRequest, response: ResponseInfo) -> dict[str, str]:
        token = await downloader.download(server.base + "/token")
        return {"Authorization": token.body.decode()}

    server.serve("/token", b"Bearer new")
    downloader: ImageDownloader = make(NetworkOptions(per_host=1), on_unauthorized=refresh)
    assert (await downloader.download(server.on("/a", Guarded()))).body == PNG


async def test_a_hook_that_is_refused_itself_is_not_asked_again(server: RawServer, make: MakeDownloader) -> None:
    async def refresh(request: DownloadRequest, response: ResponseInfo) -> bool:
        await downloader.download(server.base + "/token")
        return True

    server.on("/token", Guarded())
    downloader: ImageDownloader = make(on_unauthorized=refresh)
    with pytest.raises(BadStatusError) as caught:
        await downloader.download(server.on("/a", Guarded()))
    assert isinstance(caught.value.__cause__, BadStatusError)
    assert server.paths() == ["/a", "/token"]


async def test_the_last_one_who_leaves_ends_the_refresh_and_the_next_one_starts_anew(
    server: RawServer, make: MakeDownloader
) -> None:
    hook = Held()
    url, downloader = server.on("/a", Guarded()), make(on_unauthorized=hook)
    download = asyncio.create_task(downloader.download(url))
    await hook.was_asked.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    await hook.was_cancelled.wait()
    hook.gate.set()
    assert (await downloader.download(url)).body == PNG
    assert len(hook.asked) == 2


async def test_nobody_joins_a_refresh_that_is_ending(server: RawServer, make: MakeDownloader) -> None:
    tidied, begun = asyncio.Event(), asyncio.Event()
    asked: list[DownloadRequest] = []

    async def refresh(request: DownloadRequest, response: ResponseInfo) -> dict[str, str]:
        asked.append(request)
        begun.set()
        if len(asked) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                await tidied.wait()
        return TOKEN

    url, downloader = server.on("/a", Guarded()), make(on_unauthorized=refresh)
    download = asyncio.create_task(downloader.download(url))
    await begun.wait()
    download.cancel()
    await asyncio.wait([download])
    assert (await downloader.download(url)).body == PNG
    tidied.set()
    assert len(asked) == 2


async def test_closing_ends_a_refresh(server: RawServer, make: MakeDownloader) -> None:
    hook = Held()
    downloader = make(on_unauthorized=hook)
    download = asyncio.create_task(downloader.download(server.on("/a", Guarded())))
    await hook.was_asked.wait()
    await downloader.aclose()
    assert hook.was_cancelled.is_set()
    with pytest.raises(ManagerClosedError):
        await download


async def test_a_hook_that_hangs_ends_with_the_total(server: RawServer, make: MakeDownloader, clock: FakeClock) -> None:
    hook = Held()
    options = NetworkOptions(timeouts=Timeouts(total=20))
    download = asyncio.create_task(
        make(options, clock=clock, on_unauthorized=hook).download(server.on("/a", Guarded()))
    )
    await hook.was_asked.wait()
    await clock.elapse(20)
    with pytest.raises(TimedOutError) as caught:
        await download
    assert caught.value.limit == "total"


async def test_a_refresh_is_no_attempt_of_the_retry_strategy(server: RawServer, make: MakeDownloader) -> None:
    attempts: list[int] = []

    class Notes:
        def retry_delay(self, context: RetryContext) -> float | None:
            attempts.append(context.attempt)
            return None

    async def refused_then_down(exchange: Exchange) -> None:
        await exchange.reply(503 if "authorization" in exchange.headers else 401)

    with pytest.raises(BadStatusError):
        await make(on_unauthorized=Hook(), retry=Notes()).download(server.on("/a", refused_then_down))
    assert attempts == [1]
