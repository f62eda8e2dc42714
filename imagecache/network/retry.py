"""Whether a failed try is worth another, and when: pure decisions over errors. Nobody waits or sends here."""

from __future__ import annotations

import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

from ..errors import BadStatusError, ImageCacheError, NetworkError, RedirectError, TimedOutError
from ..protocols import RetryContext

RETRIED_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
_SECONDS = re.compile(r"[0-9]{1,10}")


def is_worth_retrying(error: ImageCacheError) -> bool:
    """Whether the same request may fare better a moment later.

    Connections that failed or broke, timeouts but the total one, and the statuses of :data:`RETRIED_STATUSES` are;
    a certificate or name that does not exist, a redirect, a refusal and every other answer are not.
    """
    if isinstance(error, BadStatusError):
        return error.status in RETRIED_STATUSES
    if not isinstance(error, NetworkError) or isinstance(error, RedirectError):
        return False
    if isinstance(error, TimedOutError):
        return error.limit != "total"
    return not any(_is_lasting(cause) for cause in _causes(error))


def _is_lasting(cause: BaseException) -> bool:
    unknown_name = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
    return unknown_name or isinstance(cause, ssl.SSLCertVerificationError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """The seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3: a number or a date); None for nonsense.

    ``now`` is wall time; a date that is past asks for 0.
    """
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return None


class BackoffRetryStrategy:
    """The default: tries again after ``base``, twice that, and so on up to ``cap`` seconds, each shortened by chance.

    ``max_tries`` counts the first. ``jitter`` is the part of a wait that chance may take away, 0 to 1: it keeps a
    thousand clients from coming back in the same moment.
    """

    def __init__(self, max_tries: int = 3, *, base: float = 0.25, cap: float = 5.0, jitter: float = 0.5) -> None:
        if max_tries < 1:
            raise ValueError(f"max_tries counts the first and is at least 1, not {max_tries!r}")
        if not (base >= 0 and cap >= 0 and 0 <= jitter <= 1):
            raise ValueError(f"waits are 0 or more, jitter is from 0 to 1: {base=}, {cap=}, {jitter=}")
        self.max_tries = max_tries
        self.base = base
        self.cap = cap
        self.jitter = jitter

    def __repr__(self) -> str:
        return f"BackoffRetryStrategy({self.max_tries}, base={self.base}, cap={self.cap}, jitter={self.jitter})"

    def retry_delay(self, context: RetryContext) -> float | None:
        """Seconds to wait, or None to give up."""
        if context.attempt >= self.max_tries or not is_worth_retrying(context.error):
            return None
        # A large attempt must not make 2**attempt a number that no float holds.
        wait = min(self.cap, self.base * 2.0 ** min(context.attempt - 1, 64))
        return wait * (1 - self.jitter * random.random())


RetryInterval = float | Callable[[int], float]
"""Seconds between tries, or what gives them for the number of retries done so far (0, 1, 2 …)."""


def accumulated(seconds: float) -> Callable[[int], float]:
    """Waits that grow: ``seconds``, twice, three times that … (Kingfisher's ``.accumulated``)."""
    return lambda retried_count: seconds * (retried_count + 1)


class DelayRetryStrategy:
    """Kingfisher's ``DelayRetryStrategy``: at most ``max_retry_count`` retries, ``interval`` seconds apart.

    ``interval`` is a number, :func:`accumulated`, or a callable of one's own. Unlike Kingfisher's, it does not
    retry a 404.
    """

    def __init__(self, max_retry_count: int, interval: RetryInterval = 3.0) -> None:
        if max_retry_count < 0:
            raise ValueError(f"max_retry_count is 0 or more, not {max_retry_count!r}")
        self.max_retry_count = max_retry_count
        self.interval = interval

    def retry_delay(self, context: RetryContext) -> float | None:
        """Seconds to wait, or None to give up."""
        retried_count = context.attempt - 1
        if retried_count >= self.max_retry_count or not is_worth_retrying(context.error):
            return None
        return self.interval(retried_count) if callable(self.interval) else self.interval
