"""What the tests of the subscriber share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from unittest.mock import patch

from redis.asyncio import Redis

from mainflux_events import Backoff, Event, Subscriber
from mainflux_events.testing import HookRecorder, RedisServer
from support import in_background, wait_until

STREAM = "things"
Recorder = HookRecorder


def things(count: int, first: int = 1) -> list[str]:
    """So many IDs of things."""
    return [f"t{number}" for number in range(first, first + count)]


def span(first: int, last: int) -> list[str]:
    """The IDs of the things from one number to another, both included."""
    return things(last - first + 1, first)


async def append(client: Redis, *ids: str, stream: str = STREAM) -> list[str]:
    """Append a removed thing of each ID; gives the IDs of the entries."""
    pipeline = client.pipeline(transaction=False)
    for id in ids:
        pipeline.xadd(stream, {"operation": "thing.remove", "id": id})
    return [entry.decode() for entry in await pipeline.execute()]


async def stored(client: Redis, name: str, stream: str = STREAM) -> str | None:
    """The cursor of a subscriber, as it is stored."""
    cursor = await client.get(f"mainflux:cursor:{name}:{stream}")
    return None if cursor is None else cursor.decode()


def thing(event: Event) -> str:
    """The ID of the removed thing."""
    return event.action.id  # type: ignore[attr-defined,no-any-return]


async def take(subscriber: Subscriber, count: int) -> list[str]:
    """The things of the next events. The loop is left at the last one, which is so not committed."""
    taken: list[str] = []
    async for event in subscriber:
        taken.append(thing(event))
        if len(taken) == count:
            break
    return taken


async def take_all(subscriber: Any, count: int) -> list[str]:
    """The things of the next events, each of which is committed."""
    taken: list[str] = []
    async for event in subscriber:
        taken.append(thing(event))
        if len(taken) == count:
            await subscriber.commit(event)
            break
    return taken


def running(subscriber: Any, handler: Any, **options: Any) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    """`subscriber.run` in the background, cancelled in the end."""
    return in_background(subscriber.run(handler, **options))


@contextlib.contextmanager
def quick_subscribers(*, patience: float = 5.0) -> Iterator[None]:
    """Subscribers that are quick to try again, as it can be said of publishers by their settings."""
    with (
        patch("mainflux_events.service.BACKOFF", Backoff(initial=0.01, maximum=0.1)),
        patch("mainflux_events.service.PATIENCE", patience),
        patch("mainflux_events.reader.BLOCK_MS", 50),
    ):
        yield


async def calls(server: RedisServer, command: str) -> int:
    """How often a command was run, whatever its subcommand."""
    stats = (await server.command("INFO", "commandstats")).decode()
    lines = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


async def read_again(server: RedisServer) -> None:
    """Wait until a read that begins after this call was answered, which shows in the server's count of reads."""

    async def twice_more() -> bool:
        return await calls(server, "xread:") >= before + 2

    before = await calls(server, "xread:")
    await wait_until(twice_more)
