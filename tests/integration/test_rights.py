"""The rights that the pages list are enough, and each of them is needed: what is missing is named."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

import consuming
import histories
from mainflux_events import (
    AccessRefused,
    Backoff,
    Event,
    GroupSubscriber,
    PartitionedSubscriber,
    Publisher,
    Subscriber,
    ThingRemoved,
)
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, wait_until

DOCS = Path(__file__).parents[2] / "docs"
STREAM = "mainflux.things"  # the pages'
SHORT = Backoff(initial=0.01, maximum=0.05)
SIDES = {
    "publisher": "publishing",
    "once": "publishing",
    "audit": "subscribing",
    "worker": "subscribing",
    "member": "groups",
    "producer": "partitions",
    "sharer": "partitions",
}
PARTITIONS = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", SHORT)


def listed(user: str) -> list[str]:
    """The rule of a user, as his page lists it: `on`, `>password`, `~key` and `+right`."""
    [line] = re.findall(rf"^ACL SETUSER {user} (.*)$", (DOCS / f"{SIDES[user]}.md").read_text(), re.MULTILINE)
    return shlex.split(line)


def rights(mark: str) -> list[tuple[str, str]]:
    return [(user, right) for user in SIDES for right in listed(user) if right[0] == mark]


async def url_of(server: RedisServer, user: str, *without: str) -> str:
    """Give a user the listed rights but for these. The URL holds the name and the password."""
    rule = [right for right in listed(user) if right not in without]
    await server.command("ACL", "SETUSER", user, "reset", *rule)
    return f"unix://{user}:secret@{quote(str(server.socket))}"


Side: TypeAlias = Publisher | Subscriber | GroupSubscriber | PartitionedSubscriber


async def starting(url: str) -> Side:
    """Start the side that the user of a URL is for."""
    side: Side
    if url.startswith("unix://audit:"):
        side = Subscriber(url, STREAM, "audit")
    elif url.startswith("unix://worker:"):
        side = Subscriber(url, STREAM, "audit", exclusive="standby")
    elif url.startswith("unix://member:"):
        side = GroupSubscriber(url, STREAM, "workers")
    elif url.startswith("unix://producer:"):
        side = Publisher(url, STREAM, backoff=SHORT, partitions=PARTITIONS)
    elif url.startswith("unix://sharer:"):
        side = PartitionedSubscriber(url, STREAM, "audit", partitions=PARTITIONS)
    else:
        side = Publisher(url, STREAM, backoff=SHORT, idempotent=url.startswith("unix://once:"))
    await side.start()
    return side


async def refused_commands(server: RedisServer) -> set[bytes]:
    """What the server's log of refused accesses holds, by the command."""
    entries = [
        dict(zip(entry[::2], entry[1::2], strict=True)) for entry in await server.command("ACL", "LOG")
    ]
    return {entry[b"object"] for entry in entries}


# What redis-py says of itself when it connects, which Redis knows from 7.2 on; 6.2 names no subcommands.
SAYS_WHAT_IT_IS = {b"client", b"client|setinfo"}
# And what a subscriber does without.
WOULD_LIKE = {b"client|reply"}


@pytest.mark.parametrize(("user", "idempotent"), [("publisher", False), ("once", True)])
async def test_the_listed_rights_are_enough_to_publish(
    user: str, idempotent: bool, fresh_server: RedisServer
) -> None:
    history = histories.History()
    url = await url_of(fresh_server, user)
    async with Publisher(url, STREAM, hooks=history.recorder, idempotent=idempotent) as publisher:
        for size in (1, 1, 1000):
            history.publish(publisher, size)
            await publisher.flush(PATIENCE)
        await fresh_server.command("CLIENT", "KILL", "USER", user)
        history.publish(publisher, 100)
        await publisher.flush(PATIENCE)
    async with Redis.from_url(fresh_server.url) as client:
        history.check(publisher, await histories.stored_ids(client, STREAM))
    assert publisher.stats.acknowledged == 1102
    assert await refused_commands(fresh_server) <= SAYS_WHAT_IT_IS


@pytest.mark.parametrize(("user", "exclusive"), [("audit", False), ("worker", True)])
async def test_the_listed_rights_are_enough_to_subscribe(
    user: str, exclusive: bool, fresh_server: RedisServer
) -> None:
    url = await url_of(fresh_server, user)
    seen = consuming.Recorder()
    async with Redis.from_url(fresh_server.url) as client:
        ids = await consuming.append(client, *(f"t{number}" for number in range(300)), stream=STREAM)
        # Without a stored cursor, then with one.
        for count in (100, 200):
            async with Subscriber(
                url, STREAM, "audit", start="earliest", exclusive=exclusive, hooks=seen
            ) as subscriber:
                async for event in subscriber:
                    await asyncio.sleep(0)
                    if event.id == ids[count - 1]:
                        await subscriber.commit(event)
                        break
                assert (await subscriber.lag())[STREAM].seconds >= 0
                await client.script_flush()
                assert await anext(subscriber)
        assert await consuming.stored(client, "audit", STREAM) == ids[199]
    assert seen.seen == []
    assert await refused_commands(fresh_server) <= SAYS_WHAT_IT_IS | WOULD_LIKE


async def _behind(subscriber: GroupSubscriber, entries: int) -> bool:
    return (await subscriber.lag())[STREAM].entries == entries


async def test_the_listed_rights_are_enough_for_a_group(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.claims.SWEEP_EVERY", 0.0)
    url, seen = await url_of(fresh_server, "member"), consuming.Recorder()
    settings: dict[str, Any] = {"start": "earliest", "claim_after": 0.2, "hooks": seen}
    async with Redis.from_url(fresh_server.url) as client:
        await client.xgroup_create(STREAM, "workers", "0", mkstream=True)
        await consuming.append(client, "t1", "t2", "t3", stream=STREAM)
        await client.xreadgroup("workers", "dead", {STREAM: ">"}, count=2)
        async with GroupSubscriber(url, STREAM, "workers", **settings) as subscriber:
            taken = await consuming.take(subscriber, 3)
            # What was handled is acknowledged over a connection of its own.
            await wait_until(lambda: _behind(subscriber, 1))
            assert set((await subscriber.pending())[STREAM]) == {"dead", subscriber.consumer}
        assert sorted(taken) == ["t1", "t2", "t3"]
        assert {each["name"] for each in await client.xinfo_consumers(STREAM, "workers")} == {
            b"dead",
            b"given-back",
        }
    assert seen.seen == []
    assert await refused_commands(fresh_server) <= SAYS_WHAT_IT_IS


async def test_the_listed_rights_are_enough_for_partitions(
    fresh_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.desk.RENEW_EVERY", 0.1)
    monkeypatch.setattr("mainflux_events.desk.ASK_EVERY", 0.05)
    producer, sharer = await url_of(fresh_server, "producer"), await url_of(fresh_server, "sharer")
    seen, ids = consuming.Recorder(), [f"t{number}" for number in range(200)]
    handled: list[str] = []

    def subscriber() -> PartitionedSubscriber:
        settings: dict[str, Any] = {"partitions": PARTITIONS, "start": "earliest", "hooks": seen}
        return PartitionedSubscriber(sharer, STREAM, "audit", **settings)

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        handled.append(consuming.thing(event))

    async with Publisher(producer, STREAM, partitions=PARTITIONS) as publisher, asyncio.TaskGroup() as tasks:
        runs = []
        for share in (ids[:100], ids[100:]):  # the second consumer gets half of the partitions from the first
            one = subscriber()
            runs.append(tasks.create_task(one.run(handle, concurrency=4)))
            await wait_until(lambda one=one, runs=runs: len(one.assignment) == PARTITIONS // len(runs))
            for id in share:
                await publisher.publish(ThingRemoved(id))
            await wait_until(lambda share=share: {*share} <= {*handled})
            await fresh_server.command("SCRIPT", "FLUSH")
            assert [lag.seconds for lag in (await one.lag()).values()]
        for run in runs:
            run.cancel()
    async with subscriber() as last:

        async def nothing_is_left() -> bool:
            return [lag.entries for lag in (await last.lag()).values()] == [0] * PARTITIONS

        await wait_until(nothing_is_left)
    assert sorted(handled) == sorted(ids)
    assert seen.seen == []
    assert await refused_commands(fresh_server) <= SAYS_WHAT_IT_IS | WOULD_LIKE


# What a missing right shows in only later.
LATER = {
    *((user, "+type") for user in SIDES),
    ("audit", "+evalsha"),
    ("worker", "+evalsha"),
    ("member", "+evalsha"),
    ("sharer", "+evalsha"),
}


@pytest.mark.parametrize(("user", "right"), [each for each in rights("+") if each not in LATER])
async def test_a_missing_right_is_named_at_start(user: str, right: str, fresh_server: RedisServer) -> None:
    url = await url_of(fresh_server, user, right)
    with pytest.raises(AccessRefused) as caught:
        await starting(url)
    told = str(caught.value)
    assert re.search(rf"may not run [A-Z, and with]*\b{right[1:].upper()}\b", told)
    assert right in told, "what the user needs"
    assert user not in told.replace(f"mainflux:cursor:{user}", "")
    assert "secret" not in told


@pytest.mark.parametrize("right", ["+get", "+set", "+eval"])
async def test_a_missing_right_is_named_at_start_also_where_a_cursor_is_stored(
    right: str, fresh_server: RedisServer
) -> None:
    await fresh_server.command("SET", f"mainflux:cursor:audit:{STREAM}", "0-1")
    with pytest.raises(AccessRefused, match=f"{right[1:].upper()}"):
        await starting(await url_of(fresh_server, "audit", right))


@pytest.mark.parametrize(("user", "key"), rights("~"))
async def test_a_missing_key_is_named_at_start(user: str, key: str, fresh_server: RedisServer) -> None:
    url = await url_of(fresh_server, user, key)
    await fresh_server.command("ACL", "SETUSER", user, "~others:*")
    with pytest.raises(AccessRefused, match=f"may not run .* on '{re.escape(key[1:].rstrip('*'))}"):
        await starting(url)


async def test_without_the_right_to_type_a_key_of_another_type_is_told_later(
    fresh_server: RedisServer,
) -> None:
    await fresh_server.command("SET", STREAM, "no stream")
    history = histories.History()
    url = await url_of(fresh_server, "publisher", "+type")
    settings = {"backoff": SHORT, "hooks": history.recorder, "close_timeout": 0.1}
    async with Publisher(url, STREAM, **settings) as publisher:  # type: ignore[arg-type]
        history.publish(publisher)
        await wait_until(lambda: history.recorder.retries)
        assert history.recorder.retries[0].reason.startswith("WRONGTYPE")
    seen = consuming.Recorder()
    async with Subscriber(await url_of(fresh_server, "audit", "+type"), STREAM, "audit", hooks=seen):
        await wait_until(lambda: seen.of("retrying"))
        assert seen.of("retrying")[0].reason.startswith("WRONGTYPE")


@pytest.mark.parametrize("user", ["audit", "sharer"])
async def test_without_the_right_to_evalsha_commits_are_reported(
    user: str, fresh_server: RedisServer
) -> None:
    seen = consuming.Recorder()
    url = await url_of(fresh_server, user, "+evalsha")
    settings: dict[str, Any] = {"start": "earliest", "hooks": seen}
    subscriber: Subscriber | PartitionedSubscriber = Subscriber(url, STREAM, "audit", **settings)
    if user == "sharer":
        subscriber = PartitionedSubscriber(url, STREAM, "audit", partitions=PARTITIONS, **settings)
    async with Redis.from_url(fresh_server.url) as client:
        ids = (f"t{number}" for number in range(10))
        await consuming.append(client, *ids, stream=subscriber.streams[0])
    async with subscriber:
        for _ in range(10):
            await anext(subscriber)
            await asyncio.sleep(0)
        await wait_until(lambda: seen.of("cursor_not_saved"))
        assert seen.of("cursor_not_saved")[0].reason.startswith("NOPERM")
        await fresh_server.command("ACL", "SETUSER", user, "+evalsha")


async def with_publisher(url: str) -> None:
    async with Publisher(url, STREAM) as publisher:
        await publisher.send(histories.numbered(1))


async def with_subscriber(url: str) -> None:
    async with Subscriber(url, STREAM, "audit") as subscriber:
        await subscriber.lag()


@pytest.mark.parametrize(("user", "use"), [("publisher", with_publisher), ("audit", with_subscriber)])
async def test_another_database_needs_the_right_to_select_it(
    user: str, use: Callable[[str], Awaitable[None]], fresh_server: RedisServer
) -> None:
    url = await url_of(fresh_server, user) + "?db=1"
    with pytest.raises(AccessRefused, match="select"):
        await use(url)
    await fresh_server.command("ACL", "SETUSER", user, "+select")
    await use(url)


async def test_with_the_right_to_ask_for_it_the_servers_limit_holds_at_publish() -> None:
    async with redis_server(config={"proto-max-bulk-len": "2mb"}) as server:
        url = await url_of(server, "publisher")
        limits = []
        for right in ((), ("+config|get",)):
            await server.command("ACL", "SETUSER", "publisher", *right)
            async with Publisher(url, STREAM, max_event_bytes=4 * 2**20) as publisher:
                limits.append(publisher._lanes[0].drain.argument_limit)
    assert limits == [512 * 2**20, 2 * 2**20]


async def test_the_check_of_rights_appends_nothing(fresh_server: RedisServer) -> None:
    async with Publisher(await url_of(fresh_server, "publisher"), STREAM):
        pass
    assert await fresh_server.command("EXISTS", STREAM) == 0
