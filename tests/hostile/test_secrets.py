"""What is secret stays so: not on disk, in no log, repr, error or line of the command's; and users are kept apart."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from imagecache import CachePolicy, ImageManager
from imagecache.errors import BadStatusError, ImageCacheError
from imagecache.keys import shown_url
from imagecache.masking import is_secret_field, without_signatures
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.request import DownloadRequest
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import NEXT, PICTURE, closes, head, says, sized
from tests.network.server import Exchange, Handler, RawServer

BEARER, PASSWORD, COOKIE, KEY = "bearer-s3cr3t", "passw0rd-s3cr3t", "cookie-s3cr3t", "apikey-s3cr3t"
SET_COOKIE, SIGNATURE, TOKEN = "setcookie-s3cr3t", "signature-s3cr3t", "token-s3cr3t"
MARK = "s3cr3t"
"""In every secret, and in nothing else."""

HEADERS = {"Authorization": f"Bearer {BEARER}", "Cookie": f"a={COOKIE}", "X-Api-Key": KEY}

ANSWERS: dict[str, Handler] = {
    "right": says(sized(PICTURE, f"Set-Cookie: id={SET_COOKIE}", "Vary: Authorization, X-Api-Key", 'ETag: "1"')),
    "refused": says(sized(b"", f"Set-Cookie: id={SET_COOKIE}", "Cache-Control: max-age=99", status="404 None")),
    "no HTTP": closes(b"no http\r\n\r\n"),
    "cut": closes(head("Content-Length: 1000") + PICTURE),
    "a page": says(sized(b"<html>", f"Set-Cookie: id={SET_COOKIE}")),
    "leads to a signed URL": says(sized(b"", f"Location: /goal?X-Amz-Signature={SIGNATURE}", status="302 Found")),
    "leads nowhere": says(sized(b"", f"Location: file:///x?token={TOKEN}", status="302 Found")),
    "leads round": says(sized(b"", f"Location: /x?sig={SIGNATURE}", status="302 Found")),
    "carries credentials": says(
        sized(b"", f"Location: http://user:{PASSWORD}@127.0.0.1/?sig={SIGNATURE}", status="302 Found")
    ),
}


def with_userinfo(url: str) -> str:
    return url.replace("//", f"//user:{PASSWORD}@")


def signed(url: str) -> str:
    return f"{url}?w=80&sig={SIGNATURE}&access_token={TOKEN}"


def without_query(url: str) -> str:
    return url.partition("?")[0]


def told(error: BaseException) -> str:
    """Everything that a log of this error would hold: it, its causes, and where they came from."""
    text = "".join(traceback.format_exception(error))
    chain: list[BaseException | None] = [error]
    while (last := chain[-1]) is not None:
        text += f"{last} {last!r} {last.args!r}"
        chain.append(last.__cause__ or last.__context__)
    if isinstance(error, BadStatusError):
        text += repr(error.headers)
    return text


def stored_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("what", ANSWERS)
async def test_no_secret_reaches_the_disk_the_log_a_repr_or_an_error(
    server: RawServer, make: MakeManager, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.on("/goal", says(sized()))
    url = with_userinfo(signed(server.on("/x", ANSWERS[what])))
    images = make(directory=tmp_path / "cache", key_for_url=without_query, retry=BackoffRetryStrategy(2, base=0))
    said, urls = "", set[str]()
    for options in ({}, {"force_refresh": True}, {"policy": CachePolicy.STALE_WHILE_REVALIDATE}):
        try:
            result = await images.fetch(url, headers=HEADERS, **options)
        except ImageCacheError as error:
            said += told(error)
            said += told(pickle.loads(pickle.dumps(error)))
            urls.add(error.url)
        else:
            assert PASSWORD not in repr(result)
    # Whoever handles an error finds the URL as it was asked for, but for the userinfo.
    assert urls <= {signed(server.base + "/x")}
    # They were sent all the same.
    assert server.requests[0].headers["authorization"] == HEADERS["Authorization"]
    assert SIGNATURE in server.requests[0].target
    entry = (await images.explain(url, headers=HEADERS)).entry
    said += repr(images) + repr(entry.headers if entry else "")
    await images.aclose()
    assert MARK not in said
    assert MARK not in caplog.text
    assert "s3cr3t" not in "".join(map(str, (record.args for record in caplog.records)))
    on_disk = stored_in(tmp_path / "cache")
    assert b"/x" in on_disk or what not in {"right", "leads to a signed URL"}
    assert MARK.encode() not in on_disk


async def test_what_a_modifier_adds_is_sent_and_kept_nowhere(
    server: RawServer, make: MakeManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images = make(directory=tmp_path / "cache")

    def sign(request: DownloadRequest) -> DownloadRequest:
        return request.with_url(f"{request.url}?unheard-of={SIGNATURE}").with_headers({"X-Unheard-Of": KEY})

    images.add_request_modifier(sign)
    url = server.on("/a", says(sized(PICTURE, "Vary: X-Unheard-Of")))
    await images.fetch_image(url)
    await images.aclose()
    assert SIGNATURE in server.requests[0].target
    assert server.requests[0].headers["x-unheard-of"] == KEY
    assert MARK.encode() not in stored_in(tmp_path / "cache")
    assert MARK not in caplog.text


async def test_reprs_of_what_users_and_delegates_meet_are_clean(server: RawServer, make: MakeManager) -> None:
    images = make()
    met: list[object] = []

    class Meets:
        def will_download_image(self, url: str, request: object) -> None:
            met.append(request)

        def did_receive_response(self, response: object) -> None:
            met.append(response)

    images.add_delegate(Meets())
    url = with_userinfo(server.on("/a", ANSWERS["right"]))
    met.append(await images.fetch(url, headers=HEADERS))
    met.append(await images.fetch_response(url, headers=HEADERS))
    met.append(images._request(url, {"headers": HEADERS}))
    assert len(met) >= 5
    assert MARK not in repr(met)


async def test_no_cookie_is_sent_back(server: RawServer, make: MakeManager) -> None:
    server.on("/goal", says(sized()))
    fields = [f"Set-Cookie: id={SET_COOKIE}; Path=/", "Set-Cookie: b=c"]
    images = make()
    # By name: aiohttp's own jar keeps none of an address.
    server.base = server.base.replace("127.0.0.1", "localhost")
    await images.fetch_image(server.on("/a", says(sized(PICTURE, *fields))))
    await images.fetch_image(server.on("/b", says(sized(b"", "Location: /goal", *fields, status="302 Found"))))
    await images.fetch_image(server.base + "/a", policy=CachePolicy.RELOAD)
    assert len(server.requests) == 4
    assert not [request for request in server.requests if "cookie" in request.headers]


@pytest.mark.parametrize("command", ["get", "prefetch"])
async def test_the_command_says_no_secret(server: RawServer, tmp_path: Path, command: str) -> None:
    urls = [with_userinfo(signed(server.on(f"/{n}", handler))) for n, handler in enumerate(ANSWERS.values())]
    listed = tmp_path / "urls.txt"
    listed.write_text("\n".join(urls))
    said = b""
    if command == "prefetch":
        said += await run_command("prefetch", listed, "--allow-private", folder=tmp_path)
    else:
        for url in urls[1:4]:
            said += await run_command("get", url, "-o", tmp_path / "out.png", "--allow-private", folder=tmp_path)
    assert said
    assert MARK.encode() not in said


async def run_command(*arguments: str | Path, folder: Path) -> bytes:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "imagecache.cli.main", *map(str, arguments),
        env={**clean_environment(), "IMAGECACHE_DIR": str(folder / "cache")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await child.communicate()
    return out


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGECACHE_")}


# Users


USERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "partitions": ({"partition": "alice"}, {"partition": "bob"}),
    "a partition and none": ({"partition": "alice"}, {}),
    "tokens": ({"headers": {"Authorization": "Bearer a"}}, {"headers": {"Authorization": "Bearer b"}}),
    "a token and none": ({"headers": {"Authorization": "Bearer a"}}, {}),
    "cookies": ({"headers": {"Cookie": "a=1"}}, {"headers": {"cookie": "a=2"}}),
}


@pytest.mark.parametrize("who", USERS)
async def test_users_are_kept_apart_in_flight_in_memory_and_on_disk(
    server: RawServer, make: MakeManager, tmp_path: Path, who: str
) -> None:
    pictures = [PICTURE, NEXT]
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def one_each(exchange: Exchange) -> None:
        picture = pictures.pop(0)
        if not pictures:
            arrived.set()
        await gate.wait()
        await exchange.send(sized(picture, "Cache-Control: max-age=999"))

    images = make(directory=tmp_path / "cache")
    url = server.on("/a", one_each)
    alice, bob = USERS[who]
    first = asyncio.create_task(images.fetch_image(url, **alice))
    second = asyncio.create_task(images.fetch_image(url, **bob))
    # Both are under way at once: nobody joined the other's flight.
    await arrived.wait()
    gate.set()
    sizes = {(await first).size, (await second).size}
    assert len(sizes) == 2
    assert (await images.fetch_image(url, **alice)).size == first.result().size
    assert (await images.fetch_image(url, **bob)).size == second.result().size
    await images.aclose()
    async with ImageManager(directory=tmp_path / "cache") as later:
        assert (await later.fetch_image(url, **bob)).size == second.result().size
        assert (await later.fetch_image(url, **alice)).size == first.result().size
    assert len(server.requests) == 2


# What is masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a/b", "http://a/b"),
        ("http://a/b?w=80&h=60#x?sig=1", "http://a/b?w=80&h=60#x?sig=1"),
        ("http://u:p@a/b?w=1", "http://a/b?w=1"),
        ("http://a/?Signature=x&Expires=99&Key-Pair-Id=y", "http://a/?Signature=…&Expires=99&Key-Pair-Id=…"),
        ("http://a/?X-Amz-Credential=x&X-Amz-Date=y", "http://a/?X-Amz-Credential=…&X-Amz-Date=…"),
        ("http://a/?sv=1&sig=x%2B&se=2", "http://a/?sv=1&sig=…&se=2"),
        ("http://a/?token=&a&=b", "http://a/?token=&a&=b"),
        (f"http://a/?v={'0af' * 20}", "http://a/?v=…"),
        (f"http://a/?{'0af' * 20}", "http://a/?…"),
        ("http://a/?url=http%3A%2F%2Fb.example%2Fsome%2Flong%2Fpath.png", "http://a/?url=http%3A%2F%2Fb.example%2Fsome%2Flong%2Fpath.png"),
        ("http://a/?q=hello+world&keyword=cat", "http://a/?q=hello+world&keyword=cat"),
    ],
)  # fmt: skip
def test_signatures_are_masked_and_the_rest_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert without_signatures(shown) == shown


def test_fields_that_may_hold_secrets_are_known_by_their_names() -> None:
    secret = ["authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "X-Amz-Security-Token", "apikey"]
    assert all(map(is_secret_field, secret))
    plain = ["Accept", "User-Agent", "ETag", "Vary", "Range", "Content-Type", "Cache-Control", "Date", "Link"]
    assert not any(map(is_secret_field, plain))
