"""One connection for each server: what lines that share it do to each other, and what they do not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from histories import Recorder, numbered
from mainflux_events import Backoff, Publisher, ThingRemoved
from mainflux_events.channel import Channel
from mainflux_events.hooks import Observers
from mainflux_events.line import Line
from mainflux_events.link import Disconnected, Link, Unreachable
from mainflux_events.nodes import Nodes
from mainflux_events.partitions import partition_of
from mainflux_events.refusals import Refusal
from mainflux_events.resp import command
from mainflux_events.testing import RedisServer
from support import PATIENCE, no_clients_left, wait_until

STREAM, PARTITIONS = "things", 16
SHORT = Backoff(initial=0.01, maximum=0.05)
PING = (command("PING"), 1)


def nodes_of(server: RedisServer, hold: float = 0.0) -> Nodes:
    return Nodes(Link(server.url, 2.0), hold)


async def opened(nodes: Nodes, count: int) -> list[Channel]:
    """By so many at the same time."""
    return list(await asyncio.gather(*(nodes.open(f"key{number}", 2.0) for number in range(count))))


async def connections_made(server: RedisServer) -> int:
    """How many there ever were, without that of whoever asks."""
    stats = (await server.command("INFO", "stats")).decode()
    return int(re.findall(r"total_connections_received:(\d+)", stats)[0]) - 1


# --- who opens and who leaves ---


async def test_all_who_ask_at_the_same_time_get_one_connection(server: RedisServer) -> None:
    before = await connections_made(server)
    channels = await opened(nodes := nodes_of(server), 10)
    assert len(set(channels)) == 1
    assert await connections_made(server) == before + 1 + 1  # and that of who asked before
    for channel in channels:
        await nodes.release(channel)


async def test_a_connection_ends_with_the_last_who_leaves(server: RedisServer) -> None:
    one, other = await opened(nodes := nodes_of(server), 2)
    await nodes.release(one)
    assert await other.exchange(*PING) == [b"PONG"]
    await nodes.release(other)
    await no_clients_left(server)


async def test_who_is_cancelled_while_it_connects_leaves_that_to_the_next(fresh_server: RedisServer) -> None:
    nodes = nodes_of(fresh_server)
    fresh_server.hang()
    first = asyncio.create_task(nodes.open("one", 2.0))
    second = asyncio.create_task(nodes.open("other", 2.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    fresh_server.resume()
    channel = await second
    assert first.cancelled()
    assert await channel.exchange(*PING) == [b"PONG"]
    await nodes.release(channel)


@pytest.mark.parametrize(("hold", "tried"), [(100.0, False), (0.0, True)])
async def test_an_attempt_that_failed_speaks_for_all_for_a_while(
    fresh_server: RedisServer, hold: float, tried: bool
) -> None:
    nodes = nodes_of(fresh_server, hold)
    await fresh_server.kill()
    with pytest.raises(Unreachable):
        await nodes.open("one", 2.0)
    await fresh_server.restart()
    if tried:
        await nodes.release(await nodes.open("other", 2.0))
    else:
        with pytest.raises(Unreachable):
            await nodes.open("other", 2.0)


# --- what ends it for all ---


async def lines_of(nodes: Nodes, count: int) -> list[Line]:
    """Lines that are connected, and over which something has worked."""
    settings: dict[str, Any] = {"backoff": SHORT, "patience": 2.0, "observers": Observers([])}
    lines = [Line(nodes, f"key{number}", stream=STREAM, what="append", **settings) for number in range(count)]
    for line in lines:
        await line.channel()
        line.worked()
    return lines


@pytest.mark.parametrize(
    ("refusal", "shared"),
    [
        ("MOVED 3999 127.0.0.1:6381", True),
        ("ASK 3999 127.0.0.1:6381", True),
        ("CLUSTERDOWN Hash slot not served", True),
        ("READONLY You can't write against a read only replica.", False),
        ("NONSENSE the server sent what is no answer", False),
    ],
)
async def test_only_what_is_said_of_the_server_and_not_of_a_slot_ends_the_connection_for_all(
    server: RedisServer, refusal: str, shared: bool
) -> None:
    one, other = await lines_of(nodes_of(server), 2)
    channel = await other.channel()
    await one.rest(Refusal(refusal))
    assert channel.alive is shared
    assert (await other.channel() is channel) is shared
    for line in (one, other):
        await line.disconnect()


async def test_an_exchange_that_is_cancelled_ends_the_connection_for_all(fresh_server: RedisServer) -> None:
    one, other = await opened(nodes := nodes_of(fresh_server), 2)
    fresh_server.hang()
    cancelled, waiting = (asyncio.create_task(each.exchange(*PING)) for each in (one, other))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(Disconnected):
        await waiting
    for channel in (one, other):
        await nodes.release(channel)
    fresh_server.resume()


# --- a publisher ---


async def published(publisher: Publisher, number: int) -> None:
    """An event to each partition."""
    ids = iter(range(10_000))
    for partition in range(PARTITIONS):
        id = next(
            f"{number}-{each}" for each in ids if partition_of(f"{number}-{each}", PARTITIONS) == partition
        )
        publisher.publish_nowait(ThingRemoved(id))
    await publisher.flush(PATIENCE)


async def test_on_one_server_all_partitions_share_one_connection_and_make_it_again_once(
    server: RedisServer,
) -> None:
    recorder = Recorder()
    before = await connections_made(server)
    async with Publisher(
        server.url, STREAM, partitions=PARTITIONS, backoff=SHORT, hooks=recorder
    ) as publisher:
        await published(publisher, 1)
        assert await connections_made(server) == before + 1 + 1
        await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await published(publisher, 2)
        # Those of the publisher, and those of who asked and killed meanwhile.
        assert await connections_made(server) == before + 2 + 3
        assert publisher.stats.reconnects == 1
    assert {details.stream for details in recorder.reconnects} == {
        f"{{{STREAM}:{number}}}" for number in range(PARTITIONS)
    }
    await no_clients_left(server)


async def test_after_an_outage_each_partition_has_told_of_it_and_one_connection_is_made(
    fresh_server: RedisServer,
) -> None:
    publisher = Publisher(
        fresh_server.url, STREAM, partitions=PARTITIONS, backoff=SHORT, hooks=(recorder := Recorder())
    )
    async with publisher:
        await published(publisher, 1)
        await fresh_server.kill()
        publishing = asyncio.create_task(published(publisher, 2))
        await wait_until(lambda: len({details.stream for details in recorder.retries}) == PARTITIONS)
        await fresh_server.restart()
        await publishing
        assert publisher.stats.reconnects == 1
        assert publisher.stats.acknowledged == 2 * PARTITIONS


async def test_it_closes_in_time_while_the_server_of_all_partitions_hangs(fresh_server: RedisServer) -> None:
    publisher = Publisher(fresh_server.url, STREAM, partitions=PARTITIONS, close_timeout=0.2)
    await publisher.start()
    fresh_server.hang()
    for number in range(100):
        publisher.publish_nowait(numbered(number))
    async with asyncio.timeout(0.2 + 0.5 + 1.0):
        await publisher.aclose()
    stats = publisher.stats
    assert stats.undelivered == stats.accepted == 100
    fresh_server.resume()
    await no_clients_left(fresh_server)
