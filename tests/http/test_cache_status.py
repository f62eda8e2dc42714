"""The Cache-Status field (RFC 9211)."""

from __future__ import annotations

import pytest

from imagecache import CacheStatus


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (CacheStatus(), "imagecache"),
        (CacheStatus(hit=True, ttl=30, detail="memory"), "imagecache; hit; ttl=30; detail=memory"),
        (
            CacheStatus(forward="stale", forward_status=304, stored=True, ttl=-5),
            "imagecache; fwd=stale; fwd-status=304; stored; ttl=-5",
        ),
        (CacheStatus(forward="uri-miss", collapsed=True), "imagecache; fwd=uri-miss; collapsed"),
        (CacheStatus(detail='a "word"\\'), 'imagecache; detail="a \\"word\\"\\\\"'),
        (CacheStatus(detail="naïve"), 'imagecache; detail="na?ve"'),
    ],
)
def test_the_field_value(status: CacheStatus, value: str) -> None:
    assert str(status) == value
