"""What is stored as a cursor is none, or is moved by somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consuming import Recorder, things
from faults.kit import append, cursor, subscriber
from histories import STREAM
from mainflux_events import CursorCorrupt
from mainflux_events.cursor import padded
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

KEY = f"mainflux:cursor:audit:{STREAM}"
CONSUMER = Path(__file__).parent / "killed_consumer.py"


@pytest.mark.parametrize("value", ["garbage", "$", "+", "-", "", "5", "18446744073709551616-0", "5-1-1"])
async def test_cursor_is_garbage(value: str, server: RedisServer, client: Redis) -> None:
    await append(client, "t1")
    await client.set(KEY, value)
    with pytest.raises(CursorCorrupt, match=KEY):
        await subscriber(server).start()
    assert await cursor(client) == value, "it is nobody's but the operator's to mend"


async def test_cursor_of_another_type(server: RedisServer, client: Redis) -> None:
    await client.lpush(KEY, "5-1")
    with pytest.raises(CursorCorrupt, match="another type"):
        await subscriber(server).start()
    assert await client.lrange(KEY, 0, -1) == [b"5-1"]


async def test_two_subscribers_of_one_name(server: RedisServer, client: Redis) -> None:
    """In two processes: the other one, which is slower, tells by its log."""
    seen, history = Recorder(), list[str]()
    ids = await append(client, *things(2000))
    async with other_process(server) as told, subscriber(server, seen) as reader:
        events = aiter(reader)
        event = await anext(events)

        async def passed() -> bool:
            return padded(await cursor(client) or "") >= padded(event.id)

        await wait_until(passed)
        while event.id != ids[-1]:
            event = await anext(events)
            history.append(await cursor(client) or "")
        await asyncio.wait_for(told(f"lease_lost: '{KEY}' was moved by somebody else"), PATIENCE)
        history.append(await cursor(client) or "")
    assert history == sorted(history, key=padded)
    assert {(details.stream, details.key) for details in seen.of("lease_lost")} == {(STREAM, KEY)}


@contextlib.asynccontextmanager
async def other_process(server: RedisServer) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """A process that consumes under the same name. Gives what waits until it has told something."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = (sys.executable, str(CONSUMER), server.url, "nobody", "takes_a_millisecond", "each")
    other = await asyncio.create_subprocess_exec(*arguments, env=environment, stderr=asyncio.subprocess.PIPE)
    stderr = other.stderr
    assert stderr is not None

    async def told(text: str) -> None:
        while text not in (line := (await stderr.readline()).decode()):
            assert line, "it ended and has not told"

    async def begun() -> bool:
        async with Redis.from_url(server.url) as client:
            return await cursor(client) not in (None, "0-0")

    try:
        await wait_until(begun)
        yield told
    finally:
        other.kill()
        await other.communicate()
