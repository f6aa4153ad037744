"""Publishing with `idempotent=True` on a healthy server: its IDs, its keys, its limits and its rights."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from faults.kit import more_acknowledged, publishing
from histories import STREAM, History, numbered, stored_ids
from idempotence import check, publisher_of, sequences, stored
from mainflux_events import (
    ConfigError,
    EncodeError,
    Event,
    Subscriber,
    ThingCreated,
    wire,
)
from mainflux_events.drain import BATCH_EVENTS
from mainflux_events.idempotent import MOST_VALUES
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, wait_until

# --- a healthy server ---


async def test_events_arrive_in_order_and_send_gives_the_ids_of_their_entries(
    server: RedisServer, client: Redis
) -> None:
    history = History()
    async with publisher_of(server, history) as publisher:
        history.publish(publisher, 5000)
        ids = []
        for number in range(3):
            history.accepted.append(numbered(5000 + number).id)
            ids.append(await publisher.send(numbered(5000 + number)))
    assert [id.decode() for id, _ in await client.xrevrange(STREAM, count=3)] == ids[::-1]
    check(history, publisher, await stored_ids(client))


async def test_every_event_of_a_batch_has_its_id(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server) as publisher:
        ids = await asyncio.gather(*(publisher.send(numbered(number)) for number in range(BATCH_EVENTS)))
    assert ids == [id.decode() for id, _ in await client.xrange(STREAM)]


async def test_the_stream_is_trimmed(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server, max_len=100) as publisher:
        for number in range(5000):
            publisher.publish_nowait(numbered(number))
        await publisher.flush(PATIENCE)
    assert 100 <= await client.xlen(STREAM) < 1000


async def test_what_is_published_so_is_read_as_ever(server: RedisServer, client: Redis) -> None:
    event = Event(ThingCreated("t1", "g1", "p1", "name\r\n$1\r\n\x00", {"a": [1]}), org_id="o1")
    async with (
        Subscriber(server.url, STREAM, "audit") as subscriber,
        publisher_of(server) as publisher,
    ):
        await publisher.publish(event)
        received = await anext(subscriber)
        await publisher.forward(received)
        again = await anext(subscriber)
    assert (received.action, received.org_id) == (event.action, "o1")
    assert again.raw == received.raw


async def test_events_of_many_fields_arrive_together(server: RedisServer, client: Redis) -> None:
    raw = [part for number in range(MOST_VALUES // 2) for part in (b"field%d" % number, b"x")]
    async with publisher_of(server) as publisher:
        received = wire.decode(raw)
        for _ in range(10):
            await publisher.forward(received)
        await publisher.flush(PATIENCE)
        with pytest.raises(EncodeError, match="fields, above the"):
            await publisher.forward(wire.decode([*raw, b"one", b"more"]))
    assert [len(fields) for _, fields in await client.xrange(STREAM)] == [MOST_VALUES // 2] * 10
    assert publisher.stats.retries == 0


async def test_the_sequence_outlives_the_publisher_for_a_day(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server) as publisher:
        assert await sequences(server) == []
        await publisher.send(numbered(1))
    [key] = await sequences(server)
    assert 86_000 < await client.ttl(key) <= 86_400


async def test_two_publishers_of_one_stream_keep_each_its_order(fresh_server: RedisServer) -> None:
    one, two = History("one-"), History("two-")
    async with (
        publisher_of(fresh_server, one) as first,
        publisher_of(fresh_server, two) as second,
        publishing(one, first),
        publishing(two, second),
    ):
        for _ in range(10):
            await more_acknowledged(first, 100)
            await more_acknowledged(second, 100)
            await fresh_server.command("CLIENT", "KILL", "TYPE", "normal")
    everything = await stored(fresh_server)
    assert len(await sequences(fresh_server)) == 2
    for history, publisher in ((one, first), (two, second)):
        own = set(history.accepted)
        check(history, publisher, [id for id in everything if id in own])
    assert len(everything) == len(one.accepted) + len(two.accepted)


# --- rights ---

RIGHTS = ("+xadd", "+eval", "+evalsha", "+get", "+set")
KEYS = (f"~{STREAM}", "~mainflux:publisher:*")


async def writer_url(server: RedisServer, *rights: str) -> str:
    await server.command("ACL", "SETUSER", "writer", "reset", "on", ">secret", *rights)
    await server.command("ACL", "SETUSER", "writer", *KEYS)
    return server.url.replace("redis://", "redis://writer:secret@")


@pytest.mark.parametrize("right", RIGHTS)
async def test_rights_that_are_taken_away_cost_nothing(right: str) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        async with publisher_of(await writer_url(server, *RIGHTS), history) as publisher:
            history.publish(publisher)
            await publisher.flush(PATIENCE)
            await server.command("ACL", "SETUSER", "writer", right.replace("+", "-"))
            if right == "+eval":  # which is needed once a connection
                await server.command("CLIENT", "KILL", "USER", "writer")
            history.publish(publisher, 100)
            await wait_until(lambda: publisher.stats.retries >= 3)
            refused = [details for details in history.recorder.retries if "closed" not in details.reason]
            assert {details.reason.split()[0] for details in refused} == {"NOPERM"}
            assert await stored(server) == history.accepted[:1]
            await server.command("ACL", "SETUSER", "writer", right)
            await publisher.flush(PATIENCE)
        check(history, publisher, await stored(server))


async def test_a_start_appends_nothing_and_keeps_nothing(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server):
        pass
    assert await client.dbsize() == 0


async def test_a_server_without_scripts_is_refused() -> None:
    async with redis_server(config={"rename-command": 'EVALSHA ""'}) as server:
        with pytest.raises(ConfigError, match="the server does not know EVALSHA"):
            await publisher_of(server).start()
