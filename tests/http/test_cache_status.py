"""Cache-Status: what was done, as the structured field that RFC 9211 makes of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from imagecache.cache_status import INTEGER_LIMIT, CacheStatus


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (CacheStatus(), "imagecache"),
        (CacheStatus(hit=True), "imagecache; hit"),
        (CacheStatus(hit=True, ttl=30, detail="memory"), "imagecache; hit; ttl=30; detail=memory"),
        (CacheStatus(hit=True, ttl=-30), "imagecache; hit; ttl=-30"),
        (CacheStatus(hit=True, ttl=0), "imagecache; hit; ttl=0"),
        (CacheStatus(forward="uri-miss", forward_status=200, collapsed=True),
         "imagecache; fwd=uri-miss; fwd-status=200; collapsed"),
        (CacheStatus(forward="stale", forward_status=304, stored=True, ttl=60),
         "imagecache; fwd=stale; fwd-status=304; stored; ttl=60"),
        # A hit was not forwarded, and only what was forwarded has been stored.
        (CacheStatus(hit=True, forward="stale", forward_status=304, stored=True, collapsed=True), "imagecache; hit"),
        (CacheStatus(stored=True, collapsed=True), "imagecache"),
        (CacheStatus(detail="only-if-cached"), "imagecache; detail=only-if-cached"),
        # A token, or else a string
        (CacheStatus(detail="nothing is stored"), 'imagecache; detail="nothing is stored"'),
        (CacheStatus(detail="a/b:c*"), "imagecache; detail=a/b:c*"),
        (CacheStatus(detail="7up"), 'imagecache; detail="7up"'),
        (CacheStatus(detail=""), 'imagecache; detail=""'),
        (CacheStatus(detail='a "b" \\'), r'imagecache; detail="a \"b\" \\"'),
        (CacheStatus(detail="a\r\nX: ä"), 'imagecache; detail="a??X: ?"'),
        (CacheStatus(detail="a\n"), 'imagecache; detail="a?"'),
        (CacheStatus(ttl=10**20), f"imagecache; ttl={INTEGER_LIMIT}"),
        (CacheStatus(ttl=-(10**20)), f"imagecache; ttl=-{INTEGER_LIMIT}"),
    ],
)  # fmt: skip
def test_the_field_value(status: CacheStatus, value: str) -> None:
    assert str(status) == value


@given(st.text())
def test_any_detail_is_a_token_or_a_string(detail: str) -> None:
    value = str(CacheStatus(detail=detail)).removeprefix("imagecache; detail=")
    assert re.fullmatch(r'[A-Za-z*][!#-\'*+.^_`|~\w:/-]*|"([ !#-\[\]-~]|\\["\\])*"', value, re.ASCII)
