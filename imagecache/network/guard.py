"""Which addresses may be visited: pure decisions over addresses and names. No sockets, no resolving; who connects asks.

The tables are written out, from the IANA special-purpose address registries, since ``ipaddress.is_global`` changed
its mind between Python versions (6to4, NAT64, multicast and site-local were "global" in 3.11).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# RFC 3927, RFC 4291 2.5.6; then the metadata services that clouds keep outside of the link-local ranges:
# Amazon, Google and Oracle over IPv6, Alibaba over IPv4.
_ALWAYS_REFUSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "fd00:c1::a9fe:a9fe/128",
        "100.100.100.200/32",
    )
)

_NOT_GLOBAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_NOT_GLOBAL_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))

_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # RFC 7915
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1, deprecated
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_ISATAP_IDS = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214, 6.1


class AddressGuard:
    """Says whether an address may be connected to, and if not, why and which option says otherwise."""

    def __init__(self, *, block_private: bool = False, allow: Iterable[str] = ()) -> None:
        self.block_private = block_private
        self._hosts, self._networks = parse_allowed(allow)

    def refusal(self, host: str | None, address: str) -> str | None:
        """Why ``address``, which ``host`` resolved to or is, may not be visited; None if it may.

        An address that cannot be read is refused.
        """
        if host is not None and normal_host(host) in self._hosts:
            return None
        try:
            ip = ip_address(address)
        except ValueError:
            return f"{address!r} is no address that can be judged"
        if _is_in((ip, *_same_machine(ip)), self._networks):
            return None
        told = address if host is None or host == address else f"{host} ({address})"
        if is_always_refused(ip):
            return (
                f"{told} is a link-local address, where clouds keep their secrets; "
                "name it in allow_addresses to visit it"
            )
        if self.block_private and not is_global(ip):
            return (
                f"{told} is a private or special address, and block_private is on; "
                "name it in allow_addresses, or allow all with block_private=False (--allow-private)"
            )
        return None


def parse_allowed(allow: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    """The hosts and the networks of an allow-list; ValueError for what is neither."""
    hosts, networks = set(), []
    for text in allow:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            host = normal_host(text)
            if not host or any(c in host for c in "/:@*? ") or host.replace(".", "").isdigit():
                raise ValueError(f"{text!r} is neither a host name nor a network such as '192.168.1.0/24'") from None
            hosts.add(host)
    return frozenset(hosts), tuple(networks)


def normal_host(host: str) -> str:
    """A host name for comparing: lower case, without the root's dot."""
    return host.lower().rstrip(".")


def is_always_refused(ip: Address) -> bool:
    """Whether this is a link-local or metadata address, or carries one."""
    return _is_in((ip, *embedded(ip)), _ALWAYS_REFUSED)


def is_global(ip: Address) -> bool:
    """Whether the whole Internet reaches this address, and nothing nearer is reached by it."""
    if isinstance(ip, IPv4Address):
        return not any(ip in net for net in _NOT_GLOBAL_V4)
    inner = tuple(embedded(ip))
    if ip in _MAPPED or ip in _NAT64 or ip in _SIX_TO_FOUR:
        return all(is_global(a) for a in inner)
    outer = ip in _GLOBAL_UNICAST_V6 and not any(ip in net for net in _NOT_GLOBAL_V6)
    return outer and all(is_global(a) for a in inner)


def embedded(ip: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(ip, IPv4Address):
        return
    value = int(ip)
    low = value & 0xFFFF_FFFF
    if any(ip in net for net in (_MAPPED, _TRANSLATED, _COMPATIBLE, _NAT64, _NAT64_LOCAL)):
        yield IPv4Address(low)
    if ip in _SIX_TO_FOUR:
        yield IPv4Address((value >> 80) & 0xFFFF_FFFF)
    if ip in _TEREDO:
        yield IPv4Address((value >> 64) & 0xFFFF_FFFF)
        yield IPv4Address(low ^ 0xFFFF_FFFF)
    if (value >> 32) & 0xFFFF_FFFF in _ISATAP_IDS:
        yield IPv4Address(low)


def _same_machine(ip: Address) -> Iterator[Address]:
    """Other spellings of the very address, which an allowed network covers too."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        yield ip.ipv4_mapped


def _is_in(addresses: tuple[Address, ...], networks: Iterable[Network]) -> bool:
    return any(a.version == net.version and a in net for net in networks for a in addresses)
