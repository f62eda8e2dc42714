"""Which addresses are visited: every spelling of every range, at the resolver and at the socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import aiohttp
import pytest
from hypothesis import given, strategies as st

from imagecache.errors import AddressRefusedError, ConnectionFailedError, InvalidURLError
from imagecache.network.guard import AddressGuard, embedded, is_always_refused, is_global
from imagecache.network.settings import NetworkOptions
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, RawServer

LINK_LOCAL = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%1", "febf::1", "fd00:ec2::254", "fd20:ce::254",
    "100.100.100.200",
    "::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "::169.254.169.254", "64:ff9b::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001:0:1:1:0:0:5601:5601",
    "2400:cb00::5efe:a9fe:a9fe", "2400:cb00::200:5efe:a9fe:a9fe",
]  # fmt: skip

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "::127.0.0.1", "::8.8.8.8",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:10::1", "2001:20::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "2400:cb00::5efe:10.0.0.1", "3fff::1", "5f00::1", "fc00::1",
    "fd12:3456::1", "fec0::1", "ff02::1", "4000::1",
]  # fmt: skip

GLOBAL = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize("address", LINK_LOCAL)
def test_link_local_is_refused_in_every_spelling_unless_named(address: str) -> None:
    refusal = AddressGuard().refusal(None, address)
    assert refusal is not None
    assert "allow_addresses" in refusal
    assert AddressGuard(block_private=True).refusal(None, address) is not None
    assert AddressGuard(allow=[address.partition("%")[0]]).refusal(None, address.partition("%")[0]) is None
    assert AddressGuard(allow=["metadata.example"]).refusal("metadata.example", address) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_by_option_in_every_spelling(address: str) -> None:
    assert AddressGuard().refusal(None, address) is None
    refusal = AddressGuard(block_private=True).refusal(None, address)
    assert refusal is not None
    assert "block_private=False" in refusal
    assert "--allow-private" in refusal


@pytest.mark.parametrize("address", GLOBAL)
def test_global_addresses_are_visited(address: str) -> None:
    assert AddressGuard(block_private=True).refusal(None, address) is None


def test_networks_and_hosts_are_allowed_by_name() -> None:
    guard = AddressGuard(block_private=True, allow=["192.168.0.0/16", "NAS.local.", "fd00::/8"])
    assert guard.refusal(None, "192.168.4.5") is None
    assert guard.refusal(None, "::ffff:192.168.4.5") is None
    assert guard.refusal(None, "fd00::5") is None
    assert guard.refusal("nas.LOCAL", "10.0.0.1") is None
    assert guard.refusal("other.local", "10.0.0.1") is not None
    assert guard.refusal("other.local", "2002:c0a8:405::") is not None


@pytest.mark.parametrize("text", ["", "a b", "http://a", "10.0.0.0/99", "1.2.3", "*.example"])
def test_an_allow_list_says_what_it_cannot_read(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        NetworkOptions(allow_addresses=(text,))


def test_what_is_no_address_is_refused() -> None:
    assert AddressGuard().refusal("a", "not-an-address") is not None


@given(st.ip_addresses(v=4))
def test_an_embedding_is_judged_as_what_it_embeds(inner: IPv4Address) -> None:
    number = int(inner)
    mapped = IPv6Address(0xFFFF << 32 | number)
    nat64 = IPv6Address(0x64FF9B << 96 | number)
    six_to_four = IPv6Address(0x2002 << 112 | number << 80)
    for outer in (mapped, nat64, six_to_four):
        assert inner in embedded(outer)
        assert is_global(outer) == is_global(inner)
        assert is_always_refused(outer) == is_always_refused(inner)


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_never_global(ip: IPv4Address | IPv6Address) -> None:
    if ip.is_loopback or ip.is_multicast or ip.is_link_local or ip.is_unspecified:
        assert not is_global(ip)
    if is_always_refused(ip) and not tuple(embedded(ip)):
        assert not is_global(ip)


# On the way to a connection


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost"])
async def test_private_hosts_are_refused_before_a_connection(
    server: RawServer, make: MakeDownloader, host: str
) -> None:
    port = server.base.rpartition(":")[2]
    downloader = make(NetworkOptions(block_private=True))
    with pytest.raises(AddressRefusedError, match="block_private"):
        await downloader.download(f"http://{host}:{port}/a")
    assert not server.connections


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "017700000001", "127.0.0.1.", "①②⑦.0.0.1"])
async def test_odd_spellings_reach_nothing(server: RawServer, make: MakeDownloader, host: str) -> None:
    port = server.base.rpartition(":")[2]
    downloader = make(NetworkOptions(block_private=True))
    with pytest.raises((AddressRefusedError, InvalidURLError, ConnectionFailedError)):
        await downloader.download(f"http://{host}:{port}/a")
    assert not server.connections


async def test_link_local_is_refused_by_default_and_private_is_not(server: RawServer, make: MakeDownloader) -> None:
    downloader = make()
    with pytest.raises(AddressRefusedError, match="link-local"):
        await downloader.download("http://169.254.169.254/latest/meta-data/")
    assert (await downloader.download(server.serve("/a"))).body == PNG


async def test_a_redirect_is_guarded_too(server: RawServer, make: MakeDownloader) -> None:
    url = server.serve("/a", b"", status=302, headers={"Location": "http://169.254.169.254/"})
    with pytest.raises(AddressRefusedError) as caught:
        await make().download(url)
    assert caught.value.url == url


async def test_what_is_allowed_by_name_is_visited(server: RawServer, make: MakeDownloader) -> None:
    server.serve("/a")
    by_network = make(NetworkOptions(block_private=True, allow_addresses=("127.0.0.0/8",)))
    assert (await by_network.download(server.base + "/a")).body == PNG
    by_name = make(NetworkOptions(block_private=True, allow_addresses=("localhost",)))
    assert (await by_name.download(server.base.replace("127.0.0.1", "localhost") + "/a")).body == PNG
    with pytest.raises(AddressRefusedError):
        # The name is allowed, its address under another name is not.
        await by_name.download(server.base + "/a")


def _resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_that_resolves_to_a_refused_address_is_refused(
    server: RawServer, make: MakeDownloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves_to(monkeypatch, "169.254.169.254")
    with pytest.raises(AddressRefusedError, match=r"innocent\.example \(169\.254\.169\.254\)"):
        await make().download("http://innocent.example/a")


async def test_of_several_addresses_only_the_allowed_ones_are_tried(
    server: RawServer, make: MakeDownloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves_to(monkeypatch, "169.254.169.254", "127.0.0.1")
    url = server.serve("/a").replace("127.0.0.1", "mixed.example")
    assert (await make().download(url)).body == PNG


async def test_with_an_injected_session_or_a_proxy_it_says_that_it_cannot_guard(
    server: RawServer, make: MakeDownloader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with aiohttp.ClientSession() as session:
        downloader = make(NetworkOptions(block_private=True), session=session)
        assert "not guarded" in caplog.text
        # Literals can be seen all the same.
        with pytest.raises(AddressRefusedError):
            await downloader.download(server.serve("/a"))
    caplog.clear()
    make(NetworkOptions(block_private=True, trust_env=True))
    assert "proxy" in caplog.text


async def test_a_proxy_of_the_environment_is_used_only_when_trusted(
    server: RawServer, make: MakeDownloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The proxy may well have a private address: it is the user's own choice.
    monkeypatch.setenv("http_proxy", server.base.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("no_proxy", "")
    server.serve("http://far.example/a")
    downloader = make(NetworkOptions(block_private=True, trust_env=True))
    assert (await downloader.download("http://far.example/a")).body == PNG
    _resolves_to(monkeypatch, "127.0.0.1")
    server.serve("/b")
    port = server.base.rpartition(":")[2]
    assert (await make().download(f"http://far.example:{port}/b")).body == PNG
    assert server.paths() == ["http://far.example/a", "/b"]
