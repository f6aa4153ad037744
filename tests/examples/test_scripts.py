"""The examples that are programs of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import pytest
from redis.asyncio import Redis

from mainflux_events import THINGS_STREAM, Publisher, ThingRemoved
from mainflux_events.testing import RedisServer

from .running import EXAMPLES, output_of


async def test_anyio_tasks_prints_all_that_it_publishes(server: RedisServer, client: Redis) -> None:
    output = await output_of("anyio_tasks.py", server.url)
    entries = await client.xrange("example.things")
    assert [line.split()[0] for line in output.splitlines()] == [id.decode() for id, _ in entries]
    assert re.findall(r"name='(.*?)'", output) == [f"sensor {number}" for number in range(10)]
    assert await client.get("mainflux:cursor:printer:example.things") == entries[-1][0]


async def test_an_own_action_is_written_as_the_comments_say_and_comes_back(
    server: RedisServer, client: Redis
) -> None:
    output = await output_of("own_action.py", server.url)
    assert output.splitlines() == [
        "ana@example.com placed o1: 2 lines, 25.00",
        "ana@example.com cancelled o1 without a reason",
    ]
    (_, placed), (last, cancelled) = await client.xrange("example.orders")
    assert placed[b"operation"] == b"order.placed"
    assert placed[b"order_id"] == b"o1"
    assert placed[b"lines"].startswith(b'[{"article":"pump","quantity":2,"price":"12.50"}')
    assert placed[b"total"] == b'"25.00"'
    assert b"note" not in placed
    assert b"reason" not in cancelled
    assert await client.get("mainflux:cursor:billing:example.orders") == last


async def test_an_own_action_goes_on_behind_the_events_of_the_last_time(server: RedisServer) -> None:
    assert await output_of("own_action.py", server.url) == await output_of("own_action.py", server.url)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_ends_in_order_and_goes_on_where_it_was(
    ending: signal.Signals, server: RedisServer, client: Redis
) -> None:
    async def handled(*things: str) -> str:
        """What one run of it says, which is asked to end when it has handled these."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLES / "worker.py"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"REDIS_URL": server.url},
        )  # fmt: skip
        assert process.stdout is not None
        for thing in things:
            assert await process.stdout.readline() == f"forgetting {thing}\n".encode()
        process.send_signal(ending)
        rest, log = await process.communicate()
        assert (process.returncode, rest) == (0, b"")
        return log.decode()

    cursor = f"mainflux:cursor:forget:{THINGS_STREAM}"
    await client.set(cursor, "0-0")
    async with Publisher(server.url, THINGS_STREAM) as publisher:
        await publisher.send(ThingRemoved("t1"))
        last = await publisher.send(ThingRemoved("t2"))
        assert "handled=2" in await handled("t1", "t2")
        assert await client.get(cursor) == last.encode()
        await publisher.send(ThingRemoved("t3"))
        assert "handled=1" in await handled("t3")
