"""The subscriber and servers that make trouble, beside the faults in `tests/faults`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consuming import STREAM, Recorder, append, read_again, stored, take, thing
from mainflux_events import Backoff, CursorCorrupt, Event, EventsError, Subscriber
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until

KEY = "mainflux:cursor:audit:things"
CLOSE_BOUND = 2.5  # seconds, as the contract has it


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.subscriber.BACKOFF", Backoff(initial=0.02, maximum=0.1))
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 50)


@pytest.fixture
async def direct(fresh_server: RedisServer) -> AsyncIterator[Redis]:
    """redis-py's client of the test's own server, which makes a new connection where that is needed."""
    async with Redis.from_url(fresh_server.url, retry=Retry(NoBackoff(), 1)) as client:
        yield client


def subscriber(server: RedisServer, *hooks: Recorder, **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, "audit", hooks=hooks, **({"start": "earliest"} | settings))


def things(count: int) -> list[str]:
    return [f"t{number}" for number in range(1, count + 1)]


def background_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("mainflux_events")]


# --- not there at the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["new", "earliest"])
async def test_a_server_that_is_down_at_start_is_waited_for(
    start: str, fresh_server: RedisServer, direct: Redis
) -> None:
    await fresh_server.kill()
    seen = Recorder()
    async with subscriber(fresh_server, seen, start=start) as consumer:
        asking = asyncio.create_task(take(consumer, 2))
        await wait_until(lambda: len(seen.of("retrying")) > 3)
        with pytest.raises(EventsError):
            await consumer.lag()
        await fresh_server.restart()
        await wait_until(lambda: _has_cursor(direct))
        await append(direct, "t1", "t2")
        assert await asking == ["t1", "t2"]
    assert {details.what for details in seen.of("retrying")} == {"read"}


async def _has_cursor(client: Redis) -> bool:
    return await stored(client, "audit") is not None


async def test_what_can_never_work_is_raised_in_the_loop_where_it_shows_only_then() -> None:
    async with redis_server(aof=True) as server:
        await server.command("SET", KEY, "garbage")
        await server.kill()
        async with subscriber(server) as consumer:
            asking = asyncio.create_task(anext(consumer))
            await server.restart()
            with pytest.raises(CursorCorrupt):
                await asking
            with pytest.raises(CursorCorrupt):
                await anext(consumer)


async def test_a_server_that_hangs_at_start_is_waited_for_in_the_background(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.subscriber.PATIENCE", 0.2)
    await append(direct, "t1")
    fresh_server.hang()
    async with subscriber(fresh_server) as consumer:
        fresh_server.resume()
        assert await take(consumer, 1) == ["t1"]


# --- lost on the way ------------------------------------------------------------------------------------------------


async def test_the_waits_begin_anew_once_a_read_was_answered_on_a_quiet_stream(
    fresh_server: RedisServer,
) -> None:
    seen = Recorder()
    async with subscriber(fresh_server, seen):
        await wait_until(background_tasks)
        await fresh_server.kill()
        await wait_until(lambda: max([0, *(details.attempt for details in seen.of("retrying"))]) >= 4)
        await fresh_server.restart()
        await wait_until(lambda: seen.of("reconnected"))
        await read_again(fresh_server)
        grown = len(seen.of("retrying"))
        await fresh_server.kill()
        await wait_until(lambda: len(seen.of("retrying")) > grown + 1)
        assert [details.attempt for details in seen.of("retrying")[grown:]][:2] == [1, 2]


async def test_a_stream_that_is_deleted_while_it_is_read_goes_on_with_the_new_one(
    fresh_server: RedisServer, direct: Redis
) -> None:
    async with subscriber(fresh_server) as consumer:
        await append(direct, "t1")
        assert await take(consumer, 1) == ["t1"]
        async for event in consumer:
            await consumer.commit(event)
            break
        await direct.delete(STREAM)
        await read_again(fresh_server)
        await append(direct, "t2")
        assert await take(consumer, 1) == ["t2"]


# --- closing --------------------------------------------------------------------------------------------------------


async def closed_in_time(consumer: Subscriber) -> None:
    begun = time.monotonic()
    await consumer.aclose()
    assert time.monotonic() - begun < CLOSE_BOUND
    assert background_tasks() == []


@pytest.mark.parametrize("asking", [False, True])
async def test_closing_while_idle(asking: bool, fresh_server: RedisServer) -> None:
    consumer = subscriber(fresh_server)
    await consumer.start()
    task = asyncio.ensure_future(anext(consumer, None)) if asking else None
    await read_again(fresh_server)
    await closed_in_time(consumer)
    assert task is None or await task is None


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_closing_while_the_server_takes_no_commit(
    how: str, fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    [id, _] = await append(direct, "t1", "t2")
    consumer = subscriber(fresh_server)
    await consumer.start()
    events = aiter(consumer)
    await anext(events)
    if how == "hung":
        fresh_server.hang()
    else:
        await fresh_server.kill()
    await anext(events)  # which commits the first one
    with caplog.at_level(logging.ERROR):
        await closed_in_time(consumer)
    assert f"cursor_not_saved: '{KEY}' at {id}, on closing" in caplog.text
    if how == "hung":
        fresh_server.resume()


async def test_closing_names_only_the_cursors_that_are_not_stored(
    fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Subscriber(fresh_server.url, [STREAM, "others"], "audit", start="earliest")
    [id, _] = await append(direct, "t1", "t2")
    await consumer.start()
    events = aiter(consumer)
    await anext(events)
    fresh_server.hang()
    await anext(events)  # which commits the first one
    await closed_in_time(consumer)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [f"cursor_not_saved: '{KEY}' at {id}, on closing"]
    fresh_server.resume()


async def test_closing_while_it_reconnects(fresh_server: RedisServer) -> None:
    seen = Recorder()
    await fresh_server.kill()
    consumer = subscriber(fresh_server, seen)
    await consumer.start()
    await wait_until(lambda: len(seen.of("retrying")) > 1)
    await closed_in_time(consumer)


async def test_closing_in_a_long_wait_between_attempts(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.subscriber.BACKOFF", Backoff(initial=60, maximum=60))
    seen = Recorder()
    [id, _] = await append(direct, "t1", "t2")
    consumer = subscriber(fresh_server, seen)
    await consumer.start()
    events = aiter(consumer)
    await anext(events)
    await direct.config_set("maxmemory", "1")
    await anext(events)
    await wait_until(lambda: seen.of("cursor_not_saved"))
    await direct.config_set("maxmemory", "0")
    await closed_in_time(consumer)
    assert await stored(direct, "audit") == id, "closing tries at once"


async def test_closing_while_a_handler_is_at_work(fresh_server: RedisServer, direct: Redis) -> None:
    [id, _] = await append(direct, "t1", "t2")
    consumer = subscriber(fresh_server)
    await consumer.start()
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            working.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(consumer.run(handle))
    await working.wait()
    await closed_in_time(consumer)
    assert await stored(direct, "audit") == id
    task.cancel()
    await asyncio.wait([task])


async def test_a_run_whose_scope_is_cancelled_while_the_server_hangs_ends_in_time(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, *things(100))
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t50":
            working.set()
        await asyncio.sleep(0)

    async with anyio.create_task_group() as group:
        await group.start(subscriber(fresh_server).run, handle)
        await working.wait()
        fresh_server.hang()
        begun = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - begun < CLOSE_BOUND
    assert background_tasks() == []
    fresh_server.resume()


@pytest.mark.parametrize("turns", range(6))
async def test_a_close_that_is_cancelled_leaves_nothing_behind(turns: int, server: RedisServer) -> None:
    consumer = subscriber(server)
    await consumer.start()
    task = asyncio.create_task(consumer.aclose())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await wait_until(lambda: not background_tasks())
