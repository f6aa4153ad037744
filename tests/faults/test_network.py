"""Connections are cut at any byte, held, slowed down, refused, and closed while they are idle."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from consuming import Recorder, quick_subscribers, thing, things
from faults.kit import (
    all_read,
    append,
    consumed,
    cursor,
    more,
    more_acknowledged,
    publishing,
    stored,
    subscriber,
    turns,
    until_stored,
)
from faults.proxy import Connection, Direction, Proxy, proxy_to
from histories import STREAM, History, Readings
from mainflux_events import Backoff, Event, Publisher
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, wait_until

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BATCH = 3


def publish_batch(history: History, publisher: Publisher) -> None:
    """One batch, always of the same size: so the time in it is always the same."""
    for _ in range(BATCH):
        event = history.next()
        publisher.publish_nowait(Event(event, occurred_at=NOON))
        history.accepted.append(event.id)


async def size_of_a_batch(history: History, publisher: Publisher, proxy: Proxy) -> dict[Direction, int]:
    """How many bytes pass in either direction for one batch."""
    before = dict(proxy.passed)
    publish_batch(history, publisher)
    await publisher.flush(PATIENCE)
    return {direction: proxy.passed[direction] - before[direction] for direction in before}


# --- cut ---


async def cut_at_each_byte(
    history: History,
    publisher: Publisher,
    proxy: Proxy,
    direction: Direction,
    *,
    step: int = 1,
    answered: bool = False,
) -> None:
    """Cut a batch after no byte, after one, after two, …"""
    size = (await size_of_a_batch(history, publisher, proxy))[direction]
    for after in range(0, size, step):
        proxy.cut(direction, after, answered=answered)
        while proxy.cutting:
            publish_batch(history, publisher)
            await publisher.flush(PATIENCE)


@pytest.mark.parametrize("answered", [False, True])
async def test_cut_at_each_byte_of_a_request(proxy: Proxy, server: RedisServer, answered: bool) -> None:
    history = History()
    async with history.publisher(proxy.url(), attempt_timeout=5.0) as publisher:
        await cut_at_each_byte(history, publisher, proxy, "to server", answered=answered)
    history.check(publisher, await stored(server), duplicates=0)  # half a transaction is none


async def test_cut_at_each_byte_of_a_reply(proxy: Proxy, server: RedisServer) -> None:
    history = History()
    async with history.publisher(proxy.url(), attempt_timeout=5.0) as publisher:
        await cut_at_each_byte(history, publisher, proxy, "to client")
    history.check(publisher, entries := await stored(server))
    assert len(entries) > len(history.accepted), "what was cut was there already"


async def test_cut_in_a_reply_the_acknowledged_prefix_is_never_sent_again() -> None:
    # Without the right to MULTI each event is appended, and acknowledged, by itself.
    history = History()
    async with redis_server() as server, proxy_to(server) as proxy:
        await server.command("ACL", "SETUSER", "writer", "on", ">pw", "~*", "+xadd", "+multi", "+exec")
        async with history.publisher(proxy.url("writer:pw"), attempt_timeout=5.0) as publisher:
            await server.command("ACL", "SETUSER", "writer", "-multi")
            await cut_at_each_byte(history, publisher, proxy, "to client")
        assert 0 < history.recorder.at_risk < len(history.recorder.retries) * BATCH
        history.check(publisher, await stored(server))


async def test_cut_behind_tls(server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    history = History()
    async with proxy_to(server, tls=context) as proxy:
        url = f"{proxy.url(host='localhost')}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        async with history.publisher(url, attempt_timeout=5.0) as publisher:
            await cut_at_each_byte(history, publisher, proxy, "to server", step=50)
            await cut_at_each_byte(history, publisher, proxy, "to client", step=20)
    assert publisher.stats.reconnects >= 10
    history.check(publisher, await stored(server))


@pytest.mark.parametrize(
    ("what", "direction", "places"),
    [
        ("XREAD", "to server", range(120)),
        ("XREAD", "to client", range(150)),
        ("EVAL", "to server", range(0, 250, 8)),
        ("EVAL", "to client", range(6)),
    ],
)
async def test_cut_between_server_and_subscriber(
    proxy: Proxy, server: RedisServer, client: Redis, what: str, direction: Direction, places: range
) -> None:
    readings, seen = Readings(), Recorder()

    def connections() -> list[Connection]:
        """The one that reads, or the one that commits, when it has done so."""
        return [each for each in proxy.connections if what.encode() in each.client.last]

    async def one_more() -> None:
        wanted = len(readings.loops[0]) + 1
        await append(client, "t")
        await wait_until(lambda: len(readings.loops[0]) == wanted)

    async with subscriber(proxy.url(), seen) as reader, consumed(reader, readings):
        for after in places:
            await one_more()
            await wait_until(connections)
            proxy.cut(direction, after, on=connections()[0])
            while proxy.cutting:
                await one_more()
        entries = await all_read(readings, server)
        await until_stored(client, list(entries)[-1])
    assert readings.again == 0
    cut = "read" if what == "XREAD" else "commit"
    assert [details.what for details in seen.of("reconnected")].count(cut) >= len(places) / 2
    assert seen.of("lease_lost") == []


# --- held, and delivered late ---


async def test_first_copy_delivered_after_the_retry(proxy: Proxy, server: RedisServer, client: Redis) -> None:
    history = History()
    async with history.publisher(proxy.url(), attempt_timeout=0.1) as publisher:
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
        [connection] = proxy.connections
        connection.hold()
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
        assert len(await stored(server)) == 3 * BATCH
        connection.release(late=True)

        async def there() -> bool:
            return bool(await client.xlen(STREAM) == 4 * BATCH)

        await wait_until(there)
    assert history.recorder.at_risk == BATCH
    history.check(publisher, await stored(server))


async def test_first_copy_of_a_commit_delivered_after_later_ones(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    readings, seen = Readings(), Recorder()

    async def commits() -> int:
        found = await client.info("commandstats")
        return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))

    async def cursor_is_last() -> bool:
        return await cursor(client) == list(await stored(server))[-1]

    with quick_subscribers(patience=0.1):
        async with subscriber(proxy.url(), seen) as reader, consumed(reader, readings):
            await append(client, "t1", "t2")
            await wait_until(cursor_is_last)
            [held] = [each for each in proxy.connections if b"EVAL" in each.client.last]
            held.hold()
            for id in ("t3", "t4"):
                await append(client, id)
                await wait_until(cursor_is_last)
            before = await commits()
            held.release(late=True)

            async def executed() -> bool:
                return await commits() > before

            await wait_until(executed)
            assert await cursor_is_last()
        await all_read(readings, server)
    assert readings.again == 0
    assert seen.of("lease_lost") == []


# --- latency, partition ---


async def test_latency(proxy: Proxy, server: RedisServer) -> None:
    history, readings = History(), Readings()
    async with (
        subscriber(proxy.url()) as reader,
        history.publisher(proxy.url(), attempt_timeout=5.0) as publisher,
        consumed(reader, readings),
    ):
        proxy.delay(0.05)
        for _ in range(1000):
            assert turns(publisher.publish(history.next())) <= 1
            history.accepted.append(history.next().id)
        await publisher.flush(PATIENCE)
        entries = await all_read(readings, server)
        proxy.delay(0.0)
    assert publisher.stats.retries == 0
    history.check(publisher, entries)


async def test_latency_a_loop_of_publishes_does_not_outrun_the_drain(
    proxy: Proxy, server: RedisServer
) -> None:
    history = History()
    proxy.delay(0.01)
    async with history.publisher(proxy.url(), attempt_timeout=5.0, buffer_size=2000) as publisher:
        for _ in range(20_000):
            event = history.next()
            await publisher.publish(event)
            history.accepted.append(event.id)
        await publisher.flush(PATIENCE)
    proxy.delay(0.0)
    assert publisher.stats.dropped == 0
    history.check(publisher, await stored(server))


async def test_partition(proxy: Proxy, server: RedisServer) -> None:
    history, readings, seen = History(), Readings(), Recorder()
    with quick_subscribers(patience=0.2):
        async with (
            subscriber(proxy.url(), seen) as reader,
            history.publisher(proxy.url(), attempt_timeout=0.1) as publisher,
            consumed(reader, readings),
        ):
            async with publishing(history, publisher):
                for late in (False, True):
                    await more_acknowledged(publisher)
                    proxy.hold()
                    await more(lambda: publisher.stats.retries, 3)
                    await more(lambda: len(seen.of("retrying")), 3)
                    assert turns(publisher.publish(history.next())) <= 1
                    history.accepted.append(history.next().id)
                    proxy.release(late=late)
                await more_acknowledged(publisher)
            await publisher.flush(PATIENCE)
            await wait_until(lambda: len(proxy.connections) == 3)  # what is late is delivered
            entries = await all_read(readings, server)
    assert publisher.stats.acknowledged == publisher.stats.accepted
    history.check(publisher, entries)


async def test_partition_reconnects_are_capped_and_jittered(proxy: Proxy) -> None:
    history = History()
    backoff = Backoff(initial=0.01, maximum=0.04)
    async with history.publisher(proxy.url(), backoff=backoff, attempt_timeout=0.5) as publisher:
        for _ in range(2):
            history.publish(publisher)
            await publisher.flush(PATIENCE)
            proxy.refuse()
            proxy.reset()
            began = len(history.recorder.retries)
            history.publish(publisher)
            await more(lambda: len(history.recorder.retries), 12)
            await proxy.accept()
            await publisher.flush(PATIENCE)
            tried = history.recorder.retries[began:]
            assert [details.attempt for details in tried] == list(range(1, len(tried) + 1))
            waits = [details.wait for details in tried]
            assert waits[0] == 0.0, "a connection that worked is made again at once"
            assert waits[1] <= 2 * backoff.initial, "the waits begin anew after each outage"
            assert all(backoff.maximum / 2 <= wait <= backoff.maximum for wait in waits[6:])
            assert len(set(waits)) == len(waits)


# --- closed while it is idle ---


async def test_idle_connection_closed_by_the_server_is_invisible_to_the_publisher() -> None:
    history = History()
    async with redis_server() as server:
        async with history.publisher(server.url, backoff=Backoff(30.0, 30.0)) as publisher:
            for _ in range(5):
                history.publish(publisher)
                await publisher.flush(PATIENCE)
                await server.command("CLIENT", "KILL", "TYPE", "normal")
        history.check(publisher, await stored(server))
        assert publisher.stats.acknowledged == 5


async def test_idle_connection_closed_by_the_server_is_invisible_to_the_subscriber(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    async with subscriber(server, seen) as reader:
        await append(client, "t")
        await reader.commit(await anext(reader))  # from here on they have worked
        for id in things(5):
            await client.client_kill_filter(_type="normal", skipme=True)
            await append(client, id)
            event = await anext(reader)
            assert thing(event) == id
            await reader.commit(event)
    assert {details.wait for details in seen.of("retrying")} == {0.0}
    assert {name for name, _ in seen.seen} == {"retrying", "reconnected"}


async def test_idle_connection_closed_by_the_server_is_invisible_to_commits(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *things(30))
    seen = Recorder()
    async with subscriber(server, seen) as reader:
        events = aiter(reader)
        await anext(events)
        for number in range(1, 30):
            if number % 10 == 0:
                await client.client_kill_filter(_type="normal", skipme=True)
            await anext(events)
            await until_stored(client, ids[number - 1])
    assert seen.of("cursor_not_saved") == seen.of("lease_lost") == []


async def test_connections_closed_by_the_server_under_load() -> None:
    history = History()
    async with redis_server() as server:
        async with history.publisher(server.url) as publisher, publishing(history, publisher):
            for _ in range(20):
                await more_acknowledged(publisher, 100)
                await server.command("CLIENT", "KILL", "TYPE", "normal")
        history.check(publisher, await stored(server))
        assert publisher.stats.acknowledged == publisher.stats.accepted
