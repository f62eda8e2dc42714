"""Which work is still of what is current: by key for everybody, by row for one user."""

from __future__ import annotations

import pytest

from imagecache.entry import Entry, RowKey
from imagecache.headers import Headers
from imagecache.pipeline.cached import Currency, Stamp


def entry(checksum: str = "a", *, scope: str = "", asked_at: float = 0.0, key_hash: str = "key") -> Entry:
    return Entry(
        row=RowKey(key_hash, scope=scope),
        key="http://a.example/",
        url="http://a.example/",
        final_url="http://a.example/",
        status=200,
        headers=Headers(),
        vary_fields=(),
        request_time=asked_at,
        response_time=asked_at,
        validated_at=asked_at,
        stored_at=asked_at,
        stored_until=1e12,
        lifetime=None,
        checksum=checksum,
        source_checksum=checksum,
        byte_count=1,
    )


def stamp(currency: Currency, of: Entry) -> Stamp:
    made = currency.stamp(of.row.key_hash)
    made.entry = of
    return made


@pytest.fixture
def currency() -> Currency:
    return Currency()


@pytest.mark.parametrize("scope", ["", "alice"])
def test_other_bytes_of_the_same_row_make_work_out_of_date_and_the_same_ones_do_not(
    currency: Currency, scope: str
) -> None:
    of_a = stamp(currency, entry("a", scope=scope))
    assert currency.is_current(of_a)
    currency.supersede(RowKey("key", scope=scope), "a")
    assert currency.is_current(of_a)
    currency.supersede(RowKey("key", scope=scope), "b")
    assert not currency.is_current(of_a)


@pytest.mark.parametrize(("mine", "others"), [("alice", "bob"), ("", "bob"), ("alice", "")])
def test_what_happens_to_another_users_row_is_no_concern_of_ones_own(
    currency: Currency, mine: str, others: str
) -> None:
    of_mine = stamp(currency, entry("a", scope=mine))
    currency.supersede(RowKey("key", scope=others), "b")
    currency.answered(entry("b", scope=others, asked_at=9), "b")
    currency.supersede(RowKey("key", scope=others), None)
    assert currency.is_current(of_mine)
    assert not currency.is_outrun(entry("a", scope=mine, asked_at=1))


@pytest.mark.parametrize("scope", ["", "alice"])
def test_what_is_removed_for_everybody_is_removed_for_each(currency: Currency, scope: str) -> None:
    of_a = stamp(currency, entry("a", scope=scope))
    currency.supersede("key", None)
    assert not currency.is_current(of_a)
    # What one user stored after that is no proof that the other work is still of something current.
    currency.supersede(RowKey("key", scope=scope), "a")
    assert not currency.is_current(of_a)
    assert currency.is_current(stamp(currency, entry("a", scope=scope)))


def test_clearing_makes_everything_out_of_date_that_began_before(currency: Currency) -> None:
    before = stamp(currency, entry())
    currency.supersede_all()
    assert not currency.is_current(before)
    assert currency.is_current(stamp(currency, entry()))


def test_only_a_later_question_with_other_bytes_outruns_an_answer(currency: Currency) -> None:
    assert not currency.is_outrun(entry("a", asked_at=1))
    currency.answered(entry("b", asked_at=5), "b")
    assert currency.is_outrun(entry("a", asked_at=4))
    assert not currency.is_outrun(entry("a", asked_at=5))
    assert not currency.is_outrun(entry("a", asked_at=6))
    assert not currency.is_outrun(entry("b", asked_at=4))
    # One that may not be kept outruns as well: what was asked before is no better for being storable.
    currency.answered(entry("c", asked_at=7), None)
    assert currency.is_outrun(entry("a", asked_at=6))


def test_work_older_than_what_is_remembered_is_taken_to_be_out_of_date(
    currency: Currency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Currency, "REMEMBERED", 3)
    old = stamp(currency, entry())
    for number in range(3):
        currency.supersede(RowKey(f"other {number}"), "x")
    assert currency.is_current(old)
    currency.supersede(RowKey("other 3"), "x")
    assert not currency.is_current(old)
    assert currency.is_current(stamp(currency, entry()))
