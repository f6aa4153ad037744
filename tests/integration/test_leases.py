"""Subscribers of which only one reads: who that is, how it changes, and what the others cannot do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster
from consuming import STREAM, Recorder, append, calls, span, stored, take, thing
from mainflux_events import (
    AccessRefused,
    Action,
    Commit,
    ConfigError,
    CursorCorrupt,
    Event,
    EventsError,
    LeaseLost,
    Retry,
    Subscriber,
    SubscriberBusy,
)
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, in_background, no_clients_left, wait_until, within

KEY = "mainflux:cursor:audit:things"
LEASE = "mainflux:lease:{mainflux:cursor:audit:things}"
TTL = 1.0


@pytest.fixture(autouse=True)
def _quick(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.lease.TTL", TTL)
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", 0.1)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", 0.05)


def subscriber(server: RedisServer, *hooks: Recorder, **settings: Any) -> Subscriber:
    return Subscriber(
        server.url, STREAM, "audit", hooks=hooks, **({"start": "earliest", "exclusive": "standby"} | settings)
    )


def somebody_else_takes_it(server: RedisServer, cursor: str | None = None) -> None:
    """What another process does while this one stands still: no task of this one has a turn meanwhile."""
    with redis.Redis.from_url(server.url) as client:
        client.set(LEASE, "another", px=60_000)
        if cursor is not None:
            client.set(KEY, cursor)


def stand_still() -> None:
    """As a process does that is stopped, or whose event loop is blocked, for longer than a lease lasts."""
    time.sleep(TTL * 1.2)


class Collector:
    """Handles events in a task of its own, and keeps what it handled."""

    def __init__(self, consumer: Subscriber) -> None:
        self.handled: list[str] = []
        self.task = asyncio.create_task(consumer.run(self._handle))

    async def _handle(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.handled.append(thing(event))  # at last: what is seen here is finished, and does not come again

    async def has(self, *expected: str) -> None:
        # On a busy machine one that closes may not come to giving its lease back, so that it has to run out.
        what = f"{self.handled} is {expected}"
        await wait_until(lambda: self.handled == list(expected), TTL * 2, what=what)


# --- True -----------------------------------------------------------------------------------------------------------


async def test_beside_one_that_reads_another_exclusive_one_does_not_start(server: RedisServer) -> None:
    async with subscriber(server, exclusive=True):
        with pytest.raises(SubscriberBusy) as caught:
            await subscriber(server, exclusive=True).start()
    assert (caught.value.name, caught.value.stream) == ("audit", STREAM)
    await no_clients_left(server)


async def test_nor_does_it_beside_a_standby_that_reads(server: RedisServer) -> None:
    async with subscriber(server):
        with pytest.raises(SubscriberBusy):
            await subscriber(server, exclusive=True).start()


async def test_one_of_another_name_or_another_stream_starts(server: RedisServer) -> None:
    async with (
        subscriber(server, exclusive=True) as one,
        Subscriber(server.url, STREAM, "other", exclusive=True) as another,
        Subscriber(server.url, "others", "audit", exclusive=True) as third,
    ):
        assert one.active
        assert another.active
        assert third.active


async def test_once_the_first_one_is_closed_the_second_starts_at_once(
    server: RedisServer, client: Redis
) -> None:
    async with subscriber(server, exclusive=True):
        pass
    assert not await client.exists(LEASE)
    second = subscriber(server, exclusive=True)
    with within(TTL / 2):
        await second.start()
    assert second.active
    await second.aclose()


async def test_the_lease_of_one_that_died_is_waited_for(server: RedisServer, client: Redis) -> None:
    # It lasts a while, and nobody renews it.
    await client.set(LEASE, "the dead one's", px=400)
    async with subscriber(server, exclusive=True) as consumer:
        assert consumer.active


async def test_a_lease_without_end_is_not_waited_for(server: RedisServer, client: Redis) -> None:
    await client.set(LEASE, "an operator's")
    with pytest.raises(SubscriberBusy):
        await subscriber(server, exclusive=True).start()


async def test_one_that_stood_still_too_long_hands_out_nothing_more_and_raises(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 10))
    seen = Recorder()
    async with subscriber(server, seen, exclusive=True) as consumer:
        events = aiter(consumer)
        await anext(events)
        await anext(events)
        stand_still()
        somebody_else_takes_it(server)
        for _ in range(2):
            with pytest.raises(LeaseLost) as caught:
                await anext(events)
        assert caught.value.name == "audit"
        assert not consumer.active
    [details] = seen.of("lease_lost")
    assert (details.stream, details.key, details.stopped) == (STREAM, KEY, True)


async def test_run_raises_it_too_and_leaves_the_other_ones_lease_alone(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 3))

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            stand_still()
            somebody_else_takes_it(server)

    with pytest.raises(LeaseLost):
        await subscriber(server, exclusive=True).run(handle)
    assert await client.get(LEASE) == b"another"


async def test_one_that_waits_for_the_next_event_is_told_too(server: RedisServer, client: Redis) -> None:
    async with subscriber(server, exclusive=True) as consumer:
        asking = asyncio.ensure_future(anext(consumer))
        await asyncio.sleep(0)
        somebody_else_takes_it(server)
        with pytest.raises(LeaseLost):
            await asking


async def test_a_commit_by_hand_of_one_that_lost_it_raises(server: RedisServer, client: Redis) -> None:
    [first, _] = await append(client, "t1", "t2")
    async with subscriber(server, exclusive=True) as consumer:
        events = aiter(consumer)
        await anext(events)
        event = await anext(events)
        await wait_until(lambda: _cursor_is(client, first))
        somebody_else_takes_it(server)
        for _ in range(2):  # at first it has to find out
            with pytest.raises(LeaseLost):
                await consumer.commit(event)
    assert await stored(client, "audit") == first


async def _cursor_is(client: Redis, id: str) -> bool:
    return await stored(client, "audit") == id


# --- standby --------------------------------------------------------------------------------------------------------


async def test_one_that_has_to_wait_starts_at_once(server: RedisServer) -> None:
    async with subscriber(server) as first:
        second = subscriber(server)
        with within(TTL / 2):
            await second.start()
        assert first.active
        assert not second.active
        await second.aclose()


async def test_when_the_first_one_closes_the_next_goes_on_behind_it_and_the_third_waits(
    server: RedisServer, client: Redis
) -> None:
    async with subscriber(server) as first, subscriber(server) as second, subscriber(server) as third:
        collectors = [Collector(each) for each in (first, second, third)]
        await append(client, *span(1, 3))
        await collectors[0].has(*span(1, 3))
        await first.aclose()
        await append(client, *span(4, 6))
        await wait_until(lambda: span(4, 6) in (collectors[1].handled, collectors[2].handled))
        assert [first.active, second.active, third.active].count(True) <= 1
        next_one = 1 if collectors[1].handled else 2
        await (second, third)[next_one - 1].aclose()
        await append(client, *span(7, 9))
        await collectors[3 - next_one].has(*span(7, 9))
        assert collectors[next_one].handled == span(4, 6)


async def test_what_the_first_one_had_in_hand_when_it_closed_comes_to_the_next(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 3))
    async with subscriber(server) as second_but_first, subscriber(server) as second:
        assert await take(second_but_first, 2) == span(1, 2)
        await second_but_first.aclose()
        assert await take(second, 2) == span(2, 3)


async def test_one_that_waits_asks_only_now_and_then(server: RedisServer, client: Redis) -> None:
    async with subscriber(server), subscriber(server) as second:
        asking = asyncio.ensure_future(anext(second))
        began, before = time.monotonic(), await calls(server, "eval")
        await wait_until(lambda: _calls_are(server, "eval", before + 15))
        assert time.monotonic() - began > 0.3, "the one asks 20 times a second, the other renews 10 times"
        asking.cancel()
        await asyncio.wait([asking])


async def _calls_are(server: RedisServer, command: str, many: int) -> bool:
    return await calls(server, command) >= many


async def test_a_standby_that_lost_its_turn_waits_and_goes_on_behind_the_other_one(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 10))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(3)] == span(1, 3)
        stand_still()
        somebody_else_takes_it(server, ids[6])
        asking = asyncio.ensure_future(anext(events))
        await wait_until(lambda: seen.of("lease_lost"))
        assert not consumer.active
        assert not asking.done()
        await client.delete(LEASE)
        assert thing(await asking) == "t8"
        assert consumer.active
        assert [thing(await anext(events)) for _ in range(2)] == span(9, 10)
        await wait_until(lambda: _cursor_is(client, ids[8]))
    [details] = seen.of("lease_lost")
    assert (details.found, details.stopped) == (ids[6], True)


async def test_an_event_that_was_in_hand_when_the_turn_was_lost_does_not_come_to_the_next_loop(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 5))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        assert await take(consumer, 2) == span(1, 2)
        stand_still()
        somebody_else_takes_it(server, ids[3])
        await wait_until(lambda: seen.of("lease_lost"))
        await client.delete(LEASE)
        assert await take(consumer, 1) == ["t5"]
    assert consumer.stats.handled == 1


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_that_cannot_commit_what_was_lost_does_not_end_the_run_of_a_standby(
    concurrency: int, server: RedisServer, client: Redis
) -> None:
    [_, second] = await append(client, "t1", "t2")
    seen, handled = Recorder(), list[str]()
    refused: list[LeaseLost] = []
    consumer = subscriber(server, seen)

    async def handle(event: Event) -> None:
        handled.append(thing(event))
        if thing(event) == "t1":
            await wait_until(lambda: seen.of("lease_lost"))
            try:
                await consumer.commit(event)
            except LeaseLost as error:
                refused.append(error)
                raise

    async with consumer:
        run = consumer.run(handle, concurrency=concurrency, key=lambda event: None, on_failure="raise")
        async with in_background(run) as task:
            await wait_until(lambda: handled == ["t1"])
            somebody_else_takes_it(server, second)
            await wait_until(lambda: refused)
            await append(client, "t3")
            assert handled == ["t1"]
            await client.delete(LEASE)
            await wait_until(lambda: handled == ["t1", "t3"])
            assert not task.done()
    assert consumer.stats.handled == 1


async def test_if_nobody_else_came_in_between_it_goes_on_where_it_was(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 10))
    seen = Recorder()
    async with subscriber(server, seen, exclusive=True) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(3)] == span(1, 3)
        stand_still()
        assert [thing(await anext(events)) for _ in range(7)] == span(4, 10)
        await wait_until(lambda: _cursor_is(client, ids[8]))
    assert seen.of("lease_lost") == []
    assert await stored(client, "audit") == ids[8]


async def test_so_it_does_in_a_later_turn(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *span(1, 10))
    seen = Recorder()
    async with subscriber(server, seen) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(2)] == span(1, 2)
        stand_still()
        somebody_else_takes_it(server, ids[3])
        await wait_until(lambda: seen.of("lease_lost"))
        await client.delete(LEASE)
        assert [thing(await anext(events)) for _ in range(3)] == span(5, 7)
        stand_still()
        assert [thing(await anext(events)) for _ in range(3)] == span(8, 10)
        await wait_until(lambda: _cursor_is(client, ids[8]))
    assert len(seen.of("lease_lost")) == 1


async def test_somebody_who_came_and_went_in_between_is_noticed(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *span(1, 10))
    async with subscriber(server, exclusive=True) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(3)] == span(1, 3)
        stand_still()
        somebody_else_takes_it(server, ids[6])
        with redis.Redis.from_url(server.url) as there:
            there.delete(LEASE)
        with pytest.raises(LeaseLost):
            await anext(events)
    assert not await client.exists(LEASE)


async def test_a_standby_goes_on_behind_somebody_who_came_and_went(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 10))
    async with subscriber(server) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(3)] == span(1, 3)
        stand_still()
        somebody_else_takes_it(server, ids[6])
        with redis.Redis.from_url(server.url) as there:
            there.delete(LEASE)
        assert [thing(await anext(events)) for _ in range(3)] == span(8, 10)


async def test_a_step_that_is_cancelled_while_it_waits_for_its_turn_loses_nothing(
    server: RedisServer, client: Redis
) -> None:
    async with subscriber(server) as first, subscriber(server) as second:
        events = aiter(second)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(events)
        await append(client, "t1", "t2")
        await first.aclose()
        assert [thing(await anext(events)) for _ in range(2)] == ["t1", "t2"]


async def test_closing_one_that_waits_ends_its_loop_and_leaves_the_lease_alone(
    server: RedisServer, client: Redis
) -> None:
    async with subscriber(server) as first:
        token = await client.get(LEASE)
        second = subscriber(server)
        await second.start()
        collector = Collector(second)
        await asyncio.sleep(0)
        await second.aclose()
        await asyncio.wait_for(collector.task, PATIENCE)
        assert await client.get(LEASE) == token
        assert first.active


async def asked_again(client: Redis) -> None:
    """Wait until those that hold leases, and those that wait for them, have asked some ten times."""

    async def asked() -> int:
        return int((await client.info("commandstats"))["cmdstat_eval"]["calls"])

    async def ten_times() -> bool:
        return await asked() >= before + 10

    before = await asked()
    await wait_until(ten_times)


# --- dead letters ---------------------------------------------------------------------------------------------------


async def test_an_event_whose_handler_failed_is_dead_lettered_once_the_lease_is_held_again(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, "t1", "t2")

    async def handle(event: Event) -> None:
        if thing(event) == "t1":
            await client.delete(LEASE)
            raise ValueError

    async with subscriber(server, exclusive=True, dead_letter="dead") as consumer:
        running = asyncio.create_task(consumer.run(handle, retry=Retry(attempts=1)))
        await wait_until(lambda: consumer.stats.handled == 1)
        await wait_until(lambda: _cursor_is(client, ids[1]))
        assert consumer.stats.dead_lettered == 1
    await running
    [(_, letter)] = await client.xrange("dead")
    assert letter[b"dlq_id"].decode() == ids[0]


@pytest.mark.parametrize("fails", ["the handler", "decoding"])
async def test_one_that_lost_the_lease_appends_no_dead_letter(
    fails: str, server: RedisServer, client: Redis
) -> None:
    await append(client, "t1")
    if fails == "decoding":
        await client.xadd(STREAM, {"operation": "lease.counted", "number": "none"})
    await append(client, "t2", "t3")

    def handle(event: Event) -> None:
        stand_still()
        somebody_else_takes_it(server)
        if fails == "the handler":
            raise ValueError

    with pytest.raises(LeaseLost):
        await subscriber(server, exclusive=True, dead_letter="dead").run(handle, retry=Retry(attempts=1))
    assert not await client.exists("dead")
    assert await client.get(LEASE) == b"another"


class Counted(Action, tag="lease.counted"):
    number: int


# --- several streams ------------------------------------------------------------------------------------------------


async def test_a_subscriber_of_several_streams_reads_all_of_them_or_none(
    server: RedisServer, client: Redis
) -> None:
    def of(*streams: str) -> Subscriber:
        return Subscriber(server.url, streams, "audit", start="earliest", exclusive="standby")

    async with of("b", "c") as second, of("c", "a") as first_would_be:
        await asked_again(client)
        assert second.active
        assert not first_would_be.active
        async with of("a") as third:
            assert third.active, "nobody holds a lease that is of no use to it"
        await second.aclose()
        await wait_until(lambda: first_would_be.active)
        await append(client, "t1", stream="a")
        await append(client, "t2", stream="c")
        assert sorted(await take(first_would_be, 2)) == ["t1", "t2"]


async def test_on_a_cluster_every_lease_is_where_its_cursor_is_whatever_the_streams_are_called() -> None:
    streams = ["a", "{tag}b", "c}d", "{}e", "{f", "g{}{tag}"]
    async with cluster() as [node, *_], RedisCluster(host=node.host, port=node.port) as client:

        def one_of_them() -> Subscriber:
            return Subscriber(client, streams, "audit", start="earliest", exclusive="standby")

        async with one_of_them() as second, one_of_them() as first:
            assert second.active
            assert not first.active
            for number, stream in enumerate(streams):
                await client.xadd(stream, {"operation": "thing.remove", "id": f"t{number}"})
            assert sorted(await take(second, 6)) == span(0, 5)
            await second.aclose()
            await wait_until(lambda: first.active)
            # What was in hand comes again.
            assert len(await take(first, 1)) == 1
        keys = await client.keys("mainflux:lease:*", target_nodes=RedisCluster.ALL_NODES)
        assert keys == []


# --- what becomes of the lease --------------------------------------------------------------------------------------


async def test_the_lease_has_an_end_and_is_renewed(server: RedisServer, client: Redis) -> None:
    left = TTL * 1000

    async def grew() -> bool:
        nonlocal left
        before, left = left, await client.pttl(LEASE)
        return left > before

    async with subscriber(server):
        for _ in range(3):
            await wait_until(grew)
            assert 0 < left <= TTL * 1000


async def test_a_handler_that_takes_long_keeps_its_turn(server: RedisServer, client: Redis) -> None:
    await append(client, "t1", "t2")
    async with subscriber(server) as first, subscriber(server) as second:
        waiting = asyncio.ensure_future(anext(second))
        async for event in first:
            await asyncio.sleep(TTL * 1.5 if thing(event) == "t1" else 0)
            if thing(event) == "t2":
                break
        assert first.active
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_lease_that_was_flushed_away_is_taken_again(server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    await append(client, "t1", "t2")  # both are there when the first read is answered
    async with subscriber(server, seen, exclusive=True) as consumer:
        events = aiter(consumer)
        await anext(events)
        await client.flushall()
        await wait_until(lambda: client.exists(LEASE))
        await anext(events)
        [id] = await append(client, "t3")
        event = await anext(events)
        await consumer.commit(event)
        assert await stored(client, "audit") == id
        assert len(seen.of("reset")) == 1
        assert {details.found for details in seen.of("lease_lost")} <= {""}, "it was nobody else"


async def test_killed_and_restarted_on_its_data_nothing_is_handled_twice() -> None:
    seen = Recorder()
    async with redis_server(aof=True) as server, Redis.from_url(server.url) as client:
        ids = await append(client, *span(1, 900))
        async with subscriber(server, seen, exclusive=True) as consumer:
            collector = Collector(consumer)
            for most in (300, 600):
                await wait_until(lambda most=most: len(collector.handled) > most)
                await server.kill()
                await server.restart()
            await wait_until(lambda: len(collector.handled) == 900)
            await wait_until(lambda: _cursor_is(client, ids[-1]))
    assert collector.handled == span(1, 900)
    assert seen.of("lease_lost") == []


async def test_a_server_that_is_gone_for_longer_than_the_lease_stops_it_and_it_goes_on(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await append(direct, *span(1, 5))
    async with subscriber(fresh_server, exclusive=True) as consumer:
        events = aiter(consumer)
        assert [thing(await anext(events)) for _ in range(2)] == span(1, 2)
        fresh_server.hang()
        await wait_until(lambda: not consumer.active)
        asking = asyncio.ensure_future(anext(events))
        await asyncio.wait([asking], timeout=0.1)
        assert not asking.done(), "it was fetched, but is not handed out"
        fresh_server.resume()
        assert thing(await asking) == "t3"
        assert [thing(await anext(events)) for _ in range(2)] == span(4, 5)


async def test_without_memory_left_at_the_server_it_goes_on(fresh_server: RedisServer, direct: Redis) -> None:
    await append(direct, *span(1, 5))
    async with subscriber(fresh_server, exclusive=True) as consumer:
        events = aiter(consumer)
        assert thing(await anext(events)) == "t1"
        await direct.config_set("maxmemory", "1")
        renewed = await calls(fresh_server, "eval")
        await wait_until(lambda: _calls_are(fresh_server, "eval", renewed + 15))  # it lasts as long as ten
        assert consumer.active
        assert [thing(await anext(events)) for _ in range(4)] == span(2, 5)
        await direct.config_set("maxmemory", "0")


async def test_a_server_that_is_down_at_start_is_waited_for_also_by_an_exclusive_one(
    fresh_server: RedisServer,
) -> None:
    await fresh_server.kill()
    async with subscriber(fresh_server, exclusive=True) as consumer:
        assert not consumer.active
        asking = asyncio.ensure_future(anext(consumer))
        await fresh_server.restart()
        await wait_until(lambda: consumer.active)
        async with Redis.from_url(fresh_server.url) as client:
            await append(client, "t1")
        assert thing(await asking) == "t1"


async def test_one_that_finds_out_late_that_the_name_is_being_read_raises_in_the_loop() -> None:
    async with redis_server(aof=True) as server:
        await server.command("SET", LEASE, "an operator's")
        await server.kill()
        async with subscriber(server, exclusive=True) as consumer:
            await server.restart()
            for _ in range(2):
                with pytest.raises(SubscriberBusy):
                    await anext(consumer)


# --- beside one that takes no lease ---------------------------------------------------------------------------------


async def test_a_plain_one_beside_it_reads_too_and_both_are_told(server: RedisServer, client: Redis) -> None:
    await append(client, *span(1, 100))
    hooks = [Recorder(), Recorder()]
    async with (
        subscriber(server, hooks[0], exclusive=True) as one,
        subscriber(server, hooks[1], exclusive=False) as plain,
    ):
        for lead, hook, consumer in ((10, None, one), (20, hooks[1], plain), (30, hooks[0], one)):
            while consumer.stats.received < lead:
                assert thing(await anext(consumer)) == f"t{consumer.stats.received}"
            if hook is not None:  # it has overtaken the other one
                await wait_until(lambda hook=hook: hook.of("lease_lost"))  # type: ignore[misc]
        assert one.active
    assert {details.stopped for hook in hooks for details in hook.of("lease_lost")} == {False}


# --- closing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, "standby"])
async def test_closing_leaves_no_key_but_the_cursor(
    exclusive: Any, server: RedisServer, client: Redis
) -> None:
    [id, _] = await append(client, "t1", "t2")
    async with subscriber(
        server, exclusive=exclusive, commit=Commit.every(events=1000, seconds=1000)
    ) as consumer:
        assert await take(consumer, 2) == ["t1", "t2"]
    assert sorted(await client.keys()) == [KEY.encode(), STREAM.encode()]
    assert await stored(client, "audit") == id


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_closing_while_the_server_is_gone_ends_in_time(how: str, fresh_server: RedisServer) -> None:
    consumer = subscriber(fresh_server)
    await consumer.start()
    if how == "hung":
        fresh_server.hang()
    else:
        await fresh_server.kill()
    with within(2.5):
        await consumer.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("mainflux_events")]


async def test_one_that_cannot_start_lets_the_lease_go(server: RedisServer, client: Redis) -> None:
    await client.set(KEY, "garbage")
    with pytest.raises(CursorCorrupt):
        await subscriber(server).start()
    assert not await client.exists(LEASE)


@pytest.mark.parametrize("turns", range(20))
async def test_a_start_that_is_cancelled_leaves_nothing_behind(
    turns: int, server: RedisServer, client: Redis
) -> None:
    consumer = subscriber(server)
    task = asyncio.create_task(consumer.start())
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await consumer.aclose()
    # Where the answer to the question for it was cut off, it goes by itself.
    await wait_until(lambda: _no_lease(client))


async def _no_lease(client: Redis) -> bool:
    return not await client.exists(LEASE)


async def test_a_task_of_its_own_that_is_cancelled_by_somebody_is_told(server: RedisServer) -> None:
    async with subscriber(server) as consumer:
        asking = asyncio.ensure_future(anext(consumer))
        await asyncio.sleep(0)
        consumer._holding[0].cancel()
        with pytest.raises(EventsError, match="died: somebody cancelled it"):
            await asking
        with pytest.raises(EventsError, match="died: somebody cancelled it"):
            await anext(consumer)


# --- rights and keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("missing", ["-get", "-set", "-pexpire", "-pttl", "-eval", "-xread"])
async def test_a_right_that_is_missing_is_told_at_start_also_to_one_that_has_to_wait(
    missing: str, waits: bool, server: RedisServer, client: Redis
) -> None:
    if waits:
        await client.set(LEASE, "another", px=60_000)
    rights = ["+@all", missing]
    await client.acl_setuser("limited", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
    try:
        url = server.url.replace("unix://", "unix://limited:secret@")
        with pytest.raises(AccessRefused, match=missing[1:].upper() if missing != "-xread" else "XREAD"):
            await Subscriber(url, STREAM, "audit", exclusive="standby").start()
    finally:
        await client.acl_deluser("limited")
    assert not waits or 59_000 < await client.pttl(LEASE) <= 60_000


async def test_the_check_of_rights_changes_nothing(server: RedisServer, client: Redis) -> None:
    await client.set(LEASE, "another", px=60_000)
    async with subscriber(server):
        assert await client.get(LEASE) == b"another"
        assert 59_000 < await client.pttl(LEASE) <= 60_000
    await client.persist(LEASE)
    async with subscriber(server):
        assert await client.get(LEASE) == b"another"
        assert await client.pttl(LEASE) == -1


async def test_a_key_of_another_type_is_told_at_start(server: RedisServer, client: Redis) -> None:
    await client.rpush(LEASE, "1")
    with pytest.raises(ConfigError, match="holds something else than a lease"):
        await subscriber(server).start()


@pytest.mark.parametrize("value", ["Standby", None, 2, "true"])
def test_what_says_neither_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="exclusive"):
        Subscriber("redis://localhost", STREAM, "audit", exclusive=value)
