"""The seven policies against what may be stored, down to the fields of the request; and Apple's decision tree."""

from __future__ import annotations

import pytest

from imagecache.entry import Entry
from imagecache.headers import Headers
from imagecache.http.decision import Decision, Load, Refuse, Serve, Validate, decide
from imagecache.http.directives import RequestDirectives
from imagecache.request import CachePolicy

from .answers import DAY, NOW, date, stored

ETAG = {"If-None-Match": '"a"', "If-Modified-Since": date(-DAY)}
VALIDATORS = {"ETag": '"a"', "Last-Modified": date(-DAY)}

STORED: dict[str, Entry | None] = {
    "nothing": None,
    "fresh": stored({**VALIDATORS, "Cache-Control": "max-age=60"}),
    "stale": stored({**VALIDATORS, "Cache-Control": "max-age=0"}),
    "stale, no validators": stored({"Cache-Control": "max-age=0"}),
    "must-revalidate": stored({**VALIDATORS, "Cache-Control": "max-age=0, must-revalidate"}),
    "no-cache": stored({**VALIDATORS, "Cache-Control": "max-age=60, no-cache"}),
    "no-store": stored({**VALIDATORS, "Cache-Control": "max-age=60, no-store"}),
    "vary *": stored({**VALIDATORS, "Cache-Control": "max-age=60", "Vary": "*"}),
    "s-w-r": stored({**VALIDATORS, "Cache-Control": "max-age=0, stale-while-revalidate=9"}),
    "expired": stored({**VALIDATORS, "Cache-Control": "max-age=60"}, stored_until=NOW),
    "expired, no validators": stored({"Cache-Control": "max-age=60"}, stored_until=NOW),
    "fresh 404": stored({**VALIDATORS, "Cache-Control": "max-age=60"}, status=404),
    "stale 404": stored({**VALIDATORS, "Cache-Control": "max-age=0"}, status=404),
}

NO_CACHE = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
REVALIDATE = Validate({"Cache-Control": "max-age=0", **ETAG})
FRESH, STALE = Serve(), Serve(stale=True)
NOT_THERE = Refuse("nothing is stored for it, and CACHE_ONLY never asks the network")
TOO_OLD = Refuse("what is stored for it has expired, and CACHE_ONLY never asks the network")

# One row a stored answer, one column a policy, in this order.
POLICIES = (
    CachePolicy.CACHE_ELSE_LOAD,
    CachePolicy.CACHE_ONLY,
    CachePolicy.PROTOCOL,
    CachePolicy.STALE_WHILE_REVALIDATE,
    CachePolicy.REVALIDATE,
)
ASK, BEHIND, STALE_BEHIND = Validate(ETAG), Serve(behind=True), Serve(stale=True, behind=True)
ASK_ORIGIN = Load({"Cache-Control": "max-age=0"})
TABLE: dict[str, tuple[Decision, ...]] = {
    "nothing":                (Load(), NOT_THERE, Load(), Load(),       ASK_ORIGIN),
    "fresh":                  (FRESH,  FRESH,     FRESH,  BEHIND,       REVALIDATE),
    "stale":                  (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "stale, no validators":   (STALE,  STALE,     Load(), STALE_BEHIND, ASK_ORIGIN),
    "must-revalidate":        (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "no-cache":               (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "no-store":               (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "vary *":                 (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "s-w-r":                  (STALE,  STALE,     STALE_BEHIND, STALE_BEHIND, REVALIDATE),
    "expired":                (ASK,    TOO_OLD,   ASK,    ASK,          REVALIDATE),
    "expired, no validators": (Load(), TOO_OLD,   Load(), Load(),       ASK_ORIGIN),
    "fresh 404":              (ASK,    FRESH,     FRESH,  ASK,          REVALIDATE),
    "stale 404":              (ASK,    STALE,     ASK,    ASK,          REVALIDATE),
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("case", TABLE)
def test_each_policy_decides_as_the_table_says(case: str, policy: CachePolicy) -> None:
    assert decide(policy, STORED[case], NOW) == TABLE[case][POLICIES.index(policy)]


@pytest.mark.parametrize("case", STORED)
def test_a_reload_takes_no_notice_of_what_is_stored(case: str) -> None:
    assert decide(CachePolicy.RELOAD, STORED[case], NOW) == Load()
    assert decide(CachePolicy.RELOAD_END_TO_END, STORED[case], NOW) == Load(NO_CACHE)


def test_every_policy_is_in_the_table() -> None:
    assert {*POLICIES, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END} == set(CachePolicy)


@pytest.mark.parametrize("policy", CachePolicy, ids=lambda policy: policy.name)
@pytest.mark.parametrize("case", STORED)
def test_without_etags_no_condition_is_ours(case: str, policy: CachePolicy) -> None:
    assert not isinstance(decide(policy, STORED[case], NOW, use_validators=False), Validate)


@pytest.mark.parametrize(
    ("age", "revalidate_after", "behind"),
    [(0, 100, False), (99, 100, False), (100, 100, True), (1e9, None, False), (0, 0, True)],
)
def test_a_copy_not_asked_about_for_long_is_revalidated_behind(
    age: float, revalidate_after: float | None, behind: bool
) -> None:
    entry = stored({"Cache-Control": "max-age=9999999999"}, validated_at=NOW - age)
    assert decide(CachePolicy.CACHE_ELSE_LOAD, entry, NOW, revalidate_after=revalidate_after) == Serve(behind=behind)


def test_decisions_do_not_share_what_a_caller_may_change() -> None:
    for policy in (CachePolicy.REVALIDATE, CachePolicy.RELOAD_END_TO_END):
        first, second = decide(policy, None, NOW), decide(policy, None, NOW)
        assert isinstance(first, Load)
        first.fields["X"] = "y"
        assert first != second


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("must_be_revalidated", [True, False])
@pytest.mark.parametrize("is_stale", [True, False])
def test_protocol_is_the_decision_tree_of_apples_use_protocol_cache_policy(
    exists: bool, must_be_revalidated: bool, is_stale: bool
) -> None:
    control = f"max-age={0 if is_stale else 60}{', no-cache' if must_be_revalidated else ''}"
    entry = stored({**VALIDATORS, "Cache-Control": control}) if exists else None
    decision = decide(CachePolicy.PROTOCOL, entry, NOW)
    # 1. "If a cached response does not exist for the request, the URL loading system fetches the data from the
    #    originating source."
    if not exists:
        assert decision == Load()
    # 2. "Otherwise, if the cached response doesn't indicate that it must be revalidated every time, and if the cached
    #    response isn't stale (past its expiration date), the URL loading system returns the cached response."
    elif not must_be_revalidated and not is_stale:
        assert decision == Serve()
    # 3. "If the cached response is stale or requires revalidation, the URL loading system makes a HEAD request to the
    #    originating source to see if the resource has changed. If so, the URL loading system fetches the data from
    #    the originating source. Otherwise, it returns the cached response." A conditional GET is both in one.
    else:
        assert decision == Validate(ETAG)


def asks(text: str) -> RequestDirectives:
    return RequestDirectives.of(Headers({"Cache-Control": text}))


MAY_SERVE = (
    CachePolicy.CACHE_ELSE_LOAD, CachePolicy.CACHE_ONLY, CachePolicy.PROTOCOL, CachePolicy.STALE_WHILE_REVALIDATE,
)  # fmt: skip


@pytest.mark.parametrize("policy", MAY_SERVE, ids=lambda policy: policy.name)
@pytest.mark.parametrize(
    ("control", "age", "asked", "is_served"),
    [
        ("max-age=100", 50, "max-age=60", True),
        ("max-age=100", 50, "max-age=40", False),
        ("max-age=100", 0, "max-age=0", False),
        ("max-age=100", 50, "min-fresh=50", True),
        ("max-age=100", 50, "min-fresh=51", False),
        ("max-age=100", 50, "no-cache", False),
        ("max-age=100", 50, "max-stale=0", True),
        ("max-age=100", 150, "max-stale=50", True),
        ("max-age=100", 150, "max-stale=49", False),
        # RFC 8246: a reload is no reason to ask about what does not change while it is fresh.
        ("max-age=100, immutable", 50, "max-age=0", True),
        ("max-age=100, immutable", 50, "no-cache", False),
        ("max-age=100, immutable", 50, "max-age=40", False),
    ],
)
def test_what_a_request_asks_holds_under_every_policy_that_may_serve(
    policy: CachePolicy, control: str, age: float, asked: str, is_served: bool
) -> None:
    entry = stored({**VALIDATORS, "Cache-Control": control})
    decision = decide(policy, entry, NOW + age, directives=asks(asked))
    assert isinstance(decision, Serve) is is_served
    if not is_served:
        assert isinstance(decision, Refuse if policy is CachePolicy.CACHE_ONLY else Validate)


@pytest.mark.parametrize("control", ["max-age=100, must-revalidate", "max-age=100, no-cache"])
def test_max_stale_never_goes_over_what_the_answer_forbids(control: str) -> None:
    entry = stored({**VALIDATORS, "Cache-Control": control})
    assert isinstance(decide(CachePolicy.PROTOCOL, entry, NOW + 150, directives=asks("max-stale")), Validate)


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("policy", MAY_SERVE, ids=lambda policy: policy.name)
def test_only_if_cached_never_asks(case: str, policy: CachePolicy) -> None:
    decision = decide(policy, STORED[case], NOW, directives=asks("only-if-cached"))
    assert isinstance(decision, Refuse) or (isinstance(decision, Serve) and not decision.behind)


@pytest.mark.parametrize(
    ("policy", "age", "behind"),
    [
        (CachePolicy.STALE_WHILE_REVALIDATE, 50, False),
        (CachePolicy.STALE_WHILE_REVALIDATE, 150, True),
        (CachePolicy.CACHE_ELSE_LOAD, 50, False),
        (CachePolicy.CACHE_ELSE_LOAD, 150, True),
    ],
)
def test_nothing_immutable_is_asked_about_behind_while_it_is_fresh(
    policy: CachePolicy, age: float, behind: bool
) -> None:
    entry = stored({**VALIDATORS, "Cache-Control": "max-age=100, immutable"}, validated_at=NOW - 1000)
    decision = decide(policy, entry, NOW + age, revalidate_after=10)
    assert isinstance(decision, Serve)
    assert decision.behind is behind


def test_a_force_refresh_asks_even_about_what_is_immutable() -> None:
    entry = stored({**VALIDATORS, "Cache-Control": "max-age=100, immutable"})
    assert decide(CachePolicy.REVALIDATE, entry, NOW) == REVALIDATE


@pytest.mark.parametrize(
    ("policy", "entry", "asked", "is_vary_miss", "why"),
    [
        (CachePolicy.PROTOCOL, None, "", False, "uri-miss"),
        (CachePolicy.PROTOCOL, None, "", True, "vary-miss"),
        (CachePolicy.PROTOCOL, STORED["stale"], "", False, "stale"),
        (CachePolicy.PROTOCOL, STORED["fresh"], "no-cache", False, "request"),
        (CachePolicy.REVALIDATE, STORED["fresh"], "", False, "request"),
        (CachePolicy.RELOAD, STORED["fresh"], "", False, "request"),
    ],
)
def test_why_the_server_is_asked(
    policy: CachePolicy, entry: Entry | None, asked: str, is_vary_miss: bool, why: str
) -> None:
    decision = decide(policy, entry, NOW, directives=asks(asked), is_vary_miss=is_vary_miss)
    assert isinstance(decision, Load | Validate)
    assert decision.forward == why
