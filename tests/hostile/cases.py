"""The table of misbehaviours: what is sent, how, and what is to come of it. No test lives here."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass

from imagecache.errors import (
    AddressRefusedError,
    BadStatusError,
    BodyTooLargeError,
    ConnectionFailedError,
    DecodeError,
    ImageCacheError,
    ImageError,
    ImageTooLargeError,
    InvalidURLError,
    NetworkError,
    NotAnImageError,
    RedirectError,
    RequestError,
    ResponseError,
    ResponseRefusedError,
    TimedOutError,
    TruncatedBodyError,
)
from tests.hostile.wire import (
    CHUNKED,
    EVIL,
    KIB,
    LAST,
    MIB,
    PICTURE,
    chunk,
    chunks,
    closes,
    drips,
    floods,
    for_ever,
    hangs,
    head,
    resets,
    says,
    sized,
)
from tests.network.server import Exchange, Handler

Kinds = type[ImageCacheError] | tuple[type[ImageCacheError], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One misbehaviour.

    ``error`` is what it ends in, None for the picture; ``or_picture`` allows both, where parsers differ in good faith.
    ``limit`` is the limit of time that ends it, and asks for small ones. ``has_cause``: a foreign exception lies below.
    ``is_decoded``: only decoding shows it.
    """

    handler: Handler
    error: Kinds | None = None
    or_picture: bool = False
    limit: tuple[str, ...] = ()
    has_cause: bool = False
    is_decoded: bool = False


def slow(handler: Handler, *limits: str) -> Case:
    return Case(handler, TimedOutError, limit=limits)


def either(handler: Handler) -> Case:
    """The picture, or an error of the transfer: never a time limit, and never other bytes."""
    return Case(handler, (NetworkError, ResponseError, ImageError), or_picture=True)


def lengths(*fields: str) -> bytes:
    """The picture whole, under another idea of its length."""
    return head(*fields) + PICTURE


N = len(PICTURE)
HALF = PICTURE[: N // 2]
LENGTH = f"Content-Length: {N}"

TIME: dict[str, Case] = {
    "hang before the status line": slow(hangs(), "idle"),
    "hang inside the status line": slow(hangs(b"HTTP/1.1 20"), "idle"),
    "hang inside the head": slow(hangs(b"HTTP/1.1 200 OK\r\nContent-Le"), "idle"),
    "hang before the empty line": slow(hangs(head(LENGTH)[:-2]), "idle"),
    "hang before the body": slow(hangs(head(LENGTH)), "idle"),
    "hang inside the body": slow(hangs(head(LENGTH) + HALF), "idle"),
    "hang before the first chunk": slow(hangs(head(CHUNKED)), "idle"),
    "hang inside a chunk's size": slow(hangs(head(CHUNKED) + b"4"), "idle"),
    "hang inside a chunk": slow(hangs(head(CHUNKED) + chunk(PICTURE)[:40]), "idle"),
    "hang before the last chunk": slow(hangs(head(CHUNKED) + chunk(PICTURE)), "idle"),
    "hang inside the trailers": slow(hangs(head(CHUNKED) + chunk(PICTURE) + b"0\r\nX-A: 1\r\n"), "idle"),
    "hang behind a 100": slow(hangs(head(status="100 Continue")), "idle"),
    "hang inside a gzip stream": slow(
        hangs(head("Content-Encoding: gzip", CHUNKED) + chunk(gzip.compress(PICTURE)[:40])), "idle"
    ),
    "drip the status line": slow(drips(b"", for_ever(b"HTTP/1.1 200 OK")), "idle"),
    "drip the head": slow(drips(b"HTTP/1.1 200 OK\r\n", for_ever(b"X-A: 1\r\n")), "idle"),
    "drip 100s": slow(drips(b"", for_ever(head(status="100 Continue"))), "idle"),
    "drip a body": slow(drips(head("Content-Length: 100000"), for_ever(PICTURE)), "rate", "idle"),
    "drip a body without an end": slow(drips(head("Connection: close"), for_ever(PICTURE)), "rate", "idle"),
    "drip chunks of a byte": slow(drips(head(CHUNKED), for_ever(chunk(b"x"))), "rate", "idle"),
    "drip a chunk's extension": slow(drips(head(CHUNKED) + b"5;", for_ever(b"a")), "idle", "rate"),
    "drip trailers": slow(drips(head(CHUNKED) + chunk(PICTURE) + b"0\r\n", for_ever(b"X-A: 1\r\n")), "idle", "rate"),
    "a body that is always fast enough and never ends": slow(
        drips(head("Connection: close"), for_ever(bytes(1000)), size=1000), "total", "rate"
    ),
    "redirects without an end of the body": Case(
        hangs(head("Location: /picture", "Content-Length: 1000000", status="302 Found") + b"<html>")
    ),
    "an error without an end of the body": Case(
        hangs(head("Content-Length: 1000000", status="404 Not Found") + b"<html>"), BadStatusError
    ),
}

ENDLESS: dict[str, Case] = {
    "100s without an end": Case(floods(b"", head(status="100 Continue") * 100), (NetworkError, ResponseError)),
    "a status line without an end": Case(floods(b"HTTP/1.1 200 ", b"O" * 64 * KIB), ResponseError),
    "a field name without an end": Case(floods(b"HTTP/1.1 200 OK\r\n", b"X" * 64 * KIB), ResponseError),
    "a field value without an end": Case(floods(b"HTTP/1.1 200 OK\r\nX: ", b"v" * 64 * KIB), ResponseError),
    "fields without an end": Case(floods(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n" * 100), ResponseError),
    "empty lines without an end": Case(floods(b"", b"\r\n" * 1000), (NetworkError, ResponseError)),
    "a body without an end": Case(floods(head("Connection: close"), bytes(64 * KIB)), BodyTooLargeError),
    "chunks without an end": Case(floods(head(CHUNKED), chunk(bytes(64 * KIB))), BodyTooLargeError),
    "tiny chunks without an end": Case(floods(head(CHUNKED), chunk(b"x") * 1000), BodyTooLargeError),
    "a chunk's extension without an end": Case(
        floods(head(CHUNKED) + b"5;", b"a" * 64 * KIB), (NetworkError, ResponseError)
    ),
    "trailers without an end": Case(
        floods(head(CHUNKED) + chunk(PICTURE) + b"0\r\n", b"X-A: 1\r\n" * 100), (NetworkError, ResponseError)
    ),
    "a trailer line without an end": Case(
        floods(head(CHUNKED) + chunk(PICTURE) + b"0\r\nX: ", b"a" * 64 * KIB), (NetworkError, ResponseError)
    ),
    "a gzip name without an end": Case(
        floods(head("Content-Encoding: gzip", "Connection: close") + b"\x1f\x8b\x08\x08" + bytes(6), b"a" * 64 * KIB),
        BodyTooLargeError,
    ),
    "deflate blocks of nothing without an end": Case(
        floods(head("Content-Encoding: deflate", "Connection: close") + b"\x78\x01", b"\0\0\0\xff\xff" * 10_000),
        BodyTooLargeError,
    ),
}

LENGTHS: dict[str, Case] = {
    "close without an answer": Case(closes(), ConnectionFailedError, has_cause=True),
    "reset without an answer": Case(resets(), ConnectionFailedError, has_cause=True),
    "close inside the status line": Case(closes(b"HTTP/1.1 2"), (NetworkError, ResponseError)),
    "close inside the head": Case(closes(b"HTTP/1.1 200 OK\r\nContent-Length: 5"), (NetworkError, ResponseError)),
    "close before the body": Case(closes(head(LENGTH)), TruncatedBodyError, has_cause=True),
    "reset before the body": Case(resets(head(LENGTH)), NetworkError, has_cause=True),
    "close inside the body": Case(closes(head(LENGTH) + HALF), TruncatedBodyError, has_cause=True),
    "close a byte before the end": Case(closes(sized()[:-1]), TruncatedBodyError, has_cause=True),
    "reset inside the body": Case(resets(head(LENGTH) + HALF), NetworkError, has_cause=True),
    "a long body": Case(says(sized() + b"and more"), (NetworkError, ResponseError), or_picture=True),
    "a length short of the picture": Case(closes(lengths(f"Content-Length: {N // 2}")), (ImageError, ResponseError)),
    "a length of nothing": Case(closes(lengths("Content-Length: 0")), (NotAnImageError, ResponseError)),
    "no length and no end": Case(closes(head() + PICTURE)),
    "no length, HTTP/1.0": Case(closes(head(version="HTTP/1.0") + PICTURE)),
    "no length, HTTP/1.0, cut": Case(closes(head(version="HTTP/1.0") + HALF), DecodeError),
    "no length and no body": Case(closes(head(version="HTTP/1.0")), NotAnImageError),
    "a length of 10 TB": Case(says(lengths("Content-Length: 10995116277760")), BodyTooLargeError),
    "a length of 2^63": Case(closes(lengths(f"Content-Length: {2**63}")), ImageCacheError),
    "a length over 2^64": Case(closes(lengths(f"Content-Length: {2**64 + N}")), ImageCacheError),
    "a length of 400 digits": Case(closes(lengths("Content-Length: " + "9" * 400)), ImageCacheError),
    "a negative length": Case(closes(lengths(f"Content-Length: -{N}")), ResponseError),
    "a length with a sign": either(closes(lengths(f"Content-Length: +{N}"))),
    "a length in hexadecimal": Case(closes(lengths(f"Content-Length: {N:#x}")), ResponseError),
    "a length of letters": Case(closes(lengths("Content-Length: many")), ResponseError),
    "an empty length": either(closes(lengths("Content-Length: "))),
    "a length with a space inside": Case(closes(lengths(f"Content-Length: {N // 10} {N % 10}")), ResponseError),
    "a length in another alphabet": Case(closes(lengths("Content-Length: \xb2\xb3")), ResponseError),
    "the same length twice": either(closes(lengths(LENGTH, LENGTH))),
    "a list of the same length": either(closes(lengths(f"{LENGTH}, {N}"))),
    "two lengths": Case(closes(lengths(LENGTH, "Content-Length: 5")), (NetworkError, ResponseError, ImageError)),
    "two lengths, the other way": Case(closes(lengths("Content-Length: 5", LENGTH)), (ResponseError, ImageError)),
}

CHUNKS: dict[str, Case] = {
    "chunked and a length": either(closes(head(CHUNKED, LENGTH) + chunks(PICTURE) + LAST)),
    "a length and chunked": either(closes(head(LENGTH, CHUNKED) + chunks(PICTURE) + LAST)),
    "chunked and a length of the evil": either(closes(head(CHUNKED, "Content-Length: 3") + chunks(PICTURE) + LAST)),
    "chunked twice": either(closes(head(CHUNKED, CHUNKED) + chunks(PICTURE) + LAST)),
    "gzip, chunked": Case(
        closes(head("Transfer-Encoding: gzip, chunked") + chunks(gzip.compress(PICTURE)) + LAST),
        (NetworkError, ResponseError, ImageError),
    ),
    "chunked, gzip": either(closes(head("Transfer-Encoding: chunked, gzip") + chunks(PICTURE) + LAST)),
    "identity": either(closes(head("Transfer-Encoding: identity") + PICTURE)),
    "an unknown transfer coding": either(closes(head("Transfer-Encoding: xchunked") + PICTURE)),
    "chunked behind a tab": either(closes(head("Transfer-Encoding:\tchunked") + chunks(PICTURE) + LAST)),
    "chunked behind a vertical tab": either(closes(head("Transfer-Encoding: \x0bchunked") + chunks(PICTURE) + LAST)),
    "chunked in HTTP/1.0": either(closes(head(CHUNKED, version="HTTP/1.0") + chunks(PICTURE) + LAST)),
    "no last chunk": Case(closes(head(CHUNKED) + chunks(PICTURE)), TruncatedBodyError, has_cause=True),
    "reset before the last chunk": Case(resets(head(CHUNKED) + chunks(PICTURE)), NetworkError, has_cause=True),
    "half a last chunk": Case(closes(head(CHUNKED) + chunks(PICTURE) + b"0\r\n"), (NetworkError, ResponseError)),
    "close inside a chunk": Case(closes(head(CHUNKED) + chunk(PICTURE)[:40]), TruncatedBodyError, has_cause=True),
    "a chunk size of letters": Case(
        closes(head(CHUNKED) + b"zz\r\n" + PICTURE + b"\r\n" + LAST), (NetworkError, ResponseError), has_cause=True
    ),
    "a negative chunk size": Case(closes(head(CHUNKED) + b"-5\r\n" + PICTURE + LAST), (NetworkError, ResponseError)),
    "a chunk size in C's spelling": Case(
        closes(head(CHUNKED) + b"0x" + chunk(PICTURE) + LAST), (NetworkError, ResponseError, ImageError)
    ),
    "an empty chunk size": Case(closes(head(CHUNKED) + b"\r\n" + PICTURE + LAST), (NetworkError, ResponseError)),
    "a chunk size of 2^63": Case(
        closes(head(CHUNKED) + b"8000000000000000\r\n" + PICTURE), (NetworkError, ResponseError)
    ),
    "a chunk size over 2^64": Case(
        closes(head(CHUNKED) + b"1%016x\r\n" % N + PICTURE + b"\r\n" + LAST), (NetworkError, ResponseError)
    ),
    "a chunk size of 100 zeros": either(closes(head(CHUNKED) + b"0" * 100 + chunk(PICTURE) + LAST)),
    "a chunk shorter than it says": Case(
        closes(head(CHUNKED) + b"%x\r\n" % (N + 9) + PICTURE + b"\r\n" + LAST), (NetworkError, ResponseError)
    ),
    "a chunk longer than it says": Case(
        closes(head(CHUNKED) + b"%x\r\n" % (N - 9) + PICTURE + b"\r\n" + LAST), (NetworkError, ResponseError)
    ),
    "chunks ended by a bare LF": either(closes(head(CHUNKED) + b"%x\n" % N + PICTURE + b"\n0\n\n")),
    "chunks ended by a bare CR": Case(
        closes(head(CHUNKED) + b"%x\r" % N + PICTURE + b"\r0\r\r"), (NetworkError, ResponseError)
    ),
    "a chunk extension": Case(closes(head(CHUNKED) + chunk(PICTURE, b';a=b;c="d e"') + LAST)),
    "a chunk extension with a line break": either(
        closes(head(CHUNKED) + chunk(PICTURE, b";a\n0\r\n\r\n" + sized(EVIL)) + LAST)
    ),
    "a chunk extension of 1 MiB": either(closes(head(CHUNKED) + chunk(PICTURE, b";" + b"a" * MIB) + LAST)),
    "trailers": Case(says(head(CHUNKED, "Trailer: X-A") + chunk(PICTURE) + b"0\r\nX-A: 1\r\n\r\n")),
    "10,000 trailers": either(closes(head(CHUNKED) + chunk(PICTURE) + b"0\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n")),
    "a trailer of 1 MiB": either(closes(head(CHUNKED) + chunk(PICTURE) + b"0\r\nX: " + b"a" * MIB + b"\r\n\r\n")),
    "a trailer that says another length": either(
        says(head(CHUNKED) + chunk(PICTURE) + b"0\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n")
    ),
    "trailers that are none": either(closes(head(CHUNKED) + chunk(PICTURE) + b"0\r\n\x00\xff\r\n\r\n")),
    "garbage behind the last chunk": either(says(head(CHUNKED) + chunk(PICTURE) + LAST + b"garbage\r\n\r\n")),
    "another answer behind the last chunk": either(says(head(CHUNKED) + chunk(PICTURE) + LAST + sized(EVIL))),
}

STATUS_LINES: dict[str, Case] = {
    "HTTP/0.9, a picture": Case(closes(PICTURE), (NetworkError, ResponseError)),
    "HTTP/0.9, a page": Case(closes(b"<html>hello</html>\r\n\r\n"), (NetworkError, ResponseError)),
    "HTTP/2.0": either(closes(head(LENGTH, version="HTTP/2.0") + PICTURE)),
    "HTTP/9.9": either(closes(head(LENGTH, version="HTTP/9.9") + PICTURE)),
    "HTTP/1": Case(closes(head(LENGTH, version="HTTP/1") + PICTURE), ResponseError),
    "small letters": either(closes(head(LENGTH, version="http/1.1") + PICTURE)),
    "Icecast": either(closes(head(LENGTH, version="ICY") + PICTURE)),
    "an SSH server": Case(closes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ResponseError, has_cause=True),
    "a mail server": Case(closes(b"220 mail.example ESMTP\r\n\r\n"), ResponseError),
    "a TLS alert": Case(closes(b"\x15\x03\x01\x00\x02\x02\x0a"), (NetworkError, ResponseError)),
    "zeros": Case(closes(bytes(1000)), (NetworkError, ResponseError)),
    "a request": Case(closes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (NetworkError, ResponseError)),
    "no status": Case(closes(b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), ResponseError),
    "no reason": Case(says(head(LENGTH, status="200") + PICTURE)),
    "a reason of 100 KiB": Case(closes(sized(status="200 " + "O" * 100 * KIB)), ResponseError),
    "a reason in another alphabet": either(closes(sized(status="200 \xfc\xff"))),
    "a status of letters": Case(closes(sized(status="2OO OK")), ResponseError),
    "a status of two digits": Case(closes(sized(status="20 OK")), ResponseError),
    "a status of four digits": Case(closes(sized(status="2000 OK")), ResponseError),
    "a negative status": Case(closes(sized(status="-200 OK")), ResponseError),
    "a status of zero": Case(closes(sized(status="000 OK")), (ResponseError, NetworkError)),
    "a status of 999": Case(says(sized(status="999 Denied")), BadStatusError),
    "empty lines first": either(closes(b"\r\n\r\n" + sized())),
    "spaces first": Case(closes(b"   " + sized()), ResponseError),
}

STATUSES: dict[str, Case] = {
    "200 times 100": Case(says(head(status="100 Continue") * 200 + sized())),
    "early hints": Case(says(head("Link: </a>; rel=preload", status="103 Early Hints") + sized())),
    "a 199": Case(says(head(status="199 What") + sized())),
    "a 100 with a length": either(closes(head("Content-Length: 5", status="100 Continue") + b"hello" + sized())),
    "switching protocols": Case(
        closes(head("Upgrade: websocket", "Connection: upgrade", status="101 Switching Protocols") + PICTURE),
        (ResponseError, NetworkError),
    ),
    "switching protocols, and no more": Case(
        hangs(head("Upgrade: h2c", "Connection: upgrade", status="101 Switching Protocols")),
        (ResponseError, NetworkError),
    ),
    "a 204 with a body": Case(says(sized(status="204 No Content")), ResponseError),
    "a 204 with a whole answer for a body": Case(says(head(status="204 No Content") + sized(EVIL)), ResponseError),
    "a 205 with a body": Case(says(sized(status="205 Reset Content")), BadStatusError),
    "a 206 that nobody asked for": Case(
        says(sized(HALF, f"Content-Range: bytes 0-{N // 2 - 1}/{N}", status="206 Partial Content")), BadStatusError
    ),
    "a 206 of the whole": Case(
        says(sized(PICTURE, f"Content-Range: bytes 0-{N - 1}/{N}", status="206 Partial Content")), BadStatusError
    ),
    "a 206 of several parts": Case(
        says(sized(b"--x\r\n\r\n", "Content-Type: multipart/byteranges; boundary=x", status="206 Partial Content")),
        BadStatusError,
    ),
    "a 304 to a plain request": Case(says(head('ETag: "1"', status="304 Not Modified")), BadStatusError),
    "a 304 with a body": Case(says(sized(PICTURE, 'ETag: "1"', status="304 Not Modified")), ResponseError),
    "a 304 with a whole answer for a body": Case(says(head(status="304 Not Modified") + sized(EVIL)), ResponseError),
    "a 300 with a picture": Case(says(sized(status="300 Multiple Choices")), BadStatusError),
    "a 203 with a picture": Case(says(sized(status="203 Non-Authoritative Information")), BadStatusError),
    "a 404 with a picture": Case(says(sized(PICTURE, "Cache-Control: max-age=99", status="404 None")), BadStatusError),
    "a 416": Case(says(sized(b"", "Content-Range: bytes */5", status="416 Range Not Satisfiable")), BadStatusError),
    "a 503 that asks to come back in 30,000 years": Case(
        says(sized(b"", "Retry-After: 999999999999", status="503 Busy")), BadStatusError
    ),
    "a 503 that asks to come back never": Case(says(sized(b"", "Retry-After: inf", status="503 Busy")), BadStatusError),
    "a 429 on a day that is none": Case(
        says(sized(b"", "Retry-After: Xxx, 99 Xxx 99999 99:99:99 GMT", status="429 Slow")), BadStatusError
    ),
    "a 200 with a range": either(says(sized(PICTURE, f"Content-Range: bytes 0-{N - 1}/{N}"))),
}

HEADERS: dict[str, Case] = {
    "10,000 fields": Case(closes(head(*[f"X-{n}: 1" for n in range(10_000)], LENGTH) + PICTURE), ResponseError),
    "10,000 times the same field": Case(closes(head(*["X: 1"] * 10_000, LENGTH) + PICTURE), ResponseError),
    "a value of 1 MiB": Case(closes(sized(PICTURE, "X: " + "a" * MIB)), ResponseError),
    "a name of 1 MiB": Case(closes(sized(PICTURE, "a" * MIB + ": 1")), ResponseError),
    "a NUL in a value": Case(closes(sized(PICTURE, "X: a\0b")), ResponseError, has_cause=True),
    "a NUL in a name": Case(closes(sized(PICTURE, "X\0: a")), ResponseError),
    "a bare CR in a value": Case(closes(sized(PICTURE, "X: a\rContent-Length: 5")), ResponseError),
    "a bare LF between fields": either(closes(b"HTTP/1.1 200 OK\n" + LENGTH.encode() + b"\n\n" + PICTURE)),
    "an escape in a value": either(closes(sized(PICTURE, "X: \x1b[31m"))),
    "a value in another alphabet": Case(says(sized(PICTURE, "X: \xfc\xff\x80"))),
    "a name in another alphabet": either(closes(sized(PICTURE, "\xfc: a"))),
    "no colon": Case(closes(sized(PICTURE, "hello")), ResponseError),
    "no name": Case(closes(sized(PICTURE, ": hello")), ResponseError),
    "a space before the colon": either(closes(head("Content-Length : 5", LENGTH) + PICTURE)),
    "a space in a name": either(closes(sized(PICTURE, "X A: 1"))),
    "a folded value": either(closes(sized(PICTURE, "X: a\r\n b"))),
    "a folded length": either(closes(head(f"Content-Length:\r\n {N}") + PICTURE)),
    "a folded first field": either(closes(sized(PICTURE).replace(b"OK\r\n", b"OK\r\n folded\r\n", 1))),
    "all names in capitals": Case(says(head(LENGTH.upper(), "CONTENT-TYPE: IMAGE/PNG") + PICTURE)),
    "no space behind the colon": Case(says(head(LENGTH.replace(" ", "")) + PICTURE)),
    "an upgrade offered": either(says(sized(PICTURE, "Connection: upgrade", "Upgrade: h2c, websocket"))),
    "100 cookies": Case(says(sized(PICTURE, *[f"Set-Cookie: c{n}={'v' * 100}; Domain=.com" for n in range(100)]))),
    "cookies that are none": Case(says(sized(PICTURE, "Set-Cookie: ;;==\x01; expires=never, ="))),
    "an ETag of 20 KiB": Case(says(sized(PICTURE, 'ETag: "' + "e" * 20 * KIB + '"'))),
    "an ETag that is none": Case(says(sized(PICTURE, "ETag: \xff\x7f unquoted"))),
    "two ETags": Case(says(sized(PICTURE, 'ETag: "1"', 'ETag: "2"'))),
    "dates that are none": Case(says(sized(PICTURE, "Date: x", "Last-Modified: -1", "Expires: Xxx, 99 Xxx 99999"))),
    "a date beyond all calendars": Case(says(sized(PICTURE, "Last-Modified: Fri, 31 Dec 99999999999 23:59:59 GMT"))),
    "ages that are none": Case(says(sized(PICTURE, "Age: -1e999", "Cache-Control: max-age=" + "9" * 100))),
    "a Cache-Control of nonsense": Case(says(sized(PICTURE, 'Cache-Control: ,,;="", max-age="\\, no-cache="X'))),
    "a Vary of 20 KiB": Case(says(sized(PICTURE, "Vary: " + "a, " * 7000 + "*"))),
    "a Content-Type of nonsense": Case(says(sized(PICTURE, "Content-Type: ;;;/==\x80; charset=\xff"))),
    "a Content-Type of two kinds": Case(says(sized(PICTURE, "Content-Type: text/html", "Content-Type: image/png"))),
    "a Link of 30 KB": Case(says(sized(PICTURE, "Link: " + "<" * 30_000))),
    "a Content-Disposition with a way out": Case(
        says(sized(PICTURE, 'Content-Disposition: attachment; filename="../../../../etc/passwd"'))
    ),
}


def bomb(size: int, wbits: int, *, block: int = 256 * KIB) -> bytes:
    """That many zeros, packed, without the checksum at the end that nobody will get to."""
    packer = zlib.compressobj(9, wbits=wbits)
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size // block)


GZIPPED = gzip.compress(PICTURE)
GZIP = "Content-Encoding: gzip"
BAD_CODING = (TruncatedBodyError, ResponseRefusedError)

CODINGS: dict[str, Case] = {
    "gzip, though identity was asked for": Case(says(sized(GZIPPED, GZIP))),
    "x-gzip in capitals": Case(says(sized(GZIPPED, "Content-Encoding: X-GZIP"))),
    "deflate": Case(says(sized(zlib.compress(PICTURE), "Content-Encoding: deflate"))),
    "deflate without its frame": Case(says(sized(zlib.compress(PICTURE, wbits=-15), "Content-Encoding: deflate"))),
    "identity": Case(says(sized(PICTURE, "Content-Encoding: identity"))),
    "brotli": Case(says(sized(PICTURE, "Content-Encoding: br")), ResponseRefusedError),
    "zstd": Case(says(sized(PICTURE, "Content-Encoding: zstd")), ResponseRefusedError),
    "an unknown coding": Case(says(sized(PICTURE, "Content-Encoding: x-secret")), ResponseRefusedError),
    "a charset for a coding": Case(says(sized(PICTURE, "Content-Encoding: utf-8")), ResponseRefusedError),
    "a coding of control characters": Case(says(sized(PICTURE, "Content-Encoding: \xff")), ResponseRefusedError),
    "gzip, gzip": Case(says(sized(gzip.compress(GZIPPED), "Content-Encoding: gzip, gzip")), ResponseRefusedError),
    "gzip in two fields": Case(says(sized(gzip.compress(GZIPPED), GZIP, GZIP)), (*BAD_CODING, ImageError)),
    "1,000 codings": Case(
        says(sized(GZIPPED, "Content-Encoding: " + ", ".join(["gzip"] * 1000))), ResponseRefusedError
    ),
    "no gzip under its label": Case(says(sized(PICTURE, GZIP)), TruncatedBodyError, has_cause=True),
    "gzip without its label": Case(says(sized(GZIPPED)), NotAnImageError),
    "gzip under identity": Case(says(sized(GZIPPED, "Content-Encoding: identity")), NotAnImageError),
    "gzip labelled deflate": Case(says(sized(GZIPPED, "Content-Encoding: deflate")), TruncatedBodyError),
    "nothing under gzip": Case(says(sized(b"", GZIP)), (TruncatedBodyError, NotAnImageError)),
    "cut gzip": Case(says(sized(GZIPPED[:-20], GZIP)), TruncatedBodyError),
    "gzip without its checksum": Case(says(sized(GZIPPED[:-8], GZIP)), TruncatedBodyError),
    "gzip with a wrong checksum": Case(says(sized(GZIPPED[:-8] + bytes(8), GZIP)), TruncatedBodyError, has_cause=True),
    "cut deflate": Case(says(sized(zlib.compress(PICTURE)[:-9], "Content-Encoding: deflate")), TruncatedBodyError),
    "garbage behind gzip": Case(says(sized(GZIPPED + b"garbage", GZIP)), TruncatedBodyError),
    "a second gzip member": Case(says(sized(GZIPPED + gzip.compress(EVIL), GZIP)), TruncatedBodyError),
    "a million empty gzip members": Case(
        says(sized(gzip.compress(b"", mtime=0) * 50_000, GZIP)), (TruncatedBodyError, ResponseRefusedError)
    ),
    "gzip with the length of what it holds": Case(
        closes(head(GZIP, f"Content-Length: {N + 1000}") + GZIPPED), TruncatedBodyError
    ),
    "gzip that needs a dictionary": Case(
        says(sized(b"\x78\xbb\0\0\0\1" + bytes(20), "Content-Encoding: deflate")), TruncatedBodyError
    ),
    "a gzip bomb": Case(says(sized(bomb(64 * MIB, 31), GZIP)), BodyTooLargeError),
    "a deflate bomb": Case(says(sized(bomb(64 * MIB, 15), "Content-Encoding: deflate")), BodyTooLargeError),
    "a bomb in a bomb": Case(says(sized(gzip.compress(bomb(64 * MIB, 31)), GZIP)), NotAnImageError),
}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, color: int = 0, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG of this header, whatever lies behind it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def labelled(body: bytes, label: str = "image/png") -> Handler:
    return says(sized(body, f"Content-Type: {label}"))


ONE_PIXEL = zlib.compress(b"\0\0")
TEXT = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 * MIB), 9))
PROFILE = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(80 * MIB), 9))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run showpage\n"

LABELS: dict[str, Case] = {
    "a page as a picture": Case(labelled(b"<!DOCTYPE html><html><script>alert(1)</script>"), NotAnImageError),
    "a page behind spaces": Case(labelled(b"\r\n\t  <html>"), NotAnImageError),
    "a page in UTF-16": Case(labelled("\ufeff<html>hello</html>".encode("utf-16-le")), NotAnImageError),
    "SVG": Case(labelled(SVG, "image/svg+xml"), NotAnImageError),
    "SVG as PNG": Case(labelled(SVG), NotAnImageError),
    "SVG behind a declaration and comments": Case(
        labelled(b'\xef\xbb\xbf<?xml version="1.0"?><!-- GIF89a -->' + SVG), NotAnImageError
    ),
    "XML with a thousand laughs": Case(
        labelled(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'),
        NotAnImageError,
    ),
    "PDF": Case(labelled(b"%PDF-1.7\n1 0 obj\n"), NotAnImageError),
    "PostScript": Case(labelled(POSTSCRIPT), NotAnImageError),
    "PostScript as JPEG": Case(labelled(POSTSCRIPT, "image/jpeg"), NotAnImageError),
    "EPS with a preview": Case(
        labelled(b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(POSTSCRIPT)) + bytes(18) + POSTSCRIPT),
        NotAnImageError,
    ),
    "JSON": Case(labelled(b'{"error": "no"}'), NotAnImageError),
    "plain text": Case(labelled(b"404 not found"), NotAnImageError),
    "a zip": Case(labelled(b"PK\3\4" + bytes(100)), NotAnImageError),
    "a program": Case(labelled(b"\x7fELF" + bytes(100)), NotAnImageError),
    "zeros": Case(labelled(bytes(5000)), NotAnImageError),
    "one byte": Case(labelled(b"\x89"), NotAnImageError),
    "a PSD": Case(labelled(b"8BPS\0\1" + bytes(40)), NotAnImageError),
    "a DDS": Case(labelled(b"DDS " + struct.pack("<I", 124) + bytes(120)), NotAnImageError),
    "a FITS": Case(labelled(b"SIMPLE  =                    T" + bytes(3000)), NotAnImageError),
    "a picture called a page": Case(labelled(PICTURE, "text/html")),
    "a picture called nothing": Case(labelled(PICTURE, "application/octet-stream")),
    "a picture called JPEG": Case(labelled(PICTURE, "image/jpeg")),
    "a stream of pictures": Case(
        labelled(b"--x\r\nContent-Type: image/png\r\n\r\n" + PICTURE, "multipart/x-mixed-replace; boundary=x"),
        NotAnImageError,
    ),
    "the first bytes of a picture, then a page": Case(labelled(b"GIF89a<html><script>alert(1)</script>"), ImageError),
    "the first bytes of a picture and no more": Case(labelled(PICTURE[:8]), DecodeError),
    "a cut picture": Case(labelled(PICTURE[:-30]), DecodeError),
    "a damaged picture": Case(labelled(PICTURE[:45] + b"\0\0\0\0" + PICTURE[49:]), DecodeError, is_decoded=True),
    "a picture of 60,000 × 60,000": Case(labelled(png(60_000, 60_000, data=ONE_PIXEL)), ImageTooLargeError),
    "a picture of 2^31 pixels": Case(labelled(png(2**31 - 1, 1, data=ONE_PIXEL)), ImageError),
    "a picture without pixels": Case(labelled(png(0, 0, data=ONE_PIXEL)), ImageError),
    "deep pixels over the limit of bytes": Case(
        labelled(png(9000, 9000, depth=16, color=6, data=ONE_PIXEL)), ImageTooLargeError
    ),
    "a text of 80 MiB in a picture": Case(labelled(png(1, 1, data=ONE_PIXEL, extra=TEXT)), ImageError, or_picture=True),
    "a profile of 80 MiB in a picture": Case(
        labelled(png(1, 1, data=ONE_PIXEL, extra=PROFILE)), ImageError, or_picture=True
    ),
    "a GIF of 100,000 frames": Case(
        labelled(
            b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * 100_000 + b"\x3b"
        ),
        ImageTooLargeError,
    ),
}


def leads(*locations: str, status: str = "302 Found", body: bytes = b"moved") -> Handler:
    return says(sized(body, *[f"Location: {location}" for location in locations], status=status))


def hops(count: int) -> Handler:
    """That many redirects, then the picture."""

    async def handler(exchange: Exchange) -> None:
        done = int(exchange.target.partition("?")[2] or 0)
        await (says(sized()) if done == count else leads(f"/hostile?{done + 1}"))(exchange)

    return handler


NOWHERE = (
    "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "data:image/png;base64,iVBORw0KGgo=", "ftp://127.0.0.1/a.png",
    "javascript:alert(1)", "unix:/run/docker.sock", "gopher://127.0.0.1/", "blob:http://127.0.0.1/x", "about:blank",
    "ws://127.0.0.1/", "jar:http://127.0.0.1!/", "http:", "http://", "//", "http://[", "http://[::1",
    "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://a:b:c/",
    "http://user:secret@127.0.0.1/picture", "//user@127.0.0.1/picture", "http://@[/",
)  # fmt: skip

REDIRECTS: dict[str, Case] = {
    **{f"to {location[:40]!r}": Case(leads(location), (RedirectError, InvalidURLError)) for location in NOWHERE},
    **{f"a {status}": Case(leads("/picture", status=f"{status} Moved")) for status in (301, 302, 303, 307, 308)},
    # Without a host of their own, these are read as browsers and urljoin read them: on the same host.
    **{f"to {location!r}": either(leads(location)) for location in ("http:///picture", "http:picture", "///picture")},
    "a host with a space": Case(leads("http://a b/"), (NetworkError, InvalidURLError)),
    "a relative one": Case(leads("picture")),
    "one with dots": Case(leads("./x/../picture")),
    "one beyond the root": Case(leads("/../../picture")),
    "one with a fragment": Case(leads("/picture#part")),
    "one in spaces": Case(leads("  /picture  ")),
    "two locations": either(leads("/picture", "/evil")),
    "no location": Case(says(sized(status="302 Found")), BadStatusError),
    "an empty location": Case(leads(""), RedirectError),
    "to itself": Case(leads("/hostile"), RedirectError),
    "to itself under another fragment": Case(leads("/hostile#again"), RedirectError),
    "a loop of ever other queries": Case(hops(10**9), RedirectError),
    "ten hops": Case(hops(10)),
    "eleven hops": Case(hops(11), RedirectError),
    "a port where nobody listens": Case(leads("http://127.0.0.1:1/"), ConnectionFailedError, has_cause=True),
    "port 0": Case(leads("http://127.0.0.1:0/"), (NetworkError, InvalidURLError)),
    "a host that does not exist": Case(leads("http://nobody.invalid/"), ConnectionFailedError, has_cause=True),
    "a host of 300 letters": Case(leads(f"http://{'a' * 300}.example/"), (NetworkError, RequestError)),
    "a host with an empty label": Case(leads("http://a..b/"), (NetworkError, RequestError)),
    "the cloud's secrets": Case(leads("http://169.254.169.254/latest/meta-data/"), AddressRefusedError),
    "the cloud's secrets, as a number": Case(leads("http://2852039166/"), (RequestError, NetworkError)),
    "the cloud's secrets, mapped": Case(leads("http://[::ffff:a9fe:a9fe]/"), AddressRefusedError),
    "a link-local address with a zone": Case(leads("http://[fe80::1%25lo]/"), (AddressRefusedError, NetworkError)),
    "a location of 20 KiB": Case(leads("/picture?" + "a" * 20 * KIB)),
    "a location of 1 MiB": Case(leads("/picture?" + "a" * MIB), ResponseError),
    "a location in another alphabet": Case(leads("/picture?\xfc"), (NetworkError, ResponseError), or_picture=True),
    "a location with a space": Case(leads("/picture?a b")),
    "a location that would split the request": either(leads("/picture?a%0d%0aX: 1%0d%0a%0d%0a")),
    "a location with a tab": either(leads("/pic\tture")),
    "a location with half an escape": either(leads("/picture?%zz%")),
    "a body of another answer": either(leads("/picture", body=sized(EVIL))),
    "a body behind its end": either(
        says(head("Location: /picture", "Content-Length: 0", status="302 Found") + sized(EVIL))
    ),
    "a body without an end": Case(
        floods(head("Location: /picture", "Connection: close", status="302 Found"), bytes(64 * KIB))
    ),
    "a body that is cut": Case(closes(head("Location: /picture", "Content-Length: 500", status="302 Found") + b"cut")),
    "a coding that is none": Case(
        says(sized(b"x", "Location: /picture", "Content-Encoding: gzip", status="302 Found"))
    ),
    "a cookie for everybody": Case(
        says(sized(b"", "Location: /picture", "Set-Cookie: a=b; Domain=com", status="302 Found"))
    ),
}

FAMILIES = {
    "time": TIME,
    "endless": ENDLESS,
    "length": LENGTHS,
    "chunks": CHUNKS,
    "status line": STATUS_LINES,
    "status": STATUSES,
    "headers": HEADERS,
    "coding": CODINGS,
    "label": LABELS,
    "redirect": REDIRECTS,
}
CASES = {f"{family}: {name}": case for family, cases in FAMILIES.items() for name, case in cases.items()}
assert len(CASES) == sum(map(len, FAMILIES.values()))
