"""Faults under the consumers of a group: of the network, of the stream, and of the consumers themselves.

Ten workers and 100,000 events, in a minute: `PYTHONPATH=src:tests python -m workers --workers 10 --events 100000`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

import workers
from consuming import STREAM, Recorder, append, take, thing, things
from faults.proxy import Direction, Proxy
from grouped import GROUP, member, pending, read_as
from mainflux_events import Event, GroupSubscriber
from mainflux_events.testing import RedisServer
from support import wait_until


async def nothing_is_pending(client: Redis) -> bool:
    return await pending(client) == {}


@pytest.fixture
async def handled(proxy: Proxy) -> AsyncIterator[list[str]]:
    """What three consumers handle, whose connections go through the proxy. Nothing is taken over in this time."""
    handled: list[str] = []

    async def handle(event: Event) -> None:
        handled.append(thing(event))
        await asyncio.sleep(0)

    consumers = [
        GroupSubscriber(proxy.url(), STREAM, GROUP, start="earliest", claim_after=3600) for _ in range(3)
    ]
    async with contextlib.AsyncExitStack() as stack:
        for consumer in consumers:
            await stack.enter_async_context(consumer)
        running = [asyncio.create_task(consumer.run(handle)) for consumer in consumers]
        yield handled
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def test_connections_reset_again_and_again(proxy: Proxy, client: Redis, handled: list[str]) -> None:
    for begin in range(1, 2001, 100):
        await append(client, *things(100, begin))
        proxy.reset()
        await wait_until(lambda begin=begin: len(handled) >= begin)
    await wait_until(lambda: len(handled) >= 2000)
    await wait_until(lambda: nothing_is_pending(client))
    assert Counter(handled) == Counter(things(2000))


@pytest.mark.parametrize("direction", ["to client", "to server"])
async def test_cut_at_any_byte(direction: Direction, proxy: Proxy, client: Redis, handled: list[str]) -> None:
    # Of a read's answer and of an acknowledgement, in steps that meet every part of either.
    for number, after in enumerate(itertools.chain(range(0, 400, 7), range(400, 3000, 97))):
        proxy.cut(direction, after)
        await append(client, *things(20, first=1 + 20 * number))
        await wait_until(lambda number=number: len(handled) >= 20 * (number + 1))
    await wait_until(lambda: nothing_is_pending(client))
    assert Counter(handled) == Counter(things(len(handled)))


async def test_worker_killed_every_event_is_handled_and_again_only_what_it_had_in_hand() -> None:
    figures = await workers.run(events=6000, workers=4, kill_after=600)
    assert figures.kills >= 8, "or nothing was shown"
    assert figures.handled == figures.events
    assert figures.left == 0
    # Each handler awaits, so of what a killed one had, only what was in hand had been begun.
    assert figures.again <= figures.killed_in_hand <= figures.kills
    assert figures.again < figures.killed_had, "by far not all that it had read"


async def test_pending_entries_trimmed_away(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    ids = await append(client, *things(6))
    await read_as(client, "dead", 4)
    await client.xdel(STREAM, ids[0], ids[2])
    async with member(server, seen, claim_after=0.3) as subscriber:
        assert sorted(await take(subscriber, 4)) == ["t2", "t4", "t5", "t6"]
        await wait_until(lambda: len(seen.of("skipped")) == 2)
        await wait_until(lambda: not_pending(client, ids[0], ids[2]))
    assert [details.id for details in seen.of("skipped")] == [ids[0], ids[2]]
    assert {details.reason for details in seen.of("skipped")} == {
        "it was removed from the stream before it was handled"
    }
    assert (subscriber.stats.missed, subscriber.stats.received) == (2, 4)


async def not_pending(client: Redis, *ids: str) -> bool:
    rows = (await pending(client)).values()
    return not set(ids) & {id for found in rows for id, _ in found}


@pytest.mark.parametrize("how", [f"DEL {STREAM}", "FLUSHALL"])
@pytest.mark.parametrize("handling", [False, True])
async def test_stream_deleted_or_everything_flushed_the_group_is_made_again(
    how: str,
    handling: bool,
    fresh_server: RedisServer,
    direct: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Recorder()
    ids = await append(direct, *things(3))
    async with member(fresh_server, seen) as subscriber:
        events = aiter(subscriber)
        taken = [thing(await anext(events)) for _ in range(2)]
        last = await anext(events)
        taken.append(thing(last))
        if not handling:
            await subscriber.commit(last)
        await direct.execute_command(*how.split())
        await append(direct, *things(3, first=4))
        taken += [thing(await anext(events)) for _ in range(3)]
        assert taken == things(6)
    [reset] = seen.of("reset")
    assert (reset.stream, reset.after) == (STREAM, ids[-1])
    assert subscriber.stats.resets == 1
    assert caplog.text.count("group_made_again") == 1
