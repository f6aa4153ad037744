"""Publishing with `idempotent=True` and real faults: nothing twice, whatever the network and the server do."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster, give_slot
from faults.kit import more_acknowledged, publishing
from histories import STREAM, History, numbered, stored_ids
from idempotence import Proxy, check, publisher_of, sequences, stored
from mainflux_events import (
    Backoff,
    Publisher,
    ThingCreated,
    Undelivered,
    wire,
)
from mainflux_events.idempotent import Counted
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, no_clients_left, wait_until

FAST = Backoff(initial=0.001, maximum=0.002)
MIB = 1024 * 1024


@pytest.fixture
async def proxy(fresh_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(fresh_server) as proxy:
        yield proxy


# --- a network that delays, and that breaks anywhere ---


@pytest.mark.parametrize("count", [1, 100])
async def test_a_first_copy_that_is_delivered_after_the_retry_is_refused(proxy: Proxy, count: int) -> None:
    history = History()
    async with publisher_of(proxy.url, history, attempt_timeout=0.1) as publisher:
        history.publish(publisher, count)
        await publisher.flush(PATIENCE)
        proxy.hold = True
        history.publish(publisher, count)
        await wait_until(lambda: publisher.stats.retries)
        # The retry goes another way; only then the first copy arrives.
        proxy.hold = False
        await publisher.flush(PATIENCE)
        await proxy.release()
        history.publish(publisher, count)
        await publisher.flush(PATIENCE)
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
        await publisher.flush(PATIENCE)
        retries = publisher.stats.retries
        await proxy.release()
        history.publish(publisher, 100)
        await publisher.flush(PATIENCE)
        assert publisher.stats.retries == retries
    check(history, publisher, await stored(proxy.server))


@pytest.mark.parametrize("count", [1, 50])
async def test_a_reply_that_is_cut_anywhere_appends_nothing_twice(proxy: Proxy, count: int) -> None:
    history = History()
    async with publisher_of(proxy.url, history) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        for place in range(60):
            proxy.cut["reply"] = place
            history.publish(publisher, count)
            await publisher.flush(PATIENCE)
        assert publisher.stats.reconnects > 25
    check(history, publisher, await stored(proxy.server))


async def test_replies_that_are_cut_while_it_connects_and_claims_append_nothing_twice(proxy: Proxy) -> None:
    history = History()
    async with publisher_of(proxy.url, history) as publisher:
        for place in range(0, 250, 3):
            proxy.disconnect()
            proxy.cut["reply"] = place
            history.publish(publisher, 10)
            await publisher.flush(PATIENCE)
        assert publisher.stats.reconnects > 100
    check(history, publisher, await stored(proxy.server))


async def test_a_request_that_is_cut_anywhere_appends_nothing_twice(proxy: Proxy) -> None:
    history = History()
    size = len(wire.encode(numbered(1), Counted()))
    async with publisher_of(proxy.url, history) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        for place in [*range(0, 300, 7), *range(300, size * 50 + 300, 199)]:
            proxy.cut["request"] = place
            history.publish(publisher, 50)
            await publisher.flush(PATIENCE)
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
    await publisher.flush(PATIENCE)


@pytest.mark.parametrize(
    ("on", "off"),
    [
        (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
        (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
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


async def test_nothing_is_lost_while_replicas_are_missing(fresh_server: RedisServer) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher:
        await fresh_server.command("CONFIG", "SET", "min-replicas-to-write", 1)
        history.publish(publisher, 10)
        if fresh_server.version >= (7,):  # before, a script was never refused for that
            await wait_until(lambda: publisher.stats.retries >= 3)
            assert history.recorder.retries[0].reason.startswith("NOREPLICAS")
            assert publisher.stats.acknowledged == 0
        await fresh_server.command("CONFIG", "SET", "min-replicas-to-write", 0)
        await publisher.flush(PATIENCE)
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
        await publisher.flush(PATIENCE)
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
        entries = await client.xrange(STREAM)
        assert [fields[b"id"].decode() for _, fields in entries] == ["0000000", *history.accepted[:2]]
        await client.delete(STREAM)
        await publisher.flush(PATIENCE)
    assert await stored_ids(client) == history.accepted[2:]
    assert publisher.stats.epochs == 0


@pytest.mark.parametrize("may_ask", [True, False])
async def test_what_the_server_no_longer_takes_is_given_up_and_the_rest_arrives(may_ask: bool) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        config = "+config" if may_ask else "-config"
        await server.command("ACL", "SETUSER", "writer", "on", ">pw", "~*", "+@all", config)
        url = server.url.replace("redis://", "redis://writer:pw@")
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
                await publisher.flush(PATIENCE)
        assert await stored(server) == history.accepted
        [lost] = history.recorder.lost_undelivered
        assert (lost.operation, publisher.stats.undelivered) == ("thing.create", 1)


# --- sequences that are lost ---


async def test_everything_removed_while_publishing_is_reported_and_publishing_goes_on(
    fresh_server: RedisServer,
) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, publishing(history, publisher):
        for _ in range(5):
            await more_acknowledged(publisher)
            await fresh_server.command("FLUSHALL")
        await more_acknowledged(publisher)
    history.check(publisher, await stored(fresh_server), duplicates=0, kept=False)
    lost = history.recorder.sequences
    assert (len(lost), publisher.stats.epochs) == (5, 5)
    assert all(details.found is None and details.acknowledged > 0 for details in lost)
    # The connection stood, so the server has said of each batch what became of it.
    assert [details.unknown for details in lost] == [0] * 5
    assert publisher.stats.undelivered == 0


async def test_killed_and_restarted_without_its_data(fresh_server: RedisServer) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, publishing(history, publisher):
        for _ in range(5):
            await more_acknowledged(publisher)
            await fresh_server.kill()
            await fresh_server.restart()
        await more_acknowledged(publisher)
    history.check(publisher, await stored(fresh_server), duplicates=0, kept=False)
    lost = history.recorder.sequences
    assert len(lost) == publisher.stats.epochs == 5
    assert sum(details.unknown for details in lost) == publisher.stats.undelivered


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_batch_whose_sequence_is_gone_is_reported_and_never_appended_again(
    proxy: Proxy, caplog: pytest.LogCaptureFixture, arrives: bool
) -> None:
    history = History()
    async with publisher_of(proxy.url, history, attempt_timeout=0.1) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        proxy.hold = True
        sending = asyncio.create_task(publisher.send(numbered(10)))
        history.publish(publisher, 9)
        history.accepted.append(numbered(10).id)
        await wait_until(lambda: publisher.stats.retries)
        [key] = await sequences(proxy.server)
        if arrives:
            await proxy.release()
            proxy.hold = True
            await wait_until(lambda: more_than_one_entry(proxy.server))
        await proxy.server.command("DEL", key)
        proxy.hold = False
        with pytest.raises(Undelivered, match="1 event was not delivered: nobody knows whether"):
            await sending
        with pytest.raises(Undelivered, match="10 events were not delivered"):
            await publisher.flush(PATIENCE)
        await proxy.release()
        history.publish(publisher, 10)
        await publisher.flush(PATIENCE)
    history.check(publisher, entries := await stored(proxy.server), duplicates=0)
    assert history.recorder.undelivered_ids() == history.accepted[1:11]
    assert len(entries) == (21 if arrives else 11)
    [lost] = history.recorder.sequences
    assert (lost.stream, lost.key, lost.acknowledged, lost.found, lost.unknown) == (
        STREAM,
        key.decode(),
        1,
        None,
        10,
    )
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    unknown = "nobody knows whether the server appended it: the publisher's sequence is gone"
    assert logged == [
        f"sequence_lost: {STREAM!r}, the key {lost.key!r} is gone, where 1 events were acknowledged",
        f"events_undelivered: 10 for {STREAM!r} are given up: {unknown}",
    ]


async def more_than_one_entry(server: RedisServer) -> bool:
    return bool(await server.command("XLEN", STREAM) > 1)


@contextlib.asynccontextmanager
async def replicated() -> AsyncIterator[tuple[Proxy, RedisServer]]:
    """A master behind a proxy, and its replica."""
    quick = {"repl-diskless-sync-delay": 0}
    async with (
        redis_server(tcp=True, config=quick) as master,
        redis_server() as replica,
        Proxy(master) as proxy,
    ):
        await replica.command("REPLICAOF", "127.0.0.1", int(master.port or 0))
        await wait_until(lambda: in_sync(replica))
        yield proxy, replica


async def test_a_failover_that_loses_what_was_acknowledged_is_reported_with_its_extent() -> None:
    history = History()
    async with replicated() as (proxy, replica):
        async with publisher_of(proxy.url, history) as publisher:
            history.publish(publisher, 100)
            await publisher.flush(PATIENCE)
            await wait_until(lambda: caught_up(proxy.server, replica))
            await replica.command("REPLICAOF", "NO", "ONE")
            history.publish(publisher, 150)
            await publisher.flush(PATIENCE)
            await proxy.server.kill()
            proxy.server = replica
            history.publish(publisher, 10)
            await publisher.flush(PATIENCE)
        [lost] = history.recorder.sequences
        assert (lost.acknowledged, lost.found, lost.unknown) == (250, 100, 0)
        assert await stored(replica) == history.accepted[:100] + history.accepted[250:]
    assert publisher.stats.acknowledged == 260


async def test_after_a_failover_the_new_master_tells_what_became_of_the_last_batch() -> None:
    history = History()
    async with replicated() as (proxy, replica):
        async with publisher_of(proxy.url, history) as publisher:
            history.publish(publisher)
            await publisher.flush(PATIENCE)
            proxy.cut["reply"] = 0
            history.publish(publisher, 100)
            await wait_until(lambda: "reply" not in proxy.cut)
            await wait_until(lambda: caught_up(proxy.server, replica))
            await proxy.server.kill()
            await replica.command("REPLICAOF", "NO", "ONE")
            proxy.server = replica
            await publisher.flush(PATIENCE)
        check(history, publisher, await stored(replica))


async def test_a_replica_without_the_sequence_is_not_asked_what_became_of_a_batch(proxy: Proxy) -> None:
    history = History()
    async with redis_server() as replica, publisher_of(proxy.url, history) as publisher:
        await replica.command("REPLICAOF", "127.0.0.1", 1)
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        master, proxy.server = proxy.server, replica
        proxy.cut["reply"] = 0
        history.publish(publisher, 100)
        await wait_until(lambda: any("READONLY" in details.reason for details in history.recorder.retries))
        proxy.server = master
        proxy.disconnect()
        await publisher.flush(PATIENCE)
    check(history, publisher, await stored(master))


async def in_sync(replica: RedisServer) -> bool:
    return b"master_link_status:up" in await replica.command("INFO", "replication")


async def caught_up(master: RedisServer, replica: RedisServer) -> bool:
    infos = [(await server.command("INFO", "replication")).decode() for server in (master, replica)]
    return len({re.findall(r"master_repl_offset:(\d+)", info)[0] for info in infos}) == 1


async def test_a_sequence_that_is_evicted_is_reported_and_publishing_goes_on(
    fresh_server: RedisServer,
) -> None:
    history = History()
    await fresh_server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    async with publisher_of(fresh_server, history) as publisher:
        history.publish(publisher, 10)
        await publisher.flush(PATIENCE)
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)
        history.publish(publisher, 10)
        await wait_until(lambda: publisher.stats.retries >= 3)
        assert await sequences(fresh_server) == []
        await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored(fresh_server), duplicates=0)
    assert publisher.stats.acknowledged == 20
    [lost] = history.recorder.sequences
    assert (lost.acknowledged, lost.found, lost.unknown) == (10, None, 0)


async def test_a_sequence_that_ran_out_while_idle_is_no_loss(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.idempotent.KEPT", 0.05)
    history = History()
    async with publisher_of(server, history) as publisher:
        for _ in range(3):
            history.publish(publisher, 10)
            await publisher.flush(PATIENCE)
            [key] = await sequences(server)
            await wait_until(lambda key=key: expired(client, key))  # type: ignore[misc]
    assert (publisher.stats.epochs, publisher.stats.retries, history.recorder.sequences) == (2, 0, [])
    assert await stored_ids(client) == history.accepted


async def expired(client: Redis, key: bytes) -> bool:
    return not await client.exists(key)


async def test_what_stands_in_the_place_of_a_sequence_is_no_sequence(
    server: RedisServer, client: Redis
) -> None:
    history = History()
    async with publisher_of(server, history) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        [key] = await sequences(server)
        for rubbish in (b"", b"rubbish", b"1 1", b"1 2 x"):
            await client.set(key, rubbish)
            history.publish(publisher, 10)
            await publisher.flush(PATIENCE)
    history.check(publisher, await stored_ids(client), duplicates=0)
    assert publisher.stats.acknowledged == publisher.stats.accepted == 41
    assert [details.found for details in history.recorder.sequences] == [None] * 4


# --- clusters ---


async def test_in_a_cluster_the_sequence_is_where_the_stream_is(small_cluster: list[RedisServer]) -> None:
    async with RedisCluster(host="127.0.0.1", port=small_cluster[0].port or 0) as given:
        for stream in (STREAM, "{app}:things", "a}b", "{}", "things{}{x}", "{open", "žižica"):
            async with publisher_of(given, stream=stream) as publisher:
                assert await publisher.send(numbered(1))
            assert publisher.stats.retries == 0
            owner, slot = await owner_of(stream, small_cluster)
            keys = [stream.encode(), *await sequences(owner)]
            in_slot = [key for key in keys if await owner.command("CLUSTER", "KEYSLOT", key) == slot]
            assert len(in_slot) == 2, stream


async def owner_of(key: str, nodes: list[RedisServer]) -> tuple[RedisServer, int]:
    """The node that has the slot of a key, and the slot."""
    slot = await nodes[0].command("CLUSTER", "KEYSLOT", key)
    return nodes[slot * len(nodes) // 16384], slot


async def test_a_slot_that_moves_while_publishing_costs_nothing(small_cluster: list[RedisServer]) -> None:
    history = History()
    owner, slot = await owner_of(STREAM, small_cluster)
    [other] = [node for node in small_cluster if node is not owner]
    async with (
        RedisCluster(host="127.0.0.1", port=small_cluster[0].port or 0) as given,
        publisher_of(given, history) as publisher,
        publishing(history, publisher),
    ):
        await more_acknowledged(publisher)
        await other.command("CLUSTER", "SETSLOT", slot, "IMPORTING", await owner.command("CLUSTER", "MYID"))
        await owner.command("CLUSTER", "SETSLOT", slot, "MIGRATING", await other.command("CLUSTER", "MYID"))
        for key in [*await sequences(owner), STREAM]:
            before = publisher.stats.retries
            await owner.command("MIGRATE", "127.0.0.1", int(other.port or 0), "", 0, 5000, "KEYS", key)
            await wait_until(lambda before=before: publisher.stats.retries > before)  # type: ignore[misc]
        await give_slot(small_cluster, slot, other)
        await more_acknowledged(publisher)
    async with Redis(host="127.0.0.1", port=other.port or 0) as there:
        check(history, publisher, await stored_ids(there))


@pytest.fixture
async def small_cluster() -> AsyncIterator[list[RedisServer]]:
    async with cluster(2) as nodes:
        yield nodes


# --- closing ---


async def test_a_close_with_a_batch_in_doubt_reports_it_and_it_may_be_there(proxy: Proxy) -> None:
    history = History()
    async with publisher_of(proxy.url, history, attempt_timeout=0.1, close_timeout=0.3) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        proxy.hold = True
        history.publish(publisher, 10)
        await wait_until(lambda: publisher.stats.retries)
    assert history.recorder.undelivered_ids() == history.accepted[1:]
    assert len(await sequences(proxy.server)) == 1
    await proxy.release()
    proxy.disconnect()
    await no_clients_left(proxy.server)
    history.check(publisher, await stored(proxy.server), duplicates=0)
