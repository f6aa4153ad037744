"""When a cursor is stored, and that it is never moved back, whatever happens to it and to its connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, stored, take, thing, things
from mainflux_events import Backoff, Commit, Event, Subscriber
from mainflux_events.commits import ANSWER_EVERY
from mainflux_events.cursor import padded
from mainflux_events.testing import RedisServer
from support import wait_until, within

KEY = "mainflux:cursor:audit:things"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.01, maximum=0.05))


def subscriber(server: RedisServer, *hooks: Recorder, name: str = "audit", **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, name, start="earliest", hooks=hooks, **settings)


def until_stored(client: Redis, id: str) -> Any:
    async def check() -> bool:
        return await stored(client, "audit") == id

    return wait_until(check, what=f"the cursor is {id}")


async def commits(client: Redis) -> int:
    """How many commits the server has executed."""
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


# --- when -----------------------------------------------------------------------------------------------------------


async def test_with_each_and_handlers_that_await_there_is_a_commit_an_event(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(200))
    async with subscriber(server) as consumer:
        before, begun = await commits(client), time.monotonic()
        task = asyncio.create_task(consumer.run(lambda event: asyncio.sleep(0)))
        await until_stored(client, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        # And now and then one that asks what became of the last of them.
        asked = (time.monotonic() - begun) / ANSWER_EVERY
        assert 200 <= await commits(client) - before <= 205 + asked


async def test_in_a_row_of_commits_most_have_no_answer(server: RedisServer, client: Redis) -> None:
    async def silenced() -> int:
        stats = await client.info("commandstats")
        # Redis 6.2 counts no subcommands.
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("client", "client|reply"))

    ids = await append(client, *things(2000))
    async with subscriber(server) as consumer:
        before = await silenced()
        task = asyncio.create_task(consumer.run(lambda event: asyncio.sleep(0)))
        await until_stored(client, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        assert 200 < await silenced() - before < 2000


async def test_with_each_and_handlers_that_do_not_await_commits_are_shared(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(6400))
    async with subscriber(server) as consumer:
        before = await commits(client)
        task = asyncio.create_task(consumer.run(lambda event: None))
        await until_stored(client, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        assert await commits(client) - before < 6400 / 4


async def test_with_every_there_is_a_commit_for_so_many_events(server: RedisServer, client: Redis) -> None:
    await append(client, *things(1000))
    async with subscriber(server, commit=Commit.every(events=100, seconds=1000)) as consumer:
        before = await commits(client)

        async def handle(event: Event) -> None:
            # However long it takes, so that each commit is answered while others are handled.
            await client.ping()

        task = asyncio.create_task(consumer.run(handle))
        await wait_until(lambda: consumer.stats.handled == 1000)
        task.cancel()
        await asyncio.wait([task])
        assert await commits(client) - before in (10, 11)


async def test_with_every_a_commit_comes_after_so_many_seconds(server: RedisServer, client: Redis) -> None:
    [first, _] = await append(client, "t1", "t2")
    async with subscriber(server, commit=Commit.every(events=1000, seconds=0.05)) as consumer:
        async for event in consumer:
            if thing(event) == "t2":
                with within(2):
                    await until_stored(client, first)
                break


async def test_leaving_the_loop_commits_what_is_handled(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(5))
    async with subscriber(server, commit=Commit.every(events=1000, seconds=1000)) as consumer:
        assert await take(consumer, 3) == things(3)
        await until_stored(client, ids[1])


async def test_closing_commits_what_is_handled(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(5))
    consumer = subscriber(server, commit=Commit.every(events=1000, seconds=1000))
    await consumer.start()
    events = aiter(consumer)
    for _ in range(3):
        await anext(events)
    await consumer.aclose()
    assert await stored(client, "audit") == ids[1]


async def test_passed_over_entries_are_committed_too(server: RedisServer, client: Redis) -> None:
    last = (await client.xadd(STREAM, {"operation": "nobody.knows"})).decode()
    async with subscriber(server) as consumer:
        asking = asyncio.ensure_future(anext(consumer))
        await until_stored(client, last)
        asking.cancel()
        await asyncio.wait([asking])


# --- somebody else at the same cursor -------------------------------------------------------------------------------


async def test_two_subscribers_of_one_name_never_move_it_back_and_are_both_told(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(410))
    hooks = [Recorder(), Recorder()]
    history: list[str] = []
    async with subscriber(server, hooks[0]) as first, subscriber(server, hooks[1]) as second:
        for lead in range(20, 401, 20):
            # Now the one and now the other overtakes.
            ahead = (first, second)[lead // 20 % 2]
            while ahead.stats.received < lead:
                await anext(ahead)
                history.append(await stored(client, "audit") or "")
            await until_stored(client, ids[lead - 2])
    assert history == sorted(history, key=padded)
    assert await stored(client, "audit") == ids[398]
    for hook in hooks:
        told = hook.of("lease_lost")
        assert told
        assert {(details.stream, details.key) for details in told} == {(STREAM, KEY)}
        assert {details.found for details in told} <= set(ids)


async def test_an_operators_cursor_behind_is_told_and_passed(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(5))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        for _ in range(4):
            await anext(events)
        await until_stored(client, ids[2])
        await client.set(KEY, "1-1")
        await anext(events)
        await until_stored(client, ids[3])
        await wait_until(lambda: seen.of("lease_lost"))
    assert [details.found for details in seen.of("lease_lost")] == ["1-1"]


async def test_an_operators_cursor_ahead_is_told_and_not_moved_back(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(50))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        await anext(events)
        await client.set(KEY, "9999999999999-0")
        for _ in range(49):
            await anext(events)
        await wait_until(lambda: seen.of("lease_lost"))
    assert await stored(client, "audit") == "9999999999999-0"
    assert [details.found for details in seen.of("lease_lost")] == ["9999999999999-0"]


async def test_what_somebody_else_stores_while_the_connection_is_lost_is_told_and_not_moved_back(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(3))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        await anext(events)
        await anext(events)
        await until_stored(client, ids[0])
        await client.set(KEY, "9999999999999-0")
        await client.client_kill_filter(_type="normal", skipme=True)
        await anext(events)
        await wait_until(lambda: seen.of("lease_lost"))
    assert await stored(client, "audit") == "9999999999999-0"
    assert [details.found for details in seen.of("lease_lost")] == ["9999999999999-0"]


async def test_a_deleted_cursor_is_told_and_stored_again(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(3))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        await anext(events)
        await client.delete(KEY)
        await anext(events)
        await until_stored(client, ids[0])
        await wait_until(lambda: seen.of("lease_lost"))
    assert [details.found for details in seen.of("lease_lost")] == [""]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client: client.set(KEY, "garbage"),
        lambda client: client.set(KEY, "$"),
        lambda client: client.set(KEY, ""),
        lambda client: client.set(KEY, "18446744073709551616000-0"),
        lambda client: client.rpush(KEY, "5-1"),
    ],
    ids=["garbage", "$", "empty", "too large", "a list"],
)
@pytest.mark.parametrize("disconnected", [False, True])
async def test_what_is_no_cursor_is_told_left_alone_and_got_over(
    spoil: Callable[[Redis], Any], disconnected: bool, server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(4))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        await anext(events)
        await client.delete(KEY)
        await spoil(client)
        spoilt = await client.dump(KEY)
        if disconnected:
            await client.client_kill_filter(_type="normal", skipme=True)
        for _ in range(2):
            await anext(events)
        await wait_until(lambda: seen.of("cursor_not_saved"))
        assert await client.dump(KEY) == spoilt
        details = seen.of("cursor_not_saved")[-1]
        assert (details.stream, details.key, details.id) == (STREAM, KEY, ids[1])
        await client.delete(KEY)
        await until_stored(client, ids[1])


# --- trouble --------------------------------------------------------------------------------------------------------


async def test_only_the_cursors_that_are_not_stored_are_told(fresh_server: RedisServer) -> None:
    seen = Recorder()
    async with Redis.from_url(fresh_server.url) as client:
        ids = await append(client, *things(2))
        both = Subscriber(fresh_server.url, [STREAM, "others"], "audit", start="earliest", hooks=seen)
        async with both as consumer:
            events = aiter(consumer)
            await anext(events)
            await client.config_set("maxmemory", "1")
            await anext(events)
            await wait_until(lambda: len(seen.of("cursor_not_saved")) > 1)
            await client.config_set("maxmemory", "0")
            await until_stored(client, ids[0])
    assert {(details.stream, details.id) for details in seen.of("cursor_not_saved")} == {(STREAM, ids[0])}


async def test_scripts_that_were_flushed_are_loaded_again(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(100))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        for number in range(100):
            await anext(events)
            await asyncio.sleep(0)
            if number % 7 == 0:
                await client.script_flush()
        await until_stored(client, ids[98])
    assert seen.seen == []


async def test_a_commit_whose_answer_was_lost_is_found_again(fresh_server: RedisServer) -> None:
    async with Redis.from_url(fresh_server.url) as client, subscriber(fresh_server) as consumer:
        [id] = await append(client, "t1")
        event = await anext(consumer)
        fresh_server.hang()
        committing = asyncio.create_task(consumer.commit(event))
        channel = consumer._keepers[0]._channel
        assert channel is not None
        await wait_until(lambda: channel._exchanges, what="it is written")
        # Now the connection ends, and then the server executes it.
        channel.abort("the test ends it")
        fresh_server.resume()
        await asyncio.wait_for(committing, 3)
        assert await stored(client, "audit") == id


async def test_no_more_than_a_thousand_commits_are_unanswered(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.reader.FIRST_ENTRIES", 1000)
    monkeypatch.setattr("mainflux_events.sizing.SHORT_ENTRIES", 1000)
    async with Redis.from_url(fresh_server.url) as client:
        ids = await append(client, *things(2000))
        async with subscriber(fresh_server) as consumer:
            before = await commits(client)
            events = aiter(consumer)
            await anext(events)
            await wait_until(consumer._intake.inbox.qsize)
            fresh_server.hang()
            for _ in range(1999):
                await anext(events)
                await asyncio.sleep(0)
            fresh_server.resume()
            await until_stored(client, ids[1998])
            assert 1000 <= await commits(client) - before <= 1005


async def test_a_commit_that_takes_too_long_is_a_timeout(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.2)
    async with Redis.from_url(fresh_server.url) as client, subscriber(fresh_server) as consumer:
        [id] = await append(client, "t1")
        event = await anext(consumer)
        fresh_server.hang()
        with pytest.raises(TimeoutError):
            await consumer.commit(event)
        fresh_server.resume()
        await until_stored(client, id)
