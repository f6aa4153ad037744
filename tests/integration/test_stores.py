"""Cursors in a store of the user's own: what is asked of it, when, and what becomes of its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, take, thing
from mainflux_events import (
    Backoff,
    ConfigError,
    CursorStore,
    Event,
    Retry,
    Subscriber,
    SubscriberBusy,
    ThingRemoved,
)
from mainflux_events.testing import RedisServer
from support import background_tasks, wait_until


class Shelf:
    """What all stores of one place have in common: IDs by name and stream."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, str], str] = {}


class Store(CursorStore):
    """Keeps cursors in memory. It can be told to fail, to hang, and to lose its answer."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.fails: type[Exception] | None = None
        self.loses_answers = 0
        self.moves: list[tuple[str | None, str]] = []
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def load(self, name: str, stream: str) -> str | None:
        await self._asked()
        return self.shelf.ids.get((name, stream))

    async def move(self, name: str, stream: str, expected: str | None, id: str) -> bool:
        await self._asked()
        if self.shelf.ids.get((name, stream)) != expected:
            return False
        self.shelf.ids[name, stream] = id
        self.moves.append((expected, id))
        if self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionResetError("secret words")
        return True

    async def _asked(self) -> None:
        self.asked += 1
        await self.open.wait()
        if self.fails:
            raise self.fails("secret words")

    @asynccontextmanager
    async def transaction(self, event: Event) -> AsyncIterator[None]:
        async with self.moving(event) as move:
            while not await self.move(move.name, move.stream, move.expected, move.id):
                move.refused(await self.load(move.name, move.stream))
            yield
            move.committing()

    @property
    def stored(self) -> str | None:
        return self.shelf.ids.get(("audit", STREAM))


def subscriber_of(server: RedisServer, store: Any, **options: Any) -> tuple[Subscriber, Recorder]:
    recorder = Recorder()
    settings = {"start": "earliest"} | options
    subscriber = Subscriber(server.url, STREAM, "audit", cursors=store, hooks=recorder, **settings)
    subscriber._backoff = Backoff(initial=0.01, maximum=0.05)
    return subscriber, recorder


async def test_a_cursor_moves_from_what_was_stored_last(server: RedisServer, client: Redis) -> None:
    store = Store()
    first, second = await append(client, "t1", "t2")
    subscriber, _ = subscriber_of(server, store)
    async with subscriber:
        for id in (first, second):
            await subscriber.commit(await anext(subscriber))
            assert store.stored == id
    assert store.moves == [(None, "0-0"), ("0-0", first), (first, second)]


async def test_nothing_is_moved_where_a_transaction_has_done_so(server: RedisServer, client: Redis) -> None:
    store = Store()
    first, second = await append(client, "t1", "t2")
    subscriber, _ = subscriber_of(server, store)
    async with subscriber:
        for _ in range(2):
            async with store.transaction(event := await anext(subscriber)):
                pass
            await subscriber.commit(event)
    assert store.moves == [(None, "0-0"), ("0-0", first), (first, second)]


# --- outages ---


async def test_a_store_that_fails_is_tried_again_and_that_is_told(server: RedisServer, client: Redis) -> None:
    store = Store()
    _, second, _ = await append(client, "t1", "t2", "t3")
    subscriber, recorder = subscriber_of(server, store)
    async with subscriber:
        store.fails = OSError
        assert await take(subscriber, 3) == ["t1", "t2", "t3"]
        await wait_until(lambda: len(recorder.of("cursor_not_saved")) >= 2)
        assert subscriber.health(max_stall=1e-9).reason.startswith("storing what is handled has failed for")
        store.fails = None
        await wait_until(lambda: recorder.of("reconnected"))
        assert store.stored == second
        assert "storing" not in subscriber.health(max_stall=1e-9).reason
    told = recorder.of("cursor_not_saved")[0]
    assert (told.stream, told.key) == (STREAM, "mainflux:cursor:audit:things")
    assert told.reason == "the store of the cursors: OSError was raised"
    assert [details.what for details in recorder.of("retrying")][:2] == ["commit", "commit"]


async def test_a_store_that_loses_its_answer_is_no_other_reader(server: RedisServer, client: Redis) -> None:
    store = Store()
    first, second = await append(client, "t1", "t2")
    subscriber, recorder = subscriber_of(server, store)
    async with subscriber:
        store.loses_answers = 1
        await subscriber.commit(await anext(subscriber))
        await subscriber.commit(await anext(subscriber))
    assert store.moves == [(None, "0-0"), ("0-0", first), (first, second)]
    assert recorder.of("lease_lost") == []


async def test_a_store_that_cannot_be_asked_at_the_start_is_waited_for(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    store.fails = OSError
    await append(client, "t1")
    subscriber, recorder = subscriber_of(server, store)
    async with subscriber:
        await wait_until(lambda: recorder.of("retrying"))
        store.fails = None
        assert await take(subscriber, 1) == ["t1"]


async def test_a_store_that_loses_the_answer_to_the_first_cursor_begins_there(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    store.loses_answers = 1
    [before] = await append(client, "t1")
    subscriber, _ = subscriber_of(server, store, start="new")
    async with subscriber:
        await append(client, "t2")
        assert await take(subscriber, 1) == ["t2"]
    assert store.moves[0] == (None, before)


async def test_what_can_never_work_is_raised_at_the_start(server: RedisServer) -> None:
    store = Store()
    store.fails = ConfigError
    subscriber, _ = subscriber_of(server, store)
    with pytest.raises(ConfigError):
        await subscriber.start()


async def test_a_handler_whose_transaction_fails_is_called_again(server: RedisServer, client: Redis) -> None:
    store = Store()
    [only] = await append(client, "t1")
    subscriber, _ = subscriber_of(server, store)
    handled: list[str] = []

    async def handle(event: Event) -> None:
        store.fails = OSError if not subscriber.stats.retried else None
        async with store.transaction(event):
            handled.append(thing(event))

    async with subscriber:
        run = asyncio.create_task(subscriber.run(handle, retry=Retry(attempts=2, initial=0)))
        await wait_until(lambda: handled == ["t1"])
    await run
    assert store.stored == only


# --- closing ---


async def test_a_store_that_hangs_keeps_nobody_from_closing(server: RedisServer, client: Redis) -> None:
    store = Store()
    await append(client, "t1", "t2")
    subscriber, _ = subscriber_of(server, store)
    subscriber._close_bound = 0.1
    await subscriber.start()
    store.open.clear()
    assert await take(subscriber, 2) == ["t1", "t2"]
    async with asyncio.timeout(0.6):
        await subscriber.aclose()
    assert store.stored == "0-0"
    assert background_tasks() == []


async def test_a_transaction_that_is_at_work_while_the_subscriber_closes_is_committed(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    [only] = await append(client, "t1")
    subscriber, _ = subscriber_of(server, store)
    async with subscriber:
        event = await anext(subscriber)
        async with store.transaction(event):
            await subscriber.aclose()
    assert store.stored == only


# --- the stream is another one ---


async def test_nothing_of_a_replaced_stream_is_handed_out_before_the_cursor_is_back(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    await append(client, "t1", "t2", "t3")
    subscriber, recorder = subscriber_of(server, store)
    async with subscriber:
        for _ in range(3):
            last = await anext(subscriber)
        await subscriber.commit(last)
        store.open.clear()
        await client.delete(STREAM)
        await client.xadd(STREAM, {"operation": "thing.remove", "id": "new"}, id="1-0")
        coming = asyncio.create_task(anext(subscriber))
        asked = store.asked
        await wait_until(lambda: store.asked > asked)
        assert len(recorder.of("reset")) == 1
        assert not coming.done()
        assert store.stored == last.id
        store.open.set()
        event = await coming
        assert thing(event) == "new"
        assert store.stored == "0-0"
        async with store.transaction(event):
            pass
    assert store.moves[-2:] == [(last.id, "0-0"), ("0-0", "1-0")]


async def test_a_stream_that_is_replaced_while_a_cursor_is_being_stored_is_read_from_its_beginning_too(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    ids = await append(client, "t1", "t2", "t3")
    subscriber, recorder = subscriber_of(server, store)
    async with subscriber:
        for _ in range(3):
            await anext(subscriber)
        store.open.clear()
        coming = asyncio.create_task(anext(subscriber))
        asked = store.asked
        await wait_until(lambda: store.asked > asked, what="one of them is being stored")
        await client.delete(STREAM)
        await client.xadd(STREAM, {"operation": "thing.remove", "id": "new"}, id="1-0")
        await wait_until(lambda: recorder.of("reset"))
        store.open.set()
        async with store.transaction(await coming):
            pass
    [*_, (_, stored), (before, after), latest] = store.moves
    assert stored in ids
    assert (before, after) == (stored, "0-0")
    assert latest == ("0-0", "1-0")


# --- one reader of many ---


async def test_one_that_stood_by_goes_on_behind_what_is_stored(server: RedisServer, client: Redis) -> None:
    shelf = Shelf()
    stores = [Store(shelf), Store(shelf)]
    await append(client, "t1", "t2", "t3")
    (first, _), (second, recorder) = [subscriber_of(server, store, exclusive="standby") for store in stores]
    async with first, second:
        for _ in range(2):
            async with stores[0].transaction(await anext(first)):
                pass
        assert first.active
        assert not second.active
        await first.aclose()
        event = await anext(second)
        assert thing(event) == "t3"
        async with stores[1].transaction(event):
            pass
    assert stores[0].stored == event.id
    assert recorder.of("lease_lost") == []


async def test_a_second_reader_is_refused_where_there_is_to_be_one(server: RedisServer) -> None:
    shelf = Shelf()
    first, _ = subscriber_of(server, Store(shelf), exclusive=True)
    second, _ = subscriber_of(server, Store(shelf), exclusive=True)
    async with first:
        with pytest.raises(SubscriberBusy):
            await second.start()


async def test_one_whose_lease_was_taken_goes_on_behind_what_the_other_one_did(
    server: RedisServer, client: Redis
) -> None:
    store = Store()
    first, second, third = await append(client, "t1", "t2", "t3")
    subscriber, recorder = subscriber_of(server, store, exclusive="standby")
    async with subscriber:
        async with store.transaction(await anext(subscriber)):
            pass
        [lease] = await client.keys("mainflux:lease:*")
        await client.set(lease, "another", px=1500)
        await wait_until(lambda: recorder.of("lease_lost"))
        store.shelf.ids["audit", STREAM] = second
        event = await anext(subscriber)
        assert thing(event) == "t3"
        async with store.transaction(event):
            pass
    assert [(lost.found, lost.stopped) for lost in recorder.of("lease_lost")] == [(first, True)]
    assert store.stored == third


async def test_an_outage_alone_ends_no_turn(server: RedisServer, client: Redis) -> None:
    store = Store()
    await append(client, "t1", "t2")
    subscriber, recorder = subscriber_of(server, store, exclusive="standby")
    async with subscriber:
        async with store.transaction(await anext(subscriber)):
            pass
        asked = store.asked
        await client.delete(*await client.keys("mainflux:lease:*"))
        await wait_until(lambda: store.asked > asked, what="it has looked at what is stored")
        assert thing(await anext(subscriber)) == "t2"
    assert recorder.of("lease_lost") == []


# --- what cannot be ---


async def test_a_store_is_that_of_one_subscriber(server: RedisServer) -> None:
    store = Store()
    subscriber_of(server, store)
    with pytest.raises(ConfigError, match="^cursors: this store is used by another subscriber"):
        subscriber_of(server, store)


@pytest.mark.parametrize("rubbish", ["sqlite://", 5, Store], ids=["a URL", "a number", "a class"])
def test_what_is_no_store_is_refused(rubbish: object, server: RedisServer) -> None:
    with pytest.raises(ConfigError, match="^cursors: a CursorStore is wanted"):
        subscriber_of(server, rubbish)


async def test_a_transaction_before_the_start_is_refused(server: RedisServer) -> None:
    store = Store()
    with pytest.raises(ValueError, match="not received"):
        async with store.transaction(Event(ThingRemoved(id="t1"))):
            pass


async def test_handlers_at_the_same_time_are_refused(server: RedisServer) -> None:
    subscriber, _ = subscriber_of(server, Store())
    with pytest.raises(ConfigError, match="^concurrency: with `cursors` one event is handled after another"):
        await subscriber.run(print, concurrency=2)
