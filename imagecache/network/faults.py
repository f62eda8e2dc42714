"""The border where aiohttp's and the system's exceptions become ours; nothing foreign leaves the room otherwise."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import aiohttp

from ..errors import (
    AddressRefusedError,
    ConnectionFailedError,
    ImageCacheError,
    InvalidURLError,
    RequestError,
    ResponseError,
    TimedOutError,
    TruncatedBodyError,
)


class AddressGateError(OSError):
    """What the resolver and the socket gate raise: an OSError, so that aiohttp goes on to the next address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def as_our_error(error: Exception, url: str) -> ImageCacheError:
    """The error of ours that a foreign exception means; to be raised ``from cause_of(error)``."""
    if isinstance(error, ImageCacheError):
        return error
    for refused in _chain(error):
        if isinstance(refused, AddressGateError):
            return AddressRefusedError(refused.reason, url=url)
    match error:
        case aiohttp.ConnectionTimeoutError():
            return TimedOutError("no connection in time (the connect timeout)", url=url, limit="connect")
        case TimeoutError() if error.errno is None:
            return TimedOutError("nothing came from the server in time (the idle timeout)", url=url, limit="idle")
        case aiohttp.ClientConnectorDNSError():
            return ConnectionFailedError(
                f"the host {error.host} cannot be resolved; check its name and the network", url=url
            )
        case aiohttp.ClientConnectorCertificateError():
            return ConnectionFailedError(
                f"the certificate of {error.host} is not trusted: {_reason(error.certificate_error)}; "
                "name a file with it in SSL_CERT_FILE, or give a downloader's NetworkOptions an SSLContext as ssl=",
                url=url,
            )
        case aiohttp.ClientSSLError():
            return ConnectionFailedError(f"TLS with {error.host} failed: {_reason(error)}", url=url)
        case aiohttp.ServerFingerprintMismatch():
            return ConnectionFailedError(f"the certificate of {error.host} is not the pinned one", url=url)
        case aiohttp.ClientConnectorError():
            return ConnectionFailedError(
                f"no connection to {error.host}:{error.port}: {_told_by_system(error.os_error)}", url=url
            )
        case aiohttp.ClientPayloadError():
            return TruncatedBodyError(f"the body did not come whole: {error}", url=url)
        case aiohttp.ClientResponseError():
            return ResponseError(f"the answer is no valid HTTP: {error.message}", url=url)
        case aiohttp.ServerDisconnectedError():
            return ConnectionFailedError("the server closed the connection without an answer", url=url)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return InvalidURLError(f"no valid URL: {error}", url=url)
        case OSError():
            return ConnectionFailedError(f"the connection broke: {error.strerror or error}", url=url)
        case ValueError() | TypeError():
            return RequestError(f"the request cannot be sent: {error}", url=url)
        case _:
            return ConnectionFailedError(f"the transfer failed: {error or type(error).__name__}", url=url)


def cause_of(error: Exception) -> BaseException | None:
    """What to name as the cause: the exception itself, unless it would show secrets."""
    # The repr of a ClientResponseError holds the request's headers.
    return error.__cause__ if isinstance(error, aiohttp.ClientResponseError) else error


def _reason(error: BaseException) -> str:
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason
    return str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _told_by_system(error: OSError) -> str:
    # asyncio words these itself ("Connect call failed"), and leaves out what the system said: refused, unreachable.
    told = os.strerror(error.errno) if error.errno else ""
    return told if told and not told.startswith("Unknown") else error.strerror or str(error)
