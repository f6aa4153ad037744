"""Handlers that work at the same time, and what comes between: gaps, lost leases, entries that others died with."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, running, span, stored, thing
from grouped import GROUP, member, pending, read_as
from mainflux_events import Event, LeaseLost, Retry, StreamGap, Subscriber
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

LEASE = "mainflux:lease:{mainflux:cursor:audit:things}"
TTL = 0.5


@pytest.fixture(autouse=True)
def _quick(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.lease.TTL", TTL)
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", 0.05)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", 0.02)


def subscriber(server: RedisServer, *hooks: Recorder, **settings: Any) -> Subscriber:
    return Subscriber(server.url, STREAM, "audit", hooks=hooks, **({"start": "earliest"} | settings))


class Held:
    """A handler that holds some things back until they are let go.

    Attributes:
        begun, returned: the things of which it was called, and has returned.
        failing: where it raises instead.
    """

    def __init__(self, *held: str, failing: tuple[str, ...] = ()) -> None:
        self._held = set(held)
        self._gate = asyncio.Event()
        self.failing = failing
        self.begun: list[str] = []
        self.returned: list[str] = []

    def let_go(self) -> None:
        self._gate.set()

    async def __call__(self, event: Event) -> None:
        self.begun.append(thing(event))
        if thing(event) in self._held:
            await self._gate.wait()
        if thing(event) in self.failing:
            raise ZeroDivisionError
        self.returned.append(thing(event))


# --- gaps -----------------------------------------------------------------------------------------------------------


async def append_and_keep_the_last(client: Redis, *ids: str) -> str:
    """Append, and trim all but the last in the same moment. Gives its ID."""
    async with client.pipeline(transaction=True) as pipeline:
        for id in ids:
            pipeline.xadd(STREAM, {"operation": "thing.remove", "id": id})
        pipeline.xtrim(STREAM, maxlen=1, approximate=False)
        *_, last, _ = await pipeline.execute()
    return str(last.decode())


async def test_a_gap_is_told_when_all_before_it_is_handled_and_before_anything_behind_it(
    server: RedisServer, client: Redis
) -> None:
    seen, handler = Recorder(), Held("t2")
    await append(client, *span(1, 3))
    async with subscriber(server, seen) as consumer:
        async with running(consumer, handler, concurrency=4):
            await wait_until(lambda: handler.returned == ["t1", "t3"])
            last = await append_and_keep_the_last(client, *span(4, 9))
            await wait_until(lambda: consumer._intake.at_notice)
            assert (seen.of("gap"), handler.begun) == ([], span(1, 3))
            handler.let_go()
            await wait_until(lambda: handler.returned == ["t1", "t3", "t2", "t9"])
        assert consumer.stats.gaps == 1
    [details] = seen.of("gap")
    assert details.next == last
    if server.version >= (7,):
        assert (details.missed, details.exact) == (5, True)


async def test_a_gap_that_is_raised_is_raised_when_all_before_it_is_handled_and_the_next_run_goes_on(
    server: RedisServer, client: Redis
) -> None:
    handler = Held("t2")
    ids = await append(client, *span(1, 3))
    async with subscriber(server, on_gap="raise") as consumer:
        async with running(consumer, handler, concurrency=4) as task:
            await wait_until(lambda: handler.returned == ["t1", "t3"])
            last = await append_and_keep_the_last(client, *span(4, 9))
            await wait_until(lambda: consumer._intake.at_notice)
            assert not task.done()
            handler.let_go()
            await asyncio.wait([task])
            assert isinstance(task.exception(), StreamGap)
            assert handler.begun == span(1, 3)
        await wait_until(lambda: cursor_is(client, ids[-1]))
        async with running(consumer, handler, concurrency=4):
            await wait_until(lambda: cursor_is(client, last))
    assert handler.begun == [*span(1, 3), "t9"]


async def test_a_batch_need_not_fill_before_a_gap_is_told(server: RedisServer, client: Redis) -> None:
    seen, batches = Recorder(), list[list[str]]()
    await append(client, *span(1, 3))
    async with (
        subscriber(server, seen) as consumer,
        running(
            consumer, lambda batch: batches.append([thing(event) for event in batch]), batch=5, max_wait=0.2
        ),
    ):
        await wait_until(lambda: consumer._workers is not None and consumer._workers._window.available == 3)
        await append_and_keep_the_last(client, *span(4, 9))
        await wait_until(lambda: batches == [span(1, 3), ["t9"]])
    assert len(seen.of("gap")) == 1


async def cursor_is(client: Redis, id: str) -> bool:
    return await stored(client, "audit") == id


# --- leases ---------------------------------------------------------------------------------------------------------


def it_loses_its_turn(server: RedisServer, cursor: str) -> None:
    """It stands still for longer than a lease lasts, and another process comes to read, and gets to this place."""
    time.sleep(TTL * 1.2)
    with redis.Redis.from_url(server.url) as client:
        client.set(LEASE, "another", px=60_000)
        client.set("mainflux:cursor:audit:things", cursor)


async def test_after_its_lease_is_lost_nothing_more_is_begun_nor_stored(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 40))
    seen, handler = Recorder(), Held(*span(1, 4))
    async with (
        subscriber(server, seen, exclusive=True) as consumer,
        running(consumer, handler, concurrency=4) as task,
    ):
        await wait_until(lambda: handler.begun == span(1, 4))
        it_loses_its_turn(server, ids[0])
        await wait_until(lambda: seen.of("lease_lost"))
        handler.let_go()
        await asyncio.wait([task], timeout=PATIENCE)
        assert isinstance(task.exception(), LeaseLost)
        assert handler.begun == span(1, 4)
        assert handler.returned == span(1, 4), "they are not interrupted"
        assert consumer.stats.handled == 0
    assert await stored(client, "audit") == ids[0]


async def test_no_further_attempt_is_made_of_what_was_in_hand_when_the_turn_was_lost(
    server: RedisServer, client: Redis
) -> None:
    ids = await append(client, *span(1, 6))
    seen, handler = Recorder(), Held("t1", "t2", failing=("t1",))
    async with (
        subscriber(server, seen, exclusive="standby", dead_letter="dead") as consumer,
        running(consumer, handler, concurrency=2, retry=Retry(attempts=5, initial=0.02)),
    ):
        await wait_until(lambda: handler.begun == ["t1", "t2"])
        it_loses_its_turn(server, ids[3])
        await wait_until(lambda: seen.of("lease_lost"))
        handler.let_go()
        await wait_until(lambda: "t2" in handler.returned)
        await client.delete(LEASE)
        await wait_until(lambda: cursor_is(client, ids[5]))
        assert handler.begun == ["t1", "t2", "t5", "t6"]
        assert (consumer.stats.handled, consumer.stats.dead_lettered) == (2, 0)


async def test_nor_one_by_one(server: RedisServer, client: Redis) -> None:
    ids = await append(client, *span(1, 6))
    seen, handler = Recorder(), Held("t1", failing=("t1",))
    async with (
        subscriber(server, seen, exclusive="standby", dead_letter="dead") as consumer,
        running(consumer, handler, retry=Retry(attempts=5, initial=0.02)),
    ):
        await wait_until(lambda: handler.begun == ["t1"])
        it_loses_its_turn(server, ids[3])
        await wait_until(lambda: seen.of("lease_lost"))
        handler.let_go()
        await client.delete(LEASE)
        await wait_until(lambda: cursor_is(client, ids[5]))
        assert handler.begun == ["t1", "t5", "t6"]
        assert (consumer.stats.handled, consumer.stats.dead_lettered, consumer.stats.given_up) == (2, 0, 0)


async def test_a_new_turn_begins_when_what_was_in_hand_in_the_old_one_has_ended(
    server: RedisServer, client: Redis
) -> None:
    [first, _] = await append(client, "t1", "t2")
    seen, handler = Recorder(), Held("t1", "t2")
    async with (
        subscriber(server, seen, exclusive="standby") as consumer,
        running(consumer, handler, concurrency=4),
    ):
        await wait_until(lambda: handler.begun == ["t1", "t2"])
        it_loses_its_turn(server, first)
        await wait_until(lambda: seen.of("lease_lost"))
        await client.delete(LEASE)
        last = (await append(client, *span(3, 6)))[-1]
        await wait_until(lambda: consumer.active and consumer._intake._parts)
        assert handler.begun == ["t1", "t2"], "or t2 would be handled twice at once"
        handler.let_go()
        await wait_until(lambda: cursor_is(client, last))
    assert handler.begun == ["t1", "t2", *span(2, 6)]


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def group(client: Redis) -> None:
    """The group, at the beginning of the stream."""
    await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)


@pytest.mark.usefixtures("group")
async def test_of_what_was_taken_over_only_what_is_at_work_counts_as_delivered_again(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 12))
    ids = await read_as(client, "dead", 12)
    handler = Held("t1", "t2")
    async with member(server, claim_after=0.3) as consumer, running(consumer, handler, concurrency=2):
        await wait_until(lambda: handler.begun == ["t1", "t2"])
        await wait_until(lambda: window_holds(consumer, 4))
        counts = dict((await pending(client))[consumer.consumer])
        assert [counts[id] for id in ids] == [2, 2, *[1] * 10]
        handler.let_go()
        await wait_until(lambda: len(handler.returned) == 12)


def window_holds(consumer: Any, events: int) -> bool:
    window = consumer._workers._window
    return bool(window.available + window.in_flight == events)


@pytest.mark.usefixtures("group")
async def test_what_two_consumers_died_with_is_handled_beside_others_but_not_beside_each_other(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *span(1, 4))
    ids = await read_as(client, "dead", 4)
    await server.command("XCLAIM", STREAM, GROUP, "dead", "0", *ids[:3], "RETRYCOUNT", "2", "JUSTID")
    handler = Held("t1", "t5")
    most = at_work = 0

    async def handle(event: Event) -> None:
        nonlocal most, at_work
        suspect = thing(event) in span(1, 3)
        at_work += suspect
        most = max(most, at_work)
        await handler(event)
        await asyncio.sleep(0)
        at_work -= suspect

    async with member(server, claim_after=0.3) as consumer, running(consumer, handle, concurrency=5):
        await wait_until(lambda: handler.begun == ["t4", "t1"])
        await append(client, "t5")
        await wait_until(lambda: handler.begun == ["t4", "t1", "t5"])
        handler.let_go()
        await wait_until(lambda: consumer.stats.handled == 5)
    assert handler.begun[3:] == ["t2", "t3"]
    assert most == 1
