"""A server far away: ImageServer with TLS in a process of its own, behind relays that add the round trips.

A relay delays every piece of bytes by half a round trip in each direction; when a piece is due is noted as it comes, so
that order and throughput stay. What loopback does for nothing is added as well: a connection is open to the client at
once, so nothing that it sends leaves before a whole round trip, that of SYN and SYN-ACK, is over. To the client this
looks like a longer TLS handshake. A new connection thus takes three round trips to the first byte of an answer, TCP,
TLS 1.3 and the request, and one that is there takes one. Slow start, loss and a narrow line are not imitated.

Each host is a relay on a port of its own, since loopback is a single address on some systems.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Self, TypedDict

HOSTS = ("one.example", "two.example", "three.example")
CHUNK = 2**16


class Counts(TypedDict):
    """What the server has seen since it was last asked."""

    connections: dict[str, int]
    """Opened, by host."""
    requests: dict[str, int]
    handshakes: int
    """Of TLS, that succeeded."""
    resumed: int
    """Those of them that went on with an earlier session."""


class Relay:
    """Carries connections to a port of loopback as if it were ``round_trip`` seconds away."""

    def __init__(self, port: int, round_trip: float) -> None:
        self.connections = 0
        self._target = port
        self._round_trip = round_trip
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        self.connections += 1
        # A task of our own: one that asyncio makes of this is reported by it, before Python 3.12, when it is cancelled.
        task = asyncio.create_task(self._relay(near, to_near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        opened_at = asyncio.get_running_loop().time() + self._round_trip
        far, to_far = await asyncio.open_connection("127.0.0.1", self._target)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._carry(near, to_far, opened_at))
            both.create_task(self._carry(far, to_near, opened_at))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, opened_at: float) -> None:
        """One direction, until its source ends."""
        loop = asyncio.get_running_loop()
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await on_the_way.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                sink.write(data)
            sink.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(arrive())
            data = b"anything"
            while data:
                try:
                    data = await source.read(CHUNK)
                except ConnectionError:
                    data = b""
                on_the_way.put_nowait((max(loop.time(), opened_at) + self._round_trip / 2, data))


class FarServer:
    """The process, as its parent sees it: a line asks, a line of JSON answers."""

    def __init__(self, process: subprocess.Popen[str], authority: Path) -> None:
        self.authority = authority
        """PEM of the certificate that has to be trusted."""
        self._process = process
        self._ports: dict[str, int] = json.loads(self._read())

    def urls(self, files: Sequence[Path], hosts: int = 1) -> list[str]:
        """The files, from so many hosts in turn."""
        names = HOSTS[:hosts]
        return [
            f"https://{host}:{self._ports[host]}/{file.name}"
            for host, file in zip((names[number % hosts] for number in range(len(files))), files, strict=True)
        ]

    def counts(self) -> Counts:
        """What has come since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        counts: Counts = json.loads(self._read())
        return counts

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def serve(folder: Path, scratch: Path, round_trip: float) -> Iterator[FarServer]:
    """Serve the files of a folder, ``round_trip`` seconds away, under a certificate made for this time."""
    try:
        import trustme
    except ImportError:
        raise SystemExit("the certificates need trustme, which is not installed: pip install trustme") from None
    authority, pem, trusted = trustme.CA(), scratch / "server.pem", scratch / "authority.pem"
    authority.issue_cert(*HOSTS).private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(trusted)
    line = [sys.executable, "-m", "benchmarks.far_server", str(folder), str(pem), str(round_trip)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(line, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield FarServer(process, trusted)
        # Leaving closes its input, which ends it.


async def run(files: Mapping[str, bytes], pem: Path, round_trip: float) -> None:
    """Serve until the input ends; each of its lines asks for the counts since the one before."""
    from imagecache.testing import ImageServer

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ImageServer(ssl=context))
        for name, body in files.items():
            server.add(f"/{name}", body, headers={"Cache-Control": "max-age=86400"})
        port = int(server.origin.rpartition(":")[2])
        relays = {host: await stack.enter_async_context(Relay(port, round_trip)) for host in HOSTS}
        print(json.dumps({host: relay.port for host, relay in relays.items()}), flush=True)
        handshakes = resumed = 0
        while await asyncio.to_thread(sys.stdin.readline):
            stats, before = context.session_stats(), (handshakes, resumed)
            handshakes, resumed = stats["accept_good"], stats["hits"]
            asked = Counter(str(request.headers["host"]).partition(":")[0] for request in server.requests)
            counts = Counts(
                connections={host: relay.connections for host, relay in relays.items()},
                requests={host: asked[host] for host in relays},
                handshakes=handshakes - before[0],
                resumed=resumed - before[1],
            )
            server.reset()
            for relay in relays.values():
                relay.connections = 0
            print(json.dumps(counts), flush=True)


def main(folder: Path, pem: Path, round_trip: float) -> None:
    """Serve a folder's files."""
    asyncio.run(run({path.name: path.read_bytes() for path in folder.iterdir()}, pem, round_trip))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
