"""What a server has seen of one request. A record that is filled in while the request goes on."""

from __future__ import annotations

from dataclasses import dataclass

from imagecache.headers import Headers


@dataclass(slots=True)
class LoggedRequest:
    """One request, in the order of arrival, and what became of it.

    ``target`` is the path with its query, as sent; ``path`` the same without the query. ``time`` is
    wall seconds by the server's clock. ``connection`` is the client's port: equal numbers mean one
    connection. ``status`` is 0 until the head of the answer is sent. ``body_bytes_sent`` counts what was
    given to the socket. ``disconnected`` says that the client left before the answer was complete.
    """

    method: str
    target: str
    headers: Headers
    time: float
    connection: int = 0
    status: int = 0
    body_bytes_sent: int = 0
    disconnected: bool = False
    is_done: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]
