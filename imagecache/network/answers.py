"""What the head of an answer says, and whether its status is a success: pure decisions over values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from sys import intern

from ..headers import Headers

BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
"""Answers that have no body (RFC 9110, 15.3.5 and 15.4.5), so that nobody is asked about one."""


def status_refusal(status: int, *, is_conditional: bool, answers: Sequence[bool | None]) -> str | None:
    """Why a status is no success, None if it is one.

    ``answers`` are those of the delegates: one False refuses, else one True accepts, else exactly 200 is valid. A 304
    is judged without them: a delegate that only knows of 200 would break revalidation, and one that accepts
    everything would make an empty image of a 304 that nobody asked for.
    """
    if status == HTTPStatus.NOT_MODIFIED:
        return None if is_conditional else "the server answered 304 to a request without validators"
    if False in answers:
        return f"a delegate refused the status {status}"
    if True in answers or status == HTTPStatus.OK:
        return None
    return f"the server answered {status}{_phrase(status)}"


def header_fields(pairs: Iterable[tuple[str, str]]) -> Headers:
    """The fields as aiohttp read them, as text that can be stored."""
    # The names are aiohttp's own kind of text; as plain ones, shared by all answers, they are nothing to keep.
    return Headers([(intern(str(name)), value if value.isascii() else _storable(value)) for name, value in pairs])


def _storable(value: str) -> str:
    # aiohttp reads bytes that are no UTF-8 as lone surrogates, which no file or database takes; RFC 9110, 5.5 has
    # them as opaque bytes, of which ISO-8859-1 is the old reading.
    if not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
