"""From the keyword options of a call to one checked value. A wrong argument is told here, at the call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, get_args

from ..entry import Protection
from ..expiration import as_expiration, as_extension
from ..headers import Headers
from ..http.validators import is_strong_etag
from ..keys import check_url, hash_for_key
from ..network.redirects import safe_headers
from ..network.urls import split_userinfo, target_of
from ..protocols import ImageProcessor
from ..request import CachePolicy, FetchOptions, ImageMode, ImageRequest, Priority

MODES = ("auto", "L", "LA", "RGB", "RGBA", None)
_ALWAYS_LOAD = (CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)
_ALWAYS_ASK = (CachePolicy.REVALIDATE, *_ALWAYS_LOAD)
_OPTION_NAMES = frozenset(FetchOptions.__annotations__)


def request_for(
    url: object,
    options: FetchOptions,
    *,
    key_for_url: Callable[[str], str],
    policy: CachePolicy,
    timeout: float | None,
) -> ImageRequest:
    """The request that a call means; ``policy`` and ``timeout`` are the manager's, for where the call says nothing.

    Raises InvalidURLError for the URL, TypeError for an option that does not exist or is of a wrong type,
    ValueError for a wrong value or a contradiction.
    """
    text = check_url(url)
    if not options:
        key = _checked_key(key_for_url(text))
        return ImageRequest(text, key, hash_for_key(key), policy, timeout=timeout)
    if unknown := options.keys() - _OPTION_NAMES:
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(sorted(_OPTION_NAMES))}")
    key = _checked_key(options["cache_key"] if "cache_key" in options else key_for_url(text))
    chosen = _policy(options, policy)
    _check_demands(options, chosen)
    given = {name: _CHECKED[name](value) for name, value in options.items() if name in _CHECKED}
    if "timeout" not in given:
        given = {"timeout": timeout, **given}
    request = ImageRequest(text, key, hash_for_key(key), chosen, **given)
    urls = options.get("alternatives", ())
    return replace(request, alternatives=_alternatives(urls, request, key_for_url)) if urls else request


def prefetch_requests(
    options: FetchOptions,
    *,
    key_for_url: Callable[[str], str],
    policy: CachePolicy,
    protection: Protection,
    max_retry_after: float,
) -> Callable[[object], ImageRequest]:
    """What makes the request for each URL of a prefetch: its options, all of them given, are checked once for all.

    A partition that is a function is called for each URL. What is returned raises InvalidURLError.
    """
    chosen = _policy(options, policy)
    given = {name: _CHECKED[name](value) for name, value in options.items() if name in _CHECKED and name != "partition"}
    partition = options["partition"]

    def request(url: object) -> ImageRequest:
        text = check_url(url)
        key = _checked_key(key_for_url(text))
        return ImageRequest(
            text,
            key,
            hash_for_key(key),
            chosen,
            partition=_partition(partition),
            protection=protection,
            max_retry_after=max_retry_after,
            **given,
        )

    return request


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise ValueError(f"a cache key is a text that is not empty, not {key!r}")
    return key


def check_timeout(timeout: float | None) -> float | None:
    """A time limit in seconds over 0, or None for no limit."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout is a number of seconds or None, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout is over 0 seconds, not {timeout!r}")
    return float(timeout)


def check_seconds(seconds: float | None, name: str) -> float | None:
    """A number of seconds, 0 or more, ``inf`` included; or None."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{name} is 0 seconds or more, not {seconds!r}")
    return float(seconds)


def _alternatives(urls: object, request: ImageRequest, key_for_url: Callable[[str], str]) -> tuple[ImageRequest, ...]:
    if isinstance(urls, str | bytes) or not isinstance(urls, Iterable):
        raise TypeError(f"alternatives is a list of URLs, not {urls!r}")
    return tuple(_alternative(check_url(url), request, key_for_url) for url in urls)


def _alternative(url: str, request: ImageRequest, key_for_url: Callable[[str], str]) -> ImageRequest:
    key = key_for_url(url)
    is_elsewhere = target_of(split_userinfo(url)[0]).origin != target_of(split_userinfo(request.url)[0]).origin
    headers = safe_headers(request.headers) if is_elsewhere else request.headers
    return replace(request, url=url, key=key, key_hash=hash_for_key(key), headers=headers)


def _expected_etag(etag: str | None) -> str | None:
    if etag is None or etag == "*":
        return etag
    if not isinstance(etag, str):
        raise TypeError(f"expected_etag is a text, not {etag!r}")
    if not is_strong_etag(etag):
        # RFC 9110, 13.1.1: If-Match compares strongly, so that a weak tag never matches.
        raise ValueError(
            f'expected_etag is a strong entity tag with its quotes, such as \'"abc"\', or "*", not {etag!r}'
        )
    return etag


def _moment(moment: float | datetime | None) -> float | None:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("unmodified_since is a moment: a datetime with a time zone")
        return moment.timestamp()
    if moment is None:
        return None
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise TypeError(f"unmodified_since is a datetime or wall seconds, not {moment!r}")
    if not math.isfinite(moment):
        raise ValueError(f"unmodified_since is a moment, not {moment!r}")
    return float(moment)


def _check_demands(options: FetchOptions, policy: CachePolicy) -> None:
    """Raise ValueError for what can have no meaning under the policy."""
    if policy in _ALWAYS_ASK and (names := [n for n in ("max_age", "max_stale", "min_fresh") if n in options]):
        raise ValueError(
            f"{names[0]} chooses among stored copies and contradicts {policy.name}, which uses none unasked"
        )
    if policy in _ALWAYS_LOAD and "stale_if_error" in options:
        raise ValueError(f"stale_if_error contradicts {policy.name}, which never serves a stored copy")


def _policy(options: FetchOptions, default: CachePolicy) -> CachePolicy:
    policy = options.get("policy")
    if policy is not None and not isinstance(policy, CachePolicy):
        raise TypeError(f"policy is a CachePolicy, not {policy!r}")
    if not options.get("force_refresh", False):
        return policy or default
    if policy not in (None, CachePolicy.REVALIDATE):
        raise ValueError(f"force_refresh=True means REVALIDATE and contradicts policy={policy.name}; give one of them")
    return CachePolicy.REVALIDATE


def _processors(processors: object) -> tuple[ImageProcessor, ...]:
    if isinstance(processors, str | bytes) or not hasattr(processors, "__iter__"):
        raise TypeError(f"processors is a list of image processors, not {processors!r}")
    listed = tuple(processors)
    for processor in listed:
        # Not isinstance(): a protocol that is checked at runtime costs more than all the rest of a memory hit.
        has_both = isinstance(getattr(processor, "identifier", None), str) and callable(
            getattr(processor, "process", None)
        )
        if isinstance(processor, type) or not has_both:
            raise TypeError(f"an image processor has an identifier and process(image); {processor!r} is none")
    return listed


def _mode(mode: ImageMode) -> ImageMode:
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(map(repr, MODES))}, not {mode!r}")
    return mode


def check_headers(headers: Mapping[str, str] | None) -> Headers:
    """Request header fields as a value. TypeError for what are no texts, ValueError for line breaks in them."""
    if headers is None:
        return Headers()
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers is a mapping of names to values, not {headers!r}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"header names and values are texts, not {type(name).__name__} and {type(value).__name__}")
        if any(character in name + value for character in "\r\n\0"):
            raise ValueError(f"the header {name!r} holds a line break or NUL")
    return Headers(headers)


def check_partition(partition: str | Callable[[], str]) -> str | Callable[[], str]:
    """A partition as it is; TypeError for what is neither a text nor callable."""
    if not isinstance(partition, str) and not callable(partition):
        raise TypeError(f"a partition is a text, or a function that gives one, not {partition!r}")
    return partition


def _partition(partition: str | Callable[[], str]) -> str:
    # Evaluated here, in the caller's own context: nothing later knows whose call it was.
    value: Any = partition() if callable(partition) else partition
    if not isinstance(value, str):
        raise TypeError(f"a partition is a text, not {type(value).__name__}")
    return value


def _as_it_is(value: Any) -> Any:
    return value


_CHECKED: dict[str, Callable[[Any], Any]] = {
    "processors": _processors,
    "mode": _mode,
    "headers": check_headers,
    "partition": _partition,
    "timeout": check_timeout,
    "priority": Priority,
    "progress": _as_it_is,
    "memory_expiration": partial(as_expiration, name="memory_expiration"),
    "disk_expiration": partial(as_expiration, name="disk_expiration"),
    "memory_extension": partial(as_extension, name="memory_extension"),
    "disk_extension": partial(as_extension, name="disk_extension"),
    "max_age": partial(check_seconds, name="max_age"),
    "max_stale": partial(check_seconds, name="max_stale"),
    "min_fresh": partial(check_seconds, name="min_fresh"),
    "stale_if_error": partial(check_seconds, name="stale_if_error"),
    "expected_etag": _expected_etag,
    "unmodified_since": _moment,
}
"""What makes the value of a request of each option that has one; only those that were given are gone through."""

# What is no value of a request has been read before; an option in neither place would be taken and forgotten.
assert _CHECKED.keys() | {"policy", "force_refresh", "cache_key", "alternatives"} == _OPTION_NAMES
assert set(MODES) == {*get_args(get_args(ImageMode)[0]), None}
