"""Partitions on a single server: where events go, who handles them, and how that changes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import Recorder, thing, things
from mainflux_events import (
    Commit,
    ConfigError,
    CursorCorrupt,
    EncodeError,
    Event,
    LeaseLost,
    ThingRemoved,
    Undelivered,
    UnknownAction,
)
from mainflux_events.partitions import partition_of
from mainflux_events.testing import RedisServer
from partitioning import (
    PARTITIONS,
    STREAM,
    STREAMS,
    TTL,
    Chosen,
    cursors,
    in_partition,
    publish,
    publisher,
    short_leases,
    subscriber,
)
from support import PATIENCE, no_clients_left, wait_until, within

CLOSE_BOUND = 2.5  # seconds, as the contract has it


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with short_leases():
        yield


async def contents(client: Redis) -> list[list[str]]:
    """The IDs of the things in each partition."""
    found = [await client.xrange(stream) for stream in STREAMS]
    return [[fields[b"id"].decode() for _, fields in entries] for entries in found]


# --- publishing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
async def test_each_event_is_in_the_partition_of_its_key_and_in_order(
    server: RedisServer, client: Redis, idempotent: bool
) -> None:
    async with publisher(server, idempotent=idempotent) as one:
        for id in things(1000):
            await one.publish(ThingRemoved(id))
        await one.flush(PATIENCE)
        stats = one.stats
    assert await contents(client) == [
        [id for id in things(1000) if partition_of(id, PARTITIONS) == number] for number in range(PARTITIONS)
    ]
    assert (stats.accepted, stats.acknowledged, stats.buffered, stats.in_flight) == (1000, 1000, 0, 0)


async def test_every_way_to_publish_chooses_the_partition(server: RedisServer, client: Redis) -> None:
    [first], [second] = in_partition(1, 1), in_partition(2, 1)
    unknown = Event(
        UnknownAction("nobody.knows", {"id": second}),
        _stream=STREAM,
        _id="1-1",
        _fields=[b"operation", b"nobody.knows", b"id", second.encode()],
    )
    async with publisher(server) as one:
        id = await one.send(ThingRemoved(first))
        one.publish_nowait(ThingRemoved(first))
        await asyncio.to_thread(one.publish_threadsafe, ThingRemoved(first))
        await one.forward(unknown)
        await one.flush(PATIENCE)
    assert await contents(client) == [[], [first] * 3, [second], []]
    assert (await client.xrange(STREAMS[1]))[0][0].decode() == id


async def test_what_has_no_key_is_refused_and_nothing_enqueued(server: RedisServer) -> None:
    async with publisher(server, key=lambda event: None) as one:
        with pytest.raises(EncodeError, match="key= has to give"):
            await one.publish(ThingRemoved("t1"))
        assert one.stats.accepted == 0


async def test_each_partition_has_its_part_of_the_buffer_and_a_flush_tells_of_all_that_was_lost(
    fresh_server: RedisServer,
) -> None:
    async with publisher(fresh_server, buffer_size=8, close_timeout=0.0) as one:
        fresh_server.hang()
        first, second, *_ = in_partition(0, 2)
        for id in [first, second, *in_partition(1, 1)]:
            await one.publish(ThingRemoved(id))
        await wait_until(lambda: one.stats.in_flight == 3)
        for id in [*in_partition(0, 5), *in_partition(1, 4)]:
            await one.publish(ThingRemoved(id))
        assert one.stats.dropped == 3 + 2, "each has room for two"
        with pytest.raises(TimeoutError, match="7 events"):
            await one.flush(0.05)
        fresh_server.resume()
        with pytest.raises(Undelivered, match="5 events were not delivered"):
            await one.flush(PATIENCE)
        await one.flush(PATIENCE)
        stats = one.stats
    assert (stats.accepted, stats.acknowledged) == (12, 7)


async def test_another_number_of_partitions_is_refused_at_the_start(server: RedisServer) -> None:
    async with publisher(server):
        pass
    with pytest.raises(
        ConfigError, match="'things' has 4 by the key 'mainflux:partitions:things', and 5 were asked for"
    ):
        await publisher(server, partitions=5).start()
    with pytest.raises(ConfigError, match="has 4 by the key"):
        await subscriber(server, partitions=8).start()


async def test_a_publisher_that_began_without_a_server_appends_nothing_where_the_number_is_another(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await direct.set("mainflux:partitions:things", 5)
    seen = Recorder()
    fresh_server.hang()
    async with publisher(fresh_server, attempt_timeout=0.2, close_timeout=0.1, hooks=seen) as one:
        await one.publish(ThingRemoved("t1"))
        fresh_server.resume()
        await wait_until(lambda: any("has 5 by the key" in details.reason for details in seen.of("retrying")))
    assert one.stats.undelivered == 1
    assert await contents(direct) == [[], [], [], []]


async def test_what_is_no_number_of_partitions_is_refused(server: RedisServer, client: Redis) -> None:
    await client.lpush("mainflux:partitions:things", 4)
    with pytest.raises(ConfigError, match="holds no number of partitions; delete it"):
        await publisher(server).start()


# --- shares ---------------------------------------------------------------------------------------------------------


class Consumer:
    """A consumer at work in a task of its own.

    Attributes:
        handled: the things that it has finished.
        in_hand: the one that it has begun and not finished; it goes on when `go` is set.
    """

    def __init__(self, server: RedisServer, *hooks: Recorder, **settings: Any) -> None:
        self.subscriber = subscriber(server, *hooks, **settings)
        self.handled: list[str] = []
        self.in_hand = ""
        self.go = asyncio.Event()
        self.go.set()
        self.task = asyncio.create_task(self.subscriber.run(self._handle))

    async def _handle(self, event: Event) -> None:
        self.in_hand = thing(event)
        await asyncio.sleep(0)
        await self.go.wait()
        self.handled.append(self.in_hand)
        self.in_hand = ""

    @property
    def assignment(self) -> tuple[int, ...]:
        return self.subscriber.assignment

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def all_assigned(*consumers: Consumer) -> bool:
    numbers = sorted(number for each in consumers for number in each.assignment)
    return numbers == list(range(PARTITIONS)) and all(each.assignment for each in consumers)


async def test_the_partitions_are_shared_out_and_move_when_a_consumer_comes_or_goes(
    server: RedisServer,
) -> None:
    one = Consumer(server)
    await wait_until(lambda: all_assigned(one))
    other = Consumer(server)
    await wait_until(lambda: all_assigned(one, other))
    assert len(one.assignment) == len(other.assignment) == PARTITIONS // 2
    ids = things(400)
    await publish(server, ids)
    await wait_until(lambda: len(one.handled) + len(other.handled) == 400)
    await one.end()
    await wait_until(lambda: all_assigned(other))
    await publish(server, ids)
    await wait_until(lambda: len(one.handled) + len(other.handled) == 800)
    await other.end()
    assert Counter(one.handled + other.handled) == Counter(ids * 2)


async def test_more_consumers_than_partitions_have_none_and_take_over(server: RedisServer) -> None:
    one, other = Consumer(server, partitions=1), Consumer(server, partitions=1)
    await wait_until(lambda: one.assignment or other.assignment)
    reads, waits = (one, other) if one.assignment else (other, one)
    await reads.end()
    await wait_until(lambda: waits.assignment == (0,))
    await waits.end()


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    return Chosen(monkeypatch)


async def test_a_partition_is_handed_over_when_the_event_in_hand_is_finished_and_stored(
    server: RedisServer, chosen: Chosen
) -> None:
    ids = in_partition(0, 5)
    await publish(server, ids)
    one = Consumer(server, commit=Commit.every(events=1000, seconds=60))
    await wait_until(lambda: all_assigned(one) and len(one.handled) == 5)
    more = in_partition(0, 10)[5:]
    one.go.clear()
    await publish(server, more)
    await wait_until(lambda: one.in_hand == more[0])
    other = Consumer(server)
    await wait_until(lambda: other.subscriber._sharing)
    chosen.give(other.subscriber, one.subscriber)
    await wait_until(lambda: one.assignment == (0,) and other.assignment == (1, 2, 3))
    assert other.handled == [], "the handler of the first has not ended"
    one.go.set()
    await wait_until(lambda: len(other.handled) == 4)
    for each in (one, other):
        await each.end()
    assert one.handled == [*ids, more[0]], "nothing behind the event in hand"
    assert other.handled == more[1:], "nothing twice"


async def test_a_partition_that_is_wanted_again_before_it_was_handed_over_is_read_on(
    server: RedisServer, chosen: Chosen
) -> None:
    ids = in_partition(0, 5)
    one = Consumer(server)
    await wait_until(lambda: all_assigned(one))
    one.go.clear()
    await publish(server, ids[:3])
    await wait_until(lambda: one.in_hand == ids[0])
    other = Consumer(server)
    await wait_until(lambda: other.subscriber._sharing)
    chosen.give(other.subscriber, one.subscriber)
    await wait_until(lambda: other.assignment == (1, 2, 3))
    chosen.give(one.subscriber)
    await other.end()
    await wait_until(lambda: one.assignment == (0, 1, 2, 3))
    one.go.set()
    await publish(server, ids[3:])
    await wait_until(lambda: len(one.handled) == 5)
    await one.end()
    assert one.handled == ids


async def test_the_event_of_a_loop_that_was_left_does_not_keep_its_partition(server: RedisServer) -> None:
    await publish(server, in_partition(0, 2))
    async with subscriber(server) as one:
        async for _ in one:
            break
        others = [Consumer(server) for _ in range(3)]
        await wait_until(lambda: len(one.assignment) == 1)
        if one.assignment != (0,):
            await wait_until(lambda: any(each.handled for each in others))
            assert next(id for each in others for id in each.handled) == in_partition(0, 1)[0]
        for each in others:
            await each.end()


async def test_where_new_begins_is_stored_for_all_partitions_at_once(
    server: RedisServer, client: Redis
) -> None:
    await publish(server, things(20))
    await client.set(f"mainflux:lease:mainflux:cursor:audit:{STREAMS[2]}", "somebody else's", px=300)
    async with subscriber(server, start="new") as one:
        assert all(await cursors(client))
        ids = in_partition(2, 3)
        await publish(server, ids)
        assert [thing(await anext(one)) for _ in ids] == ids


async def test_a_lease_that_is_somebody_elses_ends_the_handling_of_that_partition_alone(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    [lost], [kept] = in_partition(0, 1), in_partition(1, 1)
    await publish(server, [lost])
    async with subscriber(server, seen) as one:
        event = await anext(one)
        await client.set(f"mainflux:lease:mainflux:cursor:audit:{STREAMS[0]}", "another's", px=60_000)
        await wait_until(lambda: seen.of("lease_lost"))
        assert one.assignment == (1, 2, 3)
        with pytest.raises(
            LeaseLost, match=r"of '\{things:0\}', whose lease ended; its other partitions go on"
        ):
            await one.commit(event)
        await publish(server, [kept])
        assert thing(await anext(one)) == kept
    [details] = seen.of("lease_lost")
    assert (details.stream, details.stopped) == (STREAMS[0], True)
    assert await client.get(f"mainflux:cursor:audit:{STREAMS[0]}") == b"0-0", (
        "nothing was stored without the lease"
    )


async def test_a_commit_without_the_lease_stores_nothing_and_ends_the_handling_at_once(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.lease.TTL", 3600.0)
    monkeypatch.setattr("mainflux_events.desk.RENEW_EVERY", 1000.0)
    seen = Recorder()
    await publish(server, in_partition(0, 2))
    async with subscriber(server, seen) as one:
        await anext(one)
        await client.set(f"mainflux:lease:mainflux:cursor:audit:{STREAMS[0]}", "another's", px=60_000)
        await anext(one)
        await wait_until(lambda: seen.of("lease_lost"))
        assert one.assignment == (1, 2, 3)
    assert await client.get(f"mainflux:cursor:audit:{STREAMS[0]}") == b"0-0"


async def test_a_consumer_whose_event_loop_stood_still_hands_out_nothing_beyond_its_leases(
    server: RedisServer,
) -> None:
    ids = in_partition(0, 9)
    await publish(server, ids)
    async with subscriber(server) as one:
        assert thing(await anext(one)) == ids[0]
        time.sleep(TTL + 0.1)
        # What was read ahead is forgotten, and the first could not be stored.
        assert thing(await anext(one)) == ids[0]


async def test_partitions_of_a_server_that_is_silent_are_lost_when_their_leases_end(
    fresh_server: RedisServer,
) -> None:
    ids = in_partition(0, 9)
    await publish(fresh_server, ids)
    seen = Recorder()
    async with subscriber(fresh_server, seen) as one:
        assert thing(await anext(one)) == ids[0]
        fresh_server.hang()
        await wait_until(lambda: len(seen.of("lease_lost")) == PARTITIONS, TTL + 0.5)
        assert one.assignment == ()
        fresh_server.resume()
        # Its commit was under way when the server fell silent, or is refused.
        assert thing(await anext(one)) in ids[:2]


async def test_commit_stores_the_event_in_hand_and_refuses_any_other(
    server: RedisServer, client: Redis
) -> None:
    await publish(server, in_partition(3, 2))
    async with subscriber(server) as one:
        first = await anext(one)
        await one.commit(first)
        assert await client.get(f"mainflux:cursor:audit:{STREAMS[3]}") == first.id.encode()
        with pytest.raises(ValueError, match="not the one that was handed out last"):
            await one.commit(Event(first.action))
        assert (await one.lag())[STREAMS[3]].entries == 1


async def test_a_cursor_that_is_no_id_is_an_error_at_the_start(server: RedisServer, client: Redis) -> None:
    await client.set(f"mainflux:cursor:audit:{STREAMS[1]}", "garbage")
    with pytest.raises(CursorCorrupt, match="garbage"):
        await subscriber(server).start()


# --- outages and ends -----------------------------------------------------------------------------------------------


async def test_it_begins_without_a_server_and_goes_on_when_there_is_one(fresh_server: RedisServer) -> None:
    await fresh_server.kill()
    seen = Recorder()
    one = Consumer(fresh_server, seen)
    await wait_until(lambda: seen.of("retrying"))
    await fresh_server.restart()
    await publish(fresh_server, things(20))
    await wait_until(lambda: sorted(one.handled) == sorted(things(20)))
    await one.end()


async def test_it_closes_in_time_while_the_server_hangs(fresh_server: RedisServer) -> None:
    await publish(fresh_server, things(20))
    one = subscriber(fresh_server)
    await one.start()
    await anext(one)
    fresh_server.hang()
    with within(CLOSE_BOUND):
        await one.aclose()
    fresh_server.resume()
    await no_clients_left(fresh_server)


async def test_closing_leaves_neither_a_lease_nor_a_member_behind(server: RedisServer, client: Redis) -> None:
    async with subscriber(server) as one:
        await wait_until(lambda: len(one.assignment) == PARTITIONS)
        assert len(await client.keys("mainflux:lease:*")) == PARTITIONS
    assert await client.keys("mainflux:lease:*") == []
    assert await client.exists("mainflux:members:audit:things") == 0


# --- health ---------------------------------------------------------------------------------------------------------


async def test_a_publisher_is_as_healthy_as_its_worst_partition(fresh_server: RedisServer) -> None:
    async with publisher(fresh_server, attempt_timeout=0.2) as one:
        for number in range(PARTITIONS):
            await one.send(ThingRemoved(in_partition(number, 1)[0]))
        assert one.health().healthy
        fresh_server.hang()
        for id in in_partition(2, 3):
            await one.publish(ThingRemoved(id))
        await wait_until(lambda: not one.health(max_stall=0.3).healthy)
        found = one.health(max_stall=0.3)
        assert found.unacknowledged == 3
        assert found.oldest_unacknowledged is not None
        fresh_server.resume()
        await wait_until(lambda: one.health(max_stall=0.3).healthy)


async def test_a_consumer_without_a_partition_stands_by_and_one_with_some_is_healthy(
    server: RedisServer,
) -> None:
    one, other = Consumer(server, partitions=1), Consumer(server, partitions=1)
    await wait_until(lambda: one.assignment or other.assignment)
    for each in (one, other):
        found = each.subscriber.health()
        assert (found.healthy, found.standby) == (True, not each.assignment)
        await each.end()
        assert not each.subscriber.health().healthy
