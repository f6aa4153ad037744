"""What every kind of subscriber does, whatever it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import weakref
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import pytest

from consuming import Recorder, take, take_all, thing, things
from contract.backends import BACKENDS, CLAIM_AFTER, MORTAL, STREAM, Backend
from mainflux_events import Event, EventsError, NotStarted, Publisher, Retry, ThingRemoved, UnknownAction
from support import PATIENCE, background_tasks, wait_until, within

COMPETING = [name for name, backend in BACKENDS.items() if backend.competing]
SEVERAL = [name for name, backend in BACKENDS.items() if backend.several]
MORTAL_COMPETING = [name for name in COMPETING if name in MORTAL]
COUNTING_CRASHES = [name for name in MORTAL if BACKENDS[name].counts_crashes]

CHILD = Path(__file__).parents[1] / "noting_consumer.py"
CLOSE_BOUND = 2.5  # seconds, as the contract has it


async def publish(publisher: Publisher, ids: list[str]) -> None:
    for id in ids:
        await publisher.publish(ThingRemoved(id))
    await publisher.flush(PATIENCE)


# --- publish and consume --------------------------------------------------------------------------------------------


async def test_what_is_published_is_consumed_in_order(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        consuming = asyncio.create_task(take_all(subscriber, 5000))
        await publish(publisher, things(5000))
        assert await consuming == things(5000)
        assert (await subscriber.lag())[backend.place(STREAM)].entries == 0
    assert subscriber.stats.handled == subscriber.stats.received == 5000


async def test_an_event_arrives_as_it_was_published(backend: Backend, url: str, publisher: Publisher) -> None:
    event = Event(ThingRemoved("t1"), org_id="o1", group_id="g1")
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        id = await publisher.send(event)
        received = await anext(subscriber)
    assert received == Event(event.action, org_id="o1", group_id="g1", occurred_at=received.occurred_at)
    assert (received.id, received.stream) == (id, backend.place(STREAM))
    assert dict(received.raw)[b"id"] == b"t1"


@pytest.mark.parametrize("backend", SEVERAL, indirect=True)
async def test_several_streams_are_each_consumed_in_order(backend: Backend, url: str) -> None:
    streams = ["first", "second"]
    async with contextlib.AsyncExitStack() as stack:
        for stream in streams:
            publisher = await stack.enter_async_context(backend.publisher(url, stream))
            await publish(publisher, [f"{stream}{number}" for number in range(300)])
        subscriber = await stack.enter_async_context(
            backend.subscriber(url, streams, "audit", start="earliest")
        )
        taken = await take_all(subscriber, 600)
        assert {stream: lag.entries for stream, lag in (await subscriber.lag()).items()} == {
            "first": 0,
            "second": 0,
        }
    for stream in streams:
        assert [id for id in taken if id.startswith(stream)] == [f"{stream}{number}" for number in range(300)]


async def test_subscribers_of_different_names_each_get_everything(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(200))
    for name in ("audit", "mailer"):
        async with backend.subscriber(url, STREAM, name, start="earliest") as subscriber:
            assert await take_all(subscriber, 200) == things(200)


@pytest.mark.parametrize(("start", "first"), [("earliest", "t1"), ("new", "t3")])
async def test_where_it_begins_is_chosen_and_remembered(
    start: str, first: str, backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, ["t1", "t2"])
    async with backend.subscriber(url, STREAM, "audit", start=start):
        pass
    await publish(publisher, ["t3"])
    async with backend.subscriber(url, STREAM, "audit", start="new") as subscriber:
        assert await take(subscriber, 1) == [first]


async def test_what_cannot_be_decoded_or_is_unknown_is_passed_over(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    seen = Recorder()
    unknown = Event(
        UnknownAction("nobody.knows", {}), _stream=STREAM, _id="1-1", _fields=[b"operation", b"nobody.knows"]
    )
    await publisher.forward(unknown)
    await publish(publisher, ["t1"])
    async with backend.subscriber(url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
        assert await take_all(subscriber, 1) == ["t1"]
        assert (subscriber.stats.handled, subscriber.stats.skipped) == (1, 1)
        assert (await subscriber.lag())[backend.place(STREAM)].entries == 0
    assert [details.operation for details in seen.of("skipped")] == ["nobody.knows"]


# --- again, and not again -------------------------------------------------------------------------------------------


async def test_after_a_restart_it_goes_on_where_it_was(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(500))
    taken: list[str] = []
    while len(taken) < 500:
        async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
            taken += await take_all(subscriber, 100)
    assert taken == things(500)


async def test_the_event_in_hand_when_the_loop_is_left_comes_again(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(4))
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        assert await take(subscriber, 2) == ["t1", "t2"]
        assert await take(subscriber, 2) == ["t2", "t3"]
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        assert await take(subscriber, 2) == ["t3", "t4"]


async def test_an_event_whose_handler_is_cancelled_comes_again(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    await publish(publisher, things(3))
    handling = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t2":
            handling.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(backend.subscriber(url, STREAM, "audit", start="earliest").run(handle))
    await handling.wait()
    task.cancel()
    await asyncio.wait([task])
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        assert await take(subscriber, 2) == ["t2", "t3"]


async def test_no_event_is_lost_when_a_step_is_cancelled(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    taken: list[str] = []
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        events = aiter(subscriber)

        async def step() -> None:
            taken.append(thing(await anext(events)))

        for number, id in enumerate(things(60)):
            await publisher.publish(ThingRemoved(id))
            task = asyncio.create_task(step())
            for _ in range(number % 20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        while len(taken) < 60:
            await step()
    assert taken == things(60)


async def killed(backend: Backend, url: str, notes: Path, last: str) -> None:
    """Consume in a process of its own, until it has killed itself when it handled this one."""
    command = [sys.executable, str(CHILD), backend.name, url, str(notes), last]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("backend", MORTAL, indirect=True)
async def test_after_a_kill_only_the_event_in_hand_comes_again(
    backend: Backend, url: str, publisher: Publisher, tmp_path: Path
) -> None:
    notes = tmp_path / "handled"
    await publish(publisher, things(300))
    await killed(backend, url, notes, "t200")
    assert notes.read_text().split() == things(200)
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        assert sorted(await take_all(subscriber, 101)) == sorted(things(101, first=200))
        assert (await subscriber.lag())[backend.place(STREAM)].entries == 0


@pytest.mark.parametrize("backend", COUNTING_CRASHES, indirect=True)
async def test_an_event_that_kills_every_process_is_given_up_and_no_other(
    backend: Backend, url: str, publisher: Publisher, tmp_path: Path
) -> None:
    notes = tmp_path / "handled"
    await publish(publisher, things(60))
    for _ in range(3):
        await killed(backend, url, notes, "t20")
    handled, seen = notes.read_text().split(), Recorder()
    async with backend.subscriber(url, STREAM, "audit", max_deliveries=3, hooks=seen) as subscriber:
        running = asyncio.create_task(subscriber.run(lambda event: handled.append(thing(event))))
        await wait_until(lambda: subscriber.stats.given_up and len(handled) == 62)
        running.cancel()
        await asyncio.wait([running])
        assert (await subscriber.lag())[backend.place(STREAM)].entries == 0
        assert subscriber.stats.given_up == 1
    assert Counter(handled) == Counter([*things(60), "t20", "t20"])
    assert [dict(details.fields)[b"id"] for details in seen.of("skipped")] == [b"t20"]


async def test_an_event_whose_handler_always_fails_is_given_up_and_the_next_handled(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    handled: list[str] = []

    def handle(event: Event) -> None:
        if thing(event) == "t2":
            raise ZeroDivisionError
        handled.append(thing(event))

    await publish(publisher, things(3))
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        running = asyncio.create_task(subscriber.run(handle, retry=Retry(attempts=2, initial=0)))
        await wait_until(lambda: len(handled) == 2)
        running.cancel()
        await asyncio.wait([running])
        assert (subscriber.stats.given_up, subscriber.stats.retried) == (1, 1)
    assert handled == ["t1", "t3"]


# --- several at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", COMPETING, indirect=True)
async def test_of_several_consumers_each_event_goes_to_one(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    handled: list[list[str]] = [[], [], [], []]

    async def consume(mine: list[str], status: Any) -> None:
        async def handle(event: Event) -> None:
            mine.append(thing(event))
            await asyncio.sleep(0.0005)

        subscriber = backend.subscriber(url, STREAM, "audit", start="earliest")
        await subscriber.run(handle, task_status=status)

    async with anyio.create_task_group() as group:
        for mine in handled:
            await group.start(lambda task_status, mine=mine: consume(mine, task_status))
        await publish(publisher, things(2000))
        await wait_until(lambda: sum(map(len, handled)) >= 2000)
        group.cancel_scope.cancel()
    assert sorted(chain(*handled)) == sorted(things(2000))
    assert all(handled), "each has its share"
    for mine in handled:
        assert mine == sorted(mine, key=lambda id: int(id[1:])), "in the stream's order"


@pytest.mark.parametrize("backend", MORTAL_COMPETING, indirect=True)
async def test_what_a_killed_consumer_had_goes_to_the_others(
    backend: Backend, url: str, publisher: Publisher, tmp_path: Path
) -> None:
    notes = tmp_path / "handled"
    await publish(publisher, things(500))
    await killed(backend, url, notes, "t50")
    async with backend.subscriber(url, STREAM, "audit") as other:
        with within(CLAIM_AFTER + 2 * CLOSE_BOUND):
            assert sorted(await take_all(other, 451)) == sorted(things(451, first=50))


# --- closing --------------------------------------------------------------------------------------------------------


async def test_closing_under_load_is_quick_and_loses_nothing(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    handled: list[str] = []

    async def handle(event: Event) -> None:
        handled.append(thing(event))
        await asyncio.sleep(0)

    publishing = asyncio.create_task(publish(publisher, things(6000)))
    for share in (500, 1500, 3000):
        async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
            running = asyncio.create_task(subscriber.run(handle))
            await wait_until(lambda share=share: len(handled) >= share)
            running.cancel()
            await asyncio.wait([running])
            with within(CLOSE_BOUND):
                await subscriber.aclose()
    await publishing
    async with backend.subscriber(url, STREAM, "audit") as subscriber:
        running = asyncio.create_task(subscriber.run(handle))
        await wait_until(lambda: len(set(handled)) == 6000)
        running.cancel()
        await asyncio.wait([running])
    assert len(handled) - 6000 <= 3, "but for the one in hand at each close"


async def test_subscribing_again_and_again_loses_nothing_and_leaves_nothing_behind(
    backend: Backend, url: str, publisher: Publisher
) -> None:
    rounds = backend.resubscribes
    await publish(publisher, things(2 * rounds + 1))
    closed: list[weakref.ref[Any]] = []
    for number in range(rounds):
        subscriber = backend.subscriber(url, STREAM, "audit", start="earliest")
        async with subscriber:
            # The third is in hand when it closes, so it is the first of the next.
            assert await take(subscriber, 3) == things(3, first=2 * number + 1)
        closed.append(weakref.ref(subscriber))
    del subscriber
    assert all("drain" in task for task in background_tasks()), "but for the publisher's"
    gc.collect()
    assert [number for number, subscriber in enumerate(closed) if subscriber() is not None] == []
    async with backend.subscriber(url, STREAM, "audit") as last:
        assert await take_all(last, 1) == [f"t{2 * rounds + 1}"]
        assert (await last.lag())[backend.place(STREAM)].entries == 0
        for consumers in (await last.pending()).values() if hasattr(last, "pending") else ():
            assert sum(pending.entries for pending in consumers.values()) == 0
            assert len(consumers) <= 2, "itself, and who stands for what was given back"


# --- used wrongly ---------------------------------------------------------------------------------------------------


async def test_there_is_one_loop_at_a_time(backend: Backend, url: str, publisher: Publisher) -> None:
    await publish(publisher, things(2))
    async with backend.subscriber(url, STREAM, "audit", start="earliest") as subscriber:
        async for _ in subscriber:
            with pytest.raises(RuntimeError, match="one loop or run"):
                aiter(subscriber)
            break
        assert await take(subscriber, 2) == things(2)


async def test_it_is_used_between_start_and_close(backend: Backend, url: str) -> None:
    subscriber = backend.subscriber(url, STREAM, "audit")
    with pytest.raises(NotStarted):
        await anext(subscriber)
    async with subscriber:
        pass
    with pytest.raises(EventsError, match="is closed; make another one"):
        aiter(subscriber)
    with pytest.raises(RuntimeError, match="used before"):
        await subscriber.start()
