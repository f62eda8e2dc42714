"""New small images of one batch are inserted many at a time, and nobody can tell: each is stored, refused, evicted and
told of as if it had been a batch of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings, strategies as st

from imagecache.clock import Clock
from imagecache.entry import Entry, Protection
from imagecache.keys import hash_for_key
from imagecache.storage import schema
from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT, ROW_COST
from imagecache.storage.rows import number_of
from imagecache.storage.stored import Stored, StoreResult, StoreStatus
from imagecache.testing.clock import FakeClock

from .conftest import MakeDisk
from .entries import entry_for, variant_of
from .harm import execute
from .test_disk import body_of, swept

SIZE = 1_000
COST = SIZE + ROW_COST
NO_LIMIT = 2**30
LARGE = b"L" * (INLINE_LIMIT + 1)
STORED, NO_ROOM, FAILED = StoreStatus.STORED, StoreStatus.NO_ROOM, StoreStatus.FAILED


def url_of(number: int) -> str:
    return f"http://a.example/{number}.png"


def body_for(number: int) -> bytes:
    """A body of its own for each, so that no two are mistaken for each other."""
    return b"%d " % number + b"b" * (SIZE - len(b"%d " % number))


def entries_for(clock: Clock, numbers: Sequence[int]) -> list[Entry]:
    return [entry_for(clock, body_for(number), url_of(number), etag=f'"{number}"') for number in numbers]


@asynccontextmanager
async def one_batch(disk: DiskStorage) -> AsyncIterator[None]:
    """What is queued in here is one batch: the writer's thread is held until all of it is there."""
    # One that was not used yet has no writer to hold.
    await disk.count()
    assert disk._store is not None
    go_on = threading.Event()
    disk._store.writer.start(lambda _: go_on.wait(10))
    try:
        yield
    finally:
        go_on.set()
        await disk.flush()


async def put(disk: DiskStorage, entries: Sequence[Entry], protection: Protection | None = None) -> list[StoreStatus]:
    """All in one batch, with the bodies that `entries_for` gave them."""
    async with one_batch(disk):
        bodies = [body_for(number_in(entry)) for entry in entries]
        futures = [disk.put(*pair, protection=protection) for pair in zip(entries, bodies, strict=True)]
    return [result.status for result in await asyncio.gather(*futures)]


def number_in(entry: Entry) -> int:
    return int(entry.url.removeprefix("http://a.example/").removesuffix(".png"))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the writer has SQLite execute, without what triggers do of themselves."""
    executed: list[str] = []
    connect = schema.connect

    def note(statement: str) -> None:
        # A trigger's statement is told as a comment, or as the one that set it off once more.
        if not statement.startswith("--") and executed[-1:] != [statement]:
            executed.append(statement)

    def traced(path: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr("imagecache.storage.index.connect", traced)
    return executed


# What it is for, and what is found


async def statements_for(disk: DiskStorage, clock: Clock, numbers: Sequence[int], statements: list[str]) -> int:
    """How many it takes to put these, in a folder where nothing else is going on."""
    await disk.count()
    await swept(disk)
    statements.clear()
    assert set(await put(disk, entries_for(clock, numbers))) == {STORED}
    return len(statements)


async def test_a_batch_of_new_images_is_not_three_statements_for_each(
    disk: DiskStorage, clock: FakeClock, statements: list[str]
) -> None:
    few = await statements_for(disk, clock, range(32), statements)
    many = await statements_for(disk, clock, range(32, 352), statements)
    assert 0 < few < 32
    assert many - few < (320 - 32) / 4


async def test_nor_is_one_of_a_page_of_images(disk: DiskStorage, clock: FakeClock, statements: list[str]) -> None:
    """A screen of pictures is some twenty: few beside a batch, and what somebody waits for."""
    assert 0 < await statements_for(disk, clock, range(24), statements) < 2 * 24


async def test_nor_is_one_whose_neighbour_is_there_already(
    disk: DiskStorage, clock: FakeClock, statements: list[str]
) -> None:
    await put(disk, entries_for(clock, [0]))
    assert 0 < await statements_for(disk, clock, range(128), statements) < 3 * 128 * 0.75


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 32, 33, 40, 100])
async def test_all_are_found_by_whoever_opens_the_folder_next(
    make_disk: MakeDisk, clock: FakeClock, count: int
) -> None:
    first = make_disk()
    entries = entries_for(clock, range(count))
    assert await put(first, entries) == [STORED] * count
    assert first.stores == count
    await first.aclose()
    again = make_disk()
    assert [entry async for entry in again.entries()] == entries, "in the order in which they came"
    for number, entry in enumerate(entries):
        found = await again.load(entry.row.key_hash, key=entry.key)
        assert found == Stored(entry, body_for(number))
    assert (await again.count(), await again.size()) == (count, count * SIZE)
    report = await again.verify()
    assert report.is_sound, str(report)
    assert (report.checked, report.bytes) == (count, count * SIZE)


async def test_bodies_of_all_sizes_stay_with_their_entries(make_disk: MakeDisk, clock: FakeClock) -> None:
    first = make_disk()
    bodies = [bytes([number]) * (INLINE_LIMIT * number // 31) for number in range(32)]
    entries = [entry_for(clock, body, url_of(number)) for number, body in enumerate(bodies)]
    async with one_batch(first):
        for entry, body in zip(entries, bodies, strict=True):
            first.put(entry, body)
    await first.aclose()
    again = make_disk()
    assert [await body_of(again, entry) for entry in entries] == bodies
    assert await again.size() == sum(map(len, bodies))


# The same as if each had been a batch of its own

What = Literal[
    "put", "put scoped", "put response", "put variant", "refresh", "refresh scoped", "remove", "discard", "pin", "unpin"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to the images of a number."""

    what: What
    number: int
    body: bytes = b""

    def begin(self, disk: DiskStorage, clock: Clock, protection: Protection | None) -> Awaitable[StoreResult | int]:
        """Do it, or be about to at the loop's next turn."""
        url, body = url_of(self.number), self.body
        key_hash = hash_for_key(url)
        match self.what:
            case "put":
                return disk.put(entry_for(clock, body, url), body, protection=protection)
            case "put scoped":
                return disk.put(entry_for(clock, body, url, scope="s" * 32), body, protection=protection)
            case "put response":
                return disk.put(entry_for(clock, body, url, namespace="response"), body, protection=protection)
            case "put variant":
                original = entry_for(clock, body_for(self.number), url)
                return disk.put(variant_of(original, body), body, protection=protection)
            case "refresh":
                return disk.refresh(entry_for(clock, body, url, etag='"renewed"'))
            case "refresh scoped":
                return disk.refresh(entry_for(clock, body, url, scope="s" * 32, etag=None))
            case "discard":
                disk.discard(entry_for(clock, body, url))
                # Nobody is told what becomes of it.
                return asyncio.ensure_future(asyncio.sleep(0, 0))
            case "remove":
                return asyncio.ensure_future(disk.remove(key_hash))
            case "pin" | "unpin":
                return asyncio.ensure_future(disk.pin(key_hash, pinned=self.what == "pin"))


def puts(*numbers: int) -> list[Act]:
    return [Act("put", number, body_for(number)) for number in numbers]


def refreshes(*numbers: int) -> list[Act]:
    return [Act("refresh", number, body_for(number)) for number in numbers]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was answered, and what the next process finds."""

    answers: list[StoreStatus | int]
    evictions: int
    protected: int
    rows: list[tuple[object, ...]]
    """Every column that does not name a place, in the order in which the rows were added."""
    bodies: dict[Entry, bytes | None]
    totals: tuple[int, int]
    changes: list[tuple[str, str | None]]
    """What is logged for other processes."""


async def outcome_of(
    directory: Path, before: Sequence[Act], acts: Sequence[Act], *, together: bool, limit: int, is_protected: bool
) -> Outcome:
    """Do this in one batch, or in one each, after ``before``, where each was one of its own in any case."""
    clock, protection = FakeClock(), Protection() if is_protected else None
    disk = DiskStorage(directory, clock=clock, limit=limit)
    answers: list[StoreResult | int] = []

    async def begin(act: Act) -> Awaitable[StoreResult | int]:
        # One second each, so that it is known who was used last.
        clock.advance(1)
        begun = act.begin(disk, clock, protection)
        await asyncio.sleep(0)
        return begun

    for act in before:
        answers.append(await (await begin(act)))
        await disk.flush()
    if together:
        async with one_batch(disk):
            begun = [await begin(act) for act in acts]
        answers += [await answer for answer in begun]
    else:
        for act in acts:
            answers.append(await (await begin(act)))
            # What found no room takes along what it outdates, behind.
            await disk.flush()
    evictions = disk.evictions
    await disk.aclose()

    again = DiskStorage(directory, clock=clock)
    bodies = {entry: await body_of(again, entry) async for entry in again.entries()}
    totals = await again.count(), await again.size()
    report = await again.verify()
    assert report.is_sound, str(report)
    await again.aclose()
    rows, changes = columns_of(directory)
    statuses = [answer.status if isinstance(answer, StoreResult) else answer for answer in answers]
    return Outcome(
        statuses, evictions, 0 if protection is None else len(protection), rows, bodies, totals, changes
    )  # fmt: skip


def columns_of(directory: Path) -> tuple[list[tuple[object, ...]], list[tuple[str, str | None]]]:
    """Of all rows, and of the log."""
    with closing(sqlite3.connect(directory / "imagecache-v2" / "index-1.sqlite")) as index:
        rows = index.execute("""
            SELECT id, key, key_hash, namespace, scope, vary, processor, checksum, etag, stored_until, lifetime,
                last_access, pinned, cost, file IS NULL, seal, metadata, (SELECT body FROM bodies WHERE id = entries.id)
            FROM entries ORDER BY id""").fetchall()
        assert index.execute("SELECT count(*) FROM bodies WHERE id NOT IN (SELECT id FROM entries)").fetchone() == (0,)
        return rows, index.execute("SELECT key_hash, checksum FROM changes ORDER BY seq").fetchall()


async def outcome(
    directory: Path,
    before: Sequence[Act],
    acts: Sequence[Act],
    *,
    limit: int = NO_LIMIT,
    is_protected: bool = False,
) -> Outcome:
    """Of one batch, after seeing that it is that of a batch each."""
    one, each = [
        await outcome_of(
            directory / name, before, acts, together=name == "one", limit=limit, is_protected=is_protected
        )
        for name in ("one", "each")
    ]  # fmt: skip
    assert one == each
    return one


NEW = puts(*range(100, 132))
"""As many as are inserted at once, to stand on both sides of what is no new small image."""
FIRST, LAST = NEW[:16], NEW[16:]
OTHER = b"other bytes"
CASES: dict[str, tuple[list[Act], list[Act]]] = {
    "one is there with other bytes": ([Act("put", 1, OTHER)], [*FIRST, *puts(1), *LAST]),
    "one is there with the same bytes": (puts(1), [*FIRST, *puts(1), *LAST]),
    "the first and the last are there": ([Act("put", 100, OTHER), *puts(131)], NEW),
    "all are there": (NEW, [Act("put", act.number, OTHER + act.body) for act in NEW]),
    "one is there in a file": ([Act("put", 1, LARGE)], [*FIRST, *puts(1), *LAST]),
    "one is there with variants": ([*puts(1), Act("put variant", 1, b"v")], [*FIRST, Act("put", 1, OTHER), *LAST]),
    "one is there in another scope": ([Act("put scoped", 1, OTHER)], [*FIRST, *puts(1), *LAST]),
    "one is there, pinned": ([*puts(1), Act("pin", 1)], [*FIRST, Act("put", 1, OTHER), *LAST]),
    "one comes twice": ([], [*FIRST, *puts(1), *LAST[:8], *puts(1), *LAST[8:]]),
    "one comes twice in a row": ([], [*FIRST, *puts(1, 1), *LAST]),
    "one comes with other bytes later": ([], [*puts(1), *NEW[:20], Act("put", 1, OTHER), *NEW[20:]]),
    "one comes in two scopes": ([], [*FIRST, *puts(1), Act("put scoped", 1, OTHER), *LAST]),
    "all come twice": ([], [*NEW, *NEW]),
    "one goes into a file": ([], [*FIRST, Act("put", 1, LARGE), *LAST]),
    "one goes into a file, and back": ([], [*FIRST, Act("put", 1, LARGE), *LAST[:9], *puts(1), *LAST[9:]]),
    "one is empty": ([], [*FIRST, Act("put", 1, b""), *LAST]),
    "one is no image": ([], [*FIRST, Act("put response", 1, OTHER), *LAST]),
    "one is a variant of what is not there": ([], [*FIRST, Act("put variant", 1, b"v"), *LAST]),
    "one is a variant of one": ([], [*FIRST, *puts(1), *LAST[:8], Act("put variant", 1, b"v"), *LAST[8:]]),
    "one is a variant of one to come": ([], [*FIRST, Act("put variant", 1, b"v"), *puts(1), *LAST]),
    "one is a variant of other bytes": ([], [*FIRST, Act("put", 1, OTHER), Act("put variant", 1, b"v"), *LAST]),
    "one loses its variant": ([], [*puts(1), Act("put variant", 1, b"v"), *NEW, Act("put", 1, OTHER), *NEW[:9]]),
    "one is removed": ([], [*puts(1), *FIRST, Act("remove", 1), *LAST]),
    "one is removed, and comes again": ([], [*puts(1), *FIRST, Act("remove", 1), *puts(1), *LAST]),
    "one is removed that was there": (puts(1), [*FIRST, Act("remove", 1), *puts(1), *LAST]),
    "one is removed that is to come": ([], [*FIRST, Act("remove", 120), *LAST]),
    "one is pinned": ([], [*FIRST, Act("pin", 103), *LAST]),
    "one is pinned that is to come": ([], [*FIRST, Act("pin", 120), *LAST]),
    "one proves to be of no use": ([], [*FIRST, Act("discard", 103, body_for(103)), *LAST]),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_no_new_small_image_is_what_it_is_among_others(tmp_path: Path, case: str) -> None:
    before, acts = CASES[case]
    found = await outcome(tmp_path, before, acts)
    # Not two that are the same because neither did anything.
    assert found.totals[0] >= len(NEW) - 1


RENEWED = refreshes(*range(100, 132))
REFRESHES: dict[str, tuple[list[Act], list[Act]]] = {
    "all are there": (NEW, RENEWED),
    "some are there": (FIRST, RENEWED),
    "one has gone": (NEW, [Act("remove", 110), *RENEWED]),
    "one has other bytes": ([*FIRST, *LAST, Act("put", 110, OTHER)], RENEWED),
    "one lies in a file": ([*NEW, Act("put", 1, LARGE)], [*RENEWED[:16], Act("refresh", 1, LARGE), *RENEWED[16:]]),
    "one is pinned": ([*NEW, Act("pin", 110)], RENEWED),
    "one has a variant": ([*NEW, Act("put variant", 110, b"v")], RENEWED),
    "one has another scope, too": ([*NEW, Act("put scoped", 110, OTHER)], RENEWED),
    "one is of another scope": ([*NEW, Act("put scoped", 1, OTHER)], [*RENEWED, Act("refresh scoped", 1, OTHER)]),
    "one comes twice": (NEW, [*RENEWED[:20], *refreshes(100), *RENEWED[20:]]),
    "all come twice": (NEW, [*RENEWED, *RENEWED]),
    "they come behind what they renew": ([], [*NEW, *RENEWED]),
    "one is removed between": (NEW, [*RENEWED[:16], Act("remove", 120), *RENEWED[16:]]),
    "one is put between": (NEW, [*RENEWED[:16], Act("put", 120, OTHER), *RENEWED[16:]]),
}


@pytest.mark.parametrize("case", REFRESHES)
async def test_what_is_renewed_is_what_each_would_be_alone(tmp_path: Path, case: str) -> None:
    before, acts = REFRESHES[case]
    found = await outcome(tmp_path, before, acts)
    assert sum(entry.etag == '"renewed"' for entry in found.bodies) >= len(FIRST)


async def test_a_batch_of_renewed_images_is_not_two_statements_for_each(
    disk: DiskStorage, clock: FakeClock, statements: list[str]
) -> None:
    entries = entries_for(clock, range(128))
    await put(disk, entries)
    await swept(disk)
    statements.clear()
    async with one_batch(disk):
        futures = [disk.refresh(replace(entry, etag='"renewed"')) for entry in entries]
    assert {(await future).status for future in futures} == {STORED}
    assert 0 < len(statements) < 128 / 4
    assert {entry.etag async for entry in disk.entries()} == {'"renewed"'}


NUMBERS = range(16)
STEPS: list[tuple[What, bytes | None]] = [
    ("put", None), ("put", b""), ("put", OTHER), ("put", LARGE), ("put scoped", OTHER), ("put response", OTHER),
    ("put variant", b"v"), ("refresh", None), ("refresh", OTHER), ("refresh scoped", OTHER), ("remove", b""),
    ("discard", None), ("pin", b""), ("unpin", b""),
]  # fmt: skip
"""None is the body that an image has most often."""
RENEWALS = [*[STEPS[7]] * 12, *STEPS[8:10]]


def several(steps: Sequence[tuple[What, bytes | None]]) -> st.SearchStrategy[list[Act]]:
    """Some of these steps, and runs of puts and refreshes of different keys between, most of them plain."""
    one = st.tuples(st.permutations(NUMBERS), st.lists(st.sampled_from(steps), min_size=1, max_size=2))
    plain = st.sampled_from([*STEPS[:1] * 9, *(step for step in steps if step[0].startswith("put"))])
    many = st.tuples(st.permutations(NUMBERS), st.lists(plain, min_size=8, max_size=16))
    again = st.tuples(st.permutations(NUMBERS), st.lists(st.sampled_from(RENEWALS), min_size=8, max_size=16))
    some = st.lists(one.map(acts_of) | many.map(acts_of) | again.map(acts_of), min_size=1, max_size=6)
    return some.map(lambda groups: [act for acts in groups for act in acts])


def acts_of(drawn: tuple[list[int], list[tuple[What, bytes | None]]]) -> list[Act]:
    numbers, steps = drawn
    return [
        Act(what, number, body_for(number) if body is None else body)
        for number, (what, body) in zip(numbers, steps, strict=False)
    ]


@given(before=several(STEPS), acts=several(STEPS))
@settings(max_examples=25)
def test_whatever_comes_in_a_batch_ends_as_if_each_came_alone(before: list[Act], acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(outcome(Path(directory), before[:4], acts))


@given(before=several(STEPS), acts=several(STEPS), room=st.integers(2, 40))
@settings(max_examples=25)
def test_whatever_comes_within_a_limit_evicts_as_if_each_came_alone(
    before: list[Act], acts: list[Act], room: int
) -> None:
    limit = room * COST
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(outcome(Path(directory), before[:4], acts, limit=limit))
    assert found.totals[1] + found.totals[0] * ROW_COST <= limit


# The limit


@dataclass(frozen=True, slots=True)
class Fill:
    """Puts of equal size within a limit of so many of them, and how many of them have which end."""

    room: int
    before: list[Act]
    acts: list[Act]
    is_protected: bool
    stored: int
    evictions: int
    left: int


PINNED = [*puts(*range(10)), *(Act("pin", number) for number in range(10))]
FILLS: dict[str, Fill] = {
    "all just fit": Fill(32, [], NEW, False, stored=32, evictions=0, left=32),
    "one does not fit": Fill(31, [], NEW, False, stored=32, evictions=16, left=16),
    "the first run fits, the second does not": Fill(40, [], puts(*range(64)), False, stored=64, evictions=40, left=24),
    "what fits leaves nothing for the next run": Fill(
        32, [], puts(*range(64)), False, stored=64, evictions=32, left=32
    ),
    "less than a run fits": Fill(5, [], puts(*range(32)), False, stored=32, evictions=27, left=5),
    "older ones make room": Fill(20, puts(*range(20)), NEW, False, stored=32, evictions=40, left=12),
    "pinned ones make none": Fill(10, PINNED, NEW, False, stored=0, evictions=0, left=10),
    "neither do those of the same job": Fill(10, [], NEW, True, stored=10, evictions=0, left=10),
    "a job takes all the room there is": Fill(40, [], puts(*range(72)), True, stored=40, evictions=0, left=40),
}  # fmt: skip


@pytest.mark.parametrize("case", FILLS)
async def test_nobody_is_stored_beyond_the_limit(tmp_path: Path, case: str) -> None:
    fill = FILLS[case]
    limit = fill.room * COST
    found = await outcome(tmp_path, fill.before, fill.acts, limit=limit, is_protected=fill.is_protected)
    assert found.totals[1] + found.totals[0] * ROW_COST <= limit
    answers = found.answers[len(fill.before) :]
    assert answers == [STORED] * fill.stored + [NO_ROOM] * (len(fill.acts) - fill.stored)
    assert (found.evictions, found.totals[0]) == (fill.evictions, fill.left)


async def test_a_byte_too_much_is_too_much(tmp_path: Path) -> None:
    just = await outcome(tmp_path / "just", [], NEW, limit=32 * COST)
    less = await outcome(tmp_path / "less", [], NEW, limit=32 * COST - 1)
    assert just.evictions == 0
    assert less.evictions > 0


async def test_what_found_no_room_outdates_what_is_there_and_leaves_its_room_to_the_next(tmp_path: Path) -> None:
    newer = [Act("put", number, body_for(number) + b"!") for number in range(10)]
    found = await outcome(tmp_path, PINNED, newer, limit=10 * COST)
    assert found.answers[len(PINNED) :] == [NO_ROOM] + [STORED] * 9
    assert found.totals[0] == 9


async def test_what_found_no_room_does_not_outdate_what_came_behind_it(tmp_path: Path) -> None:
    """Both in one batch: the one that is too long must not take away what was stored in its place after it."""
    acts = [Act("put", 0, body_for(0) + b"!"), Act("put", 0, body_for(0)[:-1])]
    found = await outcome(tmp_path, PINNED, acts, limit=10 * COST)
    assert found.answers[len(PINNED) :] == [NO_ROOM, STORED]
    assert found.totals == (10, 10 * SIZE - 1)


async def test_the_lowest_limit_of_a_batch_is_kept(make_disk: MakeDisk, clock: FakeClock) -> None:
    """Two storages may share a folder, and its one writer, with limits of their own."""
    wide, narrow = make_disk(), make_disk(limit=10 * COST)
    entries = entries_for(clock, range(32))
    # The last one's: what came before it is what it has to make room among.
    async with one_batch(wide):
        futures = [
            (narrow if number == 31 else wide).put(entry, body_for(number)) for number, entry in enumerate(entries)
        ]
    assert [(await future).status for future in futures] == [STORED] * 32
    assert await wide.size() + await wide.count() * ROW_COST <= 10 * COST
    assert wide.evictions > 0


# What else a put does


async def test_what_was_put_under_a_protection_is_protected(make_disk: MakeDisk, clock: FakeClock) -> None:
    disk = make_disk(limit=32 * COST)
    protection, entries = Protection(), entries_for(clock, range(32))
    assert await put(disk, entries, protection) == [STORED] * 32
    assert len(protection) == 32
    assert all(entry.row in protection for entry in entries)
    clock.advance(1)
    assert await put(disk, entries_for(clock, range(32, 42)), protection) == [NO_ROOM] * 10
    assert {entry.url async for entry in disk.entries()} == {entry.url for entry in entries}
    assert await put(disk, entries_for(clock, range(42, 50))) == [STORED] * 8, "others are not bound by it"


async def test_each_job_protects_its_own(disk: DiskStorage, clock: FakeClock) -> None:
    protections = [Protection(), None, Protection()]
    entries = entries_for(clock, range(32))
    async with one_batch(disk):
        for number, entry in enumerate(entries):
            disk.put(entry, body_for(number), protection=protections[number % 3])
    for position in (0, 2):
        protection = protections[position]
        assert protection is not None
        assert [entry.row in protection for entry in entries] == [number % 3 == position for number in range(32)]


@pytest.mark.parametrize("is_there", [False, True], ids=["in one batch", "there before"])
async def test_key_hashes_that_begin_alike_are_two(make_disk: MakeDisk, clock: FakeClock, is_there: bool) -> None:
    """Rows are looked up by the first 44 bits of their key hash, which need not be theirs alone."""
    first = make_disk()
    entries = entries_for(clock, range(32))
    key_hash = entries[3].row.key_hash
    alike = key_hash[:11] + hash_for_key("another")[11:]
    entries[20] = replace(entries[20], row=replace(entries[20].row, key_hash=alike))
    assert alike != key_hash
    assert number_of(alike) == number_of(key_hash)
    if is_there:
        await first.put(entries[3], body_for(3))
    assert await put(first, entries) == [STORED] * 32
    await first.aclose()
    again = make_disk()
    assert await again.count() == 32
    assert [await body_of(again, entry) for entry in entries] == [body_for(number) for number in range(32)]
    assert await again.remove(alike) == 1
    assert await body_of(again, entries[3]) == body_for(3)


def not_a_time(entry: Entry) -> Entry:
    return replace(entry, request_time=float("nan"))


def never_ending(entry: Entry) -> Entry:
    return replace(entry, stored_until=float("nan"))


def not_text(entry: Entry) -> Entry:
    return replace(entry, etag="\ud800")


@pytest.mark.parametrize("spoil", [not_a_time, never_ending, not_text])
@pytest.mark.parametrize("position", [0, 13, 31])
async def test_one_that_cannot_be_written_fails_alone(
    disk: DiskStorage, clock: FakeClock, spoil: Callable[[Entry], Entry], position: int
) -> None:
    protection, entries = Protection(), entries_for(clock, range(40))
    entries[position] = spoil(entries[position])
    statuses = await put(disk, entries, protection)
    expected = [STORED] * 40
    expected[position] = FAILED
    assert statuses == expected
    assert await disk.count() == 39
    assert await disk.size() == 39 * SIZE
    assert [await body_of(disk, entry) is not None for entry in entries] == [s is STORED for s in expected]
    assert entries[position].row not in protection
    assert (await disk.verify()).is_sound
    assert await put(disk, entries_for(clock, range(40, 72))) == [STORED] * 32, "what comes next is whole again"


@pytest.mark.parametrize("left", [0, 7])
async def test_ids_may_run_out(make_disk: MakeDisk, clock: FakeClock, folder: Path, left: int) -> None:
    """One bit of an id is enough for it to be the highest there can be; SQLite then finds another for each new row."""
    first = make_disk()
    old, *entries = entries_for(clock, range(33))
    await first.put(old, body_for(0))
    await first.aclose()
    last = 2**63 - 1 - left
    execute(f"UPDATE entries SET id = {last}", f"UPDATE bodies SET id = {last}")(folder / "index-1.sqlite")
    again = make_disk()
    assert await put(again, entries) == [STORED] * 32
    assert [await body_of(again, entry) for entry in (old, *entries)] == [body_for(number) for number in range(33)]
    assert (await again.verify()).is_sound
    assert again.faults == 0


async def test_other_processes_hear_of_all(make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock) -> None:
    here, there = make_disk(), make_other()
    heard: list[tuple[str, str | None]] = []
    own: list[tuple[str, str | None]] = []
    here.subscribe(heard.extend)
    there.subscribe(own.extend)
    await here.count()
    await here.poll()
    entries = entries_for(clock, range(40))
    assert set(await put(there, entries)) == {STORED}
    await there.poll()
    await here.poll()
    await asyncio.sleep(0)
    assert heard == [(entry.row.key_hash, entry.checksum) for entry in entries]
    assert own == []
    assert [await body_of(here, entry) for entry in entries] == [body_for(number) for number in range(40)]


async def test_storages_of_one_process_hear_of_each_others(make_disk: MakeDisk, clock: FakeClock) -> None:
    """The writer inserts what both have put by one statement, and knows still whose it was."""
    disks = make_disk(), make_disk()
    heard: list[list[tuple[str, str | None]]] = [[], []]
    for disk, changes in zip(disks, heard, strict=True):
        disk.subscribe(changes.extend)
        await disk.count()
    entries = entries_for(clock, range(32))
    async with one_batch(disks[0]):
        for number, entry in enumerate(entries):
            disks[number % 2].put(entry, body_for(number))
    await asyncio.sleep(0)
    hashes = [(entry.row.key_hash, entry.checksum) for entry in entries]
    assert heard == [hashes[1::2], hashes[0::2]]


async def test_an_access_to_one_of_the_batch_counts(make_disk: MakeDisk, clock: FakeClock) -> None:
    disk = make_disk(limit=32 * COST)
    entries = entries_for(clock, range(32))
    async with one_batch(disk):
        for number, entry in enumerate(entries):
            disk.put(entry, body_for(number))
        clock.advance(1)
        disk.touch(entries[0].row)
    assert await put(disk, entries_for(clock, [32])) == [STORED]
    assert url_of(0) in {entry.url async for entry in disk.entries()}
