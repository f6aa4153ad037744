"""Closing, in every state of the server and of whoever waits: in time, with nothing left, and nothing lost unsaid."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

import consuming
from histories import History, numbered, stored_ids
from mainflux_events import (
    Backoff,
    Event,
    EventsError,
    NotStarted,
    Publisher,
    PublisherClosed,
    Subscriber,
    Undelivered,
)
from mainflux_events.testing import RedisServer, redis_server
from support import LOADS_SLOWLY, PATIENCE, no_clients_left, restart_with_much_to_load, wait_until, within

STREAM = "things"
KEY = f"mainflux:cursor:audit:{STREAM}"
SHORT = Backoff(initial=0.01, maximum=0.05)
# Seconds that closing may take beyond its bound; where each line is traced for the coverage, more.
LATE = 0.5 if sys.gettrace() is None else 2.0


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := str(entry.readlink())).startswith("socket:"):
                found.add(target)
    return found


class Remains:
    """What was there before: to see that nothing else is there after."""

    def __init__(self) -> None:
        self._sockets = sockets()

    async def check(self) -> None:
        """No task and no socket is left. What was closed may take a turn of the loop to end."""
        await wait_until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="no task is left")
        await wait_until(lambda: sockets() <= self._sockets, what="no socket is left")


@pytest.fixture
async def nothing_remains(fresh_server: RedisServer) -> AsyncIterator[None]:
    """The test leaves no task, no socket, and no key but the stream's and the cursor's."""
    remains = Remains()
    yield
    await remains.check()
    if fresh_server.running:
        fresh_server.resume()
        await no_clients_left(fresh_server)
        assert set(await fresh_server.command("KEYS", "*")) <= {STREAM.encode(), KEY.encode()}


# --- the publisher's states -----------------------------------------------------------------------------------------


def publisher_of(server: RedisServer, history: History | None = None, **settings: Any) -> Publisher:
    defaults: dict[str, Any] = {
        "backoff": SHORT,
        "attempt_timeout": 0.3,
        "buffer_size": 200_000,
        "max_len": None,
        "hooks": [] if history is None else history.recorder,
    }
    return Publisher(server.url, STREAM, **(defaults | settings))


State = Callable[[RedisServer, Publisher, History], Awaitable[None]]


async def idle(_server: RedisServer, publisher: Publisher, _history: History) -> None:
    await publisher.start()


async def full(_server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    history.publish(publisher, 10_000)


async def hung(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    history.publish(publisher, 1)
    await publisher.flush()
    server.hang()
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.in_flight)


async def hung_and_connecting(server: RedisServer, publisher: Publisher, history: History) -> None:
    await hung(server, publisher, history)
    await wait_until(lambda: publisher.stats.retries)


async def silent_from_the_start(server: RedisServer, publisher: Publisher, history: History) -> None:
    """It is connected to, and that is all."""
    server.hang()
    await publisher.start()
    history.publish(publisher, 10)


async def gone(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    await server.kill()
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.retries)


async def gone_from_the_start(server: RedisServer, publisher: Publisher, history: History) -> None:
    await server.kill()
    await publisher.start()
    history.publish(publisher, 10)


async def refusing(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    await server.command("SET", STREAM, "no stream")
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.retries)


async def out_of_memory(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    await server.command("CONFIG", "SET", "maxmemory", 1)
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.retries)


async def read_only(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    await server.command("REPLICAOF", "127.0.0.1", 1)
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.retries)


async def locked_out(server: RedisServer, publisher: Publisher, history: History) -> None:
    await publisher.start()
    await server.command("ACL", "SETUSER", "default", "-@all", "+client", "+config", "+acl", "+keys", "+ping")
    history.publish(publisher, 10)
    await wait_until(lambda: publisher.stats.retries)


STATES = [
    idle,
    full,
    hung,
    hung_and_connecting,
    silent_from_the_start,
    gone,
    gone_from_the_start,
    refusing,
    out_of_memory,
    read_only,
    locked_out,
]
LONG = Backoff(60.0, 60.0)


async def closed_in_time(publisher: Publisher, history: History, bound: float, errors: list[str]) -> None:
    """Close; what is promised of that holds. `errors` is what is logged meanwhile."""
    errors.clear()
    with within(bound + LATE):
        await publisher.aclose()
    stats = publisher.stats
    assert (stats.buffered, stats.in_flight) == (0, 0)
    assert stats.accepted == stats.acknowledged + stats.dropped + stats.undelivered == len(history.accepted)
    lost = history.recorder.undelivered_ids()
    assert lost == history.accepted[len(history.accepted) - stats.undelivered :], "event by event, in order"
    reason = f"{len(lost)} events for {STREAM!r}, because the publisher closed"
    assert errors == ([f"events_undelivered: {reason}"] if lost else [])


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """The lines of the log that are errors, as they come."""
    lines: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize(("close_timeout", "backoff"), [(0, SHORT), (0.2, LONG)], ids=["at once", "soon"])
@pytest.mark.usefixtures("nothing_remains")
async def test_a_publisher_closes_in_time_in_every_state(
    fresh_server: RedisServer, state: State, close_timeout: float, backoff: Backoff, errors: list[str]
) -> None:
    history = History()
    publisher = publisher_of(fresh_server, history, close_timeout=close_timeout, backoff=backoff)
    await state(fresh_server, publisher, history)
    await closed_in_time(publisher, history, close_timeout, errors)


async def test_a_publisher_closes_in_time_while_the_server_loads_its_data(errors: list[str]) -> None:
    history = History()
    remains = Remains()
    async with redis_server(config=LOADS_SLOWLY) as server:
        publisher = publisher_of(server, history, close_timeout=0.2)
        await publisher.start()
        await restart_with_much_to_load(server)
        history.publish(publisher, 10)
        await wait_until(lambda: any("LOADING" in details.reason for details in history.recorder.retries))
        await closed_in_time(publisher, history, 0.2, errors)
        await remains.check()
    assert publisher.stats.undelivered == 10


@pytest.mark.usefixtures("nothing_remains")
async def test_what_a_full_buffer_could_not_deliver_is_told_within_the_half_second(
    fresh_server: RedisServer, errors: list[str]
) -> None:
    history = History()
    publisher = publisher_of(fresh_server, history, close_timeout=0.1)
    await publisher.start()
    fresh_server.hang()
    history.publish(publisher, 10_000)  # as many as fit into the buffer that one has unasked
    with within(0.1 + LATE):
        await publisher.aclose()
    assert len(history.recorder.lost_undelivered) == publisher.stats.undelivered == 10_000
    assert errors == [f"events_undelivered: 10000 events for {STREAM!r}, because the publisher closed"]


@pytest.mark.usefixtures("nothing_remains")
async def test_who_waits_for_the_publisher_is_told(fresh_server: RedisServer, errors: list[str]) -> None:
    history = History()
    publisher = publisher_of(fresh_server, history, close_timeout=0.1, overflow="wait", buffer_size=10)
    await publisher.start()
    fresh_server.hang()
    history.publish(publisher)
    await wait_until(lambda: publisher.stats.in_flight)
    sending = asyncio.create_task(publisher.send(numbered(1)))
    flushing = asyncio.create_task(publisher.flush())
    await wait_until(lambda: publisher.stats.buffered == 1)
    history.accepted.append(numbered(1).id)
    while publisher.stats.buffered < 10:
        history.publish(publisher)
    waiting = [
        asyncio.create_task(publisher.publish(numbered(98))),
        asyncio.create_task(publisher.send(numbered(99))),
    ]
    await asyncio.sleep(0)
    await closed_in_time(publisher, history, 0.1, errors)
    outcomes = await asyncio.gather(sending, flushing, *waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        Undelivered,
        Undelivered,
        PublisherClosed,
        PublisherClosed,
    ]


@pytest.mark.usefixtures("nothing_remains")
async def test_a_publisher_that_closes_delivers_as_soon_as_it_can(
    fresh_server: RedisServer, errors: list[str]
) -> None:
    history = History()
    publisher = publisher_of(fresh_server, history, close_timeout=5.0, backoff=LONG)
    await out_of_memory(fresh_server, publisher, history)
    await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
    await closed_in_time(publisher, history, 5.0, errors)
    assert publisher.stats.acknowledged == 10


async def until_refused(history: History, publisher: Publisher) -> None:
    """Publish until that is refused."""
    with contextlib.suppress(PublisherClosed):
        while True:
            history.publish(publisher)
            await asyncio.sleep(0)


async def test_publishing_while_it_closes_is_delivered_or_refused(server: RedisServer, client: Redis) -> None:
    for turns in range(20):
        history = History()
        publisher = publisher_of(server, history)
        await publisher.start()
        racing = asyncio.create_task(until_refused(history, publisher))
        for _ in range(turns):
            await asyncio.sleep(0)
        await publisher.aclose()
        await asyncio.wait_for(racing, PATIENCE)
        history.check(publisher, await stored_ids(client, STREAM))
        assert publisher.stats.acknowledged == len(history.accepted)
        await client.delete(STREAM)


async def test_threads_that_publish_while_it_closes_are_delivered_or_refused(
    server: RedisServer, client: Redis
) -> None:
    accepted: list[str] = []

    def publish(first: int, publisher: Publisher) -> None:
        with contextlib.suppress(PublisherClosed):
            for number in range(first, first + 100_000):
                publisher.publish_threadsafe(numbered(number))
                accepted.append(numbered(number).id)

    async with publisher_of(server) as publisher:
        threads = [asyncio.create_task(asyncio.to_thread(publish, n * 100_000, publisher)) for n in range(3)]
        await wait_until(lambda: len(accepted) > 100)
    await asyncio.gather(*threads)
    assert sorted(await stored_ids(client, STREAM)) == sorted(accepted)


# --- the subscriber's states ----------------------------------------------------------------------------------------

CLOSE_BOUND = 2.0  # seconds, as the contract has it
SHORT_BOUND = 0.3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures show soon, and closing has less time than it is promised."""
    monkeypatch.setattr("mainflux_events.service.BACKOFF", SHORT)
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.3)
    monkeypatch.setattr("mainflux_events.service.CLOSE_BOUND", SHORT_BOUND)
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 50)


class Consumption:
    """A subscriber whose first event is handled and whose second is in hand, and what it reports."""

    def __init__(self, server: RedisServer) -> None:
        self.seen = consuming.Recorder()
        self.subscriber = Subscriber(server.url, STREAM, "audit", start="earliest", hooks=self.seen)
        self.ids: list[str] = []

    async def begin(self, server: RedisServer) -> None:
        async with Redis.from_url(server.url) as client:
            self.ids = await consuming.append(client, "t1", "t2", "t3")
        await self.subscriber.start()
        event = await anext(self.subscriber)
        await self.subscriber.commit(event)
        await anext(self.subscriber)


Circumstance = Callable[[RedisServer, Consumption], Awaitable[None]]


async def with_nothing_to_read(_server: RedisServer, consumption: Consumption) -> None:
    await consumption.subscriber.start()


async def with_an_event_in_hand(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)


async def with_a_server_that_hangs(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)
    server.hang()
    await anext(consumption.subscriber)


async def while_connecting_to_a_server_that_hangs(server: RedisServer, consumption: Consumption) -> None:
    await with_a_server_that_hangs(server, consumption)
    await wait_until(lambda: consumption.seen.of("retrying"))


async def with_a_server_that_hung_from_the_start(server: RedisServer, consumption: Consumption) -> None:
    server.hang()
    await consumption.subscriber.start()


async def with_a_server_that_is_gone(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)
    await server.kill()
    await anext(consumption.subscriber)
    await wait_until(lambda: len(consumption.seen.of("retrying")) > 2)


async def with_a_server_that_was_never_there(server: RedisServer, consumption: Consumption) -> None:
    await server.kill()
    await consumption.subscriber.start()


async def with_a_server_out_of_memory(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)
    await server.command("CONFIG", "SET", "maxmemory", 1)
    await anext(consumption.subscriber)
    await wait_until(lambda: consumption.seen.of("cursor_not_saved"))


async def with_a_server_that_is_read_only(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)
    await server.command("REPLICAOF", "127.0.0.1", 1)
    await anext(consumption.subscriber)
    await wait_until(lambda: consumption.seen.of("cursor_not_saved"))


async def with_a_stream_of_another_type(server: RedisServer, consumption: Consumption) -> None:
    await consumption.begin(server)
    await server.command("DEL", STREAM)
    await server.command("SET", STREAM, "no stream")
    await wait_until(lambda: consumption.seen.of("retrying"))


# Those in which the second event, which is handled by the time of closing, cannot be committed.
UNSAVED = [
    with_a_server_that_hangs,
    while_connecting_to_a_server_that_hangs,
    with_a_server_that_is_gone,
    with_a_server_out_of_memory,
    with_a_server_that_is_read_only,
]
CIRCUMSTANCES = [
    with_nothing_to_read,
    with_an_event_in_hand,
    with_a_server_that_hung_from_the_start,
    with_a_server_that_was_never_there,
    with_a_stream_of_another_type,
    *UNSAVED,
]


async def ended_in_time(subscriber: Subscriber, bound: float = SHORT_BOUND) -> None:
    with within(bound + LATE):
        await subscriber.aclose()


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES, ids=lambda circumstance: circumstance.__name__)
@pytest.mark.usefixtures("nothing_remains", "quick")
async def test_a_subscriber_closes_in_time(
    circumstance: Circumstance, fresh_server: RedisServer, errors: list[str]
) -> None:
    consumption = Consumption(fresh_server)
    await circumstance(fresh_server, consumption)
    errors.clear()
    await ended_in_time(consumption.subscriber)
    unsaved = f"cursor_not_saved: {KEY!r} at {consumption.ids[1]}, on closing" if consumption.ids else ""
    assert errors == ([unsaved] if circumstance in UNSAVED else [])


@pytest.mark.usefixtures("nothing_remains")
async def test_a_subscriber_closes_in_two_seconds(fresh_server: RedisServer) -> None:
    consumption = Consumption(fresh_server)
    await with_a_server_that_hangs(fresh_server, consumption)
    await ended_in_time(consumption.subscriber, CLOSE_BOUND)


@pytest.mark.usefixtures("quick")
async def test_a_subscriber_closes_in_time_while_the_server_loads_its_data() -> None:
    remains = Remains()
    async with redis_server(config=LOADS_SLOWLY) as server:
        consumption = Consumption(server)
        await consumption.begin(server)
        await restart_with_much_to_load(server)
        await wait_until(lambda: any("LOADING" in each.reason for each in consumption.seen.of("retrying")))
        await ended_in_time(consumption.subscriber)
        await remains.check()


@pytest.mark.usefixtures("nothing_remains")
async def test_a_subscriber_that_closes_in_a_long_wait_tries_at_once(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", LONG)
    consumption = Consumption(fresh_server)
    await with_a_server_out_of_memory(fresh_server, consumption)
    await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
    await ended_in_time(consumption.subscriber, CLOSE_BOUND)
    assert await fresh_server.command("GET", KEY) == consumption.ids[1].encode()


@pytest.mark.usefixtures("nothing_remains", "quick")
async def test_a_subscriber_that_closes_names_only_the_cursors_that_are_not_stored(
    fresh_server: RedisServer, errors: list[str]
) -> None:
    async with Redis.from_url(fresh_server.url) as client:
        [id, _] = await consuming.append(client, "t1", "t2")
    subscriber = Subscriber(fresh_server.url, [STREAM, "others"], "audit", start="earliest")
    await subscriber.start()
    await anext(subscriber)
    fresh_server.hang()
    await anext(subscriber)  # which commits the first one
    await ended_in_time(subscriber)
    assert errors == [f"cursor_not_saved: {KEY!r} at {id}, on closing"]
    fresh_server.resume()
    await fresh_server.command("DEL", "mainflux:cursor:audit:others")


@pytest.mark.usefixtures("nothing_remains", "quick")
async def test_who_waits_for_the_subscriber_is_told(fresh_server: RedisServer) -> None:
    consumption = Consumption(fresh_server)
    await consumption.begin(fresh_server)
    await anext(consumption.subscriber)
    fresh_server.hang()
    waiting = [
        asyncio.create_task(consumption.subscriber.lag()),
        asyncio.create_task(anext(consumption.subscriber, None)),  # type: ignore[arg-type]
    ]
    await asyncio.sleep(0)
    await ended_in_time(consumption.subscriber)
    with within(SHORT_BOUND + LATE):
        asked, event = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(asked, EventsError)
    assert event is None, "a loop would end"


@pytest.mark.usefixtures("nothing_remains", "quick")
async def test_a_subscriber_closes_while_a_handler_is_at_work(fresh_server: RedisServer) -> None:
    async with Redis.from_url(fresh_server.url) as client:
        [id, _] = await consuming.append(client, "t1", "t2")
    subscriber = Subscriber(fresh_server.url, STREAM, "audit", start="earliest")
    await subscriber.start()
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if consuming.thing(event) == "t2":
            working.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(subscriber.run(handle))
    await working.wait()
    await ended_in_time(subscriber)
    assert await fresh_server.command("GET", KEY) == id.encode()
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.usefixtures("nothing_remains", "quick")
async def test_a_run_whose_scope_is_cancelled_while_the_server_hangs_ends_in_time(
    fresh_server: RedisServer,
) -> None:
    async with Redis.from_url(fresh_server.url) as client:
        await consuming.append(client, *(f"t{number}" for number in range(100)))
    subscriber = Subscriber(fresh_server.url, STREAM, "audit", start="earliest")
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if consuming.thing(event) == "t50":
            working.set()
        await asyncio.sleep(0)

    async with contextlib.AsyncExitStack() as stack, anyio.create_task_group() as group:
        await group.start(subscriber.run, handle)
        await working.wait()
        fresh_server.hang()
        stack.enter_context(within(SHORT_BOUND + LATE))
        group.cancel_scope.cancel()


# --- cancelled at any turn ------------------------------------------------------------------------------------------

Operation = Callable[[], Awaitable[object]]
Moment = Callable[[], Awaitable[None]]


async def by_cancelling_the_task(operation: Operation, moment: Moment) -> None:
    async def operate() -> None:
        await operation()

    task = asyncio.create_task(operate())
    await moment()
    cancelled = task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "it goes on"
    assert task.cancelled() is cancelled, "the cancellation was swallowed"
    if not cancelled:
        task.result()


async def by_a_scope(operation: Operation, moment: Moment) -> None:
    scope = anyio.CancelScope()

    async def operate() -> None:
        with scope:
            await operation()

    task = asyncio.create_task(operate())
    await moment()
    scope.cancel()
    await asyncio.wait_for(task, PATIENCE)


async def by_a_timeout(operation: Operation, moment: Moment) -> None:
    begun = asyncio.Event()
    limit = asyncio.timeout(None)

    async def operate() -> None:
        with contextlib.suppress(TimeoutError):
            async with limit:
                begun.set()
                await operation()

    task = asyncio.create_task(operate())
    await begun.wait()
    await moment()
    if not task.done():
        limit.reschedule(0)  # as asyncio.timeout(0) has it, where nothing has run yet
    await asyncio.wait_for(task, PATIENCE)


WAYS = [by_cancelling_the_task, by_a_scope, by_a_timeout]


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# So many turns of the loop, most of which are over before a reply is there; then moments between the replies.
MOMENTS: list[Moment] = [
    *(partial(turns, number) for number in range(21)),
    *(partial(asyncio.sleep, 0.0004 * number) for number in range(1, 8)),
]


@contextlib.asynccontextmanager
async def publishing(server: RedisServer, **settings: Any) -> AsyncIterator[Publisher]:
    """A publisher that, whatever was cancelled, still works, and then closes."""
    history = History()
    publisher = publisher_of(server, history, close_timeout=1.0, **settings)
    await publisher.start()
    yield publisher
    await publisher.send(numbered(9))
    await publisher.aclose()
    assert publisher.stats.accepted == publisher.stats.acknowledged <= 3
    async with Redis.from_url(server.url) as client:
        there = await stored_ids(client, STREAM)
        await client.delete(STREAM)
    assert len(there) == publisher.stats.accepted
    assert there == sorted(set(there)), "in order, and none twice"


@contextlib.asynccontextmanager
async def cancelled_publish(server: RedisServer) -> AsyncIterator[Operation]:
    async with publishing(server) as publisher:
        yield lambda: publisher.publish(numbered(1))


@contextlib.asynccontextmanager
async def cancelled_publish_that_waits_for_room(server: RedisServer) -> AsyncIterator[Operation]:
    async with publishing(server, overflow="wait", buffer_size=1) as publisher:
        publisher.publish_nowait(numbered(1))
        yield lambda: publisher.publish(numbered(2))


@contextlib.asynccontextmanager
async def cancelled_send(server: RedisServer) -> AsyncIterator[Operation]:
    async with publishing(server) as publisher:
        yield lambda: publisher.send(numbered(1))


@contextlib.asynccontextmanager
async def cancelled_flush(server: RedisServer) -> AsyncIterator[Operation]:
    async with publishing(server) as publisher:
        publisher.publish_nowait(numbered(1))
        yield publisher.flush


@contextlib.asynccontextmanager
async def cancelled_start_of_a_publisher(server: RedisServer) -> AsyncIterator[Operation]:
    # On a new connection it first asks how much the server takes.
    publisher = publisher_of(server, max_event_bytes=4 * 2**20)
    yield publisher.start
    with contextlib.suppress(NotStarted, PublisherClosed):
        await publisher.send(numbered(1))
    await publisher.aclose()
    with pytest.raises(PublisherClosed):
        publisher.publish_nowait(numbered(2))
    await server.command("DEL", STREAM)


@contextlib.asynccontextmanager
async def cancelled_close_of_a_publisher(server: RedisServer) -> AsyncIterator[Operation]:
    history = History()
    publisher = publisher_of(server, history, close_timeout=1.0)
    await publisher.start()
    history.publish(publisher, 300)
    yield publisher.aclose
    await publisher.aclose()
    async with Redis.from_url(server.url) as client:
        # What was in flight may have been applied without an answer.
        undelivered = set(history.recorder.undelivered_ids())
        history.check(publisher, [id for id in await stored_ids(client, STREAM) if id not in undelivered])
        await client.delete(STREAM)


@contextlib.asynccontextmanager
async def cancelled_run_of_a_publisher(server: RedisServer) -> AsyncIterator[Operation]:
    publisher = publisher_of(server)
    yield publisher.run
    with pytest.raises((NotStarted, PublisherClosed)):
        publisher.publish_nowait(numbered(1))
    await publisher.aclose()


@contextlib.asynccontextmanager
async def subscribing(server: RedisServer) -> AsyncIterator[Subscriber]:
    """A subscriber with two events, that still works, whatever was cancelled, and then closes."""
    async with Redis.from_url(server.url) as client:
        ids = await consuming.append(client, "t1", "t2")
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest")
    await subscriber.start()
    yield subscriber
    if await server.command("GET", KEY) != ids[1].encode():
        [again] = [event async for event in until("t2", subscriber)][-1:]
        await subscriber.commit(again)
    assert (await subscriber.lag())[STREAM].entries == 0
    await subscriber.aclose()
    assert await server.command("GET", KEY) == ids[1].encode()
    await server.command("DEL", STREAM, KEY)


async def until(thing: str, subscriber: Subscriber) -> AsyncIterator[Event]:
    async for event in subscriber:
        yield event
        if consuming.thing(event) == thing:
            return


@contextlib.asynccontextmanager
async def cancelled_step(server: RedisServer) -> AsyncIterator[Operation]:
    async with subscribing(server) as subscriber:
        yield lambda: anext(subscriber)
        event = await anext(aiter(subscriber))
        assert consuming.thing(event) == "t1", "a step that was cancelled has taken nothing"


@contextlib.asynccontextmanager
async def cancelled_run(server: RedisServer) -> AsyncIterator[Operation]:
    async with subscribing(server) as subscriber:

        async def handle(event: Event) -> None:
            await asyncio.sleep(0)
            if consuming.thing(event) == "t2":
                await asyncio.Event().wait()

        yield lambda: subscriber.run(handle)


@contextlib.asynccontextmanager
async def cancelled_commit(server: RedisServer) -> AsyncIterator[Operation]:
    async with subscribing(server) as subscriber:
        event = await anext(subscriber)
        yield lambda: subscriber.commit(event)
        await subscriber.commit(event)
        assert await server.command("GET", KEY) == event.id.encode()


@contextlib.asynccontextmanager
async def cancelled_lag(server: RedisServer) -> AsyncIterator[Operation]:
    async with subscribing(server) as subscriber:
        yield subscriber.lag


@contextlib.asynccontextmanager
async def cancelled_close(server: RedisServer) -> AsyncIterator[Operation]:
    async with Redis.from_url(server.url) as client:
        [id, _] = await consuming.append(client, "t1", "t2")
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest")
    await subscriber.start()
    await anext(subscriber)
    await anext(subscriber)
    yield subscriber.aclose
    await subscriber.aclose()
    assert await server.command("GET", KEY) in (id.encode(), b"0-0")
    with pytest.raises(EventsError, match="is closed"):
        aiter(subscriber)
    await server.command("DEL", STREAM, KEY)


@contextlib.asynccontextmanager
async def cancelled_start(server: RedisServer) -> AsyncIterator[Operation]:
    subscriber = Subscriber(server.url, STREAM, "audit")
    yield subscriber.start
    await subscriber.aclose()
    with pytest.raises(EventsError, match="is closed"):
        aiter(subscriber)
    await server.command("DEL", KEY)


@contextlib.asynccontextmanager
async def cancelled_start_and_run(server: RedisServer) -> AsyncIterator[Operation]:
    subscriber = Subscriber(server.url, STREAM, "audit")
    yield lambda: subscriber.run(lambda event: None)
    await subscriber.aclose()
    await server.command("DEL", KEY)


CANCELLED = [
    cancelled_publish,
    cancelled_publish_that_waits_for_room,
    cancelled_send,
    cancelled_flush,
    cancelled_start_of_a_publisher,
    cancelled_run_of_a_publisher,
    cancelled_close_of_a_publisher,
    cancelled_step,
    cancelled_run,
    cancelled_commit,
    cancelled_lag,
    cancelled_start,
    cancelled_start_and_run,
    cancelled_close,
]


@pytest.mark.parametrize("cancelled", CANCELLED, ids=lambda cancelled: cancelled.__name__)
@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
async def test_at_any_moment(
    cancel: Callable[[Operation, Moment], Awaitable[None]],
    cancelled: Callable[[RedisServer], contextlib.AbstractAsyncContextManager[Operation]],
    fresh_server: RedisServer,
) -> None:
    """Nothing is left of what was cancelled, and what it was cancelled on works on and closes."""
    remains = Remains()
    for moment in MOMENTS:
        async with cancelled(fresh_server) as operation:
            await cancel(operation, moment)
        await remains.check()
        await no_clients_left(fresh_server)
        assert await fresh_server.command("KEYS", "*") == []
