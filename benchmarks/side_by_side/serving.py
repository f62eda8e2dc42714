"""The server in a process of its own: nginx, or imagecache.testing's where nginx is absent. It counts its requests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagecache.testing import Answer, ImageServer

_NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {base}/nginx.pid;
error_log {base}/error.log;
events {{ worker_connections 512; }}
http {{
  types {{ image/png png; image/jpeg jpg; image/webp webp; }}
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {base}/temp; proxy_temp_path {base}/temp; fastcgi_temp_path {base}/temp;
  uwsgi_temp_path {base}/temp; scgi_temp_path {base}/temp;
  server {{ listen 127.0.0.1:{port}; root {root}; location = /counted {{ stub_status; }} }}
}}
"""


@dataclass(slots=True)
class Server:
    """``name`` says which it is; ``base`` is the URL of its root."""

    name: str
    base: str
    _asked: int = 0

    def requests(self) -> int:
        """How many requests came since the last call."""
        with urllib.request.urlopen(f"{self.base}/counted", timeout=10) as answer:
            text = answer.read().decode()
        # nginx tells accepted, handled, requests; ours tells one number. Both count these questions, too.
        total = int(text.split("\n")[2].split()[2]) if self.name == "nginx" else int(text)
        new, self._asked = total - self._asked - 1, total
        return new


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server over a folder, for as long as this lasts."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    with _ours(folder) if binary is None else _nginx(binary, folder) as server:
        server.requests()
        yield server


@contextlib.contextmanager
def _nginx(binary: str, folder: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as base, socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        # Started by root, the worker would step down to a user who may not read the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = Path(base) / "nginx.conf"
        configuration.write_text(_NGINX.format(base=base, port=port, root=folder.resolve(), user=user))
        command = [binary, "-p", base, "-c", str(configuration), "-e", f"{base}/error.log"]
        environment = {**os.environ, "NGINX": f"{listener.fileno()};"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(listener.fileno(),), env=environment)
        with _ended(process):
            yield Server("nginx", f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def _ours(folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", __spec__.name, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with _ended(process):
        assert process.stdout is not None
        yield Server("imagecache.testing.ImageServer", process.stdout.readline().decode().strip())


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """Serve a folder until standard input ends."""
    folder = Path(sys.argv[1])
    with ImageServer.in_thread() as server:
        for path in folder.rglob("*.*"):
            server.add(f"/{path.relative_to(folder).as_posix()}", path.read_bytes())
        server.always("/counted", lambda _: Answer(status=200, content=str(server.count()).encode()))
        print(server.origin, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
