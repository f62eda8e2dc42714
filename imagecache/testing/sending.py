"""How a decided reply is put on the wire: in one piece, in chunks, held, cut, or without end."""

from __future__ import annotations

import asyncio

from aiohttp import web

from .answer import Answer
from .conditions import http_date
from .log import LoggedRequest
from .reply import Reply

_REPLY: web.ResponseKey[Reply] = web.ResponseKey("reply", Reply)

_ADDED_BY_AIOHTTP = ("server", "content-type")


def prepare(reply: Reply, answer: Answer, *, now: float) -> web.StreamResponse:
    """The response that :func:`send` will send; its head is not sent yet."""
    response = web.StreamResponse(status=reply.status, headers=list(reply.headers.pairs))
    response[_REPLY] = reply
    # aiohttp would take the machine's clock.
    response.headers.setdefault("Date", http_date(now))
    if "content-length" in reply.removed:
        # Nothing but the end of the connection can tell the client where such a body ends.
        response.force_close()
    if not (answer.chunked or answer.is_endless or "content-length" in reply.headers):
        response.content_length = len(reply.body)
    return response


async def set_exact_fields(_: web.Request, response: web.StreamResponse) -> None:
    """Take away what aiohttp added by itself, and what a test does not want sent (a signal handler)."""
    reply = response.get(_REPLY)
    if reply is None:
        return
    for name in (*_ADDED_BY_AIOHTTP, *reply.removed):
        if name not in reply.headers:
            response.headers.popall(name, None)


async def send_body(response: web.StreamResponse, body: bytes, answer: Answer, logged: LoggedRequest) -> None:
    """Send the body of a prepared response, as the answer says."""
    end = len(body) if answer.cut_at is None else min(answer.cut_at, len(body))
    gate_at = len(body) // 2 if answer.body_gate_at is None else answer.body_gate_at
    first = end if answer.body_gate is None else min(gate_at, end)
    await _send_part(response, body[:first], answer, logged)
    if answer.body_gate is not None:
        await answer.body_gate.wait()
    await _send_part(response, body[first:end], answer, logged)
    while answer.is_endless:
        await _send_part(response, body or bytes(answer.chunk_size), answer, logged)


async def _send_part(response: web.StreamResponse, part: bytes, answer: Answer, logged: LoggedRequest) -> None:
    for start in range(0, len(part), answer.chunk_size):
        chunk = part[start : start + answer.chunk_size]
        await response.write(chunk)
        logged.body_bytes_sent += len(chunk)
        # Writing waits only where the socket is full: without a pause a client that left would not be noticed.
        await asyncio.sleep(answer.chunk_delay)


def send_raw(transport: asyncio.Transport, raw: bytes, logged: LoggedRequest) -> None:
    """Send these bytes, whatever they are, and close the connection."""
    transport.write(raw)
    logged.body_bytes_sent = len(raw)
    transport.close()
