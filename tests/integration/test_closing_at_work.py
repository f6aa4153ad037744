"""Closing a subscriber with a lease while its events are handled: who comes next begins when that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import append, things
from consuming import thing as one_of
from mainflux_events import Event, PartitionedSubscriber, Retry, Subscriber
from mainflux_events.testing import RedisServer
from partitioning import PARTITIONS, STREAM, STREAMS, Chosen, in_partition, publish, short_leases
from partitioning import subscriber as partitioned
from support import in_background, wait_until, within

Consumer = Subscriber | PartitionedSubscriber
BOUND = 2.0  # seconds, as the contract has it


class Kind:
    """A kind of subscriber of which one at a time handles a stream, or a partition.

    Attributes:
        lease: the key that says who does.
        ids: what is published, all of it in one stream.
    """

    lease: str
    ids: list[str]

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def subscriber(self, **settings: Any) -> Consumer:
        raise NotImplementedError

    async def publish(self, client: Redis) -> None:
        raise NotImplementedError


class Standby(Kind):
    lease = "mainflux:lease:{mainflux:cursor:audit:things}"
    ids = things(4)

    def subscriber(self, **settings: Any) -> Consumer:
        return Subscriber(
            self._server.url, STREAM, "audit", start="earliest", exclusive="standby", **settings
        )

    async def publish(self, client: Redis) -> None:
        await append(client, *self.ids)


class Partitioned(Kind):
    lease = f"mainflux:lease:mainflux:cursor:audit:{STREAMS[0]}"
    ids = in_partition(0, 4)

    def subscriber(self, **settings: Any) -> Consumer:
        return partitioned(self._server, **settings)

    async def publish(self, client: Redis) -> None:
        await publish(self._server, self.ids)


class Work:
    """What the first consumer and the second do.

    Attributes:
        log: the things that are begun, and handled, each with who does it.
        go: lets the first one's handlers end.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, str, str]] = []
        self.go = asyncio.Event()

    async def first(self, given: Event | list[Event]) -> None:
        await self._handle("first", given)

    async def second(self, given: Event | list[Event]) -> None:
        await self._handle("second", given)

    async def _handle(self, who: str, given: Event | list[Event]) -> None:
        events = given if isinstance(given, list) else [given]
        self.log += [(who, "begins", one_of(event)) for event in events]
        if who == "first":
            await self.go.wait()
        self.log += [(who, "ends", one_of(event)) for event in events]

    def things(self, who: str, what: str) -> list[str]:
        return [id for each, done, id in self.log if (each, done) == (who, what)]


async def in_a_loop(consumer: Consumer, handler: Callable[[Event], Awaitable[None]]) -> None:
    async for event in consumer:
        await handler(event)


def run_with(**options: Any) -> Any:
    return lambda consumer, handler: consumer.run(handler, **options)


WAYS = {
    "one by one": run_with(),
    "concurrently": run_with(concurrency=2, key=lambda event: event.id),
    "in batches": run_with(batch=2),
    "in a loop": in_a_loop,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", 0.1)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", 0.05)
    with short_leases():
        yield


@pytest.fixture(params=[Standby, Partitioned], ids=["standby", "partitioned"])
async def kind(request: pytest.FixtureRequest, server: RedisServer, client: Redis) -> Kind:
    kind: Kind = request.param(server)
    await kind.publish(client)
    return kind


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


async def asked_again(client: Redis) -> None:
    """Wait until leases were asked for some times more."""

    async def evaluations() -> int:
        return int((await client.info("commandstats"))["cmdstat_eval"]["calls"])

    async def some_more() -> bool:
        return await evaluations() >= before + 6

    before = await evaluations()
    await wait_until(some_more)


@asynccontextmanager
async def one_at_work_and_one_behind(
    kind: Kind, way: Any
) -> AsyncIterator[tuple[Work, Consumer, asyncio.Task[None]]]:
    """Two consumers: of the first, which has something in hand, also what is to be awaited; the second waits."""
    work, first, second = Work(), kind.subscriber(), kind.subscriber()
    await first.start()
    working = asyncio.create_task(way(first, work.first))
    await wait_until(lambda: work.log)
    async with second, in_background(way(second, work.second)):
        yield work, first, working


async def test_who_comes_next_begins_when_what_was_in_hand_is_handled_and_with_what_is_behind_it(
    kind: Kind, way: Any, client: Redis
) -> None:
    async with one_at_work_and_one_behind(kind, way) as (work, first, working):
        begun = work.things("first", "begins")
        token = await client.get(kind.lease)
        closing = asyncio.create_task(first.aclose())
        await wait_until(lambda: first._state == "closed")
        await asked_again(client)
        assert await client.get(kind.lease) == token, "it is renewed while that is waited for"
        work.go.set()
        with within(BOUND):
            await closing
        await working
        assert work.things("first", "ends") == begun == kind.ids[: len(begun)], "nothing new was begun"
        await wait_until(lambda: len(work.things("second", "ends")) == len(kind.ids) - len(begun))
    assert work.things("second", "begins") == kind.ids[len(begun) :], "nothing comes again"
    assert [who for who, *_ in work.log] == sorted(who for who, *_ in work.log), "not two at once"


async def test_what_outlasts_closing_keeps_its_lease_until_that_has_run_out(
    kind: Kind,
    way: Any,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("mainflux_events.service.CLOSE_BOUND", 0.2)
    async with one_at_work_and_one_behind(kind, way) as (work, first, working):
        begun = work.things("first", "begins")
        token = await client.get(kind.lease)
        with within(0.2 + 0.5):
            await first.aclose()
        assert await client.get(kind.lease) == token
        assert 0 < await client.pttl(kind.lease) <= 1000
        await client.persist(kind.lease)  # from here on, time does nothing
        assert any(line.startswith("lease_kept: 'audit'") for line in caplog.messages)
        assert any(line.startswith("still_at_work: 'audit' closes") for line in caplog.messages)
        await asked_again(client)
        assert work.things("second", "begins") == []
        await client.pexpire(kind.lease, 1)
        await wait_until(lambda: work.things("second", "ends") == kind.ids, what="all of it comes again")
        work.go.set()
        await working
    assert work.things("first", "begins") == begun, "nothing new was begun"
    assert first.stats.handled == 0


async def test_other_partitions_are_let_go_at_once(
    server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.service.CLOSE_BOUND", 0.2)
    chosen, work = Chosen(monkeypatch), Work()
    await publish(server, in_partition(0, 1))
    first, second = partitioned(server), partitioned(server)
    async with second:
        await first.start()
        chosen.give(first, second)
        await wait_until(lambda: len(first.assignment) == PARTITIONS)
        working = asyncio.create_task(first.run(work.first))
        await wait_until(lambda: work.log)
        chosen.give(second)
        await first.aclose()
        await client.persist(Partitioned.lease)  # time does nothing to it
        await wait_until(lambda: second.assignment == (1, 2, 3))
        work.go.set()
        await working


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_handler_may_commit_what_it_has_in_hand_while_it_is_waited_for(
    kind: Kind, concurrency: int, client: Redis
) -> None:
    refused: list[str] = []
    begun = asyncio.Event()
    first = kind.subscriber()

    async def handle(event: Event) -> None:
        begun.set()
        await wait_until(lambda: first._state == "closed")
        try:
            await first.commit(event)
        except ValueError as error:
            refused.append(str(error))

    await first.start()
    working = asyncio.create_task(first.run(handle, concurrency=concurrency))
    await begun.wait()
    await first.aclose()
    await working
    assert len(refused) == (0 if concurrency == 1 else 2), "with concurrency it cannot be committed by hand"
    assert all("commits by itself" in each for each in refused)
    assert first.stats.handled == concurrency


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_the_wait_for_a_further_attempt_ends_and_that_is_not_made(
    kind: Kind, concurrency: int, client: Redis
) -> None:
    calls: list[str] = []

    def fail(event: Event) -> None:
        calls.append(one_of(event))
        raise ZeroDivisionError

    first = kind.subscriber()
    await first.start()
    working = asyncio.create_task(first.run(fail, concurrency=concurrency, retry=Retry(3, initial=60)))
    await wait_until(lambda: len(calls) == concurrency)
    with within(BOUND / 2):
        await first.aclose()
        await working
    assert await client.keys("mainflux:lease:*") == [], "nothing is being handled"
    assert len(calls) == concurrency
    assert (first.stats.handled, first.stats.given_up) == (0, 0)


async def test_a_handler_that_closes_its_own_subscriber_is_not_waited_for_and_others_are(
    kind: Kind, client: Redis
) -> None:
    log: list[str] = []
    begun = asyncio.Event()
    first = kind.subscriber()

    async def handle(event: Event) -> None:
        if one_of(event) == kind.ids[0]:
            await begun.wait()
            await first.aclose()
            log.append("closed")
        else:
            begun.set()
            await wait_until(lambda: first._state == "closed")
            await asked_again(client)
            log.append("handled")

    await first.start()
    with within(BOUND * 2):
        await first.run(handle, concurrency=2)
    assert log == ["handled", "closed"]
    assert await client.keys("mainflux:lease:*") == []


async def test_closing_in_the_body_of_the_loop_lets_go_of_the_event_in_hand(
    kind: Kind, client: Redis
) -> None:
    first = kind.subscriber()
    await first.start()
    async for event in first:
        assert one_of(event) == kind.ids[0]
        with within(BOUND / 2):
            await first.aclose()
        assert await client.keys("mainflux:lease:*") == []
    async with kind.subscriber() as second:
        assert one_of(await anext(second)) == kind.ids[0], "it comes again"


async def test_a_loop_whose_task_has_ended_is_not_waited_for(kind: Kind, client: Redis) -> None:
    first = kind.subscriber()
    await first.start()
    kept: list[Any] = []

    async def fail() -> None:
        own = aiter(first)
        kept.append(own)  # as the traceback of an error would keep it
        await anext(own)
        raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        await asyncio.create_task(fail())
    with within(BOUND / 2):
        await first.aclose()
    assert await client.keys("mainflux:lease:*") == []
