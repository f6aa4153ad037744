"""`health()` of publishers and subscribers beside real servers: progress, in every state."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from mainflux_events import (
    Backoff,
    ConfigError,
    Event,
    GroupSubscriber,
    OrgCreated,
    Publisher,
    PublisherClosed,
    Subscriber,
)
from mainflux_events.testing import RedisServer
from support import wait_until

STREAM = "health"
SHORT = 0.05  # seconds of a stall that is long enough for these tests

Subscribing = type[Subscriber] | type[GroupSubscriber]
BOTH = pytest.mark.parametrize("kind", [Subscriber, GroupSubscriber])


async def append(server: RedisServer, *ids: str) -> None:
    async with Publisher(server.url, STREAM) as publisher:
        for id in ids:
            await publisher.publish(OrgCreated(id))
        await publisher.flush()


# ---- publishers


async def test_a_publisher_is_healthy_while_what_it_accepts_is_acknowledged(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    assert not publisher.health().healthy
    assert "start" in publisher.health().reason
    async with publisher:
        assert publisher.health().healthy
        assert publisher.health().last_acknowledged is None
        await publisher.send(OrgCreated("o1"))
        found = publisher.health(max_stall=SHORT)
        assert (found.healthy, found.unacknowledged, found.oldest_unacknowledged) == (True, 0, None)
        assert found.last_acknowledged is not None
    assert (publisher.health().healthy, "is closed" in publisher.health().reason) == (False, True)


async def test_a_publisher_that_nobody_answers_is_unhealthy_until_somebody_does(
    fresh_server: RedisServer,
) -> None:
    settings = {"backoff": Backoff(initial=0.01, maximum=0.02), "attempt_timeout": 0.3}
    async with Publisher(fresh_server.url, STREAM, **settings) as publisher:  # type: ignore[arg-type]
        await publisher.send(OrgCreated("o1"))
        fresh_server.hang()
        await publisher.publish(OrgCreated("o2"))
        await wait_until(lambda: not publisher.health(max_stall=SHORT).healthy)
        assert publisher.health(max_stall=60.0).healthy
        await wait_until(lambda: publisher.stats.retries)
        assert publisher.health(max_stall=SHORT).reason.endswith(": no reply in 0.3 s")  # why
        found = publisher.health(max_stall=SHORT)
        assert found.unacknowledged == 1
        assert found.oldest_unacknowledged is not None
        assert found.oldest_unacknowledged > SHORT
        stalled_since = found.since
        fresh_server.resume()
        await wait_until(lambda: publisher.health(max_stall=SHORT).healthy)
        await publisher.flush()
        found = publisher.health(max_stall=SHORT)
        assert found.since is not None
        assert stalled_since is not None
        assert found.since > stalled_since  # since it got over that
        assert found.oldest_unacknowledged is None


async def test_an_idle_publisher_stays_healthy_without_a_server(fresh_server: RedisServer) -> None:
    async with Publisher(fresh_server.url, STREAM) as publisher:
        await publisher.send(OrgCreated("o1"))
        await fresh_server.stop()
        assert publisher.health(max_stall=1e-9).healthy


async def test_a_publisher_whose_task_died_says_so(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    await publisher.start()
    [task] = publisher._tasks
    task.cancel()
    await wait_until(lambda: not publisher.health().healthy)
    assert "died" in publisher.health().reason
    with pytest.raises(PublisherClosed):
        await publisher.aclose()


def test_a_stall_of_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_stall"):
        Publisher("redis://nowhere", STREAM).health(max_stall=0)
    with pytest.raises(ConfigError, match="max_stall"):
        Subscriber("redis://nowhere", STREAM, "s").health(max_stall=-1)


async def test_what_it_says_is_json_for_whoever_asks(server: RedisServer) -> None:
    async with Publisher(server.url, STREAM) as publisher:
        await publisher.send(OrgCreated("o1"))
        said = msgspec.json.decode(msgspec.json.encode(publisher.health()))
    assert said["healthy"] is True
    assert set(said) == {
        "healthy", "reason", "since", "unacknowledged", "oldest_unacknowledged", "last_acknowledged",
    }  # fmt: skip


# ---- subscribers


@BOTH
async def test_a_subscriber_that_has_handled_all_there_is_is_healthy(
    kind: Subscribing, server: RedisServer
) -> None:
    await append(server, "o1")
    subscriber = kind(server.url, STREAM, "s", start="earliest")
    assert (subscriber.health().healthy, "start" in subscriber.health().reason) == (False, True)
    handled: list[Event] = []
    async with subscriber:
        running = asyncio.create_task(subscriber.run(handled.append))
        await wait_until(lambda: handled and subscriber._asking)
        await wait_until(lambda: subscriber.health().last_read is not None)
        found = subscriber.health(max_stall=SHORT)
        assert (found.healthy, found.reason, found.in_hand) == (True, "it waits for events", None)
    await running
    assert "is closed" in subscriber.health().reason


@BOTH
async def test_a_handler_that_takes_too_long_makes_it_unhealthy_until_it_returns(
    kind: Subscribing, server: RedisServer
) -> None:
    await append(server, "o1")
    returns = asyncio.Event()
    events: list[Event] = []

    async def handle(event: Event) -> None:
        events.append(event)
        await returns.wait()

    async with kind(server.url, STREAM, "s", start="earliest") as subscriber:
        running = asyncio.create_task(subscriber.run(handle))
        await wait_until(lambda: events)
        assert subscriber.health(max_stall=60.0).healthy
        assert events[0].id in subscriber.health().reason
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        found = subscriber.health(max_stall=SHORT)
        assert f"entry {events[0].id} of 'health' is in hand" in found.reason
        assert found.in_hand is not None
        assert found.in_hand > SHORT
        returns.set()
        await wait_until(lambda: subscriber.health(max_stall=SHORT).healthy)
    await running


async def test_of_several_handlers_the_one_that_takes_longest_counts(server: RedisServer) -> None:
    await append(server, "o1", "o2", "o3")
    returns = asyncio.Event()
    slow: list[Event] = []

    async def handle(event: Event) -> None:
        if event.action == OrgCreated("o1"):
            slow.append(event)
            await returns.wait()

    async with Subscriber(server.url, STREAM, "s", start="earliest") as subscriber:
        running = asyncio.create_task(subscriber.run(handle, concurrency=2))
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        assert f"entry {slow[0].id} of 'health' is in hand" in subscriber.health(max_stall=SHORT).reason
        returns.set()
        await wait_until(lambda: subscriber.health(max_stall=SHORT).healthy)
        assert subscriber.health(max_stall=SHORT).reason == "it waits for events"
    await running


async def test_between_the_calls_of_several_handlers_somebody_still_asks_for_events(
    server: RedisServer,
) -> None:
    await append(server, *(f"o{number}" for number in range(200)))
    subscriber = Subscriber(server.url, STREAM, "s", start="earliest")
    reasons: list[str] = []
    handled: list[Event] = []

    def key(event: Event) -> str:  # of which there is none in hand yet at first, and more behind it
        reasons.append(subscriber.health(max_stall=1e-9).reason)
        return event.id

    async with subscriber:
        running = asyncio.create_task(subscriber.run(handled.append, concurrency=2, key=key))
        await wait_until(lambda: len(handled) == 200)
    await running
    assert [reason for reason in reasons if "nobody asks" in reason] == []


async def test_a_quick_handler_after_a_long_idle_time_is_not_taken_for_a_slow_one(
    server: RedisServer,
) -> None:
    ages: list[float | None] = []
    subscriber = Subscriber(server.url, STREAM, "s", start="earliest")

    def handle(event: Event) -> None:
        ages.append(subscriber.health().in_hand)

    async with subscriber:
        running = asyncio.create_task(subscriber.run(handle))
        await wait_until(lambda: subscriber._asking)
        await asyncio.sleep(2 * SHORT)  # idle: what is measured must not contain it
        await append(server, "o1")
        await wait_until(lambda: ages)
    await running
    assert ages[0] is not None
    assert ages[0] < SHORT


@BOTH
async def test_events_that_nobody_asks_for_make_it_unhealthy(kind: Subscribing, server: RedisServer) -> None:
    await append(server, "o1")
    async with kind(server.url, STREAM, "s", start="earliest") as subscriber:
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        assert "nobody asks for them" in subscriber.health(max_stall=SHORT).reason
        await anext(subscriber)
        assert subscriber.health(max_stall=60.0).healthy


async def test_an_event_that_was_left_in_hand_makes_it_unhealthy_until_it_is_committed(
    server: RedisServer,
) -> None:
    await append(server, "o1")
    async with Subscriber(server.url, STREAM, "s", start="earliest") as subscriber:
        event = await anext(aiter(subscriber))
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        await subscriber.commit(event)
        assert subscriber.health(max_stall=SHORT).healthy


async def test_a_server_that_cannot_be_read_makes_it_unhealthy_until_it_can(
    fresh_server: RedisServer,
) -> None:
    subscriber = Subscriber(fresh_server.url, STREAM, "s", start="earliest")
    subscriber._backoff = Backoff(initial=0.01, maximum=0.02)
    async with subscriber:
        running = asyncio.create_task(subscriber.run(lambda event: None))
        await wait_until(lambda: subscriber.health(max_stall=SHORT).last_read is not None)
        await fresh_server.stop()
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        assert subscriber.health(max_stall=SHORT).reason.startswith("reading has failed for")
        assert subscriber.health(max_stall=600.0).healthy
        assert "is tried again" in subscriber.health(max_stall=600.0).reason
        await fresh_server.restart()
        await append(fresh_server, "o1")  # a read that waits for entries is answered
        await wait_until(lambda: subscriber.health(max_stall=SHORT).healthy)
    await running


async def test_a_cursor_that_cannot_be_stored_makes_it_unhealthy(fresh_server: RedisServer) -> None:
    await append(fresh_server, "o1", "o2")
    async with Subscriber(fresh_server.url, STREAM, "s", start="earliest") as subscriber:
        await anext(subscriber)
        await fresh_server.command("CONFIG", "SET", "maxmemory", "1")
        running = asyncio.create_task(subscriber.run(lambda event: None))
        await wait_until(lambda: not subscriber.health(max_stall=SHORT).healthy)
        assert subscriber.health(max_stall=SHORT).reason.startswith("storing what is handled has failed for")
        await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
        await wait_until(lambda: subscriber.health(max_stall=SHORT).healthy)
    await running


async def test_one_that_stands_by_is_healthy_and_says_so_and_reads_when_it_is_its_turn(
    server: RedisServer,
) -> None:
    settings = {"start": "earliest", "exclusive": "standby"}
    first = Subscriber(server.url, STREAM, "s", **settings)  # type: ignore[arg-type]
    second = Subscriber(server.url, STREAM, "s", **settings)  # type: ignore[arg-type]
    async with first:
        async with second:
            running = asyncio.create_task(second.run(lambda event: None))
            found = second.health(max_stall=SHORT)
            assert (found.healthy, found.standby) == (True, True)
            assert found.reason == "it stands by: another subscriber of its name reads"
            assert not first.health().standby
            await first.aclose()
            await wait_until(lambda: not second.health().standby)
            assert second.health(max_stall=SHORT).healthy
        await running


async def test_one_that_can_never_read_says_why_at_once(server: RedisServer) -> None:
    async with Subscriber(server.url, STREAM, "s") as subscriber:
        subscriber._reading[0].cancel()
        await wait_until(lambda: not subscriber.health().healthy)
        assert "died" in subscriber.health().reason


async def test_it_may_be_asked_from_any_thread(server: RedisServer) -> None:
    await append(server, *(f"o{number}" for number in range(200)))
    async with (
        Publisher(server.url, STREAM) as publisher,
        Subscriber(server.url, STREAM, "s", start="earliest") as subscriber,
    ):
        await anext(subscriber)
        both = await asyncio.to_thread(lambda: (publisher.health(), subscriber.health()))
    assert [found.healthy for found in both] == [True, True]
    assert all(found.since is not None and found.since.utcoffset() == timedelta(0) for found in both)
