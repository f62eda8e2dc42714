"""The server: nginx over the corpus, or imagecache.testing.ImageServer in a process of its own. Both count requests.

All is served twice: fresh for a day, so that no cache has a reason to ask, and under ``again/`` to be revalidated.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import find_tool

FRESH, AGAIN = "max-age=86400", "no-cache"
_CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
  types {{ image/png png; image/jpeg jpg; image/webp webp; }}
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
  server {{
    listen 127.0.0.1:{port};
    location / {{ root "{folder}"; add_header Cache-Control "{fresh}"; }}
    location /again/ {{ alias "{folder}/"; add_header Cache-Control "{again}"; }}
    location = /status {{ stub_status; }}
  }}
}}
"""


class Origin(Protocol):
    """What serves, and what it has been asked."""

    name: str
    address: str

    def count(self) -> int:
        """The requests since the last call."""


class Nginx:
    """Its own count of requests, less those that asked for it."""

    name = "nginx"

    def __init__(self, port: int) -> None:
        self._port = port
        self._last = 0
        self.address = f"http://127.0.0.1:{port}"

    def count(self) -> int:
        """See Origin."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", "/status")
        told = connection.getresponse().read().decode()
        connection.close()
        numbers = re.search(r"^ (\d+) (\d+) (\d+)", told, re.MULTILINE)
        assert numbers is not None
        total = int(numbers[3])
        count, self._last = total - self._last - 1, total
        return count


class Own:
    """A line asks the process, a line answers."""

    name = "imagecache.testing.ImageServer"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def count(self) -> int:
        """See Origin."""
        assert self._process.stdin is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return int(self._read())


@contextmanager
def serve(folder: Path, base: Path, *, own: bool) -> Iterator[Origin]:
    """Serve a corpus; ``base`` is an empty folder for what nginx writes."""
    binary = None if own else find_tool("nginx")
    with _nginx(binary, folder, base) if binary is not None else _own(folder) as origin:
        yield origin


@contextmanager
def _nginx(binary: str, folder: Path, base: Path) -> Iterator[Origin]:
    # nginx inherits the listening socket, as over its own upgrades: whoever connects early waits in the queue.
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listener:
        port = listener.getsockname()[1]
        configuration = base / "nginx.conf"
        # Started by root, the worker would step down to a user who may not read the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        text = _CONFIGURATION.format(user=user, port=port, folder=folder.resolve(), fresh=FRESH, again=AGAIN)
        configuration.write_text(text)
        process = subprocess.Popen(
            [binary, "-p", f"{base}/", "-c", str(configuration), "-e", str(base / "error.log")],
            stdin=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
        )
    try:
        origin = Nginx(port)
        origin.count()
        yield origin
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def _own(folder: Path) -> Iterator[Origin]:
    line = [sys.executable, "-m", "benchmarks.origin", str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Own(process)
        # Leaving closes its input, which ends it.


def main(folder: Path) -> None:
    """Serve until the input ends; each of its lines asks for the count since the last one."""
    from imagecache.testing import ImageServer

    with ImageServer.in_thread() as server:
        for path in sorted(folder.rglob("*.*")):
            name, body = path.relative_to(folder).as_posix(), path.read_bytes()
            server.add(f"/{name}", body, headers={"Cache-Control": FRESH})
            server.add(f"/again/{name}", body, headers={"Cache-Control": AGAIN})
        print(server.origin, flush=True)
        for _ in sys.stdin:
            count = server.count()
            server.reset()
            print(count, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
