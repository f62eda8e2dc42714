"""Errors as objects: copied, sent to other processes, and made anew for each who waits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import imagecache
from imagecache import errors
from imagecache.errors import ImageCacheError
from imagecache.headers import Headers

MORE: dict[str, dict[str, Any]] = {
    "TimedOutError": {"limit": "idle"},
    "BadStatusError": {"status": 503, "headers": Headers({"Retry-After": "7"}), "retry_after": 7.0},
    "BodyTooLargeError": {"limit": 4096},
    "PreconditionFailedError": {"status": 412, "headers": Headers()},
    "ProcessorError": {"processor": "blur(2)"},
}
"""What some are made with beside a message and a URL."""


EVERY = [
    kind("no such luck", url="http://a.example/x.png", **MORE.get(name, {}))
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ImageCacheError)
]


def by_pickle(error: ImageCacheError) -> ImageCacheError:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ImageCacheError)
    return again


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, by_pickle, ImageCacheError.fresh])
def test_an_error_stays_what_it_is(error: ImageCacheError, way: Callable[[ImageCacheError], ImageCacheError]) -> None:
    again = way(error)
    assert again is not error
    assert type(again) is type(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert str(again) == "no such luck [http://a.example/x.png]"
    again.url = "http://b.example/"
    assert error.url == "http://a.example/x.png"


def test_every_error_that_a_caller_can_name_is_among_them() -> None:
    assert {type(error).__name__ for error in EVERY} == {n for n in imagecache.__all__ if n.endswith("Error")}


def test_a_note_of_one_copy_is_no_others() -> None:
    error = ImageCacheError("refused")
    error.add_note("of all")
    one, other = error.fresh(), error.fresh()
    one.add_note("of one")
    assert (one.__notes__, other.__notes__, error.__notes__) == (["of all", "of one"], ["of all"], ["of all"])
