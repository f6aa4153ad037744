"""What a subscriber does when its server is down, hangs, dies, refuses or is changed under it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consuming import STREAM, Recorder, append, read_again, stored, take, thing
from mainflux_events import AccessRefused, Backoff, CursorCorrupt, Event, EventsError, Subscriber
from mainflux_events.testing import RedisServer, redis_server
from support import LOADS_SLOWLY, background_tasks, restart_with_much_to_load, wait_until

KEY = "mainflux:cursor:audit:things"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.02, maximum=0.1))
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


async def test_a_wrong_password_is_told_at_start_without_any_secret(caplog: pytest.LogCaptureFixture) -> None:
    async with redis_server(password="the right one") as server:
        url = server.url.replace("the%20right%20one", "sesame")
        begun = time.monotonic()
        with pytest.raises(AccessRefused) as caught:
            await Subscriber(url, STREAM, "audit").start()
        assert time.monotonic() - begun < 5
    assert "sesame" not in f"{caught.value!r} {caught.value} {caplog.text}"


async def test_a_server_that_hangs_at_start_is_waited_for_in_the_background(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    await append(direct, "t1")
    fresh_server.hang()
    async with subscriber(fresh_server) as consumer:
        fresh_server.resume()
        assert await take(consumer, 1) == ["t1"]


async def test_a_server_that_still_loads_its_data_at_start_is_waited_for() -> None:
    seen = Recorder()
    async with redis_server(config=LOADS_SLOWLY) as server:
        async with Redis.from_url(server.url) as client:
            await append(client, "t1")
        await restart_with_much_to_load(server)
        async with subscriber(server, seen) as consumer:
            await wait_until(lambda: seen.of("retrying"))
            assert "LOADING" in seen.of("retrying")[0].reason
            assert await take(consumer, 1) == ["t1"]


async def test_a_server_without_memory_for_the_first_cursor_is_waited_for(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    [id] = await append(direct, "t1")
    await direct.config_set("maxmemory", "1")
    async with subscriber(fresh_server, seen) as consumer:
        await wait_until(lambda: seen.of("retrying"))
        assert "OOM" in seen.of("retrying")[0].reason
        await direct.config_set("maxmemory", "0")
        event = await anext(consumer)
        await consumer.commit(event)
    assert await stored(direct, "audit") == id


# --- lost on the way ------------------------------------------------------------------------------------------------


async def test_killed_and_restarted_on_its_data_nothing_is_lost_or_handled_twice() -> None:
    handled: list[str] = []
    seen = Recorder()
    async with redis_server(aof=True) as server, Redis.from_url(server.url) as client:
        ids = await append(client, *things(900))

        async def handle(event: Event) -> None:
            handled.append(thing(event))
            await asyncio.sleep(0)

        async with subscriber(server, seen) as consumer:
            task = asyncio.create_task(consumer.run(handle))
            for most in (300, 600):
                await wait_until(lambda most=most: len(handled) > most)
                await server.kill()
                await server.restart()
            await wait_until(lambda: len(handled) == 900)
            await wait_until(lambda: _cursor_is(client, ids[-1]))
            task.cancel()
            await asyncio.wait([task])
    assert handled == things(900)
    assert [seen.of(hook) for hook in ("lease_lost", "gap", "reset")] == [[], [], []]


async def _cursor_is(client: Redis, id: str) -> bool:
    return await stored(client, "audit") == id


async def test_a_server_that_hangs_is_left_and_found_again(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    seen = Recorder()
    async with subscriber(fresh_server, seen) as consumer:
        await append(direct, "t1", "t2")
        events = aiter(consumer)
        await anext(events)
        fresh_server.hang()
        await wait_until(lambda: seen.of("retrying"))
        assert "no reply in" in seen.of("retrying")[0].reason
        fresh_server.resume()
        await append(direct, "t3")
        assert [thing(await anext(events)) for _ in range(2)] == ["t2", "t3"]


async def test_killed_connections_are_made_again_at_once(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        await append(client, "t")
        await consumer.commit(await anext(consumer))  # from here on they have worked
        for number in range(5):
            await client.client_kill_filter(_type="normal", skipme=True)
            [_] = await append(client, f"t{number}")
            event = await anext(consumer)
            assert thing(event) == f"t{number}"
            await consumer.commit(event)
    assert {details.wait for details in seen.of("retrying")} == {0.0}
    assert {name for name, _ in seen.seen} == {"retrying", "reconnected"}


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


async def test_a_password_that_changes_is_told_slowly_retried_and_got_over(
    fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    async with subscriber(fresh_server, seen) as consumer:
        await direct.config_set("requirepass", "sesame")
        await direct.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: len(seen.of("retrying")) > 3)
        assert "Authentication required" in seen.of("retrying")[-1].reason
        await direct.config_set("requirepass", "")
        await append(direct, "t1")
        assert await take(consumer, 1) == ["t1"]
    assert "sesame" not in caplog.text


async def test_a_stream_that_becomes_another_type_is_told_and_got_over(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    async with subscriber(fresh_server, seen) as consumer:
        await direct.set(STREAM, "a string")
        await wait_until(lambda: seen.of("retrying"))
        assert "WRONGTYPE" in seen.of("retrying")[0].reason
        await direct.delete(STREAM)
        await append(direct, "t1")
        assert await take(consumer, 1) == ["t1"]


async def test_a_server_that_is_made_a_replica_takes_no_commits_until_it_is_a_master_again(
    fresh_server: RedisServer, direct: Redis
) -> None:
    seen = Recorder()
    [first, _] = await append(direct, "t1", "t2")
    async with subscriber(fresh_server, seen) as consumer:
        events = aiter(consumer)
        await anext(events)
        await direct.execute_command("REPLICAOF", "127.0.0.1", "1")
        await anext(events)
        await wait_until(lambda: seen.of("cursor_not_saved"))
        assert "READONLY" in seen.of("cursor_not_saved")[0].reason
        await direct.execute_command("REPLICAOF", "NO", "ONE")
        await wait_until(lambda: _cursor_is(direct, first))
