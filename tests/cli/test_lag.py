"""`mainflux-events lag`."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from commands import called, command
from mainflux_events import GroupSubscriber, Subscriber
from mainflux_events.cli.behind import count_between, subscriber_behind
from mainflux_events.cli.lag import show_lag
from mainflux_events.cli.server import connected
from mainflux_events.gaps import Extent
from mainflux_events.refusals import Refusal
from mainflux_events.testing import RedisServer

THINGS = "mainflux.things"


async def fill(client: Redis, entries: int, stream: str = THINGS) -> list[str]:
    """Append so many entries, the n-th of them n seconds after the first. Gives their IDs."""
    ids = [f"{1_767_225_600_000 + 1000 * number}-0" for number in range(entries)]
    async with client.pipeline(transaction=False) as pipeline:
        for id in ids:
            pipeline.xadd(stream, {"operation": "thing.remove", "id": "t1"}, id=id)
        await pipeline.execute()
    return ids


async def lag(server: RedisServer, *streams: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What is behind, by stream and name."""
    shown = await called(show_lag(server.url, list(streams), True))
    assert (shown.status, shown.errors) == (0, "")
    return {(each["stream"], each["name"]): each for each in shown.json}


@pytest.mark.parametrize(("read", "left"), [(0, 20), (1, 19), (13, 7), (20, 0)])
async def test_a_subscriber_is_behind_by_what_it_has_not_handled(
    read: int, left: int, server: RedisServer, client: Redis
) -> None:
    ids = await fill(client, 20)
    await client.set(f"mainflux:cursor:audit:{THINGS}", ids[read - 1] if read else "0-0")
    found = (await lag(server))[THINGS, "audit"]
    assert (found["kind"], found["entries"], found["at_least"]) == ("subscriber", left, None)
    # From the last entry that was read, or the first that is there, to the last one.
    assert found["seconds"] == (min(left, 19) if left else 0)


async def test_it_agrees_with_what_the_subscriber_itself_says(server: RedisServer, client: Redis) -> None:
    await fill(client, 20)
    async with Subscriber(server.url, THINGS, "audit", start="earliest") as subscriber:
        for _ in range(5):
            event = await anext(aiter(subscriber))
            await subscriber.commit(event)
        own = (await subscriber.lag())[THINGS]
    found = (await lag(server))[THINGS, "audit"]
    assert (found["entries"], found["seconds"]) == (own.entries, own.seconds) == (15, 15.0)


async def test_a_group_is_behind_by_what_is_not_acknowledged_and_a_consumer_by_what_is_pending_for_it(
    server: RedisServer, client: Redis
) -> None:
    ids = await fill(client, 20)
    await client.xgroup_create(THINGS, "billing", "0")
    await client.xreadgroup("billing", "one", {THINGS: ">"}, count=6)
    await client.xreadgroup("billing", "two", {THINGS: ">"}, count=4)
    await client.xack(THINGS, "billing", *ids[:2])
    found = await lag(server)
    group, one, two = (found[THINGS, name] for name in ("billing", "billing/one", "billing/two"))
    assert (group["kind"], group["entries"], group["pending"], group["seconds"]) == ("group", 18, 8, 17.0)
    assert (one["kind"], one["entries"], one["position"], one["seconds"]) == ("consumer", 4, ids[2], 17.0)
    assert (two["entries"], two["position"], two["seconds"]) == (4, ids[6], 13.0)
    assert 0 <= one["idle"] < 60


async def test_a_group_whose_position_the_server_does_not_count_is_counted(
    server: RedisServer, client: Redis
) -> None:
    ids = await fill(client, 20)
    await client.xgroup_create(THINGS, "billing", ids[11])
    await client.xreadgroup("billing", "one", {THINGS: ">"}, count=3)
    assert (await lag(server))[THINGS, "billing"]["entries"] == 8


async def test_a_group_of_this_package_is_shown_with_its_consumer(server: RedisServer, client: Redis) -> None:
    await fill(client, 3)
    async with GroupSubscriber(server.url, THINGS, "billing", consumer="one", start="earliest") as group:
        await anext(aiter(group))
        found = await lag(server)
    assert found[THINGS, "billing"]["entries"] == 3
    assert found[THINGS, "billing/one"]["pending"] == 3


async def test_only_the_streams_that_are_asked_for_are_shown(server: RedisServer, client: Redis) -> None:
    for stream in (THINGS, "orders", "bills"):
        await fill(client, 1, stream)
        await client.set(f"mainflux:cursor:audit:{stream}", "0-0")
    assert len(await lag(server)) == 3
    assert list(await lag(server, "orders")) == [("orders", "audit")]


async def test_more_than_can_be_counted_is_said_to_be_more(server: RedisServer, client: Redis) -> None:
    ids = await fill(client, 30)
    async with connected(server.url) as asked:
        assert await count_between(asked, THINGS, ids[4], "+", most=26) == (25, True)
        assert await count_between(asked, THINGS, ids[4], "+", most=24) == (24, False)
        assert await count_between(asked, THINGS, ids[4], ids[9]) == (5, True)
        assert await count_between(asked, THINGS, ids[9], ids[4]) == (0, True)


async def test_what_is_wrong_with_a_cursor_is_said_and_the_status_is_3(
    server: RedisServer, client: Redis
) -> None:
    await fill(client, 1)
    await client.set(f"mainflux:cursor:bad:{THINGS}", "nonsense")
    await client.rpush(f"mainflux:cursor:list:{THINGS}", "no string")
    await client.set(f"mainflux:cursor:ahead:{THINGS}", "9999999999999-0")
    shown = await command("lag", "--redis", server.url)
    assert shown.status == 3
    assert shown.errors.splitlines() == [
        f"subscriber ahead of {THINGS}: ahead of the stream",
        f"subscriber bad of {THINGS}: corrupt cursor",
        f"subscriber list of {THINGS}: corrupt cursor",
    ]


def test_a_cursor_that_stands_for_a_time_may_be_ahead() -> None:
    extent = Extent(1, (5, 0), (5, 0), 1, 0, (0, 0))
    assert subscriber_behind("s", "n", b"6-0", extent).trouble == "ahead of the stream"
    assert subscriber_behind("s", "n", f"6-{2**64 - 1}".encode(), extent).trouble == ""


async def test_without_anybody_who_reads_it_says_so(server: RedisServer) -> None:
    assert await called(show_lag(server.url, None, False)) == (0, "", "nobody reads\n")
    assert (await called(show_lag(server.url, ["x"], False))).errors == "nobody reads x\n"


async def test_a_right_that_is_missing_is_named(fresh_server: RedisServer) -> None:
    await fresh_server.command("SET", f"mainflux:cursor:audit:{THINGS}", "0-0")
    await fresh_server.command("ACL", "SETUSER", "default", "-get")
    shown = await command("lag", "--redis", fresh_server.url)
    assert (shown.status, "+get" in shown.complaint) == (1, True)


def test_a_refusal_is_not_taken_for_a_cursor() -> None:
    extent = Extent(0, None, (0, 0), 0, 0, (0, 0))
    with pytest.raises(Refusal):
        subscriber_behind("s", "n", Refusal("LOADING wait"), extent)
