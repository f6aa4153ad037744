"""The publisher and servers that make trouble, beside the faults in `tests/faults`."""

from __future__ import annotations

import asyncio
import sys

import pytest
from redis.asyncio import Redis

from histories import STREAM, History, numbered, stored_ids
from mainflux_events import (
    AccessRefused,
    Backoff,
    ConfigError,
    Publisher,
    PublisherClosed,
    ThingCreated,
    Undelivered,
)
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, no_clients_left, wait_until, within

SHORT = Backoff(initial=0.01, maximum=0.05)
# Seconds that closing may take beyond its bound; where each line is traced for the coverage, more.
LATE = 0.5 if sys.gettrace() is None else 2.0


def publisher_of(server: RedisServer, history: History | None = None, **settings: object) -> Publisher:
    defaults: dict[str, object] = {
        "backoff": SHORT,
        "attempt_timeout": 0.3,
        "buffer_size": 200_000,
        "max_len": None,
        "hooks": [] if history is None else history.recorder,
    }
    return Publisher(server.url, STREAM, **(defaults | settings))  # type: ignore[arg-type]


async def stored(server: RedisServer) -> list[str]:
    async with Redis.from_url(server.url) as client:
        return await stored_ids(client)


# --- servers that die, hang, or are not there ---


async def test_nobody_there_at_start() -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        await server.kill()
        async with publisher_of(server, history) as publisher:
            history.publish(publisher, 100)
            await wait_until(lambda: publisher.stats.retries >= 3)
            await server.restart()
            await publisher.flush(PATIENCE)
        history.check(publisher, await stored(server))
        assert publisher.stats.acknowledged == 100
        assert "cannot be reached" in history.recorder.retries[0].reason


async def test_start_ends_within_one_attempt_where_the_server_hangs(fresh_server: RedisServer) -> None:
    fresh_server.hang()
    publisher = publisher_of(fresh_server, attempt_timeout=0.2, close_timeout=0.1)
    with within(0.2 + LATE):
        await publisher.start()
    await publisher.aclose()


async def test_a_connection_that_worked_is_made_again_at_once(fresh_server: RedisServer) -> None:
    history = History()
    slow = Backoff(30.0, 30.0)
    async with publisher_of(fresh_server, history, backoff=slow, attempt_timeout=5.0) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        await fresh_server.command("CLIENT", "PAUSE", 10_000, "WRITE")
        history.publish(publisher)
        await wait_until(lambda: publisher.stats.in_flight)
        await fresh_server.command("CLIENT", "KILL", "TYPE", "normal")
        await fresh_server.command("CLIENT", "UNPAUSE")
        await publisher.flush(PATIENCE)
    [details] = history.recorder.retries
    assert (details.attempt, details.wait) == (1, 0.0)
    history.check(publisher, await stored(fresh_server), duplicates=1)


async def test_no_room_for_another_client(fresh_server: RedisServer) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, Redis.from_url(fresh_server.url) as client:
        await client.config_set("maxclients", 1)
        await client.client_kill_filter(_type="normal", skipme=True)
        history.publish(publisher)
        await wait_until(lambda: publisher.stats.retries >= 3)
        await client.config_set("maxclients", 100)
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored(fresh_server))
    assert publisher.stats.acknowledged == 1


# --- refusals ---


async def test_credentials_that_change_are_given_anew() -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        await server.command("ACL", "SETUSER", "writer", "on", ">old", "~*", "+@all")
        given = Redis(host="127.0.0.1", port=server.port or 0, username="writer", password="old")
        settings = {"backoff": SHORT, "hooks": history.recorder}
        async with Publisher(given, STREAM, **settings) as publisher:  # type: ignore[arg-type]
            await server.command("ACL", "SETUSER", "writer", "resetpass", ">new")
            await server.command("CLIENT", "KILL", "USER", "writer")
            history.publish(publisher)
            await wait_until(lambda: publisher.stats.retries >= 3)
            await server.command("ACL", "SETUSER", "writer", ">old")
            await publisher.flush(PATIENCE)
        history.check(publisher, await stored(server))


async def test_a_server_without_transactions_is_refused() -> None:
    async with redis_server(config={"rename-command": 'MULTI ""'}) as server:
        with pytest.raises(ConfigError, match="the server does not know MULTI"):
            await Publisher(server.url, STREAM).start()


async def test_a_stream_that_takes_no_more_ids_is_reported_and_costs_nothing(
    server: RedisServer, client: Redis
) -> None:
    history = History()
    async with publisher_of(server, history) as publisher:
        last = 2**64 - 1
        await client.xadd(STREAM, {"id": "0000000"}, id=f"{last}-{last - 2}")
        history.publish(publisher, 5)
        await wait_until(lambda: publisher.stats.retries >= 3)
        assert (publisher.stats.acknowledged, publisher.stats.undelivered) == (2, 0)
        await client.delete(STREAM)
        await publisher.flush(PATIENCE)
    assert await stored_ids(client) == history.accepted[2:]


# --- limits of the server ---

MIB = 1024 * 1024


async def test_the_largest_events_that_are_accepted_arrive(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server) as publisher:
        for _ in range(5):
            publisher.publish_nowait(ThingCreated(id="x" * (MIB - 1000), group_id="", profile_id=""))
        await publisher.flush(PATIENCE)
    assert await client.xlen(STREAM) == 5
    assert publisher.stats.retries == 0


async def test_many_fields_arrive(server: RedisServer, client: Redis) -> None:
    from mainflux_events import wire

    raw = [part for number in range(20_000) for part in (b"field%d" % number, b"x")]
    async with publisher_of(server) as publisher:
        await publisher.forward(wire.decode(raw))
        await publisher.flush(PATIENCE)
    [(_, fields)] = await client.xrange(STREAM)
    assert len(fields) == 20_000


async def hanging(server: RedisServer, publisher: Publisher) -> None:
    await publisher.send(numbered(0))
    server.hang()
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher.stats.in_flight)


# --- the background task ---


async def killed_inside(publisher: Publisher) -> None:
    """Let the background task die of what nobody foresaw."""

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("unforeseen")

    publisher._lanes[0].ledger.note_acknowledged = broken  # type: ignore[method-assign]
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher._tasks and publisher._tasks[0].done())


async def test_a_dead_background_task_is_told_by_publish_and_close(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    history = History()
    publisher = publisher_of(server, history)
    await publisher.start()
    await killed_inside(publisher)
    with pytest.raises(PublisherClosed, match="died: ZeroDivisionError") as caught:
        await publisher.publish(numbered(2))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(PublisherClosed, match="died: ZeroDivisionError"):
        await publisher.flush()
    with pytest.raises(PublisherClosed, match="died: ZeroDivisionError"):
        await publisher.aclose()
    assert history.recorder.undelivered_ids() == ["0000001"]
    assert "publisher_died" in caplog.text


async def test_run_raises_when_the_background_task_dies(server: RedisServer) -> None:
    publisher = publisher_of(server)
    running = asyncio.create_task(publisher.run())
    await wait_until(lambda: publisher._tasks)
    await killed_inside(publisher)
    with pytest.raises(PublisherClosed, match="died: ZeroDivisionError"):
        await running


async def test_who_waits_is_told_when_the_background_task_is_cancelled(fresh_server: RedisServer) -> None:
    publisher = publisher_of(fresh_server, overflow="wait", buffer_size=1, attempt_timeout=5.0)
    await publisher.start()
    await hanging(fresh_server, publisher)
    publisher.publish_nowait(numbered(2))
    waiting = asyncio.create_task(publisher.publish(numbered(3)))
    flushing = asyncio.create_task(publisher.flush())
    await asyncio.sleep(0)
    assert publisher._tasks
    publisher._tasks[0].cancel()
    with pytest.raises(PublisherClosed, match="somebody cancelled the background task"):
        await asyncio.wait_for(waiting, PATIENCE)
    with pytest.raises(Undelivered, match="2 events"):
        await asyncio.wait_for(flushing, PATIENCE)
    with pytest.raises(PublisherClosed):
        await publisher.aclose()


async def test_wrong_credentials_leave_no_connection() -> None:
    async with redis_server(password="pw") as server:
        with pytest.raises(AccessRefused):
            await Publisher(server.url.replace(":pw@", ":no@"), STREAM).start()
        await no_clients_left(server)
