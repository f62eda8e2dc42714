"""Slots: how many, for whom next, and none lost."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest
from hypothesis import given, settings, strategies as st

from imagecache.network.hosts import HostLimiter, Slot
from imagecache.network.priority import PriorityTicket
from imagecache.network.retry import BackoffRetryStrategy
from imagecache.network.settings import NetworkOptions, Timeouts
from imagecache.request import Priority
from imagecache.testing.clock import FakeClock
from tests.network.conftest import MakeDownloader
from tests.network.server import PNG, Exchange, RawServer


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
    assert caplog.text.count("host_limits={'a': …}") == 1


@pytest.mark.parametrize(
    ("options", "host", "hint"),
    [
        ({"per_host": 1}, "a", "host_limits={'a': …} raises the 1 at a time"),
        ({"connections": 1}, "b", "connections=1 in all"),
        ({"requests_per_second": 0.5}, "a", "requests_per_second=0.5"),
    ],
)
async def test_the_hint_names_the_limit_that_it_waited_for(
    options: dict[str, object], host: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="imagecache")
    queue = Queue(**options)
    await queue.join("1")
    await queue.join("2", host=host)
    queue.clock.advance(2)
    await queue.leave("1")
    assert queue.served == ["1", "2"]
    assert hint in caplog.text


async def test_with_newest_first_the_last_to_come_is_served_first_within_its_priority() -> None:
    queue = Queue(per_host=1, newest_first=True)
    for name in ("running", "old", "new"):
        await queue.join(name)
    await queue.join("high", priority=Priority.HIGH)
    for name in ("running", "high", "new"):
        await queue.leave(name)
    assert queue.served == ["running", "high", "new", "old"]


async def test_a_rate_spaces_the_requests_to_a_host_and_to_no_other() -> None:
    queue = Queue(requests_per_second=2)
    for n in range(4):
        await queue.join(f"a{n}")
    await queue.join("b0", host="b")
    assert queue.served == ["a0", "b0"]
    moments = []
    for _ in range(8):
        await queue.clock.elapse(0.25)
        moments.append(len(queue.served) - 2)
    assert moments == [0, 1, 1, 2, 2, 3, 3, 3]


async def test_whoever_waits_for_the_rate_holds_no_connection() -> None:
    queue = Queue(requests_per_second=1, connections=2)
    for n in range(5):
        await queue.join(f"a{n}")
    await queue.join("b0", host="b")
    assert queue.served == ["a0", "b0"]
    assert queue.limiter.active == 2


async def test_the_rate_lets_the_highest_priority_go_first_also_one_raised_in_the_queue() -> None:
    queue = Queue(requests_per_second=1)
    for name in ("running", "first", "second"):
        await queue.join(name)
    await queue.join("high", priority=Priority.HIGH)
    queue.tickets["second"].priority = Priority.HIGH
    for _ in range(3):
        await queue.clock.elapse(1)
    assert queue.served == ["running", "second", "high", "first"]


async def test_a_rate_outlives_the_last_request_and_is_forgotten_then() -> None:
    queue = Queue(requests_per_second=1)
    await queue.join("1")
    await queue.leave("1")
    await queue.join("2")
    assert queue.served == ["1"]
    await queue.cancel("2")
    await queue.clock.elapse(1)
    assert not queue.limiter._hosts
    assert queue.clock.pending == 0
    await queue.join("3")
    assert queue.served == ["1", "3"]


async def test_a_cancelled_waiter_uses_up_no_turn_of_the_rate() -> None:
    queue = Queue(requests_per_second=1)
    for name in ("1", "2", "3"):
        await queue.join(name)
    queue.clock.advance(1)  # "2" is granted, and has not heard of it yet.
    await queue.cancel("2")
    assert queue.served == ["1", "3"]


async def test_nobody_overtakes_in_the_moment_before_the_timer_of_the_rate_tells() -> None:
    queue, joined = Queue(requests_per_second=1), list[asyncio.Task[None]]()
    queue.clock.call_at(queue.clock.monotonic() + 1, lambda: joined.append(asyncio.ensure_future(queue.join("late"))))
    await queue.join("1")
    await queue.join("2")
    await queue.clock.elapse(1)
    assert queue.served == ["1", "2"]
    await queue.clock.elapse(1)
    assert queue.served == ["1", "2", "late"]


async def test_the_timer_of_a_host_that_was_forgotten_leaves_its_successor_alone() -> None:
    queue, joined = Queue(requests_per_second=1, per_host=1), list[asyncio.Task[None]]()

    def replace_host() -> None:
        queue.tasks["2"].cancel()
        asyncio.get_running_loop().call_soon(
            lambda: asyncio.get_running_loop().call_soon(lambda: joined.append(asyncio.ensure_future(queue.join("3"))))
        )

    queue.clock.call_at(queue.clock.monotonic() + 1, replace_host)
    await queue.join("1")
    await queue.leave("1")
    await queue.join("2")
    await queue.clock.elapse(1)
    assert queue.served == ["1", "3"]
    await queue.join("4")
    await queue.clock.elapse(5)
    assert queue.served == ["1", "3"]


Action = tuple[str, int, Priority]


@settings(deadline=None)
@given(
    per_host=st.integers(1, 3),
    connections=st.integers(1, 5),
    rate=st.sampled_from([None, 0.5, 4.0]),
    newest_first=st.booleans(),
    actions=st.lists(
        st.tuples(
            st.sampled_from(["join", "leave", "cancel", "raise", "wait"]), st.integers(0, 30), st.sampled_from(Priority)
        ),
        max_size=60,
    ),
)
def test_whatever_happens_no_slot_is_lost_and_nobody_waits_in_vain(
    per_host: int, connections: int, rate: float | None, newest_first: bool, actions: list[Action]
) -> None:
    async def play() -> None:
        queue = Queue(per_host=per_host, connections=connections, requests_per_second=rate, newest_first=newest_first)
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
                case "wait":
                    await queue.clock.elapse(number / 10)
                case _:
                    continue
            waiting = [n for n in hosts if n not in queue.served and not queue.tasks[n].done()]
            used = [hosts[n] for n in queue.slots]
            assert queue.limiter.active == len(used) <= connections
            assert queue.limiter.waiting == len(waiting)
            assert all(used.count(host) <= per_host for host in used)
            for name in waiting:
                host = queue.limiter._hosts[hosts[name]]
                is_paced = rate is not None and queue.clock.monotonic() < host.open_at
                assert len(used) == connections or used.count(hosts[name]) == per_host or is_paced
        for name in hosts:
            queue.tasks[name].cancel()
        await turns()
        for slot in queue.slots.values():
            slot.release()
        await queue.clock.elapse(10)
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


async def test_each_hop_and_each_try_waits_for_its_turn_and_none_of_that_counts_towards_the_total(
    server: RawServer, make: MakeDownloader, clock: FakeClock
) -> None:
    moments: list[float] = []

    async def answer(exchange: Exchange) -> None:
        moments.append(clock.monotonic())
        if len(moments) == 1:
            await exchange.reply(302, {"Location": "/b"})
        elif len(moments) == 2:
            await exchange.reply(503)
        else:
            await exchange.reply(body=PNG)

    url = server.on("/a", answer)
    server.on("/b", answer)
    options = NetworkOptions(requests_per_second=0.1, timeouts=Timeouts(total=5))
    downloader = make(options, clock=clock, retry=BackoffRetryStrategy(2, base=0))
    download = asyncio.create_task(downloader.download(url))
    while not download.done():
        await clock.elapse(1)
        # What has a turn answers now, however long the machine takes to deliver it.
        while downloader.active and not download.done():
            await clock.elapse(0)
    assert (await download).body == PNG
    assert [second - first for first, second in itertools.pairwise(moments)] == [10, 10]


async def test_a_download_whose_priority_is_raised_overtakes_those_before_it(
    server: RawServer, make: MakeDownloader
) -> None:
    gate = asyncio.Event()

    async def gated(exchange: Exchange) -> None:
        await gate.wait()
        await exchange.reply(body=PNG)

    downloader, ticket = make(NetworkOptions(per_host=1)), PriorityTicket(Priority.LOW)
    server.on("/running", gated)
    for path in ("/low", "/normal"):
        server.serve(path)
    downloads = [asyncio.create_task(downloader.download(server.base + "/running"))]
    await server.was_reached.wait()
    downloads += [
        asyncio.create_task(downloader.download(server.base + "/low", priority=ticket)),
        asyncio.create_task(downloader.download(server.base + "/normal")),
    ]
    await turns()
    ticket.priority = Priority.HIGH
    gate.set()
    await asyncio.gather(*downloads)
    assert server.paths() == ["/running", "/low", "/normal"]
