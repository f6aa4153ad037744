"""The examples that run to an end."""

from __future__ import annotations

import re

from redis.asyncio import Redis

from mainflux_events.testing import RedisServer

from .running import output_of


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
