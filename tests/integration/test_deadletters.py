"""Entries that could not be handled: that they are dead-lettered before they are passed, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster
from consuming import STREAM, Recorder, append, stored, take, thing, things
from faults.proxy import Direction, proxy_to
from mainflux_events import (
    AccessRefused,
    Action,
    Backoff,
    ConfigError,
    DeadLetter,
    DeadLetterLimit,
    DeadLetterLimitReached,
    DeadLetters,
    DecodeError,
    Event,
    HandlerFailed,
    Retry,
    Subscriber,
    SubscriberStats,
)
from mainflux_events.deadletters import MOST_WORDS, opened
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, direct_to, wait_until, within

DEAD = "dead"
KEY = "mainflux:cursor:audit:things"
KILLED = Path(__file__).parent.parent / "killed_dead_letterer.py"
ONCE = Retry(attempts=1)


class Counted(Action, tag="test.deadletters.counted"):
    count: int


UNREADABLE = {"operation": "test.deadletters.counted", "count": "many"}


pytestmark = pytest.mark.usefixtures("quick")


def subscriber(
    server: RedisServer | str, *hooks: Recorder, name: str = "audit", **settings: Any
) -> Subscriber:
    settings = {"start": "earliest", "dead_letter": DeadLetters(DEAD, limit=None)} | settings
    url = server if isinstance(server, str) else server.url
    return Subscriber(url, settings.pop("stream", STREAM), name, hooks=hooks, **settings)


def fails(event: Event) -> None:
    raise ZeroDivisionError("as always")


async def letters(server: RedisServer, stream: str = DEAD) -> list[DeadLetter]:
    """The dead letters that are stored."""
    return [opened(id, fields) for id, fields in await server.command("XRANGE", stream, "-", "+")]


async def sources(server: RedisServer) -> list[str]:
    """The entries that are dead-lettered, in order."""
    return [letter.source_id for letter in await letters(server)]


async def until_cursor(client: Redis, id: str, name: str = "audit") -> None:
    async def check() -> bool:
        return await stored(client, name) == id

    await wait_until(check, what=f"the cursor is {id}")


async def run_until(condition: Any, consumer: Subscriber, handler: Any = fails) -> None:
    """Run a handler, which fails, until something is so. Raises what the run does."""
    running = asyncio.create_task(consumer.run(handler, retry=ONCE))
    waiting = asyncio.create_task(wait_until(condition))
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()
    await waiting


async def run_until_cursor(consumer: Subscriber, client: Redis, id: str, handler: Any = fails) -> None:
    async def check() -> bool:
        return await stored(client, "audit") == id

    await run_until(check, consumer, handler)


# --- what goes there ------------------------------------------------------------------------------------------------


async def test_what_no_attempt_handled_is_dead_lettered_byte_for_byte(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    fields = [
        b"operation",
        b"thing.remove",
        b"id",
        b"t1",
        b"id",
        b"t2",
        b"\xff\x00",
        b"\xfe\r\n",
        b"empty",
        b"",
    ]
    id = await server.command("XADD", STREAM, "*", *fields)
    async with subscriber(server, seen) as consumer:
        task = asyncio.create_task(consumer.run(fails, retry=Retry(attempts=3, initial=0)))
        await wait_until(lambda: consumer.stats.dead_lettered)
        assert await stored(client, "audit") == id.decode(), "in the same step"
        task.cancel()
        await asyncio.wait([task])
        assert consumer.stats == SubscriberStats(
            received=1, handled=0, skipped=0, retried=2, dead_lettered=1, given_up=0
        )
    [(_, stored_fields)] = await server.command("XRANGE", DEAD, "-", "+")
    assert stored_fields[: len(fields)] == fields
    [letter] = await letters(server)
    assert (letter.stream, letter.source_id, letter.operation) == (STREAM, id.decode(), "thing.remove")
    assert (letter.error_type, letter.error, letter.attempts) == ("ZeroDivisionError", "as always", 3)
    assert letter.consumer == "audit"
    [details] = seen.of("dead_lettered")
    assert (details.stream, details.id, details.operation) == (STREAM, id.decode(), "thing.remove")
    assert (details.dead_letters, details.attempts, type(details.error)) == (DEAD, 3, ZeroDivisionError)
    assert [part for pair in details.fields for part in pair] == fields
    assert (
        f"dead_lettered: entry {id.decode()} of 'things' is in 'dead', for ZeroDivisionError" in caplog.text
    )
    assert "given up" not in caplog.text


async def test_what_is_handled_is_not(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(200))
    seen = Recorder()

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        if int(thing(event)[1:]) % 5 == 0:
            raise ZeroDivisionError

    async with subscriber(server, seen) as consumer:
        await run_until_cursor(consumer, client, ids[-1], handle)
        assert (consumer.stats.handled, consumer.stats.dead_lettered) == (160, 40)
    assert await sources(server) == ids[4::5]
    assert seen.of("lease_lost") == [], "the commits in between are its own"


async def test_what_does_not_decode_is_dead_lettered_also_from_a_loop(
    server: RedisServer, client: Redis
) -> None:
    first = await append(client, "t1")
    bad = [(await client.xadd(STREAM, UNREADABLE)).decode() for _ in range(2)]
    await client.xadd(STREAM, {"operation": "nobody.knows"})
    [last] = await append(client, "t2")
    async with subscriber(server) as consumer:
        events = aiter(consumer)
        assert thing(await anext(events)) == "t1"
        assert await sources(server) == [], "t1 is in hand"
        second = await anext(events)
        assert thing(second) == "t2"
        assert await sources(server) == bad
        assert await stored(client, "audit") >= bad[1]
        assert consumer.stats == SubscriberStats(
            received=5, handled=1, skipped=1, retried=0, dead_lettered=2, given_up=0
        )
        await consumer.commit(second)
    assert await stored(client, "audit") == last > bad[1] > first[0]
    letter = (await letters(server))[0]
    assert (letter.operation, letter.attempts) == ("test.deadletters.counted", 0)
    assert letter.error_type == "mainflux_events.errors.DecodeError"
    assert "many" not in letter.error, "no payload in a message"
    assert letter.raw == tuple((name.encode(), value.encode()) for name, value in UNREADABLE.items())


async def test_a_run_goes_on_behind_what_does_not_decode(server: RedisServer, client: Redis) -> None:
    bad = (await client.xadd(STREAM, UNREADABLE)).decode()
    ids = await append(client, "t1", "t2")
    async with subscriber(server) as consumer:
        await run_until_cursor(
            consumer, client, ids[1], lambda event: fails(event) if thing(event) == "t1" else None
        )
    assert await sources(server) == [bad, ids[0]]


async def test_several_streams_share_their_dead_letters(server: RedisServer, client: Redis) -> None:
    async with subscriber(server, stream=["one", "two"]) as consumer:
        await append(client, "t1", stream="one")
        [id] = await append(client, "t2", stream="two")
        await run_until(lambda: consumer.stats.dead_lettered == 2, consumer)
        assert await stored(client, "audit", "two") == id
    assert sorted(letter.stream for letter in await letters(server)) == ["one", "two"]


async def test_only_the_newest_are_kept_where_that_is_asked_for(server: RedisServer, client: Redis) -> None:
    await client.config_set("stream-node-max-entries", 10)
    try:
        ids = await append(client, *things(200))
        async with subscriber(server, dead_letter=DeadLetters(DEAD, limit=None, max_len=20)) as consumer:
            await run_until_cursor(consumer, client, ids[-1])
    finally:
        await client.config_set("stream-node-max-entries", 100)
    kept = await sources(server)
    assert 20 <= len(kept) < 40
    assert kept == ids[-len(kept) :]


# --- what does not --------------------------------------------------------------------------------------------------


async def test_what_is_to_be_raised_is_raised_all_the_same(server: RedisServer, client: Redis) -> None:
    await append(client, "t1")
    async with subscriber(server) as consumer:
        with pytest.raises(HandlerFailed):
            await consumer.run(fails, retry=ONCE, on_failure="raise")
        assert consumer.stats.dead_lettered == 0
        assert await take(consumer, 1) == ["t1"]
    assert await sources(server) == []


async def test_what_a_handler_committed_before_it_failed_is_not_dead_lettered(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, "t1", "t2")
    async with subscriber(server) as consumer:

        async def handle(event: Event) -> None:
            if thing(event) == "t1":
                await consumer.commit(event)
                raise ZeroDivisionError

        await run_until_cursor(consumer, client, ids[1], handle)
        assert consumer.stats == SubscriberStats(
            received=2, handled=2, skipped=0, retried=0, dead_lettered=0, given_up=0
        )
    assert await sources(server) == []


async def test_without_dead_letters_both_are_given_up_and_told(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    await client.xadd(STREAM, UNREADABLE)
    ids = await append(client, "t1")
    async with subscriber(server, seen, dead_letter=None) as consumer:
        await run_until_cursor(consumer, client, ids[0])
        assert (consumer.stats.given_up, consumer.stats.dead_lettered) == (2, 0)
    assert len(seen.of("skipped")) == 1
    assert len(seen.of("handler_failed")) == 1


# --- the limit ------------------------------------------------------------------------------------------------------


async def test_past_the_limit_a_run_stops_before_the_event(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(20))
    limited = DeadLetters(DEAD, limit=DeadLetterLimit(count=7, seconds=600))
    async with subscriber(server, dead_letter=limited) as consumer:
        with pytest.raises(DeadLetterLimitReached) as caught:
            await consumer.run(fails, retry=ONCE)
        assert await stored(client, "audit") == ids[6]
        assert await sources(server) == ids[:7]
        assert consumer.stats.dead_lettered == 7
        assert await take(consumer, 1) == ["t8"], "it comes again"
    reached = caught.value
    assert isinstance(reached.__cause__, ZeroDivisionError)
    assert (reached.stream, reached.id, reached.dead_letters) == (STREAM, ids[7], DEAD)
    assert (reached.count, reached.seconds) == (7, 600)
    assert f"entry {ids[7]} of 'things' was not dead-lettered to 'dead', as 7 were within 600 s" in str(
        reached
    )


async def test_a_hundred_in_a_minute_are_the_limit_where_nothing_is_said(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(150))
    async with subscriber(server, dead_letter=DEAD) as consumer:
        with pytest.raises(DeadLetterLimitReached):
            await consumer.run(fails, retry=ONCE)
    assert await sources(server) == ids[:100]


async def test_past_the_limit_a_loop_stops_before_what_does_not_decode(
    server: RedisServer, client: Redis
) -> None:
    [good] = await append(client, "t1")
    bad = [(await client.xadd(STREAM, UNREADABLE)).decode() for _ in range(3)]
    await append(client, "t2")
    limited = DeadLetters(DEAD, limit=DeadLetterLimit(count=2, seconds=600))
    async with subscriber(server, dead_letter=limited) as consumer:
        assert thing(await anext(consumer)) == "t1"
        for _ in range(2):
            with pytest.raises(DeadLetterLimitReached) as caught:
                await anext(consumer)
            assert caught.value.id == bad[2]
            assert isinstance(caught.value.__cause__, DecodeError)
        assert await stored(client, "audit") == bad[1] > good
        assert (consumer.stats.received, consumer.stats.dead_lettered) == (4, 2)
    assert await sources(server) == bad[:2]


async def test_when_the_time_of_the_limit_is_over_it_goes_on(server: RedisServer, client: Redis) -> None:
    bad = [(await client.xadd(STREAM, UNREADABLE)).decode() for _ in range(2)]
    await append(client, "t1")
    limited = DeadLetters(DEAD, limit=DeadLetterLimit(count=1, seconds=0.2))
    async with subscriber(server, dead_letter=limited) as consumer:
        with pytest.raises(DeadLetterLimitReached):
            await anext(consumer)

        async def goes_on() -> bool:
            try:
                return thing(await anext(consumer)) == "t1"
            except DeadLetterLimitReached:
                return False

        await wait_until(goes_on)
    assert await sources(server) == bad


# --- killed ---------------------------------------------------------------------------------------------------------


def wide(id: str) -> dict[str, str]:
    """An entry with more fields than a script can hand on."""
    return {"operation": "thing.remove", "id": id} | {f"f{number}": "" for number in range(MOST_WORDS // 2)}


async def die(server: RedisServer, hook: str, id: str) -> None:
    """Let a process dead-letter until it kills itself in this hook, for this entry."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(KILLED), server.url, hook, id],
        env=environment,
        capture_output=True,
        timeout=30,
    )
    assert process.returncode == -9, process.stderr.decode()


async def test_killed_before_it_was_written_it_comes_again(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(6))
    await die(server, "handler_failed", ids[3])
    assert (await stored(client, "audit"), await sources(server)) == (ids[2], ids[:3])
    async with subscriber(server) as consumer:
        await run_until_cursor(consumer, client, ids[-1])
    assert await sources(server) == ids


async def test_killed_when_it_was_written_it_does_not_come_again(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(6))
    await die(server, "dead_lettered", ids[3])
    assert (await stored(client, "audit"), await sources(server)) == (ids[3], ids[:4])
    async with subscriber(server) as consumer:
        await run_until_cursor(consumer, client, ids[-1])
    assert await sources(server) == ids


async def test_where_it_cannot_be_one_step_it_is_written_first_and_killed_then_comes_again(
    server: RedisServer, client: Redis
) -> None:
    ids = [(await client.xadd(STREAM, wide(id))).decode() for id in things(3)]
    await die(server, "dead_lettered", ids[1])
    assert (await stored(client, "audit"), await sources(server)) == (ids[0], ids[:2])
    async with subscriber(server) as consumer:
        await run_until_cursor(consumer, client, ids[-1])
    assert await sources(server) == [ids[0], ids[1], ids[1], ids[2]]
    for letter in await letters(server):
        assert len(letter.raw) == MOST_WORDS // 2 + 2


async def test_killed_again_and_again_each_is_written_once(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(3000))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    while (await stored(client, "audit") or "") != ids[-1]:
        before = await client.xlen(DEAD)
        process = subprocess.Popen(
            [sys.executable, str(KILLED), server.url, "handler_failed", "none"],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            await wait_until(lambda before=before: _longer(client, min(before + 400, len(ids))))
        finally:
            process.kill()
            process.wait()
            kills += 1
    assert kills > 3
    assert await sources(server) == ids


async def _longer(client: Redis, length: int) -> bool:
    return await client.xlen(DEAD) >= length


# --- the connection breaks ------------------------------------------------------------------------------------------


async def conversation(server: RedisServer, client: Redis) -> dict[Direction, int]:
    """How many bytes go in each direction while three entries are dead-lettered."""
    await append(client, *things(3))
    async with proxy_to(server) as proxy, subscriber(proxy.url()) as consumer:
        before = dict(proxy.passed)
        await run_until(lambda: consumer.stats.dead_lettered == 3, consumer)
        return {direction: proxy.passed[direction] - before[direction] for direction in before}


@pytest.mark.parametrize("direction", ["to server", "to client"])
async def test_broken_at_any_byte_each_is_written_once(
    direction: Direction, server: RedisServer, client: Redis
) -> None:
    length = (await conversation(server, client))[direction]
    broken = 0
    # Requests are long; a prime number of bytes between the places lets them fall everywhere in a command.
    for place in range(1, length, 97 if direction == "to server" else 7):
        await client.flushall()
        seen = Recorder()
        ids = await append(client, *things(3))
        async with proxy_to(server) as proxy, subscriber(proxy.url(), seen) as consumer:
            proxy.cut(direction, place)
            await run_until(lambda consumer=consumer: consumer.stats.dead_lettered == 3, consumer)
            broken += not proxy.cutting
        assert await sources(server) == ids, f"broken after {place} bytes of {direction}"
        assert [details.id for details in seen.of("dead_lettered")] == ids
        assert seen.of("lease_lost") == []
    assert broken > 20


@pytest.mark.parametrize("turns", range(25))
async def test_cancelled_at_any_turn_nothing_is_lost(turns: int, server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(3))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        failing = asyncio.Event()

        def handle(event: Event) -> None:
            failing.set()
            raise ZeroDivisionError

        task = asyncio.create_task(consumer.run(handle, retry=ONCE))
        await failing.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await run_until(lambda: consumer.stats.dead_lettered == 3, consumer)
        assert consumer.stats.received == 3
        assert await stored(client, "audit") == ids[-1]
    assert await sources(server) == ids
    assert seen.of("lease_lost") == []


# --- the server refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["out of memory", "read-only", "another type"])
async def test_a_refusal_is_told_and_waited_for(
    trouble: str, fresh_server: RedisServer, direct: Redis
) -> None:
    begin, end = {
        "out of memory": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        "read-only": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
        "another type": (["SET", DEAD, "a string"], ["DEL", DEAD]),
    }[trouble]
    ids = await append(direct, "t1", "t2")
    seen = Recorder()
    calls: list[str] = []

    async def handle(event: Event) -> None:
        calls.append(thing(event))
        if calls == ["t1"]:
            await direct.execute_command(*begin)
        raise ZeroDivisionError

    async with subscriber(fresh_server, seen) as consumer:
        begun = await stored(direct, "audit")
        task = asyncio.create_task(consumer.run(handle, retry=ONCE))
        await wait_until(
            lambda: len([each for each in seen.of("retrying") if each.what == "dead_letter"]) > 2
        )
        assert calls == ["t1"], "the next one waits"
        assert await stored(direct, "audit") == begun
        assert consumer.stats.dead_lettered == 0
        assert seen.of("dead_lettered") == []
        await direct.execute_command(*end)
        await until_cursor(direct, ids[1])
        task.cancel()
        await asyncio.wait([task])
    assert await sources(fresh_server) == ids
    assert calls == ["t1", "t2"]
    told = [each for each in seen.of("retrying") if each.what == "dead_letter"]
    assert told[0].stream == DEAD
    assert told[0].reason.startswith(
        {"out of memory": "OOM", "read-only": "READONLY"}.get(trouble, "WRONGTYPE")
    )


async def test_a_server_that_is_killed_meanwhile_is_waited_for() -> None:
    async with redis_server(aof=True) as server, direct_to(server) as client:
        ids = await append(client, *things(3))
        seen = Recorder()
        async with subscriber(server, seen) as consumer:

            async def handle(event: Event) -> None:
                if thing(event) == "t2":
                    await server.kill()
                raise ZeroDivisionError

            task = asyncio.create_task(consumer.run(handle, retry=ONCE))
            await wait_until(lambda: any(each.what == "dead_letter" for each in seen.of("retrying")))
            await server.restart()
            await until_cursor(client, ids[-1])
            task.cancel()
            await asyncio.wait([task])
        assert await sources(server) == ids


@pytest.mark.parametrize("how", ["out of memory", "hung", "killed"])
async def test_closing_does_not_wait_for_ever_and_the_event_comes_again(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(aof=True) as server, direct_to(server) as client:
        ids = await append(client, "t1", "t2")
        failing = asyncio.Event()

        async def handle(event: Event) -> None:
            if how == "out of memory":
                await client.config_set("maxmemory", "1")
            elif how == "hung":
                server.hang()
            else:
                await server.kill()
            failing.set()
            raise ZeroDivisionError

        consumer = subscriber(server)
        await consumer.start()
        task = asyncio.create_task(consumer.run(handle, retry=ONCE))
        await failing.wait()
        with within(2.5):  # seconds, as the contract has it
            await consumer.aclose()
        await asyncio.wait_for(task, PATIENCE)
        assert f"dead_letter_not_written: entry {ids[0]} of 'things', on closing" in caplog.text
        assert (consumer.stats.dead_lettered, consumer.stats.given_up) == (0, 0)
        if how == "out of memory":
            await client.config_set("maxmemory", "0")
        elif how == "hung":
            server.resume()
        else:
            await server.restart()
        async with subscriber(server) as again:
            await run_until_cursor(again, client, ids[-1])
        assert await sources(server) == ids


async def test_closing_in_a_long_wait_between_attempts_tries_at_once(
    fresh_server: RedisServer, direct: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=60, maximum=60))
    ids = await append(direct, "t1", "t2")
    seen = Recorder()
    consumer = subscriber(fresh_server, seen)
    await consumer.start()

    async def handle(event: Event) -> None:
        await direct.config_set("maxmemory", "1")
        raise ZeroDivisionError

    task = asyncio.create_task(consumer.run(handle, retry=ONCE))
    await wait_until(lambda: seen.of("retrying"))
    await direct.config_set("maxmemory", "0")
    await consumer.aclose()
    await task
    assert (await stored(direct, "audit"), await sources(fresh_server)) == (ids[0], ids[:1])


# --- two of one name ------------------------------------------------------------------------------------------------


def done(consumer: Subscriber) -> int:
    return consumer.stats.dead_lettered + consumer.stats.given_up


async def test_two_of_one_name_write_each_once(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *things(50))
    async with subscriber(server) as one, subscriber(server) as other:
        tasks = [asyncio.create_task(each.run(fails, retry=ONCE)) for each in (one, other)]
        await wait_until(lambda: all(done(each) == 50 for each in (one, other)))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert one.stats.dead_lettered + other.stats.dead_lettered == 50
        assert await stored(client, "audit") == ids[-1]
    assert await sources(server) == ids


async def test_what_somebody_else_has_passed_is_given_up_and_told(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await append(client, "t1", "t2")
    seen = Recorder()

    async def handle(event: Event) -> None:
        if thing(event) == "t1":
            await client.set(KEY, ids[1])
        raise ZeroDivisionError

    async with subscriber(server, seen) as consumer:
        await run_until(lambda: consumer.stats.given_up == 2, consumer, handle)
        assert consumer.stats.dead_lettered == 0
    assert await sources(server) == []
    assert await stored(client, "audit") == ids[1]
    assert {details.found for details in seen.of("lease_lost")} == {ids[1]}
    assert f"event_given_up: entry {ids[0]} of 'things' was passed by somebody else" in caplog.text


async def test_an_operators_cursor_behind_is_told_and_passed(server: RedisServer, client: Redis) -> None:
    ids = await append(client, "t1", "t2")
    seen = Recorder()

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            await client.set(KEY, "1-1")
            raise ZeroDivisionError

    async with subscriber(server, seen) as consumer:
        await run_until_cursor(consumer, client, ids[1], handle)
    assert await sources(server) == ids[1:]
    assert [details.found for details in seen.of("lease_lost")] == ["1-1"]


# --- a cluster ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", ["{things}:dead", "dead"])
async def test_in_a_cluster_in_one_slot_or_not(dead: str) -> None:
    stream = "{things}"
    seen = Recorder()
    async with cluster() as nodes:
        first = nodes[0]
        async with RedisCluster(host=str(first.host), port=int(first.port or 0)) as client:
            ids = [
                (await client.xadd(stream, {"operation": "thing.remove", "id": id})).decode()
                for id in things(20)
            ]
            slots = {client.keyslot(key) for key in (stream, dead, f"mainflux:cursor:audit:{stream}")}
            assert len(slots) == (1 if dead.startswith("{") else 2)
            consumer = Subscriber(
                client,
                stream,
                "audit",
                start="earliest",
                dead_letter=DeadLetters(dead, limit=None),
                hooks=seen,
            )
            async with consumer:
                await run_until(lambda: consumer.stats.dead_lettered == 20, consumer)
            found = await client.xrange(dead)
            assert [fields[b"dlq_id"].decode() for _, fields in found] == ids
            assert (await client.get(f"mainflux:cursor:audit:{stream}")).decode() == ids[-1]
    assert seen.of("retrying") == []


# --- beginning ------------------------------------------------------------------------------------------------------


async def test_a_key_of_another_type_is_refused_at_start(server: RedisServer, client: Redis) -> None:
    await client.set(DEAD, "a string")
    with pytest.raises(ConfigError, match="'dead' holds a string"):
        await subscriber(server).start()


@pytest.mark.parametrize(
    ("rights", "enough"),
    [(["~dead", "+xadd"], True), (["~dead"], False), (["+xadd"], False)],
)
async def test_the_right_to_append_is_checked_at_start(
    rights: list[str], enough: bool, fresh_server: RedisServer, direct: Redis
) -> None:
    ids = await append(direct, "t1")
    of_a_subscriber = ["+xread", "+xinfo", "+type", "+get", "+set", "+eval", "+evalsha"]
    await direct.execute_command(
        "ACL", "SETUSER", "audit", "on", ">secret", f"~{STREAM}", f"~{KEY}", *of_a_subscriber, *rights
    )
    consumer = subscriber(fresh_server.url.replace("unix://", "unix://audit:secret@"))
    if enough:
        async with consumer:
            await run_until_cursor(consumer, direct, ids[0])
        assert await sources(fresh_server) == ids
    else:
        with pytest.raises(AccessRefused) as caught:
            await consumer.start()
        assert "XADD on 'dead'" in str(caught.value)
        assert "secret" not in str(caught.value)


async def test_the_check_at_start_appends_nothing(server: RedisServer, client: Redis) -> None:
    await client.xadd(DEAD, {"a": "b"})
    async with subscriber(server):
        pass
    assert await client.xlen(DEAD) == 1


@pytest.mark.parametrize("exclusive", [False, "standby"])
async def test_a_server_that_is_down_at_start_is_waited_for(
    exclusive: Any, fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await fresh_server.kill()
    with caplog.at_level(logging.WARNING):
        async with subscriber(fresh_server, exclusive=exclusive) as consumer:
            await fresh_server.restart()
            [id] = await append(direct, "t1")
            await run_until_cursor(consumer, direct, id)
    assert await sources(fresh_server) == [id]


@pytest.mark.parametrize("dead_letter", [STREAM, "", True, DeadLetters(STREAM)])
def test_what_is_no_place_for_them_is_a_config_error(dead_letter: Any) -> None:
    with pytest.raises(ConfigError, match="dead_letter"):
        Subscriber("redis://localhost", STREAM, "audit", dead_letter=dead_letter)
