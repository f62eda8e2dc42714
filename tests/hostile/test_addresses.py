"""Which addresses are connected to: every hop, every spelling, and names that change their mind."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import aiohttp
import pytest

from imagecache import ImageManager
from imagecache.errors import AddressRefusedError, ConnectionFailedError, ImageCacheError, InvalidURLError
from imagecache.network.connector import GuardedResolver
from imagecache.network.downloader import ImageDownloader
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions
from tests.hostile.conftest import MakeManager
from tests.hostile.wire import NEXT, PICTURE, says, sized
from tests.network.server import RawServer

ALLOWED = "allowed.example"


class Names:
    """What the system's resolver says, name by name; each answer of a list in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    async def getaddrinfo(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "",
             (a, port, 0, 0) if ":" in a else (a, port))
            for a in addresses
        ]  # fmt: skip


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    table = Names()

    async def getaddrinfo(self: object, host: str, port: int, **options: Any) -> list[Any]:
        return await table.getaddrinfo(host, port, **options)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return table


def port_of(server: RawServer) -> str:
    return server.base.rpartition(":")[2]


def guarded(make: MakeManager, **options: Any) -> ImageManager:
    """Refuses all that is private but one host by its name: where the hostile answers come from."""
    return make(block_private=True, allow_addresses=(ALLOWED, *options.pop("allow", ())), **options)


SPELLINGS = [
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1",
    "127.000.000.001", "①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "%31%32%37.0.0.1",
    "0.0.0.0", "0", "00", "localhost", "LOCALHOST.",
    "localhost.localdomain", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2001:0:808:808::80ff:fffe]", "[fe80::5efe:7f00:1]",
    "[2400:cb00::5efe:127.0.0.1]", "[fc00::1]", "[fec0::1]", "[ff02::1]", "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]",
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "192.0.0.1",
    "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_a_private_address_is_reached_directly_or_by_redirect(
    server: RawServer, make: MakeManager, names: Names, host: str
) -> None:
    # Whatever spelling gets as far as the resolver would be understood there.
    plain = host.strip("[]").lower()
    names.answers = {ALLOWED: [["127.0.0.1"]], host: [["127.0.0.1"]], plain: [["127.0.0.1"]]}
    server.on("/goal", says(sized()))
    goal = f"http://{host}:{port_of(server)}/goal"
    images = guarded(make)
    with pytest.raises((AddressRefusedError, InvalidURLError, ConnectionFailedError)):
        await images.fetch_image(goal)
    assert not server.connections
    location = goal.encode().decode("latin-1")
    server.on("/hop", says(sized(b"", f"Location: {location}", status="302 Found")))
    hop = f"http://{ALLOWED}:{port_of(server)}/hop"
    with pytest.raises(ImageCacheError) as caught:
        await images.fetch_image(hop)
    assert caught.value.url == hop
    assert [request.target for request in server.requests] == ["/hop"]


@pytest.mark.parametrize("hops", [1, 2, 5])
async def test_each_hop_is_guarded(server: RawServer, make: MakeManager, names: Names, hops: int) -> None:
    names.answers = {ALLOWED: [["127.0.0.1"]], "inside.example": [["10.0.0.7"]]}
    for hop in range(hops):
        goal = f"/{hop + 1}" if hop + 1 < hops else f"http://inside.example:{port_of(server)}/secret"
        server.on(f"/{hop}", says(sized(b"", f"Location: {goal}", status="302 Found")))
    with pytest.raises(AddressRefusedError, match=r"inside\.example \(10\.0\.0\.7\)"):
        await guarded(make).fetch_image(f"http://{ALLOWED}:{port_of(server)}/0")
    assert len(server.requests) == hops


async def test_a_name_that_moves_to_a_private_address_is_refused_from_then_on(server: RawServer, names: Names) -> None:
    # The first answer stands for a public server: it is the one address that the list allows.
    names.answers = {"rebinds.example": [["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"], ["::1"], ["127.0.0.1"]]}
    options = NetworkOptions(block_private=True, allow_addresses=("127.0.0.1/32",))
    downloader = ImageDownloader(options, retry=BackoffRetryStrategy(1))
    url = f"http://rebinds.example:{port_of(server)}/a"
    server.on("/a", says(sized(PICTURE, "Connection: close")))
    try:
        assert (await downloader.download(url)).body == PICTURE
        for _ in range(3):
            forget_names(downloader)
            with pytest.raises(AddressRefusedError):
                await downloader.download(url)
        forget_names(downloader)
        assert (await downloader.download(url)).body == PICTURE
    finally:
        await downloader.aclose()
    assert len(server.requests) == 2


def forget_names(downloader: ImageDownloader) -> None:
    """As after the time that an answer of the resolver is kept for."""
    assert downloader._session is not None
    connector = downloader._session.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    connector.clear_dns_cache()


async def test_a_resolver_that_says_one_thing_and_means_another_is_caught_at_the_socket(
    server: RawServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is looked at once more where the socket is made, so no answer kept somewhere goes round it."""

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(GuardedResolver, "resolve", resolve)
    downloader = ImageDownloader(NetworkOptions(block_private=True), retry=BackoffRetryStrategy(1))
    try:
        with pytest.raises(AddressRefusedError):
            await downloader.download(f"http://rebinds.example:{port_of(server)}/a")
    finally:
        await downloader.aclose()
    assert not server.connections


async def test_an_address_is_resolved_once_for_looking_and_connecting(
    server: RawServer, make: MakeManager, names: Names
) -> None:
    names.answers = {"twice.example": [["127.0.0.1"], ["127.0.0.9"]]}
    server.on("/a", says(sized()))
    url = f"http://twice.example:{port_of(server)}/a"
    assert await guarded(make, allow=["127.0.0.1/32"]).fetch_data(url) == PICTURE
    assert names.asked == ["twice.example"]


async def test_of_mixed_answers_only_the_good_ones_are_tried(
    server: RawServer, make: MakeManager, names: Names
) -> None:
    names.answers = {"mixed.example": [["10.0.0.1", "169.254.169.254", "::1", "127.0.0.1", "fe80::1"]]}
    server.on("/a", says(sized()))
    url = f"http://mixed.example:{port_of(server)}/a"
    assert await guarded(make, allow=["127.0.0.1"]).fetch_data(url) == PICTURE


@pytest.mark.parametrize(
    ("allow", "is_allowed"),
    [
        ("127.0.0.0/8", True), ("127.0.0.1", True), ("friend.example", True), ("FRIEND.example.", True),
        ("::ffff:127.0.0.1", False), ("127.0.0.2", False), ("example", False), ("friend.example.evil", False),
        ("10.0.0.0/8", False), ("::/0", False), ("evil.friend.example", False),
    ],
)  # fmt: skip
async def test_the_allow_list_means_what_it_says(
    server: RawServer, make: MakeManager, names: Names, allow: str, is_allowed: bool
) -> None:
    names.answers = {"friend.example": [["127.0.0.1"]]}
    server.on("/a", says(sized()))
    images = make(block_private=True, allow_addresses=(allow,))
    url = f"http://friend.example:{port_of(server)}/a"
    if is_allowed:
        assert await images.fetch_data(url) == PICTURE
    else:
        with pytest.raises(AddressRefusedError):
            await images.fetch_data(url)
        assert not server.connections


async def test_a_name_in_the_allow_list_does_not_open_the_address_to_others(
    server: RawServer, make: MakeManager, names: Names
) -> None:
    names.answers = {ALLOWED: [["127.0.0.1"]], "evil.example": [["127.0.0.1"]]}
    server.on("/a", says(sized()))
    images = guarded(make)
    assert await images.fetch_data(f"http://{ALLOWED}:{port_of(server)}/a") == PICTURE
    # Not even over a connection that is open already.
    with pytest.raises(AddressRefusedError):
        await images.fetch_data(f"http://evil.example:{port_of(server)}/a")


async def test_link_local_is_refused_by_name_too_without_any_option(
    server: RawServer, make: MakeManager, names: Names
) -> None:
    names.answers = {"metadata.example": [["169.254.169.254"]], "here.example": [["127.0.0.1"]]}
    images = make()
    with pytest.raises(AddressRefusedError, match="allow_addresses"):
        await images.fetch_image("http://metadata.example/latest/meta-data/")
    server.on("/a", says(sized()))
    assert await images.fetch_data(f"http://here.example:{port_of(server)}/a") == PICTURE


async def test_untrusted_blocks_private_addresses(server: RawServer, tmp_path: Any) -> None:
    async with ImageManager.untrusted(directory=tmp_path) as images:
        with pytest.raises(AddressRefusedError, match="block_private"):
            await images.fetch_image(server.on("/a", says(sized())))
    assert not server.connections


# Where it cannot guard


async def test_a_session_of_ones_own_works_and_its_owner_is_told_what_is_lost(
    server: RawServer, make: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as session:
        images = make(session=session)
        (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        for lost in ("link-local", "cookies", "idle"):
            assert lost in warning.getMessage()
        assert await images.fetch_data(server.on("/a", says(sized()))) == PICTURE
        assert await images.fetch_data(server.on("/b", says(sized(NEXT)))) == NEXT
        with pytest.raises(AddressRefusedError):
            await images.fetch_data("http://169.254.169.254/")
        await images.aclose()
        assert not session.closed


async def test_with_block_private_the_owner_of_a_session_is_told_louder(
    make: MakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as session:
        make(session=session, block_private=True)
        assert "block_private is on, but a session of your own" in caplog.text


async def test_a_proxy_of_the_environment_is_said_to_be_unguarded(caplog: pytest.LogCaptureFixture) -> None:
    ImageDownloader(NetworkOptions(block_private=True, trust_env=True))
    assert "a proxy" in caplog.text
    assert "not guarded" in caplog.text
