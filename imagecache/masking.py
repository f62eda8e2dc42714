"""What of a URL or a header field must not be shown: pure decisions over names and values. Imports nothing of ours.

Nobody knows all names that carry a secret, so that a value that looks like one is masked under any name.
"""

from __future__ import annotations

import re

MASK = "…"

_SECRET_PARAMETER = re.compile(
    r"auth|token|secret|passw|pwd|credential|signature|session|cookie|hmac|policy|jwt|(api|access|pair|sas)[-_]?key|"
    r"key[-_]?(pair[-_]?)?id|^x-(amz|goog|oss|cos|ms)-|^(key|sig|sign|s|hm|oh|st|sid|hdnts|hdnea)$",
    re.IGNORECASE,
)
# Signatures, tokens, digests: long, and of an alphabet of base64, hexadecimal or a JWT.
_SECRET_VALUE = re.compile(r"(?:[\w+/=.~-]|%2[BbFf]|%3[Dd]){32,}", re.ASCII)
_SECRET_FIELD = re.compile(
    r"auth|token|secret|passw|credential|signature|session|cookie|(api|access)[-_]?key|-key$", re.IGNORECASE
)


def without_signatures(url: str) -> str:
    """The URL with the values masked that may be a signature, a token or a password.

    >>> without_signatures("https://cdn.example/a.png?w=80&X-Amz-Signature=0af1#top")
    'https://cdn.example/a.png?w=80&X-Amz-Signature=…#top'
    """
    base, mark, rest = url.partition("?")
    if not mark:
        return url
    query, hash_mark, fragment = rest.partition("#")
    shown = "&".join(_parameter(part) for part in query.split("&"))
    return f"{base}?{shown}{hash_mark}{fragment}"


def is_secret_field(name: str) -> bool:
    """Whether the value of this header field may be a secret."""
    return _SECRET_FIELD.search(name) is not None


def _parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        # A token without a name.
        return MASK if _SECRET_VALUE.fullmatch(name) else name
    is_secret = _SECRET_PARAMETER.search(name) or _SECRET_VALUE.fullmatch(value)
    return f"{name}={MASK}" if value and is_secret else part
