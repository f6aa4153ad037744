"""FastStream: a message at a time, published and consumed as the pages on Redis Streams show it.

Its log of every message is off, and msgspec is its serializer, the quicker of the two that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
from fast_depends.msgspec import MsgSpecSerializer
from faststream.redis import RedisBroker, StreamSub

from benchmarks.events import MAX_LEN, fields
from benchmarks.measure import Taken, measured
from mainflux_events import Event

TITLE = "FastStream"
SHARE = 0.1
BATCH = 500


class Message(msgspec.Struct):
    """The eleven fields."""

    operation: str
    id: str
    group_id: str
    profile_id: str
    name: str
    metadata: dict[str, Any]
    evt_org_id: str
    evt_group_id: str
    jwt_identity_user_id: str
    jwt_identity_user_email: str
    occurred_at: str


def message(event: Event) -> dict[str, Any]:
    return {**fields(event), "metadata": event.action.metadata}


def broker(url: str) -> RedisBroker:
    return RedisBroker(url, logger=None, serializer=MsgSpecSerializer())


async def publish(url: str, stream: str, events: Iterable[Event]) -> Taken:
    async with broker(url) as client:
        await client.ping()
        with measured() as taken:
            for event in events:
                await client.publish(message(event), stream=stream, maxlen=MAX_LEN)
                taken.events += 1
    return taken


async def fill(url: str, stream: str, events: Iterable[Event]) -> Taken:
    """The same through pipelines: what `pipeline` of its `publish` is for."""
    events = iter(events)
    async with broker(url) as client:
        redis: Any = await client.connect()
        with measured() as taken:
            while batch := list(islice(events, BATCH)):
                pipeline = redis.pipeline(transaction=False)
                for event in batch:
                    await client.publish(message(event), stream=stream, maxlen=MAX_LEN, pipeline=pipeline)
                taken.events += len(await pipeline.execute())
    return taken


async def consume(url: str, stream: str, count: int) -> Taken:
    client = broker(url)
    done = asyncio.Event()
    handled = 0

    @client.subscriber(stream=StreamSub(stream, last_id="0", max_records=1000))
    async def handle(message: Message) -> None:
        nonlocal handled
        assert message.operation
        assert message.jwt_identity_user_email
        assert message.occurred_at
        handled += 1
        if handled == count:
            done.set()

    with measured(count) as taken:
        async with client:
            await client.start()
            await done.wait()
    return taken
