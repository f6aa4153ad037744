"""Partitions on a real cluster, three masters with a replica each, while both sides are at work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import cycle

import pytest
from redis.asyncio.cluster import RedisCluster

from clusters import cluster, kill_when_replicated, move_slot
from histories import KeyedReadings
from mainflux_events import Backoff, Event, Hooks, PartitionedSubscriber, Publisher
from mainflux_events.hooks import RetryingDetails
from mainflux_events.partitions import partition_streams
from mainflux_events.slots import SLOTS, slot
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

STREAM, PARTITIONS = "things", 6


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", Backoff(initial=0.05, maximum=0.3))
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 1.0)
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 200)
    monkeypatch.setattr("mainflux_events.lease.TTL", 1.5)
    monkeypatch.setattr("mainflux_events.desk.RENEW_EVERY", 0.2)
    monkeypatch.setattr("mainflux_events.desk.ASK_EVERY", 0.1)


class Reasons(Hooks):
    """The first words of why attempts failed."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def retrying(self, details: RetryingDetails) -> None:
        self.seen.add(details.reason.partition(" ")[0])


class Work:
    """A publisher, and two consumers that share the partitions, at work until it is said to be enough."""

    def __init__(self, master: RedisServer) -> None:
        self.history = KeyedReadings()
        self.reasons = Reasons()
        self._enough = asyncio.Event()
        self._address = {"host": str(master.host), "port": int(master.port or 0)}

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[Work]:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            clients = [await stack.enter_async_context(RedisCluster(**self._address)) for _ in range(3)]
            group.create_task(self._publish(clients[0]))
            consumers = [group.create_task(self._consume(client)) for client in clients[1:]]
            yield self
            self._enough.set()
            await wait_until(lambda: self.history.complete, what="all is handled")
            for consumer in consumers:
                consumer.cancel()

    async def _publish(self, client: RedisCluster) -> None:
        publisher = Publisher(
            client,
            STREAM,
            partitions=PARTITIONS,
            overflow="wait",
            max_len=None,
            backoff=Backoff(initial=0.05, maximum=0.3),
            attempt_timeout=1.0,
            hooks=self.reasons,
        )
        async with publisher:
            for number in cycle(range(50)):
                await publisher.publish(self.history.next(f"key{number}"))
                await asyncio.sleep(0.0005)
                if self._enough.is_set():
                    break
            await publisher.flush(PATIENCE)

    async def _consume(self, client: RedisCluster) -> None:
        async def handle(event: Event) -> None:
            self.history.note(event)
            await asyncio.sleep(0)

        subscriber = PartitionedSubscriber(
            client, STREAM, "audit", partitions=PARTITIONS, start="earliest", hooks=self.reasons
        )
        await subscriber.run(handle)

    async def more(self, events: int = 200) -> None:
        """Wait until so many more are handled of each partition, thus of each server."""
        wanted = {key: count + events // 50 for key, count in self.history.published.items()}
        numbers: dict[str, int] = {}
        seen = 0

        def reached() -> bool:
            nonlocal seen
            for key, number in self.history.handled[seen:]:
                numbers[key] = max(number, numbers.get(key, 0))
            seen = len(self.history.handled)
            return all(numbers.get(key, 0) >= count for key, count in wanted.items())

        await wait_until(lambda: len(self.history.published) == 50)
        await wait_until(reached, what="all partitions are read and written")


def owner(slot: int) -> int:
    """The number of the master that has it, of three."""
    return next(number for number in range(3) if slot < SLOTS * (number + 1) // 3)


async def test_a_slot_that_moves_while_it_is_used_loses_nothing_and_no_order() -> None:
    async with cluster() as masters:
        moving = slot(partition_streams(STREAM, PARTITIONS)[0])
        source = masters[owner(moving)]
        target, other = (server for server in masters if server is not source)
        work = Work(other)
        async with work.going_on():
            await work.more()
            seen = work.reasons.seen
            keys = await move_slot(source, target, moving, [other], pause=0.1, asked=lambda: "ASK" in seen)
            assert keys >= 3, "stream, cursor and lease"
            await work.more()
            await move_slot(target, source, moving, [other])
            await work.more()
        assert work.history.violations() == []
        assert {"ASK", "MOVED"} <= seen


async def test_when_a_master_dies_nothing_that_was_replicated_is_lost_and_no_order() -> None:
    async with cluster(replicas=True) as servers:
        dying = owner(slot(partition_streams(STREAM, PARTITIONS)[0]))
        replica = servers[dying + 3]
        work = Work(servers[(dying + 1) % 3])
        async with work.going_on():
            await work.more()
            await kill_when_replicated(servers[dying], replica)
            await work.more()
        assert work.history.violations() == []
        assert b"role:master" in await replica.command("INFO", "replication")
