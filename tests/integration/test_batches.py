"""Handlers that get several events at once: how many, when, in which order, and what becomes of a batch that fails."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import STREAM, Recorder, append, read_again, running, stored, take, thing, things
from mainflux_events import Event, HandlerFailed, Retry, Subscriber, SubscriberStats
from mainflux_events.testing import RedisServer
from mainflux_events.workers import WINDOW
from support import PATIENCE, wait_until

FOR_EVER = 1000.0  # seconds
AT_ONCE = Retry(attempts=2, initial=0)


class Batches:
    """A handler that notes the things of each batch, and holds batches back until it is told to let them go."""

    def __init__(self, *, held: bool = False) -> None:
        self.begun: list[list[str]] = []
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self, events: list[Event]) -> None:
        assert type(events) is list
        self.begun.append([thing(event) for event in events])
        await self.gate.wait()
        await asyncio.sleep(0)


# --- how many, and when ---------------------------------------------------------------------------------------------


async def test_a_handler_gets_as_many_events_as_were_asked_for_in_their_order(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(1000))
    batches = Batches()
    async with running(subscriber, batches, batch=100, max_wait=FOR_EVER):
        await wait_until(lambda: len(batches.begun) == 10)
        await wait_until(lambda: subscriber.stats.handled == 1000)
    assert batches.begun == [things(100, first) for first in range(1, 1000, 100)]
    assert await stored(client, "audit") == ids[-1]


async def test_a_batch_that_does_not_fill_goes_when_its_time_is_over(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(7))
    batches = Batches()
    async with running(subscriber, batches, batch=5, max_wait=0.05):
        await until_handled(subscriber, 7)
        [id] = await append(client, "t8")
        await until_handled(subscriber, 8)
    assert batches.begun == [things(5), things(2, 6), ["t8"]]
    assert id > ids[-1]


async def until_handled(subscriber: Subscriber, count: int) -> None:
    await wait_until(lambda: subscriber.stats.handled == count, what=f"{count} are handled")


async def test_without_a_time_to_wait_a_batch_is_what_has_come_meanwhile(
    subscriber: Subscriber, client: Redis
) -> None:
    batches = Batches(held=True)
    async with running(subscriber, batches, batch=5, max_wait=0):
        await append(client, "t1")
        await wait_until(lambda: batches.begun == [["t1"]])
        await append(client, *things(7, 2))
        window = subscriber._workers._window  # type: ignore[union-attr]
        await wait_until(lambda: window.available == 7)
        batches.gate.set()
        await until_handled(subscriber, 8)
    assert batches.begun == [["t1"], things(5, 2), things(2, 7)]


async def test_each_batch_has_its_own_time_to_fill(
    subscriber: Subscriber, server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 20)
    batches = Batches()
    async with running(subscriber, batches, batch=3, max_wait=0.02):
        await append(client, "t1")
        await until_handled(subscriber, 1)
        subscriber._workers._max_wait = FOR_EVER  # type: ignore[union-attr]
        for id in things(3, 2):
            await append(client, id)
            await read_again(server)
        await until_handled(subscriber, 4)
    assert batches.begun == [["t1"], things(3, 2)]


async def test_a_batch_that_has_waited_while_a_handler_was_at_work_waits_no_longer(
    subscriber: Subscriber, client: Redis
) -> None:
    batches = Batches(held=True)
    async with running(subscriber, batches, batch=3, max_wait=0.02):
        await append(client, *things(4))
        await wait_until(lambda: batches.begun == [things(3)])
        running_now: Any = subscriber._workers
        await wait_until(lambda: running_now._overdue)
        running_now._max_wait = FOR_EVER
        batches.gate.set()
        await until_handled(subscriber, 4)
    assert batches.begun == [things(3), ["t4"]]


async def test_plain_functions_get_batches_too(subscriber: Subscriber, client: Redis) -> None:
    await append(client, *things(30))
    seen: list[list[str]] = []

    def handle(events: list[Event]) -> None:
        seen.append([thing(event) for event in events])

    async with running(subscriber, handle, batch=10, max_wait=FOR_EVER):
        await until_handled(subscriber, 30)
    assert seen == [things(10), things(10, 11), things(10, 21)]


async def test_several_streams_share_batches_and_have_each_their_cursor(
    server: RedisServer, client: Redis
) -> None:
    one = await append(client, *things(5))
    other = await append(client, *things(5, 6), stream="others")
    batches = Batches()
    async with (
        Subscriber(server.url, [STREAM, "others"], "audit", start="earliest") as subscriber,
        running(subscriber, batches, batch=4, max_wait=0.02),
    ):
        await until_handled(subscriber, 10)
    assert sorted(thing for batch in batches.begun for thing in batch) == sorted(things(10))
    assert len(batches.begun) < 10
    assert await stored(client, "audit") == one[-1]
    assert await stored(client, "audit", "others") == other[-1]


# --- several batches at once ----------------------------------------------------------------------------------------


async def test_batches_at_work_at_the_same_time_have_no_key_in_common(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *["t1", "t2", "t3", "t4"] * 3)
    batches = Batches(held=True)
    async with running(subscriber, batches, batch=4, concurrency=3, max_wait=0.02):
        await wait_until(lambda: len(batches.begun) == 2)
        assert batches.begun == [["t1", "t2", "t1", "t1"], ["t3", "t4", "t3", "t3"]]
        batches.gate.set()
        await until_handled(subscriber, 12)
    assert sorted(thing for batch in batches.begun[2:] for thing in batch) == ["t2", "t2", "t4", "t4"]


async def test_a_batch_goes_that_cannot_fill_because_the_window_is_full(
    subscriber: Subscriber, client: Redis
) -> None:
    # All but two are of one key, which is at work, and for another one there is no room.
    size = WINDOW * 2 * 5
    await append(client, *["t1"] * (size - 2), "t2", "t3", *["t1"] * 10)
    batches = Batches(held=True)
    async with running(subscriber, batches, batch=5, concurrency=2, max_wait=FOR_EVER):
        await wait_until(lambda: batches.begun == [["t1"] * 5, ["t2", "t3"]])


# --- what is committed ----------------------------------------------------------------------------------------------


async def test_a_batch_is_committed_as_a_whole_before_the_next_begins(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(20))
    cursors: list[str | None] = []

    async def handle(events: list[Event]) -> None:
        await client.ping()
        cursors.append(await stored(client, "audit"))

    async with running(subscriber, handle, batch=10):
        await until_handled(subscriber, 20)
    assert cursors == ["0-0", ids[9]]


async def test_a_batch_that_was_cut_short_comes_again(subscriber: Subscriber, client: Redis) -> None:
    ids = await append(client, *things(20))
    batches = Batches()

    async def handle(events: list[Event]) -> None:
        await batches(events)
        if len(batches.begun) == 2:
            await asyncio.Event().wait()

    async with running(subscriber, handle, batch=10):
        await wait_until(lambda: len(batches.begun) == 2)
        assert subscriber.stats == SubscriberStats(
            received=20, handled=10, skipped=0, retried=0, dead_lettered=0, given_up=0
        )
    assert await take(subscriber, 10) == things(10, 11)
    assert await stored(client, "audit") in ids[9:19]


# --- failing --------------------------------------------------------------------------------------------------------


async def test_a_batch_is_tried_again_as_a_whole_whatever_the_handler_has_made_of_the_list(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(4))
    calls: list[list[str]] = []

    async def handle(events: list[Event]) -> None:
        calls.append([thing(event) for event in events])
        while events:
            events.pop()
        if len(calls) == 1:
            raise ZeroDivisionError

    async with running(subscriber, handle, batch=4, retry=AT_ONCE):
        await until_handled(subscriber, 4)
    assert calls == [things(4), things(4)]
    assert subscriber.stats == SubscriberStats(
        received=4, handled=4, skipped=0, retried=1, dead_lettered=0, given_up=0
    )


async def test_of_a_batch_that_no_attempt_handled_each_event_is_given_up_and_reported(
    server: RedisServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    ids = await append(client, *things(6))

    async def handle(events: list[Event]) -> None:
        if thing(events[0]) == "t1":
            raise ZeroDivisionError

    async with Subscriber(server.url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
        with caplog.at_level(logging.WARNING):
            async with running(subscriber, handle, batch=3, retry=AT_ONCE):
                await until_handled(subscriber, 3)
        assert subscriber.stats == SubscriberStats(
            received=6, handled=3, skipped=0, retried=1, dead_lettered=0, given_up=3
        )
    told = [(details.event.id, details.attempt, details.final) for details in seen.of("handler_failed")]
    assert told == [(id, 1, False) for id in ids[:3]] + [(id, 2, True) for id in ids[:3]]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert (
        f"entry {ids[0]} of 'things' (thing.remove) and 2 more of a batch, attempt 2 of 2, given up"
        in lines[1]
    )


async def test_a_batch_that_takes_too_long_has_failed(subscriber: Subscriber, client: Redis) -> None:
    await append(client, *things(2))
    batches = Batches(held=True)
    async with running(subscriber, batches, batch=2, timeout=0.05, retry=AT_ONCE):
        await wait_until(lambda: subscriber.stats.given_up == 2)
    assert batches.begun == [["t1", "t2"]] * 2


async def test_or_it_is_raised_and_the_cursor_stays_before_its_first_event(
    subscriber: Subscriber, client: Redis
) -> None:
    ids = await append(client, *things(4))

    def fail(events: list[Event]) -> None:
        if thing(events[0]) == "t3":
            raise ZeroDivisionError

    with pytest.raises(HandlerFailed) as caught:
        await subscriber.run(fail, batch=2, on_failure="raise", retry=AT_ONCE)
    assert (caught.value.id, caught.value.events, caught.value.attempts) == (ids[2], 2, 2)
    assert f"entry {ids[2]} of 'things' (thing.remove), the first of a batch of 2, was not" in str(
        caught.value
    )
    assert await take(subscriber, 2) == ["t3", "t4"]


async def test_an_event_that_has_no_key_is_given_up_and_the_batch_is_not(
    subscriber: Subscriber, client: Redis
) -> None:
    await append(client, *things(5))
    batches = Batches()
    async with running(
        subscriber,
        batches,
        batch=4,
        concurrency=2,
        max_wait=FOR_EVER,
        key=lambda event: {}[0] if thing(event) == "t3" else 1,
    ):
        await until_handled(subscriber, 4)
    assert batches.begun == [["t1", "t2", "t4", "t5"]]
    assert subscriber.stats.given_up == 1


# --- the end --------------------------------------------------------------------------------------------------------


async def test_what_waits_for_its_batch_to_fill_is_left_when_the_subscriber_closes(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(3))
    batches = Batches()
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest")
    await subscriber.start()
    async with running(subscriber, batches, batch=5, max_wait=FOR_EVER) as task:
        await wait_until(lambda: subscriber._workers is not None and subscriber._workers._timer is not None)
        await subscriber.aclose()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        assert task.exception() is None
    assert batches.begun == []


async def test_a_last_batch_need_not_fill_before_what_no_attempt_can_mend_is_raised(
    server: RedisServer, client: Redis
) -> None:
    await append(client, *things(7))
    batches = Batches()
    async with (
        Subscriber(server.url, STREAM, "audit", start="earliest") as subscriber,
        running(subscriber, batches, batch=5, max_wait=FOR_EVER) as task,
    ):
        await until_handled(subscriber, 5)
        subscriber._tasks[0].cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert "died" in str(task.exception())
    assert batches.begun == [things(5), things(2, 6)]
