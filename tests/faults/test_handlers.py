"""Handlers raise, hang, are cancelled, and are killed together with their process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consuming import Recorder, take, thing, things
from faults.kit import append, cursor, subscriber, until_stored
from histories import STREAM
from mainflux_events import Event, HandlerFailed, Retry, ThingRemoved
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until

CONSUMER = Path(__file__).parent / "killed_consumer.py"


# --- raise, hang, are cancelled ---


async def test_handler_raises(server: RedisServer, client: Redis) -> None:
    seen, calls = Recorder(), list[str]()
    ids = await append(client, *things(3))

    def handle(event: Event) -> None:
        calls.append(thing(event))
        if thing(event) == "t2":
            raise ZeroDivisionError

    async with subscriber(server, seen) as reader:
        task = asyncio.create_task(reader.run(handle, retry=Retry(attempts=3, initial=0)))
        await until_stored(client, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        assert (reader.stats.handled, reader.stats.retried, reader.stats.given_up) == (2, 2, 1)
    assert calls == ["t1", "t2", "t2", "t2", "t3"]
    told = [(thing(each.event), each.attempt, each.final) for each in seen.of("handler_failed")]
    assert told == [("t2", 1, False), ("t2", 2, False), ("t2", 3, True)]


async def test_handler_raises_then_dead_lettered_before_the_cursor_moves(
    fresh_server: RedisServer, direct: Redis
) -> None:
    ids = await append(direct, *things(3))

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            raise ZeroDivisionError

    # What keeps the dead letter from being written keeps the cursor before its entry.
    await direct.config_set("maxmemory", 1)
    async with subscriber(fresh_server, seen := Recorder(), dead_letter="dead") as reader:
        task = asyncio.create_task(reader.run(handle, retry=Retry(attempts=2, initial=0)))
        await wait_until(lambda: any("OOM" in each.reason for each in seen.of("retrying")))
        assert await direct.xlen("dead") == 0
        await direct.config_set("maxmemory", 0)
        await until_stored(direct, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        assert (reader.stats.handled, reader.stats.dead_lettered, reader.stats.given_up) == (2, 1, 0)
    [(_, fields)] = await direct.xrange("dead")
    assert (fields[b"id"], fields[b"dlq_id"], fields[b"dlq_attempts"]) == (b"t2", ids[1].encode(), b"2")


async def test_handler_raises_and_the_cursor_stays_before_it(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(3))

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            raise ZeroDivisionError

    async with subscriber(server) as reader:
        with pytest.raises(HandlerFailed):
            await reader.run(handle, retry=Retry(attempts=2, initial=0), on_failure="raise")
    assert await cursor(client) == ids[0]
    async with subscriber(server) as reader:
        assert await take(reader, 2) == ["t2", "t3"]


async def test_handler_hangs(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    ids = await append(client, *things(3))

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            await asyncio.Event().wait()

    async with subscriber(server, seen) as reader:
        task = asyncio.create_task(reader.run(handle, timeout=0.02, retry=Retry(attempts=2, initial=0)))
        await until_stored(client, ids[-1])
        task.cancel()
        await asyncio.wait([task])
        assert (reader.stats.handled, reader.stats.given_up) == (2, 1)
    assert [type(each.error) for each in seen.of("handler_failed")] == [TimeoutError, TimeoutError]


async def test_handler_is_cancelled(server: RedisServer, client: Redis) -> None:
    seen, working = Recorder(), asyncio.Event()
    ids = await append(client, *things(3))

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            working.set()
            await asyncio.Event().wait()

    async with subscriber(server, seen) as reader:
        task = asyncio.create_task(reader.run(handle))
        await working.wait()
        task.cancel()
        await asyncio.wait([task])
        assert reader.stats.handled == 1
    assert await cursor(client) == ids[0]
    assert seen.of("handler_failed") == []
    async with subscriber(server) as reader:
        assert await take(reader, 2) == ["t2", "t3"]


# --- killed after handling, before the commit ---


async def connected(server: RedisServer) -> set[str]:
    """The IDs of the connections that others have."""
    *others, _ = (await server.command("CLIENT", "LIST")).decode().splitlines()  # the asker is the last
    return {line.split()[0] for line in others}


async def handed_out_again(server: RedisServer, kind: str, policy: str, last: int) -> list[str]:
    """Let a process be killed when it begins to handle one event; gives the events up to there that come again."""
    before = await connected(server)

    async def its_connections_are_over() -> bool:
        return await connected(server) <= before

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, str(CONSUMER), server.url, f"t{last}", kind, policy]
    process = await asyncio.to_thread(
        subprocess.run, arguments, env=environment, capture_output=True, text=True, timeout=30
    )
    assert process.returncode == -9, process.stderr
    # What a dead process has sent may be on its way yet. The server sees the end of a connection behind all of that.
    await wait_until(its_connections_are_over)
    again: list[str] = []
    async with subscriber(server, actions=[ThingRemoved]) as restarted:
        async for event in restarted:
            again.append(thing(event))
            if again[-1] == f"t{last}":
                return again
    raise AssertionError("the loop ended")


@pytest.mark.parametrize("kind", ["awaits_a_turn", "awaits_another_task"])
async def test_consumer_killed_where_handlers_await_only_the_event_in_hand_comes_again(
    kind: str, server: RedisServer, client: Redis
) -> None:
    await append(client, *things(150))
    assert await handed_out_again(server, kind, "each", 100) == ["t100"]


@pytest.mark.parametrize("last", [2, 3, 5, 40, 149])
async def test_consumer_killed_over_tcp_only_the_event_in_hand_comes_again(last: int) -> None:
    # The kernel holds commits back there, as long as nothing is to be read.
    async with redis_server(tcp=True) as server, Redis.from_url(server.url) as client:
        await append(client, *things(150))
        assert await handed_out_again(server, "awaits_a_turn", "each", last) == [f"t{last}"]


@pytest.mark.parametrize("last", [4, 100])
async def test_consumer_killed_where_some_handlers_await(
    last: int, server: RedisServer, client: Redis
) -> None:
    # The handler of the one before awaits; those of the two before that one do not.
    await append(client, *things(150))
    assert await handed_out_again(server, "awaits_every_third_time", "each", last) == [f"t{last}"]


async def test_consumer_killed_where_entries_in_between_are_passed_over(
    server: RedisServer, client: Redis
) -> None:
    for id in things(40):
        await append(client, id)
        await client.xadd(STREAM, {"operation": "org.create", "id": "o1"})
        await client.xadd(STREAM, {"operation": "nobody.knows"})
    assert await handed_out_again(server, "awaits_a_turn", "each", 30) == ["t30"]


async def test_consumer_killed_where_no_handler_awaits_at_most_64_events_come_again(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(1000))
    again = await handed_out_again(server, "returns", "each", 900)
    assert again == things(900)[-len(again) :]
    assert len(again) <= 65, "64 that share a commit, and the one in hand"


async def test_consumer_killed_with_commit_every_its_settings_say_how_many_come_again(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(100))
    again = await handed_out_again(server, "awaits_a_turn", "every 10", 57)
    assert again == things(57)[-7:]
