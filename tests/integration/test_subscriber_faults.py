"""The subscriber and servers that make trouble, beside the faults in `tests/faults`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, read_again, stored, take
from mainflux_events import CursorCorrupt, EventsError, Subscriber
from mainflux_events.testing import RedisServer, redis_server
from support import background_tasks, wait_until

KEY = "mainflux:cursor:audit:things"


pytestmark = pytest.mark.usefixtures("quick")


def subscriber(server: RedisServer, *hooks: Recorder, **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, "audit", hooks=hooks, **({"start": "earliest"} | settings))


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
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
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
