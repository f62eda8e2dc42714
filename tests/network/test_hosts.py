"""Slots: how many, for whom next, and none lost."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, settings, strategies as st

from imagecache.network.hosts import HostLimiter, Slot
from imagecache.network.priority import PriorityTicket
from imagecache.network.settings import NetworkOptions
from imagecache.request import Priority
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import Exchange, RawServer


class Queue:
    """Waiters by name, and the order in which they were served."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.limiter = HostLimiter(self.clock, **options)  # type: ignore[arg-type]
        self.served: list[str] = []
        self.slots: dict[str, Slot] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.tickets: dict[str, PriorityTicket] = {}

    async def join(self, name: str, host: str = "a", priority: Priority = Priority.NORMAL) -> None:
        async def wait() -> None:
            self.slots[name] = await self.limiter.acquire(host, ticket)
            self.served.append(name)

        ticket = self.tickets[name] = PriorityTicket(priority)
        self.tasks[name] = asyncio.create_task(wait())
        await turns()

    async def leave(self, name: str) -> None:
        self.slots.pop(name).release()
        await turns()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await turns()


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_host_gets_so_many_and_others_are_not_held_up() -> None:
    queue = Queue(per_host=2)
    for name in ("1", "2", "3"):
        await queue.join(name)
    await queue.join("other", host="b")
    assert queue.served == ["1", "2", "other"]
    await queue.leave("1")
    assert queue.served[-1] == "3"


async def test_hosts_have_limits_of_their_own_by_name() -> None:
    queue = Queue(per_host=1, host_limits={"cdn": 3})
    for n in range(4):
        await queue.join(f"cdn{n}", host="cdn")
        await queue.join(f"a{n}")
    assert queue.served == ["cdn0", "a0", "cdn1", "cdn2"]


async def test_all_hosts_together_get_so_many() -> None:
    queue = Queue(per_host=2, connections=3)
    for n in range(3):
        await queue.join(f"a{n}", host="a")
        await queue.join(f"b{n}", host="b")
    assert queue.served == ["a0", "b0", "a1"]
    await queue.leave("a0")
    assert queue.served[-1] == "b1"
    await queue.leave("b0")
    assert queue.served[-1] == "a2"


async def test_priorities_come_first_and_then_whoever_was_first() -> None:
    queue = Queue(per_host=1)
    await queue.join("running")
    for n in range(2):
        await queue.join(f"low{n}", priority=Priority.LOW)
        await queue.join(f"normal{n}")
        await queue.join(f"high{n}", priority=Priority.HIGH)
    for name in ("running", "high0", "high1", "normal0", "normal1", "low0"):
        await queue.leave(name)
    assert queue.served == ["running", "high0", "high1", "normal0", "normal1", "low0", "low1"]


async def test_a_priority_raised_in_the_queue_counts() -> None:
    queue = Queue(per_host=1)
    await queue.join("running")
    await queue.join("first")
    await queue.join("last", priority=Priority.LOW)
    queue.tickets["last"].priority = Priority.HIGH
    queue.tickets["first"].priority = Priority.LOW
    await queue.leave("running")
    await queue.leave("last")
    assert queue.served == ["running", "last", "first"]


async def test_a_cancelled_waiter_is_passed_over() -> None:
    queue = Queue(per_host=1)
    for name in ("running", "gone", "next"):
        await queue.join(name)
    await queue.cancel("gone")
    await queue.leave("running")
    assert queue.served == ["running", "next"]


async def test_a_waiter_cancelled_in_the_moment_of_its_grant_passes_the_slot_on() -> None:
    queue = Queue(per_host=1)
    for name in ("running", "granted", "next"):
        await queue.join(name)
    queue.slots["running"].release()
    await queue.cancel("granted")
    assert queue.served == ["running", "next"]
    await queue.leave("next")
    assert (queue.limiter.active, queue.limiter.waiting) == (0, 0)


async def test_whoever_stood_for_a_free_slot_and_is_cancelled_is_replaced() -> None:
    queue = Queue(per_host=1, connections=2)
    for name in ("a1", "a2", "a3"):
        await queue.join(name)
    await queue.join("b1", host="b")
    await queue.join("c1", host="c", priority=Priority.HIGH)
    await queue.leave("a1")
    assert queue.served == ["a1", "b1", "c1"]
    await queue.cancel("a2")
    await queue.leave("c1")
    assert queue.served[-1] == "a3"


async def test_a_slot_is_given_back_once() -> None:
    queue = Queue(per_host=1)
    await queue.join("1")
    queue.slots["1"].release()
    queue.slots["1"].release()
    await queue.join("2")
    await queue.join("3")
    assert queue.served == ["1", "2"]


async def test_a_long_wait_is_told_once_a_host_with_the_option_that_helps(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="imagecache")
    queue = Queue(per_host=1)
    for name in ("1", "2", "3"):
        await queue.join(name)
    for name in ("1", "2"):
        queue.clock.advance(1.5)
        await queue.leave(name)
    assert caplog.text.count("host_limits") == 1


Action = tuple[str, int, Priority]


@settings(deadline=None)
@given(
    per_host=st.integers(1, 3),
    connections=st.integers(1, 5),
    actions=st.lists(
        st.tuples(st.sampled_from(["join", "leave", "cancel", "raise"]), st.integers(0, 30), st.sampled_from(Priority)),
        max_size=60,
    ),
)
def test_whatever_happens_no_slot_is_lost_and_nobody_waits_in_vain(
    per_host: int, connections: int, actions: list[Action]
) -> None:
    async def play() -> None:
        queue = Queue(per_host=per_host, connections=connections)
        hosts: dict[str, str] = {}
        for action, number, priority in actions:
            waiting = [n for n in hosts if n not in queue.served and not queue.tasks[n].done()]
            match action:
                case "join":
                    name = f"{len(hosts)}"
                    hosts[name] = "abc"[number % 3]
                    await queue.join(name, hosts[name], priority)
                case "leave" if queue.slots:
                    await queue.leave(list(queue.slots)[number % len(queue.slots)])
                case "cancel" if waiting:
                    await queue.cancel(waiting[number % len(waiting)])
                case "raise" if waiting:
                    queue.tickets[waiting[number % len(waiting)]].priority = priority
                    await turns()
                case _:
                    continue
            waiting = [n for n in hosts if n not in queue.served and not queue.tasks[n].done()]
            used = [hosts[n] for n in queue.slots]
            assert queue.limiter.active == len(used) <= connections
            assert queue.limiter.waiting == len(waiting)
            assert all(used.count(host) <= per_host for host in used)
            for name in waiting:
                assert len(used) == connections or used.count(hosts[name]) == per_host
        for name in hosts:
            queue.tasks[name].cancel()
        await turns()
        for slot in queue.slots.values():
            slot.release()
        assert (queue.limiter.active, queue.limiter.waiting) == (0, 0)
        assert not queue.limiter._hosts

    asyncio.run(play())


async def test_a_downloader_keeps_to_its_slots_until_bodies_are_read(server: RawServer, make: MakeDownloader) -> None:
    gate, full = asyncio.Event(), asyncio.Event()
    at_once = most = 0

    async def gated(exchange: Exchange) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 2:
            full.set()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await gate.wait()
        at_once -= 1
        await exchange.send(b"b")

    url = server.on("/a", gated)
    downloader = make(NetworkOptions(per_host=2))
    downloads = [asyncio.create_task(downloader.download(f"{url}?{n}")) for n in range(6)]
    await full.wait()
    await turns()
    gate.set()
    bodies = [(await download).body for download in downloads]
    assert (bodies, most, server.connections) == ([b"ab"] * 6, 2, 2)
