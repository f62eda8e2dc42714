"""Many flights that are asked for at once begin some at a time, so that the loop looks at its sockets in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from imagecache import ImageManager
from imagecache.clock import SystemClock
from imagecache.errors import ManagerClosedError
from imagecache.network.downloader import ImageDownloader
from imagecache.pipeline.flight import Caller, Flight, FlightTable
from imagecache.pipeline.turns import AT_ONCE

MANY = 60
AT_MOST = 2 * AT_ONCE
"""Who counts turns has a place in each: what comes behind it in one and before it in the next is one turn to it."""


class Turns:
    """Which turn of the loop it is."""

    def __init__(self) -> None:
        self.number = 0

    async def count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    turns = Turns()
    counting = asyncio.create_task(turns.count())
    await asyncio.sleep(0)
    yield turns
    counting.cancel()


class Works:
    """What is begun, in which turn, and held until the end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: dict[int, int] = {}
        self.gate, self.came = asyncio.Event(), asyncio.Event()

    def ask(self, table: FlightTable, number: int) -> asyncio.Task[int]:
        async def work(_: Flight[int]) -> int:
            self.begun[number] = self.turns.number
            self.came.set()
            await self.gate.wait()
            return number

        return asyncio.create_task(table.join(number, work, Caller(SystemClock())))

    @property
    def most(self) -> int:
        return max(Counter(self.begun.values()).values())

    async def until(self, count: int) -> None:
        while len(self.begun) < count:
            self.came.clear()
            await self.came.wait()


@pytest.fixture
def works(turns: Turns) -> Works:
    return Works(turns)


async def test_many_at_once_begin_some_at_a_time_in_their_order(works: Works) -> None:
    table = FlightTable()
    calls = [works.ask(table, number) for number in range(MANY)]
    await works.until(MANY)
    assert works.most <= AT_MOST
    assert list(works.begun) == list(range(MANY))
    works.gate.set()
    assert await asyncio.gather(*calls) == list(range(MANY))


async def test_few_at_once_all_begin_in_the_same_turn(works: Works) -> None:
    table = FlightTable()
    for number in range(AT_ONCE):
        works.ask(table, number)
    await works.until(AT_ONCE)
    assert len(set(works.begun.values())) == 1


async def test_later_ones_are_not_kept_waiting_for_it(works: Works, turns: Turns) -> None:
    """However many have begun by then."""
    table = FlightTable()
    for number in range(4 * MANY):
        works.ask(table, number)
        asked = turns.number
        await works.until(number + 1)
        # The caller's own, the flight's, and at most one more.
        assert works.begun[number] <= asked + 3


async def test_the_turn_of_one_who_was_cancelled_goes_to_the_next(works: Works) -> None:
    table = FlightTable()
    calls = [works.ask(table, number) for number in range(MANY)]
    await asyncio.sleep(0)
    gone = range(2 * AT_ONCE, 4 * AT_ONCE)
    for number in gone:
        calls[number].cancel()
    await works.until(MANY - len(gone))
    assert not works.begun.keys() & set(gone)
    assert works.most <= AT_MOST
    works.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(table) == 0


async def test_closing_ends_those_who_wait_for_their_turn(works: Works) -> None:
    table = FlightTable()
    calls = [works.ask(table, number) for number in range(MANY)]
    await asyncio.sleep(0)
    await table.close()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, ManagerClosedError) for end in ends)
    assert len(works.begun) < MANY


async def test_a_page_that_waited_for_its_folder_goes_on_some_at_a_time(
    tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    all_asked = asyncio.Event()

    async def download(self: ImageDownloader, *args: Any, **options: Any) -> None:
        asked.append(turns.number)
        if len(asked) == MANY:
            all_asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ImageDownloader, "download", download)
    async with ImageManager(directory=tmp_path) as images:
        calls = [asyncio.create_task(images.fetch_image(f"http://a.example/{n}.png")) for n in range(MANY)]
        await all_asked.wait()
        assert max(Counter(asked).values()) <= AT_MOST
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
