"""nginx as an ordinary process of this user: a folder, a free port, an access log that can be read as values."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid {base}/nginx.pid;
error_log {base}/error.log;
events {{ worker_connections 256; }}
http {{
  types {{ image/png png; image/jpeg jpg; image/gif gif; image/tiff tif; }}
  default_type application/octet-stream;
  log_format json escape=json
    '{{"path": "$uri", "status": $status, "body_bytes": $body_bytes_sent, "if_none_match": "$http_if_none_match"}}';
  access_log {base}/access.log json;
  client_body_temp_path {base}/temp; proxy_temp_path {base}/temp; fastcgi_temp_path {base}/temp;
  uwsgi_temp_path {base}/temp; scgi_temp_path {base}/temp;
  server {{ listen 127.0.0.1:{port}; root {base}/www; }}
}}
"""
_SENTINEL = "/sentinel"


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the access log."""

    path: str
    status: int
    body_bytes: int
    if_none_match: str


class Nginx:
    """nginx over ``folder``, from entering ``with`` to leaving it."""

    def __init__(self, binary: str, base: Path) -> None:
        self.folder = base / "www"
        self.folder.mkdir(parents=True)
        self._base = base
        self._binary = binary
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # nginx inherits the listening socket, as over its own upgrades: the port is never free for others, and
        # whoever connects before nginx is ready waits in the queue instead of being refused.
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            self._port = listener.getsockname()[1]
            configuration = self._base / "nginx.conf"
            # Started by root, the worker would step down to a user who may not read the test's folder.
            user = "user root;" if os.geteuid() == 0 else ""
            configuration.write_text(_CONFIGURATION.format(base=self._base, port=self._port, user=user))
            errors = str(self._base / "error.log")
            self._process = subprocess.Popen(
                [self._binary, "-p", str(self._base), "-c", str(configuration), "-e", errors],
                stdin=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=10)

    def url(self, name: str) -> str:
        """The URL of a file of the folder."""
        return f"http://127.0.0.1:{self._port}/{name}"

    def accesses(self) -> list[Access]:
        """What nginx has answered since the last call."""
        # nginx writes a line just after the answer has gone out. It is one thread: once it has answered
        # one more request, the lines of all earlier ones are written.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", _SENTINEL)
        connection.getresponse().read()
        connection.close()
        log = self._base / "access.log"
        accesses = [Access(**json.loads(line)) for line in log.read_text().splitlines()]
        os.truncate(log, 0)
        return [access for access in accesses if access.path != _SENTINEL]
