"""Partitions of one stream on one server: publishing to them, and consumers with leases that are short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import Recorder, quick_subscribers, things
from mainflux_events import Backoff, PartitionedSubscriber, Publisher, ThingRemoved
from mainflux_events.partitions import partition_of, partition_streams
from mainflux_events.testing import RedisServer
from support import PATIENCE

STREAM, PARTITIONS = "things", 4
STREAMS = partition_streams(STREAM, PARTITIONS)
TTL = 1.0


@contextmanager
def short_leases() -> Iterator[None]:
    """Consumers notice within a moment what usually takes a second."""
    with quick_subscribers(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("mainflux_events.lease.TTL", TTL)
        patch.setattr("mainflux_events.desk.RENEW_EVERY", 0.1)
        patch.setattr("mainflux_events.desk.ASK_EVERY", 0.05)
        yield


def publisher(server: RedisServer, **settings: Any) -> Publisher:
    defaults: dict[str, Any] = {"partitions": PARTITIONS, "backoff": Backoff(0.01, 0.05)}
    return Publisher(server.url, STREAM, **(defaults | settings))


def subscriber(server: RedisServer, *hooks: Recorder, **settings: Any) -> PartitionedSubscriber:
    defaults: dict[str, Any] = {"partitions": PARTITIONS, "start": "earliest", "hooks": hooks}
    return PartitionedSubscriber(server.url, STREAM, "audit", **(defaults | settings))


def in_partition(number: int, count: int) -> list[str]:
    """IDs of things that go to this partition."""
    found = [id for id in things(40 * count) if partition_of(id, PARTITIONS) == number]
    return found[:count]


async def publish(server: RedisServer, ids: list[str]) -> None:
    async with publisher(server) as one:
        for id in ids:
            await one.publish(ThingRemoved(id))
        await one.flush(PATIENCE)


async def cursors(client: Redis) -> list[bytes | None]:
    return [await client.get(f"mainflux:cursor:audit:{stream}") for stream in STREAMS]


class Chosen:
    """Has partitions be the share of whom the test says; of the first consumer, until it says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._who = ""
        self._others: dict[int, str] = {}
        monkeypatch.setattr("mainflux_events.sharing.share_out", self._share_out)

    def _share_out(self, partitions: int, members: list[str]) -> dict[str, frozenset[int]]:
        owners = [self._others.get(number, self._who or members[0]) for number in range(partitions)]
        return {
            each: frozenset(number for number, owner in enumerate(owners) if owner == each)
            for each in members
        }

    def give(
        self,
        one: PartitionedSubscriber,
        *rest: PartitionedSubscriber,
        others: dict[int, PartitionedSubscriber] | None = None,
    ) -> None:
        """All partitions are the share of this one, but for those that are others'. These and the rest hear of it."""
        self._who = member(one)
        self._others = {number: member(other) for number, other in (others or {}).items()}
        for each in (one, *rest):
            assert each._sharing is not None
            each._sharing._known = []  # as if somebody had come or gone


def member(one: PartitionedSubscriber) -> str:
    """By what name the others know a consumer that has started."""
    assert one._sharing is not None
    return one._sharing._members.me
