"""The publisher and servers that make trouble, beside the faults in `tests/faults`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Awaitable, Callable

import anyio
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
from support import no_clients_left, wait_until

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
            await publisher.flush(5.0)
        history.check(publisher, await stored(server))
        assert publisher.stats.acknowledged == 100
        assert "cannot be reached" in history.recorder.retries[0].reason


async def test_start_ends_within_one_attempt_where_the_server_hangs(fresh_server: RedisServer) -> None:
    fresh_server.hang()
    began = time.monotonic()
    async with publisher_of(fresh_server, attempt_timeout=0.2, close_timeout=0.1):
        assert time.monotonic() - began < 0.2 + LATE


async def test_a_connection_that_worked_is_made_again_at_once(fresh_server: RedisServer) -> None:
    history = History()
    slow = Backoff(30.0, 30.0)
    async with publisher_of(fresh_server, history, backoff=slow, attempt_timeout=5.0) as publisher:
        history.publish(publisher)
        await publisher.flush(1.0)
        await fresh_server.command("CLIENT", "PAUSE", 10_000, "WRITE")
        history.publish(publisher)
        await wait_until(lambda: publisher.stats.in_flight)
        await fresh_server.command("CLIENT", "KILL", "TYPE", "normal")
        await fresh_server.command("CLIENT", "UNPAUSE")
        await publisher.flush(2.0)
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
        await publisher.flush(2.0)
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
            await publisher.flush(2.0)
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
        await publisher.flush(2.0)
    assert await stored_ids(client) == history.accepted[2:]


# --- limits of the server ---

MIB = 1024 * 1024


async def test_the_largest_events_that_are_accepted_arrive(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server) as publisher:
        for _ in range(5):
            publisher.publish_nowait(ThingCreated(id="x" * (MIB - 1000), group_id="", profile_id=""))
        await publisher.flush(5.0)
    assert await client.xlen(STREAM) == 5
    assert publisher.stats.retries == 0


async def test_many_fields_arrive(server: RedisServer, client: Redis) -> None:
    from mainflux_events import wire

    raw = [part for number in range(20_000) for part in (b"field%d" % number, b"x")]
    async with publisher_of(server) as publisher:
        await publisher.forward(wire.decode(raw))
        await publisher.flush(5.0)
    [(_, fields)] = await client.xrange(STREAM)
    assert len(fields) == 20_000


# --- closing ---

State = Callable[[RedisServer, Publisher], Awaitable[object]]


async def idle(_server: RedisServer, _publisher: Publisher) -> None:
    pass


async def full(_server: RedisServer, publisher: Publisher) -> None:
    for number in range(10_000):
        publisher.publish_nowait(numbered(number))


async def hanging(server: RedisServer, publisher: Publisher) -> None:
    await publisher.send(numbered(0))
    server.hang()
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher.stats.in_flight)


async def hanging_while_connecting(server: RedisServer, publisher: Publisher) -> None:
    await hanging(server, publisher)
    await wait_until(lambda: publisher.stats.retries)


async def gone(server: RedisServer, publisher: Publisher) -> None:
    await server.kill()
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher.stats.retries >= 2)


async def refusing(server: RedisServer, publisher: Publisher) -> None:
    await server.command("SET", STREAM, "x")
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher.stats.retries)


STATES = [idle, full, hanging, hanging_while_connecting, gone, refusing]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("close_timeout", [0, 0.2])
async def test_close_ends_in_time_in_every_state(
    fresh_server: RedisServer, state: State, close_timeout: float
) -> None:
    history = History()
    publisher = publisher_of(
        fresh_server, history, close_timeout=close_timeout, backoff=Backoff(5.0, 5.0), attempt_timeout=0.5
    )
    if state in (hanging_while_connecting, gone):
        publisher = publisher_of(fresh_server, history, close_timeout=close_timeout)
    await publisher.start()
    await state(fresh_server, publisher)
    began = time.monotonic()
    await publisher.aclose()
    assert time.monotonic() - began < close_timeout + LATE
    assert asyncio.all_tasks() == {asyncio.current_task()}
    stats = publisher.stats
    assert (stats.buffered, stats.in_flight) == (0, 0)
    assert stats.accepted == stats.acknowledged + stats.dropped + stats.undelivered
    assert len(history.recorder.lost_undelivered) == stats.undelivered
    if state in (hanging, hanging_while_connecting):
        fresh_server.resume()
    if state is not gone:
        await no_clients_left(fresh_server)


async def test_close_says_once_how_many_were_not_delivered(
    fresh_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    history = History()
    async with publisher_of(fresh_server, history, close_timeout=0.05) as publisher:
        await fresh_server.kill()
        history.publish(publisher, 7)
    assert history.recorder.undelivered_ids() == history.accepted
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["events_undelivered: 7 events for 'mainflux.things', because the publisher closed"]


async def test_close_delivers_as_soon_as_it_can(fresh_server: RedisServer) -> None:
    history = History()
    slow = Backoff(20.0, 20.0)
    async with publisher_of(fresh_server, history, close_timeout=5.0, backoff=slow) as publisher:
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)
        history.publish(publisher, 10)
        await wait_until(lambda: publisher.stats.retries)
        await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
    history.check(publisher, await stored(fresh_server))
    assert publisher.stats.acknowledged == 10


async def after_turns(turns: int, task: asyncio.Task[None]) -> None:
    """Cancel a task after so many turns of the loop, and wait for its end."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=2.0)
    assert task.done()


async def nothing_left(server: RedisServer) -> None:
    await wait_until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    gc.collect()
    await no_clients_left(server)


@pytest.mark.parametrize("state", [idle, full, refusing])
async def test_a_close_that_is_cancelled_leaves_nothing(fresh_server: RedisServer, state: State) -> None:
    for turns in range(21):
        publisher = publisher_of(fresh_server, close_timeout=0.2)
        await publisher.start()
        await state(fresh_server, publisher)
        await after_turns(turns, asyncio.create_task(publisher.aclose()))
        if turns:
            await nothing_left(fresh_server)
            assert publisher.stats.buffered == publisher.stats.in_flight == 0
        await publisher.aclose()
        await nothing_left(fresh_server)
        await fresh_server.command("DEL", STREAM)


async def test_a_close_in_a_cancelled_scope_leaves_nothing(fresh_server: RedisServer) -> None:
    for turns in range(21):
        publisher = publisher_of(fresh_server, close_timeout=0.2)
        await publisher.start()
        await refusing(fresh_server, publisher)

        async def close(publisher: Publisher = publisher, turns: int = turns) -> None:
            with anyio.CancelScope() as scope:
                asyncio.get_running_loop().call_soon(cancel_later, scope, turns)
                await publisher.aclose()

        def cancel_later(scope: anyio.CancelScope, turns: int) -> None:
            if turns:
                asyncio.get_running_loop().call_soon(cancel_later, scope, turns - 1)
            else:
                scope.cancel()

        await close()
        await nothing_left(fresh_server)
        await fresh_server.command("DEL", STREAM)


async def test_a_start_that_is_cancelled_leaves_nothing(fresh_server: RedisServer) -> None:
    for turns in range(21):
        publisher = publisher_of(fresh_server)
        await after_turns(turns, asyncio.create_task(publisher.start()))
        await publisher.aclose()
        await nothing_left(fresh_server)


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
        await asyncio.wait_for(racing, 2.0)
        history.check(publisher, await stored_ids(client))
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
    assert sorted(await stored_ids(client)) == sorted(accepted)


# --- the background task ---


async def killed_inside(publisher: Publisher) -> None:
    """Let the background task die of what nobody foresaw."""

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("unforeseen")

    publisher._ledger.note_acknowledged = broken  # type: ignore[method-assign]
    publisher.publish_nowait(numbered(1))
    await wait_until(lambda: publisher._task is not None and publisher._task.done())


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
    await wait_until(lambda: publisher._task is not None)
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
    assert publisher._task is not None
    publisher._task.cancel()
    with pytest.raises(PublisherClosed, match="somebody cancelled the background task"):
        await asyncio.wait_for(waiting, 2.0)
    with pytest.raises(Undelivered, match="2 events"):
        await asyncio.wait_for(flushing, 2.0)
    with pytest.raises(PublisherClosed):
        await publisher.aclose()


async def test_wrong_credentials_leave_no_connection() -> None:
    async with redis_server(password="pw") as server:
        with pytest.raises(AccessRefused):
            await Publisher(server.url.replace(":pw@", ":no@"), STREAM).start()
        await no_clients_left(server)
