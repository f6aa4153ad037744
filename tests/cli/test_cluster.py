"""The command line on a Redis Cluster, of which a URL names one node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster
from commands import called, command
from mainflux_events import Event, EventsError, Publisher, ThingRemoved
from mainflux_events.cli.lag import show_lag
from mainflux_events.cli.options import PLATFORM
from mainflux_events.cli.publish import publish_one
from mainflux_events.cli.seek import show_seek
from mainflux_events.cli.server import connected
from mainflux_events.cli.streams import show_streams
from mainflux_events.cli.tail import show_tail
from mainflux_events.cli.tailing import Filters, Tail
from mainflux_events.testing import RedisServer

# Their slots are on the first and on the second of two nodes.
NEAR, FAR = "b", "a"


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    with asyncio.Runner() as runner:
        servers = cluster(2)
        yield runner.run(servers.__aenter__())
        runner.run(servers.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
async def empty(nodes: list[RedisServer]) -> None:
    for node in nodes:
        await node.command("FLUSHALL")


async def append(nodes: list[RedisServer], stream: str, *ids: str) -> None:
    async with (
        RedisCluster(host=str(nodes[0].host), port=int(nodes[0].port or 0)) as client,
        Publisher(client, stream) as publisher,
    ):
        for id in ids:
            await publisher.send(ThingRemoved(id))


async def stored(node: RedisServer, stream: str) -> list[str]:
    """The IDs of the things of all entries of a stream."""
    entries = await node.command("XRANGE", stream, "-", "+")
    return [fields[fields.index(b"id") + 1].decode() for _, fields in entries]


async def complaint(showing: Awaitable[int]) -> str:
    """Why a command has failed, in its own words."""
    said = ""
    try:
        await called(showing)
    except* EventsError as errors:
        [error] = errors.exceptions
        said = str(error)
    return said


async def test_publish_reaches_the_node_that_holds_the_stream(nodes: list[RedisServer]) -> None:
    for stream in (NEAR, FAR):
        outcome = await called(publish_one(nodes[0].url, stream, Event(ThingRemoved("t1"))))
        assert (outcome.status, outcome.errors) == (0, "")
    assert [await stored(nodes[0], NEAR), await stored(nodes[1], FAR)] == [["t1"], ["t1"]]


async def test_events_from_stdin_reach_it_too(nodes: list[RedisServer]) -> None:
    lines = "".join(f'{{"operation": "thing.remove", "action": {{"id": "t{i}"}}}}\n' for i in range(3))
    outcome = await command("publish", "--stream", FAR, "--redis", nodes[0].url, stdin=lines)
    assert (outcome.status, outcome.errors) == (0, "3 acknowledged\n")
    assert await stored(nodes[1], FAR) == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    "command",
    [
        lambda url: show_tail(url, [FAR], "earliest", Filters(), as_json=True),
        lambda url: show_seek(url, "billing", "earliest", [FAR], group=True, dry_run=True, yes=True),
    ],
    ids=["tail", "seek"],
)
async def test_of_a_stream_elsewhere_the_node_to_ask_is_named(
    nodes: list[RedisServer], command: Callable[[str], Awaitable[int]]
) -> None:
    near, far = nodes
    said = await complaint(command(near.url))
    assert f"the key is on the node {far.host}:{far.port}: give that one by --redis" in said


async def test_a_stream_of_the_node_is_followed(nodes: list[RedisServer]) -> None:
    await append(nodes, FAR, "t1")
    async with connected(nodes[1].url) as server:
        [(event, _)] = await anext(aiter(Tail(server, [FAR], "earliest", print)))
    assert event.action == ThingRemoved("t1")


async def test_streams_in_several_slots_are_not_followed_at_once(nodes: list[RedisServer]) -> None:
    said = await complaint(show_tail(nodes[0].url, PLATFORM, "new", Filters(), as_json=True))
    assert "in several slots: name one of them, by --stream" in said


@pytest.mark.parametrize("show", [show_streams, lambda url, json: show_lag(url, None, json)])
async def test_what_the_other_nodes_hold_is_said_to_be_missing(
    nodes: list[RedisServer], show: Callable[[str, bool], Awaitable[int]]
) -> None:
    for stream in (NEAR, FAR):
        await append(nodes, stream, "t1")
        node = nodes[stream == FAR]
        await node.command("XGROUP", "CREATE", stream, "billing", 0)
    outcome = await called(show(nodes[0].url, True))
    assert (outcome.status, [each["stream"] for each in outcome.json]) == (0, [NEAR])
    assert "one node of a cluster: what the others hold is not shown" in outcome.errors


async def test_of_a_single_server_no_others_are_spoken_of(server: RedisServer, client: Redis) -> None:
    await client.xadd(NEAR, {"operation": "thing.remove"})
    assert (await called(show_streams(server.url, False))).errors == ""
