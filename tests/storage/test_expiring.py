"""Between looking for what has expired and deleting it, anybody may write: what is wanted again by then stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from imagecache.expiration import StorageExpiration
from imagecache.keys import hash_for_key
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import Expired, Index
from imagecache.testing.clock import FakeClock

from .entries import entry_for

SHORT = StorageExpiration.after_seconds(30)


def url_of(name: str) -> str:
    return f"http://a.example/{name}.png"


@pytest.fixture
def meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have another process execute a statement each time that expired rows have been looked for."""
    statements: list[str] = []
    expired = Index.expired

    def looked(self: Index, now: float, after: float, limit: int) -> list[Expired]:
        found = expired(self, now, after, limit)
        with closing(sqlite3.connect(folder / "index-1.sqlite", isolation_level=None)) as other:
            for statement in statements:
                other.execute(statement)
        return found

    monkeypatch.setattr(Index, "expired", looked)
    return statements.append


async def test_only_what_is_expired_and_not_pinned_by_then_goes(
    disk: DiskStorage, clock: FakeClock, meanwhile: Callable[[str], None]
) -> None:
    for name in ("touched", "pinned", "neither"):
        await disk.put(entry_for(clock, name.encode(), url_of(name), expiration=SHORT), name.encode())
    clock.advance(60)
    key_hashes = {name: hash_for_key(url_of(name)) for name in ("touched", "pinned", "neither")}
    until = clock.time() + 30
    meanwhile(f"UPDATE entries SET stored_until = {until!r} WHERE key_hash = '{key_hashes['touched']}'")
    meanwhile(f"UPDATE entries SET pinned = 1 WHERE key_hash = '{key_hashes['pinned']}'")
    assert await disk.clean() == [key_hashes["neither"]]
    assert {entry.row.key_hash async for entry in disk.entries()} == {key_hashes["touched"], key_hashes["pinned"]}


async def test_a_row_in_an_expired_ones_place_goes_by_its_own_name(
    disk: DiskStorage, clock: FakeClock, meanwhile: Callable[[str], None]
) -> None:
    await disk.put(entry_for(clock, b"old", url_of("old"), expiration=SHORT), b"old")
    clock.advance(60)
    # SQLite gives the highest id anew when its row is gone.
    meanwhile("UPDATE entries SET key_hash = 'another'")
    assert await disk.clean() == ["another"]
