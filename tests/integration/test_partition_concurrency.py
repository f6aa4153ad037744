"""Handlers that work at the same time on events of several partitions, also while these come and go."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import Recorder, append, thing, things
from mainflux_events import (
    Action,
    Commit,
    Event,
    HandlerFailed,
    LeaseLost,
    PartitionedSubscriber,
    Retry,
    Subscriber,
    read_dead_letters,
)
from mainflux_events.partitions import partition_streams
from mainflux_events.testing import RedisServer
from mainflux_events.workers import WINDOW
from partitioning import (
    PARTITIONS,
    STREAM,
    STREAMS,
    Chosen,
    cursors,
    in_partition,
    member,
    publish,
    publisher,
    short_leases,
    subscriber,
)
from support import in_background, wait_until

LEASE = f"mainflux:lease:mainflux:cursor:audit:{STREAMS[0]}"


class Noted(Action, tag="test.partition.noted"):
    """An action without an ID."""

    tenant: str
    text: str


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with short_leases():
        yield


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    return Chosen(monkeypatch)


class Held:
    """A handler that holds some things back until they are let go.

    Attributes:
        begun, returned: the things of which it was called, and has returned.
        failing: those that it fails for.
    """

    def __init__(self, *held: str, failing: tuple[str, ...] = ()) -> None:
        self._held = {id: asyncio.Event() for id in held}
        self.failing = failing
        self.begun: list[str] = []
        self.returned: list[str] = []

    def let_go(self, *ids: str) -> None:
        for id in ids or list(self._held):
            self._held[id].set()

    async def __call__(self, event: Event) -> None:
        id = thing(event)
        self.begun.append(id)
        if id in self._held:
            await self._held[id].wait()
        if id in self.failing:
            raise ZeroDivisionError
        self.returned.append(id)


@asynccontextmanager
async def running(
    one: PartitionedSubscriber, handler: Any, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A started subscriber with all partitions, whose `run` is cancelled in the end."""
    async with one:
        await wait_until(lambda: len(one.assignment) == PARTITIONS)
        async with in_background(one.run(handler, **options)) as task:
            yield task


async def ends(client: Redis) -> list[bytes]:
    """The ID of the last entry of each partition."""
    found = [await client.xrevrange(stream, count=1) for stream in STREAMS]
    return [entries[0][0] if entries else b"0-0" for entries in found]


async def all_is_stored(client: Redis) -> None:
    async def at_the_end() -> bool:
        return await cursors(client) == await ends(client)

    await wait_until(at_the_end)


# --- over all partitions --------------------------------------------------------------------------------------------


async def test_there_are_so_many_handlers_over_all_partitions_and_each_cursor_follows_its_own(
    server: RedisServer, client: Redis
) -> None:
    ids = [id for number in range(PARTITIONS) for id in in_partition(number, 3)]
    await publish(server, ids)
    handler = Held(*ids)
    async with running(subscriber(server), handler, concurrency=5):
        await wait_until(lambda: len(handler.begun) == 5)
        handler.let_go(handler.begun[0])
        await wait_until(lambda: len(handler.begun) == 6)
        assert len(handler.returned) == 1
        first, *_ = handler.begun
        number = next(number for number in range(PARTITIONS) if first in in_partition(number, 3))
        [(entry, _), *_] = await client.xrange(STREAMS[number])
        await wait_until(lambda: is_stored(client, number, entry))
        assert Counter(await cursors(client))[b"0-0"] == PARTITIONS - 1
        handler.let_go()
        await all_is_stored(client)
    assert sorted(handler.returned) == sorted(ids)


async def is_stored(client: Redis, number: int, id: bytes) -> bool:
    return (await cursors(client))[number] == id


async def test_events_without_an_id_are_in_order_in_each_partition_and_not_across(
    server: RedisServer,
) -> None:
    tenants = [in_partition(number, 1)[0] for number in range(2)]
    async with publisher(server, key=lambda event: event.action.tenant) as one:
        for text in ("a", "b"):
            for tenant in tenants:
                await one.publish(Noted(tenant=tenant, text=text))
        await one.flush(5)
    begun: list[tuple[str, str]] = []
    go = asyncio.Event()

    async def handle(event: Event) -> None:
        assert isinstance(event.action, Noted)
        begun.append((event.action.tenant, event.action.text))
        await go.wait()

    async with running(subscriber(server), handle, concurrency=10):
        await wait_until(lambda: len(begun) == 2)
        assert sorted(begun) == sorted((tenant, "a") for tenant in tenants)
        go.set()
        await wait_until(lambda: len(begun) == 4)


async def test_a_batch_may_hold_events_of_several_partitions_those_of_each_in_order(
    server: RedisServer, client: Redis
) -> None:
    ids = things(60)
    await publish(server, ids)
    batches: list[list[Event]] = []
    async with running(subscriber(server), batches.append, batch=25, max_wait=0.05):
        await wait_until(lambda: sum(map(len, batches)) == 60)
        await all_is_stored(client)
    assert max(len({event.stream for event in batch}) for batch in batches) > 1
    handled = [event for batch in batches for event in batch]
    for stream in STREAMS:
        here = [event.id for event in handled if event.stream == stream]
        assert here == [id.decode() for id, _ in await client.xrange(stream)]


async def test_a_failure_that_is_raised_leaves_the_cursor_of_its_partition_before_it(
    server: RedisServer, client: Redis
) -> None:
    bad, others = in_partition(0, 3), in_partition(1, 3)
    await publish(server, [*bad, *others])
    handler = Held(bad[1], failing=(bad[1],))
    async with subscriber(server) as one:
        await wait_until(lambda: len(one.assignment) == PARTITIONS)
        task = asyncio.create_task(one.run(handler, concurrency=4, on_failure="raise", retry=Retry(1)))
        await wait_until(lambda: len(handler.returned) == 5)
        handler.let_go()
        with pytest.raises(HandlerFailed) as caught:
            await task
    assert caught.value.stream == STREAMS[0]
    first = (await client.xrange(STREAMS[0]))[0][0]
    assert await cursors(client) == [first, (await ends(client))[1], b"0-0", b"0-0"]


class AtWork:
    """A handler that is held, of one event of each stream at a time, until all that can be are at work.

    Attributes:
        streams: those of the events at work.
        handled: the IDs of the entries that were handled, by stream.
    """

    def __init__(self) -> None:
        self.streams: list[str] = []
        self.handled: defaultdict[str, list[str]] = defaultdict(list)
        self._go = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        self.streams.append(event.stream)
        await self._go.wait()
        self.handled[event.stream].append(event.id)

    async def rounds(self, count: int, streams: int) -> None:
        """So many times, wait until events of so many streams are at work, and let these go."""
        for _ in range(count):
            await wait_until(lambda: len(self.streams) == streams, what=f"{self.streams} are {streams}")
            assert len(set(self.streams)) == streams
            self.streams.clear()
            self._go.set()
            self._go = asyncio.Event()


async def test_as_many_handlers_are_at_work_as_there_are_partitions_where_each_is_in_order(
    server: RedisServer, client: Redis
) -> None:
    streams = partition_streams(STREAM, 8)
    for stream in streams:
        await append(client, *things(60), stream=stream)
    handler = AtWork()
    one = subscriber(server, partitions=8)
    async with one:
        await wait_until(lambda: one._intake.inbox.qsize() == 8, what="something of each was read")
        async with in_background(one.run(handler, concurrency=8, key=lambda event: event.stream)):
            await handler.rounds(50, streams=8)
    for stream in streams:
        stored = [id.decode() for id, _ in await client.xrange(stream)]
        assert handler.handled[stream] == stored[: len(handler.handled[stream])]


async def test_as_many_are_at_work_as_one_subscriber_has_streams(server: RedisServer, client: Redis) -> None:
    streams = [f"things{number}" for number in range(6)]
    for stream in streams:
        await append(client, *things(60), stream=stream)
    handler = AtWork()
    one = Subscriber(server.url, streams, "audit", start="earliest")
    async with one, in_background(one.run(handler, concurrency=6, key=lambda event: event.stream)):
        await handler.rounds(50, streams=6)


# --- partitions that are handed over --------------------------------------------------------------------------------


async def test_a_partition_is_not_handed_over_while_handlers_of_it_are_at_work_and_nothing_of_it_comes_again(
    server: RedisServer, chosen: Chosen
) -> None:
    ids, others = in_partition(0, 20), in_partition(1, 5)
    await publish(server, ids)
    handler, taken_over = Held(ids[0], ids[3]), Held()
    one = subscriber(server, commit=Commit.every(events=1000, seconds=60))
    other = subscriber(server)
    async with running(one, handler, concurrency=3):
        await wait_until(lambda: len(handler.begun) == 20)
        more = in_partition(0, 60)[20:]
        await publish(server, more)
        await wait_until(lambda: len(handler.begun) == 3 * WINDOW)
        async with other:
            chosen.give(other, one)
            consuming = asyncio.create_task(other.run(taken_over, concurrency=3))
            await wait_until(lambda: one.assignment == (0,) and other.assignment == (1, 2, 3))
            await publish(server, others)
            await wait_until(lambda: len(taken_over.returned) == 5)
            handler.let_go(ids[0])
            await wait_until(lambda: ids[0] in handler.returned)
            await one.lag()
            assert one.assignment == (0,)
            assert taken_over.begun == others, "one of them is still at work"
            handler.let_go()
            await wait_until(lambda: len(taken_over.returned) == 5 + 60 - 3 * WINDOW)
            consuming.cancel()
            await asyncio.wait([consuming])
    assert sorted(handler.begun) == sorted([*ids, *more][: 3 * WINDOW]), "nothing behind what had begun"
    assert taken_over.begun[5:] == [*ids, *more][3 * WINDOW :], "nothing twice"


async def test_what_waits_for_its_key_before_one_that_was_finished_is_handled_before_the_partition_goes(
    server: RedisServer, chosen: Chosen
) -> None:
    slow, quick, last = in_partition(0, 3)
    await publish(server, [slow, slow, quick, slow, slow, last])
    handler, taken_over = Held(slow, last), Held()
    one, other = subscriber(server), subscriber(server)
    async with running(one, handler, concurrency=2):
        await wait_until(lambda: handler.begun == [slow, quick, last])
        async with other:
            chosen.give(other, one)
            consuming = asyncio.create_task(other.run(taken_over))
            await wait_until(lambda: other.assignment == (1, 2, 3))
            handler.let_go(slow)
            await wait_until(lambda: handler.begun.count(slow) == 4)
            assert one.assignment == (0,)
            handler.let_go(last)
            await wait_until(lambda: other.assignment == (0, 1, 2, 3))
            await publish(server, [slow])
            await wait_until(lambda: taken_over.returned)
            consuming.cancel()
            await asyncio.wait([consuming])
    assert taken_over.returned == [slow], "only what came later"


async def test_what_a_batch_holds_is_handed_over_when_that_is_handled(
    server: RedisServer, chosen: Chosen
) -> None:
    ids = in_partition(0, 7)
    await publish(server, ids)
    batches: list[list[str]] = []
    go, taken_over = asyncio.Event(), Held()

    async def handle(events: list[Event]) -> None:
        batches.append([thing(event) for event in events])
        await go.wait()

    one, other = subscriber(server), subscriber(server)
    async with running(one, handle, batch=3, max_wait=60):
        await wait_until(lambda: batches)
        async with other:
            chosen.give(other, one)
            consuming = asyncio.create_task(other.run(taken_over))
            await wait_until(lambda: other.assignment == (1, 2, 3))
            go.set()
            await wait_until(lambda: len(taken_over.returned) == 4)
            consuming.cancel()
            await asyncio.wait([consuming])
    assert batches == [ids[:3]]
    assert taken_over.returned == ids[3:]


async def test_partitions_move_to_and_fro_while_handlers_are_at_work_and_each_event_is_handled_once_in_order(
    server: RedisServer, client: Redis, chosen: Chosen
) -> None:
    draw = random.Random(7)
    keys = [f"t{draw.randrange(60)}" for _ in range(4000)]
    at_work: defaultdict[str, Counter[str]] = defaultdict(Counter)
    handled: defaultdict[str, list[str]] = defaultdict(list)
    wrong: list[str] = []
    both = [subscriber(server), subscriber(server)]

    def handler_of(name: str) -> Any:
        async def handle(event: Event) -> None:
            here = at_work[event.stream]
            if any(here[each] for each in here if each != name):
                wrong.append(f"{event.stream} is handled twice at once")
            here[name] += 1
            handled[thing(event)].append(event.id)
            await asyncio.sleep(draw.choice([0, 0.001, 0.004]))
            here[name] -= 1

        return handle

    async with both[0], both[1]:
        names = [member(one) for one in both]
        tasks = [
            asyncio.create_task(one.run(handler_of(name), concurrency=8, on_failure="raise"))
            for one, name in zip(both, names, strict=True)
        ]
        publishing = asyncio.create_task(publish(server, keys))
        moves = 0
        for turn in range(12):
            before = [one.assignment for one in both]
            shares = [(0, 2), (1, 3)] if turn % 2 else [(1, 3), (0, 2)]
            chosen.give(*both, others=dict.fromkeys(shares[1], both[1]))
            await wait_until(lambda shares=shares: [one.assignment for one in both] == shares)
            moves += sum(len({*now} - {*was}) for now, was in zip(shares, before, strict=True))
        await publishing
        await all_is_stored(client)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert wrong == []
    assert moves >= 11 * PARTITIONS
    expected: defaultdict[str, list[str]] = defaultdict(list)
    for stream in STREAMS:
        for id, fields in await client.xrange(stream):
            expected[fields[b"id"].decode()].append(id.decode())
    assert handled == expected, "each once, those of a key in order"


# --- partitions that are lost ---------------------------------------------------------------------------------------


async def somebody_else_takes_it(client: Redis, seen: Recorder, *, ms: int = 60_000) -> None:
    """Partition 0 is another's, for so long; return when that was noticed."""
    await client.set(LEASE, "another's", px=ms)
    await wait_until(lambda: seen.of("lease_lost"))


async def test_what_is_at_work_of_a_lost_partition_counts_for_nothing_and_the_others_go_on(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    lost, kept = in_partition(0, 6), in_partition(1, 30)
    await publish(server, [*lost, *kept[:1]])
    handler = Held(*lost, kept[0])
    one = subscriber(server, seen)
    async with running(one, handler, concurrency=3):
        await wait_until(lambda: len(handler.begun) == 3)
        at_work = [id for id in handler.begun if id in lost]
        await somebody_else_takes_it(client, seen)
        handler.let_go()
        await publish(server, kept[1:])
        await wait_until(lambda: {*kept} <= {*handler.returned})
        await wait_until(lambda: is_at_the_end(client, 1))
        assert [id for id in handler.begun if id in lost] == at_work, "nothing more of it was begun"
        assert (one.stats.handled, one.stats.given_up) == (30, 0)
        assert (await cursors(client))[0] == b"0-0"
        assert one.assignment == (1, 2, 3)


async def is_at_the_end(client: Redis, number: int) -> bool:
    return (await cursors(client))[number] == (await ends(client))[number]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_further_attempt_is_made_for_what_was_lost_and_it_is_neither_dead_lettered_nor_raised(
    concurrency: int, server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    [lost], [kept] = in_partition(0, 1), in_partition(1, 1)
    await publish(server, [lost])
    handler = Held(lost, failing=(lost,))
    one = subscriber(server, seen, dead_letter="dead")
    options = {"concurrency": concurrency, "retry": Retry(3, initial=0), "on_failure": "raise"}
    async with running(one, handler, **options) as task:
        await wait_until(lambda: handler.begun == [lost])
        await somebody_else_takes_it(client, seen)
        handler.let_go()
        await publish(server, [kept])
        await wait_until(lambda: handler.returned == [kept])
        assert not task.done()
        assert handler.begun == [lost, kept]
        assert (one.stats.handled, one.stats.dead_lettered, one.stats.given_up) == (1, 0, 0)
    assert [letter async for letter in read_dead_letters(server.url, "dead")] == []


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_that_cannot_commit_what_was_lost_does_not_end_the_run(
    concurrency: int, server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    [lost], [kept] = in_partition(0, 1), in_partition(1, 1)
    await publish(server, [lost])
    refused: list[LeaseLost] = []
    handled: list[str] = []

    async def handle(event: Event) -> None:
        handled.append(thing(event))
        if thing(event) == lost:
            await wait_until(lambda: seen.of("lease_lost"))
            try:
                await one.commit(event)
            except LeaseLost as error:
                refused.append(error)
                raise

    one = subscriber(server, seen)
    async with running(one, handle, concurrency=concurrency):
        await wait_until(lambda: handled == [lost])
        await client.set(LEASE, "another's", px=60_000)
        await wait_until(lambda: refused)
        await publish(server, [kept])
        await wait_until(lambda: handled == [lost, kept])


async def test_of_a_batch_only_what_is_still_this_ones_is_dead_lettered(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    [lost], kept = in_partition(0, 1), in_partition(1, 2)
    together = [kept[0], lost, kept[1]]
    go = asyncio.Event()
    calls: list[list[str]] = []

    async def fail(events: list[Event]) -> None:
        calls.append([thing(event) for event in events])
        await go.wait()
        raise ZeroDivisionError

    one = subscriber(server, seen, dead_letter="dead")
    async with running(one, fail, batch=3, max_wait=60, retry=Retry(2, initial=0)):
        for number, id in enumerate(together, 1):
            await publish(server, [id])
            await wait_until(lambda number=number: waits(one, number) or calls)
        await wait_until(lambda: calls == [together])
        await somebody_else_takes_it(client, seen)
        go.set()
        await wait_until(lambda: is_at_the_end(client, 1))
        assert calls == [together] * 2
        assert (one.stats.dead_lettered, one.stats.given_up) == (2, 0)
    letters = [dict(letter.raw)[b"id"].decode() async for letter in read_dead_letters(server.url, "dead")]
    assert letters == kept


def waits(one: PartitionedSubscriber, events: int) -> bool:
    """Whether so many events wait for their batch to fill."""
    return one._workers is not None and one._workers._window.available == events


async def test_a_key_is_at_work_once_where_its_partition_is_lost_and_had_again_meanwhile(
    server: RedisServer, client: Redis
) -> None:
    seen = Recorder()
    same, other = in_partition(0, 2)
    await publish(server, [same])
    handler = Held(same)
    async with running(subscriber(server, seen), handler, concurrency=4):
        await wait_until(lambda: handler.begun == [same])
        await somebody_else_takes_it(client, seen, ms=50)
        await append(client, same, other, stream=STREAMS[0])
        await wait_until(lambda: other in handler.returned)
        assert handler.begun == [same, other], "the first of this key is still at work"
        handler.let_go()
        await all_is_stored(client)
    assert handler.begun == [same, other, same, same]
