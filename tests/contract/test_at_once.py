"""What every kind of subscriber does with handlers that work at the same time, or on several events at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consuming import Recorder, running, thing, things
from contract.backends import MORTAL, STREAM, Backend
from mainflux_events import (
    Action,
    DeadLetterLimit,
    DeadLetterLimitReached,
    DeadLetters,
    Event,
    GroupRemoved,
    HandlerFailed,
    Publisher,
    Retry,
    ThingRemoved,
    UnknownAction,
    read_dead_letters,
)
from mainflux_events.workers import WINDOW
from support import PATIENCE, wait_until, within

CHILD = Path(__file__).parents[1] / "noting_consumer.py"
CLOSE_BOUND = 2.5  # seconds, as the contract has it
DEAD = "dead"
ONCE = Retry(attempts=1)

# How many handlers at a time, and how many events a call has.
AT_ONCE = pytest.mark.parametrize(("concurrency", "batch"), [(8, 1), (1, 10), (4, 5)])


class Counted(Action, tag="test.at_once.counted"):
    """What may not decode."""

    count: int


async def publish(publisher: Publisher, ids: list[str]) -> list[str]:
    """Gives the IDs of the entries."""
    return list(await asyncio.gather(*[publisher.send(ThingRemoved(id)) for id in ids]))


def listed(given: Event | list[Event]) -> list[Event]:
    return given if isinstance(given, list) else [given]


async def all_is_stored(subscriber: Any) -> None:
    """Wait until what is stored as handled is the end of the stream, or of each partition."""

    async def at_the_end() -> bool:
        lags = await subscriber.lag()
        return lags.keys() == {*subscriber.streams} and not any(lag.entries for lag in lags.values())

    await wait_until(at_the_end)


# --- order, and all of them -----------------------------------------------------------------------------------------


@AT_ONCE
async def test_each_event_is_handled_once_and_those_of_a_key_in_order(
    concurrency: int, batch: int, backend: Backend, url: str, publisher: Publisher
) -> None:
    keys = [f"t{number * 7919 % 31}" for number in range(1200)]
    ids = await publish(publisher, keys)
    handled: dict[str, list[str]] = {}
    at_work: set[str] = set()
    calls = most = 0

    async def handle(given: Event | list[Event]) -> None:
        nonlocal calls, most
        events = listed(given)
        mine = {thing(event) for event in events}
        assert not mine & at_work, "another call has this key"
        at_work.update(mine)
        calls += 1
        most = max(most, calls)
        for _ in range(len(events[0].id) % 3 + int(events[0].id[-1])):
            await asyncio.sleep(0)
        for event in events:
            handled.setdefault(thing(event), []).append(event.id)
        calls -= 1
        at_work.difference_update(mine)

    options = {"concurrency": concurrency, "batch": batch, "max_wait": 0.01, "on_failure": "raise"}
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        async with running(subscriber, handle, **options):
            await wait_until(lambda: subscriber.stats.handled == 1200)
            await all_is_stored(subscriber)
        assert (subscriber.stats.received, subscriber.stats.given_up) == (1200, 0)
    expected: dict[str, list[str]] = {}
    for key, id in zip(keys, ids, strict=True):
        expected.setdefault(key, []).append(id)
    assert handled == expected
    assert most == concurrency


async def test_a_slow_key_stops_the_others_only_when_the_window_is_full(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(200))
    slow, handled = asyncio.Event(), list[str]()

    async def handle(event: Event) -> None:
        if thing(event) == "t1":
            await slow.wait()
        handled.append(thing(event))

    async with (
        backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber,
        running(subscriber, handle, concurrency=3),
    ):
        await wait_until(lambda: len(handled) == 3 * WINDOW - 1)
        for _ in range(5):
            await subscriber.lag()  # the event loop turns, and nothing more is begun
        assert handled == things(3 * WINDOW - 1, first=2)
        slow.set()
        await wait_until(lambda: len(handled) == 200)
        await all_is_stored(subscriber)
    assert sorted(handled) == sorted(things(200))


async def test_what_is_not_asked_for_is_passed_over_between_those_at_work(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    for number in range(300):
        await publisher.publish(ThingRemoved(f"t{number}") if number % 10 == 0 else GroupRemoved("g1"))
    await publisher.flush(PATIENCE)
    handled: list[str] = []

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        handled.append(thing(event))

    async with (
        backend.subscriber(url, STREAM, "audit", start="earliest", actions={ThingRemoved}) as subscriber,
        running(subscriber, handle, concurrency=4),
    ):
        await all_is_stored(subscriber)
        assert handled == [f"t{number}" for number in range(0, 300, 10)]
        assert (subscriber.stats.handled, subscriber.stats.skipped) == (30, 270)


# --- again, and not again -------------------------------------------------------------------------------------------


@AT_ONCE
@pytest.mark.parametrize("backend", MORTAL, indirect=True)
async def test_after_a_kill_nothing_is_missed_and_what_was_stored_does_not_come_again(
    concurrency: int, batch: int, backend: Backend, url: str, publisher: Publisher, tmp_path: Path
) -> None:
    notes = tmp_path / "handled"
    await publish(publisher, things(400))
    command = [sys.executable, str(CHILD), backend.name, url, str(notes), "t200"]
    process = await asyncio.create_subprocess_exec(*command, str(concurrency), str(batch))
    assert await process.wait() == -signal.SIGKILL
    before = notes.read_text().split()
    again: list[str] = []
    async with (
        backend.subscriber(url, STREAM, "audit") as subscriber,
        running(subscriber, lambda event: again.append(thing(event))),
    ):
        await wait_until(lambda: len({*before, *again}) == 400)
        await all_is_stored(subscriber)
    assert max(Counter(again).values()) == 1
    assert {"t200", *things(200, first=201)} - {*before} <= {*again}
    assert len({*before} & {*again}) <= WINDOW * concurrency * batch


async def test_what_a_cancelled_run_had_not_finished_comes_again_to_the_next(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(100))
    held, handled = asyncio.Event(), list[str]()

    async def handle(event: Event) -> None:
        if thing(event) in ("t3", "t5"):
            await held.wait()
        handled.append(thing(event))

    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        async with running(subscriber, handle, concurrency=4):
            await wait_until(lambda: len(handled) == 4 * WINDOW)
        assert subscriber.stats.handled == 4 * WINDOW
    held.set()
    handled.clear()
    async with (
        backend.subscriber(url, STREAM, "audit") as subscriber,
        running(subscriber, handle, concurrency=4),
    ):
        await wait_until(lambda: len(handled) == 98)
        await all_is_stored(subscriber)
    assert Counter(handled) == Counter(things(98, first=3))


# --- failing --------------------------------------------------------------------------------------------------------


async def letters(url: str) -> list[tuple[str, int, str]]:
    """The dead letters: the thing, how often its handler was called, what was raised."""
    return [
        (dict(letter.raw)[b"id"].decode(), letter.attempts, letter.error_type)
        async for letter in read_dead_letters(url, DEAD)
    ]


async def test_an_event_that_no_attempt_handled_is_dead_lettered_while_others_go_on(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(60))
    held, handled = asyncio.Event(), list[str]()

    async def handle(event: Event) -> None:
        if thing(event) == "t1":
            await held.wait()
        if thing(event) in ("t2", "t30"):
            raise ZeroDivisionError
        handled.append(thing(event))

    async with backend.subscriber(url, STREAM, "audit", start="earliest", dead_letter=DEAD) as subscriber:
        async with running(subscriber, handle, concurrency=4, retry=Retry(attempts=3, initial=0)):
            await wait_until(lambda: subscriber.stats.dead_lettered == 2)
            held.set()
            await wait_until(lambda: len(handled) == 58)
            await all_is_stored(subscriber)
        stats = subscriber.stats
        assert (stats.received, stats.handled, stats.dead_lettered, stats.given_up) == (60, 58, 2, 0)
        assert stats.retried == 4
    assert await letters(url) == [("t2", 3, "ZeroDivisionError"), ("t30", 3, "ZeroDivisionError")]


async def test_what_does_not_decode_is_dead_lettered_and_no_batch_has_it(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, ["t1"])
    fields = [b"operation", b"test.at_once.counted", b"count", b"many", b"id", b"bad"]
    await publisher.forward(Event(UnknownAction("", {}), _stream=STREAM, _id="1-1", _fields=fields))
    await publish(publisher, ["t2"])
    batches: list[list[str]] = []

    def handle(events: list[Event]) -> None:
        batches.append([thing(event) for event in events])

    async with backend.subscriber(url, STREAM, "audit", start="earliest", dead_letter=DEAD) as subscriber:
        async with running(subscriber, handle, batch=2, max_wait=1000):
            await all_is_stored(subscriber)
        assert (subscriber.stats.handled, subscriber.stats.dead_lettered) == (2, 1)
    assert batches == [["t1", "t2"]]
    assert await letters(url) == [("bad", 0, "mainflux_events.errors.DecodeError")]


async def test_of_a_batch_that_no_attempt_handled_each_event_is_dead_lettered(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    seen = Recorder()
    await publish(publisher, things(9))
    calls: list[list[str]] = []

    async def handle(events: list[Event]) -> None:
        calls.append([thing(event) for event in events])
        if "t5" in calls[-1]:
            raise ZeroDivisionError

    async with backend.subscriber(
        url, STREAM, "audit", start="earliest", dead_letter=DEAD, hooks=seen
    ) as subscriber:
        async with running(subscriber, handle, batch=3, retry=Retry(attempts=2, initial=0)):
            await wait_until(lambda: subscriber.stats.handled == 6)
            await all_is_stored(subscriber)
        assert (subscriber.stats.received, subscriber.stats.dead_lettered) == (9, 3)
    assert calls == [things(3), things(3, 4), things(3, 4), things(3, 7)], "it is tried as a whole"
    assert await letters(url) == [(id, 2, "ZeroDivisionError") for id in things(3, 4)]
    final = [thing(details.event) for details in seen.of("handler_failed") if details.final]
    assert final == things(3, 4)


async def test_where_the_limit_is_reached_within_a_batch_the_rest_of_it_comes_again(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(6))

    def fail(events: list[Event]) -> None:
        raise ZeroDivisionError

    limited = DeadLetters(DEAD, limit=DeadLetterLimit(count=4, seconds=60))
    async with backend.subscriber(url, STREAM, "audit", start="earliest", dead_letter=limited) as subscriber:
        with pytest.raises(DeadLetterLimitReached):
            await subscriber.run(fail, batch=3, retry=ONCE)
        assert subscriber.stats.dead_lettered == 4
    assert [id for id, *_ in await letters(url)] == things(4)
    handled: list[str] = []
    async with (
        backend.subscriber(url, STREAM, "audit") as subscriber,
        running(subscriber, lambda event: handled.append(thing(event))),
    ):
        await all_is_stored(subscriber)
    assert handled == ["t5", "t6"]


async def test_a_failure_that_is_raised_ends_the_others_and_what_was_not_finished_comes_again(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    ids = await publish(publisher, things(20))
    cancelled: list[str] = []
    begun: list[str] = []

    async def handle(event: Event) -> None:
        begun.append(thing(event))
        if thing(event) == "t4":
            await wait_until(lambda: {"t2", "t6"} <= {*begun})
            raise ZeroDivisionError
        if thing(event) in ("t2", "t6"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(thing(event))
                raise

    async with backend.subscriber(url, STREAM, "audit", start="earliest", dead_letter=DEAD) as subscriber:
        with pytest.raises(HandlerFailed) as caught:
            await subscriber.run(handle, concurrency=4, on_failure="raise", retry=ONCE)
        assert caught.value.id == ids[3]
        assert sorted(cancelled) == ["t2", "t6"]
        again: list[str] = []
        async with running(subscriber, lambda event: again.append(thing(event))):
            await all_is_stored(subscriber)
    assert again == things(19, first=2)
    assert await letters(url) == []


# --- closing --------------------------------------------------------------------------------------------------------


@AT_ONCE
async def test_closing_under_load_is_quick_and_loses_nothing(
    concurrency: int, batch: int, backend: Backend, url: str, publisher: Publisher
) -> None:
    handled: list[str] = []

    async def handle(given: Event | list[Event]) -> None:
        handled.extend(thing(event) for event in listed(given))
        await asyncio.sleep(0)

    publishing = asyncio.create_task(publish(publisher, things(1500)))
    options = {"concurrency": concurrency, "batch": batch, "max_wait": 0.01}
    closed = 0
    while len(set(handled)) < 1500:
        async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
            share = min(1500, len(set(handled)) + 500)
            async with running(subscriber, handle, **options) as task:
                await wait_until(lambda share=share: len(set(handled)) >= share)
                with within(CLOSE_BOUND):
                    await subscriber.aclose()
                await asyncio.wait([task], timeout=CLOSE_BOUND)
                assert task.done()
                assert task.exception() is None
        closed += 1
    await publishing
    assert len(handled) - 1500 <= closed * concurrency * batch * WINDOW


@pytest.mark.parametrize(("concurrency", "batch"), [(1, 1), (8, 1), (1, 10), (4, 5)])
async def test_what_is_being_handled_when_it_closes_may_be_finished_and_does_not_come_again(
    concurrency: int, batch: int, backend: Backend, url: str, publisher: Publisher
) -> None:
    ids = things(100)
    await publish(publisher, ids)
    begun: list[str] = []
    go = asyncio.Event()

    async def handle(given: Event | list[Event]) -> None:
        begun.extend(thing(event) for event in listed(given))
        await go.wait()

    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        async with running(subscriber, handle, concurrency=concurrency, batch=batch) as task:
            await wait_until(lambda: len(begun) == concurrency * batch)
            closing = asyncio.create_task(subscriber.aclose())
            await wait_until(lambda: subscriber._state == "closed")
            go.set()
            await asyncio.wait([closing, task], timeout=PATIENCE)
            assert (closing.exception(), task.exception()) == (None, None)
        assert subscriber.stats.handled == len(begun) == concurrency * batch
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        handled: list[str] = []
        async with running(subscriber, lambda event: handled.append(thing(event))):
            await wait_until(lambda: {*begun, *handled} == {*ids})
    assert sorted([*begun, *handled]) == sorted(ids), "each once"


async def test_no_further_attempt_is_made_when_it_is_closed(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, ["t1", "t2"])
    calls: list[str] = []

    async def fail(event: Event) -> None:
        calls.append(thing(event))
        if len(calls) == 2:
            closing.append(asyncio.create_task(subscriber.aclose()))
            await wait_until(lambda: subscriber._state == "closed")
        raise ZeroDivisionError

    closing: list[asyncio.Task[None]] = []
    async with backend.subscriber(url, STREAM, "audit", start="earliest", dead_letter=DEAD) as subscriber:
        retry = Retry(attempts=5, initial=0.01)
        await subscriber.run(fail, concurrency=2, retry=retry)
        await asyncio.wait(closing)
    assert sorted(calls) == ["t1", "t2"]
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        assert thing(await anext(subscriber)) == "t1"
    assert await letters(url) == []
