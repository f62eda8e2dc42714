"""An explanation says what is stored, how fresh it is and why, and what every policy would do."""

from __future__ import annotations

import math

from imagecache.http.decision import Load, Refuse, Serve, Validate, decide
from imagecache.http.directives import RequestDirectives
from imagecache.http.explanation import explain
from imagecache.http.freshness import Lifetime
from imagecache.request import CachePolicy

from .answers import DAY, NOW, date, stored


def test_nothing_stored_is_explained() -> None:
    explanation = explain(None, NOW)
    assert (explanation.age, explanation.lifetime, explanation.fresh_for, explanation.validators) == (None,) * 3 + ({},)
    assert explanation.decisions == {policy: decide(policy, None, NOW) for policy in CachePolicy}
    assert str(explanation).splitlines() == [
        "nothing is stored",
        "CACHE_ELSE_LOAD: load it in full",
        "CACHE_ONLY: refuse: nothing is stored for it",
        "PROTOCOL: load it in full",
        "REVALIDATE: load it in full (Cache-Control: max-age=0)",
        "RELOAD: load it in full",
        "RELOAD_END_TO_END: load it in full (Cache-Control: no-cache, Pragma: no-cache)",
        "STALE_WHILE_REVALIDATE: load it in full",
    ]


def test_a_stale_copy_is_explained_in_lines_that_a_person_reads() -> None:
    entry = stored({"Cache-Control": "max-age=300", "ETag": '"a"', "Age": "10"}, validated_at=NOW + 60)
    explanation = explain(entry, NOW + 310)
    assert explanation.age == 320
    assert explanation.lifetime == Lifetime(300, "max-age=300")
    assert explanation.fresh_for == -20
    assert explanation.validators == {"If-None-Match": '"a"'}
    assert str(explanation).splitlines() == [
        f"stored {date()}, validated {date(60)}, kept until {date(7 * DAY)}",
        "status 200, 1 bytes",
        "age 5.3 min, lifetime 5.0 min (max-age=300)",
        "stale by 20 s",
        'asked about with If-None-Match: "a"',
        "CACHE_ELSE_LOAD: serve the stored copy, stale",
        "CACHE_ONLY: serve the stored copy, stale",
        'PROTOCOL: ask the server whether it still holds (If-None-Match: "a")',
        'REVALIDATE: ask the server whether it still holds (Cache-Control: max-age=0, If-None-Match: "a")',
        "RELOAD: load it in full",
        "RELOAD_END_TO_END: load it in full (Cache-Control: no-cache, Pragma: no-cache)",
        "STALE_WHILE_REVALIDATE: serve the stored copy, stale, and ask the server behind it",
    ]


def test_the_source_of_a_lifetime_is_told() -> None:
    explanation = explain(stored({"Last-Modified": date(-12 * DAY)}), NOW)
    assert "age 0 s, lifetime 28.8 h (heuristic, 10 % of 12.0 days)" in str(explanation)
    assert "fresh for 28.8 h more" in str(explanation)


def test_what_is_always_asked_about_is_said_so() -> None:
    always = explain(stored({"Cache-Control": "no-cache, max-age=60"}, stored_until=math.inf), NOW)
    assert "to be asked about at every use" in str(always)
    assert "kept for ever" in str(always)
    assert "no validators" in str(always)
    strict = explain(stored({"Cache-Control": "max-age=0, must-revalidate"}), NOW + 5)
    assert "stale by 5 s, and may not be used so" in str(strict)
    expired = explain(stored(stored_until=NOW), NOW)
    assert f"kept until {date()}, which has passed" in str(expired)
    immutable = explain(stored({"Cache-Control": "max-age=60, immutable"}, url="https://a.example/"), NOW)
    assert "fresh for 60 s more, and will not change until then" in str(immutable)


def test_the_decisions_are_those_of_a_call_with_the_same_options() -> None:
    entry = stored({"Cache-Control": "max-age=60", "ETag": '"a"'}, validated_at=NOW - 100)
    decisions = explain(
        entry, NOW, directives=RequestDirectives(min_fresh=61), revalidate_after=100, use_validators=False
    ).decisions
    assert decisions[CachePolicy.PROTOCOL] == Load(forward="request")
    assert isinstance(decisions[CachePolicy.CACHE_ONLY], Refuse)
    assert explain(entry, NOW, revalidate_after=100).decisions[CachePolicy.CACHE_ELSE_LOAD] == Serve(behind=True)
    assert isinstance(explain(entry, NOW).decisions[CachePolicy.REVALIDATE], Validate)
    assert not explain(entry, NOW, use_validators=False).validators
