"""A decision that explains itself."""

from __future__ import annotations

from imagecache.http.decision import Load, Serve, Validate
from imagecache.http.explanation import explain
from imagecache.request import CachePolicy

from .answers import DAY, NOW, date, stored


def test_where_a_lifetime_comes_from_and_what_each_policy_does() -> None:
    told = explain(stored({"Cache-Control": "max-age=300", "ETag": '"a"'}), NOW + 400)
    assert told.lifetime is not None
    assert (told.age, told.lifetime.seconds, told.lifetime.source, told.fresh_for) == (400, 300, "max-age=300", -100)
    assert told.validators == {"If-None-Match": '"a"'}
    assert told.decisions[CachePolicy.CACHE_ELSE_LOAD] == Serve(stale=True)
    assert told.decisions[CachePolicy.PROTOCOL] == Validate({"If-None-Match": '"a"'})
    assert told.decisions[CachePolicy.RELOAD] == Load()
    assert set(told.decisions) == set(CachePolicy)
    text = str(told)
    assert "age 400 s, lifetime 300 s (max-age=300)" in text
    assert "stale for 100 s" in text
    assert "PROTOCOL" in text


def test_a_guessed_lifetime_says_that_it_is_one() -> None:
    told = explain(stored({"Last-Modified": date(-12 * DAY), "Date": date()}), NOW + DAY / 10)
    assert told.lifetime is not None
    assert told.lifetime.source == "heuristic, 10 % of 12.0 days"
    assert "fresh for" in str(told)


def test_what_is_always_to_be_asked_about_says_so() -> None:
    told = explain(stored({"Cache-Control": "no-cache, max-age=300"}), NOW)
    assert told.lifetime is not None
    assert (told.lifetime.seconds, told.lifetime.source) == (0, "always to be asked about")


def test_nothing_stored() -> None:
    told = explain(None, NOW)
    assert (told.age, told.lifetime, told.fresh_for, told.validators) == (None, None, None, {})
    assert str(told).startswith("nothing is stored")
    assert "refuse: nothing is stored for it, and CACHE_ONLY never asks the network" in str(told)
