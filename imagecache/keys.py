"""Identity: from a URL to the key, its hash, and the scope that keeps users apart; of bytes, their checksum. No I/O."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from .errors import InvalidURLError
from .masking import without_signatures

CREDENTIAL_FIELDS = ("authorization", "cookie")
"""Request fields that make a request one user's own (RFC 9111, 3.5)."""


_SMALL = 64 * 1024
_UNLOCKED_FROM = 2048
"""Bytes from which on hashlib lets go of the interpreter's lock."""
_ORDINARY = re.compile(r"https?://[A-Za-z0-9.-]+(?::[1-5]?[0-9]{1,4})?(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/?#-]*)?")
"""URLs that `urlsplit` has nothing against, by far the most: taking them apart costs more than all else here."""


def key_for_url(url: str) -> str:
    """The cache key of a URL: the string as given, cut at ``#``; nothing else is normalised."""
    return url.partition("#")[0]


def hash_for_key(key: str) -> str:
    """The SHA-256 hex of a key: the name of an entry on disk, in delegates and in the registry.

    Kingfisher's ``hash(forKey:)``. The key of a URL that may have a fragment is :func:`key_for_url` of it.

    >>> hash_for_key("hello")[:8]
    '2cf24dba'
    """
    # A lone surrogate cannot be sent, but must not raise UnicodeEncodeError from inside a hash.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def checksum_of(body: bytes) -> str:
    """The SHA-256 hex of a body: what is made of the same bytes is the same. For worker threads.

    Of a small one in pieces for which hashlib keeps the interpreter's lock: to have that back from the event loop takes
    several times as long as they do, 60 µs at most.
    """
    if len(body) > _SMALL:
        return hashlib.sha256(body).hexdigest()
    digest, view = hashlib.sha256(), memoryview(body)
    for start in range(0, len(body), _UNLOCKED_FROM - 1):
        digest.update(view[start : start + _UNLOCKED_FROM - 1])
    return digest.hexdigest()


def check_url(url: object) -> str:
    """The URL as a string, if it can be asked for at all.

    Raises InvalidURLError for anything but an absolute http or https URL with a host.
    """
    text = url if isinstance(url, str) else str(url) if type(url).__name__ == "URL" else None
    if text is None:
        raise InvalidURLError(f"a URL is a str or a yarl.URL, not {type(url).__name__}")
    return _checked(text)


@functools.lru_cache(maxsize=4096)
def _checked(text: str) -> str:
    # Remembered, so that finding an image in memory does not mean to parse its URL again.
    if _ORDINARY.fullmatch(text):
        return text
    if not text.strip():
        raise InvalidURLError("the URL is empty")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        if "@" in text:
            # Neither the parser's own words nor the URL: where it cannot be parsed, the userinfo cannot be cut out.
            raise InvalidURLError("no valid URL") from None
        raise InvalidURLError(f"no valid URL: {error}", url=text) from error
    if parts.scheme.lower() not in ("http", "https"):
        scheme = parts.scheme or "none"
        raise InvalidURLError(f"only http and https URLs can be fetched, the scheme is {scheme}", url=display_url(text))
    if not host:
        raise InvalidURLError("the URL has no host", url=display_url(text))
    return text


def display_url(url: str) -> str:
    """The URL without userinfo: what callers and delegates are told. Logs and messages show :func:`shown_url`."""
    if "@" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "<invalid URL>"
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def shown_url(url: str) -> str:
    """The URL as logs and messages show it: without userinfo, signatures and tokens masked."""
    return without_signatures(display_url(url))


def userinfo_of(url: str) -> str:
    """``user:password`` of the URL, or ""."""
    if "@" not in url:
        return ""
    netloc = urlsplit(url).netloc
    return netloc.rpartition("@")[0] if "@" in netloc else ""


def is_scoped(url: str, headers: Mapping[str, str], partition: str) -> bool:
    """Whether a request belongs to one user: a partition, explicit credentials, or userinfo."""
    # By far the most requests have none of these, and are to be told so without a generator.
    return bool(
        partition
        or ("@" in url and userinfo_of(url))
        or (headers and any(n.lower() in CREDENTIAL_FIELDS for n in headers))
    )


def scope_for(url: str, headers: Mapping[str, str], partition: str, secret: bytes) -> str:
    """The scope of a request: "" for everybody's, else an HMAC that tells users apart and reveals nothing.

    ``secret`` is the random key kept with the index: without it, a scope on disk could be tried
    against a list of guessed tokens.
    """
    if not is_scoped(url, headers, partition):
        return ""
    credentials = sorted((n.lower(), v) for n, v in headers.items() if n.lower() in CREDENTIAL_FIELDS)
    parts = [partition, userinfo_of(url), *(f"{n}:{v}" for n, v in credentials)]
    # Lengths first, so that no two different lists run together into the same text.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hmac.new(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]
