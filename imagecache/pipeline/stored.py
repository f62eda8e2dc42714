"""Finding what is stored for a request: whose copy it may use, and which of several its headers select."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..entry import Entry, Namespace
from ..headers import Headers
from ..http.conditions import Preconditions
from ..http.directives import NO_DIRECTIVES, RequestDirectives
from ..http.storing import select
from ..keys import display_url, is_scoped, scope_for
from ..request import CachePolicy, DownloadRequest, ImageRequest
from .cached import CachedImage
from .loaded import Decoded
from .parts import Parts

if TYPE_CHECKING:
    import asyncio

    from ..storage.sightings import Sighting
    from ..storage.stored import Stored

_CHOOSE_AS_SENT = (CachePolicy.PROTOCOL, CachePolicy.REVALIDATE)
"""The policies that choose a stored answer by what would be sent now, request modifiers included."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stored answer, with its bytes where they were asked for.

    ``is_vary_miss``: there is none, though there are answers to the same URL with other request headers.
    ``beginnings``: what is kept of images that broke off. ``sighting`` was taken before the row was read, if it was.
    ``decoded``: the pixels, where they were made on the way.
    """

    entry: Entry | None = None
    body: bytes | None = None
    is_vary_miss: bool = False
    beginnings: tuple[Entry, ...] = ()
    sighting: Sighting | None = None
    decoded: Decoded | None = None


NOTHING = Found()


class StoredAnswers:
    """What the disk has for requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def scope(self, request: ImageRequest) -> str:
        """Whose copy the request may use; "" for everybody's."""
        if not is_scoped(request.url, request.headers, request.partition):
            return ""
        secret = await self._parts.cache.disk.secret()
        return scope_for(request.url, request.headers, request.partition, secret)

    async def find(
        self,
        request: ImageRequest,
        scope: str,
        *,
        namespace: Namespace = "image",
        with_body: Callable[[Entry], bool],
        hand_over: Callable[[Stored, asyncio.Future[Stored | None]], bool] | None = None,
    ) -> Found:
        """The stored answer that the request selects (RFC 9111, 4.1)."""
        disk = self._parts.cache.disk
        if not disk.has_looked:
            await disk.look()
        if self.are_lacking(request):
            return NOTHING
        sighting = disk.sighting(request.key_hash)
        parts, seen, partial = self._parts, list[Entry](), list[Entry]()
        headers, as_sent = parts.asked_headers(request), False
        secret = await parts.cache.disk.secret()

        def choose(entries: Sequence[Entry]) -> Entry | None:
            if namespace == "partial":
                entries = [entry for entry in entries if not is_beginning(entry)]
            seen[:] = entries
            return select(entries, headers, as_sent=as_sent, secret=secret)

        async def look() -> Found:
            stored = await parts.cache.disk.load(
                request.key_hash,
                key=display_url(request.key),
                scope=scope,
                namespace=namespace,
                choose=choose,
                with_body=with_body,
                partial=partial if namespace == "image" else None,
                hand_over=hand_over,
            )
            beginnings = tuple(entry for entry in partial if is_beginning(entry))
            if stored is None:
                return Found(is_vary_miss=bool(seen), beginnings=beginnings)
            decoded = stored.made if isinstance(stored.made, Decoded) else None
            return Found(stored.entry, stored.body, beginnings=beginnings, sighting=sighting, decoded=decoded)

        found = await look()
        if request.policy in _CHOOSE_AS_SENT and self.depends_on_modifiers(seen):
            headers, as_sent = (await parts.downloader.as_sent(question(request))).headers, True
            found = await look()
        return found

    def is_seen(self, held: CachedImage, request: ImageRequest, scope: str) -> bool:
        """Whether the answer behind an image in memory is known, without a look, to be the one that is stored.

        For who asks the server in any case: what another process did just now may be overlooked.
        """
        if request.policy is not CachePolicy.REVALIDATE or held.sighting is None:
            return False
        entry = held.entry
        # Of several that vary, a look has to choose.
        is_the_one = entry.row.scope == scope and "vary" not in entry.headers
        return is_the_one and self._parts.cache.disk.is_unchanged(held.sighting)

    def are_lacking(self, request: ImageRequest) -> bool:
        """Whether there is none for a request, if that is known without a look."""
        # Who takes nothing but what is stored wants to know of what others stored a moment ago, too.
        if request.policy is CachePolicy.CACHE_ONLY or directives_of(request).only_if_cached:
            return False
        return self._parts.cache.disk.lacks(request.key_hash)

    def depends_on_modifiers(self, entries: Sequence[Entry]) -> bool:
        """Whether only a run of the request modifiers can tell which of these answers a request selects."""
        return self._parts.downloader.has_modifiers and any("vary" in entry.headers for entry in entries)

    async def read(self, entry: Entry) -> bytes | None:
        """The bytes of an answer from the disk, as long as they are still the same ones."""
        row, checksum = entry.row, entry.checksum
        stored = await self._parts.cache.disk.load(
            row.key_hash,
            key=entry.key,
            scope=row.scope,
            namespace=row.namespace,
            choose=lambda entries: next((e for e in entries if e.row == row and e.checksum == checksum), None),
        )
        return stored.body if stored is not None else None


def is_beginning(entry: Entry) -> bool:
    """Whether a row of the namespace "partial" is of an image that broke off, and no answer to a Range."""
    return entry.row.namespace == "partial" and entry.status == 200


def directives_of(request: ImageRequest) -> RequestDirectives:
    """What the call asks of caches, with its headers and with its options."""
    if not (request.headers.pairs or request.has_demands):
        return NO_DIRECTIVES
    asked = RequestDirectives.of(request.headers)
    return asked.tightened(max_age=request.max_age, max_stale=request.max_stale, min_fresh=request.min_fresh)


def preconditions_of(request: ImageRequest) -> Preconditions | None:
    """What the call asks of the answer itself."""
    if request.expected_etag is None and request.unmodified_since is None:
        return None
    return Preconditions(request.expected_etag, request.unmodified_since)


def question(request: ImageRequest, fields: dict[str, str] | None = None, *, method: str = "GET") -> DownloadRequest:
    """What goes over the wire for a call: ``fields`` are a decision's, and the call's own headers go over them; but of
    Cache-Control all that is asked is sent, by the decision, by the headers and by the options."""
    if not (request.headers.pairs or request.has_demands):
        # Of most calls the decision's are all there are.
        return DownloadRequest(request.url, Headers(fields) if fields else request.headers, method)
    headers = Headers(fields or {}).updated(request.headers)
    own = RequestDirectives(max_age=request.max_age, max_stale=request.max_stale, min_fresh=request.min_fresh)
    asked = ((fields or {}).get("Cache-Control"), request.headers.get("cache-control"), own.field_value())
    if directives := ", ".join(each for each in asked if each):
        headers = headers.updated({"Cache-Control": directives})
    preconditions = preconditions_of(request)
    if preconditions is not None:
        headers = headers.updated(preconditions.fields())
    return DownloadRequest(request.url, headers, method)
