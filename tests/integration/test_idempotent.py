"""Publishing with `idempotent=True`: nothing twice, whatever the network and the server do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from histories import STREAM, History, numbered, stored_ids
from mainflux_events import (
    AccessRefused,
    Backoff,
    ConfigError,
    EncodeError,
    Event,
    Publisher,
    Subscriber,
    ThingCreated,
    Undelivered,
    wire,
)
from mainflux_events.drain import BATCH_EVENTS
from mainflux_events.idempotent import MOST_VALUES, Counted
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until

SHORT = Backoff(initial=0.01, maximum=0.05)
FAST = Backoff(initial=0.001, maximum=0.002)
MIB = 1024 * 1024


def publisher_of(
    where: RedisServer | str | RedisCluster,
    history: History | None = None,
    stream: str = STREAM,
    **settings: Any,
) -> Publisher:
    defaults: dict[str, Any] = {
        "idempotent": True,
        "backoff": SHORT,
        "attempt_timeout": 0.3,
        "buffer_size": 200_000,
        "max_len": None,
        "hooks": [] if history is None else history.recorder,
    }
    url = where.url if isinstance(where, RedisServer) else where
    return Publisher(url, stream, **(defaults | settings))


async def stored(server: RedisServer, stream: str = STREAM) -> list[str]:
    async with Redis.from_url(server.url) as client:
        return await stored_ids(client, stream)


async def sequences(server: RedisServer) -> list[bytes]:
    """The keys of the sequences that the server keeps."""
    keys: list[bytes] = await server.command("KEYS", "mainflux:publisher:*")
    return keys


@contextlib.asynccontextmanager
async def publishing(history: History, publisher: Publisher) -> AsyncIterator[None]:
    """Publish all the while, as fast as other tasks allow."""

    async def loop() -> None:
        while True:
            history.publish(publisher, 50)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def more_acknowledged(publisher: Publisher, events: int = 500) -> None:
    before = publisher.stats.acknowledged
    await wait_until(lambda: publisher.stats.acknowledged > before + events)


def check(history: History, publisher: Publisher, stored: list[str]) -> None:
    """Nothing twice, nothing lost, and nothing to report."""
    history.check(publisher, stored, duplicates=0)
    assert publisher.stats.acknowledged == publisher.stats.accepted
    assert publisher.stats.epochs == 0
    assert history.recorder.sequences == []


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
        await publisher.flush(5.0)
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
        await publisher.flush(5.0)
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
    one, two = History(), History(1_000_000)
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


# --- a network that delays, and that breaks anywhere ---


class Proxy:
    """Stands between a publisher and a server. Entered, it has a `url`.

    Attributes:
        server: where new connections lead to.
        hold: whether what clients send is kept back, until `release`.
        cut: after how many bytes of a "request" or a "reply" the connection ends; once.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.hold = False
        self.cut: dict[str, int] = {}
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.disconnect()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def disconnect(self) -> None:
        """End all connections, those that something is held back of too."""
        for writer in self._writers:
            writer.transport.abort()

    async def release(self) -> None:
        """Pass on what was held back, on the connections that it came for."""
        self.hold = False
        for writer, data in self._held:
            writer.write(data)
            await writer.drain()
        self._held.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self.server.socket)
        self._writers += [writer, server_writer]
        pumps = [
            asyncio.create_task(self._pump("request", reader, server_writer)),
            asyncio.create_task(self._pump("reply", server_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        if all(held is not server_writer for held, _ in self._held):
            server_writer.close()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if way == "request" and self.hold:
                    self._held.append((writer, data))
                    continue
                left = self.cut.pop(way, None)
                writer.write(data[:left])
                if left is not None and left <= len(data):
                    return
                if left is not None:
                    self.cut[way] = left - len(data)


@pytest.fixture
async def proxy(fresh_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(fresh_server) as proxy:
        yield proxy


@pytest.mark.parametrize("count", [1, 100])
async def test_a_first_copy_that_is_delivered_after_the_retry_is_refused(proxy: Proxy, count: int) -> None:
    history = History()
    async with publisher_of(proxy.url, history, attempt_timeout=0.1) as publisher:
        history.publish(publisher, count)
        await publisher.flush(2.0)
        proxy.hold = True
        history.publish(publisher, count)
        await wait_until(lambda: publisher.stats.retries)
        # The retry goes another way; only then the first copy arrives.
        proxy.hold = False
        await publisher.flush(2.0)
        await proxy.release()
        history.publish(publisher, count)
        await publisher.flush(2.0)
    check(history, publisher, await stored(proxy.server))


async def test_a_first_copy_that_is_delivered_before_the_retry_gives_its_ids(proxy: Proxy) -> None:
    async with (
        publisher_of(proxy.url, attempt_timeout=0.1) as publisher,
        Redis.from_url(proxy.server.url) as client,
    ):
        await publisher.send(numbered(0))
        proxy.hold = True
        sending = asyncio.gather(*(publisher.send(numbered(number)) for number in range(1, 101)))
        await wait_until(lambda: publisher.stats.retries)
        await proxy.release()
        ids = await sending
        entries = await client.xrange(STREAM)
    assert [id.decode() for id, _ in entries[1:]] == ids
    assert (publisher.stats.acknowledged, len(entries)) == (101, 101)


async def test_a_late_claim_of_an_earlier_connection_disturbs_nobody(proxy: Proxy) -> None:
    history = History()
    async with publisher_of(proxy.url, history, attempt_timeout=0.1) as publisher:
        proxy.hold = True
        history.publish(publisher)
        await wait_until(lambda: publisher.stats.retries >= 3)
        proxy.hold = False
        await publisher.flush(2.0)
        retries = publisher.stats.retries
        await proxy.release()
        history.publish(publisher, 100)
        await publisher.flush(2.0)
        assert publisher.stats.retries == retries
    check(history, publisher, await stored(proxy.server))


@pytest.mark.parametrize("count", [1, 50])
async def test_a_reply_that_is_cut_anywhere_appends_nothing_twice(proxy: Proxy, count: int) -> None:
    history = History()
    async with publisher_of(proxy.url, history) as publisher:
        history.publish(publisher)
        await publisher.flush(2.0)
        for place in range(60):
            proxy.cut["reply"] = place
            history.publish(publisher, count)
            await publisher.flush(2.0)
        assert publisher.stats.reconnects > 25
    check(history, publisher, await stored(proxy.server))


async def test_replies_that_are_cut_while_it_connects_and_claims_append_nothing_twice(proxy: Proxy) -> None:
    history = History()
    async with publisher_of(proxy.url, history) as publisher:
        for place in range(0, 250, 3):
            proxy.disconnect()
            proxy.cut["reply"] = place
            history.publish(publisher, 10)
            await publisher.flush(2.0)
        assert publisher.stats.reconnects > 100
    check(history, publisher, await stored(proxy.server))


async def test_a_request_that_is_cut_anywhere_appends_nothing_twice(proxy: Proxy) -> None:
    history = History()
    size = len(wire.encode(numbered(1), Counted()))
    async with publisher_of(proxy.url, history) as publisher:
        history.publish(publisher)
        await publisher.flush(2.0)
        for place in [*range(0, 300, 7), *range(300, size * 50 + 300, 199)]:
            proxy.cut["request"] = place
            history.publish(publisher, 50)
            await publisher.flush(2.0)
        assert publisher.stats.reconnects > 50
    check(history, publisher, await stored(proxy.server))


async def test_connections_killed_under_load_append_nothing_twice(fresh_server: RedisServer) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, publishing(history, publisher):
        for _ in range(50):
            await more_acknowledged(publisher, 100)
            await fresh_server.command("CLIENT", "KILL", "TYPE", "normal")
    assert publisher.stats.reconnects >= 30
    check(history, publisher, await stored(fresh_server))


# --- a server that dies, hangs, or refuses ---


async def test_killed_and_restarted_with_its_data() -> None:
    history = History()
    async with redis_server(aof=True) as server:
        async with publisher_of(server, history) as publisher, publishing(history, publisher):
            for _ in range(5):
                await more_acknowledged(publisher)
                await server.kill()
                await server.restart()
            await more_acknowledged(publisher)
        assert publisher.stats.reconnects >= 5
        check(history, publisher, await stored(server))


async def test_a_server_that_hangs_appends_nothing_twice(fresh_server: RedisServer) -> None:
    history = History()
    async with (
        publisher_of(fresh_server, history, attempt_timeout=0.1) as publisher,
        publishing(history, publisher),
    ):
        for _ in range(3):
            await more_acknowledged(publisher)
            retries = publisher.stats.retries
            fresh_server.hang()
            await wait_until(lambda retries=retries: publisher.stats.retries >= retries + 2)  # type: ignore[misc]
            fresh_server.resume()
        await more_acknowledged(publisher)
    check(history, publisher, await stored(fresh_server))


async def flip(
    server: RedisServer,
    history: History,
    publisher: Publisher,
    on: tuple[object, ...],
    off: tuple[object, ...],
) -> None:
    """Let the server refuse and accept in turn while the publisher is at full rate."""
    async with (
        Redis.from_url(server.url, single_connection_client=True) as client,
        publishing(history, publisher),
    ):
        for _ in range(150):
            await client.execute_command(*on)
            await asyncio.sleep(0.001)
            await client.execute_command(*off)
            await asyncio.sleep(0.002)
    await publisher.flush(10.0)


@pytest.mark.parametrize(
    ("on", "off"),
    [
        (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
        (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "min-replicas-to-write", 1), ("CONFIG", "SET", "min-replicas-to-write", 0)),
    ],
)
async def test_order_is_kept_and_nothing_appended_twice_while_the_server_refuses_again_and_again(
    fresh_server: RedisServer, on: tuple[object, ...], off: tuple[object, ...]
) -> None:
    history = History()
    async with publisher_of(fresh_server, history, backoff=FAST) as publisher:
        await flip(fresh_server, history, publisher, on, off)
    assert publisher.stats.retries > 20
    check(history, publisher, await stored(fresh_server))


async def test_a_server_that_forgets_its_scripts_is_not_noticed(fresh_server: RedisServer) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, publishing(history, publisher):
        for _ in range(20):
            await more_acknowledged(publisher, 100)
            await fresh_server.command("SCRIPT", "FLUSH")
    assert publisher.stats.retries == 0
    check(history, publisher, await stored(fresh_server))


@pytest.mark.parametrize("count", [1, 100])
async def test_a_stream_key_of_another_type_costs_nothing(
    server: RedisServer, client: Redis, count: int
) -> None:
    history = History()
    async with publisher_of(server, history) as publisher:
        await client.set(STREAM, "x")
        history.publish(publisher, count)
        await wait_until(lambda: publisher.stats.retries >= 3)
        assert {details.reason.split()[0] for details in history.recorder.retries} == {"WRONGTYPE"}
        await client.delete(STREAM)
        await publisher.flush(2.0)
    check(history, publisher, await stored_ids(client))


async def test_what_is_appended_of_a_batch_before_a_refusal_is_not_appended_again(
    server: RedisServer, client: Redis
) -> None:
    history = History()
    async with publisher_of(server, history) as publisher:
        last = 2**64 - 1
        await client.xadd(STREAM, {"id": "0000000"}, id=f"{last}-{last - 2}")
        history.publish(publisher, 5)
        await wait_until(lambda: publisher.stats.retries >= 3)
        assert (publisher.stats.acknowledged, publisher.stats.in_flight) == (2, 3)
        assert await stored_ids(client) == ["0000000", *history.accepted[:2]]
        await client.delete(STREAM)
        await publisher.flush(2.0)
    assert await stored_ids(client) == history.accepted[2:]
    assert publisher.stats.epochs == 0


@pytest.mark.parametrize("may_ask", [True, False])
async def test_what_the_server_no_longer_takes_is_given_up_and_the_rest_arrives(may_ask: bool) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        url = await writer_url(server, *RIGHTS, "+config" if may_ask else "-config")
        async with publisher_of(url, history, max_event_bytes=4 * MIB) as publisher:
            await server.command("CONFIG", "SET", "proto-max-bulk-len", MIB)
            await server.command("CLIENT", "KILL", "USER", "writer")
            history.publish(publisher, 5)
            publisher.publish_nowait(ThingCreated(id="x" * 3 * MIB, group_id="", profile_id=""))
            history.publish(publisher, 5)
            reason = (
                "longer than the 1048576 bytes" if may_ask else "the server refuses it: ERR Protocol error"
            )
            with pytest.raises(Undelivered, match=f"1 event was not delivered: .*{reason}"):
                await publisher.flush(10.0)
        assert await stored(server) == history.accepted
        [lost] = history.recorder.lost_undelivered
        assert (lost.operation, publisher.stats.undelivered) == ("thing.create", 1)


# --- rights ---

RIGHTS = ("+xadd", "+eval", "+evalsha", "+get", "+set")
KEYS = (f"~{STREAM}", "~mainflux:publisher:*")


async def writer_url(server: RedisServer, *rights: str) -> str:
    await server.command("ACL", "SETUSER", "writer", "reset", "on", ">secret", *rights)
    await server.command("ACL", "SETUSER", "writer", *KEYS)
    return server.url.replace("redis://", "redis://writer:secret@")


async def test_the_least_rights_are_enough() -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        async with publisher_of(await writer_url(server, *RIGHTS), history) as publisher:
            for _ in range(3):
                history.publish(publisher, 100)
                await publisher.flush(2.0)
        assert publisher.stats.retries == 0
        check(history, publisher, await stored(server))


@pytest.mark.parametrize("missing", [*RIGHTS, *KEYS])
async def test_missing_rights_are_refused_at_start(missing: str) -> None:
    async with redis_server(tcp=True) as server:
        url = await writer_url(server, *(right for right in RIGHTS if right != missing))
        if missing in KEYS:
            await server.command(
                "ACL", "SETUSER", "writer", "resetkeys", *(key for key in KEYS if key != missing)
            )
        command = "EVALSHA" if missing == "+evalsha" else "EVAL"
        with pytest.raises(
            AccessRefused, match=f"may not run {command} on '{STREAM}'.* needs the rights .xadd .eval"
        ):
            await publisher_of(url).start()
        assert await server.command("DBSIZE") == 0


@pytest.mark.parametrize("right", RIGHTS)
async def test_rights_that_are_taken_away_cost_nothing(right: str) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        async with publisher_of(await writer_url(server, *RIGHTS), history) as publisher:
            history.publish(publisher)
            await publisher.flush(2.0)
            await server.command("ACL", "SETUSER", "writer", right.replace("+", "-"))
            if right == "+eval":  # which is needed once a connection
                await server.command("CLIENT", "KILL", "USER", "writer")
            history.publish(publisher, 100)
            await wait_until(lambda: publisher.stats.retries >= 3)
            refused = [details for details in history.recorder.retries if "closed" not in details.reason]
            assert {details.reason.split()[0] for details in refused} == {"NOPERM"}
            assert await stored(server) == history.accepted[:1]
            await server.command("ACL", "SETUSER", "writer", right)
            await publisher.flush(2.0)
        check(history, publisher, await stored(server))


async def test_a_start_appends_nothing_and_keeps_nothing(server: RedisServer, client: Redis) -> None:
    async with publisher_of(server):
        pass
    assert await client.dbsize() == 0


async def test_a_server_without_scripts_is_refused() -> None:
    async with redis_server(config={"rename-command": 'EVALSHA ""'}) as server:
        with pytest.raises(ConfigError, match="the server does not know EVALSHA"):
            await publisher_of(server).start()
