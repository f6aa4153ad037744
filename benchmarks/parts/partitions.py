"""Partitions: what several of them cost a client, and what several servers take off each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from redis.asyncio.cluster import RedisCluster

from benchmarks.bench import STREAM, Bench
from benchmarks.measure import Taken, measured
from benchmarks.record import Record, over
from mainflux_events import Commit, Event, PartitionedSubscriber, Publisher
from mainflux_events.partitions import partition_streams
from mainflux_events.slots import SLOTS, slot
from mainflux_events.testing import RedisServer, redis_server

MANY = 16
SERVERS = 4
# Until here, connections are made and batches grow.
WARM_UP = 0.2


async def run(bench: Bench, record: Record) -> None:
    count = record.effort.events
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(record.effort.rounds):
        for partitions in (1, MANY):
            await bench.clear()
            for what in ("publish", "consume"):
                keywords = {"url": bench.url, "count": count, "partitions": partitions}
                found = bench.run(Taken, __name__, what, **keywords)
                assert found.events == count, (what, found)
                taken.setdefault((what, partitions), []).append(found.cpu)
    record.measures += [
        over(
            f"CPU of the client, {what} to {MANY} partitions over 1",
            taken[what, MANY],
            taken[what, 1],
            bar=1.4,
            at_most=True,
        )
        for what in ("publish", "consume")
    ]
    await bench.clear()
    await _servers(bench, record)


async def _servers(bench: Bench, record: Record) -> None:
    """The same four partitions on one server and on four. With one core for all of them, their CPU tells."""
    rates: dict[int, list[float]] = {}
    busiest: dict[int, list[float]] = {}
    async with _cluster(1) as one, _cluster(SERVERS) as several:
        for _ in range(record.effort.rounds):
            for servers in (one, several):
                before = [await _cpu(server) for server in servers]
                keywords = {"port": servers[0].port, "count": record.effort.events, "partitions": SERVERS}
                found = bench.run(Taken, __name__, "publish", **keywords)
                assert found.events == record.effort.events, found
                used = [await _cpu(server) - was for server, was in zip(servers, before, strict=True)]
                rates.setdefault(len(servers), []).append(found.events / found.seconds)
                busiest.setdefault(len(servers), []).append(max(used) / found.events)
    record.measures += [
        over(f"publish, {SERVERS} servers over 1, all on one core", rates[SERVERS], rates[1]),
        over(
            f"CPU an event of the busiest server, 1 over {SERVERS}",
            busiest[1],
            busiest[SERVERS],
            bar=2.5,
            goal=3.5,
        ),
    ]


@asynccontextmanager
async def _cluster(nodes: int) -> AsyncIterator[list[RedisServer]]:
    """Masters, each of which has as many of the partitions."""
    wanted = sorted(slot(stream) for stream in partition_streams(STREAM, SERVERS))
    ends = [*wanted[SERVERS // nodes - 1 :: SERVERS // nodes][:-1], SLOTS - 1]
    async with AsyncExitStack() as stack:
        config = {"cluster-enabled": "yes"}
        servers = [await stack.enter_async_context(redis_server(tcp=True, config=config)) for _ in ends]
        for number, (server, begin, end) in enumerate(zip(servers, [-1, *ends], ends, strict=False), 1):
            await server.command("CLUSTER", "ADDSLOTSRANGE", begin + 1, end)
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", number)
            await servers[0].command("CLUSTER", "MEET", str(server.host), int(server.port or 0))
        for server in servers:
            while b"cluster_state:ok" not in await server.command("CLUSTER", "INFO"):  # noqa: ASYNC110 - its own time
                await asyncio.sleep(0.05)
        yield servers


async def _cpu(server: RedisServer) -> float:
    """Seconds of CPU that the server has used so far."""
    info = (await server.command("INFO", "cpu")).decode()
    return sum(float(found) for found in re.findall(r"used_cpu_(?:sys|user):([\d.]+)", info))


async def publish(events: Iterable[Event], partitions: int, url: str = "", port: int = 0) -> Taken:
    """To a server, or to the cluster of the one on this port."""
    async with AsyncExitStack() as stack:
        server = url or await stack.enter_async_context(RedisCluster("127.0.0.1", port))
        publisher = Publisher(server, STREAM, partitions=partitions, overflow="wait")
        async with publisher:
            with measured() as taken:
                for event in events:
                    await publisher.publish(event)
                await publisher.flush()
            taken.events = publisher.stats.acknowledged
    return taken


async def consume(url: str, count: int, partitions: int) -> Taken:
    """All that is there; measured when connections are made and batches have grown, and told for all."""
    subscriber = PartitionedSubscriber(
        url, STREAM, "benchmark", partitions=partitions, start="earliest", commit=Commit.every()
    )
    warm, seen = int(count * WARM_UP), 0
    async with subscriber:
        async for event in subscriber:
            seen += 1
            assert event.action.id
            if seen == warm:
                break
        with measured(count) as taken:
            async for event in subscriber:
                assert event.action.id
                seen += 1
                if seen > count:  # the one in hand when the first loop was left came again
                    break
    taken.cpu *= count / (count - warm)
    return taken
