"""Metadata as it is written: what is read is what was stored, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from imagecache.entry import Entry, RowKey
from imagecache.headers import Headers
from imagecache.storage.record import DamagedError, decode, encode, seal

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIELDS = st.lists(st.tuples(TEXT, TEXT), max_size=5)
TIMES = st.floats(0, 1e11)
LIFETIMES = st.none() | st.just(float("inf")) | TIMES

ENTRIES = st.builds(
    Entry,
    row=st.builds(RowKey, TEXT, TEXT, TEXT, TEXT, st.sampled_from(["image", "response", "partial", "negative"])),
    key=TEXT,
    url=TEXT,
    final_url=TEXT,
    status=st.integers(100, 999),
    headers=FIELDS.map(Headers),
    vary_fields=FIELDS.map(tuple),
    asked_fields=st.none() | FIELDS.map(tuple),
    request_time=TIMES,
    response_time=TIMES,
    validated_at=TIMES,
    stored_at=TIMES,
    stored_until=TIMES,
    lifetime=LIFETIMES,
    checksum=TEXT,
    source_checksum=TEXT,
    byte_count=st.integers(0, 2**40),
    etag=st.none() | TEXT,
    format=st.none() | TEXT,
    width=st.none() | st.integers(1, 10**6),
    height=st.none() | st.integers(1, 10**6),
)


@given(ENTRIES)
def test_what_is_stored_is_what_is_read(entry: Entry) -> None:
    metadata = encode(entry)
    assert decode(metadata, seal(metadata), entry.stored_until, entry.lifetime) == entry


@given(ENTRIES, st.integers(0, 10**6), st.characters(exclude_categories=["Cs"]))
def test_what_was_changed_on_the_way_is_nothing(entry: Entry, place: int, character: str) -> None:
    metadata = encode(entry)
    place %= len(metadata)
    changed = metadata[:place] + character + metadata[place + 1 :]
    if changed != metadata:
        with pytest.raises(DamagedError):
            decode(changed, seal(metadata), entry.stored_until, entry.lifetime)
