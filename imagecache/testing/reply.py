"""What goes over the wire for one request: a pure function of the resource, the scripted answer and the request.

No sockets here; ``server.py`` sends what this decides.
"""

from __future__ import annotations

import hashlib
import io
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagecache.headers import Headers

from .answer import Answer
from .conditions import http_date, judge_conditions, judge_range

if TYPE_CHECKING:
    from .answer import Content

FIRST_MODIFIED = 1_700_000_000.0
"""When every resource was first made: a fixed date, so that a test's header fields are the same every day."""

_SECONDS_A_VERSION = 3600

_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
)


@dataclass(frozen=True, slots=True)
class Resource:
    """What lies at a path: a version of a body, and what is said about it."""

    path: str
    body: bytes
    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    fixed_etag: str | bool = True
    fixed_last_modified: float | bool = True
    version: int = 1

    @property
    def etag(self) -> str | None:
        """The entity-tag of this version: two versions never share one, not even for the same bytes."""
        if isinstance(self.fixed_etag, str):
            return self.fixed_etag
        return f'"{self.version:x}-{hashlib.sha256(self.body).hexdigest()[:16]}"' if self.fixed_etag else None

    @property
    def last_modified(self) -> float | None:
        """Epoch seconds; an hour later with every version."""
        if not isinstance(self.fixed_last_modified, bool):
            return self.fixed_last_modified
        return FIRST_MODIFIED + self.version * _SECONDS_A_VERSION if self.fixed_last_modified else None

    def next_version(self, body: bytes) -> Resource:
        """The version that follows: a fixed ETag or date cannot stay, or nobody could tell the two apart."""
        return replace(
            self,
            body=body,
            version=self.version + 1,
            fixed_etag=bool(self.fixed_etag),
            fixed_last_modified=self.fixed_last_modified is not False,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A decided answer: ``removed`` names the fields that must not be sent, not even by the HTTP library."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    removed: frozenset[str] = frozenset()


def decide_reply(resource: Resource | None, answer: Answer, method: str, fields: Mapping[str, str]) -> Reply:
    """How the request is answered: the script first, then conditions and ranges (RFC 9110, 13.2.2)."""
    if method not in ("GET", "HEAD"):
        return _reply(405, {"Allow": "GET, HEAD"}, b"")
    if resource is None and answer.status is None and answer.content is None:
        return _reply(404, answer.headers, b"")
    if resource is None:
        resource = Resource("", b"", fixed_etag=answer.content is not None, fixed_last_modified=False)
    if answer.content is not None:
        resource = replace(resource, body=encode(answer.content, "PNG"))
    status = answer.status or resource.status
    is_own = answer.status is None or 200 <= answer.status < 300 or answer.status == 304
    etag = (resource.etag if is_own else None) if answer.etag is True else answer.etag
    last_modified = resource.last_modified if is_own else None
    said = {**(resource.headers if is_own else {}), **answer.headers}
    about: dict[str, str | None] = {
        "ETag": etag,
        "Last-Modified": http_date(last_modified) if last_modified is not None else None,
    }
    body = resource.body if is_own or answer.content is not None else b""
    # 13.2.1: conditions are ignored where the answer without them would not have been a 2xx.
    if 200 <= status < 300 and not answer.ignores_conditions:
        status = judge_conditions(method, fields, etag=etag, last_modified=last_modified) or status
    if status in (304, 412):
        return _reply(status, {**about, **_without_content_fields(said)}, b"")
    if body:
        about["Content-Type"] = media_type(body, resource.path)
    if status == 200 and method == "GET" and not answer.ignores_ranges:
        wanted = judge_range(fields, len(body), etag=etag, last_modified=last_modified)
        if wanted is not None and not wanted:
            return _reply(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        if wanted is not None:
            about["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(body)}"
            status, body = 206, body[wanted.start : wanted.stop]
    return _reply(status, {**about, **said}, body)


def encode(content: Content, format: str) -> bytes:
    """The bytes of what a test gives as content. An image is written in ``format``, a file is read."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, Path):
        return content.read_bytes()
    target = io.BytesIO()
    content.save(target, format)
    return target.getvalue()


def media_type(body: bytes, path: str) -> str:
    """The media type by what the bytes are, else by the path's suffix."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    for magic, name in _MAGIC:
        if body.startswith(magic):
            return name
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _without_content_fields(fields: Mapping[str, str | None]) -> dict[str, str | None]:
    # 15.4.5: a 304 carries no representation metadata but what guides the cache.
    kept = ("content-location",)
    return {n: v for n, v in fields.items() if not n.lower().startswith("content-") or n.lower() in kept}


def _reply(status: int, fields: Mapping[str, str | None], body: bytes) -> Reply:
    values: dict[str, tuple[str, str | None]] = {}
    for name, value in fields.items():
        values[name.lower()] = (name, value)
    present = [(name, value) for name, value in values.values() if value is not None]
    removed = frozenset(low for low, (_, value) in values.items() if value is None)
    return Reply(status, Headers(present), body, removed)


def normal_etag(etag: str | Literal[True, False]) -> str | bool:
    """An ETag as it is sent: quotes are added where a test left them out."""
    if isinstance(etag, bool) or etag.startswith(('"', 'W/"')):
        return etag
    return f'"{etag}"'
