"""A publisher on a real cluster of three masters: its connections, and slots that move."""

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
from mainflux_events import Backoff, Publisher, ThingRemoved
from mainflux_events.partitions import partition_of, partition_streams
from mainflux_events.slots import SLOTS, slot
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

SHORT = Backoff(initial=0.01, maximum=0.05)
LONG = Backoff(initial=100.0, maximum=100.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _cluster() -> AsyncIterator[list[RedisServer]]:
    # A master that a test keeps silent for some seconds is not down.
    async with cluster(node_timeout=60_000) as masters:
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
    async with publishing(masters, stream, recorder, client=user, backoff=SHORT) as publisher:
        await publisher.send(numbered(0))

        async def refused() -> bool:
            publisher.publish_nowait(numbered(1))
            await wait_until(lambda: len(told(recorder)) > 3)
            return True

        await move_slot(source, target, slot(stream), [other], asked=refused)
        await publisher.flush(PATIENCE)
    assert await stored_at(target, stream) == ["0000000", "0000001"]
    assert {word for word, _ in told(recorder)} == {"ASK", "MOVED"}


# --- partitions ---

PARTITIONS = 24


async def published_to_all(publisher: Publisher, prefix: str) -> list[str]:
    """Events for all partitions: their IDs, in order."""
    ids = [f"{prefix}{number:03d}" for number in range(10 * PARTITIONS)]
    assert {partition_of(id, PARTITIONS) for id in ids} == set(range(PARTITIONS))
    for id in ids:
        publisher.publish_nowait(ThingRemoved(id))
    return ids


async def appending(masters: list[RedisServer]) -> list[int]:
    """How many connections of each master have appended last."""
    lists = [(await master.command("CLIENT", "LIST", "TYPE", "normal")).decode() for master in masters]
    return [len(re.findall(r" cmd=(?:xadd|exec|eval|evalsha) ", each)) for each in lists]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_partitions_share_one_connection_for_each_master(
    masters: list[RedisServer], stream: str, idempotent: bool
) -> None:
    settings: dict[str, Any] = {"partitions": PARTITIONS, "idempotent": idempotent}
    async with publishing(masters, stream, recorder := Recorder(), **settings) as publisher:
        await published_to_all(publisher, "thing")
        await publisher.flush(PATIENCE)
        assert await appending(masters) == [1, 1, 1]
    assert await appending(masters) == [0, 0, 0]
    assert told(recorder) == []


async def test_a_partition_whose_slot_moves_joins_the_others_there_and_ends_no_connection(
    masters: list[RedisServer], stream: str
) -> None:
    async with publishing(masters, stream, recorder := Recorder(), partitions=PARTITIONS) as publisher:
        before = await published_to_all(publisher, "before")
        await publisher.flush(PATIENCE)
        moving = partition_streams(stream, PARTITIONS)[0]
        source, target, other = sides(masters, moving)
        await move_slot(source, target, slot(moving), [other])
        after = await published_to_all(publisher, "after")
        await publisher.flush(PATIENCE)
        assert await appending(masters) == [1, 1, 1]
        assert publisher.stats.reconnects == 0
        assert [(each.stream, each.wait) for each in recorder.retries] == [(moving, 0.0)]
    mine = [id for id in before + after if partition_of(id, PARTITIONS) == 0]
    assert await stored_at(target, moving) == mine


async def test_a_partition_that_had_a_connection_to_itself_while_its_slot_moved_gives_that_up(
    masters: list[RedisServer], stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.channel.ASK_AGAIN_AFTER", 0.0)
    async with publishing(masters, stream, recorder := Recorder(), partitions=PARTITIONS) as publisher:
        ids = await published_to_all(publisher, "before")
        await publisher.flush(PATIENCE)
        moving = partition_streams(stream, PARTITIONS)[0]
        source, target, other = sides(masters, moving)

        async def meanwhile() -> bool:
            ids.extend(await published_to_all(publisher, "meanwhile"))
            await publisher.flush(PATIENCE)
            return True

        await move_slot(source, target, slot(moving), [other], asked=meanwhile)
        ids += await published_to_all(publisher, "after")
        await publisher.flush(PATIENCE)
        assert await appending(masters) == [1, 1, 1]
    assert [word for word, _ in told(recorder)] == ["ASK", "MOVED"]
    assert await stored_at(target, moving) == [id for id in ids if partition_of(id, PARTITIONS) == 0]


async def test_a_master_that_is_silent_keeps_none_but_its_own_partitions_waiting(
    masters: list[RedisServer], stream: str
) -> None:
    silent = masters[0]
    streams = partition_streams(stream, PARTITIONS)
    its = {each for each in streams if sides(masters, each)[0] is silent}
    settings: dict[str, Any] = {"partitions": PARTITIONS, "backoff": SHORT, "attempt_timeout": 0.5}
    async with publishing(masters, stream, recorder := Recorder(), **settings) as publisher:
        await published_to_all(publisher, "before")
        await publisher.flush(PATIENCE)
        silent.hang()
        during = await published_to_all(publisher, "during")
        await wait_until(lambda: {each.stream for each in recorder.retries} == its)
        # Its connection is tried again and again by now.
        during += await published_to_all(publisher, "later")
        waiting = [id for id in during if streams[partition_of(id, PARTITIONS)] in its]
        await wait_until(lambda: publisher.stats.buffered + publisher.stats.in_flight == len(waiting))
        silent.resume()
        await publisher.flush(PATIENCE)
        assert await appending(masters) == [1, 1, 1]
    assert {each.stream for each in recorder.retries} == its
