"""One scripted answer of an :class:`~imagecache.testing.ImageServer`: a value that says where it departs from
the plain way. It decides nothing; ``reply.py`` reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from .gate import Gate

if TYPE_CHECKING:
    from PIL import Image

    from .log import LoggedRequest

    Content = bytes | Image.Image | Path

CHUNK_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a request is answered, where it is not answered in the plain way.

    ===================== ====================================================================================
    ``status``            another status. Below 200 or from 300 on, nothing of the resource is sent along
                          (304: its header fields are), only what this answer itself says
    ``headers``           fields in place of their namesakes; None takes one away, ``Date`` and ``Content-Type``
                          included
    ``content``           another body: bytes, an image (sent as PNG), a file
    ``etag``              another ETag, quotes included, also to compare conditions with, as the nodes of a
                          cluster do; None: no ETag
    ``ignores_conditions`` 200 and the whole body, whatever If-… says
    ``ignores_ranges``    200 and the whole body, whatever Range says
    ``delay``             seconds before anything is sent
    ``gate``              holds the request before anything is sent
    ``body_gate``         holds the body after ``body_gate_at`` bytes (half of them where None; 0: after the head)
    ``cut_at``            the connection is closed after so many bytes of the body; the length announced is
                          the whole one
    ``chunked``           no Content-Length: its length is unknown until it ends
    ``is_endless``        the body begins anew for ever; implies ``chunked``
    ``chunk_size``        bytes sent at a time
    ``chunk_delay``       seconds between two of them
    ``raw``               these very bytes go to the socket instead of any answer, and the connection is closed;
                          ``b""`` hangs up
    ===================== ====================================================================================
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content: Content | None = None
    etag: str | Literal[True] | None = True
    ignores_conditions: bool = False
    ignores_ranges: bool = False
    delay: float = 0.0
    gate: Gate | None = None
    body_gate: Gate | None = None
    body_gate_at: int | None = None
    cut_at: int | None = None
    chunked: bool = False
    is_endless: bool = False
    chunk_size: int = CHUNK_SIZE
    chunk_delay: float = 0.0
    raw: bytes | None = None

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Self:
        """A redirect to ``location``, which is sent as it is."""
        return cls(status=status, headers={"Location": location})

    @classmethod
    def not_modified(cls, etag: str | Literal[True] | None = True) -> Self:
        """A 304, whatever was asked; with another ETag if one is given."""
        return cls(status=304, etag=etag)

    @classmethod
    def hang_up(cls) -> Self:
        """The connection is closed without a word. aiohttp asks once more by itself, so that one alone is not seen."""
        return cls(raw=b"")


AnswerSource = Answer | Callable[["LoggedRequest"], Answer]
"""An answer, or a function from the request to one: for answers that depend on its header fields."""
