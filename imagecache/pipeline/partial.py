"""Beginnings of images that broke off, kept on disk between calls and over a crash.

Each stretch that came is a row of the namespace "partial" with a checksum of its own, so that nothing is written twice
and a crash loses only what was not given to be kept yet. They count, are evicted and removed like everything else, and
are put together when the same request is about to be sent again. A row of that namespace whose status is 200 is one
of these; a 206 is an answer to somebody's own Range.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import hmac
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from ..entry import Entry
from ..headers import Headers
from ..http.ranges import announced_part
from ..http.resuming import resume_validator
from ..http.storing import VaryFields, forbids_storing, vary_fields
from ..keys import checksum_of
from ..metrics import Metrics
from ..network.body import Body, SpoolFile
from ..network.download import Download
from ..network.part import Part
from ..request import CachePolicy, DownloadRequest, ImageRequest
from .answers import Answers
from .cached import Stamp
from .parts import Parts
from .stored import StoredAnswers

logger = logging.getLogger("imagecache")

KEPT_FOR = 86_400.0
"""Seconds for which a beginning is kept: whoever has not come back for it by then starts anew."""

_DIGEST_LENGTH = 32
_NEVER_FOUND = (CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)


class Keeping:
    """What is on its way to the disk. It outlives the call that broke off, and a manager's closing waits for it."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    def start(self, key_hash: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it behind, in an empty context."""
        task = asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())
        self._tasks.setdefault(key_hash, set()).add(task)
        task.add_done_callback(functools.partial(self._ended, key_hash))

    @property
    def is_under_way(self) -> bool:
        """Whether anything is."""
        return bool(self._tasks)

    async def settled(self, key_hash: str) -> None:
        """Wait until it can be found: whoever asks again at once is to go on with it."""
        if key_hash in self._tasks:
            await asyncio.wait(self._tasks[key_hash])

    async def drain(self) -> None:
        """Wait for all of it."""
        while self._tasks:
            await self.settled(next(iter(self._tasks)))
            await asyncio.sleep(0)

    def _ended(self, key_hash: str, task: asyncio.Task[None]) -> None:
        tasks = self._tasks[key_hash]
        tasks.discard(task)
        if not tasks:
            del self._tasks[key_hash]
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nobody's image depends on it.
            logger.warning("the beginning of an image could not be kept: %r", error)


class StoredParts:
    """What is kept of the answers to one call; a `PartStore`."""

    def __init__(
        self,
        parts: Parts,
        keeping: Keeping,
        request: ImageRequest,
        scope: str,
        stamp: Stamp,
        found: Sequence[Entry],
    ) -> None:
        self._parts = parts
        self._keeping = keeping
        self._request = request
        self._scope = scope
        self._stamp = stamp
        now = parts.clock.time()
        self._usable = [] if request.policy in _NEVER_FOUND else [e for e in found if e.stored_until > now]
        self._rows = list(found)
        # Which try's: what is still being hashed when all is forgotten must not come after it.
        self._era = 0
        self._turn = asyncio.Lock()
        self._is_over = False

    async def find(self, request: DownloadRequest) -> Part | None:
        """The beginning that is kept of the answer to this request, put together from what lies on disk."""
        if not self._usable:
            return None
        secret = await self._parts.cache.disk.secret()
        mine = [e for e in self._usable if e.row.vary.startswith(_way(request, e.vary_fields, e.headers, secret))]
        first = next((e for e in mine if _place(e)[0] == 0), None)
        if first is None:
            return None
        # Once only: what is read now is in the download's own hands.
        self._usable = []
        headers = first.headers.without("Content-Range")
        validator = resume_validator(request.method, first.status, request.headers, headers, now=first.response_time)
        body = Body(self._parts.downloader.options.max_body, self.open_spool)
        by_start = {_place(e)[0]: e for e in mine if _is_same_version(e, first)}
        while validator is not None and (entry := by_start.get(body.size)) is not None:
            stretch = await StoredAnswers(self._parts).read(entry)
            if not stretch or body.size + len(stretch) > body.limit:
                break
            body.add(stretch)
            if body.is_heavy:
                await body.relieve()
        if validator is None or not body.size:
            return None
        head = Download(
            request=request,
            url=self._request.url,
            final_url=request.url,
            status=first.status,
            headers=headers,
            body=b"",
            request_time=first.request_time,
            response_time=first.response_time,
            metrics=Metrics(),
        )
        return Part(head, validator, _place(first)[2], body, kept=body.size)

    def keep(self, part: Part, start: int, read: Callable[[], bytes]) -> None:
        """Keep what came from ``start`` on, in the background, where HTTP lets it be stored."""
        head = part.head
        if not self._is_over and not forbids_storing(head.request.headers, head.headers):
            self._keeping.start(self._request.key_hash, self._keep(head, part.total, start, read, self._era))

    def open_spool(self) -> SpoolFile | None:
        """A file in the cache's own folder."""
        return self._parts.cache.disk.spool(self._request.key_hash)

    def forget(self) -> None:
        """What is kept is of no use."""
        self._era += 1
        rows, self._rows, self._usable = self._rows, [], []
        for entry in rows:
            self._parts.cache.disk.discard(entry)

    def finish(self) -> None:
        """The whole has come."""
        self._is_over = True
        self.forget()

    async def _keep(self, head: Download, total: int | None, start: int, read: Callable[[], bytes], era: int) -> None:
        parts = self._parts
        async with self._turn:
            # One after the other: what lies behind a gap is of no use.
            body, checksum = await parts.workers.run(_read_and_hash, read)
            secret = await parts.cache.disk.secret()
        entry = Answers(parts).entry(self._request, self._scope, head, checksum, secret=secret, namespace="partial")
        if era != self._era or not parts.currency.is_current(replace(self._stamp, entry=entry)):
            # Come to its end, removed or replaced meanwhile.
            return
        way = _way(head.request, entry.vary_fields, entry.headers, secret)
        place = f"bytes {start}-{start + len(body) - 1}/{'*' if total is None else total}"
        entry = replace(
            entry,
            row=replace(entry.row, vary=f"{way}{start:x}"),
            headers=entry.headers.updated({"Content-Range": place}),
            stored_until=entry.stored_at + KEPT_FOR,
            lifetime=None,
            byte_count=len(body),
        )
        self._rows.append(entry)
        parts.cache.disk.put(entry, body)


def _way(request: DownloadRequest, known: VaryFields, received: Headers, secret: bytes) -> str:
    """What tells this request's beginnings from others of the same key: a modifier may sign URLs, and what it adds is
    no business of the disk, so a keyed digest stands for the URL."""
    fields = vary_fields(request.headers, received, secret=secret)
    if fields != known:
        return "none"
    text = "\n".join([request.url, *(f"{name}: {value}" for name, value in fields)])
    digest = hmac.new(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return digest[:_DIGEST_LENGTH] + "@"


def _place(entry: Entry) -> tuple[int, int, int | None]:
    return announced_part(entry.headers.get("content-range")) or (-1, -1, None)


def _is_same_version(entry: Entry, first: Entry) -> bool:
    told = ("etag", "last-modified")
    return _place(entry)[2] == _place(first)[2] and all(
        entry.headers.get_all(name) == first.headers.get_all(name) for name in told
    )


def _read_and_hash(read: Callable[[], bytes]) -> tuple[bytes, str]:
    body = read()
    return body, checksum_of(body)
