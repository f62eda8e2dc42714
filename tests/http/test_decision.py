"""The seven policies against what may be stored, down to the fields of the request; and Apple's decision tree."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from imagecache.entry import Entry
from imagecache.http.decision import Decision, Load, Refuse, Serve, Validate, decide
from imagecache.http.directives import RequestDirectives
from imagecache.request import CachePolicy

from .answers import DAY, NOW, date, stored

ETAG = {"If-None-Match": '"a"', "If-Modified-Since": date(-DAY)}
VALIDATORS = {"ETag": '"a"', "Last-Modified": date(-DAY)}
SECURE = "https://a.example/x.png"

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
    "immutable": stored({**VALIDATORS, "Cache-Control": "max-age=60, immutable"}, url=SECURE),
    "immutable, stale": stored({**VALIDATORS, "Cache-Control": "max-age=0, immutable"}, url=SECURE),
    "expired": stored({**VALIDATORS, "Cache-Control": "max-age=60"}, stored_until=NOW),
    "expired, no validators": stored({"Cache-Control": "max-age=60"}, stored_until=NOW),
    "fresh 404": stored({**VALIDATORS, "Cache-Control": "max-age=60"}, status=404),
    "stale 404": stored({**VALIDATORS, "Cache-Control": "max-age=0"}, status=404),
}

NO_CACHE = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
# Why the server is asked (RFC 9211): nothing stored, a fresh copy that the policy would not have, or a stale one.
REVALIDATE = Validate({"Cache-Control": "max-age=0", **ETAG}, "stale")
REVALIDATE_FRESH = replace(REVALIDATE, forward="request")
FRESH, STALE = Serve(), Serve(stale=True)
NOT_THERE, TOO_OLD = Refuse("nothing is stored for it"), Refuse("what is stored for it has expired")

# One row a stored answer, one column a policy, in this order.
POLICIES = (
    CachePolicy.CACHE_ELSE_LOAD,
    CachePolicy.CACHE_ONLY,
    CachePolicy.PROTOCOL,
    CachePolicy.STALE_WHILE_REVALIDATE,
    CachePolicy.REVALIDATE,
)
ASK, BEHIND, STALE_BEHIND = Validate(ETAG, "stale"), Serve(behind=True), Serve(stale=True, behind=True)
ASK_FRESH, AGAIN, NO_IMAGE = (
    replace(ASK, forward="request"),
    Load({}, "stale"),
    Refuse("what is stored for it is an error, 404"),
)
ASK_ORIGIN, ASK_ORIGIN_AGAIN = Load({"Cache-Control": "max-age=0"}), Load({"Cache-Control": "max-age=0"}, "stale")
TABLE: dict[str, tuple[Decision, ...]] = {
    "nothing":                (Load(), NOT_THERE, Load(), Load(),       ASK_ORIGIN),
    "fresh":                  (FRESH,  FRESH,     FRESH,  BEHIND,       REVALIDATE_FRESH),
    "stale":                  (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "stale, no validators":   (STALE,  STALE,     AGAIN,  STALE_BEHIND, ASK_ORIGIN_AGAIN),
    "must-revalidate":        (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "no-cache":               (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "no-store":               (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "vary *":                 (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "s-w-r":                  (STALE,  STALE,     STALE_BEHIND, STALE_BEHIND, REVALIDATE),
    "immutable":              (FRESH,  FRESH,     FRESH,  FRESH,        REVALIDATE_FRESH),
    "immutable, stale":       (STALE,  STALE,     ASK,    STALE_BEHIND, REVALIDATE),
    "expired":                (ASK,    TOO_OLD,   ASK,    ASK,          REVALIDATE),
    "expired, no validators": (AGAIN,  TOO_OLD,   AGAIN,  AGAIN,        ASK_ORIGIN_AGAIN),
    "fresh 404":              (ASK_FRESH, NO_IMAGE, FRESH, ASK_FRESH,   REVALIDATE_FRESH),
    "stale 404":              (ASK,    NO_IMAGE,  ASK,    ASK,          REVALIDATE),
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("case", TABLE)
def test_each_policy_decides_as_the_table_says(case: str, policy: CachePolicy) -> None:
    assert decide(policy, STORED[case], NOW) == TABLE[case][POLICIES.index(policy)]


@pytest.mark.parametrize("case", STORED)
def test_a_reload_takes_no_notice_of_what_is_stored(case: str) -> None:
    reload, end_to_end = (
        decide(policy, STORED[case], NOW) for policy in (CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)
    )
    assert isinstance(reload, Load)
    assert reload.fields == {}
    assert isinstance(end_to_end, Load)
    assert end_to_end.fields == NO_CACHE
    assert end_to_end.forward == reload.forward


@pytest.mark.parametrize("policy", [CachePolicy.RELOAD, CachePolicy.PROTOCOL, CachePolicy.REVALIDATE])
def test_an_asking_says_whether_there_was_nothing_at_all_or_nothing_for_these_headers(policy: CachePolicy) -> None:
    for is_vary_miss, forward in ((False, "uri-miss"), (True, "vary-miss")):
        decision = decide(policy, None, NOW, is_vary_miss=is_vary_miss)
        assert isinstance(decision, Load)
        assert decision.forward == forward


def test_an_error_is_an_answer_of_the_cache_itself_but_no_image() -> None:
    entry = stored({"Cache-Control": "max-age=60"}, status=404, namespace="response")
    assert decide(CachePolicy.CACHE_ONLY, entry, NOW) == Serve()
    assert decide(CachePolicy.CACHE_ONLY, replace(entry, row=replace(entry.row, namespace="image")), NOW) == NO_IMAGE


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


def test_an_immutable_copy_is_not_asked_about_behind_while_it_is_fresh() -> None:
    entry = stored({"Cache-Control": "max-age=60, immutable"}, url=SECURE, validated_at=NOW - DAY)
    assert decide(CachePolicy.CACHE_ELSE_LOAD, entry, NOW, revalidate_after=60) == Serve()
    assert decide(CachePolicy.CACHE_ELSE_LOAD, entry, NOW + 60, revalidate_after=60) == STALE_BEHIND


AGED = 50.0
# What a call asks, of a copy that is 50 s old and fresh for 60 more, or has been stale for 40.
FRESH_50, STALE_50 = {"Cache-Control": "max-age=110"}, {"Cache-Control": "max-age=10"}
SWR_50 = {"Cache-Control": "max-age=10, stale-while-revalidate=100"}
MUST_50 = {"Cache-Control": "max-age=10, must-revalidate"}
NO_CACHE_50 = {"Cache-Control": "max-age=110, no-cache"}
NO, HIT, OLD, BOTH = "asked", "fresh", "stale", "stale, asked behind"


@pytest.mark.parametrize(
    ("fields", "asked", "by_http", "by_ours"),
    [
        (FRESH_50, RequestDirectives(), HIT, HIT),
        (FRESH_50, RequestDirectives(no_cache=True), NO, NO),
        (FRESH_50, RequestDirectives(max_age=50), HIT, HIT),
        (FRESH_50, RequestDirectives(max_age=49), NO, NO),
        (FRESH_50, RequestDirectives(max_age=49, max_stale=math.inf), NO, NO),
        (FRESH_50, RequestDirectives(min_fresh=60), HIT, HIT),
        (FRESH_50, RequestDirectives(min_fresh=61), NO, NO),
        (FRESH_50, RequestDirectives(max_stale=0), HIT, HIT),
        (FRESH_50, RequestDirectives(stale_if_error=math.inf, no_store=True), HIT, HIT),
        (STALE_50, RequestDirectives(), NO, OLD),
        (STALE_50, RequestDirectives(max_stale=40), OLD, OLD),
        (STALE_50, RequestDirectives(max_stale=math.inf), OLD, OLD),
        (STALE_50, RequestDirectives(max_stale=39), NO, NO),
        (STALE_50, RequestDirectives(max_age=60), NO, OLD),
        (STALE_50, RequestDirectives(max_age=60, max_stale=40), OLD, OLD),
        (STALE_50, RequestDirectives(max_age=49, max_stale=40), NO, NO),
        (STALE_50, RequestDirectives(min_fresh=0), NO, NO),
        (STALE_50, RequestDirectives(min_fresh=0, max_stale=40), NO, NO),
        (STALE_50, RequestDirectives(stale_if_error=math.inf), NO, OLD),
        (SWR_50, RequestDirectives(), BOTH, OLD),
        (SWR_50, RequestDirectives(max_stale=40), BOTH, OLD),
        (SWR_50, RequestDirectives(max_stale=39), NO, NO),
        (SWR_50, RequestDirectives(max_age=60), NO, OLD),
        (SWR_50, RequestDirectives(min_fresh=0), NO, NO),
        (MUST_50, RequestDirectives(max_stale=math.inf), NO, OLD),
        (MUST_50, RequestDirectives(max_stale=39), NO, NO),
        (NO_CACHE_50, RequestDirectives(max_stale=math.inf), NO, OLD),
        # What is never fresh has been stale since it was made.
        (NO_CACHE_50, RequestDirectives(max_stale=49), NO, NO),
        (NO_CACHE_50, RequestDirectives(min_fresh=0), NO, NO),
    ],
)
def test_what_a_call_asks_of_a_stored_copy_holds_under_every_policy_that_serves_one(
    fields: dict[str, str], asked: RequestDirectives, by_http: str, by_ours: str
) -> None:
    entry = stored({**fields, **VALIDATORS}, validated_at=NOW + AGED)
    outcomes = {
        policy: _outcome(decide(policy, entry, NOW + AGED, directives=asked, revalidate_after=60))
        for policy in (CachePolicy.PROTOCOL, CachePolicy.CACHE_ELSE_LOAD, CachePolicy.CACHE_ONLY)
    }
    assert outcomes[CachePolicy.PROTOCOL] == by_http
    assert outcomes[CachePolicy.CACHE_ELSE_LOAD] == by_ours
    assert outcomes[CachePolicy.CACHE_ONLY] == ("refused" if by_ours == NO else by_ours)
    behind = decide(CachePolicy.STALE_WHILE_REVALIDATE, entry, NOW + AGED, directives=asked)
    assert _outcome(behind) == (NO if by_ours == NO else f"{by_ours}, asked behind")
    for policy in (CachePolicy.REVALIDATE, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END):
        assert decide(policy, entry, NOW + AGED, directives=asked) == decide(policy, entry, NOW + AGED)
    # The same without a server: what would have been asked is refused, and nothing is asked behind.
    alone = replace(asked, only_if_cached=True)
    for policy in (CachePolicy.PROTOCOL, CachePolicy.CACHE_ELSE_LOAD, CachePolicy.STALE_WHILE_REVALIDATE):
        served = _outcome(decide(policy, entry, NOW + AGED, directives=asked, revalidate_after=0)).split(",")[0]
        outcome = _outcome(decide(policy, entry, NOW + AGED, directives=alone, revalidate_after=0))
        assert outcome == ("refused" if served == NO else served)


def _outcome(decision: Decision) -> str:
    match decision:
        case Serve(stale, behind):
            return ("stale" if stale else "fresh") + (", asked behind" if behind else "")
        case Refuse():
            return "refused"
        case Validate(fields) if fields == ETAG:
            return "asked"
    return f"unexpected: {decision}"


@pytest.mark.parametrize("policy", CachePolicy, ids=lambda policy: policy.name)
def test_only_if_cached_asks_no_server_unless_the_policy_is_to_ask(policy: CachePolicy) -> None:
    asks = policy in (CachePolicy.REVALIDATE, CachePolicy.RELOAD, CachePolicy.RELOAD_END_TO_END)
    for case in ("nothing", "stale 404", "expired"):
        decision = decide(policy, STORED[case], NOW, directives=RequestDirectives(only_if_cached=True))
        assert isinstance(decision, Validate | Load if asks else Refuse)


def test_a_reload_in_the_sense_of_max_age_0_is_in_vain_for_what_is_immutable() -> None:
    entry = stored({**VALIDATORS, "Cache-Control": "max-age=60, immutable"}, url=SECURE)
    reload, force_reload = RequestDirectives(max_age=0), RequestDirectives(no_cache=True, max_age=0)
    assert decide(CachePolicy.PROTOCOL, entry, NOW + 30, directives=reload) == Serve()
    assert decide(CachePolicy.PROTOCOL, entry, NOW + 60, directives=reload) == Validate(ETAG, "stale")
    assert decide(CachePolicy.PROTOCOL, entry, NOW + 30, directives=force_reload) == Validate(ETAG, "request")
    # RFC 8246, 3: not where somebody on the way may have written it.
    insecure = replace(entry, url="http://a.example/x.png")
    assert decide(CachePolicy.PROTOCOL, insecure, NOW + 30, directives=reload) == Validate(ETAG, "request")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (RequestDirectives(no_cache=True), "the call asks for no-cache"),
        (RequestDirectives(max_age=20), "what is stored for it is 50 s old, of max-age=20"),
        (RequestDirectives(min_fresh=5), "what is stored for it is fresh for 0 s, of min-fresh=5"),
        (RequestDirectives(max_stale=5), "what is stored for it is stale by 40 s, of max-stale=5"),
    ],
)
def test_a_refusal_says_what_was_not_met(asked: RequestDirectives, reason: str) -> None:
    assert decide(CachePolicy.CACHE_ONLY, stored(STALE_50), NOW + AGED, directives=asked) == Refuse(reason)
    alone = replace(asked, only_if_cached=True)
    assert decide(CachePolicy.PROTOCOL, stored(STALE_50), NOW + AGED, directives=alone) == Refuse(reason)


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
        assert decision == Validate(ETAG, "stale")
