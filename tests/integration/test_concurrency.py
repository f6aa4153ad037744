"""Handlers that work at the same time: order by key, the cursor below the oldest unfinished event, and every end."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, running, stored, take, thing, things
from mainflux_events import (
    Action,
    Commit,
    ConfigError,
    Event,
    EventsError,
    HandlerFailed,
    Retry,
    Subscriber,
    SubscriberStats,
    ThingRemoved,
)
from mainflux_events.gate import Gate
from mainflux_events.testing import RedisServer
from mainflux_events.workers import WINDOW
from support import PATIENCE, wait_until, within

CLOSE_BOUND = 2.5  # seconds, as the contract has it
AT_ONCE = Retry(attempts=2, initial=0)
CONSUMER = Path(__file__).parent.parent / "killed_handlers.py"


class Noted(Action, tag="test.concurrency.noted"):
    """An action without an ID."""

    text: str


def until_stored(client: Redis, id: str, stream: str = STREAM) -> Awaitable[None]:
    async def check() -> bool:
        return await stored(client, "audit", stream) == id

    return wait_until(check, what=f"the cursor is {id}")


def handlers() -> list[str]:
    """The tasks of handlers at work."""
    return [each.get_name() for each in asyncio.all_tasks() if each.get_name() == "mainflux_events handler"]


class Gates:
    """A handler that holds back some things until it is told to let them go.

    Attributes:
        begun, returned: the things of which the handler was called, and has returned.
        cancelled: those where it was cancelled.
    """

    def __init__(self, *held: str) -> None:
        self._gates = {id: asyncio.Event() for id in held}
        self.begun: list[str] = []
        self.returned: list[str] = []
        self.cancelled: list[str] = []

    def release(self, *ids: str) -> None:
        for id in ids or list(self._gates):
            self._gates.pop(id).set()

    async def __call__(self, event: Event) -> None:
        id = thing(event)
        self.begun.append(id)
        try:
            if id in self._gates:
                await self._gates[id].wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # as who has something to put in order first
            self.cancelled.append(id)
            raise
        self.returned.append(id)


# --- order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7])
async def test_events_of_one_key_are_handled_in_order_and_those_of_others_meanwhile(
    batch: int, subscriber: Subscriber, client: Redis
) -> None:
    chosen = random.Random(batch)
    keys = [f"t{chosen.randint(1, 40)}" for _ in range(3000)]
    ids = await append(client, *keys)
    handled: defaultdict[str, list[str]] = defaultdict(list)
    at_work: set[str] = set()
    most = 0

    async def handle(given: Event | list[Event]) -> None:
        nonlocal most
        events = given if isinstance(given, list) else [given]
        things = {thing(event) for event in events}
        assert not things & at_work, "another handler has this key"
        at_work.update(things)
        most = max(most, len(at_work))
        await asyncio.sleep(chosen.choice([0, 0, 0.0001, 0.002]))
        for event in events:
            handled[thing(event)].append(event.id)
        at_work.difference_update(things)

    async with running(subscriber, handle, concurrency=10, batch=batch, on_failure="raise"):
        await until_stored(client, ids[-1])
    expected: defaultdict[str, list[str]] = defaultdict(list)
    for key, id in zip(keys, ids, strict=True):
        expected[key].append(id)
    assert handled == expected
    assert most >= 10


async def test_there_are_no_more_handlers_at_a_time_than_were_asked_for(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(100))
    gates = Gates(*things(100))
    async with running(subscriber, gates, concurrency=5):
        await wait_until(lambda: len(gates.begun) == 5)
        gates.release("t3")
        await wait_until(lambda: len(gates.begun) == 6)
        assert gates.begun == things(6)
        assert len(handlers()) == 5
        assert subscriber.stats == SubscriberStats(
            received=6, handled=1, skipped=0, retried=0, dead_lettered=0, given_up=0
        )


async def test_there_are_no_more_tasks_than_there_are_events_at_work(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, "t1", "t1", "t2")
    tasks: list[int] = []

    async with running(subscriber, lambda event: tasks.append(len(handlers())), concurrency=50):
        await wait_until(lambda: len(tasks) == 3)
        assert max(tasks) <= 2
        await wait_until(lambda: handlers() == [])


async def test_the_key_can_be_chosen(subscriber: Subscriber, client: Redis) -> None:
    await append(client, *things(4))
    gates = Gates(*things(4))
    async with running(subscriber, gates, concurrency=4, key=lambda event: int(thing(event)[1:]) % 2):
        await wait_until(lambda: gates.begun == ["t1", "t2"])
        gates.release("t2")
        await wait_until(lambda: gates.begun == ["t1", "t2", "t4"])
        gates.release("t1")
        await wait_until(lambda: gates.begun == ["t1", "t2", "t4", "t3"])


async def test_actions_without_an_id_are_all_handled_in_order(subscriber: Subscriber, client: Redis) -> None:
    for text in ("a", "b", "c"):
        await client.xadd(STREAM, {"operation": "test.concurrency.noted", "text": text})
    await append(client, "t1")
    begun: list[Action] = []

    async def handle(event: Event) -> None:
        begun.append(event.action)
        await asyncio.Event().wait()

    async with running(subscriber, handle, concurrency=4):
        await wait_until(lambda: len(begun) == 2)
        assert begun == [Noted("a"), ThingRemoved("t1")]


async def test_plain_functions_are_called_in_turn_and_leave_the_loop_its_turns(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(2000))
    handled: list[str] = []

    def handle(event: Event) -> None:
        ends = time.perf_counter() + 0.0001
        while time.perf_counter() < ends:
            pass
        handled.append(thing(event))

    largest = 0
    async with running(subscriber, handle, concurrency=50):
        while len(handled) < 2000:
            before = len(handled)
            await asyncio.sleep(0)
            largest = max(largest, len(handled) - before)
    assert handled == things(2000)
    assert 0 < largest <= 20, "ten take a millisecond"


# --- the window -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [2, 5])
async def test_a_slow_key_stops_the_others_only_when_the_window_is_full(
    concurrency: int, subscriber: Subscriber, client: Redis
) -> None:
    size = WINDOW * concurrency
    ids = await append(client, *things(3 * size))
    gates = Gates("t1")
    async with running(subscriber, gates, concurrency=concurrency):
        await wait_until(lambda: len(gates.returned) == size - 1)
        for _ in range(20):
            await client.ping()
        assert gates.returned == things(size - 1, 2), "from the slow one on, so many and no more"
        assert await stored(client, "audit") == "0-0"
        assert subscriber.stats.received == size
        gates.release("t1")
        await until_stored(client, ids[-1])
    assert sorted(gates.returned) == sorted(things(3 * size))


async def test_what_was_not_asked_for_takes_no_room(server: RedisServer, client: Redis) -> None:
    await append(client, "t1")
    for number in range(300):
        await client.xadd(STREAM, {"operation": "org.create", "id": f"o{number}"})
    [*_, last] = await append(client, *things(20, 2))
    gates = Gates("t1")
    async with (
        Subscriber(server.url, STREAM, "audit", start="earliest", actions=[ThingRemoved]) as subscriber,
        running(subscriber, gates, concurrency=2),
    ):
        await wait_until(lambda: len(gates.returned) == WINDOW * 2 - 1)
        assert subscriber.stats.skipped == 300
        assert await stored(client, "audit") == "0-0"
        gates.release("t1")
        await until_stored(client, last)


async def test_each_stream_has_a_cursor_below_its_own_oldest_unfinished_event(
    server: RedisServer, client: Redis
) -> None:
    [first, *_] = await append(client, "t1", "t2", "t3")
    [*_, last] = await append(client, "u1", "u2", "u3", stream="others")
    gates = Gates("t2")
    async with Subscriber(server.url, [STREAM, "others"], "audit", start="earliest") as subscriber:
        async with running(subscriber, gates, concurrency=4):
            await until_stored(client, last, "others")
            await until_stored(client, first)
            await wait_until(lambda: "t3" in gates.returned)
        assert await take(subscriber, 2) == ["t2", "t3"]


# --- when it is stored ----------------------------------------------------------------------------------------------


async def commits(client: Redis) -> int:
    """How many commits the server has executed."""
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def test_what_is_finished_in_one_turn_of_the_event_loop_shares_a_commit(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(100))
    gates = Gates(*things(100))
    async with running(subscriber, gates, concurrency=100):
        await wait_until(lambda: len(gates.begun) == 100)
        before = await commits(client)
        gates.release()
        await until_stored(client, ids[-1])
        assert await commits(client) - before <= 5, "of a hundred"


async def test_with_every_what_is_finished_late_is_stored_after_so_many_seconds(
    server: RedisServer, client: Redis
) -> None:
    [first, _] = await append(client, "t1", "t2")
    gates = Gates("t1", "t2")
    policy = Commit.every(events=1000, seconds=0.05)
    async with (
        Subscriber(server.url, STREAM, "audit", start="earliest", commit=policy) as subscriber,
        running(subscriber, gates, concurrency=2),
    ):
        await wait_until(lambda: len(gates.begun) == 2)
        [committer] = subscriber._keepers
        first_timer = committer._timer
        await wait_until(lambda: committer._timer is not first_timer)
        gates.release("t1")
        await until_stored(client, first)


async def test_by_hand_only_what_is_finished_can_be_committed(subscriber: Subscriber, client: Redis) -> None:
    [first, _] = await append(client, "t1", "t2")
    refused: list[str] = []

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            await until_stored(client, first)
        try:
            await subscriber.commit(event)
        except ValueError as error:
            refused.append(str(error))

    async with running(subscriber, handle, concurrency=2):
        await wait_until(lambda: len(refused) == 2)
    assert "commits by itself" in refused[0]


# --- killed, as hard as can be --------------------------------------------------------------------------------------


def child(server: RedisServer, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(CONSUMER), server.url, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


async def comes_again(server: RedisServer, last: str) -> list[str]:
    again: list[str] = []
    async with Subscriber(server.url, STREAM, "audit", start="earliest") as restarted:
        async for event in restarted:
            again.append(thing(event))
            if again[-1] == last:
                break
    return again


async def test_after_a_crash_there_comes_again_what_was_unfinished_or_above_it(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(200))
    process = child(server, 4, 1, "t60")
    output, _ = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == -9
    assert set(output.split()) == {*things(59), *things(WINDOW * 4 - 1, 61)}
    assert await comes_again(server, "t200") == things(141, 60)


@pytest.mark.parametrize(("concurrency", "batch"), [(10, 1), (3, 20), (1, 50)])
async def test_killed_at_any_moment_nothing_is_skipped_and_little_comes_again(
    concurrency: int, batch: int, server: RedisServer, client: Redis
) -> None:
    chosen = random.Random(concurrency)
    appended = things(3000)
    await append(client, *appended)
    handled: set[str] = set()
    while len(handled) < 2000:
        handled |= await asyncio.to_thread(
            killed_after, chosen.randint(1, 1000), child(server, concurrency, batch, "")
        )
        await wait_until(lambda: _is_alone(client), what="the server has read all that the child had sent")
        cursor = await stored(client, "audit")
        below = [fields[b"id"].decode() for _, fields in await client.xrange(STREAM, "-", cursor or "-")]
        assert set(below) <= handled, "nothing was passed that was not handled"
        oldest = next((place for place, id in enumerate(appended) if id not in handled), len(appended))
        # A call for each handler in this turn of the event loop, and in the one before, whose commit was not written.
        assert oldest - len(below) <= 2 * concurrency * batch
        assert len(handled) - len(below) <= WINDOW * concurrency * batch


async def _is_alone(client: Redis) -> bool:
    return len(await client.client_list()) == 1


def killed_after(events: int, process: subprocess.Popen[str]) -> set[str]:
    """Kill a child when it has handled so many. Gives what it has handled by then."""
    with process:
        assert process.stdout is not None
        handled = [process.stdout.readline() for _ in range(events)]
        process.kill()
        handled += process.stdout.readlines()
    return {each.strip() for each in handled}


# --- failing --------------------------------------------------------------------------------------------------------


async def test_a_failing_event_holds_back_its_own_key_until_it_is_done_with(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    ids = await append(client, "t1", "t1", "t2", "t2")
    calls: list[tuple[str, str]] = []
    failing = asyncio.Event()

    async def handle(event: Event) -> None:
        calls.append((thing(event), event.id))
        if event.id == ids[0]:
            await failing.wait()
            raise ZeroDivisionError

    async with Subscriber(server.url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
        async with running(subscriber, handle, concurrency=2, retry=Retry(attempts=3, initial=0)):
            await wait_until(lambda: len(calls) == 3)
            assert calls == [("t1", ids[0]), ("t2", ids[2]), ("t2", ids[3])]
            failing.set()
            await until_stored(client, ids[3])
        assert calls[3:] == [("t1", ids[0]), ("t1", ids[0]), ("t1", ids[1])]
        assert subscriber.stats == SubscriberStats(
            received=4, handled=3, skipped=0, retried=2, dead_lettered=0, given_up=1
        )
    assert [(each.attempt, each.final) for each in seen.of("handler_failed")] == [
        (1, False),
        (2, False),
        (3, True),
    ]


async def test_the_waits_of_one_event_are_not_those_of_another(
    subscriber: Subscriber, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def still(gate: Gate, turn: int, seconds: float) -> bool:
        waits.append(seconds)
        return True

    monkeypatch.setattr(Gate, "still", still)
    await append(client, *things(20))

    async def fail(event: Event) -> None:
        raise ZeroDivisionError

    async with running(subscriber, fail, concurrency=20, retry=Retry(attempts=2, initial=0.5)):
        await wait_until(lambda: subscriber.stats.given_up == 20)
    assert len(waits) == 20
    assert max(waits) <= 0.5


async def test_a_handler_that_hangs_has_failed_after_its_time_and_no_other_has(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(5))
    gates = Gates("t2")
    async with running(subscriber, gates, concurrency=3, timeout=0.05, retry=Retry(attempts=1)):
        await until_stored(client, ids[-1])
    assert sorted(gates.returned) == ["t1", "t3", "t4", "t5"]
    assert (subscriber.stats.handled, subscriber.stats.given_up) == (4, 1)


async def test_a_failed_event_is_raised_the_others_are_cancelled_and_come_again(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(6))
    gates = Gates("t2", "t5")
    failing = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t4":
            await failing.wait()
            raise ZeroDivisionError
        await gates(event)

    async with running(subscriber, handle, concurrency=4, on_failure="raise", retry=AT_ONCE) as task:
        await wait_until(lambda: gates.returned == ["t1", "t3", "t6"])
        failing.set()
        await asyncio.wait([task])
        assert sorted(gates.cancelled) == ["t2", "t5"]
        assert handlers() == []
        failed = task.exception()
    assert isinstance(failed, HandlerFailed)
    assert (failed.id, failed.attempts, type(failed.__cause__)) == (ids[3], 2, ZeroDivisionError)
    await until_stored(client, ids[0])
    assert subscriber.stats == SubscriberStats(
        received=3, handled=3, skipped=0, retried=1, dead_lettered=0, given_up=0
    )
    assert await take(subscriber, 5) == things(5, 2)


async def test_of_several_that_fail_at_once_one_is_raised_and_all_are_reported(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    ids = await append(client, *things(3))
    together = asyncio.Barrier(3)

    async def handle(event: Event) -> None:
        await together.wait()
        raise ZeroDivisionError

    async with Subscriber(server.url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
        with pytest.raises(HandlerFailed) as caught:
            await subscriber.run(handle, concurrency=3, on_failure="raise", retry=Retry(attempts=1))
    assert caught.value.id in ids
    assert {details.event.id for details in seen.of("handler_failed")} == set(ids)


@pytest.mark.parametrize("key", [lambda event: event.action.missing, lambda event: [event.id]])
async def test_an_event_that_has_no_key_has_failed(key: Any, server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    ids = await append(client, *things(3))

    def key_of(event: Event) -> Any:
        return key(event) if thing(event) == "t2" else 1

    gates = Gates()
    async with Subscriber(server.url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
        async with running(subscriber, gates, concurrency=2, key=key_of):
            await until_stored(client, ids[-1])
        assert gates.returned == ["t1", "t3"]
        assert subscriber.stats == SubscriberStats(
            received=3, handled=2, skipped=0, retried=0, dead_lettered=0, given_up=1
        )
    [details] = seen.of("handler_failed")
    assert (details.event.id, details.final) == (ids[1], True)
    assert isinstance(details.error, AttributeError | TypeError)


async def test_or_it_is_raised(subscriber: Subscriber, client: Redis) -> None:
    await append(client, "t1", "t2")
    gates = Gates("t1")
    with pytest.raises(HandlerFailed) as caught:
        await subscriber.run(
            gates, concurrency=2, key=lambda event: {"t1": 1}[thing(event)], on_failure="raise"
        )
    assert type(caught.value.__cause__) is KeyError
    assert gates.begun == gates.cancelled
    assert await take(subscriber, 2) == ["t1", "t2"]


# --- cancelling, closing --------------------------------------------------------------------------------------------


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_run_has_cancelled_its_handlers_and_nothing_counts_as_handled_that_did_not_return(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(6))
    gates = Gates("t2", "t4")
    async with running(subscriber, gates, concurrency=3) as task:
        await wait_until(lambda: gates.returned == ["t1", "t3", "t5", "t6"])
        await cancelled(task)
        assert sorted(gates.cancelled) == ["t2", "t4"]
        assert handlers() == []
    assert subscriber.stats.handled == 4
    await until_stored(client, ids[0])
    assert await take(subscriber, 5) == things(5, 2)


async def test_a_run_in_an_anyio_scope_that_is_cancelled_has_cancelled_its_handlers(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(6))
    gates = Gates("t2", "t4")
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: subscriber.run(gates, concurrency=3))
            await wait_until(lambda: len(gates.returned) == 4)
            scope.cancel()
    assert scope.cancelled_caught
    assert sorted(gates.cancelled) == ["t2", "t4"]
    assert handlers() == []


@pytest.mark.parametrize("turns", range(12))
async def test_whenever_a_run_is_cancelled_all_of_it_comes_again_that_was_not_committed(
    turns: int, subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(30))
    handled: list[str] = []

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        handled.append(thing(event))

    async with running(subscriber, handle, concurrency=3) as task:
        await wait_until(lambda: len(handled) > 2)
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancelled(task)
    async with running(subscriber, handle, concurrency=3):
        await until_stored(client, ids[-1])
    assert sorted(set(handled)) == sorted(things(30))
    assert len(handled) <= 30 + 3 * WINDOW


async def test_closing_while_handlers_are_at_work_is_bounded_and_lets_them_end(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.CLOSE_BOUND", 0.2)
    ids = await append(client, *things(50))
    gates = Gates("t2", "t4", "t5")
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest")
    await subscriber.start()
    async with running(subscriber, gates, concurrency=3) as task:
        await wait_until(lambda: gates.begun == things(5))
        with within(CLOSE_BOUND):
            await subscriber.aclose()
        assert not task.done()
        gates.release()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        assert task.exception() is None
    assert gates.begun == things(5), "no other was begun"
    assert await stored(client, "audit") == ids[0]
    assert subscriber.stats.handled == 2


async def test_closing_ends_a_run_that_waits_for_events(server: RedisServer) -> None:
    subscriber = Subscriber(server.url, STREAM, "audit")
    await subscriber.start()
    async with running(subscriber, Gates(), concurrency=3) as task:
        await wait_until(lambda: subscriber._workers is not None)
        await subscriber.aclose()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        assert task.exception() is None


async def test_what_no_attempt_can_mend_is_raised_when_all_before_it_is_handled(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(10))
    gates = Gates("t2")
    async with Subscriber(server.url, STREAM, "audit", start="earliest") as subscriber:
        async with running(subscriber, gates, concurrency=3) as task:
            await wait_until(lambda: len(gates.returned) == 9)
            subscriber._tasks[0].cancel()
            await wait_until(subscriber._tasks[0].done)
            assert not task.done()
            gates.release()
            await asyncio.wait([task], timeout=PATIENCE)
            assert isinstance(task.exception(), EventsError)
            assert "died" in str(task.exception())
        assert subscriber.stats.handled == 10


# --- beside the loop ------------------------------------------------------------------------------------------------


async def test_a_run_begins_where_a_loop_was_left_and_a_loop_where_a_run_was(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(60))
    assert await take(subscriber, 5) == things(5)
    gates = Gates("t8", "t20")
    async with running(subscriber, gates, concurrency=3):
        await wait_until(lambda: len(gates.begun) == 3 * WINDOW + 3)
        with pytest.raises(RuntimeError, match="one loop or run"):
            aiter(subscriber)
        with pytest.raises(RuntimeError, match="one loop or run"):
            await anext(subscriber)
    assert gates.begun[:3] == things(3, 5)
    assert await take(subscriber, 53) == things(53, 8)
    assert subscriber.stats.skipped == 0


async def test_what_several_runs_have_left_comes_in_the_order_of_the_stream(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(100))
    for concurrency in (8, 3, 2):
        gates = Gates("t1")
        async with running(subscriber, gates, concurrency=concurrency):
            await wait_until(lambda gates=gates, full=concurrency * WINDOW: len(gates.returned) >= full - 1)
    assert await take(subscriber, 100) == things(100)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"batch": 0},
        {"batch": "2"},
        {"max_wait": -1},
        {"max_wait": float("inf")},
        {"key": "id"},
    ],
)
async def test_what_cannot_work_is_a_config_error_that_names_it(
    options: dict[str, Any], subscriber: Subscriber
) -> None:
    [name] = options
    with pytest.raises(ConfigError, match=name):
        await subscriber.run(print, **options)


async def test_a_key_that_would_have_to_be_awaited_is_refused(subscriber: Subscriber) -> None:
    async def key(event: Event) -> str:
        return event.id

    with pytest.raises(ConfigError, match="key"):
        await subscriber.run(print, concurrency=2, key=key)
