"""What becomes of a stream under its reader: trimmed, deleted, replaced, flushed away. Groups: ``test_groups``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import Recorder, read_again, thing, things
from faults.kit import append, cursor, subscriber
from histories import STREAM
from mainflux_events import StreamGap, StreamReset, Subscriber
from mainflux_events.hooks import GapDetails, ResetDetails
from mainflux_events.testing import RedisServer
from support import wait_until


class Told(Recorder):
    """What is reported of the stream and which things are handled, in one list."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def gap(self, details: GapDetails) -> None:
        self.told.append(details)

    def reset(self, details: ResetDetails) -> None:
        self.told.append(details)

    @contextlib.asynccontextmanager
    async def by(self, consumer: Subscriber) -> AsyncIterator[Subscriber]:
        """Handle events for a while. Where one is to be raised, it is noted, and the loop begins anew."""

        async def handle() -> None:
            while True:
                try:
                    async for event in consumer:
                        self.told.append(thing(event))
                    return
                except (StreamGap, StreamReset) as error:
                    self.told.append(type(error))

        async with consumer:
            task = asyncio.create_task(handle())
            yield consumer
        await task

    async def ends_with(self, *told: Any) -> None:
        await wait_until(lambda: self.told[-len(told) :] == list(told), what=f"{self.told} ends with {told}")


async def add(client: Redis, thing: str, id: str) -> None:
    await client.xadd(STREAM, {"operation": "thing.remove", "id": thing}, id=id)


def counts(server: RedisServer) -> bool:
    """Whether the server tells how many entries were ever added."""
    return server.version >= (7,)


async def test_trimmed_past_the_cursor(server: RedisServer, client: Redis) -> None:
    told = Told()
    async with told.by(subscriber(server, told)) as reader:
        [before] = await append(client, "t1")
        await told.ends_with("t1")
        await read_again(server)
        async with client.pipeline(transaction=True) as pipeline:
            for id in things(9)[1:]:
                pipeline.xadd(STREAM, {"operation": "thing.remove", "id": id})
            pipeline.xtrim(STREAM, maxlen=2, approximate=False)
            [*_, first, _, _] = await pipeline.execute()
        await told.ends_with("t8", "t9")
        missed = 6 if counts(server) else None
        gap = GapDetails(STREAM, before, first.decode(), missed, counts(server))
        assert told.told == ["t1", gap, "t8", "t9"]
        assert (reader.stats.gaps, reader.stats.missed) == (1, missed or 0)


async def test_stream_deleted_while_blocked(server: RedisServer, client: Redis) -> None:
    told = Told()
    async with told.by(subscriber(server, told)):
        [id] = await append(client, "t1")
        await told.ends_with("t1")
        await read_again(server)
        await client.delete(STREAM)
        await told.ends_with(ResetDetails(STREAM, id, "0-0", "0-0"))
        await add(client, "n1", "1-0")
        await add(client, "n2", "2-0")
        await told.ends_with("n1", "n2")
    assert await cursor(client) == "2-0"


async def test_flushall(server: RedisServer, client: Redis) -> None:
    told = Told()
    async with told.by(subscriber(server, told)):
        [*_, id] = await append(client, *things(3))
        await told.ends_with("t3")
        await client.flushall()
        await told.ends_with(ResetDetails(STREAM, id, "0-0", "0-0"))
        [new] = await append(client, "n1")
        await told.ends_with("n1")
    assert await cursor(client) == new


async def test_kill_9_without_persistence_is_a_reset(fresh_server: RedisServer, direct: Redis) -> None:
    told = Told()
    async with told.by(subscriber(fresh_server, told)):
        await append(direct, *things(3))
        await told.ends_with(*things(3))
        await fresh_server.kill()
        await fresh_server.restart()
        await wait_until(lambda: len(told.of("reconnected")) >= 1 and len(told.told) == 4)
        assert isinstance(told.told[-1], ResetDetails)
        await append(direct, "n1", "n2")
        await told.ends_with("n1", "n2")


@pytest.mark.parametrize("when", ["at the start", "on reconnecting", "when idle"])
@pytest.mark.parametrize("on_gap", ["report", "raise"])
async def test_ids_run_backwards(when: str, on_gap: str, server: RedisServer, client: Redis) -> None:
    told = Told()

    async def replace() -> None:
        async with client.pipeline(transaction=True) as pipeline:
            if when == "on reconnecting":
                pipeline.client_kill_filter(_type="normal", skipme=True)
            pipeline.delete(STREAM)
            for number in (1, 2):
                pipeline.xadd(STREAM, {"operation": "thing.remove", "id": f"n{number}"}, id=f"{number}-0")
            await pipeline.execute()

    await add(client, "t1", "5-0")
    async with told.by(subscriber(server, told, on_gap=on_gap)):
        await told.ends_with("t1")
        await wait_until(lambda: _cursor_is(client, "5-0"))
        if when != "at the start":
            await replace()
            await told.ends_with("n1", "n2")
    if when == "at the start":
        await replace()
        async with told.by(subscriber(server, told, on_gap=on_gap)):
            await told.ends_with("n1", "n2")
    reset = ResetDetails(STREAM, "5-0", "2-0", "0-0")
    assert told.told == ["t1", reset, *([StreamReset] if on_gap == "raise" else []), "n1", "n2"]
    assert await cursor(client) == "2-0"


async def _cursor_is(client: Redis, id: str) -> bool:
    return await cursor(client) == id
