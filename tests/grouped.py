"""What the tests of consumer groups share."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from consuming import STREAM, Recorder
from mainflux_events import GroupSubscriber
from mainflux_events.testing import RedisServer

GROUP = "mailers"


def member(server: RedisServer, *hooks: Recorder, **settings: Any) -> GroupSubscriber:
    """A subscriber of the group, from the first entry on."""
    return GroupSubscriber(server.url, STREAM, GROUP, hooks=hooks, **({"start": "earliest"} | settings))


async def read_as(client: Redis, consumer: str, count: int, stream: str = STREAM) -> list[str]:
    """Have entries delivered to a consumer that never does anything else. Gives their IDs."""
    await client.execute_command("XGROUP", "CREATECONSUMER", stream, GROUP, consumer)
    [[_, entries]] = await client.xreadgroup(GROUP, consumer, {stream: ">"}, count=count)
    return [id.decode() for id, _ in entries]


async def pending(client: Redis, stream: str = STREAM) -> dict[str, list[tuple[str, int]]]:
    """By consumer: what is pending, and how often it was delivered."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in await client.xpending_range(stream, GROUP, "-", "+", 10_000):
        found.setdefault(row["consumer"].decode(), []).append(
            (row["message_id"].decode(), row["times_delivered"])
        )
    return found


async def consumers(client: Redis, stream: str = STREAM) -> set[str]:
    """The names of the consumers that the server knows."""
    return {consumer["name"].decode() for consumer in await client.xinfo_consumers(stream, GROUP)}
