"""A master dies, and three Sentinels put a replica in its place: both sides go on by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from clusters import sentinels
from consuming import Recorder
from faults.kit import more_acknowledged
from histories import STREAM, History, stored_entries
from mainflux_events import Event, GroupSubscriber, Publisher, Subscriber
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, in_background, wait_until

NAME = "events"
REPLICATED = 300


@dataclass
class House:
    """A master, two replicas and three Sentinels."""

    master: RedisServer
    replicas: list[RedisServer]
    sentinels: list[RedisServer]

    def client(self) -> Redis:
        """A client of the master, wherever that is: as a user would make it."""
        finder = Sentinel([(str(each.host), int(each.port or 0)) for each in self.sentinels])
        client = finder.master_for(NAME)
        assert isinstance(client, Redis)
        return client

    async def caught_up(self) -> bool:
        """Whether the replicas have all that the master has."""
        offsets = {await _field(each, "master_repl_offset") for each in [self.master, *self.replicas]}
        return len(offsets) == 1

    async def successor(self) -> RedisServer:
        """The replica that is the master by now, when there is one."""
        found: list[RedisServer] = []

        async def promoted() -> bool:
            with contextlib.suppress(OSError):  # Sentinel ends all connections to a server that it promotes
                found[:] = [each for each in self.replicas if await _field(each, "role") == "master"]
            return bool(found)

        await wait_until(promoted)
        return found[0]


async def _field(server: RedisServer, name: str) -> str:
    lines = (await server.command("INFO", "replication")).decode().splitlines()
    [value] = [line.partition(":")[2] for line in lines if line.startswith(f"{name}:")]
    return str(value)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    at_once = {"repl-diskless-sync-delay": 0}
    async with contextlib.AsyncExitStack() as stack:
        master, *replicas = [
            await stack.enter_async_context(redis_server(tcp=True, config=at_once)) for _ in range(3)
        ]
        for replica in replicas:
            await replica.command("REPLICAOF", str(master.host), str(master.port))

        async def following() -> bool:
            return (await master.command("INFO", "replication")).count(b"state=online") == 2

        await wait_until(following)
        watchers = await stack.enter_async_context(sentinels(master, tmp_path))

        async def ready() -> bool:
            known = [await watcher.command("SENTINEL", "REPLICAS", NAME) for watcher in watchers]
            return all(len(replicas) == 2 for replicas in known)

        await wait_until(ready)
        yield House(master, replicas, watchers)


@dataclass
class Side:
    """What one subscriber was handed, and what it reported."""

    recorder: Recorder
    handled: list[str]

    async def handle(self, event: Event) -> None:
        self.handled.append(event.id)

    def check(self, entries: Mapping[str, str]) -> None:
        """Assert that it was handed each entry that is there, in order at first; and told of what is not any more."""
        firsts = list(dict.fromkeys(self.handled))
        assert [id for id in firsts if id in entries] == list(entries)
        lost = [id for id in firsts if id not in entries]
        assert not lost or self.recorder.of("reset")


@contextlib.asynccontextmanager
async def both_sides(house: House) -> AsyncIterator[tuple[list[Publisher], list[History], Side, Side]]:
    histories = [History("d"), History("i", idempotent=True)]
    audit, mailers = Side(Recorder(), []), Side(Recorder(), [])
    async with contextlib.AsyncExitStack() as stack:
        publishers = []
        for history in histories:
            given = history.publisher(house.client(), attempt_timeout=1.0)  # type: ignore[arg-type]
            publishers.append(await stack.enter_async_context(given))
        first = Subscriber(house.client(), STREAM, "audit", start="earliest", hooks=audit.recorder)
        second = GroupSubscriber(house.client(), STREAM, "mailers", start="earliest", hooks=mailers.recorder)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for subscriber, side in ((first, audit), (second, mailers)):
            await stack.enter_async_context(subscriber)
            tasks.create_task(subscriber.run(side.handle))
        yield publishers, histories, audit, mailers


async def stored(server: RedisServer) -> dict[str, str]:
    """What is in the stream, of a server that may just be promoted."""
    async with Redis.from_url(server.url, retry=Retry(NoBackoff(), 3)) as client:
        return await stored_entries(client)


@contextlib.asynccontextmanager
async def load(publishers: list[Publisher], histories: list[History]) -> AsyncIterator[None]:
    """Publish all the while, some thousand events a second."""

    async def loop() -> None:
        while True:
            for publisher, history in zip(publishers, histories, strict=True):
                history.publish(publisher, 5)
            await asyncio.sleep(0.002)

    async with in_background(loop()):
        yield


async def flushed(publishers: list[Publisher]) -> None:
    for publisher in publishers:
        await publisher.flush(PATIENCE)


async def read_to_the_end(entries: Mapping[str, str], *sides: Side) -> None:
    def read() -> bool:
        return all(len(side.handled) >= len(entries) and set(entries) <= set(side.handled) for side in sides)

    await wait_until(read)


async def test_master_killed_under_load_what_was_replicated_is_there_and_both_sides_go_on(
    house: House,
) -> None:
    async with both_sides(house) as (publishers, histories, audit, mailers):
        for publisher, history in zip(publishers, histories, strict=True):
            history.publish(publisher, REPLICATED)
        await flushed(publishers)
        await wait_until(house.caught_up)
        replicated = await stored(house.master)
        assert len(replicated) == 2 * REPLICATED
        async with load(publishers, histories):
            for publisher in publishers:
                await more_acknowledged(publisher)
            await house.master.kill()
            successor = await house.successor()
            for publisher in publishers:
                await wait_until(lambda publisher=publisher: publisher.stats.reconnects > 0)
                await more_acknowledged(publisher)
        await flushed(publishers)
        entries = await stored(successor)
        await read_to_the_end(entries, audit, mailers)
    assert replicated.items() <= entries.items()
    for publisher, history in zip(publishers, histories, strict=True):
        history.check(publisher, entries, kept=False)
        assert publisher.stats.undelivered == sum(each.unknown for each in history.recorder.sequences)
    audit.check(entries)
    mailers.check(entries)


async def test_what_a_failover_loses_is_reported_where_that_can_be_seen(house: House) -> None:
    async with both_sides(house) as (publishers, histories, audit, mailers):
        for publisher, history in zip(publishers, histories, strict=True):
            history.publish(publisher, REPLICATED)
        await flushed(publishers)
        await wait_until(house.caught_up)
        kept = await stored(house.master)
        await read_to_the_end(kept, audit, mailers)
        # From now on the replicas get nothing, and nobody knows.
        for replica in house.replicas:
            replica.hang()
        await house.master.command("CLIENT", "KILL", "TYPE", "replica")
        for publisher, history in zip(publishers, histories, strict=True):
            history.publish(publisher, 50)
        await flushed(publishers)
        lost = (await stored(house.master)).keys() - kept.keys()
        await wait_until(lambda: lost <= set(audit.handled))
        await house.master.kill()
        for replica in house.replicas:
            replica.resume()
        successor = await house.successor()
        # Where as many were added again as were lost, before anybody looks, nothing shows.
        await wait_until(lambda: audit.recorder.of("reset"))
        for publisher, history in zip(publishers, histories, strict=True):
            history.publish(publisher, 50)
        await flushed(publishers)
        entries = await stored(successor)
        await read_to_the_end(entries, audit, mailers)
    assert len(lost) == 100
    [sequence] = histories[1].recorder.sequences
    assert (sequence.acknowledged, sequence.found) == (REPLICATED + 50, REPLICATED)
    [reset] = audit.recorder.of("reset")
    assert (reset.after, reset.resume) == (max(lost, key=_number), max(kept, key=_number))
    for history in histories:
        own = list(history.own(entries).values())
        assert own == history.accepted[:REPLICATED] + history.accepted[REPLICATED + 50 :]
    audit.check(entries)


def _number(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split("-")))
