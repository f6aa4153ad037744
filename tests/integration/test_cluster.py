"""A publisher on a real cluster of three masters, while slots move."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster, move_slot
from histories import Recorder, numbered, stored_ids
from mainflux_events import Backoff, Publisher
from mainflux_events.slots import SLOTS, slot
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

LONG = Backoff(initial=100.0, maximum=100.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[list[RedisServer]]:
    async with cluster() as masters:
        yield masters


@pytest.fixture
async def masters(_cluster: list[RedisServer]) -> AsyncIterator[list[RedisServer]]:
    """Three masters with nothing in them. Each has a third of the slots, but for those that tests have moved."""
    for master in _cluster:
        await master.command("FLUSHALL")
        await master.command("CONFIG", "RESETSTAT")
    return _cluster


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """A stream of the test's own, with a slot that no other test moves."""
    return str(request.node.name)


def sides(masters: list[RedisServer], key: str) -> tuple[RedisServer, RedisServer, RedisServer]:
    """The master that has a key, and the two others."""
    number = next(each for each in range(3) if slot(key) < SLOTS * (each + 1) // 3)
    return masters[number], masters[number - 2], masters[number - 1]


@asynccontextmanager
async def publishing(
    masters: list[RedisServer],
    stream: str,
    recorder: Recorder,
    *,
    client: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Publisher]:
    """One whose waits would be longer than any test, unless it is said otherwise."""
    address: dict[str, Any] = {"host": str(masters[0].host), "port": masters[0].port}
    async with RedisCluster(**address, **(client or {})) as given:
        publisher = Publisher(given, stream, **({"backoff": LONG, "hooks": recorder} | settings))
        async with publisher:
            yield publisher


async def stored_at(master: RedisServer, stream: str) -> list[str]:
    async with Redis(host=str(master.host), port=master.port or 0) as client:
        return await stored_ids(client, stream)


async def asked(master: RedisServer) -> int:
    """How often it was told ASKING."""
    stats = (await master.command("INFO", "commandstats")).decode()
    return sum(int(calls) for calls in re.findall(r"cmdstat_asking:calls=(\d+)", stats))


def told(recorder: Recorder) -> list[tuple[str, float]]:
    """The first words of why attempts failed, and the waits after them."""
    return [(each.reason.partition(" ")[0], each.wait) for each in recorder.retries]


async def published(publisher: Publisher, numbers: range) -> bool:
    for number in numbers:
        publisher.publish_nowait(numbered(number))
    await publisher.flush(PATIENCE)
    return True


@pytest.mark.parametrize("idempotent", [False, True])
async def test_while_a_slot_moves_events_are_appended_where_the_stream_already_is(
    masters: list[RedisServer], stream: str, idempotent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mainflux_events.drain.BATCH_EVENTS", 10
    )  # one is full and waits when another is sent
    source, target, other = sides(masters, stream)
    async with publishing(masters, stream, recorder := Recorder(), idempotent=idempotent) as publisher:
        await publisher.send(numbered(0))
        # It is not over before these are acknowledged.
        await move_slot(
            source, target, slot(stream), [other], asked=lambda: published(publisher, range(1, 100))
        )
        await publisher.send(numbered(100))
    assert await stored_at(target, stream) == [f"{number:07d}" for number in range(101)]
    assert told(recorder) == [("ASK", 0.0)]


async def test_what_appends_nothing_twice_waits_while_only_one_of_its_two_keys_has_moved(
    masters: list[RedisServer], stream: str
) -> None:
    source, target, _ = sides(masters, stream)
    ids = [(await server.command("CLUSTER", "MYID")).decode() for server in (source, target)]
    async with publishing(masters, stream, recorder := Recorder(), idempotent=True) as publisher:
        await publisher.send(numbered(0))
        await target.command("CLUSTER", "SETSLOT", slot(stream), "IMPORTING", ids[0])
        await source.command("CLUSTER", "SETSLOT", slot(stream), "MIGRATING", ids[1])
        await source.command("MIGRATE", str(target.host), int(target.port or 0), stream, 0, 5000)
        publisher.publish_nowait(numbered(1))
        await wait_until(lambda: "TRYAGAIN" in [word for word, _ in told(recorder)])
        [sequence] = await source.command("CLUSTER", "GETKEYSINSLOT", slot(stream), 10)
        await source.command("MIGRATE", str(target.host), int(target.port or 0), sequence, 0, 5000)
        await publisher.flush(PATIENCE)
    for server in (target, source):
        await server.command("CLUSTER", "SETSLOT", slot(stream), "NODE", ids[1])
    assert await stored_at(target, stream) == ["0000000", "0000001"]
    assert recorder.sequences == []


async def test_when_the_slot_has_moved_its_owner_is_asked_again(
    masters: list[RedisServer], stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.channel.ASK_AGAIN_AFTER", 0.0)
    source, target, other = sides(masters, stream)
    async with publishing(masters, stream, recorder := Recorder()) as publisher:
        await publisher.send(numbered(0))
        await move_slot(
            source, target, slot(stream), [other], asked=lambda: published(publisher, range(1, 2))
        )
        before = await asked(target)
        for number in range(2, 5):
            await publisher.send(numbered(number))
        assert before == await asked(target) == 1
    assert await stored_at(target, stream) == [f"{number:07d}" for number in range(5)]
    assert told(recorder) == [("ASK", 0.0), ("MOVED", 0.0)]


async def test_a_move_that_is_cancelled_is_followed_back(masters: list[RedisServer], stream: str) -> None:
    source, target, _ = sides(masters, stream)
    ids = [(await server.command("CLUSTER", "MYID")).decode() for server in (source, target)]
    async with publishing(masters, stream, recorder := Recorder()) as publisher:
        await publisher.send(numbered(0))
        await target.command("CLUSTER", "SETSLOT", slot(stream), "IMPORTING", ids[0])
        await source.command("CLUSTER", "SETSLOT", slot(stream), "MIGRATING", ids[1])
        await source.command("MIGRATE", str(target.host), int(target.port or 0), stream, 0, 5000)
        await publisher.send(numbered(1))
        await source.command("CLUSTER", "SETSLOT", slot(stream), "STABLE")
        await target.command("MIGRATE", str(source.host), int(source.port or 0), stream, 0, 5000)
        await target.command("CLUSTER", "SETSLOT", slot(stream), "STABLE")
        await publisher.send(numbered(2))
    assert await stored_at(source, stream) == [f"{number:07d}" for number in range(3)]
    assert told(recorder) == [("ASK", 0.0), ("MOVED", 0.0)]


async def test_who_may_not_ask_waits_until_the_slot_has_moved(
    masters: list[RedisServer], stream: str
) -> None:
    source, target, other = sides(masters, stream)
    for master in masters:
        await master.command("ACL", "SETUSER", "meek", "on", ">secret", "~*", "+@all", "-asking")
    recorder = Recorder()
    user = {"username": "meek", "password": "secret"}
    async with publishing(masters, stream, recorder, client=user, backoff=Backoff(0.01, 0.05)) as publisher:
        await publisher.send(numbered(0))

        async def refused() -> bool:
            publisher.publish_nowait(numbered(1))
            await wait_until(lambda: len(told(recorder)) > 3)
            return True

        await move_slot(source, target, slot(stream), [other], asked=refused)
        await publisher.flush(PATIENCE)
    assert await stored_at(target, stream) == ["0000000", "0000001"]
    assert {word for word, _ in told(recorder)} == {"ASK", "MOVED"}
